//! One entry of the next-hop table: its key, its word, its holders.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::id::IfaceId;
use crate::wire::Mac;

/// Marks an entry that is nobody's, in its holder count.
const DEAD: u32 = 1 << 31;

const STATE_SHIFT: u32 = 48;
/// Set in the state codes that have a usable MAC address.
const HAS_MAC: u64 = 8 << STATE_SHIFT;

/// A packet waits for the entry.
pub(super) const WANTED: u32 = 1;
/// Somebody looked the entry up.
pub(super) const USED: u32 = 2;
/// The housekeeper has not seen this entry yet.
pub(super) const NEW: u32 = 4;

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

    pub(super) fn pack(self, mac: Mac) -> u64 {
        let code = match self {
            State::Incomplete => 0,
            State::Failed => 1,
            State::Reachable => 8,
            State::Stale => 9,
            State::Static => 10,
        };
        let [a, b, c, d, e, f] = mac.0;
        code << STATE_SHIFT | u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    pub(super) fn of(word: u64) -> State {
        match word >> STATE_SHIFT {
            0 => State::Incomplete,
            1 => State::Failed,
            8 => State::Reachable,
            9 => State::Stale,
            _ => State::Static,
        }
    }
}

pub(super) fn mac_of(word: u64) -> Option<Mac> {
    if word & HAS_MAC == 0 {
        return None;
    }
    let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
    Some(Mac([a, b, c, d, e, f]))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    link: u32,
    high: u64,
    low: u64,
}

impl Key {
    pub(super) fn new(iface: IfaceId, addr: IpAddr) -> Key {
        let (v6, bits) = match addr {
            IpAddr::V4(ip) => (0, u128::from(ip.to_bits())),
            IpAddr::V6(ip) => (1 << 8, ip.to_bits()),
        };
        Key { link: u32::from(iface.0) | v6, high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// All of the key, for hashing.
    pub(super) fn words(self) -> [u64; 3] {
        [self.high, self.low, u64::from(self.link)]
    }

    pub(super) fn iface(self) -> IfaceId {
        IfaceId(self.link as u8)
    }

    pub(super) fn addr(self) -> IpAddr {
        if self.link >> 8 == 0 {
            IpAddr::V4((self.low as u32).into())
        } else {
            IpAddr::V6((u128::from(self.high) << 64 | u128::from(self.low)).into())
        }
    }
}

#[repr(align(64))]
pub(super) struct Entry {
    /// MAC address (48 bits) and state.
    pub(super) word: AtomicU64,
    /// When the MAC address was last confirmed, in ms.
    pub(super) confirmed: AtomicU64,
    /// Holders, or [`DEAD`].
    pub(super) holders: AtomicU32,
    pub(super) flags: AtomicU32,
    pub(super) link: AtomicU32,
    pub(super) next_free: AtomicU32,
    pub(super) high: AtomicU64,
    pub(super) low: AtomicU64,
}

impl Entry {
    pub(super) fn new(next_free: u32) -> Self {
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
    pub(super) fn retain(&self) -> bool {
        let more = |n: u32| (n & DEAD == 0).then(|| n + 1);
        self.holders.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn release(&self) {
        let before = self.holders.fetch_sub(1, Ordering::Release);
        debug_assert!(before & DEAD == 0 && before > 0, "a next hop was released more often than acquired");
    }

    /// Gives the entry, which must be nobody's and not free any more, a key and its first holder.
    pub(super) fn begin(&self, key: Key, flags: u32) {
        self.link.store(key.link, Ordering::Relaxed);
        self.high.store(key.high, Ordering::Relaxed);
        self.low.store(key.low, Ordering::Relaxed);
        self.word.store(State::Incomplete.pack(Mac::default()), Ordering::Relaxed);
        self.confirmed.store(0, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
        self.holders.store(1, Ordering::Release);
    }

    /// Makes the entry nobody's if its only holder is the caller.
    pub(super) fn abandon(&self) -> bool {
        self.holders.compare_exchange(1, DEAD, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Makes the entry nobody's if it has no holder and was not looked up since its flags were taken.
    pub(super) fn retire(&self) -> bool {
        if self.holders.compare_exchange(0, DEAD, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        // Whoever looked it up without staying set a flag before letting go; the exchange saw the letting go, and so
        // the load sees the flag. Nobody writes the count of a dead entry, so it can be brought back by a store.
        if self.flags.load(Ordering::Relaxed) != 0 {
            self.holders.store(0, Ordering::Release);
            return false;
        }
        true
    }

    pub(super) fn live(&self) -> bool {
        self.holders.load(Ordering::Acquire) & DEAD == 0
    }

    /// The key. Meaningful only while the entry cannot be retired under the caller.
    pub(super) fn key(&self) -> Key {
        Key {
            link: self.link.load(Ordering::Relaxed),
            high: self.high.load(Ordering::Relaxed),
            low: self.low.load(Ordering::Relaxed),
        }
    }

    /// Sets the flag; false when it was set already. Avoids the write, and so the cache line's travel, in that case.
    pub(super) fn flag(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != flag && self.flags.fetch_or(flag, Ordering::Relaxed) & flag != flag
    }
}
