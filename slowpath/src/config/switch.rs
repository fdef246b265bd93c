//! The switch as the checks worked it out: nothing in it is optional any more.

use std::path::PathBuf;

use fullnat::wire::Mac;

use super::device::Device;
use super::target::{Policy, TargetCode, Tofino};
use super::value::Duration;
use crate::offload::{Form, Kind};

/// What the link is called where interfaces have names: its key in the config.
pub const LINK: &str = "target.link";

/// A switch, and how the balancer's interfaces are its ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Switch {
    /// What it is.
    pub kind: Kind,
    /// How its program keeps flows.
    pub form: Form,
    /// What is Tofino's own; always there when it is one.
    pub tofino: Option<Tofino>,
    /// Where it serves P4Runtime, `HOST:PORT`; inside, port 0 is one that is free.
    pub address: String,
    /// Its number there, not 0.
    pub device_id: u64,
    /// The election id, not 0.
    pub election_id: u64,
    /// The role; empty for the default one.
    pub role: String,
    /// Files for TLS.
    pub tls: Option<TlsFiles>,
    /// Where it is.
    pub place: Place,
    /// The switch's port at the other end of the link.
    pub link_port: u16,
    /// The interfaces' ports, in the order of the config.
    pub ports: Vec<SwitchPort>,
    /// From when on sessions are installed.
    pub policy: Policy,
    /// Wait after a refused install.
    pub retry: Duration,
    /// Time between two comparisons of tables and sessions.
    pub sweep: Duration,
    /// Limit of punts for each service.
    pub punt_limit: Option<PuntLimit>,
}

/// An interface of the balancer as a port of the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwitchPort {
    /// The port's number, at most 4094.
    pub port: u16,
    /// The balancer's MAC address there; none: that of the device.
    pub mac: Option<Mac>,
}

/// Where a switch is, and so what the link to it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Somewhere else: this device's other end is one of its ports.
    Outside(Device),
    /// In this process, which opens its ports' devices for it; the link is rings.
    Inside {
        /// The CPU of its thread; none: any.
        cpu: Option<u16>,
        /// How it runs its program.
        code: TargetCode,
    },
}

/// Files in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// Who signs the target's certificate; none: the machine's own list.
    pub authority: Option<PathBuf>,
    /// The balancer's own certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the target's certificate; none: the host of the address.
    pub server_name: Option<String>,
}

/// A token bucket in the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PuntLimit {
    /// Packets in a second, not 0.
    pub rate: u32,
    /// Packets at once, not 0.
    pub burst: u32,
}
