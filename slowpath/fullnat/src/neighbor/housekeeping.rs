//! Asking next hops for their MAC addresses, again and again as RFC 4861 does, and taking back what nobody uses.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Neighbors;
use super::entry::{Entry, NEW, State, USED, WANTED, mac_of};
use crate::id::{IfaceId, NexthopId};
use crate::time::Time;
use crate::wire::Mac;

/// Milliseconds between probes (RFC 4861: RETRANS_TIMER).
pub const RETRANSMIT_MS: u64 = 1000;
/// Probes of one kind before giving up (RFC 4861: MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
pub const PROBES: u8 = 3;
/// Milliseconds a confirmation lasts, on average; by next hop from 25 to 35 s, so that probes do not come in herds
/// (RFC 4861: REACHABLE_TIME 30 s).
pub const REACHABLE_MS: u64 = 30_000;
/// Milliseconds an unheld entry stays after it was last asked for.
pub const UNUSED_MS: u64 = 60_000;
/// The same when three quarters of the table are taken. Longer than a packet waits in a
/// [`PendingQueue`](super::PendingQueue), which holds ids without counting.
pub const MIN_UNUSED_MS: u64 = 5_000;
/// Milliseconds a failed next hop is left alone at first; doubles with each failure up to [`MAX_BACKOFF_MS`].
pub const BACKOFF_MS: u64 = 1_000;
/// The longest pause between two rounds of probes to a failed next hop that is still wanted.
pub const MAX_BACKOFF_MS: u64 = 8_000;
/// Most probes one call of [`Housekeeper::due`] gives: the rate limit of a burst.
pub const PROBES_PER_CALL: usize = 32;

/// Milliseconds between two stripes of the round over all entries, and into how many stripes it is cut.
const STRIPE_MS: u64 = 10;
const STRIPES: u64 = 16;

/// A question to send: an ARP request or a neighbour solicitation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// By this interface.
    pub iface: IfaceId,
    /// For this address.
    pub addr: IpAddr,
    /// To this MAC address; `None`: to all (ARP broadcast, solicited-node multicast).
    pub to: Option<Mac>,
    /// The next hop it is about.
    pub id: NexthopId,
}

/// The probes of one call. Make it once, use it again.
#[derive(Clone, Debug)]
pub struct Probes {
    probes: [Probe; PROBES_PER_CALL],
    len: usize,
}

impl Probes {
    /// An empty list.
    pub fn new() -> Self {
        let none = Probe { iface: IfaceId(0), addr: IpAddr::V4([0; 4].into()), to: None, id: NexthopId(0) };
        Probes { probes: [none; PROBES_PER_CALL], len: 0 }
    }

    fn is_full(&self) -> bool {
        self.len == self.probes.len()
    }

    fn push(&mut self, probe: Probe) {
        if let Some(slot) = self.probes.get_mut(self.len) {
            *slot = probe;
            self.len += 1;
        }
    }
}

impl Default for Probes {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Probes {
    type Target = [Probe];

    fn deref(&self) -> &[Probe] {
        &self.probes[..self.len]
    }
}

/// What only the housekeeper knows of an entry.
#[derive(Clone, Copy, Default)]
struct Clock {
    /// MAC address and state at the last visit; a difference means that somebody learned something.
    seen: u64,
    /// When to act next.
    due: Time,
    last_used: Time,
    /// Probes sent since the state changed.
    probes: u8,
    /// Rounds of probes without an answer.
    failures: u8,
}

/// The one worker's part: sends probes, lets entries age, takes back unused ones. At most one per table at a time.
pub struct Housekeeper {
    table: Arc<Neighbors>,
    clocks: Box<[Clock]>,
    cursor: usize,
    last_stripe: Time,
}

impl fmt::Debug for Housekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Housekeeper({} entries)", self.clocks.len() - 1)
    }
}

impl Housekeeper {
    /// The table's housekeeper; `None` when it has one.
    pub fn new(table: Arc<Neighbors>) -> Option<Self> {
        if table.housekept.swap(true, Ordering::AcqRel) {
            return None;
        }
        let clocks = vec![Clock::default(); table.entries.len()].into();
        Some(Housekeeper { table, clocks, cursor: 0, last_stripe: Time(0) })
    }

    /// Fills `out` with the probes to send now. Call it in every round of the worker's loop: it costs one load when
    /// there is nothing new, and looks over a sixteenth of the table every 10 ms. New and newly wanted next hops are
    /// asked for at the very next call.
    pub fn due(&mut self, now: Time, out: &mut Probes) {
        out.len = 0;
        // Acquire: pairs with the release in `hurry`.
        if self.table.urgent_any.load(Ordering::Relaxed) && self.table.urgent_any.swap(false, Ordering::Acquire) {
            self.visit_urgent(now, out);
        }
        let stripes = (now.since(self.last_stripe) / STRIPE_MS).min(STRIPES);
        if stripes == 0 {
            return;
        }
        for _ in 0..self.clocks.len().div_ceil(STRIPES as usize) * stripes as usize {
            if out.is_full() {
                return; // The next call goes on here.
            }
            self.visit(self.cursor, now, out);
            self.cursor = (self.cursor + 1) % self.clocks.len();
        }
        self.last_stripe = now;
    }

