//! Room in the flow tables, and the threshold that follows from it.

use fullnat::offload::Threshold;

use super::session::Moment;
use crate::offload::Policy;

/// A table that turned out smaller than P4Info says is tried again at its full size after so long: what made it small may
/// be gone.
const RELEARN_MS: u64 = 30_000;

/// Entries of a session.
pub const ENTRIES: u64 = 2;

/// The room of one flow table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Entries by P4Info.
    size: u64,
    /// Entries as it turned out.
    limit: u64,
    /// Entries of all sessions in the book, whether they are in the target already, or still.
    held: u64,
    /// Entries the target acknowledged, and whose deletion it has not.
    in_force: u64,
    /// No install until some have gone.
    full: bool,
    learned_at: Moment,
}

impl Room {
    /// An empty table.
    pub fn new(size: u64) -> Self {
        Room { size, limit: size, held: 0, in_force: 0, full: false, learned_at: Moment(0) }
    }

    /// Room for one more session, if there is.
    pub fn take(&mut self) -> bool {
        if self.full || self.held + ENTRIES > self.limit {
            self.full = true;
            return false;
        }
        self.held += ENTRIES;
        true
    }

    /// A session's entries were there already.
    pub fn adopted(&mut self) {
        self.held += ENTRIES;
        self.in_force += ENTRIES;
    }

    /// A session's entries were acknowledged. That may be after a later one's were refused: there is room for as much at least.
    pub fn installed(&mut self) {
        self.in_force += ENTRIES;
        self.limit = self.limit.max(self.in_force);
    }

    /// A session is gone from the book.
    pub fn give(&mut self, was_installed: bool) {
        self.held -= ENTRIES;
        self.in_force -= if was_installed { ENTRIES } else { 0 };
        // Not at once: every end of a session would open the gate for an install that finds no room for the next one.
        if self.held + self.margin() <= self.limit {
            self.full = false;
        }
    }

    /// The target said that the table is full.
    pub fn refused(&mut self, now: Moment) {
        (self.limit, self.full, self.learned_at) = (self.in_force, true, now);
    }

    /// Time goes on.
    pub fn tick(&mut self, now: Moment) {
        if self.limit < self.size && now.ms_since(self.learned_at) >= RELEARN_MS {
            (self.limit, self.full) = (self.size, false);
        }
    }

    /// Nothing fits for now.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Entries it has room for, as far as is known.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Entries of all sessions.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Share of the room that is taken.
    fn occupancy(&self) -> f64 {
        if self.limit == 0 { 1.0 } else { self.held as f64 / self.limit as f64 }
    }

    fn margin(&self) -> u64 {
        (self.limit / 16).max(ENTRIES)
    }
}

/// The threshold by policy, for a flow table with room. `backlog` is the share of operations that may be under way and are.
pub fn threshold(policy: Policy, room: &Room, backlog: f64) -> Threshold {
    match policy {
        Policy::Never => Threshold::Never,
        Policy::Established => Threshold::Packets(0),
        Policy::Packets(packets) => Threshold::Packets(packets),
        Policy::Bytes(bytes) => Threshold::Bytes(bytes),
        Policy::PacketsPerSecond(packets) => Threshold::PacketsPerSecond(packets),
        Policy::Adaptive => Threshold::Packets(adaptive(room.occupancy(), backlog)),
    }
}

/// Packets a session must have had, by how full its family's flow table is and how far the target is behind:
///
/// ```text
///  occupancy   50 %   60 %   70 %   80 %   90 % and more
///  packets        0      7     63    511   4095
/// ```
///
/// that is 2^(12 x) - 1, with x from 0 at half full to 1 at 90 %. The backlog gives another x, from 0 at a quarter
/// to 1 when it is all there may be; the larger of the two counts.
fn adaptive(occupancy: f64, backlog: f64) -> u32 {
    /// Doublings between no threshold and the highest.
    const DOUBLINGS: f64 = 12.0;
    let x = ((occupancy - 0.5) / 0.4).max((backlog - 0.25) / 0.75).clamp(0.0, 1.0);
    // Steps of a whole doubling, so that the threshold does not flutter.
    (1 << (DOUBLINGS * x + 1e-9) as u32) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_opens_again_with_a_margin() {
        let mut room = Room::new(64);
        (0..32).for_each(|_| assert!(room.take()));
        assert!(!room.is_full() && !room.take() && room.is_full());
        room.give(false);
        assert!(room.is_full(), "60 of 64 and below");
        room.give(false);
        assert!(!room.is_full() && room.take());
        assert_eq!(room.held(), 62);
    }

    #[test]
    fn a_table_smaller_than_it_says_is_learned_and_tried_again() {
        let mut room = Room::new(1000);
        for _ in 0..10 {
            assert!(room.take());
        }
        (0..8).for_each(|_| room.installed());
        room.refused(Moment(5_000_000));
        assert_eq!((room.limit(), room.is_full()), (16, true));
        // The two that were refused.
        room.give(false);
        room.give(false);
        assert!(room.is_full() && !room.take());
        room.give(true);
        assert!(room.take() && !room.take());
        room.tick(Moment(34_000_000));
        assert!(!room.take());
        room.tick(Moment(35_000_000));
        assert!(room.take());
        assert_eq!(room.limit(), 1000);
    }

    /// Answers to batches come in any order: the refusal of the second before the acknowledgement of the first.
    #[test]
    fn what_is_acknowledged_after_a_refusal_has_its_room() {
        let mut room = Room::new(1000);
        (0..24).for_each(|_| assert!(room.take()));
        room.refused(Moment(0));
        (0..8).for_each(|_| room.give(false));
        assert_eq!((room.limit(), room.is_full()), (0, true));
        (0..16).for_each(|_| room.installed());
        assert_eq!((room.limit(), room.is_full()), (32, true));
        room.give(true);
        assert!(room.take() && !room.take());
    }

    /// A refusal with nothing in the table must not end in "full for good".
    #[test]
    fn a_table_that_takes_nothing_is_tried_again() {
        let mut room = Room::new(10);
        assert!(room.take());
        room.refused(Moment(0));
        room.give(false);
        assert!(!room.take());
        room.tick(Moment(30_000_000));
        assert!(room.take());
    }

    #[test]
    fn adaptive_is_the_documented_function() {
        let at = |percent: f64| adaptive(percent / 100.0, 0.0);
        assert_eq!([0.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0].map(at), [0, 0, 7, 63, 511, 4095, 4095]);
        assert_eq!([0.0, 0.25, 0.5, 0.625, 1.0].map(|backlog| adaptive(0.1, backlog)), [0, 0, 15, 63, 4095]);
        assert_eq!(adaptive(0.9, 0.9), 4095);
        let mut last = 0;
        for step in 0..=1000 {
            let now = adaptive(f64::from(step) / 1000.0, 0.0);
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn policies_are_thresholds() {
        let mut room = Room::new(10);
        assert_eq!(threshold(Policy::Adaptive, &room, 0.0), Threshold::Packets(0));
        (0..4).for_each(|_| assert!(room.take()));
        assert_eq!(threshold(Policy::Adaptive, &room, 0.0), Threshold::Packets(511));
        assert_eq!(threshold(Policy::Established, &room, 1.0), Threshold::Packets(0));
        assert_eq!(threshold(Policy::Bytes(7), &room, 0.0), Threshold::Bytes(7));
    }
}
