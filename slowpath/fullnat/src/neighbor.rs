//! The next-hop table: which MAC address a packet to a next hop carries. One table, shared by all workers, without locks.
//!
//! A [`NexthopId`] names one next hop, an address on an interface, for as long as somebody holds it, and is the key of
//! the P4 `nexthop` table too. Workers read a MAC address by id with one atomic load per packet ([`Neighbors::mac`]).
//! Everything else happens per session or less often.
//!
//! Life of an entry: [`Neighbors::acquire`] finds or makes it and counts a holder (a session, or a pin of control:
//! gateways, real servers, static entries). When the last holder has [released](Neighbors::release) it and nobody asked
//! for it for a while, the [`Housekeeper`] takes it back. So spoofed on-link clients can fill the table only for as long
//! as their sessions last. The housekeeper, driven by one worker, sends all probes; any worker may
//! [learn](Neighbors::learn) from a reply.
//!
//! # Memory ordering
//!
//! - The MAC address and state are one word. A reader needs nothing else, so it loads relaxed, and a change is seen
//!   from one of the next packets on.
//! - An entry's key is written before its holder count is stored with release; whoever counts itself in
//!   does so with an acquiring read-modify-write on that count and reads the key after. While the count is not zero the
//!   entry cannot be retired, so the key it then compares cannot change. An index slot is only a hint where to look.
//! - Retiring swaps a count of zero for a mark in one step; from then on nobody can count itself in.
//! - Two workers that make the same next hop at the same moment almost always meet at the same index slot and one gives
//!   way. If a third freed another slot meanwhile, both entries stay. That is harmless: `learn` updates every entry of a
//!   key, each is probed by itself, and the one not found first is taken back once its holders are gone.

pub mod housekeeping;
pub mod pending;
mod pins;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub use housekeeping::{Housekeeper, Probe, Probes};
pub use pending::PendingQueue;
pub use pins::Pins;

use crate::id::{IfaceId, NexthopId};
use crate::time::Time;
use crate::wire::Mac;

/// The largest table whose ids all fit a VLAN id (0 and 4095 are reserved by 802.1Q), as inject tags need.
pub const DEFAULT_CAPACITY: u16 = 4094;

/// Index slots per bucket: one cache line.
const BUCKET: usize = 16;
/// Marks an entry that is nobody's, in its holder count.
const DEAD: u32 = 1 << 31;

const MAC_BITS: u64 = (1 << 48) - 1;
const STATE_SHIFT: u32 = 48;
/// Set in the state codes that have a usable MAC address.
const HAS_MAC: u64 = 8 << STATE_SHIFT;

/// A packet waits for the entry.
const WANTED: u32 = 1;
/// Somebody looked the entry up.
const USED: u32 = 2;
/// The housekeeper has not seen this entry yet.
const NEW: u32 = 4;

/// What is known of a next hop (RFC 4861, 7.3.2; the same for ARP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Being asked for; no MAC address yet.
    Incomplete,
    /// Did not answer; asked again, less and less often, while it is wanted.
    Failed,
    /// Answered lately.
    Reachable,
    /// The MAC address is used but not confirmed lately; being probed while in use.
    Stale,
    /// Configured.
    Static,
}

impl State {
    /// The name in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            State::Incomplete => "incomplete",
            State::Failed => "failed",
            State::Reachable => "reachable",
            State::Stale => "stale",
            State::Static => "static",
        }
    }

    fn pack(self, mac: Mac) -> u64 {
        let code = match self {
            State::Incomplete => 0,
            State::Failed => 1,
            State::Reachable => 8,
            State::Stale => 9,
            State::Static => 10,
        };
        let [a, b, c, d, e, f] = mac.0;
        code << STATE_SHIFT | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    fn of(word: u64) -> State {
        match word >> STATE_SHIFT {
            0 => State::Incomplete,
            1 => State::Failed,
            8 => State::Reachable,
            9 => State::Stale,
            _ => State::Static,
        }
    }
}

fn mac_of(word: u64) -> Option<Mac> {
    if word & HAS_MAC == 0 {
        return None;
    }
    let [_, _, a, b, c, d, e, f] = (word & MAC_BITS).to_be_bytes();
    Some(Mac([a, b, c, d, e, f]))
}

