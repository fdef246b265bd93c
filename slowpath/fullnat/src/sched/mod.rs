//! Schedulers: which real server a new session goes to.
//!
//! Each worker has a [`Scheduler`] per service. Workers share nothing but the servers' session counts
//! ([`Loads`]) and, for the hashing kinds, the table that control built with the plan. So `rr` and `wrr` run
//! per worker: each worker's turns are exact over its own cycle, and workers begin their cycles at points
//! spread evenly, so that the sum over workers is even too.
//!
//! Weight 0 takes a server out of every choice; `max_connections` is counted over all workers and never exceeded.

mod least;
mod loads;
mod maglev;
mod rendezvous;
mod table;
mod turns;

use std::fmt;
use std::str::FromStr;

pub use loads::Loads;
pub use maglev::{DEFAULT_TABLE_SIZE, is_prime};
pub use table::HashTable;

use crate::addr::Addr;
use crate::id::{CPort, ServerId, ServiceId, WorkerId};
use crate::plan::{Plan, Server, Service};
use crate::reason::DropReason;
use turns::Turns;

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
        /// Size of the lookup table, a prime (any other number is raised to the next prime).
        table_size: u32,
    },
}

impl SchedulerKind {
    /// The name in configuration and listings.
    pub fn name(self) -> &'static str {
        match self {
            SchedulerKind::RoundRobin => "rr",
            SchedulerKind::WeightedRoundRobin => "wrr",
            SchedulerKind::LeastConnections => "lc",
            SchedulerKind::WeightedLeastConnections => "wlc",
            SchedulerKind::SourceHash { .. } => "sh",
            SchedulerKind::Maglev { .. } => "mh",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no scheduler's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownScheduler(pub String);

impl fmt::Display for UnknownScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown scheduler {:?}: it is one of rr, wrr, lc, wlc, sh, mh", self.0)
    }
}

impl std::error::Error for UnknownScheduler {}

impl FromStr for SchedulerKind {
    type Err = UnknownScheduler;

    /// Reads a name. The hashing kinds hash the address only; `mh` gets the default table size.
    fn from_str(name: &str) -> Result<Self, UnknownScheduler> {
        Ok(match name {
            "rr" => SchedulerKind::RoundRobin,
            "wrr" => SchedulerKind::WeightedRoundRobin,
            "lc" => SchedulerKind::LeastConnections,
            "wlc" => SchedulerKind::WeightedLeastConnections,
            "sh" => SchedulerKind::SourceHash { with_port: false },
            "mh" => SchedulerKind::Maglev { with_port: false, table_size: DEFAULT_TABLE_SIZE },
            _ => return Err(UnknownScheduler(name.to_owned())),
        })
    }
}

/// The servers of a service that may be chosen, in configured order. A [`HashTable`] holds positions in this order.
pub(crate) fn eligible<'a>(service: &'a Service, plan: &'a Plan) -> impl Iterator<Item = &'a Server> {
    service.servers.iter().filter_map(|&id| plan.server(id)).filter(|s| s.weight > 0)
}

/// Counts a session on the very server a client is remembered with. False, with nothing counted, when that server is
/// not one of the service's any more, takes no new sessions (weight 0), or is full: then [`Scheduler::pick`] decides.
pub fn rejoin(plan: &Plan, service: ServiceId, server: ServerId, loads: &mut Loads) -> bool {
    let takes = |s: &Server| s.service == service && s.weight > 0 && loads.begin(s.id, s.max_connections);
    plan.server(server).is_some_and(takes)
}

/// A server as a scheduler sees it.
#[derive(Debug)]
struct Candidate {
    id: ServerId,
    weight: u16,
    max_connections: u32,
}

impl Candidate {
    #[inline]
    fn begin(&self, loads: &mut Loads) -> bool {
        loads.begin(self.id, self.max_connections)
    }

    /// Sessions on it now; `None` when no more are allowed.
    fn load(&self, loads: &Loads) -> Option<u32> {
        let active = loads.active(self.id);
        (self.max_connections == 0 || active < self.max_connections).then_some(active)
    }
}

