//! A worker's sessions of one address family: an [index](crate::index) over a slab, with the [wheel](crate::wheel).
//!
//! ```text
//!  key ─hash─▶ index bucket (64 bytes) ─value─▶ slab index and direction ─▶ Session (64 or 128 bytes)
//!                                                                         Cold (20), links (8 + 8): arrays beside
//! ```
//!
//! Everything is sized at start and never moves: 128 bytes per IPv4 session and 192 per IPv6 session, all
//! but the list of free places touched then.
//!
//! For a burst: [hash](SessionTable::hash_all) the keys and prefetch their [buckets](SessionTable::bucket),
//! [probe](SessionTable::probe) them and prefetch the [candidates](SessionTable::candidate), look
//! [behind](SessionTable::probe_behind) where that is called for, then [`SessionTable::resolve`] each. With enough other
//! packets between the steps of one, no step waits for memory.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey};
use crate::half_open::{self, HalfOpen};
use crate::hash::{FlowHash, GROUP};
use crate::id::ServerId;
use crate::index::{Bucket, Index, NO_VALUE, Probe};
use crate::memory::touched;
use crate::offload;
use crate::ports::PortSpaceId;
use crate::session::{Cold, Session};
use crate::tcp::State;
use crate::time::Time;
use crate::wheel::{Link, Wheel};

/// A session's place in its table. Good while the session lives; then the place is used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionIdx(pub u32);

impl SessionIdx {
    fn value(self, direction: Direction) -> u32 {
        self.0 << 1 | u32::from(direction == Direction::Outbound)
    }

    fn of_value(value: u32) -> (SessionIdx, Direction) {
        (SessionIdx(value >> 1), if value & 1 == 0 { Direction::Inbound } else { Direction::Outbound })
    }
}

/// Why a session was not inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsertError {
    /// The table has as many sessions as it was made for.
    Full,
    /// Packets of this direction would be taken for those of the session there is.
    Duplicate(SessionIdx, Direction),
}

impl std::fmt::Display for InsertError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InsertError::Full => f.write_str("session table is full"),
            InsertError::Duplicate(idx, direction) => write!(f, "session {} has the same {direction:?} key", idx.0),
        }
    }
}

impl std::error::Error for InsertError {}

/// A session in its place with the hashes of its keys: one that they do not find yet, to be
/// [entered](SessionTable::enter) or [withdrawn](SessionTable::withdraw), or one that they do, to be
/// [removed](SessionTable::remove_located). Hashes it does not have yet are [added](SessionTable::hash_placed) first.
#[derive(Debug)]
#[must_use]
pub struct Placed {
    idx: SessionIdx,
    /// Of the inbound and the outbound key.
    hashes: [u64; 2],
}

/// Bytes of memory a table has touched, by structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableBytes {
    /// What packets read and write of each session.
    pub hot: usize,
    /// The rest of it.
    pub cold: usize,
    /// Where keys find their sessions.
    pub index: usize,
    /// The timers.
    pub wheel: usize,
    /// Which of them are half-open.
    pub half_open: usize,
    /// Places that were freed.
    pub free: usize,
}

/// The table. See the [module](self).
pub struct SessionTable<A, H = Arc<dyn FlowHash>> {
    hasher: H,
    index: Index,
    slab: Vec<Session<A>>,
    cold: Vec<Cold>,
    /// Free places of the slab; the last freed is used first, its line being the likeliest in a cache.
    free: Vec<u32>,
    wheel: Wheel,
    half_open: HalfOpen,
    max: usize,
}