/// No room for another next hop: every entry is held, or was asked for a moment ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the next-hop table is full")
    }
}

impl std::error::Error for Full {}

/// One next hop as listings and the mirror in a switch see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbor {
    /// Its id.
    pub id: NexthopId,
    /// The interface it is on.
    pub iface: IfaceId,
    /// Its address.
    pub addr: IpAddr,
    /// Its MAC address when known.
    pub mac: Option<Mac>,
    /// What is known of it.
    pub state: State,
    /// Sessions and pins that hold it.
    pub holders: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    link: u32,
    high: u64,
    low: u64,
}

impl Key {
    fn new(iface: IfaceId, addr: IpAddr) -> Key {
        let (v6, bits) = match addr {
            IpAddr::V4(ip) => (0, u128::from(ip.to_bits())),
            IpAddr::V6(ip) => (1 << 8, ip.to_bits()),
        };
        Key { link: u32::from(iface.0) | v6, high: (bits >> 64) as u64, low: bits as u64 }
    }

    fn iface(self) -> IfaceId {
        IfaceId(self.link as u8)
    }

    fn addr(self) -> IpAddr {
        if self.link >> 8 == 0 {
            IpAddr::V4((self.low as u32).into())
        } else {
            IpAddr::V6((u128::from(self.high) << 64 | u128::from(self.low)).into())
        }
    }
}

#[repr(align(64))]
struct Entry {
    /// MAC address (48 bits) and state.
    word: AtomicU64,
    /// When the MAC address was last confirmed, in ms.
    confirmed: AtomicU64,
    /// Holders, or [`DEAD`].
    holders: AtomicU32,
    flags: AtomicU32,
    link: AtomicU32,
    next_free: AtomicU32,
    high: AtomicU64,
    low: AtomicU64,
}

impl Entry {
    fn new(next_free: u32) -> Self {
        Entry {
            word: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            holders: AtomicU32::new(DEAD),
            flags: AtomicU32::new(0),
            link: AtomicU32::new(0),
            next_free: AtomicU32::new(next_free),
            high: AtomicU64::new(0),
            low: AtomicU64::new(0),
        }
    }