    fn visit_urgent(&mut self, now: Time, out: &mut Probes) {
        for word in 0..self.table.urgent.len() {
            if self.table.urgent[word].load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = self.table.urgent[word].swap(0, Ordering::Relaxed);
            while bits != 0 {
                if out.is_full() {
                    self.table.urgent[word].fetch_or(bits, Ordering::Relaxed);
                    self.table.urgent_any.store(true, Ordering::Release);
                    return;
                }
                self.visit(word * 64 + bits.trailing_zeros() as usize, now, out);
                bits &= bits - 1;
            }
        }
    }

    /// Looks at one entry. Adds at most one probe.
    fn visit(&mut self, i: usize, now: Time, out: &mut Probes) {
        let (Some(entry), Some(clock)) = (self.table.entries.get(i), self.clocks.get_mut(i)) else { return };
        if !entry.live() {
            return;
        }
        let id = NexthopId(i as u16);
        let flags = entry.flags.swap(0, Ordering::Relaxed);
        let held = entry.holders.load(Ordering::Relaxed) != 0;
        if flags & NEW != 0 {
            *clock = Clock { due: now, ..Clock::default() };
        }
        if held || flags & (USED | WANTED) != 0 {
            clock.last_used = now;
        } else if now.since(clock.last_used) >= self.table.patience() {
            self.table.evict(id);
            return;
        }
        if let Some(to) = self.table.age(entry, clock, id, now, held || flags & WANTED != 0) {
            let key = entry.key();
            out.push(Probe { iface: key.iface(), addr: key.addr(), to, id });
        }
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.table.housekept.store(false, Ordering::Release);
    }
}

impl Neighbors {
    /// Moves an entry's state on as time goes. `Some` when a probe is to be sent: to this MAC address, or to all.
    fn age(&self, entry: &Entry, clock: &mut Clock, id: NexthopId, now: Time, wanted: bool) -> Option<Option<Mac>> {
        let mut word = entry.word.load(Ordering::Relaxed);
        if word != clock.seen {
            // Learned by somebody since the last visit.
            (clock.seen, clock.probes, clock.due) = (word, 0, now);
        }
        if State::of(word) == State::Reachable {
            clock.failures = 0;
            let confirmed = Time(entry.confirmed.load(Ordering::Relaxed));
            if now.since(confirmed) >= reachable_ms(id) {
                word = self.advance(entry, clock, word, State::Stale, now)?;
            }
        }
        let in_use = wanted || now.since(clock.last_used) < MIN_UNUSED_MS;
        match State::of(word) {
            State::Static | State::Reachable => return None,
            State::Stale if !in_use => return None,
            State::Failed if !wanted => return None,
            _ if now < clock.due => return None,
            State::Failed => word = self.advance(entry, clock, word, State::Incomplete, now)?,
            State::Stale | State::Incomplete => {}
        }
        let known = mac_of(word);
        let unicasts = if known.is_some() { PROBES } else { 0 };
        if clock.probes == unicasts + PROBES {
            let pause = (BACKOFF_MS << clock.failures.min(16)).min(MAX_BACKOFF_MS);
            self.advance(entry, clock, word, State::Failed, now.after(pause))?;
            clock.failures = clock.failures.saturating_add(1);
            return None;
        }
        let to = known.filter(|_| clock.probes < unicasts);
        clock.probes += 1;
        clock.due = now.after(RETRANSMIT_MS);
        Some(to)
    }

    /// Moves an entry to `state`, next due at `due`, and gives its new word; `None`, with nothing changed, when somebody
    /// learned something meanwhile: the next visit sees it. The MAC address is forgotten where the state has none.
    fn advance(&self, entry: &Entry, clock: &mut Clock, word: u64, state: State, due: Time) -> Option<u64> {
        let mac = mac_of(word).filter(|_| state == State::Stale);
        let next = state.pack(mac.unwrap_or_default());
        entry.word.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        (clock.seen, clock.probes, clock.due) = (next, 0, due);
        if mac_of(word) != mac_of(next) {
            self.changed();
        }
        Some(next)
    }

    fn patience(&self) -> u64 {
        if self.room() * 4 < self.capacity() { MIN_UNUSED_MS } else { UNUSED_MS }
    }
}

/// From 25 to 35 s, spread evenly over the ids; neighbouring ids are far apart.
fn reachable_ms(id: NexthopId) -> u64 {
    let spread = REACHABLE_MS / 3;
    REACHABLE_MS - spread / 2 + (u64::from(id.0) * 6_151) % spread
}
