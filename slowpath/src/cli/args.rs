//! The command line as types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::api::DEFAULT_SOCKET;

/// FullNAT layer-4 load balancer.
#[derive(Debug, Parser)]
#[command(name = "carom", version, about, arg_required_else_help = true, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the balancer until SIGTERM or SIGINT
    Run(ConfigFile),
    /// Run a software switch alone, in a process of its own, until SIGTERM or SIGINT
    Softnic(ConfigFile),
    /// Check a config file without starting anything
    Check(Check),
    /// Print the JSON Schema of the config file
    Schema(Schema),
    /// Measure the worker loop or the offload on this machine
    Bench {
        #[command(subcommand)]
        #[allow(missing_docs, reason = "clap would print it")]
        bench: Bench,
    },
    /// Look at a running balancer, or have it reload.
    #[command(flatten)]
    Show(Show),
}

/// Which config file.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// Config file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `carom check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it")]
    pub file: ConfigFile,
    /// The file is one of `carom softnic`
    #[arg(long)]
    pub softnic: bool,
}

/// `carom schema`.
#[derive(Clone, Debug, Args)]
pub struct Schema {
    /// That of the file of `carom softnic`
    #[arg(long)]
    pub softnic: bool,
}

/// Commands that talk to a running balancer.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Version, uptime, memory, and totals
    Status(ShowOptions),
    /// Services: sessions, packets and bytes of each
    Services(ShowOptions),
    /// Real servers: weight, sessions, packets and bytes of each
    Servers(ShowOptions),
    /// Sessions, filtered and in pages
    Sessions(SessionsOptions),
    /// Use of local ports (SNAT) by local address and real server
    Ports(PortsOptions),
    /// Dropped packets by reason and worker
    Drops(DropsOptions),
    /// Workers: load, sessions, packets
    Workers(ShowOptions),
    /// Next hops and their MAC addresses
    Neighbors(ShowOptions),
    /// Interfaces with the counters of their drivers
    Interfaces(ShowOptions),
    /// The offload target: connection, tables, rates and latencies, failures
    Targets(ShowOptions),
    /// Read the config file again and put it in force
    Reload(ReloadOptions),
}

/// Where the balancer is.
#[derive(Clone, Debug, Args)]
pub struct Socket {
    /// Admin socket of the balancer
    #[arg(long, value_name = "PATH", env = "CAROM_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// What all show commands take.
#[derive(Clone, Debug, Args)]
pub struct ShowOptions {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it")]
    pub socket: Socket,
    /// Print JSON; with --watch one document a line
    #[arg(long)]
    pub json: bool,
    /// Show again every SECS seconds, with rates per second
    #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "1", value_parser = interval)]
    pub watch: Option<f64>,
    /// Full numbers instead of 1.23M
    #[arg(long)]
    pub exact: bool,
}

/// `carom sessions`.
#[derive(Clone, Debug, Args)]
pub struct SessionsOptions {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it")]
    pub show: ShowOptions,
    /// Only sessions of this client or prefix, e.g. 192.0.2.0/24
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub client: Option<String>,
    /// Only sessions of this service, by name or address
    #[arg(long, value_name = "NAME|VIP:PORT")]
    pub service: Option<String>,
    /// Only sessions of this real server
    #[arg(long, value_name = "RIP[:PORT]")]
    pub server: Option<String>,
    /// Only sessions in this state, e.g. established
    #[arg(long)]
    pub state: Option<String>,
    /// Only sessions with this offload state: none, installing, offloaded or removing
    #[arg(long, value_name = "STATE")]
    pub offload: Option<String>,
    /// Sessions on a page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Which page, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub page: u32,
    /// Go on where a page ended: the `next` it gave
    #[arg(long, conflicts_with = "page")]
    pub cursor: Option<String>,
    /// All pages
    #[arg(long, conflicts_with_all = ["page", "cursor", "limit"])]
    pub all: bool,
    /// Only say how many there are
    #[arg(long, conflicts_with_all = ["page", "cursor", "limit", "all"])]
    pub count: bool,
}

/// `carom ports`.
#[derive(Clone, Debug, Args)]
pub struct PortsOptions {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it")]
    pub show: ShowOptions,
    /// One line per worker instead of their sum
    #[arg(long)]
    pub by_worker: bool,
}

/// `carom drops`.
#[derive(Clone, Debug, Args)]
pub struct DropsOptions {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it")]
    pub show: ShowOptions,
    /// Also the reasons that never happened
    #[arg(long)]
    pub all: bool,
}

/// `carom reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadOptions {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it")]
    pub socket: Socket,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum Bench {
    /// Packets per second through the worker loop, with sessions already made
    Forward(Forward),
    /// New sessions per second
    Connect(Connect),
    /// Resident memory per session, everything counted
    Memory(MemoryOptions),
    /// What spoofed SYNs cost, and what they leave of good traffic
    Synflood(Synflood),
    /// Updates per second through the offload manager, beside a bare loop with the same batches
    Install(Install),
    /// Packets per second through the software switch, with a share that the slow path beside it forwards
    Softnic(SoftnicForward),
    /// Entries per second through the software switch's P4Runtime server, while packets pass
    SoftnicInstall(SoftnicInstall),
}

/// `carom bench forward`.
#[derive(Clone, Debug, Args)]
pub struct Forward {
    /// Sessions to spread the packets over
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub sessions: u32,
    /// Transport protocol of the sessions
    #[arg(long, value_enum, default_value_t = Proto::Tcp)]
    pub proto: Proto,
    /// Address family of the sessions
    #[arg(long, value_enum, default_value_t = Ip::V4)]
    pub ipv: Ip,
    /// Workers, which share the sessions
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub workers: u8,
    /// Share of the packets that arrive at another worker than their session's, and are handed over
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub handover: f64,
    /// How long to measure, in seconds
    #[arg(long, value_name = "S", default_value = "5", value_parser = interval)]
    pub seconds: f64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `carom bench connect`.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// Sessions to make; with --teardown, sessions that are open while others open and close
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub sessions: u32,
    /// Address family of the sessions
    #[arg(long, value_enum, default_value_t = Ip::V4)]
    pub ipv: Ip,
    /// Close a session for each that opens, and give back its port. Closed sessions stay for 20 ms and their ports rest for
    /// 1 s; as many open as the worker can take, so that it never waits for the clock
    #[arg(long)]
    pub teardown: bool,
    /// How long each run measures with --teardown, in seconds, rounded up to whole ticks of the timers; without it a run
    /// ends with the last session
    #[arg(long, value_name = "S", default_value = "3", value_parser = interval)]
    pub seconds: f64,
    /// Runs, of which the medians are told
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub runs: u8,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `carom bench memory`.
#[derive(Clone, Debug, Args)]
pub struct MemoryOptions {
    /// Sessions: so many the tables are made for, and so many are made
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub sessions: u32,
    /// Address family of the sessions
    #[arg(long, value_enum, default_value_t = Ip::V4)]
    pub ipv: Ip,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `carom bench synflood`.
#[derive(Clone, Debug, Args)]
pub struct Synflood {
    /// Good sessions that are open, while others open and close
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sessions: u32,
    /// Sessions the table has room for
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(200_000..=10_000_000))]
    pub table: u32,
    /// Local addresses, each with 64 511 ports towards each of ten real servers; as many as are needed when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub lips: Option<u32>,
    /// Round trip between the balancer and the good clients, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub rtt_ms: u64,
    /// Spoofed SYNs for each packet of a good client
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=15))]
    pub spoofed: u8,
    /// Address family
    #[arg(long, value_enum, default_value_t = Ip::V4)]
    pub ipv: Ip,
    /// How long to measure with the flood, in seconds
    #[arg(long, value_name = "S", default_value = "5", value_parser = interval)]
    pub seconds: f64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `carom bench install`.
