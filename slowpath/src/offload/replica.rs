//! What the static tables are to hold, and what brings them there: next hops, services, addresses, ports. Pure.
//!
//! Each entry is brought to its wanted state by itself: one operation under way at a time, whose outcome says where
//! the entry is now and so what comes next. Nothing depends on the order in which things change.
//!
//! | table | entries |
//! |---|---|
//! | `nexthop` | each next hop whose MAC address is known, and each that had one while the same neighbour holds its id |
//! | `service_*` | every service; those of earlier plans too while there is room, since their sessions go on |
//! | `local_*` | our addresses; those of earlier plans too; and what is needed to hear the announcements of next hops |
//! | `slowpath` | the link's port, for each worker |
//! | `inject` | the link's port |
//! | `port` | each port of the switch that is an interface of ours |
//! | small tables of the program by ids | what the ids of flow entries stand for: [`Replica::want_small`] |
//!
//! A flow entry names its next hops by [label](labels). Sessions hold the next hops until their entries are deleted, so a label that
//! is gone from the next-hop table is gone from the flow tables too.

mod desired;
mod labels;
mod row;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::IpAddr;

use fullnat::id::NexthopId;
use fullnat::neighbor::Neighbors;
use fullnat::plan::Plan;
use hashbrown::{HashMap, HashSet};
use runtime_client::Code;
use runtime_client::write::Kind;

use super::PuntRate;
use super::book::{End, Moment, Reach};
use desired::Former;
use labels::Labels;
pub use labels::relabel;
pub use row::{RowAction, RowKey, row_of};

/// The wait after the first failure of an entry; doubled from one to the next.
const FIRST_WAIT_MS: u64 = 50;
/// No wait is longer.
const LONGEST_WAIT_MS: u64 = 5_000;

/// Where the slow path and the interfaces are at the switch.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The slow path's.
    pub link: u32,
    /// By interface id.
    pub interfaces: Vec<u32>,
    /// Workers of the slow path.
    pub workers: u8,
    /// Most punts of each service.
    pub punt_rate: Option<PuntRate>,
}

/// What is known of an entry in the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Actual {
    /// Not there.
    Absent,
    /// There, and does this.
    Present(RowAction),
    /// A write had no answer.
    Unknown,
}

/// What is to be done with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Insert, modify or delete it.
    Write(Kind),
    /// Set its meter.
    Meter(PuntRate),
}

#[derive(Clone, Copy, Debug)]
struct Row {
    number: u32,
    desired: Option<RowAction>,
    actual: Actual,
    /// Its meter is as it should be, or it has none.
    metered: bool,
    /// What is under way, and what the entry does after it.
    busy: Option<(Step, Option<RowAction>)>,
    /// It stands in the queue, or among those that wait.
    queued: bool,
    failures: u8,
    /// Of the last look at the target.
    found: bool,
}

/// A write for the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// What it is called when it is settled.
    pub number: u32,
    /// What is to be done.
    pub step: Step,
    /// The entry.
    pub key: RowKey,
    /// What it is to do; a delete needs none.
    pub action: Option<RowAction>,
}

/// The static tables.
#[derive(Debug)]
pub struct Replica {
    ports: Ports,
    rows: HashMap<RowKey, Row>,
    by_number: HashMap<u32, RowKey>,
    last_number: u32,
    queue: VecDeque<RowKey>,
    waiting: BinaryHeap<Reverse<(Moment, u32)>>,
    former: Former,
    neighbors_version: Option<u64>,
    /// What next hops are called.
    labels: Labels,
    /// It is known which labels an earlier life used.
    labels_known: bool,
    /// Whose next hop an id was when its entry was made.
    hops: HashMap<NexthopId, desired::Hop>,
    /// What the plan asks for.
    planned: HashSet<RowKey>,
    /// The IPv4 addresses of next hops, as far as they are not ours.
    heard: HashSet<RowKey>,
    /// What flow entries name is written too, not only the rest.
    with_named: bool,
    /// Entries of small tables that are gone, as was wanted.
    gone: Vec<RowKey>,
    under_way: usize,
    /// Goes up when what [`Replica::reach`] answers may have changed.
    changes: u64,
    /// Meters that the target does not take.
    meters_refused: Option<Code>,
}

