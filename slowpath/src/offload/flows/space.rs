//! Ids of a bounded space.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

/// Where an id is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot<V> {
    /// It stands for nothing.
    Vacant,
    /// It stands for a value that so many sessions need.
    Held(V, u32),
    /// It stands for a value that nobody needs, since it was given back for the time of this number.
    Idle(V, u64),
    /// The entry of its value is being deleted.
    Leaving(V),
}

/// Ids, each of which stands for one value at most, and each value has one id at most.
///
/// An id that nobody needs keeps its value, whose entry stays in the target, until ids are short: the next session with this
/// value finds all in place. Before it gets another value, all entries that may name it have to be known to be gone, and its
/// own entry too.
#[derive(Clone, Debug)]
pub struct Space<V> {
    slots: Vec<Slot<V>>,
    by_value: HashMap<V, u16>,
    /// Vacant ids, and some that are so no more.
    vacant: Vec<u16>,
    /// Ids that became idle, oldest first: the number of that time, and the sweep it was after. Not all still are.
    idle: VecDeque<(u16, u64, u64)>,
    /// How often an id became idle.
    last: u64,
    /// Ids that are vacant, or leaving.
    spare: usize,
}

impl<V: Copy + Eq + Hash> Space<V> {
    /// Ids from 0 on, so many.
    pub fn new(size: u16) -> Self {
        Space {
            slots: vec![Slot::Vacant; usize::from(size)],
            by_value: HashMap::new(),
            // From the end, so that the lowest come first.
            vacant: (0..size).rev().collect(),
            idle: VecDeque::new(),
            last: 0,
            spare: usize::from(size),
        }
    }

    /// Takes the id of a value for one more session, and says whether it is new. None: there is no id left, or the value is on
    /// its way out.
    pub fn take(&mut self, value: V) -> Option<(u16, bool)> {
        if let Some(&id) = self.by_value.get(&value) {
            let slot = &mut self.slots[usize::from(id)];
            *slot = match *slot {
                Slot::Held(value, users) => Slot::Held(value, users + 1),
                Slot::Idle(value, _) => Slot::Held(value, 1),
                Slot::Vacant | Slot::Leaving(_) => return None,
            };
            return Some((id, false));
        }
        loop {
            let id = self.vacant.pop()?;
            let slot = &mut self.slots[usize::from(id)];
            if *slot == Slot::Vacant {
                *slot = Slot::Held(value, 1);
                self.by_value.insert(value, id);
                self.spare -= 1;
                return Some((id, true));
            }
        }
    }

    /// Gives the id of a value back for one session, after so many sweeps. Entries that name it may be left until a later one
    /// says otherwise.
    pub fn give(&mut self, value: &V, sweep: u64) {
        let Some(&id) = self.by_value.get(value) else { return };
        match self.slots[usize::from(id)] {
            Slot::Held(value, 1) => self.rest(id, value, sweep),
            Slot::Held(value, users) => self.slots[usize::from(id)] = Slot::Held(value, users - 1),
            Slot::Vacant | Slot::Idle(..) | Slot::Leaving(_) => {}
        }
    }

    fn rest(&mut self, id: u16, value: V, sweep: u64) {
        self.last += 1;
        self.slots[usize::from(id)] = Slot::Idle(value, self.last);
        self.idle.push_back((id, self.last, sweep));
    }

    /// The target has a value under an id, from an earlier life. False: the id, or the value, is otherwise in use.
    pub fn take_over(&mut self, id: u16, value: V, sweep: u64) -> bool {
        let Some(slot) = self.slots.get(usize::from(id)) else { return false };
        if *slot != Slot::Vacant || self.by_value.contains_key(&value) {
            return matches!(*slot, Slot::Held(there, _) | Slot::Idle(there, _) if there == value);
        }
        self.rest(id, value, sweep);
        self.by_value.insert(value, id);
        self.spare -= 1;
        true
    }

