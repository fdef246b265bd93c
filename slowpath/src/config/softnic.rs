//! The config file of `carom softnic`, the switch in a process of its own: what an operator writes, and the file once it
//! passed its checks. Its values and its words about what is wrong are those of Carom's own config.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::device::{Device, NamedDevice};
use super::problem::{Problem, Refused};
use super::target::TargetCode;
use super::types::{Dpdk, Log, Metrics};
use super::value::Endpoint;
use super::{Source, bounds, document, read, refused_as_a_whole, validate, warning_line};

/// The configuration of `carom softnic`, a TOML file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Carom softnic configuration")]
pub struct SoftnicFile {
    /// The ports of the switch; at least one.
    pub port: Vec<Port>,
    /// Where controllers reach it, and what it is for them.
    pub p4runtime: P4Runtime,
    /// Tables with room for other numbers of entries than the program says.
    pub table: Vec<Table>,
    /// The thread that forwards.
    pub engine: EngineFile,
    /// How DPDK is started.
    pub dpdk: Dpdk,
    /// Prometheus metrics.
    pub metrics: Metrics,
    /// Logs.
    pub log: Log,
}

/// A port of the switch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number, for controllers and for the tags of punted frames.
    #[schemars(range(min = *bounds::PORT.start(), max = *bounds::PORT.end()))]
    pub number: u16,
    /// The device, in one of the forms that `device` of an interface has in Carom's own config.
    pub device: Device,
    /// The largest IP packet in bytes; a VLAN tag comes on top.
    #[serde(default = "default_mtu")]
    #[schemars(range(min = *bounds::MTU.start(), max = *bounds::MTU.end()))]
    pub mtu: u16,
}

fn default_mtu() -> u16 {
    1500
}

/// Where controllers reach the switch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct P4Runtime {
    /// Address and port of its P4Runtime server.
    pub listen: Endpoint,
    /// Its number as a device, not 0.
    #[schemars(range(min = *bounds::DEVICE_ID.start(), max = *bounds::DEVICE_ID.end()))]
    pub device_id: u64,
    /// How many controllers of each role there may be at a time.
    #[schemars(range(min = *bounds::CONTROLLERS.start(), max = *bounds::CONTROLLERS.end()))]
    pub controllers: u32,
    /// The number of one more port, whose other end are the controllers: what the program sends by it they get as PacketIn,
    /// and their PacketOut come by it. Default: there is none.
    #[schemars(range(min = *bounds::PORT.start(), max = *bounds::PORT.end()))]
    pub packet_port: Option<u16>,
    /// Serve by TLS, and by nothing else.
    pub tls: Option<ServerTls>,
}

impl Default for P4Runtime {
    fn default() -> Self {
        // The port that IANA gave P4Runtime.
        let listen = Endpoint(SocketAddr::from((Ipv4Addr::LOCALHOST, 9559)));
        P4Runtime { listen, device_id: 1, controllers: 16, packet_port: None, tls: None }
    }
}

/// Files for TLS, all PEM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ServerTls")]
pub struct ServerTls {
    /// The switch's certificate, and behind it those between it and its authority.
    pub cert: PathBuf,
    /// The key of `cert`.
    pub key: PathBuf,
    /// Who signs the certificates of controllers; with it only they may come. Default: anybody may who reaches the address.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// A table with another size.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name in the program. A program without such a table runs all the same.
    pub name: String,
    /// Entries it has room for.
    #[schemars(range(min = *bounds::ENTRIES.start(), max = *bounds::ENTRIES.end()))]
    pub size: u32,
}

/// The thread that forwards.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Engine")]
pub struct EngineFile {
    /// The CPU it runs on, best one that nothing else needs. Default: any.
    #[schemars(range(min = *bounds::CPU.start(), max = *bounds::CPU.end()))]
    pub cpu: Option<u16>,
    /// How it runs the program.
    pub code: TargetCode,
}

/// A file that passed every check.
#[derive(Clone, Debug)]
pub struct SoftnicConfig {
    file: SoftnicFile,
    path: PathBuf,
    pub(super) source: Source,
    warnings: Vec<Problem>,
}

impl Deref for SoftnicConfig {
    type Target = SoftnicFile;

    fn deref(&self) -> &SoftnicFile {
        &self.file
    }
}

impl SoftnicConfig {
    /// The devices that are opened, in the order of the ports: one queue each, for the one thread.
    pub fn devices(&self) -> Vec<NamedDevice> {
        let named = |(i, port): (usize, &Port)| NamedDevice {
            name: format!("port {}", port.number),
            eal: port.device.eal(i, 1, port.mtu),
            mtu: port.mtu,
        };
        self.port.iter().enumerate().map(named).collect()
    }

    /// What is allowed but probably not meant, a line each.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(|problem| self.warning(problem))
    }

    /// A warning as a line.
    pub(super) fn warning(&self, problem: &Problem) -> String {
        warning_line(problem, &self.path)
    }
}

/// Reads and checks a config file of `carom softnic`.
pub fn load_softnic(path: &Path) -> Result<SoftnicConfig, Refused> {
    parse_softnic(&read(path).map_err(|message| refused_as_a_whole(path, message))?, path)
}

/// Checks the text of a config of `carom softnic`; `path` is what messages call it.
pub fn parse_softnic(text: &str, path: &Path) -> Result<SoftnicConfig, Refused> {
    let (file, source) = document::<SoftnicFile>(text, path)?;
    let (problems, mut warnings) = validate::softnic::validate(&file, &source);
    Refused::unless_empty(path, problems)?;
    warnings.sort_by_key(|problem| problem.at);
    Ok(SoftnicConfig { file, path: path.to_owned(), source, warnings })
}