impl<A: Addr, H: FlowHash> SessionTable<A, H> {
    /// A table for at most `max_sessions`, whose clock is at `now`.
    ///
    /// # Panics
    /// When `max_sessions` is 2³¹ - 1 or more.
    pub fn new(max_sessions: usize, hasher: H, now: Time) -> Self {
        assert!(max_sessions < (NO_VALUE >> 1) as usize, "a session's place must fit 31 bits");
        SessionTable {
            hasher,
            index: Index::new(2 * max_sessions),
            slab: touched(max_sessions, &Session::nothing()),
            cold: touched(max_sessions, &Cold::new(now, PortSpaceId(0))),
            free: Vec::with_capacity(max_sessions),
            wheel: Wheel::new(max_sessions, now),
            half_open: HalfOpen::new(max_sessions),
            max: max_sessions,
        }
    }

    /// Sessions in the table.
    pub fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// True when there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions the table was made for.
    pub fn capacity(&self) -> usize {
        self.max
    }

    /// The most sessions there were at a time.
    pub fn high_water(&self) -> usize {
        self.slab.len()
    }

    /// What it takes of the machine's memory.
    pub fn bytes(&self) -> TableBytes {
        TableBytes {
            hot: self.slab.capacity() * size_of::<Session<A>>(),
            cold: self.cold.capacity() * size_of::<Cold>(),
            index: self.index.bytes(),
            wheel: self.wheel.bytes(),
            half_open: self.half_open.bytes(),
            free: size_of_val(&*self.free),
        }
    }

    /// The key's hash.
    pub fn hash(&self, key: &FlowKey<A>) -> u64 {
        key.hash(&self.hasher)
    }

    /// First step of a burst: the hashes of keys in the form of [`FlowKey::words`]. The slices are of one length.
    #[inline(always)]
    pub fn hash_all(&self, keys: &[A::KeyWords], hashes: &mut [u64]) {
        A::hash_keys(&self.hasher, keys, hashes);
    }

    /// The line of the index that [`SessionTable::probe`] reads, to be prefetched.
    #[inline(always)]
    pub fn bucket(&self, hash: u64) -> &Bucket {
        self.index.bucket(hash)
    }

    /// Second step of a burst: reads the hash's line of the index.
    #[inline(always)]
    pub fn probe(&self, hash: u64) -> Probe {
        self.index.probe(hash)
    }

    /// The session that the probe likely found, not verified, to be prefetched.
    #[inline(always)]
    pub fn candidate(&self, probe: &Probe) -> Option<&Session<A>> {
        let (idx, _) = SessionIdx::of_value(probe.value());
        self.slab.get(idx.0 as usize)
    }

    /// The line of the index that [`SessionTable::probe_behind`] reads, if any, to be prefetched.
    #[inline(always)]
    pub fn behind(&self, probe: &Probe) -> Option<&Bucket> {
        self.index.behind(probe)
    }

    /// Third step of a burst, mostly none: looks behind a bucket that was full. True when there is a new
    /// [candidate](SessionTable::candidate).
    #[inline(always)]
    pub fn probe_behind(&self, probe: &mut Probe) -> bool {
        self.index.probe_behind(probe)
    }

    /// Last step of a burst: the session and direction of the probed key, in the form of [`FlowKey::words`]. Nearly always
    /// what the probe found; if not, [`SessionTable::resolve_anew`] tells. The table may have changed since the probe.
    #[inline(always)]
    pub fn resolve(&self, key: &A::KeyWords, probe: &Probe) -> Option<(SessionIdx, Direction)> {
        self.verify(key, probe.value()).then(|| SessionIdx::of_value(probe.value()))
    }

    /// As [`SessionTable::resolve`], of all that the index has.
    #[cold]
    pub fn resolve_anew(&self, key: &A::KeyWords, probe: &Probe) -> Option<(SessionIdx, Direction)> {
        self.index.resolve(probe, |value| self.verify(key, value)).map(SessionIdx::of_value)
    }

    /// The session and direction of a key, all steps at once. `hash` is the key's.
    #[inline(always)]
    pub fn find(&self, key: &FlowKey<A>, hash: u64) -> Option<(SessionIdx, Direction)> {
        let key = key.words();
        self.index.find(hash, |value| self.verify(&key, value)).map(SessionIdx::of_value)
    }

