//! What the book knows of one session, and the names of things in it.

use fullnat::flow::Direction;
use fullnat::id::WorkerId;
use fullnat::offload::{AnyEnds, Counted, Place};
use fullnat::table::SessionIdx;

use crate::offload::flows::FlowKey;

/// A moment: microseconds since the manager's start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// So many milliseconds later.
    pub fn after(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// Microseconds since `earlier`; 0 when that is not earlier.
    pub fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Milliseconds since `earlier`.
    pub fn ms_since(self, earlier: Moment) -> u64 {
        self.since(earlier) / 1000
    }
}

/// A worker's session, as one number: also what its writes are ordered by. Below 2^48.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(u64);

impl SessionId {
    const V6: u64 = 1 << 32;

    /// The session at this place of this worker.
    pub fn new(worker: WorkerId, place: Place) -> Self {
        let place = match place {
            Place::V4(SessionIdx(index)) => u64::from(index),
            Place::V6(SessionIdx(index)) => u64::from(index) | Self::V6,
        };
        SessionId(u64::from(worker.0) << 40 | place)
    }

    /// The session of a number.
    pub fn of_number(number: u64) -> Self {
        SessionId(number)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Whose it is.
    pub fn worker(self) -> WorkerId {
        WorkerId((self.0 >> 40) as u8)
    }

    /// Where it is there.
    pub fn place(self) -> Place {
        let index = SessionIdx(self.0 as u32);
        if self.0 & Self::V6 == 0 { Place::V4(index) } else { Place::V6(index) }
    }
}

/// Flows of IPv4 and of IPv6 have tables of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

impl Family {
    /// The family of a session.
    pub fn of(ends: &AnyEnds) -> Self {
        match ends {
            AnyEnds::V4(_) => Family::V4,
            AnyEnds::V6(_) => Family::V6,
        }
    }
}

/// Both directions, inbound first, as their entries stand in an operation.
pub const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

/// A set of directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sides(u8);

impl Sides {
    /// Neither.
    pub const NONE: Sides = Sides(0);
    /// Both.
    pub const BOTH: Sides = Sides(3);

    /// Whether this one is among them.
    pub fn has(self, direction: Direction) -> bool {
        self.0 & (1 << direction as u8) != 0
    }

    /// With this one.
    pub fn with(self, direction: Direction) -> Sides {
        Sides(self.0 | 1 << direction as u8)
    }

    /// Without this one.
    pub fn without(self, direction: Direction) -> Sides {
        Sides(self.0 & !(1 << direction as u8))
    }

    /// Those that are in it, inbound first.
    pub fn iter(self) -> impl Iterator<Item = Direction> {
        DIRECTIONS.into_iter().filter(move |direction| self.has(*direction))
    }
}

/// What an entry counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A flow entry as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its key.
    pub key: FlowKey,
    /// Its counter.
    pub count: Count,
    /// Milliseconds since a packet last hit it, or since it was made; none: the target does not tell.
    pub quiet_ms: Option<u64>,
}

/// Why entries are being deleted, and what the worker hears when they are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The install failed: not before so many milliseconds again.
    Refused(u64),
    /// The session is back.
    Removed,
}

/// Entries on their way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleanup {
    /// What the worker hears in the end.
    pub answer: Answer,
    /// Those that may be in the target.
    pub open: Sides,
    /// Passes that follow this one: an insert without an answer may be applied after the deletes of the first.
    pub more: u8,
    /// Passes over `open` that did not make it empty, for the waits between them.
    pub attempts: u8,
    /// An operation is under way.
    pub busy: bool,
}

/// Where a session is with the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Its install waits for the entries of its next hops.
    Waiting,
    /// Both inserts are under way.
    Inserting,
    /// Both entries are acknowledged.
    Offloaded,
    /// It is to be removed; its counters are being read for the last time.
    Reading,
    /// Its entries are being deleted.
    Cleaning(Cleanup),
}

