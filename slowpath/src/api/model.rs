//! What the admin API says, as types. The server fills them and the `carom` command reads the same types back, so the
//! two cannot disagree. Field names are stable and carry their unit; all counters count since the daemon started.

mod drops;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use fullnat::id::Proto;
use serde::{Deserialize, Serialize};

use crate::daemon::InterfaceStats;
use crate::offload;
use crate::softnic;

pub use drops::{Drop, Drops, SwitchDrop};

/// Any refusal: what is wrong, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, in one line.
    pub error: String,
    /// What to do about it, in one line.
    pub mend: String,
}

/// A transport protocol by its lower-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl From<Proto> for Protocol {
    fn from(proto: Proto) -> Self {
        match proto {
            Proto::Tcp => Protocol::Tcp,
            Proto::Udp => Protocol::Udp,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// `GET /v1/status`: the balancer as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// Counts the configs put in force; the first is 1.
    pub generation: u64,
    /// The config file.
    pub config_path: PathBuf,
    /// The offload target; `none` is the slow path alone.
    pub target: String,
    /// How the offload stands; absent without target, and when the offload manager has ended.
    pub offload: Option<Offload>,
    /// Packets are on hugepages.
    pub hugepages: bool,
    /// Bytes taken for packets at the start.
    pub memory_bytes: u64,
    /// Packet buffers that are free.
    pub buffers_free: u64,
    /// Packet buffers that frames, rings and devices hold.
    pub buffers_used: u64,
    /// Sessions and other large tables are on transparent huge pages.
    pub tables_hugepages: bool,
    /// Bytes reserved for large tables at the start; pages come as they are first used.
    pub tables_bytes: u64,
    /// Workers.
    pub workers: usize,
    /// Interfaces.
    pub interfaces: usize,
    /// Services in the config.
    pub services: usize,
    /// Real servers in the config, counted once per service.
    pub servers: usize,
    /// Most sessions at a time.
    pub session_capacity: u64,
    /// Sums over all workers.
    pub totals: WorkerCounters,
}

/// How the offload stands, in short; `GET /v1/targets` has the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// The target's P4Runtime address.
    pub address: String,
    /// `disconnected`, `undecided`, `primary` or `backup`.
    pub standing: String,
    /// Sessions are taken.
    pub ready: bool,
    /// Sessions with both entries in force.
    pub sessions: u64,
}

