//! Schedulers: which real server a new session goes to.

/// How a service chooses its real servers, by the names LVS gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SchedulerKind {
    /// `rr`: each server in turn.
    #[default]
    RoundRobin,
    /// `wrr`: each in turn, by weight, interleaved.
    WeightedRoundRobin,
    /// `lc`: the one with the fewest sessions.
    LeastConnections,
    /// `wlc`: the one with the fewest sessions for its weight.
    WeightedLeastConnections,
    /// `sh`: by a hash of the client's address.
    SourceHash {
        /// Hash the client's port too.
        with_port: bool,
    },
    /// `mh`: Maglev hashing (Eisenbud et al., NSDI 2016).
    Maglev {
        /// Hash the client's port too.
        with_port: bool,
        /// Size of the lookup table, a prime.
        table_size: u32,
    },
}