    #[inline(always)]
    fn verify(&self, key: &A::KeyWords, value: u32) -> bool {
        let (idx, direction) = SessionIdx::of_value(value);
        // A probe may be of a time when there was a session. And what it found may be nothing, which is no place.
        self.get(idx).is_some_and(|session| session.matches(direction, key))
    }

    /// The session at `idx`, if there is one.
    #[inline(always)]
    pub fn get(&self, idx: SessionIdx) -> Option<&Session<A>> {
        self.slab.get(idx.0 as usize).filter(|session| session.conn.state != State::Free)
    }

    /// The session at `idx`, if there is one. Addresses, ports and protocol must stay as they are: the index knows them.
    #[inline(always)]
    pub fn get_mut(&mut self, idx: SessionIdx) -> Option<&mut Session<A>> {
        self.slab.get_mut(idx.0 as usize).filter(|session| session.conn.state != State::Free)
    }

    /// The cold part of the session at `idx`, if there is one.
    pub fn cold(&self, idx: SessionIdx) -> Option<&Cold> {
        self.get(idx).and(self.cold.get(idx.0 as usize))
    }

    /// The session at `idx` with its cold part, if there is one. See [`SessionTable::get_mut`].
    pub fn get_both_mut(&mut self, idx: SessionIdx) -> Option<(&mut Session<A>, &mut Cold)> {
        let session = self.slab.get_mut(idx.0 as usize).filter(|session| session.conn.state != State::Free)?;
        Some((session, self.cold.get_mut(idx.0 as usize)?))
    }

    /// Adds a session whose timer first looks at it at `deadline`.
    pub fn insert(&mut self, session: Session<A>, cold: Cold, deadline: Time) -> Result<SessionIdx, InsertError> {
        let hash = self.hash(&session.key(Direction::Inbound));
        let mut placed = self.place(session, cold, hash)?;
        self.hash_placed(Direction::Outbound, [&mut placed]);
        let entered = self.enter(&placed, deadline);
        if entered.is_err() {
            self.withdraw(&placed);
        }
        entered
    }

    /// The memory that the next `n` sessions will be placed in, to be prefetched: a store to memory that is far makes all
    /// later ones wait. Places never used before follow each other, and the CPU foresees them itself.
    #[inline(always)]
    pub fn next_places(&self, n: usize) -> impl Iterator<Item = (&Session<A>, &Cold, &Link, Option<&half_open::Link>)> {
        let next = self.free.iter().rev().take(n).map(|&at| at as usize);
        next.filter_map(|at| {
            Some((self.slab.get(at)?, self.cold.get(at)?, self.wheel.link(at)?, self.half_open.link(at)))
        })
    }

    /// First of three parts of [`SessionTable::insert`]: gives a session its place, where no key finds it yet. `hash` is that
    /// of its inbound key; that of the outbound one is still to be [added](SessionTable::hash_placed).
    #[inline(always)]
    pub fn place(&mut self, session: Session<A>, cold: Cold, hash: u64) -> Result<Placed, InsertError> {
        debug_assert_ne!(session.conn.state, State::Free);
        debug_assert_eq!(hash, self.hash(&session.key(Direction::Inbound)));
        if self.len() == self.max {
            return Err(InsertError::Full);
        }
        let idx = match self.free.pop() {
            Some(at) => {
                self.slab[at as usize] = session;
                self.cold[at as usize] = cold;
                SessionIdx(at)
            }
            None => {
                self.slab.push(session);
                self.cold.push(cold);
                SessionIdx(self.slab.len() as u32 - 1)
            }
        };
        Ok(Placed { idx, hashes: [hash, 0] })
    }