/// Counters of one worker, or their sum over all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, without FCS.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent, without FCS.
    pub tx_bytes: u64,
    /// Packets handed to another worker.
    pub handed_over: u64,
    /// Packets taken from other workers.
    pub taken_over: u64,
    /// Packets dropped, for all reasons.
    pub dropped: u64,
    /// Polls that found packets.
    pub busy_polls: u64,
    /// Polls that found none.
    pub idle_polls: u64,
    /// IPv4 sessions now.
    pub sessions_v4: u64,
    /// IPv6 sessions now.
    pub sessions_v6: u64,
    /// Half-open sessions now, both families.
    pub half_open: u64,
    /// Half-open sessions given up for new ones.
    pub half_open_evicted: u64,
    /// TCP handshakes completed.
    pub handshakes: u64,
    /// Sessions made.
    pub sessions_created: u64,
    /// Sessions ended: by close, by timeout, or given up while half-open.
    pub sessions_ended: u64,
    /// Sessions whose client reused its port before the old session had gone.
    pub sessions_reopened: u64,
    /// RST segments out of sequence, ignored (RFC 5961).
    pub rst_ignored: u64,
    /// RST segments sent to clients.
    pub rst_sent: u64,
    /// RST segments and ICMP errors not sent because of their rate limit.
    pub replies_limited: u64,
    /// Segments that carried TOA to a real server.
    pub toa_added: u64,
    /// Client-made TOA options removed.
    pub toa_stripped: u64,
    /// Segments without TOA for want of room among the TCP options.
    pub toa_no_room: u64,
    /// Segments without TOA since it would have exceeded the MTU.
    pub toa_over_mtu: u64,
    /// ICMP errors translated and sent on.
    pub icmp_translated: u64,
    /// ICMP errors of the balancer itself.
    pub icmp_sent: u64,
    /// Echo requests answered.
    pub echo_answered: u64,
    /// ARP requests and neighbour solicitations answered.
    pub neighbor_answered: u64,
    /// ARP packets and neighbour discovery messages that needed no answer.
    pub neighbor_heard: u64,
    /// Packets that came from the switch with its tag.
    pub punted: u64,
    /// Sessions that are offloaded now.
    pub offload_sessions: u64,
    /// Sessions that the offload manager was asked to install.
    pub offload_asked: u64,
    /// Sessions installed.
    pub offload_installed: u64,
    /// Installs refused.
    pub offload_refused: u64,
    /// Sessions made of entries that the target had of an earlier life.
    pub offload_adopted: u64,
    /// Sessions removed from the target, asked or not.
    pub offload_removed: u64,
    /// Requests that found no room in the ring to the offload manager; they are made again.
    pub offload_ring_full: u64,
    /// Answers about sessions that had gone.
    pub offload_ignored: u64,
    /// Packets from clients that the target forwarded, as far as the worker was told.
    pub offload_packets_in: u64,
    /// Packets from real servers that the target forwarded, as far as the worker was told.
    pub offload_packets_out: u64,
    /// Bytes from clients that the target forwarded, as far as the worker was told.
    pub offload_bytes_in: u64,
    /// Bytes from real servers that the target forwarded, as far as the worker was told.
    pub offload_bytes_out: u64,
}

impl WorkerCounters {
    /// Sessions now, both families.
    pub fn sessions(&self) -> u64 {
        self.sessions_v4 + self.sessions_v6
    }
}

/// Traffic of a service or a real server. Bytes include the Ethernet header and exclude the FCS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficCounters {
    /// Sessions begun.
    pub sessions_total: u64,
    /// Sessions refused.
    pub sessions_refused: u64,
    /// Half-open sessions given up for new ones.
    pub sessions_evicted: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets from real servers.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes from real servers.
    pub bytes_out: u64,
}

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The services, by slot: those a reload added come after those that were there, or take a place that fell free.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The operator's name.
    pub name: String,
    /// VIP:vport.
    pub address: SocketAddr,
    /// Transport protocol.
    pub proto: Protocol,
    /// Scheduler by its short name: `rr wrr lc wlc sh mh`.
    pub scheduler: String,
    /// Name of the pool of local addresses.
    pub pool: String,
    /// The client's address travels to the real servers in TCP option 254.
    pub toa: bool,
    /// Milliseconds of persistence, when it is on.
    pub persistence_ms: Option<u64>,
    /// Real servers in the config.
    pub servers: usize,
    /// Real servers with a weight above 0.
    pub servers_weighted: usize,
    /// Sessions now.
    pub active_sessions: u64,
    /// Its traffic.
    #[serde(flatten)]
    pub traffic: TrafficCounters,
}

/// `GET /v1/servers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The real servers, by service.
    pub servers: Vec<Server>,
}

/// One real server of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The service's name.
    pub service: String,
    /// The service's VIP:vport.
    pub vip: SocketAddr,
    /// Transport protocol.
    pub proto: Protocol,
    /// RIP:rport.
    pub address: SocketAddr,
    /// Share of new sessions; 0 drains.
    pub weight: u16,
    /// Most sessions at a time; 0 is no limit.
    pub max_connections: u32,
    /// Sessions now.
    pub active_sessions: u64,
    /// Its traffic.
    #[serde(flatten)]
    pub traffic: TrafficCounters,
}

