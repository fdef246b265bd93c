//! The ports of one local address towards one real server.

use std::ops::RangeInclusive;

use super::fresh::Fresh;
use super::ring::{Chunks, Ring};
use super::{LPort, SpaceKey};

/// Ports tested for being the worker's own in one allocation. Of 16 workers, 256 tests find one but once in 15 million.
const MAX_TESTS: usize = 256;
/// Released ports outside the configured range that one allocation sets aside.
const MAX_ASIDE: usize = 64;

/// What a space's ports are doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceStats<A> {
    /// Which space.
    pub key: SpaceKey<A>,
    /// Ports that sessions use.
    pub in_use: u32,
    /// Released ports in quarantine.
    pub quarantined: u32,
    /// Released ports that can be used again.
    pub reusable: u32,
    /// Ports never used, in the range last asked for, and the other workers' shares among them.
    pub fresh: u32,
    /// Allocations that failed and for which this space had no port either.
    pub exhausted: u64,
}

/// A space. See the [module](super).
pub struct Space<A> {
    pub key: SpaceKey<A>,
    /// The pool it was last asked for.
    pub pool: usize,
    fresh: Fresh,
    /// No port of the range is fresh.
    none_fresh: bool,
    released: Ring,
    /// Released ports that came up while they were outside the range.
    aside: Ring,
    /// Entries of `aside` not looked at since the range last changed; the others are outside of it.
    aside_untested: u32,
    range: (u16, u16),
    in_use: u32,
    exhausted: u64,
    last_release: u32,
}

impl<A: Copy> Space<A> {
    /// A space with every port fresh, to be taken from a `start` on.
    pub fn new(key: SpaceKey<A>, start: u16) -> Self {
        Space {
            key,
            pool: 0,
            fresh: Fresh::new(start),
            none_fresh: false,
            released: Ring::default(),
            aside: Ring::default(),
            aside_untested: 0,
            range: (0, u16::MAX),
            in_use: 0,
            exhausted: 0,
            last_release: 0,
        }
    }

    /// Takes the port unused for longest, or tells the second before which there is none. A time not in the future says
    /// that the search was cut short.
    #[inline]
    pub fn take(
        &mut self,
        chunks: &mut Chunks,
        range: &RangeInclusive<u16>,
        now_s: u32,
        quarantine_s: u32,
        mine: impl Fn(LPort) -> bool,
    ) -> Result<LPort, u32> {
        if self.range != (*range.start(), *range.end()) {
            self.range = (*range.start(), *range.end());
            self.aside_untested = self.aside.len();
            self.none_fresh = false;
        }
        let fresh = if self.none_fresh { Err(u32::MAX) } else { self.take_fresh(range, mine) };
        let port = match fresh {
            Ok(port) => Ok(port),
            Err(ready) => self.take_released(chunks, range, now_s, quarantine_s).map_err(|r| r.min(ready)),
        };
        match port {
            Ok(_) => self.in_use += 1,
            Err(_) => self.exhausted += 1,
        }
        port.map(LPort)
    }

    fn take_fresh(&mut self, range: &RangeInclusive<u16>, mine: impl Fn(LPort) -> bool) -> Result<u16, u32> {
        for _ in 0..MAX_TESTS {
            // A port that is another worker's leaves the set as well: it will not become ours.
            let Some(port) = self.fresh.take(range) else {
                self.none_fresh = true;
                return Err(u32::MAX);
            };
            if mine(LPort(port)) {
                return Ok(port);
            }
        }
        Err(0)
    }

    fn take_released(
        &mut self,
        chunks: &mut Chunks,
        range: &RangeInclusive<u16>,
        now_s: u32,
        quarantine_s: u32,
    ) -> Result<u16, u32> {
        let ripe_by = now_s.checked_sub(quarantine_s);
        let ready = |at: u32| {
            if ripe_by.is_some_and(|last| at <= last) { Ok(()) } else { Err(at.saturating_add(quarantine_s)) }
        };
        let mut earliest = u32::MAX;
        for _ in 0..MAX_ASIDE {
            let Some((port, at)) = self.released.front(chunks) else { break };
            if range.contains(&port) {
                match ready(at) {
                    Ok(()) => {
                        self.released.pop(chunks);
                        return Ok(port);
                    }
                    Err(second) => earliest = second,
                }
                break;
            }
            self.released.pop(chunks);
            self.aside.push(chunks, port, at);
            earliest = 0;
        }
        for _ in 0..MAX_ASIDE.min(self.aside_untested as usize) {
            self.aside_untested -= 1;
            let Some((port, at)) = self.aside.pop(chunks) else { break };
            match range.contains(&port) {
                true if ready(at).is_ok() => return Ok(port),
                true => self.released.push(chunks, port, at),
                false => self.aside.push(chunks, port, at),
            }
            earliest = 0;
        }
        Err(earliest)
    }

    /// Takes back a port in second `at`.
    pub fn release(&mut self, chunks: &mut Chunks, lport: LPort, at: u32) {
        debug_assert!(self.in_use > 0, "port {lport} is released more often than it was taken");
        self.in_use = self.in_use.saturating_sub(1);
        self.last_release = at;
        self.released.push(chunks, lport.0, at);
    }

    /// Marks a fresh port as in use; false when it is not fresh.
    pub fn reserve(&mut self, lport: LPort) -> bool {
        let fresh = self.fresh.remove(lport.0);
        self.in_use += u32::from(fresh);
        fresh
    }

    /// Whether a session has a port of it.
    pub fn is_used(&self) -> bool {
        self.in_use > 0
    }

    /// Whether nothing is lost when the space is forgotten.
    pub fn is_idle(&self, now_s: u32, quarantine_s: u32) -> bool {
        self.in_use == 0 && self.last_release.saturating_add(quarantine_s) < now_s
    }

    /// Gives back the memory of the queues.
    pub fn clear(&mut self, chunks: &mut Chunks) {
        self.released.clear(chunks);
        self.aside.clear(chunks);
    }

    /// The state now. Ports just out of quarantine may count as in it when thousands came out since the last look.
    pub fn stats(&mut self, chunks: &Chunks, now_s: u32, quarantine_s: u32) -> SpaceStats<A> {
        if let Some(last) = now_s.checked_sub(quarantine_s) {
            self.released.ripen(chunks, last, 4096);
        }
        SpaceStats {
            key: self.key,
            in_use: self.in_use,
            quarantined: self.released.len() - self.released.ripe(),
            reusable: self.released.ripe(),
            fresh: self.fresh.count(&(self.range.0..=self.range.1)),
            exhausted: self.exhausted,
        }
    }
}
