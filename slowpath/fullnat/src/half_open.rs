//! The half-open sessions of a table, by real server and the oldest first: those that are given up when there is no room.
//!
//! Queues are circular lists threaded through one array of 8 bytes per session, so that any entry leaves its queue in a
//! few steps: most leave from the middle, when their handshake completes.

use crate::id::ServerId;
use crate::memory::touched;

/// Set in a link that leads to a queue's end, the other bits being its server.
const END: u32 = 1 << 31;
/// The `prev` of an entry that is in no queue. It has `END` too, but no server has such a number.
const NOWHERE: u32 = u32::MAX;

/// Entries looked at for the oldest one, beside the two that are looked at first.
const LOOKS: usize = 4;
/// Queues, empty ones included, that these are looked for in: eight of them share a cache line.
const STEPS: usize = 64;

/// An entry's neighbours, or a queue's last and first entry. Outside it is only something to prefetch.
#[derive(Clone, Copy)]
pub struct Link {
    prev: u32,
    next: u32,
}

const _: () = assert!(size_of::<Link>() == 8);

/// The queues. Entries are named by indexes below 2³¹, those of the [session table](crate::table).
pub struct HalfOpen {
    links: Vec<Link>,
    /// By server.
    ends: Vec<Link>,
    len: usize,
    /// The queue in which [`HalfOpen::oldest_of_some`] found its last entry.
    found: usize,
    /// The queue it looks at next.
    next: usize,
}

