//! Persistence: which real server a client prefix was sent to last, shared by all workers, without locks.
//!
//! The table is a fixed array of 64-bit words in sets of eight, one set per cache line. A word holds everything: 24 bits
//! of tag, the server's id, and the second in which it expires. So every update is one compare-and-swap, and no reader
//! can see half of one. A set that is full gives up the word that expires first: memory is bounded, and when too many
//! clients are remembered the ones that have been away longest are forgotten early.
//!
//! # What it does not promise
//!
//! A word is a hint for the *choice* of a server, nothing else: sessions know their server themselves. So none of these
//! can break a connection, they only send a client's next connection to another server than its last:
//!
//! - Two prefixes with the same set and tag are taken for one. A lookup of an unknown prefix meets at most eight words,
//!   each equal by chance with probability 2⁻²⁴: less than one in two million.
//! - Two first connections of one prefix at the same moment on two workers may go to two servers. The later stays.
//! - A word not touched for 97 days looks valid again for as long: the seconds are counted modulo 2²⁴.
//!
//! # Drained and full servers
//!
//! A remembered server is asked by [`sched::rejoin`](crate::sched::rejoin). Weight 0 takes no new connection at all,
//! remembered clients included, as IPVS does with `expire_quiescent_template`: draining would otherwise last as
//! long as clients come back. A client whose server is drained, gone or full is scheduled anew and remembered there.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::addr::Addr;
use crate::hash::FlowHasher;
use crate::id::{ServerId, ServiceId};
use crate::plan::PersistenceRule;
use crate::time::Time;

/// Words per set: one cache line.
const WAYS: usize = 8;
const TAG_SHIFT: u32 = 40;
const SERVER_SHIFT: u32 = 24;
const SECONDS: u32 = (1 << 24) - 1;

#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The table of all services.
pub struct Persistence {
    sets: Box<[Set]>,
    hasher: FlowHasher,
}

/// A client prefix of a service, hashed. Valid for the table that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientKey(u64);

impl ClientKey {
    /// Never 0, so that no valid word is 0, which means empty.
    fn tag(self) -> u64 {
        (self.0 >> TAG_SHIFT).max(1)
    }
}

impl fmt::Debug for Persistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Persistence({} slots)", self.slots())
    }
}

impl Persistence {
    /// A table with room for `slots` client prefixes, rounded up to a power of two (8 bytes each). `key` is random and
    /// secret, so that nobody can choose addresses that push a given client out.
    pub fn new(slots: usize, key: [u64; 2]) -> Self {
        let sets = slots.div_ceil(WAYS).next_power_of_two();
        let set = || Set(std::array::from_fn(|_| AtomicU64::new(0)));
        Persistence { sets: (0..sets).map(|_| set()).collect(), hasher: FlowHasher::new(key[0], key[1]) }
    }

    /// Client prefixes there is room for.
    pub fn slots(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// The key of `client`'s prefix in a service.
    pub fn key<A: Addr>(&self, service: ServiceId, rule: &PersistenceRule, client: A) -> ClientKey {
        let [high, low] = client.words();
        let bits = u128::from(high) << 64 | u128::from(low);
        let (width, len) = if A::IS_V6 { (128, rule.prefix_v6) } else { (32, rule.prefix_v4) };
        let host_bits = width - u32::from(len).min(width);
        let prefix = bits.checked_shr(host_bits).unwrap_or(0);
        let family_and_service = u64::from(A::IS_V6) << 16 | u64::from(service.0);
        ClientKey(self.hasher.words([(prefix >> 64) as u64, prefix as u64, family_and_service]))
    }

    /// The server the client's prefix was sent to last, unless that is forgotten. It may not take connections any more:
    /// see [`sched::rejoin`](crate::sched::rejoin).
    pub fn get(&self, key: ClientKey, now: Time) -> Option<ServerId> {
        let now = seconds(now);
        // Relaxed: a word is whole in itself and leads to nothing else.
        let words = self.set_of(key).0.iter().map(|w| w.load(Ordering::Relaxed));
        words.filter(|&w| tag(w) == key.tag() && lasts(w, now) > 0).map(server).next()
    }

    /// Remembers the server for the client's prefix until `timeout_ms` from now, rounded up to seconds. Call it for each
    /// new connection, with a server just chosen or the one remembered: that starts the timeout anew.
    pub fn set(&self, key: ClientKey, server: ServerId, timeout_ms: u64, now: Time) {
        let set = self.set_of(key);
        let expires = now.after(timeout_ms.min(u64::from(SECONDS / 2) * 1000)).after(999);
        let word = key.tag() << TAG_SHIFT | u64::from(server.0) << SERVER_SHIFT | u64::from(seconds(expires));
        // A failure means that another worker wrote the word just now. After as many as there are words the set is so
        // busy that being forgotten is no surprise.
        for _ in 0..WAYS {
            let (slot, found) = victim(set, key, seconds(now));
            if slot.compare_exchange(found, word, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn set_of(&self, key: ClientKey) -> &Set {
        // The tag is the top 24 bits; the index comes from the others.
        &self.sets[key.0 as usize & (self.sets.len() - 1)]
    }
}

/// The word to write: the key's own, else an empty or expired one, else the one that expires first.
fn victim(set: &Set, key: ClientKey, now: u32) -> (&AtomicU64, u64) {
    let mut best = (&set.0[0], 0, i32::MAX);
    for slot in &set.0 {
        let word = slot.load(Ordering::Relaxed);
        if tag(word) == key.tag() {
            return (slot, word);
        }
        let left = if word == 0 { i32::MIN } else { lasts(word, now).max(0) };
        if left < best.2 {
            best = (slot, word, left);
        }
    }
    (best.0, best.1)
}

fn seconds(time: Time) -> u32 {
    (time.0 / 1000) as u32 & SECONDS
}

fn tag(word: u64) -> u64 {
    word >> TAG_SHIFT
}

fn server(word: u64) -> ServerId {
    ServerId((word >> SERVER_SHIFT) as u16)
}

/// Seconds until the word expires; not above 0 when it has.
fn lasts(word: u64, now: u32) -> i32 {
    // 24-bit serial numbers: the difference, sign-extended.
    ((word as u32).wrapping_sub(now) << 8) as i32 >> 8
}

#[cfg(test)]
mod tests;
