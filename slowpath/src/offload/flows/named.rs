//! Values with ids, and the ways on from each: the two small tables of services, and those of pairs.

use std::hash::Hash;

use hashbrown::HashMap;

use super::space::Space;
use crate::offload::replica::{RowAction, RowKey};

/// Ids that are kept spare where that can be: this share of a space.
const SPARE: usize = 16;

/// What has an id: a service or a pair.
pub trait Value: Copy + Eq + Hash {
    /// Bits of an id. What is above names the way.
    const BITS: u32;
    /// Ways on from one value.
    const WAYS: u16 = (1u32 << (16 - Self::BITS)) as u16;

    /// The entry that gives it this id.
    fn row(self, id: u16) -> (RowKey, RowAction);
    /// The entry of the way on from it to this next hop, by id and way.
    fn way(self, name: u16, nexthop: u16) -> (RowKey, RowAction);
}

/// An entry of a small table as it is to be: none, it is to go.
pub type Want = (RowKey, Option<RowAction>);

/// Values with their ids and ways.
#[derive(Clone, Debug)]
pub struct Named<V> {
    values: Space<V>,
    /// By id: next hops.
    ways: HashMap<u16, Space<u16>>,
    /// By id of a value that leaves: entries that are not gone yet, its own and those of its ways.
    leaving: HashMap<u16, usize>,
}

fn name<V: Value>(id: u16, way: u16) -> u16 {
    // A way is below WAYS, which is what 16 bits have room for above the id.
    id | way << V::BITS
}

/// The id and the way of a name.
pub fn parts<V: Value>(name: u16) -> (u16, u16) {
    (name & ((1u32 << V::BITS) - 1) as u16, (u32::from(name) >> V::BITS) as u16)
}

impl<V: Value> Named<V> {
    /// With so many ids at most.
    pub fn new(size: u16) -> Self {
        let size = u32::from(size).min(1 << V::BITS) as u16;
        Named { values: Space::new(size), ways: HashMap::new(), leaving: HashMap::new() }
    }

    /// Takes a value and a way on from it for one more session. False, with none taken: there are not enough ids.
    pub fn take(&mut self, value: V, nexthop: u16, sweep: u64, wants: &mut Vec<Want>) -> bool {
        let Some((id, new_value)) = self.values.take(value) else { return false };
        if new_value {
            let (key, action) = value.row(id);
            wants.push((key, Some(action)));
        }
        let ways = self.ways.entry(id).or_insert_with(|| Space::new(V::WAYS));
        let Some((way, new_way)) = ways.take(nexthop) else {
            self.values.give(&value, sweep);
            return false;
        };
        if new_way {
            let (key, action) = value.way(name::<V>(id, way), nexthop);
            wants.push((key, Some(action)));
        }
        true
    }

    /// Gives both back for one session, after so many sweeps.
    pub fn give(&mut self, value: &V, nexthop: u16, sweep: u64) {
        if let Some(ways) = self.values.id(value).and_then(|id| self.ways.get_mut(&id)) {
            ways.give(&nexthop, sweep);
        }
        self.values.give(value, sweep);
    }

    /// Has those go that were given back not after a later sweep than this, the oldest first, until some ids are spare; and
    /// likewise the ways on from this value.
    pub fn spare(&mut self, value: &V, sweep: u64, wants: &mut Vec<Want>) {
        if let Some(id) = self.values.id(value)
            && let Some(ways) = self.ways.get_mut(&id)
        {
            ways.spare(1, sweep, |way, nexthop| wants.push((value.way(name::<V>(id, way), nexthop).0, None)));
        }
        self.spare_values(self.values.size().div_ceil(SPARE), sweep, wants);
    }

    /// Has all go that nobody needs: no entry is left that could name it.
    pub fn spare_all(&mut self, wants: &mut Vec<Want>) {
        self.spare_values(self.values.size(), u64::MAX, wants);
    }

    fn spare_values(&mut self, wanted: usize, sweep: u64, wants: &mut Vec<Want>) {
        let Named { values, ways, leaving } = self;
        values.spare(wanted, sweep, |id, value| {
            wants.push((value.row(id).0, None));
            let mut left = 1;
            if let Some(ways) = ways.get_mut(&id) {
                // Who needs a way needs the value, so nobody needs them, and no longer than that.
                ways.spare(ways.size(), u64::MAX, |way, nexthop| {
                    wants.push((value.way(name::<V>(id, way), nexthop).0, None));
                });
                left += ways.leaving();
            }
            leaving.insert(id, left);
        });
    }

    /// A value's entry that was to go is gone.
    pub fn value_gone(&mut self, value: &V) {
        if let Some(id) = self.values.id(value) {
            self.one_gone(id);
        }
    }

    /// A way's entry that was to go is gone.
    pub fn way_gone(&mut self, name: u16) {
        let (id, way) = parts::<V>(name);
        if let Some(ways) = self.ways.get_mut(&id) {
            ways.gone(way);
            self.one_gone(id);
        }
    }

    fn one_gone(&mut self, id: u16) {
        if let Some(left) = self.leaving.get_mut(&id) {
            *left -= 1;
            if *left == 0 {
                self.leaving.remove(&id);
                self.ways.remove(&id);
                self.values.gone(id);
            }
        }
    }

    /// The target has a value under an id. False: that contradicts ours.
    pub fn take_over(&mut self, id: u16, value: V, sweep: u64) -> bool {
        self.values.take_over(id, value, sweep)
    }

    /// The target has a way on from a value that has its id already. False: it has not, or that contradicts ours.
    pub fn take_way_over(&mut self, key: &RowKey, action: &RowAction, name_of: u16, nexthop: u16, sweep: u64) -> bool {
        let (id, way) = parts::<V>(name_of);
        let Some(value) = self.values.value(id) else { return false };
        // Addresses and ports are the value's.
        value.way(name_of, nexthop) == (*key, *action)
            && self.ways.entry(id).or_insert_with(|| Space::new(V::WAYS)).take_over(way, nexthop, sweep)
    }

    /// The id of a value.
    pub fn id(&self, value: &V) -> Option<u16> {
        self.values.id(value)
    }

    /// The name of a way on from a value: its id and the way.
    pub fn name(&self, value: &V, nexthop: u16) -> Option<u16> {
        let id = self.values.id(value)?;
        Some(name::<V>(id, self.ways.get(&id)?.id(&nexthop)?))
    }

    /// What an id stands for.
    pub fn value(&self, id: u16) -> Option<V> {
        self.values.value(id)
    }

    /// What a name stands for: the value, and the next hop of the way on from it.
    pub fn named(&self, name: u16) -> Option<(V, u16)> {
        let (id, way) = parts::<V>(name);
        Some((self.values.value(id)?, self.ways.get(&id)?.value(way)?))
    }

    /// Whether no session needs any of them.
    #[cfg(test)]
    pub fn is_unused(&self) -> bool {
        self.values.is_unused() && self.ways.values().all(Space::is_unused)
    }
}
