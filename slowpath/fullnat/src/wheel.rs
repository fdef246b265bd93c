//! A coarse, lazy timer wheel.
//!
//! A packet only notes when it was seen; nobody touches the wheel for it. When an entry's slot comes up, the caller
//! looks at the real deadline and files the entry again or lets it go. Deadlines beyond the wheel's horizon are filed
//! at the horizon and again from there. Only a deadline that became *earlier* must be filed anew when it changes.
//!
//! Slots are doubly linked lists threaded through one array of 8 bytes per entry: no allocation, O(1) for each step.

use crate::memory::touched;
use crate::time::Time;

/// Milliseconds per slot.
pub const TICK_MS: u64 = 256;
/// Slots of the wheel.
pub const SLOTS: usize = 1024;
/// The farthest deadline filed exactly: 262 s. One revolution re-files a session of longer timeout once, which costs
/// far less than a packet.
pub const HORIZON_MS: u64 = TICK_MS * (SLOTS as u64 - 1);

const NIL: u32 = u32::MAX;
/// Set in `prev` of a list's first entry, the other bits being the list's slot. `NIL` has it too, but no such slot.
const HEAD: u32 = 1 << 31;

/// An entry's place in a list. Outside it is only something to prefetch.
#[derive(Clone, Copy)]
pub struct Link {
    /// The entry before, or `HEAD | slot`, or `NIL` when the entry is not filed.
    prev: u32,
    next: u32,
}

/// The wheel. Entries are named by indexes below 2³¹, those of the [session table](crate::table).
pub struct Wheel {
    links: Vec<Link>,
    heads: Box<[u32; SLOTS]>,
    /// The tick whose slot is emptied next. Every filed entry is in ticks `cursor..cursor + SLOTS`.
    cursor: u64,
    filed: usize,
}

