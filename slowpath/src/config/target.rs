//! `[target]`: the switch that forwards established sessions, and how it is reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use super::bounds;
use super::device::Device;
use super::short::{Form, TextOrTable, either};
use super::value::{Duration, text_value};
use crate::offload::{self, Kind};

/// The switch or SmartNIC that runs the P4 program.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// What it is. A change needs a restart.
    pub kind: TargetKind,
    /// Where it serves P4Runtime: host and port. Needed with `link`. With `softnic` in this process, where others may reach
    /// it, an IP address of this host; default: a free port of 127.0.0.1. A change needs a restart.
    pub address: Option<TargetAddress>,
    /// Its number there, not 0. A change needs a restart.
    #[schemars(range(min = *bounds::DEVICE_ID.start(), max = *bounds::DEVICE_ID.end()))]
    pub device_id: u64,
    /// What this balancer stands for election with; of several controllers the one with the highest id may write. A change
    /// needs a restart.
    #[schemars(range(min = *bounds::ELECTION_ID.start(), max = *bounds::ELECTION_ID.end()))]
    pub election_id: u64,
    /// The P4Runtime role, when the switch is shared with other controllers. A change needs a restart.
    pub role: String,
    /// Reach the target by TLS. A change needs a restart.
    pub tls: Option<Tls>,
    /// Carom's own device, whose other end is a port of the switch. Needed with `bmv2` and `tofino`. With `softnic` it says
    /// that the switch is a process of its own, `carom softnic`; without it the switch is in this process. A change needs a
    /// restart.
    pub link: Option<Link>,
    /// The CPU of the thread that forwards, with `softnic` in this process; best one that no worker has. Default: any. A
    /// change needs a restart.
    pub cpu: Option<u16>,
    /// How `softnic` runs its program. A change needs a restart.
    pub code: TargetCode,
    /// How the program keeps flows of IPv4. A change needs a restart.
    pub program: TargetProgram,
    /// What is Tofino's own. Needed with `tofino`. A change needs a restart.
    pub tofino: Option<Tofino>,
    /// From when on a session is forwarded by the switch: `never`; `established`, as soon as it may; `adaptive`, a
    /// threshold that follows the table's occupancy and the rate of installs; or from a number of packets, a number of
    /// bytes, or a rate of packets per second on. After a change the sessions that the switch has stay there.
    pub policy: Policy,
    /// How long after a refused install a session is tried again.
    pub retry: Duration,
    /// How often the switch's tables are compared with the sessions.
    pub sweep: Duration,
    /// Packets in a second that the switch hands to the slow path for one service; more are dropped there and counted. Not
    /// limited when absent.
    #[schemars(range(min = *bounds::PUNT.start(), max = *bounds::PUNT.end()))]
    pub punt_rate: Option<u32>,
    /// Packets above `punt_rate` that are let through at once. Default: as many as the rate lets through in a tenth of a
    /// second.
    #[schemars(range(min = *bounds::PUNT.start(), max = *bounds::PUNT.end()))]
    pub punt_burst: Option<u32>,
}

impl Default for Target {
    fn default() -> Self {
        Target {
            kind: TargetKind::None,
            address: None,
            device_id: 1,
            election_id: 1,
            role: String::new(),
            tls: None,
            link: None,
            cpu: None,
            code: TargetCode::Interpreted,
            program: TargetProgram::Plain,
            tofino: None,
            policy: Policy::Established,
            retry: Duration::from_secs(1),
            sweep: Duration::from_secs(300),
            punt_rate: None,
            punt_burst: None,
        }
    }
}

/// What kind of target it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// there is none: the slow path does the whole job
    #[default]
    None,
    /// the software switch BMv2, `simple_switch_grpc`
    Bmv2,
    /// a software switch on DPDK's pipeline library, in the process of `carom run` itself or in one of its own
    Softnic,
    /// a switch with Tofino 1 or 2, behind a server such as Stratum
    Tofino,
}

/// Which of the programs that are the same but for this: how flows of IPv4 are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetProgram {
    /// each direction of a session is an entry with all that its rewrite needs
    #[default]
    Plain,
    /// entries name what sessions have in common by ids: room for more, but for fewer services and real servers (not with
    /// `softnic`)
    Ids,
}

impl TargetProgram {
    /// The same, as the offload manager calls it.
    pub fn form(self) -> offload::Form {
        match self {
            TargetProgram::Plain => offload::Form::Plain,
            TargetProgram::Ids => offload::Form::Ids,
        }
    }
}

/// A chip.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TofinoChip {
    /// Tofino 1
    Tofino1,
    /// Tofino 2
    Tofino2,
}

/// Who serves P4Runtime in front of the chip's driver, and so in which form it takes the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TofinoServer {
    /// `stratum_bfrt`
    #[default]
    Stratum,
    /// a server on PI, such as `stratum_bf` of old
    Pi,
}

/// A switch with Tofino.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tofino {
    /// Its chip.
    pub chip: TofinoChip,
    /// The directory with the compiled program: binary, `context.json`, `bfrt.json` and `p4info.bin`, as
    /// `make p4 ARCH=tna` with `CAROM_TOFINO_OUT` leaves them for each program and chip.
    pub files: PathBuf,
    /// Who serves P4Runtime.
    #[serde(default)]
    pub server: TofinoServer,
    /// How many pipes the chip has; the program runs in all.
    #[serde(default = "two")]
    #[schemars(range(min = *bounds::PIPES.start(), max = *bounds::PIPES.end()))]
    pub pipes: u32,
    /// Whether the server takes idle timeouts and gives notice; Stratum does not yet. Without, sessions are found idle by
    /// their counters alone.
    #[serde(default)]
    pub idle_timeouts: bool,
}

