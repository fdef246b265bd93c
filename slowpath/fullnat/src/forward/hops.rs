//! The next hops of one worker's sessions of a family: which they are, and how many sessions need each.
//!
//! The next-hop table is shared by all workers, and to be counted in there takes a hash, a look around and a locked
//! instruction. Sessions by the million go to a few next hops, so a worker counts its own sessions and holds a next hop
//! in the table once for all of them, and remembers where it found the last ones.

use crate::addr::Addr;
use crate::id::{IfaceId, NexthopId};
use crate::neighbor::{Full, Neighbors};

/// Next hops remembered. Each has one place; two that share it take turns.
const REMEMBERED: usize = 256;

/// The next hops. See the [module](self).
pub(super) struct Hops<A> {
    /// Sessions by next hop. Above 0 the worker holds it in the table.
    held: Box<[u32]>,
    /// Where a next hop was found last. What is not held any more may mean another one by now.
    remembered: Box<[Remembered<A>; REMEMBERED]>,
}

#[derive(Clone, Copy)]
struct Remembered<A> {
    addr: A,
    iface: IfaceId,
    id: NexthopId,
}

impl<A: Addr> Hops<A> {
    /// For next hops of this table.
    pub(super) fn new(table: &Neighbors) -> Self {
        let nothing = Remembered { addr: A::UNSPECIFIED, iface: IfaceId(0), id: NexthopId(0) };
        Hops { held: vec![0; table.capacity() + 1].into(), remembered: Box::new([nothing; REMEMBERED]) }
    }

    /// The next hop, for one more session.
    #[inline]
    pub(super) fn acquire(&mut self, table: &Neighbors, iface: IfaceId, addr: A) -> Result<NexthopId, Full> {
        let place = place(iface, addr);
        let found = self.remembered[place];
        if found.iface == iface
            && found.addr == addr
            && let Some(held) = self.held.get_mut(usize::from(found.id.0)).filter(|held| **held > 0)
        {
            *held += 1;
            return Ok(found.id);
        }
        let id = table.acquire(iface, addr.into())?;
        self.remembered[place] = Remembered { addr, iface, id };
        if let Some(held) = self.held.get_mut(usize::from(id.0)) {
            *held += 1;
            if *held > 1 {
                table.release(id);
            }
        }
        Ok(id)
    }

    /// Gives up what [`Hops::acquire`] counted.
    #[inline]
    pub(super) fn release(&mut self, table: &Neighbors, id: NexthopId) {
        let Some(held) = self.held.get_mut(usize::from(id.0)) else { return };
        debug_assert!(*held > 0, "next hop {id} was released more often than acquired");
        *held = held.saturating_sub(1);
        if *held == 0 {
            table.release(id);
        }
    }
}

/// Spreads neighbouring addresses evenly. Who chooses addresses to make them collide has the table asked each time, as
/// if nothing were remembered.
#[inline(always)]
fn place<A: Addr>(iface: IfaceId, addr: A) -> usize {
    let [high, low] = addr.words();
    let mixed = (high ^ low ^ u64::from(iface.0) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize % REMEMBERED
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn holders(table: &Neighbors, id: NexthopId) -> u32 {
        table.get(id).map_or(0, |neighbor| neighbor.holders)
    }

    #[test]
    fn many_sessions_hold_a_next_hop_once() {
        let table = Neighbors::new(8, [1, 2]);
        let mut hops = Hops::<Ipv4Addr>::new(&table);
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let id = hops.acquire(&table, IfaceId(0), a).unwrap();
        let other = hops.acquire(&table, IfaceId(0), b).unwrap();
        let there = hops.acquire(&table, IfaceId(1), a).unwrap();
        assert!(id != other && id != there && other != there);
        assert!((0..10).all(|_| hops.acquire(&table, IfaceId(0), a) == Ok(id)));
        assert_eq!([id, other, there].map(|id| holders(&table, id)), [1; 3]);
        for _ in 0..10 {
            hops.release(&table, id);
        }
        assert_eq!(holders(&table, id), 1);
        hops.release(&table, id);
        assert_eq!(holders(&table, id), 0);
        // What is remembered of it is not believed, whether it is the same still or not.
        assert_eq!(hops.acquire(&table, IfaceId(0), a), Ok(id));
        assert_eq!(holders(&table, id), 1);
    }

    #[test]
    fn next_hops_beyond_what_is_remembered_are_counted_all_the_same() {
        let table = Neighbors::new(2_000, [1, 2]);
        let mut hops = Hops::<Ipv4Addr>::new(&table);
        let addr = |n: u32| Ipv4Addr::from_bits(0x0a00_0000 + n);
        let take = |hops: &mut Hops<_>| -> Vec<NexthopId> {
            (0..1_000).map(|n| hops.acquire(&table, IfaceId(0), addr(n)).unwrap()).collect()
        };
        let ids = take(&mut hops);
        assert_eq!(take(&mut hops), ids);
        for (n, &id) in (0..).zip(&ids) {
            assert_eq!(table.get(id).map(|found| (found.addr, found.holders)), Some((IpAddr::V4(addr(n)), 1)));
        }
        for id in [&ids[..], &ids[..]].concat() {
            hops.release(&table, id);
        }
        assert!(ids.into_iter().all(|id| holders(&table, id) == 0));
    }

    #[test]
    fn a_full_table_is_said() {
        let table = Neighbors::new(1, [1, 2]);
        let mut hops = Hops::<Ipv4Addr>::new(&table);
        let id = hops.acquire(&table, IfaceId(0), Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        assert_eq!(hops.acquire(&table, IfaceId(0), Ipv4Addr::new(10, 0, 0, 2)), Err(Full));
        hops.release(&table, id);
    }
}