impl Wheel {
    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        self.links.capacity() * size_of::<Link>() + size_of_val(&*self.heads)
    }

    /// A wheel for entries `0..capacity` that starts at `now`. Its memory is touched here.
    pub fn new(capacity: usize, now: Time) -> Self {
        assert!(capacity < HEAD as usize, "an entry's index must fit 31 bits");
        Wheel {
            links: touched(capacity, &Link { prev: NIL, next: NIL }),
            heads: Box::new([NIL; SLOTS]),
            cursor: now.0.div_ceil(TICK_MS),
            filed: 0,
        }
    }

    /// Entries filed.
    pub fn len(&self) -> usize {
        self.filed
    }

    /// True when no entry is filed.
    pub fn is_empty(&self) -> bool {
        self.filed == 0
    }

    /// What [`Wheel::file`] writes of an entry, to be prefetched.
    #[inline(always)]
    pub fn link(&self, idx: usize) -> Option<&Link> {
        self.links.get(idx)
    }

    /// True when the entry is filed.
    pub fn contains(&self, idx: u32) -> bool {
        self.links.get(idx as usize).is_some_and(|link| link.prev != NIL)
    }

    /// Files the entry so that [`Wheel::poll`] returns it no earlier than `deadline` (or the horizon, when that is
    /// nearer), and at most one tick later if polled often enough. An entry already filed is moved.
    pub fn file(&mut self, idx: u32, deadline: Time) {
        self.unlink(idx);
        if idx as usize >= self.links.len() {
            self.links.resize(idx as usize + 1, Link { prev: NIL, next: NIL });
        }
        let tick = deadline.0.div_ceil(TICK_MS).clamp(self.cursor, self.cursor + SLOTS as u64 - 1);
        let slot = tick as usize % SLOTS;
        let next = self.heads[slot];
        self.links[idx as usize] = Link { prev: HEAD | slot as u32, next };
        if next != NIL {
            self.links[next as usize].prev = idx;
        }
        self.heads[slot] = idx;
        self.filed += 1;
    }

    /// Takes the entry out, if it is filed.
    pub fn unlink(&mut self, idx: u32) {
        let Some(link) = self.links.get_mut(idx as usize) else { return };
        let Link { prev, next } = *link;
        if prev == NIL {
            return;
        }
        link.prev = NIL;
        if prev & HEAD != 0 {
            self.heads[(prev ^ HEAD) as usize % SLOTS] = next;
        } else {
            self.links[prev as usize].next = next;
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        self.filed -= 1;
    }

    /// Takes out and returns the next entry that is due at `now`, for the caller to file again or to let go. None when
    /// nothing more is due or `budget` is used up; each entry returned and each tick passed costs one of it. What a
    /// budget did not reach is reached by later calls.
    pub fn poll(&mut self, now: Time, budget: &mut usize) -> Option<u32> {
        let current = now.0 / TICK_MS;
        if self.filed == 0 {
            self.cursor = self.cursor.max(current);
            return None;
        }
        while self.cursor <= current && *budget > 0 {
            *budget -= 1;
            let head = self.heads[self.cursor as usize % SLOTS];
            if head != NIL {
                self.unlink(head);
                return Some(head);
            }
            self.cursor += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::Rng;

    fn due(wheel: &mut Wheel, now: Time) -> Vec<u32> {
        let mut budget = usize::MAX;
        std::iter::from_fn(|| wheel.poll(now, &mut budget)).collect()
    }

    #[test]
    fn never_early_and_at_most_a_tick_late() {
        let start = Time(1_000_003);
        let mut wheel = Wheel::new(4, start);
        wheel.file(0, start.after(1));
        wheel.file(1, start.after(5_000));
        assert_eq!(due(&mut wheel, start), []);
        assert_eq!(due(&mut wheel, start.after(1 + TICK_MS)), [0]);
        assert_eq!(due(&mut wheel, start.after(4_999)), []);
        assert_eq!(due(&mut wheel, start.after(5_000 + TICK_MS)), [1]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_far_deadline_comes_up_at_the_horizon() {
        let mut wheel = Wheel::new(1, Time(0));
        wheel.file(0, Time(10_000_000));
        assert_eq!(due(&mut wheel, Time(HORIZON_MS - TICK_MS)), []);
        assert_eq!(due(&mut wheel, Time(HORIZON_MS)), [0]);
    }

    #[test]
    fn a_passed_deadline_is_due_at_once_and_work_is_bounded() {
        let mut wheel = Wheel::new(10, Time(0));
        for idx in 0..10 {
            wheel.file(idx, Time(0));
        }
        let mut budget = 4;
        let some: Vec<u32> = std::iter::from_fn(|| wheel.poll(Time(0), &mut budget)).collect();
        assert_eq!((some.len(), budget), (4, 0));
        assert_eq!(wheel.len(), 6);
        assert_eq!(due(&mut wheel, Time(0)).len(), 6);
    }

    #[test]
    fn a_long_pause_loses_nothing() {
        let mut wheel = Wheel::new(2, Time(0));
        wheel.file(0, Time(1000));
        let day = Time(86_400_000);
        assert_eq!(due(&mut wheel, day), [0]);
        assert_eq!(due(&mut wheel, day), []);
        wheel.file(1, day.after(100));
        assert_eq!(due(&mut wheel, day.after(99)), []);
        assert_eq!(due(&mut wheel, day.after(100 + TICK_MS)), [1]);
    }

    /// The wheel, used as the table uses it, against an ordered map of deadlines.
    #[test]
    fn agrees_with_an_ordered_map() {
        const ENTRIES: usize = 500;
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            let mut now = Time(rng.below(1 << 40) as u64);
            let mut wheel = Wheel::new(ENTRIES, now);
            let mut deadlines: BTreeMap<u32, Time> = BTreeMap::new();
            for _ in 0..20_000 {
                let idx = rng.below(ENTRIES) as u32;
                match rng.below(10) {
                    0..4 => {
                        let ms = *rng.pick(&[10, 3_000, 60_000, 1_000_000]);
                        let deadline = now.after(rng.below(ms) as u64);
                        wheel.file(idx, deadline);
                        deadlines.insert(idx, deadline);
                    }
                    4 => {
                        wheel.unlink(idx);
                        deadlines.remove(&idx);
                    }
                    // Later deadlines are not told to the wheel.
                    5 => {
                        deadlines.entry(idx).and_modify(|deadline| *deadline = deadline.after(2_000));
                    }
                    _ => {
                        now = now.after(rng.below(2_000) as u64);
                        let mut budget = if rng.chance(1, 3) { rng.below(20) } else { usize::MAX };
                        while let Some(idx) = wheel.poll(now, &mut budget) {
                            let deadline = deadlines[&idx];
                            if deadline > now {
                                wheel.file(idx, deadline);
                            } else {
                                deadlines.remove(&idx);
                            }
                        }
                        if budget > 0 {
                            let late = deadlines.values().filter(|d| d.0 + TICK_MS <= now.0).count();
                            assert_eq!(late, 0, "seed {seed}: entries overdue by more than a tick");
                        }
                    }
                }
                assert_eq!(wheel.len(), deadlines.len());
                assert_eq!(wheel.contains(idx), deadlines.contains_key(&idx));
            }
        }
    }
}