/// One worker's choice of servers for one service.
#[derive(Debug)]
pub struct Scheduler {
    candidates: Box<[Candidate]>,
    method: Method,
}

#[derive(Debug)]
enum Method {
    Turns(Turns),
    Least {
        weighted: bool,
        /// Decides between equals.
        turns: Turns,
    },
    Hash {
        table: HashTable,
        with_port: bool,
    },
}

impl Scheduler {
    /// The scheduler of a service, fresh. `worker` decides where its turns begin.
    pub fn new(service: &Service, plan: &Plan, worker: WorkerId) -> Self {
        let candidate = |s: &Server| Candidate { id: s.id, weight: s.weight, max_connections: s.max_connections };
        let candidates: Box<[_]> = eligible(service, plan).map(candidate).collect();
        let even = || Turns::even(candidates.len(), service.id, worker);
        let weighted = || Turns::weighted(candidates.iter().map(|c| c.weight), service.id, worker);
        let hash = |with_port| Method::Hash { table: plan.hash_table(service.id), with_port };
        let method = match service.scheduler {
            SchedulerKind::RoundRobin => Method::Turns(even()),
            SchedulerKind::WeightedRoundRobin => Method::Turns(weighted()),
            SchedulerKind::LeastConnections => Method::Least { weighted: false, turns: even() },
            SchedulerKind::WeightedLeastConnections => Method::Least { weighted: true, turns: weighted() },
            SchedulerKind::SourceHash { with_port } | SchedulerKind::Maglev { with_port, .. } => hash(with_port),
        };
        Scheduler { candidates, method }
    }

    /// Goes on where `old`, the scheduler of the same service under the last plan, was: with the same server, or with
    /// the next of the old ones that is still there. Allocates nothing, so a worker may call it.
    pub fn continue_from(&mut self, old: &Scheduler) {
        let (Some(before), Some(turns)) = (old.turns(), self.turns()) else { return };
        let at = turns.continued(before, &old.candidates, &self.candidates);
        match &mut self.method {
            Method::Turns(turns) | Method::Least { turns, .. } => turns.go_to(at),
            Method::Hash { .. } => {}
        }
    }

    /// Chooses a server for a new session from `client:cport` and counts the session on it in `loads`. The caller owes
    /// that server one [`Loads::end`]: when the session ends, or at once if it cannot be made.
    ///
    /// [`DropReason::NoServer`]: no server has a weight above 0. [`DropReason::ServersFull`]: all of those are at their
    /// `max_connections`.
    ///
    /// Costs O(log servers) for `rr` and `wrr`, O(servers) for `lc` and `wlc`, O(1) for `sh` and `mh`; O(servers) for
    /// all when servers are full.
    pub fn pick<A: Addr>(&mut self, client: A, cport: CPort, loads: &mut Loads) -> Result<ServerId, DropReason> {
        if self.candidates.is_empty() {
            return Err(DropReason::NoServer);
        }
        let chosen = match &mut self.method {
            Method::Turns(turns) => turns.pick(&self.candidates, loads),
            Method::Least { weighted, turns } => least::pick(turns, *weighted, &self.candidates, loads),
            Method::Hash { table, with_port } => {
                table.pick(&self.candidates, table::client_hash(client, with_port.then_some(cport)), loads)
            }
        };
        chosen.map(|c| c.id).ok_or(DropReason::ServersFull)
    }

    fn turns(&self) -> Option<&Turns> {
        match &self.method {
            Method::Turns(turns) | Method::Least { turns, .. } => Some(turns),
            Method::Hash { .. } => None,
        }
    }
}

/// The first from position `start` on, around the end, that takes the session.
fn first_with_room<'a>(candidates: &'a [Candidate], start: usize, loads: &mut Loads) -> Option<&'a Candidate> {
    let (before, from) = candidates.split_at(start.min(candidates.len()));
    from.iter().chain(before).find(|c| c.begin(loads))
}

#[cfg(test)]
mod tests;
