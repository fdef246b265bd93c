//! SNAT ports: which local address and port a new session gets.
//!
//! A port need only be unique towards one real server: `(proto, LIP, RIP, rport)` is a *space* of its own, so that one
//! local address carries 64 k sessions per real server. In each space the port unused for longest comes next: first
//! those never used, from a random start (a restarted balancer should not meet the tuples its predecessor left in
//! TIME-WAIT at the servers), then those released, in their order, once their quarantine is over. The quarantine
//! outlasts a server's TIME-WAIT, so a new connection never needs its sequence numbers or timestamps rewritten.
//!
//! Every worker has spaces of its own and takes only ports that are its own, by a predicate: ports whose return tuple
//! the NIC's RSS steers to the worker, or the worker's share by [`LportOwners`]. What a worker releases is its own by
//! construction.
//!
//! On reload a space keeps its ports: sessions keep theirs until they end, also those of local addresses and ports that
//! are no longer configured. Ports outside the configured range are set aside when they come up, and used again when the
//! range includes them again.

use std::ops::RangeInclusive;

use hashbrown::HashMap;

use crate::addr::Addr;
use crate::id::{LPort, Proto, RPort, WorkerId};
use crate::time::Time;

mod fresh;
mod groups;
mod owners;
mod ring;
mod space;

pub use owners::LportOwners;
pub use space::SpaceStats;

use groups::Groups;
use ring::Chunks;
use space::Space;

/// A port space of a worker. Good while a port of it is in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortSpaceId(pub u32);

/// The end of a translated tuple at the real server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Remote<A> {
    /// Transport protocol.
    pub proto: Proto,
    /// RIP.
    pub rip: A,
    /// Port on the RIP.
    pub rport: RPort,
}

/// A port space's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpaceKey<A> {
    /// LIP.
    pub lip: A,
    /// Towards whom.
    pub remote: Remote<A>,
}

/// A pool of local addresses as allocation needs it, borrowed from the plan.
#[derive(Clone, Debug)]
pub struct Pool<'a, A> {
    /// Which pool: its index in the plan.
    pub index: usize,
    /// The plan's generation. What is remembered about a pool is forgotten when it changes.
    pub generation: u64,
    /// The local addresses of this family.
    pub lips: &'a [A],
    /// The ports of each that may be used.
    pub ports: RangeInclusive<u16>,
}

/// A local address and port for one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease<A> {
    /// LIP.
    pub lip: A,
    /// Port on the LIP.
    pub lport: LPort,
    /// Where the port is to be [released](PortSpaces::release).
    pub space: PortSpaceId,
}

/// No local port is left towards the real server: all are in use or in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted;

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("every local port towards the real server is in use or in quarantine")
    }
}

impl std::error::Error for Exhausted {}

/// The port is in use already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InUse;

/// Most local addresses one allocation asks. A pool with more may be found exhausted when it is nearly so.
const MAX_TRIES: usize = 32;

/// A worker's port spaces of one address family.
pub struct PortSpaces<A> {
    by_key: HashMap<SpaceKey<A>, PortSpaceId>,
    groups: Groups<A>,
    spaces: Vec<Option<Space<A>>>,
    vacant: Vec<u32>,
    chunks: Chunks,
    quarantine_s: u32,
    seed: u64,
    swept: usize,
}

/// Seconds of `now`, rounded down.
fn seconds(now: Time) -> u32 {
    (now.0 / 1000) as u32
}

impl<A: Addr> PortSpaces<A> {
    /// No spaces yet. A released port rests for `quarantine_ms`, rounded up to seconds. `seed` decides where each space
    /// starts and should be random.
    pub fn new(quarantine_ms: u64, seed: u64) -> Self {
        PortSpaces {
            by_key: HashMap::new(),
            groups: Groups::default(),
            spaces: Vec::new(),
            vacant: Vec::new(),
            chunks: Chunks::default(),
            quarantine_s: quarantine_ms.div_ceil(1000) as u32,
            seed,
            swept: 0,
        }
    }

    /// Changes the quarantine, also of ports that are in it.
    pub fn set_quarantine(&mut self, quarantine_ms: u64) {
        let quarantine_s = quarantine_ms.div_ceil(1000) as u32;
        if quarantine_s == self.quarantine_s {
            return;
        }
        self.quarantine_s = quarantine_s;
        self.groups.unblock();
    }

