//! From the config's switch to what the offload manager is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use runtime_client::{Address, Tls};

use crate::config::switch::{PuntLimit, Switch, TlsFiles};
use crate::config::{Config, target};
use crate::offload::{Chip, Form, Kind, Policy, Program, ProgramError, PuntRate, Settings, Tuning};

/// A file for TLS cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key} = \"{}\": {source}", path.display())]
pub struct TlsFileError {
    /// The key that names it.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// What the config names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A file for TLS.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The compiled program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// What the offload manager is told; none when there is no switch. A switch inside is at the address where it listens.
///
/// # Errors
///
/// A certificate or key cannot be read, what is in it is the manager's to judge; or the compiled program is not what it should
/// be.
pub fn settings(config: &Config, inside: Option<SocketAddr>) -> Result<Option<Settings>, TargetError> {
    let Some(switch) = config.switch() else { return Ok(None) };
    let tls = switch.tls.as_ref().map(read).transpose()?;
    let address =
        Address { tls, ..Address::tcp(inside.map_or_else(|| switch.address.clone(), |address| address.to_string())) };
    let ports = switch.ports.iter().map(|port| port.port.into()).collect();
    Ok(Some(Settings {
        device_id: switch.device_id,
        role: switch.role.clone(),
        election_id: switch.election_id,
        policy: policy(switch.policy),
        retry: switch.retry.into(),
        sweep: switch.sweep.into(),
        workers: config.workers(),
        punt_rate: switch.punt_limit.map(punt_rate),
        idle_timeouts: switch.tofino.as_ref().is_none_or(|tofino| tofino.idle_timeouts),
        program: program(switch)?,
        ..Settings::bmv2(address, switch.link_port.into(), ports)
    }))
}

fn program(switch: &Switch) -> Result<Program, ProgramError> {
    match (switch.kind, switch.form, &switch.tofino) {
        (Kind::Bmv2, Form::Plain, _) => Ok(Program::bmv2()),
        (Kind::Bmv2, Form::Ids, _) => Ok(Program::bmv2_ids()),
        (Kind::Tofino, form, Some(tofino)) => {
            let chip = match tofino.chip {
                target::TofinoChip::Tofino1 => Chip::Tofino1,
                target::TofinoChip::Tofino2 => Chip::Tofino2,
            };
            let pipes = (tofino.server == target::TofinoServer::Stratum).then_some(tofino.pipes);
            Program::tofino(form, chip, &tofino.files, pipes)
        }
        // The checks see to it that it is softnic.
        (Kind::Softnic | Kind::Tofino, ..) => Ok(Program::softnic()),
    }
}

/// What a reload can change of it; none when there is no switch.
pub fn tuning(config: &Config) -> Option<Tuning> {
    let switch = config.switch()?;
    let punt_rate = switch.punt_limit.map(punt_rate);
    Some(Tuning { policy: policy(switch.policy), retry: switch.retry.into(), sweep: switch.sweep.into(), punt_rate })
}

fn punt_rate(PuntLimit { rate, burst }: PuntLimit) -> PuntRate {
    PuntRate { rate, burst }
}

fn policy(policy: target::Policy) -> Policy {
    match policy {
        target::Policy::Never => Policy::Never,
        target::Policy::Established => Policy::Established,
        target::Policy::Adaptive => Policy::Adaptive,
        target::Policy::Packets(packets) => Policy::Packets(packets),
        target::Policy::Bytes(bytes) => Policy::Bytes(bytes),
        target::Policy::Pps(pps) => Policy::PacketsPerSecond(pps),
    }
}

fn read(files: &TlsFiles) -> Result<Tls, TlsFileError> {
    let file =
        |key, path: &Path| std::fs::read(path).map_err(|source| TlsFileError { key, path: path.to_owned(), source });
    let authority = files.authority.as_ref().map(|path| file("target.tls.ca", path)).transpose()?;
    let identity = match &files.identity {
        Some((cert, key)) => Some((file("target.tls.cert", cert)?, file("target.tls.key", key)?)),
        None => None,
    };
    Ok(Tls { authority, identity, server_name: files.server_name.clone() })
}

#[cfg(test)]
mod tests {
    use carom_p4::artifacts::{TOFINO1_IDS_P4INFO, TOFINO1_P4INFO, TOFINO2_IDS_P4INFO, TOFINO2_P4INFO};
    use tempfile::TempDir;

    use super::*;
    use crate::config;