impl HalfOpen {
    /// No entries yet of `0..capacity`. Memory for them is touched here.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity < END as usize, "an entry's index must fit 31 bits");
        let links = touched(capacity, &Link { prev: NOWHERE, next: NOWHERE });
        HalfOpen { links, ends: Vec::new(), len: 0, found: 0, next: 0 }
    }

    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        self.links.capacity() * size_of::<Link>() + size_of_val(&*self.ends)
    }

    /// Entries in all queues.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when no entry is queued.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What [`HalfOpen::push`] writes of an entry, to be prefetched.
    #[inline(always)]
    pub fn link(&self, idx: usize) -> Option<&Link> {
        self.links.get(idx)
    }

    /// Queues an entry behind the server's others. It must be in no queue.
    #[inline]
    pub fn push(&mut self, idx: u32, server: ServerId) {
        let end = END | u32::from(server.0);
        if usize::from(server.0) >= self.ends.len() {
            self.add_queues(server);
        }
        if idx as usize >= self.links.len() {
            self.links.resize(idx as usize + 1, Link { prev: NOWHERE, next: NOWHERE });
        }
        debug_assert_eq!(self.links[idx as usize].prev, NOWHERE, "entry {idx} is queued twice");
        let prev = std::mem::replace(&mut self.at(end).prev, idx);
        self.at(prev).next = idx;
        self.links[idx as usize] = Link { prev, next: end };
        self.len += 1;
    }

    /// Servers are few, and come with a new plan.
    #[cold]
    fn add_queues(&mut self, server: ServerId) {
        let empty = (self.ends.len() as u32..=u32::from(server.0)).map(|n| Link { prev: END | n, next: END | n });
        self.ends.extend(empty);
    }

    /// Takes the entry out, if it is in a queue. True when it was.
    #[inline]
    pub fn remove(&mut self, idx: u32) -> bool {
        let Some(link) = self.links.get_mut(idx as usize) else { return false };
        let Link { prev, next } = *link;
        if prev == NOWHERE {
            return false;
        }
        link.prev = NOWHERE;
        self.at(prev).next = next;
        self.at(next).prev = prev;
        self.len -= 1;
        true
    }

    /// An entry's link or a queue's end.
    #[inline(always)]
    fn at(&mut self, link: u32) -> &mut Link {
        if link & END == 0 { &mut self.links[link as usize] } else { &mut self.ends[(link ^ END) as usize] }
    }

    /// The server's oldest entry.
    #[inline]
    pub fn oldest(&self, server: ServerId) -> Option<u32> {
        let first = self.ends.get(usize::from(server.0))?.next;
        (first & END == 0).then_some(first)
    }

    /// The entry queued after this one at the same server.
    #[inline]
    pub fn behind(&self, idx: u32) -> Option<u32> {
        let next = self.links.get(idx as usize).filter(|link| link.prev != NOWHERE)?.next;
        (next & END == 0).then_some(next)
    }

    /// The oldest entry, by `age`, of a few that are first in their queues: that of `server`, that of the queue from which the
    /// last one came, and some in turns from call to call. What is older than these is found within some calls, and all of
    /// its queue after it.
    pub fn oldest_of_some(&mut self, server: ServerId, age: impl Fn(u32) -> u32) -> Option<u32> {
        let mut best = None;
        for queue in [usize::from(server.0), self.found] {
            best = best.max(self.aged(queue, &age));
        }
        let mut looks = LOOKS;
        for _ in 0..self.ends.len().min(STEPS) {
            self.next = if self.next + 1 < self.ends.len() { self.next + 1 } else { 0 };
            if let Some(other) = self.aged(self.next, &age) {
                best = best.max(Some(other));
                looks -= 1;
                if looks == 0 {
                    break;
                }
            }
        }
        let (_, queue) = best?;
        self.found = queue;
        self.oldest(ServerId(queue as u16))
    }

    /// The age of a queue's first entry, and the queue.
    fn aged(&self, queue: usize, age: impl Fn(u32) -> u32) -> Option<(u32, usize)> {
        Some((age(self.oldest(ServerId(queue as u16))?), queue))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::testing::Rng;

    #[test]
    fn the_oldest_leaves_first_and_any_may_leave() {
        let (mut queues, server) = (HalfOpen::new(8), ServerId(3));
        assert!((0..4).all(|idx| !queues.remove(idx)) && queues.oldest(server).is_none());
        for idx in [5, 2, 7, 0] {
            queues.push(idx, server);
        }
        assert!(queues.remove(2) && !queues.remove(2));
        for idx in [5, 7, 0] {
            assert_eq!((queues.oldest(server), queues.oldest(ServerId(2))), (Some(idx), None));
            assert_eq!(queues.behind(idx), [(5, 7), (7, 0)].iter().find(|pair| pair.0 == idx).map(|pair| pair.1));
            assert!(queues.remove(idx));
        }
        assert_eq!((queues.oldest(server), queues.behind(0), queues.len()), (None, None, 0));
    }

    #[test]
    fn the_oldest_of_all_is_found_in_a_few_calls() {
        let mut queues = HalfOpen::new(1000);
        // The older the higher; only server 77 has old ones.
        let age = |idx: u32| if idx < 100 { 1000 - idx } else { 100 };
        (0..100).for_each(|idx| queues.push(idx, ServerId(77)));
        (100..1000).for_each(|idx| queues.push(idx, ServerId(idx as u16 % 50)));
        let mut calls = 0;
        while queues.oldest_of_some(ServerId(5), age) != Some(0) {
            calls += 1;
        }
        assert!(calls < 78 / 2, "{calls}");
        for idx in 0..100 {
            assert_eq!(queues.oldest_of_some(ServerId(5), age), Some(idx), "it goes on from there");
            queues.remove(idx);
        }
        assert_eq!(HalfOpen::new(3).oldest_of_some(ServerId(1), age), None);
    }

    #[test]
    fn agrees_with_deques() {
        const ENTRIES: u32 = 300;
        let mut rng = Rng::new(11);
        let mut queues = HalfOpen::new(ENTRIES as usize);
        let mut oracle: Vec<VecDeque<u32>> = vec![VecDeque::new(); 5];
        for _ in 0..50_000 {
            let (idx, server) = (rng.below(ENTRIES as usize) as u32, rng.below(5));
            let is_in = oracle.iter().any(|queue| queue.contains(&idx));
            match rng.below(3) {
                0 if !is_in => {
                    queues.push(idx, ServerId(server as u16));
                    oracle[server].push_back(idx);
                }
                1 => {
                    assert_eq!(queues.remove(idx), is_in);
                    oracle.iter_mut().for_each(|queue| queue.retain(|&other| other != idx));
                }
                _ => {
                    let oldest = queues.oldest(ServerId(server as u16));
                    assert_eq!(oldest, oracle[server].pop_front());
                    assert!(oldest.is_none_or(|idx| queues.remove(idx)));
                }
            }
            assert_eq!(queues.len(), oracle.iter().map(VecDeque::len).sum::<usize>());
        }
    }
}