#[derive(Clone, Debug, Args)]
pub struct Install {
    /// P4Runtime address of a target, HOST:PORT; a fake one in this process when absent
    #[arg(long, value_name = "ADDR")]
    pub target: Option<String>,
    /// Process of the target, when it is on this machine, to tell its CPU time
    #[arg(long, value_name = "PID", requires = "target")]
    pub target_pid: Option<u32>,
    /// Device of the target
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub device_id: u64,
    /// Sessions that are installed and removed in turn
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub sessions: u32,
    /// Address family of the sessions
    #[arg(long, value_enum, default_value_t = Ip::V4)]
    pub ipv: Ip,
    /// Sessions whose install or delete is under way at most
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub outstanding: u32,
    /// Write requests under way at most
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub in_flight: u16,
    /// Updates of a write request at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(2..=10_000))]
    pub batch: u16,
    /// How long an update waits for others to its request at most, in microseconds
    #[arg(long, value_name = "US", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub delay_us: u32,
    /// How long each run measures at least, in seconds
    #[arg(long, value_name = "S", default_value = "3", value_parser = interval)]
    pub seconds: f64,
    /// How long the target may be silent, in seconds
    #[arg(long, value_name = "S", default_value = "30", value_parser = interval)]
    pub patience: f64,
    /// Runs, of which the medians are told
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub runs: u8,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `carom bench softnic`.
#[derive(Clone, Debug, Args)]
pub struct SoftnicForward {
    /// Flows to spread the packets over
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=262_144))]
    pub flows: u32,
    /// How the program is run
    #[arg(long, value_enum, default_value_t = Code::Interpreted)]
    pub code: Code,
    /// Flows without an entry, which go through the slow path, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub punted: u32,
    /// How long to measure, in seconds
    #[arg(long, value_name = "S", default_value = "5", value_parser = interval)]
    pub seconds: f64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `carom bench softnic-install`.
#[derive(Clone, Debug, Args)]
pub struct SoftnicInstall {
    /// Entries to insert and to delete
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub entries: u32,
    /// Updates of a write request at most
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(2..=10_000))]
    pub batch: u16,
    /// How the program is run
    #[arg(long, value_enum, default_value_t = Code::Interpreted)]
    pub code: Code,
    /// The CPU of the pipeline's thread; any when absent
    #[arg(long, value_name = "CPU")]
    pub pipeline_cpu: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How a software switch runs its program, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Code {
    /// By DPDK's interpreter.
    Interpreted,
    /// As compiled C.
    Generated,
}

/// A transport protocol on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An IP version on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ip {
    /// IPv4.
    #[value(name = "4")]
    V4,
    /// IPv6.
    #[value(name = "6")]
    V6,
}

/// A share, from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a number from 0 to 1".to_owned()),
    }
}

/// Seconds, from a tenth to a day.
fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds from 0.1 to 86400".to_owned()),
    }
}
