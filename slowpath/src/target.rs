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