    /// Begins to take the oldest values that nobody needs from their ids, until so many are spare: those given back not after
    /// a later sweep than this. Hands over the id and the value of each; its entry has to go, and then [`Space::gone`].
    pub fn spare(&mut self, wanted: usize, sweep: u64, mut leave: impl FnMut(u16, V)) {
        while self.spare < wanted
            && let Some(&(id, number, since)) = self.idle.front()
            && since <= sweep
        {
            self.idle.pop_front();
            let slot = &mut self.slots[usize::from(id)];
            if let Slot::Idle(value, of) = *slot
                && of == number
            {
                *slot = Slot::Leaving(value);
                self.spare += 1;
                leave(id, value);
            }
        }
    }

    /// The entry of a value that was on its way out is gone: its id is vacant.
    pub fn gone(&mut self, id: u16) {
        let Some(slot) = self.slots.get_mut(usize::from(id)) else { return };
        if let Slot::Leaving(value) = *slot {
            *slot = Slot::Vacant;
            self.by_value.remove(&value);
            self.vacant.push(id);
        }
    }

    /// The id of a value.
    pub fn id(&self, value: &V) -> Option<u16> {
        self.by_value.get(value).copied()
    }

    /// What an id stands for.
    pub fn value(&self, id: u16) -> Option<V> {
        match *self.slots.get(usize::from(id))? {
            Slot::Held(value, _) | Slot::Idle(value, _) => Some(value),
            Slot::Vacant | Slot::Leaving(_) => None,
        }
    }

    /// Values whose entries are being deleted.
    pub fn leaving(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Leaving(_))).count()
    }

    /// Ids there are.
    pub fn size(&self) -> usize {
        self.slots.len()
    }

    /// Whether no session needs any of them.
    #[cfg(test)]
    pub fn is_unused(&self) -> bool {
        !self.slots.iter().any(|slot| matches!(slot, Slot::Held(..)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_id_while_it_is_needed_and_after() {
        let mut space = Space::new(4);
        assert_eq!(space.take("a"), Some((0, true)));
        assert_eq!(space.take("b"), Some((1, true)));
        assert_eq!(space.take("a"), Some((0, false)));
        space.give(&"a", 1);
        space.give(&"a", 1);
        assert_eq!((space.value(0), space.id(&"a")), (Some("a"), Some(0)));
        assert_eq!(space.take("a"), Some((0, false)));
        assert!(!space.is_unused());
    }

    #[test]
    fn an_id_gets_another_value_when_the_first_ones_entry_is_gone() {
        let mut space = Space::new(2);
        (0..2).for_each(|value| assert!(space.take(value).is_some()));
        assert_eq!(space.take(2), None);
        space.give(&0, 1);
        space.give(&1, 2);
        let mut left = Vec::new();
        space.spare(2, 1, |id, value| left.push((id, value)));
        assert_eq!((left, space.leaving()), (vec![(0, 0)], 1), "1 was given back later");
        assert_eq!((space.take(0), space.take(2), space.value(0)), (None, None, None));
        space.gone(0);
        assert_eq!(space.take(2), Some((0, true)));
        // One that is needed again stays.
        assert_eq!(space.take(1), Some((1, false)));
        space.spare(2, 9, |_, _| panic!("none is idle"));
    }

    #[test]
    fn what_the_target_has_is_taken_over_unless_it_contradicts() {
        let mut space = Space::new(8);
        assert_eq!(space.take("ours"), Some((0, true)));
        assert!(!space.take_over(0, "theirs", 0) && !space.take_over(3, "ours", 0) && !space.take_over(8, "none", 0));
        assert!(space.take_over(0, "ours", 0) && space.take_over(5, "old", 0) && space.take_over(5, "old", 0));
        assert_eq!(space.take("old"), Some((5, false)));
        // All other ids are still to be had, each once.
        let mut ids: Vec<u16> = ["u", "v", "w", "x", "y", "z"].map(|value| space.take(value).unwrap().0).to_vec();
        ids.sort_unstable();
        assert_eq!((ids, space.take("more")), (vec![1, 2, 3, 4, 6, 7], None));
    }
}
