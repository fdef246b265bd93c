//! What the manager counts, and how it is shown.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use hdrhistogram::Histogram;
use runtime_client::Code;
use serde::{Deserialize, Serialize};

/// How the target and the offload to it stand. Totals count since the manager was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where the target is, `HOST:PORT`.
    pub address: String,
    /// What it is: `bmv2` or `softnic`.
    pub kind: String,
    /// How the program keeps flows: `plain`, or by `ids`.
    pub program: String,
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
    /// Installs refused because the small tables of the program by ids had no id left, or the target did not take their entries.
    pub refused_ids: u64,
    /// Installs refused because the target keeps a hash of inbound keys, and has the same one of another session.
    pub refused_hash: u64,
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
    /// Sessions of an earlier life that were adopted.
    pub adopted: u64,
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

/// Rates are averages over so many seconds.
const RATE_SECONDS: usize = 5;

/// What the book counts.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Sums.
    pub totals: Totals,
    /// Times of installs.
    pub installs: Times,
    /// Times of removes.
    pub removes: Times,
    /// By number of the canonical code.
    failures: [u64; 17],
    /// Sessions installed and removed until each of the last seconds.
    seconds: VecDeque<(u64, u64)>,
}

impl Stats {
    /// An update was refused.
    pub fn refused_with(&mut self, code: Code) {
        if let Some(count) = self.failures.get_mut(code as usize) {
            *count += 1;
        }
    }

    /// Refusals by code, those that there were.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        let named = |(number, count): (usize, &u64)| (format!("{:?}", Code::from(number as i32)), *count);
        self.failures.iter().enumerate().filter(|(_, count)| **count > 0).map(named).collect()
    }

    /// A second went by.
    pub fn second(&mut self) {
        if self.seconds.len() > RATE_SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back((self.totals.installed, self.totals.removed));
    }

    /// Sessions installed and removed per second.
    pub fn rates(&self) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.seconds.front(), self.seconds.back()) else { return (0.0, 0.0) };
        let seconds = (self.seconds.len() - 1).max(1) as f64;
        ((last.0 - first.0) as f64 / seconds, (last.1 - first.1) as f64 / seconds)
    }
}

/// Times in microseconds, up to a minute, with two digits.
pub(super) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        const MINUTE: u64 = 60_000_000;
        Times(Histogram::new_with_bounds(1, MINUTE, 2).expect("bounds and digits are what the crate takes"))
    }
}

impl Times {
    /// One more; longer than a minute is a minute.
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us);
    }

    /// The distribution.
    pub fn latency(&self) -> Latency {
        let at = |share| self.0.value_at_quantile(share);
        Latency { count: self.0.len(), p50_us: at(0.5), p99_us: at(0.99), max_us: self.0.max() }
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.latency().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_two_digits() {
        let mut times = Times::default();
        (1..=1000).for_each(|us| times.record(us));
        times.record(u64::MAX);
        let latency = times.latency();
        assert_eq!(latency.count, 1001);
        assert!((495..=510).contains(&latency.p50_us) && (985..=1000).contains(&latency.p99_us), "{latency:?}");
        assert!(latency.max_us >= 60_000_000);
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut stats = Stats::default();
        assert_eq!(stats.rates(), (0.0, 0.0));
        for second in 0..20 {
            stats.totals.installed += if second < 10 { 1000 } else { 10 };
            stats.totals.removed += 5;
            stats.second();
        }
        assert_eq!(stats.rates(), (10.0, 5.0));
    }

    #[test]
    fn failures_go_by_their_codes() {
        let mut stats = Stats::default();
        stats.refused_with(Code::ResourceExhausted);
        stats.refused_with(Code::ResourceExhausted);
        stats.refused_with(Code::Unknown);
        let expected = [("ResourceExhausted", 2), ("Unknown", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(stats.failures(), BTreeMap::from(expected));
    }
}
