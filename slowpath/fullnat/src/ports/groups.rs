//! What is remembered of a pool towards one real server: whose turn it is, and where its spaces are.

use hashbrown::HashMap;

use super::{Pool, PortSpaceId, Remote};
use crate::addr::Addr;

/// Groups found without a search. Each has one place; two that share it take turns.
const REMEMBERED: usize = 1024;
/// The space of a local address that was not asked yet. It may be another's, and is then found not to be this one's.
const UNKNOWN: PortSpaceId = PortSpaceId(u32::MAX);
/// The pool of a group that is nobody's.
const NO_POOL: usize = usize::MAX;

/// A pool towards one real server.
#[derive(Debug)]
pub struct Group<A> {
    pub pool: usize,
    pub remote: Remote<A>,
    generation: u64,
    /// By local address of the pool: its space when last asked. Spaces are forgotten without a word, so whoever uses one
    /// looks at its key.
    pub spaces: Box<[PortSpaceId]>,
    /// The local address whose turn it is.
    turn: usize,
    /// Second before which no local address can have a port: makes exhaustion cheap while it lasts.
    pub blocked_until: u32,
    /// Allocations that failed.
    pub exhausted: u64,
    /// Those among them that asked no space.
    pub unasked: u64,
}

impl<A> Group<A> {
    /// The local address whose turn it is, and its space when last asked. The turn passes on.
    #[inline(always)]
    pub fn next_address(&mut self) -> (usize, PortSpaceId) {
        let at = self.turn;
        self.turn = if at + 1 < self.spaces.len() { at + 1 } else { 0 };
        (at, self.spaces.get(at).copied().unwrap_or(UNKNOWN))
    }
}

/// All groups of a worker and family.
pub struct Groups<A> {
    groups: Vec<Group<A>>,
    by_target: HashMap<(usize, Remote<A>), u32>,
    vacant: Vec<u32>,
    remembered: Box<[u32; REMEMBERED]>,
}

impl<A> Default for Groups<A> {
    fn default() -> Self {
        Groups {
            groups: Vec::new(),
            by_target: HashMap::new(),
            vacant: Vec::new(),
            remembered: Box::new([0; REMEMBERED]),
        }
    }
}

impl<A: Addr> Groups<A> {
    /// The group of a pool towards `remote`, made if there is none, and begun anew if the plan is another.
    #[inline]
    pub fn of(&mut self, pool: &Pool<'_, A>, remote: Remote<A>) -> &mut Group<A> {
        let place = place(pool.index, remote);
        let mut at = self.remembered[place];
        let is_it = |group: &Group<A>| group.pool == pool.index && group.remote == remote;
        if !self.groups.get(at as usize).is_some_and(is_it) {
            at = self.find_or_make(pool.index, remote);
            self.remembered[place] = at;
        }
        let group = &mut self.groups[at as usize];
        if group.generation != pool.generation || group.spaces.len() != pool.lips.len() {
            group.generation = pool.generation;
            group.spaces = vec![UNKNOWN; pool.lips.len()].into();
            (group.turn, group.blocked_until) = (0, 0);
        }
        group
    }

    #[cold]
    fn find_or_make(&mut self, pool: usize, remote: Remote<A>) -> u32 {
        if let Some(&at) = self.by_target.get(&(pool, remote)) {
            return at;
        }
        let spaces = Box::default();
        let group = Group { pool, remote, generation: 0, spaces, turn: 0, blocked_until: 0, exhausted: 0, unasked: 0 };
        let at = match self.vacant.pop() {
            Some(at) => {
                self.groups[at as usize] = group;
                at
            }
            None => {
                self.groups.push(group);
                self.groups.len() as u32 - 1
            }
        };
        self.by_target.insert((pool, remote), at);
        at
    }

    /// The group, if there is one.
    pub fn get(&self, pool: usize, remote: Remote<A>) -> Option<&Group<A>> {
        self.groups.get(*self.by_target.get(&(pool, remote))? as usize)
    }

    /// Forgets a group.
    pub fn forget(&mut self, pool: usize, remote: Remote<A>) {
        if let Some(at) = self.by_target.remove(&(pool, remote)) {
            let group = &mut self.groups[at as usize];
            group.pool = NO_POOL;
            group.spaces = Box::default();
            self.vacant.push(at);
        }
    }

    /// Lets every group ask again.
    pub fn unblock(&mut self) {
        for group in &mut self.groups {
            group.blocked_until = 0;
        }
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = &Group<A>> {
        self.groups.iter().filter(|group| group.pool != NO_POOL)
    }
}

#[inline(always)]
fn place<A: Addr>(pool: usize, remote: Remote<A>) -> usize {
    let [high, low] = remote.rip.words();
    let rest = u64::from(remote.rport.0) << 48 ^ (remote.proto as u64) << 40 ^ (pool as u64) << 32;
    ((high ^ low ^ rest).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % REMEMBERED
}