    /// A config with this `[target]` behind a link.
    fn parse(target: &str) -> Config {
        let text = format!(
            "[target]\naddress = \"[::1]:9559\"\nlink = {{ device = \"null\", port = 64 }}\n{target}\n\
             [[interface]]\nname = \"lan\"\nport = 3\nmac = \"02:00:00:00:00:01\"\naddresses = [\"10.0.0.2/24\"]\n"
        );
        config::parse(&text, Path::new("carom.toml")).expect("a good config")
    }

    /// Programs as the compiler's script leaves them: by form and chip.
    fn programs() -> TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (form, chip, p4info, binary, target) in [
            ("plain", "tofino1", TOFINO1_P4INFO, "tofino.bin", "tofino"),
            ("ids", "tofino1", TOFINO1_IDS_P4INFO, "tofino.bin", "tofino"),
            ("plain", "tofino2", TOFINO2_P4INFO, "tofino2.bin", "tofino2"),
            ("ids", "tofino2", TOFINO2_IDS_P4INFO, "tofino2.bin", "tofino2"),
        ] {
            let at = dir.path().join(form).join(chip);
            std::fs::create_dir_all(&at).expect("a directory");
            let context = format!("{{\"target\": \"{target}\", \"tables\": []}}");
            for (name, bytes) in [
                ("p4info.bin", p4info),
                (binary, b"\0\0\0Hmade up".as_slice()),
                ("context.json", context.as_bytes()),
                ("bfrt.json", b"{\"schema_version\": \"1.0.0\", \"tables\": []}"),
            ] {
                std::fs::write(at.join(name), bytes).expect("a file");
            }
        }
        dir
    }

    fn tofino(dir: &TempDir, form: &str, chip: &str, files: &str, more: &str) -> Config {
        let files = dir.path().join(files).display().to_string();
        parse(&format!(
            "kind = \"tofino\"\nprogram = \"{form}\"\n[target.tofino]\nchip = \"{chip}\"\nfiles = \"{files}\"\n{more}\n"
        ))
    }

    #[test]
    fn the_program_is_that_of_the_configs_chip_server_and_pipes() {
        let dir = programs();
        for (form, name) in [(Form::Plain, "plain"), (Form::Ids, "ids")] {
            for (chip, called, more, pipes) in [
                (Chip::Tofino1, "tofino1", "", Some(2)),
                (Chip::Tofino1, "tofino1", "pipes = 4", Some(4)),
                (Chip::Tofino1, "tofino1", "server = \"pi\"", None),
                (Chip::Tofino2, "tofino2", "pipes = 1\nserver = \"stratum\"", Some(1)),
            ] {
                let files = format!("{name}/{called}");
                let config = tofino(&dir, name, called, &files, more);
                let settings = settings(&config, None).expect("good files").expect("a switch");
                let expected = Program::tofino(form, chip, &dir.path().join(&files), pipes).expect("good files");
                assert_eq!((settings.program.kind, settings.program.form), (Kind::Tofino, form));
                assert_eq!(settings.program.cookie(), expected.cookie(), "{files} {more}");
                assert_eq!((settings.switch_ports, settings.link_port), (vec![3], 64));
                assert!(!settings.idle_timeouts, "Stratum takes none");
            }
        }
        let config = tofino(&dir, "ids", "tofino2", "ids/tofino2", "idle_timeouts = true");
        assert!(settings(&config, None).expect("good files").expect("a switch").idle_timeouts);
    }

    #[test]
    fn files_of_another_chip_or_program_are_refused() {
        let dir = programs();
        for (form, chip, files, said) in [
            ("ids", "tofino2", "ids/tofino1", "p4info.bin: for tofino1, not for tofino2; change target.tofino.chip"),
            (
                "plain",
                "tofino1",
                "plain/tofino2",
                "p4info.bin: for tofino2, not for tofino1; change target.tofino.chip",
            ),
            ("ids", "tofino1", "plain/tofino1", "p4info.bin: not of the program \"ids\", it has no table"),
            ("ids", "tofino1", "nowhere", "p4info.bin: No such file"),
        ] {
            let error = settings(&tofino(&dir, form, chip, files, ""), None).expect_err("other files").to_string();
            assert!(error.starts_with("target.tofino.files: ") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn software_switches_have_their_programs_in_the_binary() {
        for (target, form, cookie) in [
            ("kind = \"bmv2\"", Form::Plain, Program::bmv2().cookie()),
            ("kind = \"bmv2\"\nprogram = \"ids\"", Form::Ids, Program::bmv2_ids().cookie()),
            ("kind = \"softnic\"", Form::Plain, Program::softnic().cookie()),
        ] {
            let settings = settings(&parse(target), None).expect("no files").expect("a switch");
            assert_eq!((settings.program.form, settings.program.cookie()), (form, cookie));
            assert!(settings.idle_timeouts && settings.address.target == "[::1]:9559");
        }
    }
}
