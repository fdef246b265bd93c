//! The book of sessions: who has which entries in the target, and what comes next for each. Pure: no task, no clock.
//!
//! ```text
//!                 next hops ready              both applied
//!  Install ─▶ waiting ─────────▶ inserting ──────────────────▶ offloaded ─▶ Installed
//!                │ no MAC            │ none applied                │ Remove          │ an entry is missing
//!                ▼                   ▼                             ▼                 │
//!             Refused ◀───────── Refused                        reading              │
//!                ▲                   │ some, or nobody knows       │ read, or not     │
//!                │                   ▼                             ▼                 │
//!                └─────────────── cleaning                      cleaning ◀───────────┘
//!                 both are gone for sure                           │ both are gone for sure
//!                                                                  ▼
//!                                                               Removed
//! ```
//!
//! What it wants done stands in queues that the caller empties: [`Book::next_write`], [`Book::next_looks`],
//! [`Book::next_verdict`]. Each session has one operation under way at most.
//!
//! An insert without answer may be applied late, as long as its connection lives. So its entries are deleted twice, with a
//! pause in between, each time until the target says that they are gone; the session goes on in the slow path meanwhile. Later
//! than that, an entry is an orphan, which the next sweep finds.

mod adopt;
mod look;
mod room;
mod session;
mod settle;
mod sweep;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use carom_p4::{FlowV4Key, FlowV6Key};
use fullnat::flow::Direction;
use fullnat::id::WorkerId;
use fullnat::offload::{AnyEnds, Request, Threshold, Verdict};
use hashbrown::{HashMap, HashSet};

use super::Policy;
use super::flows::{FlowKey, Flows, Need};
use super::stats::{SessionCounts, Stats};
use super::strays::Pair;
pub use look::Look;
pub use room::ENTRIES;
use room::Room;
use session::{Answer, Cleanup, DIRECTIONS, Phase, Session};
pub use session::{Count, Family, Found, Moment, SessionId, Sides};
pub use settle::End;

/// Installs that may wait for next hops; with more, requests stay in the rings.
const MOST_WAITING: usize = 1024;
/// Writes that may wait for the writer; with more, requests stay in the rings.
const MOST_WRITES: usize = 1024;
/// After an install that found an old entry of its key: by then that entry is gone.
const SHORT_RETRY_MS: u64 = 100;

/// What a book is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct BookConfig {
    /// After a refused install a session is not asked for again for so long.
    pub retry_ms: u64,
    /// Between the two passes over entries that nobody knows of.
    pub grace_ms: u64,
    /// Entries the flow tables have room for, IPv4 and IPv6.
    pub size: [u64; 2],
    /// A refusal with UNKNOWN means that the table is full.
    pub unknown_is_full: bool,
    /// Operations that may be under way.
    pub operations: usize,
    /// Entries count.
    pub counts: bool,
}

/// How far something is that entries name: a next hop, or an entry of a small table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Its entry is acknowledged, with the MAC address the neighbour has now.
    Ready,
    /// Its entry is being written.
    Pending,
    /// There is no MAC address, or the target does not take the entry.
    None,
}

/// Writes for the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Both entries of a session, as one operation.
    Insert {
        /// The session.
        id: SessionId,
        /// What the entries are made of.
        ends: AnyEnds,
        /// Milliseconds without a packet after which the target gives notice.
        idle_ms: u64,
    },
    /// Some of a session's entries, as one operation.
    Delete {
        /// The session.
        id: SessionId,
        /// What the entries are made of.
        ends: AnyEnds,
        /// Which.
        sides: Sides,
    },
    /// An entry without a session.
    Orphan {
        /// What it is called when it is settled.
        ticket: u32,
        /// The entry.
        key: FlowKey,
    },
}