/// What `GET /v1/sessions` and `GET /v1/sessions/count` take. An absent part matches every session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionsQuery {
    /// Client address or prefix: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Service by name, or `VIP:port`, or `VIP:port/tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Real server: `RIP` or `RIP:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// State name, e.g. `established`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Offload state: `none`, `installing`, `offloaded` or `removing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload: Option<String>,
    /// Most sessions on the page, 1 to 10 000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `GET /v1/sessions`: one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The sessions. A session that began or ended while pages were read may be missing or be there once too often.
    pub sessions: Vec<Session>,
    /// Cursor of the next page; absent at the end.
    pub next: Option<String>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Transport protocol.
    pub proto: Protocol,
    /// State, e.g. `established`.
    pub state: String,
    /// Where it is with the offload target: `none`, `installing`, `offloaded` or `removing`.
    pub offload: String,
    /// CIP:cport.
    pub client: SocketAddr,
    /// VIP:vport.
    pub vip: SocketAddr,
    /// LIP:lport.
    pub local: SocketAddr,
    /// RIP:rport.
    pub server: SocketAddr,
    /// The service's name; absent when the service has left the config.
    pub service: Option<String>,
    /// The worker that owns the session.
    pub worker: u8,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Milliseconds until it ends if no packet comes.
    pub expires_ms: u64,
    /// Packets from the client, those the target forwarded included.
    pub packets_in: u64,
    /// Packets from the real server, those the target forwarded included.
    pub packets_out: u64,
    /// Packets from the client that the target forwarded since the session was last installed; absent when it is not.
    pub target_packets_in: Option<u64>,
    /// Packets from the real server that the target forwarded likewise.
    pub target_packets_out: Option<u64>,
    /// Bytes from the client that the target forwarded likewise. The slow path counts no bytes by session.
    pub target_bytes_in: Option<u64>,
    /// Bytes from the real server that the target forwarded likewise.
    pub target_bytes_out: Option<u64>,
}

/// `GET /v1/sessions/count`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCount {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// Sessions that pass the filter.
    pub count: u64,
}

/// `GET /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// One entry per worker, protocol, local address and real server in use.
    pub ports: Vec<PortUse>,
}

/// Local ports of one worker on one local address towards one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortUse {
    /// The worker.
    pub worker: u8,
    /// Transport protocol.
    pub proto: Protocol,
    /// The LIP.
    pub local: IpAddr,
    /// RIP:rport.
    pub server: SocketAddr,
    /// Ports of this worker's share.
    pub total: u64,
    /// Ports that carry a session.
    pub in_use: u64,
    /// Released ports still in quarantine.
    pub quarantined: u64,
    /// Sessions refused because no port was free.
    pub exhausted: u64,
}

/// `GET /v1/workers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workers {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The workers.
    pub workers: Vec<Worker>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number, from 0.
    pub worker: usize,
    /// What it counted.
    #[serde(flatten)]
    pub counters: WorkerCounters,
}

/// `GET /v1/neighbors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbors {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The next hops.
    pub neighbors: Vec<Neighbor>,
}

/// One next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Its address.
    pub address: IpAddr,
    /// The interface it is on.
    pub interface: String,
    /// Its MAC address when known, as `02:00:00:00:00:01`.
    pub mac: Option<String>,
    /// `incomplete`, `reachable`, `stale`, `failed` or `static`.
    pub state: String,
}

/// `GET /v1/interfaces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The interfaces.
    pub interfaces: Vec<Interface>,
}

/// One interface, or the link to the switch, with its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The operator's name, or `target.link`.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// Largest IP packet in bytes.
    pub mtu_bytes: u16,
    /// Its addresses as `address/length`.
    pub addresses: Vec<String>,
    /// The driver's counters; of a switch's port, what the workers had from it and sent by it.
    #[serde(flatten)]
    pub stats: InterfaceStats,
}

/// `GET /v1/targets`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The offload targets; none when the slow path works alone.
    pub targets: Vec<offload::Status>,
    /// The ports of a switch in this process; empty without one.
    pub ports: Vec<softnic::PortTraffic>,
}

/// `POST /v1/reload`: the config now in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Generation of the plan now in force.
    pub generation: u64,
}