    /// Takes a port of the pool for a session to `remote`. The local addresses take turns; those that are exhausted are
    /// skipped. Of ports never used before, only those that are `mine` are taken. The work is bounded, by about 32
    /// addresses and 256 tested ports each in the very worst case; repeated exhaustion costs one lookup.
    pub fn allocate(
        &mut self,
        pool: &Pool<'_, A>,
        remote: Remote<A>,
        now: Time,
        mine: impl Fn(A, LPort) -> bool,
    ) -> Result<Lease<A>, Exhausted> {
        let now_s = seconds(now);
        let mut group = self.groups.of(pool, remote);
        if group.blocked_until > now_s {
            group.exhausted += 1;
            group.unasked += 1;
            return Err(Exhausted);
        }
        // A port released from now on rests at least this long, so nothing appears earlier than the first known.
        let mut next = now_s.saturating_add(self.quarantine_s.max(1));
        let tries = pool.lips.len().min(MAX_TRIES);
        for _ in 0..tries {
            let (at, known) = group.next_address();
            let Some(&lip) = pool.lips.get(at) else { break };
            let key = SpaceKey { lip, remote };
            let space = match self.spaces.get(known.0 as usize) {
                Some(Some(space)) if space.key == key => known,
                _ => {
                    let space = self.space(key);
                    group = self.groups.of(pool, remote);
                    group.spaces[at] = space;
                    space
                }
            };
            let Some(Some(ports)) = self.spaces.get_mut(space.0 as usize) else { continue };
            ports.pool = pool.index;
            match ports.take(&mut self.chunks, &pool.ports, now_s, self.quarantine_s, |lport| mine(lip, lport)) {
                Ok(lport) => return Ok(Lease { lip, lport, space }),
                Err(ready) => next = next.min(ready),
            }
        }
        group.blocked_until = if tries < pool.lips.len() { now_s } else { next };
        group.exhausted += 1;
        Err(Exhausted)
    }

    /// The space with this key, made if there is none.
    fn space(&mut self, key: SpaceKey<A>) -> PortSpaceId {
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        self.seed = crate::ports::fresh::mix(self.seed);
        let space = Some(Space::new(key, self.seed as u16));
        let at = match self.vacant.pop() {
            Some(at) => {
                self.spaces[at as usize] = space;
                at
            }
            None => {
                self.spaces.push(space);
                self.spaces.len() as u32 - 1
            }
        };
        self.by_key.insert(key, PortSpaceId(at));
        PortSpaceId(at)
    }

    /// Gives a port back; its quarantine begins. To be called once for each [`Lease`], when nothing can use its tuple
    /// any more.
    pub fn release(&mut self, space: PortSpaceId, lport: LPort, now: Time) {
        if let Some(Some(space)) = self.spaces.get_mut(space.0 as usize) {
            // Rounded up, so that no quarantine is shorter than it should be.
            space.release(&mut self.chunks, lport, now.0.div_ceil(1000) as u32);
        }
    }

    /// Marks a port as in use that this worker did not allocate: a session found elsewhere after a restart. Meant for
    /// the start: only a port that was never used since can be reserved.
    pub fn reserve(&mut self, key: SpaceKey<A>, lport: LPort) -> Result<PortSpaceId, InUse> {
        let id = self.space(key);
        match self.spaces.get_mut(id.0 as usize) {
            Some(Some(space)) => space.reserve(lport).then_some(id).ok_or(InUse),
            _ => Err(InUse),
        }
    }

    /// Looks at up to `n` spaces and forgets those without sessions and quarantined ports, in turns from call to call.
    /// Real servers come and go; without this, their spaces would stay.
    pub fn sweep(&mut self, now: Time, n: usize) {
        for _ in 0..n.min(self.spaces.len()) {
            self.swept = (self.swept + 1) % self.spaces.len();
            let slot = &mut self.spaces[self.swept];
            if let Some(space) = slot.as_mut().filter(|space| space.is_idle(seconds(now), self.quarantine_s)) {
                space.clear(&mut self.chunks);
                self.by_key.remove(&space.key);
                self.groups.forget(space.pool, space.key.remote);
                *slot = None;
                self.vacant.push(self.swept as u32);
            }
        }
    }

    /// Whether a session uses a port of this local address. Looks at every space.
    pub fn uses(&self, lip: A) -> bool {
        self.spaces.iter().flatten().any(|space| space.key.lip == lip && space.is_used())
    }

    /// Places of spaces, for [`PortSpaces::stats`].
    pub fn slots(&self) -> usize {
        self.spaces.len()
    }

    /// The state of the space at place `slot`, if there is one there.
    pub fn stats(&mut self, slot: usize, now: Time) -> Option<SpaceStats<A>> {
        let space = self.spaces.get_mut(slot)?.as_mut()?;
        let mut stats = space.stats(&self.chunks, seconds(now), self.quarantine_s);
        stats.exhausted += self.groups.get(space.pool, space.key.remote).map_or(0, |group| group.unasked);
        Some(stats)
    }

    /// Allocations that failed, by pool (its index in the plan) and real server.
    pub fn exhausted(&self) -> impl Iterator<Item = (usize, Remote<A>, u64)> {
        self.groups.iter().map(|group| (group.pool, group.remote, group.exhausted))
    }
}

#[cfg(test)]
mod tests;
