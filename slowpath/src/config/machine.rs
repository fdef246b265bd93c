//! What a config needs of the machine it is checked on. The config may be meant for another one, so these are warnings;
//! at start the same things are errors of those who need them.

use std::fs;

use super::Config;
use super::path::KeyPath;
use super::target::Tls;

/// The CPUs that are online, as the kernel lists them: `0-3,8`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

impl Config {
    /// What this machine lacks, a line each.
    pub fn machine_warnings(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let online = fs::read_to_string(ONLINE).ok().and_then(|list| parse_cpus(&list));
        if let Some(online) = online {
            if let Some(cpu) = self.target.cpu.filter(|cpu| !online.contains(cpu)) {
                let message = format!("CPU {cpu} is not online on this machine, which has {} CPUs", online.len());
                problems.push(self.source.problem(&KeyPath::key("target").join("cpu"), None, message));
            }
            let cpus = KeyPath::key("workers").join("cpus");
            for (i, cpu) in self.workers.cpus.iter().enumerate().filter(|(_, cpu)| !online.contains(cpu)) {
                let message = format!("CPU {cpu} is not online on this machine, which has {} CPUs", online.len());
                problems.push(self.source.problem(&cpus.item(i), None, message));
            }
        }
        if let Some(Tls { ca, cert, key, .. }) = &self.target.tls {
            let tls = KeyPath::key("target").join("tls");
            for (name, path) in [("ca", ca), ("cert", cert), ("key", key)] {
                if let Some(path) = path.as_ref().filter(|path| !path.is_file()) {
                    let message = format!("there is no file {} on this machine", path.display());
                    problems.push(self.source.problem(&tls.join(name), None, message));
                }
            }
        }
        problems.iter().map(|problem| self.warning(problem)).collect()
    }
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
