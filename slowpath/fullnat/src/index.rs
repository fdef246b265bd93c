//! A hash index from 64-bit hashes to 32-bit values, made for one cache line per lookup.
//!
//! ```text
//!  hash  ┌──────────── bucket = hash × buckets >> 64 ────────────┐  ┌── tag = low 16 bits, never 0
//!  bucket (64 bytes)   8 × u16 tag │ 8 × u16 passed │ 8 × u32 value
//! ```
//!
//! An entry lives in its home bucket or, when that is full, in the next with room. Each full bucket it passed counts it
//! in `passed`, in the counter of the tag's class, so a lookup stops at the first bucket that nothing of its class has
//! passed (the idea of F14's overflow counts, by tag class). Removal undoes the counts. So there are no tombstones, the
//! index never rehashes, and its work does not grow with churn. It is sized once.
//!
//! The index does not know the keys: the caller verifies each candidate value.

use wide::u16x8;

const SLOTS: usize = 8;

/// What an empty slot's value is. No entry may have this value.
pub const NO_VALUE: u32 = u32::MAX;

/// A bucket: one cache line. Outside it is only something to prefetch.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Bucket {
    /// 0 is an empty slot.
    tags: [u16; SLOTS],
    /// Entries that went past this bucket because it was full, by tag modulo 8. A counter that reached its maximum
    /// stays there: lookups then walk on needlessly, but never stop too early.
    passed: [u16; SLOTS],
    values: [u32; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// Slots of a bucket, as a set of bits.
#[derive(Clone, Copy, Debug)]
struct Slots(u32);

impl Slots {
    /// A slot of the set. The empty set has none: ask [`Slots::is_empty`] first.
    #[inline(always)]
    fn first(self) -> usize {
        self.0.trailing_zeros() as usize % SLOTS
    }

    #[inline(always)]
    fn without_first(self) -> Slots {
        Slots(self.0 & self.0.wrapping_sub(1))
    }

    #[inline(always)]
    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Bucket {
    const EMPTY: Bucket = Bucket { tags: [0; SLOTS], passed: [0; SLOTS], values: [NO_VALUE; SLOTS] };

    /// The slots whose tag is `tag`.
    #[inline(always)]
    fn matching(&self, tag: u16) -> Slots {
        Slots(u16x8::new(self.tags).simd_eq(u16x8::splat(tag)).to_bitmask())
    }

    fn set(&mut self, slot: usize, tag: u16, value: u32) {
        self.tags[slot] = tag;
        self.values[slot] = value;
    }

    /// The first value with this tag; [`NO_VALUE`] when there is none.
    #[inline(always)]
    fn first(&self, tag: u16) -> u32 {
        let slots = self.matching(tag);
        if slots.is_empty() { NO_VALUE } else { self.values[slots.first()] }
    }

    #[inline(always)]
    fn passed_by(&self, tag: u16) -> bool {
        self.passed[class(tag)] != 0
    }
}

#[inline(always)]
fn class(tag: u16) -> usize {
    usize::from(tag) % SLOTS
}

#[inline(always)]
fn tag(hash: u64) -> u16 {
    (hash as u16).max(1)
}

/// The index is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexFull;

/// A look at a hash's home bucket, by [`Index::probe`], or at the one behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    home: u32,
    /// The first value found with the tag, unverified, or [`NO_VALUE`].
    value: u32,
    tag: u16,
    /// Nothing with the tag is in the home bucket, but may be in the one behind.
    passed: bool,
}

impl Probe {
    /// The first value that was found with the hash's tag, unverified; [`NO_VALUE`] when there was none.
    #[inline(always)]
    pub fn value(&self) -> u32 {
        self.value
    }
}

/// The index. See the [module](self).
pub struct Index {
    buckets: Box<[Bucket]>,
    len: usize,
}

impl Index {
    /// An index for `entries` entries, which fill two thirds of the slots. All memory is taken and touched here: 12 bytes
    /// per entry.
    pub fn new(entries: usize) -> Self {
        // One entry in thirty is not in its home bucket then, one in two hundred not in the next either. At 80 % it would be
        // one in twelve and one in thirty.
        let buckets = (entries * 3).div_ceil(SLOTS * 2).max(1);
        assert!(u32::try_from(buckets).is_ok(), "{entries} entries are more than an index can hold");
        Index { buckets: vec![Bucket::EMPTY; buckets].into_boxed_slice(), len: 0 }
    }

    /// Entries in the index.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries the index can hold before [`Index::insert`] fails: every slot.
    pub fn capacity(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Bytes of memory the index takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Multiply-shift range reduction, so that any number of buckets will do.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    /// The hash's home bucket, to be prefetched before it is probed.
    #[inline(always)]
    pub fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[self.home(hash)]
    }

    /// Looks for the hash's tag in its home bucket. Probing a whole burst before the first [`Index::resolve`] lets the
    /// bucket loads overlap, and those of what the values name.
    #[inline(always)]
    pub fn probe(&self, hash: u64) -> Probe {
        let (home, tag) = (self.home(hash), tag(hash));
        let bucket = &self.buckets[home];
        let value = bucket.first(tag);
        Probe { home: home as u32, tag, value, passed: value == NO_VALUE && bucket.passed_by(tag) }
    }

    /// The bucket behind the home bucket when [`Index::probe_behind`] should look there, to be prefetched.
    #[inline(always)]
    pub fn behind(&self, probe: &Probe) -> Option<&Bucket> {
        if probe.passed { self.buckets.get(self.next(probe.home as usize)) } else { None }
    }

    /// Looks for the tag in the bucket behind when it was not in the home bucket and may be there, as for one entry in
    /// twenty. True when it did and found something.
    #[inline(always)]
    pub fn probe_behind(&self, probe: &mut Probe) -> bool {
        match self.behind(probe) {
            Some(bucket) => {
                probe.value = bucket.first(probe.tag);
                probe.value != NO_VALUE
            }
            None => false,
        }
    }

    /// The value of the probed hash for which `verify` is true, of all there are now.
    #[inline]
    pub fn resolve(&self, probe: &Probe, verify: impl FnMut(u32) -> bool) -> Option<u32> {
        self.walk(probe.home as usize, probe.tag, verify).map(|(_, _, value)| value)
    }

    /// The value of `hash` for which `verify` is true.
    #[inline(always)]
    pub fn find(&self, hash: u64, verify: impl FnMut(u32) -> bool) -> Option<u32> {
        self.walk(self.home(hash), tag(hash), verify).map(|(_, _, value)| value)
    }

    /// Looks at each entry with `tag` from bucket `home` on, until `verify` is true: its bucket, slot and value.
    #[inline(always)]
    fn walk(&self, home: usize, tag: u16, mut verify: impl FnMut(u32) -> bool) -> Option<(usize, usize, u32)> {
        let mut at = home;
        // Bounded by the number of buckets, should every one of them have been passed.
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut slots = bucket.matching(tag);
            while !slots.is_empty() {
                let (slot, value) = (slots.first(), bucket.values[slots.first()]);
                if verify(value) {
                    return Some((at, slot, value));
                }
                slots = slots.without_first();
            }
            if !bucket.passed_by(tag) {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Adds an entry. The caller makes sure that the same pair is not there yet, and that `value` is not [`NO_VALUE`].
    pub fn insert(&mut self, hash: u64, value: u32) -> Result<(), IndexFull> {
        debug_assert_ne!(value, NO_VALUE);
        if self.len == self.capacity() {
            return Err(IndexFull);
        }
        let tag = tag(hash);
        let mut at = self.home(hash);
        // Ends: there is an empty slot, and each step looks at another bucket.
        loop {
            let free = self.buckets[at].matching(0);
            if !free.is_empty() {
                self.buckets[at].set(free.first(), tag, value);
                self.len += 1;
                return Ok(());
            }
            let passed = &mut self.buckets[at].passed[class(tag)];
            *passed = passed.saturating_add(1);
            at = self.next(at);
        }
    }

    /// Removes the entry with this hash and value; false when there is none.
    pub fn remove(&mut self, hash: u64, value: u32) -> bool {
        let (home, tag) = (self.home(hash), tag(hash));
        let Some((found, slot, _)) = self.walk(home, tag, |v| v == value) else { return false };
        self.buckets[found].set(slot, 0, NO_VALUE);
        self.len -= 1;
        let mut at = home;
        while at != found {
            let passed = &mut self.buckets[at].passed[class(tag)];
            // At least this entry was counted here; a saturated counter has lost count and must stay.
            *passed -= u16::from(*passed != u16::MAX);
            at = self.next(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::Rng;

    /// Values of `hash` by walking the index, each verified to be the wanted one.
    fn has(index: &Index, hash: u64, value: u32) -> bool {
        index.find(hash, |v| v == value) == Some(value) && index.resolve(&index.probe(hash), |v| v == value).is_some()
    }

    #[test]
    fn a_bucket_finds_exactly_the_slots_with_the_tag() {
        let mut rng = Rng::new(1);
        for _ in 0..20_000 {
            // Tags that differ in one bit or by one carry are where lane arithmetic would go wrong.
            let near = [0, 1, 2, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff, rng.u16()];
            let tags: [u16; SLOTS] = std::array::from_fn(|_| *rng.pick(&near));
            let mut bucket = Bucket::EMPTY;
            for (slot, &tag) in tags.iter().enumerate() {
                bucket.set(slot, rng.u16(), 0);
                bucket.set(slot, tag, slot as u32);
            }
            for tag in near {
                let (mut slots, mut found) = (bucket.matching(tag), Vec::new());
                while !slots.is_empty() {
                    found.push(slots.first());
                    slots = slots.without_first();
                }
                found.sort_unstable();
                assert!(found.into_iter().eq((0..SLOTS).filter(|&slot| tags[slot] == tag)), "{tag:#x} in {tags:x?}");
            }
        }
    }

    #[test]
    fn fills_every_slot_and_then_refuses() {
        let mut index = Index::new(100);
        let capacity = index.capacity() as u32;
        let mut rng = Rng::new(2);
        let hashes: Vec<u64> = (0..capacity).map(|_| rng.u64()).collect();
        for (i, &hash) in hashes.iter().enumerate() {
            index.insert(hash, i as u32).unwrap();
        }
        assert_eq!(index.insert(rng.u64(), capacity), Err(IndexFull));
        for (i, &hash) in hashes.iter().enumerate() {
            assert!(has(&index, hash, i as u32));
            assert!(!has(&index, hash, capacity));
        }
    }

    #[test]
    fn emptied_index_is_as_new() {
        let mut index = Index::new(64);
        let mut rng = Rng::new(3);
        let hashes: Vec<u64> = (0..index.capacity()).map(|_| rng.u64()).collect();
        for (i, &hash) in hashes.iter().enumerate() {
            index.insert(hash, i as u32).unwrap();
        }
        for (i, &hash) in hashes.iter().enumerate() {
            assert!(index.remove(hash, i as u32));
            assert!(!index.remove(hash, i as u32));
        }
        assert!(index.is_empty());
        for bucket in &index.buckets {
            assert_eq!(bucket.tags, [0; 8]);
            assert_eq!(bucket.passed, [0; 8], "removal leaves no trace");
            assert_eq!(bucket.values, [NO_VALUE; 8]);
        }
    }

    /// Generated operations against a map, with hashes that collide in the tag, the bucket, or wholly.
    #[test]
    fn agrees_with_a_map() {
        for seed in 0..12 {
            let mut rng = Rng::new(seed);
            let mut index = Index::new(400);
            let mut oracle: HashMap<u32, u64> = HashMap::new();
            for value in 0..60_000 {
                let hash = match seed % 4 {
                    0 => rng.u64(),
                    1 => rng.u64() & 0xffff_ffff_ffff_0003,
                    2 => rng.u64() & 0x8000_0000_0000_ffff,
                    _ => 0,
                };
                // Mostly near the intended fill, at times up to the last slot.
                let target = if value / 10_000 % 2 == 0 { 400 } else { index.capacity() };
                if oracle.len() < target {
                    index.insert(hash, value).unwrap();
                    oracle.insert(value, hash);
                } else {
                    let victim = *oracle.keys().nth(rng.below(oracle.len().min(8))).unwrap();
                    assert!(index.remove(oracle.remove(&victim).unwrap(), victim));
                    assert!(!index.remove(hash, victim));
                }
                assert_eq!(index.len(), oracle.len());
                if value % 997 == 0 {
                    assert!(oracle.iter().all(|(&value, &hash)| has(&index, hash, value)), "seed {seed}");
                    assert!((0..value).step_by(31).all(|v| oracle.contains_key(&v) || !has(&index, hash, v)));
                }
            }
        }
    }

    #[test]
    fn a_probe_outlives_changes() {
        let mut index = Index::new(16);
        let probe = index.probe(7);
        index.insert(7, 1).unwrap();
        assert_eq!(index.resolve(&probe, |v| v == 1), Some(1), "inserted after the probe");
        let probe = index.probe(7);
        assert_eq!(probe.value(), 1);
        assert!(index.remove(7, 1));
        assert_eq!(index.resolve(&probe, |_| false), None, "removed after the probe");
    }

    #[test]
    fn a_probe_looks_behind_a_full_bucket() {
        let mut index = Index::new(40);
        for value in 0..SLOTS as u32 {
            // One bucket, other tags.
            index.insert(u64::from(value) + 2, value).unwrap();
        }
        let mut probe = index.probe(1);
        assert!(index.behind(&probe).is_none() && !index.probe_behind(&mut probe), "nothing passed the bucket");
        index.insert(1, 100).unwrap();
        let mut probe = index.probe(1);
        assert_eq!(probe.value(), NO_VALUE);
        assert!(index.behind(&probe).is_some() && index.probe_behind(&mut probe));
        assert_eq!((probe.value(), index.resolve(&probe, |v| v == 100)), (100, Some(100)));
        // Of the same class: passed by as well, not there.
        let mut probe = index.probe(9 + SLOTS as u64);
        assert!(index.behind(&probe).is_some() && !index.probe_behind(&mut probe));
        assert_eq!(index.resolve(&probe, |_| true), None);
    }

    #[test]
    fn a_saturated_counter_never_hides_an_entry() {
        let mut index = Index::new(40);
        for value in 0..8 {
            index.insert(0, value).unwrap();
        }
        // As if as many entries had passed the full bucket as can be counted, but one.
        index.buckets[0].passed[class(1)] = u16::MAX - 1;
        for value in 8..11 {
            index.insert(0, value).unwrap();
        }
        assert!(index.remove(0, 8) && index.remove(0, 9));
        assert_eq!(index.buckets[0].passed[class(1)], u16::MAX, "it has lost count, and must stay");
        assert!(has(&index, 0, 10));
    }
}
