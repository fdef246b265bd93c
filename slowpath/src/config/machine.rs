//! What a config needs of the machine it is checked on. The config may be meant for another one, so these are warnings;
//! at start the same things are errors of those who need them.

use std::fs;

use std::path::PathBuf;

use super::path::KeyPath;
use super::softnic::{ServerTls, SoftnicConfig};
use super::target::Tls;
use super::{Config, Problem, Source};

/// The CPUs that are online, as the kernel lists them: `0-3,8`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

impl Config {
    /// What this machine lacks, a line each.
    pub fn machine_warnings(&self) -> Vec<String> {
        let cpus = KeyPath::key("workers").join("cpus");
        let cpus = self.workers.cpus.iter().enumerate().map(|(i, cpu)| (cpus.item(i), *cpu));
        let target = KeyPath::key("target");
        let mut problems =
            offline(&self.source, self.target.cpu.map(|cpu| (target.join("cpu"), cpu)).into_iter().chain(cpus));
        if let Some(Tls { ca, cert, key, .. }) = &self.target.tls {
            let files = [("ca", ca), ("cert", cert), ("key", key)].map(|(name, path)| (name, path.as_ref()));
            problems.extend(missing(&self.source, &target.join("tls"), &files));
        }
        problems.iter().map(|problem| self.warning(problem)).collect()
    }
}

impl SoftnicConfig {
    /// What this machine lacks, a line each.
    pub fn machine_warnings(&self) -> Vec<String> {
        let cpu = self.engine.cpu.map(|cpu| (KeyPath::key("engine").join("cpu"), cpu));
        let mut problems = offline(&self.source, cpu.into_iter());
        if let Some(ServerTls { cert, key, client_ca }) = &self.p4runtime.tls {
            let files = [("cert", Some(cert)), ("key", Some(key)), ("client_ca", client_ca.as_ref())];
            problems.extend(missing(&self.source, &KeyPath::key("p4runtime").join("tls"), &files));
        }
        problems.iter().map(|problem| self.warning(problem)).collect()
    }
}

/// Those of these CPUs that this machine does not have.
fn offline(source: &Source, cpus: impl Iterator<Item = (KeyPath, u16)>) -> Vec<Problem> {
    let Some(online) = fs::read_to_string(ONLINE).ok().and_then(|list| parse_cpus(&list)) else { return Vec::new() };
    let problem = |(at, cpu): (KeyPath, u16)| {
        let message = format!("CPU {cpu} is not online on this machine, which has {} CPUs", online.len());
        source.problem(&at, None, message)
    };
    cpus.filter(|(_, cpu)| !online.contains(cpu)).map(problem).collect()
}

/// Those of the files named by these keys below `at` that are not there.
fn missing(source: &Source, at: &KeyPath, files: &[(&str, Option<&PathBuf>)]) -> Vec<Problem> {
    let missing = files.iter().filter_map(|(key, path)| Some((key, path.filter(|path| !path.is_file())?)));
    let problem = |(key, path): (&&str, &PathBuf)| {
        source.problem(&at.join(key), None, format!("there is no file {} on this machine", path.display()))
    };
    missing.map(problem).collect()
}

/// Reads a list of ranges; `None` when it is none.
fn parse_cpus(list: &str) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpus("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_cpus("5"), Some(vec![5]));
        assert_eq!(parse_cpus("none"), None);
    }
}