impl Replica {
    /// The tables for a first plan, before anything is known of the target.
    pub fn new(ports: Ports, plan: &Plan) -> Self {
        let mut replica = Replica {
            ports,
            rows: HashMap::new(),
            by_number: HashMap::new(),
            last_number: 0,
            queue: VecDeque::new(),
            waiting: BinaryHeap::new(),
            former: Former::default(),
            neighbors_version: None,
            labels: Labels::default(),
            labels_known: false,
            hops: HashMap::new(),
            planned: HashSet::new(),
            heard: HashSet::new(),
            with_named: false,
            gone: Vec::new(),
            under_way: 0,
            changes: 0,
            meters_refused: None,
        };
        replica.set_plan(plan);
        replica
    }

    /// Another plan is in force.
    pub fn set_plan(&mut self, plan: &Plan) {
        let wanted = self.former.wanted(&self.ports, plan);
        let planned: HashSet<RowKey> = wanted.keys().copied().collect();
        for key in std::mem::replace(&mut self.planned, planned) {
            if !self.planned.contains(&key) {
                self.want(key, None);
            }
        }
        wanted.into_iter().for_each(|(key, action)| self.want(key, Some(action)));
        // Interfaces' MAC addresses are part of next hops.
        self.former.set_macs(plan);
        self.neighbors_version = None;
    }

    /// Another limit of punts. Without one, meters that had one get one that nothing reaches.
    pub fn set_punt_rate(&mut self, rate: Option<PuntRate>) {
        let rate = rate.or(self.ports.punt_rate.map(|_| PuntRate::NO_LIMIT));
        if rate == self.ports.punt_rate {
            return;
        }
        self.ports.punt_rate = rate;
        let metered: Vec<RowKey> = self.rows.keys().filter(|key| key.has_meter()).copied().collect();
        for key in metered {
            if let Some(row) = self.rows.get_mut(&key) {
                row.metered = false;
            }
            self.enqueue(key);
        }
    }

    /// Looks at the next-hop table if it changed since the last time.
    pub fn follow(&mut self, neighbors: &Neighbors) {
        // First the number, then the entries: what changes in between is looked at again.
        let version = neighbors.version();
        if self.neighbors_version.replace(version) == Some(version) {
            return;
        }
        self.changes += 1;
        let mut held = HashMap::with_capacity(self.hops.len());
        let mut hear = Vec::with_capacity(self.heard.len());
        for neighbor in neighbors.iter() {
            hear.extend(Some(neighbor.addr).filter(IpAddr::is_ipv4));
            if self.labels_known
                && let Some((hop, action)) = self.former.hop(&self.ports, &neighbor, self.hops.get(&neighbor.id))
            {
                held.insert(neighbor.id, hop);
                let label = self.labels.of(neighbor.id);
                self.want(desired::nexthop(label), Some(action));
            }
        }
        if self.labels_known {
            let gone = self.hops.keys().filter(|id| !held.contains_key(*id)).filter_map(|id| self.labels.known(*id));
            gone.collect::<Vec<_>>().into_iter().for_each(|label| self.want(desired::nexthop(label), None));
            self.hops = held;
        }
        self.hear(&hear);
    }

    /// A next hop that gets another MAC address announces it by an ARP packet that is about its own address (RFC 5227 section
    /// 3): that is punted as if the address were ours. What has ports is not. IPv6 has a group for it, which is planned.
    fn hear(&mut self, addresses: &[IpAddr]) {
        let mut room: HashMap<u32, u64> = HashMap::new();
        let mut hear = HashSet::with_capacity(addresses.len());
        for address in addresses {
            let (key, action) = desired::local(*address, false);
            let table = key.table();
            let room = room.entry(table.id).or_insert_with(|| {
                let planned = self.planned.iter().filter(|key| key.table().id == table.id).count();
                table.size.saturating_sub(planned as u64)
            });
            // Which one is left out when there are too many does not matter: it is asked again from time to time anyway.
            if *room > 0 && !self.planned.contains(&key) && hear.insert(key) {
                *room -= 1;
                self.want(key, Some(action));
            }
        }
        for key in std::mem::replace(&mut self.heard, hear) {
            if !self.heard.contains(&key) && !self.planned.contains(&key) {
                self.want(key, None);
            }
        }
    }

    /// How far the entry of the next hop is that is called so.
    pub fn reach(&self, neighbors: &Neighbors, label: NexthopId) -> Reach {
        let Some(hop) = self.labels.hop(label).and_then(|id| neighbors.hop(id)) else { return Reach::None };
        let (Some(mac), Some(row)) = (hop.mac, self.rows.get(&desired::nexthop(label))) else {
            // Known since the last look: the next one comes at once.
            let known = hop.mac.is_some() && self.neighbors_version != Some(neighbors.version());
            return if known { Reach::Pending } else { Reach::None };
        };
        match (row.actual, row.desired) {
            (Actual::Present(there), Some(wanted)) if there == wanted && row.busy.is_none() => {
                let current = self.former.forward(&self.ports, hop.iface, mac) == Some(there);
                if current { Reach::Ready } else { Reach::Pending }
            }
            _ if row.failures > 0 => Reach::None,
            _ => Reach::Pending,
        }
    }