/// Pipes of the smaller chips.
fn two() -> u32 {
    2
}

/// How a software switch runs its program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetCode {
    /// DPDK interprets it, which needs nothing
    #[default]
    Interpreted,
    /// as C that the compiler of this machine, `cc`, is given: several times as fast
    Generated,
}

impl TargetKind {
    /// Whose program it runs; none without a target.
    pub fn program(self) -> Option<Kind> {
        match self {
            TargetKind::None => None,
            TargetKind::Bmv2 => Some(Kind::Bmv2),
            TargetKind::Softnic => Some(Kind::Softnic),
            TargetKind::Tofino => Some(Kind::Tofino),
        }
    }
}

/// Carom's own device and what it is connected to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The device, in one of the forms that an interface's `device` has. It must carry packets of the interfaces' largest
    /// MTU with a VLAN tag.
    pub device: Device,
    /// The switch's port at the other end.
    #[schemars(range(min = *bounds::PORT.start(), max = *bounds::PORT.end()))]
    pub port: u16,
}

/// Files for TLS, all PEM. An empty table is TLS with the machine's own certificate authorities.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The certificates of those who sign the target's. Default: the machine's own list.
    pub ca: Option<PathBuf>,
    /// The balancer's own certificate, for targets that ask for one.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
    /// The name in the target's certificate. Default: the host of the address.
    pub name: Option<String>,
}

/// Host and port of a target.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TargetAddress {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    host: String,
    /// Not 0.
    port: u16,
}

text_value!(
    TargetAddress,
    "HostAndPort",
    "a host, by name or address, and a port",
    ["127.0.0.1:9559", "switch.example:9559", "[fd00::1]:9559"]
);

impl FromStr for TargetAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, rest)) = text.split_once("://") {
            return Err(format!("\"{text}\" is a URL; write host and port alone: \"{rest}\""));
        }
        let (host, port) = match text.rsplit_once(':') {
            // The colon of a port, not one inside an IPv6 address.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            Some(_) => {
                return Err(format!("\"{text}\" is not clear: an IPv6 address goes in brackets, \"[fd00::1]:9559\""));
            }
            None => return Err(format!("\"{text}\" has no port: write for example \"{text}:9559\"")),
        };
        let port = match port.parse::<u16>() {
            Ok(number) if number > 0 && !port.starts_with('+') => number,
            _ => return Err(format!("\"{text}\" has no valid port: write 1 to 65535 after the colon")),
        };
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(name),
        };
        if !good {
            return Err(format!("\"{text}\" names no host: write for example \"127.0.0.1:{port}\""));
        }
        Ok(TargetAddress { host: host.to_owned(), port })
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// From when on a session is forwarded by the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Never: the slow path forwards everything.
    Never,
    /// As soon as it may be.
    Established,
    /// From a threshold on that follows occupancy and install rate.
    Adaptive,
    /// After so many packets of both directions.
    Packets(u32),
    /// After so many bytes of both directions.
    Bytes(u32),
    /// Once it has had so many packets within a second.
    Pps(u16),
}

/// The policies that are a name alone.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "PolicyName")]
enum PolicyName {
    /// the slow path forwards everything
    Never,
    /// as soon as the handshake is complete and the real server knows the client's address
    Established,
    /// a threshold that follows the occupancy of the switch's table and the rate of installs
    Adaptive,
}

/// A threshold: exactly one of the keys.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
struct Threshold {
    /// After so many packets of both directions.
    #[serde(default)]
    #[schemars(range(min = *bounds::ELEPHANT_PACKETS.start(), max = *bounds::ELEPHANT_PACKETS.end()))]
    packets: Option<u32>,
    /// After so many bytes of both directions.
    #[serde(default)]
    #[schemars(range(min = *bounds::ELEPHANT_BYTES.start(), max = *bounds::ELEPHANT_BYTES.end()))]
    bytes: Option<u32>,
    /// Once it has had so many packets within a second.
    #[serde(default)]
    #[schemars(range(min = *bounds::ELEPHANT_PPS.start(), max = *bounds::ELEPHANT_PPS.end()))]
    pps: Option<u16>,
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = TextOrTable::<PolicyName, Threshold>::new(
            "a policy: \"never\", \"established\", \"adaptive\", or a threshold such as { packets = 100 }",
        )
        .or_table("; or write a threshold such as { packets = 100 }");
        Ok(match deserializer.deserialize_any(visitor)? {
            Form::Short(PolicyName::Never) => Policy::Never,
            Form::Short(PolicyName::Established) => Policy::Established,
            Form::Short(PolicyName::Adaptive) => Policy::Adaptive,
            Form::Long(Threshold { packets: Some(packets), bytes: None, pps: None }) => Policy::Packets(packets),
            Form::Long(Threshold { packets: None, bytes: Some(bytes), pps: None }) => Policy::Bytes(bytes),
            Form::Long(Threshold { packets: None, bytes: None, pps: Some(pps) }) => Policy::Pps(pps),
            Form::Long(_) => {
                return Err(serde::de::Error::custom(
                    "needs exactly one threshold: { packets = 100 }, { bytes = 100000 } or { pps = 50 }",
                ));
            }
        })
    }
}

impl JsonSchema for Policy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PolicyOrThreshold".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        either::<PolicyName, Threshold>(generator)
    }
}