/// A session in the book.
#[derive(Clone, Debug)]
pub struct Session {
    /// What its entries are made of.
    pub ends: AnyEnds,
    /// Where it is.
    pub phase: Phase,
    /// Milliseconds without a packet after which it is to end.
    pub idle_ms: u64,
    /// When what is under way was decided.
    pub asked_at: Moment,
    /// When both entries were acknowledged.
    pub installed_at: Moment,
    /// The look that last found other counters than the one before it.
    pub moved_at: Option<Moment>,
    /// Counters at the last look.
    pub seen: [Count; 2],
    /// Those of them that the worker knows.
    pub told: [Count; 2],
    /// Directions the target gave notice of.
    pub notices: Sides,
    /// The look it is in: 0 is none, [`QUEUED`] one that has not begun.
    pub look: u32,
    /// Directions that look found.
    pub found: Sides,
    /// Of those, the ones without a packet for `idle_ms` by the target's own clock.
    pub quiet: Sides,
    /// That look found a counter moved.
    pub moved: bool,
    /// The worker waits for what that look finds.
    pub checked: bool,
    /// The sweep after which it was installed.
    pub installed_in: u32,
    /// The last sweep that found one of its entries, and which.
    pub swept: (u32, Sides),
}

/// A look that was asked for and has not begun.
pub const QUEUED: u32 = u32::MAX;

impl Session {
    /// A session that is to be installed.
    pub fn new(ends: AnyEnds, idle_ms: u64, now: Moment) -> Self {
        Session {
            ends,
            phase: Phase::Waiting,
            idle_ms,
            asked_at: now,
            installed_at: Moment(0),
            moved_at: None,
            seen: [Count::default(); 2],
            told: [Count::default(); 2],
            notices: Sides::NONE,
            look: 0,
            found: Sides::NONE,
            quiet: Sides::NONE,
            moved: false,
            checked: false,
            installed_in: 0,
            swept: (0, Sides::NONE),
        }
    }

    /// Takes a counter as it was read.
    pub fn take(&mut self, direction: Direction, count: Count) {
        let side = direction as usize;
        if self.seen[side] != count {
            self.seen[side] = count;
            self.moved = true;
        }
    }

    /// What a counter says beyond what the worker knows.
    pub fn news(&self, direction: Direction, count: Count) -> Count {
        // Counters only rise while their entry lives; should one not, the worker has heard of more than there was.
        let told = self.told[direction as usize];
        Count { packets: count.packets.saturating_sub(told.packets), bytes: count.bytes.saturating_sub(told.bytes) }
    }

    /// What the worker does not know yet; from now on it does.
    pub fn tell(&mut self) -> Counted {
        let news = DIRECTIONS.map(|direction| self.news(direction, self.seen[direction as usize]));
        self.told = self.seen;
        Counted { packets: news.map(|count| count.packets), bytes: news.map(|count| count.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_sessions_are_theirs_alone() {
        let mut numbers = Vec::new();
        for worker in [0, 1, 255].map(WorkerId) {
            for place in [0, 1, u32::MAX].map(SessionIdx) {
                for place in [Place::V4(place), Place::V6(place)] {
                    let id = SessionId::new(worker, place);
                    assert_eq!((id.worker(), id.place()), (worker, place));
                    assert!(id.number() < 1 << 48 && SessionId::of_number(id.number()) == id);
                    numbers.push(id);
                }
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 18);
    }

    #[test]
    fn sets_of_directions() {
        assert_eq!(Sides::NONE.with(Direction::Outbound).with(Direction::Inbound), Sides::BOTH);
        assert_eq!(Sides::BOTH.without(Direction::Inbound).iter().collect::<Vec<_>>(), [Direction::Outbound]);
        assert!(!Sides::NONE.has(Direction::Inbound) && Sides::BOTH.has(Direction::Outbound));
    }
}