    /// Goes up when what [`Replica::reach`] answers may have changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn want(&mut self, key: RowKey, desired: Option<RowAction>) {
        let row = self.row(key);
        if row.desired != desired {
            (row.desired, row.failures) = (desired, 0);
            self.enqueue(key);
        }
    }

    fn row(&mut self, key: RowKey) -> &mut Row {
        self.rows.entry(key).or_insert_with(|| {
            self.last_number += 1;
            self.by_number.insert(self.last_number, key);
            Row {
                number: self.last_number,
                desired: None,
                actual: Actual::Absent,
                metered: false,
                busy: None,
                queued: false,
                failures: 0,
                found: false,
            }
        })
    }

    fn enqueue(&mut self, key: RowKey) {
        if let Some(row) = self.rows.get_mut(&key)
            && !std::mem::replace(&mut row.queued, true)
        {
            self.queue.push_back(key);
        }
    }

    /// What flow entries name is written from now on. Before, those of an earlier life may name ids that are others' now.
    pub fn set_with_named(&mut self, with: bool) {
        if with && !self.with_named {
            let named: Vec<RowKey> = self.rows.keys().filter(|key| key.is_named()).copied().collect();
            named.into_iter().for_each(|key| self.enqueue(key));
            self.labels.forget_earlier();
            self.labels_known = true;
            self.neighbors_version = None;
        }
        self.with_named = with;
    }

    /// An entry of a small table is to do this; none: it is to go.
    pub fn want_small(&mut self, key: RowKey, action: Option<RowAction>) {
        self.want(key, action);
    }

    /// The entries of small tables that were to go and are gone.
    pub fn gone_small(&mut self) -> std::vec::Drain<'_, RowKey> {
        self.gone.drain(..)
    }

    /// How far an entry of a small table is that has to do this.
    pub fn reach_small(&self, key: &RowKey, action: &RowAction) -> Reach {
        match self.rows.get(key) {
            Some(row) if row.desired == Some(*action) => match row.actual {
                Actual::Present(there) if there == *action && row.busy.is_none() => Reach::Ready,
                _ if row.failures > 0 => Reach::None,
                _ => Reach::Pending,
            },
            // It was wanted a moment ago.
            _ => Reach::Pending,
        }
    }

    /// The next write for the target; it has to be settled.
    pub fn next_write(&mut self, now: Moment) -> Option<Write> {
        while let Some(Reverse((due, number))) = self.waiting.peek().copied()
            && due <= now
        {
            self.waiting.pop();
            if let Some(key) = self.by_number.get(&number) {
                self.queue.push_back(*key);
            }
        }
        while let Some(key) = self.queue.pop_front() {
            let metered = self.ports.punt_rate.filter(|_| key.has_meter() && self.meters_refused.is_none());
            let Some(row) = self.rows.get_mut(&key) else { continue };
            row.queued = false;
            if row.busy.is_some() || (!self.with_named && key.is_named()) {
                continue;
            }
            let Some(step) = row.step(metered) else {
                if row.desired.is_none() {
                    self.by_number.remove(&row.number);
                    self.rows.remove(&key);
                    self.gone.extend(Some(key).filter(RowKey::is_small));
                }
                continue;
            };
            row.busy = Some((step, row.desired));
            self.under_way += 1;
            return Some(Write { number: row.number, step, key, action: row.desired });
        }
        None
    }

    /// The end of a write.
    pub fn settled(&mut self, number: u32, end: End, now: Moment) {
        self.under_way = self.under_way.saturating_sub(1);
        self.changes += 1;
        let Some(key) = self.by_number.get(&number).copied() else { return };
        let Some(row) = self.rows.get_mut(&key) else { return };
        let Some((step, action)) = row.busy.take() else { return };
        // Newer than what a look under way reads.
        row.found = true;
        let failed = match row.settle(step, action, end, self.ports.punt_rate) {
            Settle::Done => false,
            Settle::Failed => true,
            Settle::NoMeters(code) => {
                self.meters_refused = Some(code);
                false
            }
        };
        if !failed {
            row.failures = 0;
            return self.enqueue(key);
        }
        let wait = (FIRST_WAIT_MS << row.failures.min(10)).min(LONGEST_WAIT_MS);
        row.failures = row.failures.saturating_add(1);
        if !std::mem::replace(&mut row.queued, true) {
            self.waiting.push(Reverse((now.after(wait), number)));
        }
    }

    /// Everything but what flow entries name is as it should be, or as near as the target lets it come.
    pub fn is_settled(&self) -> bool {
        self.under_way == 0 && self.queue.iter().all(|key| key.is_named() && !self.with_named)
    }

    /// A look at all static tables begins. `empty`: it is known that they are.
    pub fn look_begin(&mut self, empty: bool) {
        // Whatever failed may do so no more.
        for Reverse((_, number)) in std::mem::take(&mut self.waiting) {
            self.queue.extend(self.by_number.get(&number));
        }
        for row in self.rows.values_mut() {
            (row.found, row.failures) = (false, 0);
            if empty {
                (row.actual, row.metered) = (Actual::Absent, false);
            }
        }
        if empty {
            self.look_end();
        }
    }

    /// An entry of a static table.
    pub fn look_found(&mut self, key: RowKey, action: RowAction) {
        if let RowKey::Nexthop(key) = key
            && !self.with_named
        {
            self.labels.found(NexthopId(key.nexthop));
        }
        let row = self.row(key);
        row.found = true;
        // What is under way is newer than what was read.
        if row.busy.is_none() {
            row.actual = Actual::Present(action);
        }
    }

    /// All of them were read.
    pub fn look_end(&mut self) {
        let keys: Vec<RowKey> = self.rows.keys().copied().collect();
        for key in keys {
            if let Some(row) = self.rows.get_mut(&key) {
                if !row.found && row.busy.is_none() {
                    (row.actual, row.metered) = (Actual::Absent, false);
                }
                self.enqueue(key);
            }
        }
        self.changes += 1;
    }

    /// Entries that the target has of a table, as far as is known.
    pub fn entries(&self, table: u32) -> u64 {
        let there = |(key, row): &(&RowKey, &Row)| key.table().id == table && row.actual != Actual::Absent;
        self.rows.iter().filter(there).count() as u64
    }
}