/// Whose entry it is.
#[derive(Clone, Copy, Debug)]
struct Owner {
    id: SessionId,
    direction: Direction,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    config: BookConfig,
    flows: Flows,
    sessions: HashMap<SessionId, Session>,
    v4: HashMap<FlowV4Key, Owner>,
    v6: HashMap<FlowV6Key, Owner>,
    rooms: [Room; 2],
    /// The target takes writes.
    writable: bool,
    /// Installs are taken.
    ready: bool,
    waiting: VecDeque<SessionId>,
    /// Cleanups that wait for their time.
    due: BinaryHeap<Reverse<(Moment, SessionId)>>,
    writes: VecDeque<Write>,
    looks: VecDeque<SessionId>,
    verdicts: VecDeque<(WorkerId, Verdict)>,
    /// Writes that were given out and are not settled.
    under_way: usize,
    last_look: u32,
    sweep: u32,
    /// That sweep came to its end.
    swept: bool,
    orphans: HashMap<u32, FlowKey>,
    orphan_keys: HashSet<FlowKey>,
    last_orphan: u32,
    orphans_left: u64,
    /// Sessions offered to workers, by ticket, and the keys of their entries.
    offers: HashMap<u32, Pair>,
    offered_keys: HashSet<FlowKey>,
    last_offer: u32,
    /// Offers up to this one were of entries that are gone.
    wiped_offers: u32,
    /// Entries of sessions that were adopted may lead elsewhere; they are being deleted.
    unfit: bool,
    counts: SessionCounts,
    /// What happened so far.
    pub stats: Stats,
}

impl Book {
    /// An empty book of a target that takes nothing yet.
    pub fn new(config: BookConfig, flows: Flows) -> Self {
        Book {
            flows,
            sessions: HashMap::new(),
            v4: HashMap::new(),
            v6: HashMap::new(),
            rooms: config.size.map(Room::new),
            config,
            writable: false,
            ready: false,
            waiting: VecDeque::new(),
            due: BinaryHeap::new(),
            writes: VecDeque::new(),
            looks: VecDeque::new(),
            verdicts: VecDeque::new(),
            under_way: 0,
            last_look: 0,
            sweep: 0,
            swept: false,
            orphans: HashMap::new(),
            orphan_keys: HashSet::new(),
            last_orphan: 0,
            orphans_left: 0,
            offers: HashMap::new(),
            offered_keys: HashSet::new(),
            last_offer: 0,
            wiped_offers: 0,
            unfit: false,
            counts: SessionCounts::default(),
            stats: Stats::default(),
        }
    }

