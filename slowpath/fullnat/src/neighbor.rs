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
//! - Retiring swaps a count of zero for a mark in one step; from then on nobody can count itself in. Then the housekeeper looks
//!   whether somebody came and went since it last looked, and if so takes the mark back.
//! - Two workers that make the same next hop at the same moment meet in the index and one gives way, unless the
//!   housekeeper frees a slot just then: then both entries may stay. That is harmless: `learn` updates every entry of a
//!   key, each is probed by itself, and the one not found first is taken back once its holders are gone.

mod entry;
pub mod housekeeping;
pub mod pending;
mod pins;
mod slots;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub use entry::State;
use entry::{Entry, Key, USED, WANTED, mac_of};
pub use housekeeping::{Housekeeper, Probe, Probes};
pub use pending::PendingQueue;
pub use pins::Pins;

use slots::{BUCKET, Bucket};

use crate::hash::FlowHasher;
use crate::id::{IfaceId, NexthopId};
use crate::time::Time;
use crate::wire::Mac;

/// The largest table whose ids all fit a VLAN id (0 and 4095 are reserved by 802.1Q), as inject tags need.
pub const DEFAULT_CAPACITY: u16 = 4094;

/// No room for another next hop: every entry is held, or was asked for a moment ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the next-hop table is full")
    }
}

impl std::error::Error for Full {}

/// Where a packet to a next hop goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// By this interface.
    pub iface: IfaceId,
    /// To this MAC address, when known.
    pub mac: Option<Mac>,
}

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

/// The next-hop table. Share it in an `Arc`.
pub struct Neighbors {
    /// By id; ids start at 1, so that 0 can mean "none" in a table or a tag.
    entries: Box<[Entry]>,
    /// Slot: 16 bits of hash, 16 bits of id, 0 when empty. A key is in one of two buckets.
    index: Box<[Bucket]>,
    hasher: FlowHasher,
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
        // At most a quarter full, with a second bucket for what the first cannot take: no overflow before the table is
        // full (a Poisson variable of mean 4 exceeds 16 once in a million, and here twice).
        let buckets = (4 * capacity).div_ceil(BUCKET).next_power_of_two().max(2);
        let next = |id: usize| if id < capacity { id as u32 + 1 } else { 0 };
        Neighbors {
            entries: (0..=capacity).map(|id| Entry::new(next(id))).collect(),
            index: (0..buckets).map(|_| Bucket(std::array::from_fn(|_| AtomicU32::new(0)))).collect(),
            hasher: FlowHasher::new(hash_key[0], hash_key[1]),
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

    /// Interface and MAC address of a next hop that the caller holds: two relaxed loads of one line.
    #[inline(always)]
    pub fn hop(&self, id: NexthopId) -> Option<Hop> {
        let entry = self.entries.get(usize::from(id.0))?;
        let mac = mac_of(entry.word.load(Ordering::Relaxed));
        Some(Hop { iface: IfaceId(entry.link.load(Ordering::Relaxed) as u8), mac })
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
}

#[cfg(test)]
mod tests;