/// What the end of a step means.
enum Settle {
    Done,
    Failed,
    NoMeters(Code),
}

impl Row {
    /// What has to be done next; none: it is as it should be.
    fn step(&self, meter: Option<PuntRate>) -> Option<Step> {
        match (self.desired, self.actual) {
            (None, Actual::Absent) => None,
            (None, _) => Some(Step::Write(Kind::Delete)),
            (Some(_), Actual::Absent) => Some(Step::Write(Kind::Insert)),
            (Some(wanted), Actual::Present(there)) if wanted == there => {
                meter.filter(|_| !self.metered).map(Step::Meter)
            }
            // If it is not there, the answer says so.
            (Some(_), _) => Some(Step::Write(Kind::Modify)),
        }
    }

    /// `meter`: what it has to be now.
    fn settle(&mut self, step: Step, action: Option<RowAction>, end: End, meter: Option<PuntRate>) -> Settle {
        match (step, end) {
            (Step::Write(kind), _) if is_done(kind, end) => match action.filter(|_| kind != Kind::Delete) {
                // A new state may come with a new meter.
                Some(action) => (self.actual, self.metered) = (Actual::Present(action), false),
                None => (self.actual, self.metered) = (Actual::Absent, false),
            },
            (Step::Meter(rate), End::Applied) => self.metered = meter == Some(rate),
            // Targets without meters are nothing to give up over: they protect the slow path less, that is all.
            (Step::Meter(_), End::Refused(code @ (Code::Unimplemented | Code::InvalidArgument))) => {
                return Settle::NoMeters(code);
            }
            (Step::Write(Kind::Modify) | Step::Meter(_), End::Refused(Code::NotFound)) => {
                (self.actual, self.metered) = (Actual::Absent, false);
            }
            (Step::Write(Kind::Insert), End::Refused(Code::AlreadyExists)) => self.actual = Actual::Unknown,
            (Step::Write(_), End::Unknown) => {
                self.actual = Actual::Unknown;
                return Settle::Failed;
            }
            (_, End::Refused(_) | End::Applied | End::Unknown | End::NotSent) => return Settle::Failed,
        }
        Settle::Done
    }
}

/// Whether a write had its effect.
fn is_done(kind: Kind, end: End) -> bool {
    end == End::Applied || (kind == Kind::Delete && end == End::Refused(Code::NotFound))
}

#[cfg(test)]
mod tests;
