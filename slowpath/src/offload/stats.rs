//! What the manager counts, and how it is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the target and the offload to it stand. Totals count since the manager was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where the target is, `HOST:PORT`.
    pub address: String,
    /// What it is: `bmv2`.
    pub kind: String,
    /// Which device of it.
    pub device_id: u64,
    /// The role; empty is the default one.
    pub role: String,
    /// With what the manager stands for election.
    pub election_id: u64,
    /// There is a connection.
    pub connected: bool,
    /// `disconnected`, `undecided`, `primary` or `backup`.
    pub standing: String,
    /// The cookie of the program, 16 hexadecimal digits.
    pub cookie: String,
    /// What was done to have the target run the program: `kept`, `reconciled` or `committed`; none yet.
    pub pipeline: Option<String>,
    /// Installs are taken: static tables are written and flow tables compared.
    pub ready: bool,
    /// From when on sessions are offloaded, for people: `never`, `at once`, `100 packets` and so on.
    pub threshold: String,
    /// The program's tables, by id.
    pub tables: Vec<TableStatus>,
    /// Sessions by where they are with the target.
    pub sessions: SessionCounts,
    /// Sessions installed per second, over the last few seconds.
    pub installs_per_second: f64,
    /// Sessions removed per second, over the last few seconds.
    pub removes_per_second: f64,
    /// From a worker's request to the acknowledgement of both entries.
    pub install_latency: Latency,
    /// From the decision to delete to the acknowledgement of both deletes.
    pub remove_latency: Latency,
    /// Sums.
    pub totals: Totals,
    /// Updates of flow tables that were refused, by canonical code.
    pub failures: BTreeMap<String, u64>,
    /// The last thing that went wrong, for people; none yet.
    pub last_error: Option<String>,
    /// Packets that the switch punted, by reason; empty when it could not be asked.
    pub punts: BTreeMap<String, u64>,
    /// Packets that the switch dropped, by reason; empty when it could not be asked.
    pub drops: BTreeMap<String, u64>,
}

/// A table of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Its name.
    pub name: String,
    /// Entries it has room for; where the target had less, that.
    pub size: u64,
    /// Entries the manager has in it.
    pub entries: u64,
}

/// Sessions by where they are with the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Installs that wait for the entries of their next hops.
    pub waiting: u64,
    /// Installs under way.
    pub installing: u64,
    /// Both entries are in force.
    pub offloaded: u64,
    /// Entries are being deleted after an install that failed.
    pub undoing: u64,
    /// Entries are being deleted.
    pub removing: u64,
}

/// A distribution of times, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Sums since the manager was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sessions installed.
    pub installed: u64,
    /// Sessions removed, asked or unasked.
    pub removed: u64,
    /// Installs refused, for whatever reason.
    pub refused: u64,
    /// Installs refused because a flow table was full.
    pub refused_full: u64,
    /// Installs refused because a next hop had no MAC address.
    pub refused_nexthop: u64,
    /// Installs refused because the target could not be written to.
    pub refused_not_ready: u64,
    /// Installs that found an entry of their key.
    pub already_there: u64,
    /// Operations without a clear answer.
    pub unknown: u64,
    /// Operations that never left.
    pub not_sent: u64,
    /// Sweeps that came to their end.
    pub sweeps: u64,
    /// Entries without a session that were deleted.
    pub orphans: u64,
    /// Sessions whose entries were lost.
    pub lost: u64,
    /// Idle notices of the target.
    pub notices: u64,
    /// Times a worker asked whether a session is idle.
    pub checks: u64,
    /// Sessions that were found idle.
    pub idle: u64,
    /// Requests that the rules of the rings do not allow.
    pub misplaced: u64,
}
