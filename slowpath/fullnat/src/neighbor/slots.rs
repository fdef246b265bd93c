//! Finding, making and taking back entries: the index, hash buckets of one cache line each, and the stack of free ids.

use std::sync::atomic::{AtomicU32, Ordering};

use super::entry::{Entry, Key, NEW, State, USED, WANTED};
use super::{Full, Neighbors};
use crate::id::NexthopId;
use crate::wire::Mac;

/// Index slots per bucket: one cache line.
pub(super) const BUCKET: usize = 16;

#[repr(align(64))]
pub(super) struct Bucket(pub(super) [AtomicU32; BUCKET]);

impl Neighbors {
    /// Internal ids come from the index or the free list, which hold ids of entries only.
    pub(super) fn entry(&self, id: NexthopId) -> &Entry {
        &self.entries[usize::from(id.0)]
    }

    /// Publishes that an entry changed: the release pairs with the acquire in [`Neighbors::version`].
    pub(super) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn hurry(&self, id: NexthopId) {
        self.urgent[usize::from(id.0) / 64].fetch_or(1 << (id.0 % 64), Ordering::Relaxed);
        // Release: whoever sees the flag sees the bit.
        self.urgent_any.store(true, Ordering::Release);
    }

    pub(super) fn hash(&self, key: Key) -> u64 {
        self.hasher.words(key.words())
    }

    pub(super) fn buckets(&self, hash: u64) -> [&Bucket; 2] {
        let mask = self.index.len() - 1;
        let first = hash as usize & mask;
        let second = (hash >> 24) as usize & mask;
        // Two different buckets always; there are at least two.
        let second = if second == first { first ^ 1 } else { second };
        [&self.index[first], &self.index[second]]
    }

    pub(super) fn slots(&self, hash: u64) -> impl Iterator<Item = &AtomicU32> {
        self.buckets(hash).into_iter().flat_map(|b| b.0.iter())
    }

    /// Counts the caller in if the slot's entry has this key.
    pub(super) fn hold_if(&self, slot: u32, key: Key, hash: u64) -> Option<NexthopId> {
        if slot == 0 || slot >> 16 != (hash >> 48) as u32 {
            return None;
        }
        let id = NexthopId(slot as u16);
        let entry = self.entry(id);
        if !entry.retain() {
            return None;
        }
        if entry.key() == key {
            return Some(id);
        }
        entry.release();
        None
    }

    pub(super) fn find(&self, key: Key, hash: u64) -> Option<NexthopId> {
        self.slots(hash).find_map(|slot| self.hold_if(slot.load(Ordering::Acquire), key, hash))
    }

    pub(super) fn create(&self, key: Key, hash: u64) -> Result<NexthopId, Full> {
        let id = self.pop_free().ok_or(Full)?;
        let entry = self.entry(id);
        entry.begin(key, NEW | USED | WANTED);
        let ours = ((hash >> 48) as u32) << 16 | u32::from(id.0);
        // Everybody takes the first empty slot and looks at the full ones before it. So of two workers with the same
        // next hop the later sees the earlier's, unless a slot before that was freed meanwhile.
        for slot in self.slots(hash) {
            let Err(theirs) = slot.compare_exchange(0, ours, Ordering::AcqRel, Ordering::Acquire) else {
                self.hurry(id);
                return Ok(id);
            };
            if let Some(theirs) = self.hold_if(theirs, key, hash) {
                if self.discard(id) {
                    return Ok(theirs);
                }
                // A reader with an old slot in hand holds ours already: both stay (see the module's text).
                self.release(theirs);
            }
        }
        if !self.discard(id) {
            self.release(id);
        }
        Err(Full)
    }

    /// Takes back an entry that only its maker holds and that is in no slot.
    pub(super) fn discard(&self, id: NexthopId) -> bool {
        let retired = self.entry(id).abandon();
        if retired {
            self.push_free(id);
        }
        retired
    }

    /// Takes back an entry that nobody holds. Only the housekeeper calls it. False when somebody holds it, or has looked
    /// it up since the housekeeper did.
    pub(super) fn evict(&self, id: NexthopId) -> bool {
        let entry = self.entry(id);
        if !entry.retire() {
            return false;
        }
        let hash = self.hash(entry.key());
        for slot in self.slots(hash) {
            if slot.load(Ordering::Relaxed) as u16 == id.0 {
                // Nobody else writes a slot that is not empty.
                slot.store(0, Ordering::Release);
            }
        }
        entry.word.store(State::Incomplete.pack(Mac::default()), Ordering::Relaxed);
        self.changed();
        self.push_free(id);
        true
    }

    /// Treiber's stack. The change count in the high half makes a stale compare-and-swap fail.
    pub(super) fn pop_free(&self) -> Option<NexthopId> {
        let pop = |head: u64| {
            let id = head as u32;
            let next = self.entries[id as usize].next_free.load(Ordering::Relaxed);
            (id != 0).then(|| ((head >> 32).wrapping_add(1) << 32) | u64::from(next))
        };
        let head = self.free.fetch_update(Ordering::Acquire, Ordering::Acquire, pop).ok()?;
        self.free_count.fetch_sub(1, Ordering::Relaxed);
        Some(NexthopId(head as u16))
    }

    pub(super) fn push_free(&self, id: NexthopId) {
        let push = |head: u64| {
            self.entry(id).next_free.store(head as u32, Ordering::Relaxed);
            Some(((head >> 32).wrapping_add(1) << 32) | u64::from(id.0))
        };
        // The closure never declines, so this cannot fail.
        let _ = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, push);
        self.free_count.fetch_add(1, Ordering::Relaxed);
    }
}
