//! What an operator writes: the config file, key by key. The doc comments here are the configuration reference and the
//! descriptions in the JSON Schema, so they speak to the operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::device::Device;
use super::short::{OneOrMany, Persistence, Server};
use super::target::Target;
use super::timeouts::{Overrides, Timeouts};
use super::value::{Address, AddressRange, Cidr, Duration, Endpoint, MacAddress, PortRange};

/// The configuration of Carom, a TOML file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Carom configuration")]
pub struct File {
    /// The network interfaces of the balancer; at least one.
    pub interface: Vec<Interface>,
    /// The switch or SmartNIC that runs the P4 program and forwards established sessions. Without one Carom does the whole
    /// job alone, on interfaces with a `device`. With one the interfaces are the switch's ports, and Carom has one device of
    /// its own: its `link` to the switch. With `softnic` in the same process interfaces keep their devices.
    pub target: Target,
    /// Static routes, besides the interfaces' own prefixes and gateways.
    pub route: Vec<Route>,
    /// Pools of local addresses: the sources that real servers see.
    pub pool: Vec<Pool>,
    /// The services: what clients connect to.
    pub service: Vec<Service>,
    /// The threads that forward packets. A change needs a restart.
    pub workers: Workers,
    /// How DPDK is started. A change needs a restart.
    pub dpdk: Dpdk,
    /// How much of everything there can be. Memory is taken at start, so a change needs a restart.
    pub limits: Limits,
    /// Local ports.
    pub snat: Snat,
    /// How long a session lives without packets, by its state; a service can override each.
    pub timeouts: Timeouts,
    /// The admin API, which the `carom` subcommands talk to. A change needs a restart.
    pub admin: Admin,
    /// Prometheus metrics. A change needs a restart.
    pub metrics: Metrics,
    /// Logs. A change needs a restart.
    pub log: Log,
    /// For tests only. A change needs a restart.
    pub debug: Debug,
}

/// A network interface: a device of this machine, or, behind a switch outside of it, a port of the [target](#target).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// A name of your choice, for routes, logs and metrics.
    pub name: String,
    /// The device: a PCI address such as `0000:03:00.0`; a short form `af_packet:eth0`, `af_xdp:eth0`, `tap:carom0`,
    /// `memif:/run/a.sock`, `pcap:in.pcap,out.pcap`, `ring:name`, `null`, `vhost:/run/v.sock`, `virtio_user:/run/v.sock`,
    /// each with DPDK's further arguments after commas; or a DPDK device such as `net_af_packet0,iface=eth0`. Needed
    /// unless the target has a `link`. A change needs a restart.
    #[serde(default)]
    pub device: Option<Device>,
    /// The switch's port. Needed with a target that has a `link`, instead of `device`. A change needs a restart.
    #[serde(default)]
    #[schemars(range(min = *bounds::PORT.start(), max = *bounds::PORT.end()))]
    pub port: Option<u16>,
    /// The balancer's MAC address on that port, which no other host there may have. Needed with `port`. A change needs a
    /// restart.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// The interface's own addresses with their prefix lengths; what is inside a prefix is reached directly.
    pub addresses: Vec<Cidr>,
    /// The default gateway, or a list with one for each address family. Several interfaces may have one: clients are
    /// answered by the interface they came by.
    #[serde(default)]
    pub gateway: OneOrMany<Address>,
    /// The largest IP packet in bytes. A change needs a restart.
    #[serde(default = "default_mtu")]
    #[schemars(range(min = *bounds::MTU.start(), max = *bounds::MTU.end()))]
    pub mtu: u16,
    /// Neighbours whose MAC address is given here instead of being asked for.
    #[serde(default)]
    pub neighbors: BTreeMap<Address, MacAddress>,
}

fn default_mtu() -> u16 {
    1500
}