    /// Counts one more holder; false when the entry is nobody's.
    fn retain(&self) -> bool {
        let more = |n: u32| (n & DEAD == 0).then(|| n + 1);
        self.holders.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    fn release(&self) {
        let before = self.holders.fetch_sub(1, Ordering::Release);
        debug_assert!(before & DEAD == 0 && before > 0, "a next hop was released more often than acquired");
    }

    /// Makes the entry nobody's if it has exactly so many holders.
    fn retire(&self, holders: u32) -> bool {
        self.holders.compare_exchange(holders, DEAD, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn live(&self) -> bool {
        self.holders.load(Ordering::Acquire) & DEAD == 0
    }

    /// The key. Meaningful only while the entry cannot be retired under the caller.
    fn key(&self) -> Key {
        Key {
            link: self.link.load(Ordering::Relaxed),
            high: self.high.load(Ordering::Relaxed),
            low: self.low.load(Ordering::Relaxed),
        }
    }

    /// Sets the flag; false when it was set already. Avoids the write, and so the cache line's travel, in that case.
    fn flag(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != flag && self.flags.fetch_or(flag, Ordering::Relaxed) & flag != flag
    }
}

#[repr(align(64))]
struct Bucket([AtomicU32; BUCKET]);

/// The next-hop table. Share it in an `Arc`.
pub struct Neighbors {
    /// By id; ids start at 1, so that 0 can mean "none" in a table or a tag.
    entries: Box<[Entry]>,
    /// Slot: 16 bits of hash, 16 bits of id, 0 when empty. A key is in one of two buckets.
    index: Box<[Bucket]>,
    hash_key: [u64; 2],
    /// Top of the stack of free ids, in the low half; the high half counts changes, against the ABA problem.
    free: AtomicU64,
    free_count: AtomicU32,
    version: AtomicU64,
    /// One bit per id: look at it at once.
    urgent: Box<[AtomicU64]>,
    urgent_any: AtomicBool,
    housekept: AtomicBool,
}

impl fmt::Debug for Neighbors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Neighbors {
    /// A table for up to `capacity` next hops, with ids 1 to `capacity`. `hash_key` is random, so that hosts on the
    /// link cannot choose addresses that crowd one bucket.
    pub fn new(capacity: u16, hash_key: [u64; 2]) -> Self {
        let capacity = usize::from(capacity.clamp(1, u16::MAX - 1));
        // At most half full, with two buckets of 16 to choose from: a bucket practically never overflows before the
        // table is full.
        let buckets = (2 * capacity).div_ceil(BUCKET).next_power_of_two().max(2);
        let next = |id: usize| if id < capacity { id as u32 + 1 } else { 0 };
        Neighbors {
            entries: (0..=capacity).map(|id| Entry::new(next(id))).collect(),
            index: (0..buckets).map(|_| Bucket(std::array::from_fn(|_| AtomicU32::new(0)))).collect(),
            hash_key,
            free: AtomicU64::new(1),
            free_count: AtomicU32::new(capacity as u32),
            version: AtomicU64::new(0),
            urgent: (0..=capacity / 64).map(|_| AtomicU64::new(0)).collect(),
            urgent_any: AtomicBool::new(false),
            housekept: AtomicBool::new(false),
        }
    }

    /// The MAC address to send to, when known: one relaxed load.
    #[inline(always)]
    pub fn mac(&self, id: NexthopId) -> Option<Mac> {
        mac_of(self.entries.get(usize::from(id.0))?.word.load(Ordering::Relaxed))
    }

    /// What is known of the next hop; `None` for an id that is nobody's.
    pub fn state(&self, id: NexthopId) -> Option<State> {
        let entry = self.entries.get(usize::from(id.0))?;
        entry.live().then(|| State::of(entry.word.load(Ordering::Relaxed)))
    }

    /// True when the next hop did not answer: packets to it are dropped, not queued. Call [`Neighbors::want`] all the
    /// same, so that it is asked again.
    #[inline]
    pub fn failed(&self, id: NexthopId) -> bool {
        self.entries.get(usize::from(id.0)).is_some_and(|e| State::of(e.word.load(Ordering::Relaxed)) == State::Failed)
    }

    /// Says that a packet waits for the next hop. Call it whenever [`Neighbors::mac`] gives nothing.
    #[inline]
    pub fn want(&self, id: NexthopId) {
        if let Some(entry) = self.entries.get(usize::from(id.0))
            && entry.flag(WANTED | USED)
        {
            self.hurry(id);
        }
    }

    /// Finds or makes the next hop and counts the caller as a holder, until it [releases](Neighbors::release) it. While
    /// held, the id means this next hop and nothing else.
    pub fn acquire(&self, iface: IfaceId, addr: IpAddr) -> Result<NexthopId, Full> {
        let key = Key::new(iface, addr);
        let hash = self.hash(key);
        match self.find(key, hash) {
            Some(id) => {
                self.entry(id).flag(USED);
                Ok(id)
            }
            None => self.create(key, hash),
        }
    }

    /// Finds or makes the next hop without counting the caller. The id is good for use at once, not for keeping: with
    /// no holder it stays at least [`MIN_UNUSED_MS`](housekeeping::MIN_UNUSED_MS) after the last call.
    pub fn resolve(&self, iface: IfaceId, addr: IpAddr) -> Result<NexthopId, Full> {
        let id = self.acquire(iface, addr)?;
        self.release(id);
        Ok(id)
    }

    /// Counts one more holder of an id that the caller holds already or has just resolved. False when it is nobody's.
    pub fn retain(&self, id: NexthopId) -> bool {
        self.entries.get(usize::from(id.0)).is_some_and(Entry::retain)
    }

    /// Gives up what [`Neighbors::acquire`] or [`Neighbors::retain`] counted.
    pub fn release(&self, id: NexthopId) {
        if let Some(entry) = self.entries.get(usize::from(id.0)) {
            entry.release();
        }
    }

    /// Takes a MAC address from an ARP packet or a neighbour discovery message. Only known next hops are updated, so
    /// that strangers cannot fill the table; static ones never are. `solicited`: it answers a probe, and so proves that
    /// the neighbour receives us (RFC 4861, 7.2.5). Otherwise (gratuitous ARP, a request's sender, an unsolicited
    /// advertisement) a new MAC address is used at once, as failover needs, and probed. True when the MAC address is
    /// new or has changed.
    pub fn learn(&self, iface: IfaceId, addr: IpAddr, mac: Mac, now: Time, solicited: bool) -> bool {
        if mac.0[0] & 1 != 0 || mac == Mac::default() {
            return false; // A group address or none at all: RFC 1812, 3.3.2 forbids to believe it.
        }
        let key = Key::new(iface, addr);
        let hash = self.hash(key);
        let mut changed = false;
        for slot in self.slots(hash) {
            if let Some(id) = self.hold_if(slot.load(Ordering::Acquire), key, hash) {
                changed |= self.learn_entry(id, mac, now, solicited);
                self.release(id);
            }
        }
        changed
    }

    fn learn_entry(&self, id: NexthopId, mac: Mac, now: Time, solicited: bool) -> bool {
        let entry = self.entry(id);
        if solicited {
            entry.confirmed.store(now.0, Ordering::Relaxed);
        }
        let next = |word: u64| match (State::of(word), mac_of(word)) {
            (State::Static, _) => None,
            _ if solicited => Some(State::Reachable.pack(mac)),
            (_, Some(known)) if known == mac => None,
            _ => Some(State::Stale.pack(mac)),
        };
        match entry.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(before) if mac_of(before) != Some(mac) => {
                self.changed();
                self.hurry(id);
                true
            }
            _ => false,
        }
    }

    /// Enters a configured MAC address and holds the entry as [`Neighbors::acquire`] does.
    pub fn acquire_static(&self, iface: IfaceId, addr: IpAddr, mac: Mac) -> Result<NexthopId, Full> {
        let id = self.acquire(iface, addr)?;
        if self.entry(id).word.swap(State::Static.pack(mac), Ordering::Relaxed) != State::Static.pack(mac) {
            self.changed();
        }
        Ok(id)
    }

    /// Makes a static entry one that is asked for like any other. The caller still holds it.
    pub fn make_dynamic(&self, id: NexthopId) {
        let entry = self.entry(id);
        let next = |word: u64| (State::of(word) == State::Static).then(|| State::Incomplete.pack(Mac::default()));
        if entry.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok() {
            self.changed();
            self.hurry(id);
        }
    }

    /// Counts the changes of what [`Neighbors::mac`] answers. A mirror reads it, then the entries; if it reads the same
    /// number later, nothing changed since.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All next hops, by id. Each is read whole; the list is not one moment's.
    pub fn iter(&self) -> impl Iterator<Item = Neighbor> {
        (1..self.entries.len()).filter_map(|i| self.get(NexthopId(i as u16)))
    }

    /// One next hop.
    pub fn get(&self, id: NexthopId) -> Option<Neighbor> {
        let entry = self.entries.get(usize::from(id.0))?;
        if !entry.retain() {
            return None;
        }
        let (key, word) = (entry.key(), entry.word.load(Ordering::Relaxed));
        let holders = entry.holders.load(Ordering::Relaxed) - 1;
        entry.release();
        let (iface, addr) = (key.iface(), key.addr());
        Some(Neighbor { id, iface, addr, mac: mac_of(word), state: State::of(word), holders })
    }

    /// Most next hops the table holds.
    pub fn capacity(&self) -> usize {
        self.entries.len() - 1
    }

    /// Next hops there is still room for.
    pub fn room(&self) -> usize {
        self.free_count.load(Ordering::Relaxed) as usize
    }

    /// Internal ids come from the index or the free list, which hold ids of entries only.
    fn entry(&self, id: NexthopId) -> &Entry {
        &self.entries[usize::from(id.0)]
    }

    /// Publishes that an entry changed: the release pairs with the acquire in [`Neighbors::version`].
    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    fn hurry(&self, id: NexthopId) {
        self.urgent[usize::from(id.0) / 64].fetch_or(1 << (id.0 % 64), Ordering::Relaxed);
        // Release: whoever sees the flag sees the bit.
        self.urgent_any.store(true, Ordering::Release);
    }

    fn hash(&self, key: Key) -> u64 {
        let fold = |a: u64, b: u64| {
            let wide = u128::from(a) * u128::from(b);
            wide as u64 ^ (wide >> 64) as u64
        };
        let [k0, k1] = self.hash_key;
        let first = fold(key.low ^ k0, key.high ^ k1 ^ 0x9e37_79b9_7f4a_7c15);
        fold(first ^ u64::from(key.link) ^ k1, 0xd6e8_feb8_6659_fd93 ^ k0)
    }

    fn buckets(&self, hash: u64) -> [&Bucket; 2] {
        let mask = self.index.len() - 1;
        let first = hash as usize & mask;
        let second = (hash >> 24) as usize & mask;
        // Two different buckets always; there are at least two.
        let second = if second == first { first ^ 1 } else { second };
        [&self.index[first], &self.index[second]]
    }

    fn slots(&self, hash: u64) -> impl Iterator<Item = &AtomicU32> {
        self.buckets(hash).into_iter().flat_map(|b| b.0.iter())
    }

    /// Counts the caller in if the slot's entry has this key.
    fn hold_if(&self, slot: u32, key: Key, hash: u64) -> Option<NexthopId> {
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

    fn find(&self, key: Key, hash: u64) -> Option<NexthopId> {
        self.slots(hash).find_map(|slot| self.hold_if(slot.load(Ordering::Acquire), key, hash))
    }

    fn create(&self, key: Key, hash: u64) -> Result<NexthopId, Full> {
        let id = self.pop_free().ok_or(Full)?;
        let entry = self.entry(id);
        entry.link.store(key.link, Ordering::Relaxed);
        entry.high.store(key.high, Ordering::Relaxed);
        entry.low.store(key.low, Ordering::Relaxed);
        entry.word.store(State::Incomplete.pack(Mac::default()), Ordering::Relaxed);
        entry.confirmed.store(0, Ordering::Relaxed);
        entry.flags.store(NEW | USED | WANTED, Ordering::Relaxed);
        entry.holders.store(1, Ordering::Release);
        let slot = ((hash >> 48) as u32) << 16 | u32::from(id.0);
        loop {
            let Some(empty) = self.empty_slot(hash) else {
                return if self.discard(id) { Err(Full) } else { Ok(id) };
            };
            if empty.compare_exchange(0, slot, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.hurry(id);
                return Ok(id);
            }
            // Somebody took the slot, perhaps for the same next hop. If so ours is not needed, unless a reader with an
            // old slot in hand holds it already; then both stay (see the module's text).
            if let Some(theirs) = self.find(key, hash) {
                if self.discard(id) {
                    return Ok(theirs);
                }
                self.release(theirs);
            }
        }
    }

    /// An empty slot in the emptier of the key's buckets.
    fn empty_slot(&self, hash: u64) -> Option<&AtomicU32> {
        let is_empty = |slot: &&AtomicU32| slot.load(Ordering::Relaxed) == 0;
        let room = |b: &Bucket| b.0.iter().filter(is_empty).count();
        let [first, second] = self.buckets(hash);
        let emptier = if room(second) > room(first) { second } else { first };
        emptier.0.iter().find(is_empty)
    }

    /// Takes back an entry that only its maker holds and that is in no slot.
    fn discard(&self, id: NexthopId) -> bool {
        let retired = self.entry(id).retire(1);
        if retired {
            self.push_free(id);
        }
        retired
    }

    /// Takes back an entry that nobody holds. Only the housekeeper calls it. False when somebody holds it after all.
    fn evict(&self, id: NexthopId) -> bool {
        let entry = self.entry(id);
        if !entry.retire(0) {
            return false;
        }
        let hash = self.hash(entry.key());
        for slot in self.slots(hash) {
            let value = slot.load(Ordering::Relaxed);
            if value as u16 == id.0 {
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
    fn pop_free(&self) -> Option<NexthopId> {
        let pop = |head: u64| {
            let id = head as u32;
            let next = self.entries[id as usize].next_free.load(Ordering::Relaxed);
            (id != 0).then(|| ((head >> 32).wrapping_add(1) << 32) | u64::from(next))
        };
        let head = self.free.fetch_update(Ordering::Acquire, Ordering::Acquire, pop).ok()?;
        self.free_count.fetch_sub(1, Ordering::Relaxed);
        Some(NexthopId(head as u16))
    }

    fn push_free(&self, id: NexthopId) {
        let push = |head: u64| {
            self.entry(id).next_free.store(head as u32, Ordering::Relaxed);
            Some(((head >> 32).wrapping_add(1) << 32) | u64::from(id.0))
        };
        // The closure never declines, so this cannot fail.
        let _ = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, push);
        self.free_count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