    /// Whether a worker's request may be taken from its ring now.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING && self.writes.len() < MOST_WRITES
    }

    /// Takes a worker's request.
    pub fn request(&mut self, worker: WorkerId, request: Request, now: Moment, reach: impl Fn(&Need) -> Reach) {
        match request {
            Request::Install { place, ends, idle_ms } => {
                self.install(SessionId::new(worker, place), ends, idle_ms, now, reach);
            }
            Request::Remove { place } => self.remove(SessionId::new(worker, place), now),
            Request::Check { place } => self.check(SessionId::new(worker, place)),
            Request::Adopted { ticket, place, idle_ms, stays, .. } => {
                self.adopted(ticket, worker, place, idle_ms, stays, now);
            }
            Request::Declined { ticket } => self.declined(ticket),
        }
    }

    fn install(&mut self, id: SessionId, ends: AnyEnds, idle_ms: u64, now: Moment, reach: impl Fn(&Need) -> Reach) {
        if self.sessions.contains_key(&id) {
            // It has not heard of its end yet, so this cannot be. An answer would be one too many.
            self.stats.totals.misplaced += 1;
            return;
        }
        if !self.ready {
            self.stats.totals.refused_not_ready += 1;
            return self.refuse(id, self.config.retry_ms);
        }
        let tuples = DIRECTIONS.map(|direction| FlowKey::of(&ends, direction));
        if tuples.iter().any(|tuple| self.owner(tuple).is_some()) {
            self.stats.totals.already_there += 1;
            return self.refuse(id, SHORT_RETRY_MS.min(self.config.retry_ms));
        }
        if !self.flows.take(&ends) {
            self.stats.totals.refused_ids += 1;
            return self.refuse(id, self.config.retry_ms);
        }
        if DIRECTIONS.iter().any(|direction| self.orphan_keys.contains(&self.flows.key(&ends, *direction))) {
            self.flows.give(&ends);
            self.stats.totals.already_there += 1;
            return self.refuse(id, SHORT_RETRY_MS.min(self.config.retry_ms));
        }
        if !self.room(&ends).take() {
            self.flows.give(&ends);
            self.stats.totals.refused_full += 1;
            return self.refuse(id, self.config.retry_ms);
        }
        for (tuple, direction) in tuples.into_iter().zip(DIRECTIONS) {
            self.own(tuple, Owner { id, direction });
        }
        self.sessions.insert(id, Session::new(ends, idle_ms, now));
        self.counts.waiting += 1;
        if self.advance(id, &reach) {
            self.waiting.push_back(id);
        }
    }

    /// Goes on with an install that waits for its next hops. True: it still waits.
    fn advance(&mut self, id: SessionId, reach: &impl Fn(&Need) -> Reach) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let mut pending = false;
        for need in self.flows.needs(&session.ends) {
            match reach(&need) {
                Reach::Ready => {}
                Reach::Pending => pending = true,
                Reach::None => {
                    match need {
                        Need::Nexthop(_) => self.stats.totals.refused_nexthop += 1,
                        Need::Row(..) => self.stats.totals.refused_ids += 1,
                    }
                    self.forget(id);
                    self.refuse(id, self.config.retry_ms);
                    return false;
                }
            }
        }
        if pending {
            return true;
        }
        session.phase = Phase::Inserting;
        self.counts.waiting -= 1;
        self.counts.installing += 1;
        self.writes.push_back(Write::Insert { id, ends: session.ends, idle_ms: session.idle_ms });
        false
    }

    /// What entries name changed, or was settled: looks again at the installs that wait for them.
    pub fn needs_changed(&mut self, reach: impl Fn(&Need) -> Reach) {
        for _ in 0..self.waiting.len() {
            // As many as there are, so there is one.
            let Some(id) = self.waiting.pop_front() else { return };
            if self.advance(id, &reach) {
                self.waiting.push_back(id);
            }
        }
    }

    fn remove(&mut self, id: SessionId, now: Moment) {
        let writable = self.writable;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match &mut session.phase {
            Phase::Offloaded => {
                session.asked_at = now;
                self.counts.offloaded -= 1;
                self.counts.removing += 1;
                if writable {
                    // A look under way may have passed its entries already; what it brings is passed over.
                    session.phase = Phase::Reading;
                    self.queue_look(id);
                } else {
                    self.clean(id, Answer::Removed, Sides::BOTH, 0, now);
                }
            }
            // It crossed the news that its entries were lost, which is the answer too.
            Phase::Reading | Phase::Cleaning(Cleanup { answer: Answer::Removed, .. }) => {}
            Phase::Waiting | Phase::Inserting | Phase::Cleaning(_) => self.stats.totals.misplaced += 1,
        }
    }

    /// How long a session is not to be asked for again after an install refused from now on.
    pub fn set_retry(&mut self, retry_ms: u64) {
        self.config.retry_ms = retry_ms;
    }

    /// Whether the target takes writes: connected, primary, and running the program.
    pub fn set_writable(&mut self, writable: bool) {
        self.writable = writable;
        if !writable {
            self.set_ready(false);
        }
    }

    /// Whether installs are taken: static tables are written and flow tables compared.
    pub fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
        if !ready {
            for id in std::mem::take(&mut self.waiting) {
                self.stats.totals.refused_not_ready += 1;
                self.forget(id);
                self.refuse(id, self.config.retry_ms);
            }
        }
    }

    /// Time goes on: cleanups whose wait is over, tables that are tried again.
    pub fn tick(&mut self, now: Moment) {
        self.rooms.iter_mut().for_each(|room| room.tick(now));
        while self.writable
            && self.writes.len() < MOST_WRITES
            && self.due.peek().is_some_and(|Reverse((due, _))| *due <= now)
        {
            if let Some(Reverse((_, id))) = self.due.pop() {
                self.delete(id);
            }
        }
    }

    /// The thresholds for workers, of IPv4 and of IPv6.
    pub fn thresholds(&self, policy: Policy) -> [Threshold; 2] {
        let of = |room: &Room| match self.ready && !room.is_full() {
            true => room::threshold(policy, room, self.backlog()),
            false => Threshold::Never,
        };
        [of(&self.rooms[0]), of(&self.rooms[1])]
    }

    /// The share of the operations that may be under way and are.
    fn backlog(&self) -> f64 {
        let busy = self.under_way + self.writes.len() + self.waiting.len();
        busy as f64 / self.config.operations.max(1) as f64
    }

    /// The next write for the target; it has to be settled.
    pub fn next_write(&mut self) -> Option<Write> {
        let write = self.writes.pop_front()?;
        self.under_way += 1;
        Some(write)
    }

    /// The next verdict for a worker.
    pub fn next_verdict(&mut self) -> Option<(WorkerId, Verdict)> {
        self.verdicts.pop_front()
    }

    /// Sessions by where they are.
    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// Room of a flow table as far as is known, and entries of sessions in it.
    pub fn room_of(&self, family: Family) -> (u64, u64) {
        let room = &self.rooms[family as usize];
        (room.limit(), room.held())
    }

    fn room(&mut self, ends: &AnyEnds) -> &mut Room {
        &mut self.rooms[Family::of(ends) as usize]
    }

    /// Whose entry has this key.
    fn owner(&self, key: &FlowKey) -> Option<Owner> {
        let (tuple, direction) = self.flows.tuple(key)?;
        let owner = match tuple {
            FlowKey::V4(tuple) => self.v4.get(&tuple).copied(),
            FlowKey::V6(tuple) => self.v6.get(&tuple).copied(),
            FlowKey::Inbound(_) | FlowKey::Connection(_) => None,
        };
        owner.filter(|owner| direction.is_none_or(|direction| direction == owner.direction))
    }

    fn own(&mut self, tuple: FlowKey, owner: Owner) {
        match tuple {
            FlowKey::V4(tuple) => _ = self.v4.insert(tuple, owner),
            FlowKey::V6(tuple) => _ = self.v6.insert(tuple, owner),
            FlowKey::Inbound(_) | FlowKey::Connection(_) => {}
        }
    }

    /// How flows are kept.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// The same, to be told of what became of ids.
    pub fn flows_mut(&mut self) -> &mut Flows {
        &mut self.flows
    }

    /// Strikes a session out.
    fn forget(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for direction in DIRECTIONS {
            match FlowKey::of(&session.ends, direction) {
                FlowKey::V4(tuple) => _ = self.v4.remove(&tuple),
                FlowKey::V6(tuple) => _ = self.v6.remove(&tuple),
                FlowKey::Inbound(_) | FlowKey::Connection(_) => {}
            }
        }
        self.flows.give(&session.ends);
        let was_installed = session.installed_at > Moment(0);
        self.room(&session.ends).give(was_installed);
        *self.count_of(session.phase) -= 1;
    }

    fn count_of(&mut self, phase: Phase) -> &mut u64 {
        match phase {
            Phase::Waiting => &mut self.counts.waiting,
            Phase::Inserting => &mut self.counts.installing,
            Phase::Offloaded => &mut self.counts.offloaded,
            Phase::Cleaning(Cleanup { answer: Answer::Refused(_), .. }) => &mut self.counts.undoing,
            Phase::Reading | Phase::Cleaning(_) => &mut self.counts.removing,
        }
    }

    fn refuse(&mut self, id: SessionId, retry_ms: u64) {
        self.stats.totals.refused += 1;
        self.tell(id, Verdict::Refused(id.place(), retry_ms));
    }

    fn tell(&mut self, id: SessionId, verdict: Verdict) {
        self.verdicts.push_back((id.worker(), verdict));
    }
}

#[cfg(test)]
mod tests;