/// A static route.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The destination prefix.
    pub to: Cidr,
    /// The gateway. Without it the prefix is on the link of `interface`.
    #[serde(default)]
    pub via: Option<Address>,
    /// The interface. May be left out when the gateway is inside a prefix of one.
    #[serde(default)]
    pub interface: Option<String>,
}

/// A pool of local addresses. Each address carries one session per local port *towards each real server*.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// A name of your choice, for the `pool` of services.
    pub name: String,
    /// The local addresses: addresses, ranges `first-last`, prefixes. They must be routed to the balancer, and are used
    /// by nobody else.
    pub addresses: Vec<AddressRange>,
    /// The ports used on each address.
    #[serde(default = "default_ports")]
    pub ports: PortRange,
}

fn default_ports() -> PortRange {
    PortRange { first: 1025, last: 65535 }
}

/// A service: an address and port that clients connect to, and the real servers behind it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// A name of your choice, for logs, metrics and the API.
    pub name: String,
    /// The virtual address and port.
    pub listen: Endpoint,
    /// The transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// How a real server is chosen for a new session.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// For the schedulers `sh` and `mh`: what of the client is hashed. Default `source`.
    #[serde(default)]
    pub hash: Option<HashBy>,
    /// For the scheduler `mh`: size of its lookup table, a prime; larger spreads more evenly. Default 65537, good for some
    /// 600 servers.
    #[serde(default)]
    #[schemars(range(min = *bounds::TABLE_SIZE.start(), max = *bounds::TABLE_SIZE.end()))]
    pub table_size: Option<u32>,
    /// The pool of local addresses. May be left out when exactly one pool has addresses of the service's family.
    #[serde(default)]
    pub pool: Option<String>,
    /// Tell real servers the client's address in TCP option 254 (TOA). TCP only, where it is the default.
    #[serde(default)]
    pub toa: Option<bool>,
    /// Keep all connections from one client, or client network, on one real server.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// Timeouts that differ from `[timeouts]`.
    #[serde(default)]
    pub timeouts: Overrides,
    /// The real servers.
    pub servers: Vec<Server>,
}

/// A transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
}

/// How a real server is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// each server in turn, whatever its weight
    Rr,
    /// each in turn, as often as its weight says
    #[default]
    Wrr,
    /// the one with the fewest sessions
    Lc,
    /// the one with the fewest sessions for its weight
    Wlc,
    /// by a hash of the client
    Sh,
    /// by Maglev hashing of the client: few clients move when servers come and go
    Mh,
}

/// What of the client the hashing schedulers hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HashBy {
    /// the client's address
    Source,
    /// the client's address and port
    SourcePort,
}

/// The threads that forward packets.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// How many. Default: as many as `cpus`, or 1.
    #[schemars(range(min = *bounds::WORKERS.start(), max = *bounds::WORKERS.end()))]
    pub count: Option<u16>,
    /// The CPUs they run on, one worker each. Without it the kernel decides.
    #[schemars(inner(range(min = *bounds::CPU.start(), max = *bounds::CPU.end())))]
    pub cpus: Vec<u16>,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
    /// The steps of `idle = "backoff"`.
    pub backoff: Backoff,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// pause, then yield, then short sleeps: an idle balancer leaves the CPU alone
    #[default]
    Backoff,
    /// poll all the time: lowest latency, a whole CPU each
    Busy,
}

/// How an idle worker backs off.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Empty polls, with a pause after each, before the worker begins to yield its CPU.
    pub pauses: u32,
    /// Empty polls, with a yield after each, before the worker begins to sleep.
    pub yields: u32,
    /// Length of one sleep, which is what an idle worker adds to the latency of the first packet; after a thousand in a row
    /// each is eight times as long.
    pub sleep: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { pauses: 1_000, yields: 1_000, sleep: Duration::from_us(100) }
    }
}