    /// Second part of insertions, and of removals: hashes the keys of this direction, of several sessions at once. Between it
    /// and the last part the [lines](SessionTable::line_of) of the index come near.
    #[inline(always)]
    pub fn hash_placed<'a>(&self, direction: Direction, placed: impl IntoIterator<Item = &'a mut Placed>) {
        let mut placed = placed.into_iter();
        loop {
            let mut group: ArrayVec<&mut Placed, GROUP> = placed.by_ref().take(GROUP).collect();
            // What is placed is in the slab.
            let words =
                group.iter().filter_map(|placed| Some(self.slab.get(placed.idx.0 as usize)?.key(direction).words()));
            let words: ArrayVec<_, GROUP> = words.collect();
            let mut hashes = [0; GROUP];
            let hashes = &mut hashes[..words.len()];
            self.hash_all(&words, hashes);
            for (placed, &hash) in group.iter_mut().zip(&*hashes) {
                placed.hashes[usize::from(direction == Direction::Outbound)] = hash;
            }
            if !group.is_full() {
                return;
            }
        }
    }

    /// The line of the index that the session's key of this direction goes to, to be prefetched.
    #[inline(always)]
    pub fn line_of(&self, placed: &Placed, direction: Direction) -> &Bucket {
        self.index.bucket(placed.hashes[usize::from(direction == Direction::Outbound)])
    }

    /// Last part of [`SessionTable::insert`]: both keys find the session from now on. When they cannot, it stays placed:
    /// [withdraw](SessionTable::withdraw) it.
    pub fn enter(&mut self, placed: &Placed, deadline: Time) -> Result<SessionIdx, InsertError> {
        let Placed { idx, hashes } = *placed;
        let Some(session) = self.slab.get(idx.0 as usize) else { return Err(InsertError::Full) };
        let directions = [Direction::Inbound, Direction::Outbound];
        let keys = directions.map(|d| session.key(d));
        debug_assert_eq!(hashes, keys.map(|key| self.hash(&key)), "hashes were not added");
        for (key, hash) in keys.iter().zip(hashes) {
            if let Some((idx, direction)) = self.find(key, hash) {
                return Err(InsertError::Duplicate(idx, direction));
            }
        }
        for (direction, hash) in directions.into_iter().zip(hashes) {
            // Cannot fail: the index has a slot and a half for each direction of each session.
            let inserted = self.index.insert(hash, idx.value(direction));
            debug_assert!(inserted.is_ok());
        }
        self.wheel.file(idx.0, deadline);
        Ok(idx)
    }

    /// Counts the session at `idx` as half-open from now on, until it is [confirmed](SessionTable::confirm) or removed.
    #[inline]
    pub fn await_confirmation(&mut self, idx: SessionIdx) {
        if let Some(server) = self.get(idx).map(|session| session.server_id) {
            self.half_open.push(idx.0, server);
        }
    }

    /// The session at `idx` is not half-open, or no longer.
    #[inline]
    pub fn confirm(&mut self, idx: SessionIdx) {
        self.half_open.remove(idx.0);
    }

    /// Half-open sessions in the table.
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// The server's oldest half-open session.
    #[inline]
    pub fn oldest_half_open(&self, server: ServerId) -> Option<SessionIdx> {
        self.half_open.oldest(server).map(SessionIdx)
    }

    /// The half-open session that began after this one at the same server.
    #[inline]
    pub fn half_open_behind(&self, idx: SessionIdx) -> Option<SessionIdx> {
        self.half_open.behind(idx.0).map(SessionIdx)
    }

    /// The oldest half-open session of `server`, or one that is older and of another server, as far as a few looks find it:
    /// see [`HalfOpen::oldest_of_some`].
    pub fn old_half_open(&mut self, server: ServerId, now: Time) -> Option<SessionIdx> {
        let age = |idx: u32| self.cold.get(idx as usize).map_or(0, |cold| cold.age_ms(now) as u32);
        self.half_open.oldest_of_some(server, age).map(SessionIdx)
    }

    /// Takes back the place of a session that could not be [entered](SessionTable::enter).
    pub fn withdraw(&mut self, placed: &Placed) -> Option<(Session<A>, Cold)> {
        self.vacate(placed.idx)
    }

    fn vacate(&mut self, idx: SessionIdx) -> Option<(Session<A>, Cold)> {
        let session = self.slab.get_mut(idx.0 as usize)?;
        let ended = (session.clone(), *self.cold.get(idx.0 as usize)?);
        session.conn.state = State::Free;
        self.free.push(idx.0);
        Some(ended)
    }

    /// Removes the session at `idx`, if there is one and the target has nothing of it. Giving back its local port is the
    /// caller's.
    pub fn remove(&mut self, idx: SessionIdx) -> Option<(Session<A>, Cold)> {
        let mut placed = self.locate(idx)?;
        for direction in [Direction::Inbound, Direction::Outbound] {
            self.hash_placed(direction, [&mut placed]);
        }
        self.remove_located(&placed)
    }

    /// First of three parts of [`SessionTable::remove`]: where the session is found. None, if there is none or the target has
    /// something of it. The hashes of both keys are still to be [added](SessionTable::hash_placed).
    pub fn locate(&self, idx: SessionIdx) -> Option<Placed> {
        self.get(idx).filter(|session| session.offload() == offload::State::None)?;
        Some(Placed { idx, hashes: [0; 2] })
    }

    /// Last part of [`SessionTable::remove`].
    pub fn remove_located(&mut self, placed: &Placed) -> Option<(Session<A>, Cold)> {
        let Placed { idx, hashes } = *placed;
        for (direction, hash) in [Direction::Inbound, Direction::Outbound].into_iter().zip(hashes) {
            let removed = self.index.remove(hash, idx.value(direction));
            debug_assert!(removed, "session {} was not in the index", idx.0);
        }
        self.wheel.unlink(idx.0);
        self.half_open.remove(idx.0);
        self.vacate(idx)
    }

    /// Files the session's timer anew. Needed only when its deadline became earlier.
    pub fn file(&mut self, idx: SessionIdx, deadline: Time) {
        if self.get(idx).is_some() {
            self.wheel.file(idx.0, deadline);
        }
    }

    /// The next session whose timer has gone off, and is off now. The deadline may have moved away since it was filed: the
    /// caller looks at the session, and either [removes](SessionTable::remove) it or [files](SessionTable::file) it anew.
    /// Call it until it returns None; then nothing more is due, or `budget` is used up (each session and each tick of the
    /// wheel passed costs one) and the rest is for the next round.
    #[inline]
    pub fn poll(&mut self, now: Time, budget: &mut usize) -> Option<SessionIdx> {
        self.wheel.poll(now, budget).map(SessionIdx)
    }

    /// The memory of a session, to be prefetched.
    #[inline(always)]
    pub fn memory(&self, idx: SessionIdx) -> Option<(&Session<A>, &Cold)> {
        Some((self.slab.get(idx.0 as usize)?, self.cold.get(idx.0 as usize)?))
    }

    /// Looks at up to `n` places from `from` on and returns their sessions, and where to go on. None there means that
    /// all were seen. A walk in several steps sees every session that lives all the while, and each at most once
    /// unless it ends and its place is used again.
    pub fn scan(&self, from: u32, n: usize) -> (impl Iterator<Item = (SessionIdx, &Session<A>, &Cold)>, Option<u32>) {
        let start = (from as usize).min(self.slab.len());
        let end = start.saturating_add(n).min(self.slab.len());
        let live = self.slab[start..end]
            .iter()
            .zip(&self.cold[start..end])
            .zip(from..)
            .filter(|((session, _), _)| session.conn.state != State::Free)
            .map(|((session, cold), at)| (SessionIdx(at), session, cold));
        (live, (end < self.slab.len()).then_some(end as u32))
    }
}

#[cfg(test)]
mod tests;