/// How DPDK is started.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dpdk {
    /// Where packet buffers lie.
    pub memory: Memory,
    /// Memory for DPDK in MiB, where it is ordinary memory; huge pages are taken as they are needed.
    #[schemars(range(min = *bounds::MEMORY_MB.start(), max = *bounds::MEMORY_MB.end()))]
    pub memory_mb: u32,
    /// Packet buffers over all interfaces. Default: enough for all queues and caches.
    #[schemars(range(min = *bounds::MBUFS.start(), max = *bounds::MBUFS.end()))]
    pub mbufs: Option<u32>,
    /// Tells several DPDK processes on one machine apart. Default: one of its own for each process.
    pub file_prefix: Option<String>,
    /// Further arguments for DPDK's environment (EAL), as they are.
    pub args: Vec<String>,
}

impl Default for Dpdk {
    fn default() -> Self {
        Dpdk { memory: Memory::Auto, memory_mb: 512, mbufs: None, file_prefix: None, args: Vec::new() }
    }
}

/// Where packet buffers lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// huge pages when the machine has enough free, else ordinary memory
    #[default]
    Auto,
    /// huge pages, or refuse to start
    Huge,
    /// ordinary memory: slower, and no physical NICs
    Nohuge,
}

/// How much of everything there can be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// IPv4 sessions, over all workers; each worker takes an equal share.
    #[schemars(range(min = *bounds::SESSIONS.start(), max = *bounds::SESSIONS.end()))]
    pub sessions: u32,
    /// IPv6 sessions, over all workers; each worker takes an equal share.
    #[schemars(range(min = *bounds::SESSIONS.start(), max = *bounds::SESSIONS.end()))]
    pub sessions6: u32,
    /// Next hops: gateways, and hosts that are reached directly.
    #[schemars(range(min = *bounds::NEXTHOPS.start(), max = *bounds::NEXTHOPS.end()))]
    pub nexthops: u16,
    /// Packets that wait for one next hop's MAC address, on each worker.
    #[schemars(range(min = *bounds::PENDING.start(), max = *bounds::PENDING.end()))]
    pub pending_packets: u16,
    /// Clients or client networks kept by persistence, over all services.
    #[schemars(range(min = *bounds::PERSISTENCE.start(), max = *bounds::PERSISTENCE.end()))]
    pub persistence: u32,
    /// ICMP errors the balancer itself sends in a second, over all workers.
    #[schemars(range(min = *bounds::RATE.start(), max = *bounds::RATE.end()))]
    pub icmp_rate: u32,
    /// TCP resets the balancer itself sends in a second, over all workers.
    #[schemars(range(min = *bounds::RATE.start(), max = *bounds::RATE.end()))]
    pub reset_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: 1_000_000,
            sessions6: 250_000,
            nexthops: 4_096,
            pending_packets: 16,
            persistence: 100_000,
            icmp_rate: 1_000,
            reset_rate: 1_000,
        }
    }
}

/// Local ports.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Snat {
    /// How long a released local port rests. It must outlast a real server's TIME_WAIT, 60 s on Linux.
    pub quarantine: Duration,
}

impl Default for Snat {
    fn default() -> Self {
        Snat { quarantine: Duration::from_secs(60) }
    }
}

/// The admin API.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Path of its Unix socket, made with mode 0600.
    pub socket: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { socket: "/run/carom/admin.sock".into() }
    }
}

/// Prometheus metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and port to serve `/metrics` at, e.g. `127.0.0.1:9100`. Off when absent.
    pub listen: Option<Endpoint>,
}

impl Metrics {
    /// The address to listen at, when metrics are on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.map(|endpoint| endpoint.0)
    }
}

/// Logs, which go to standard error.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important level that is written.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
}

/// A log level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// what keeps the balancer from working
    Error,
    /// what needs somebody's attention
    Warn,
    /// what happens once in a while
    #[default]
    Info,
    /// each step of the control side
    Debug,
    /// everything
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// for people
    #[default]
    Text,
    /// one JSON object per line
    Json,
}

/// For tests only.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Debug {
    /// Makes hash keys and the first local ports repeatable. Clients can then aim at one hash bucket: never in production.
    pub seed: Option<u64>,
}
