//! Which worker owns a flow. Both directions of a session meet on one worker; this says which, from the packet alone.

use std::fmt;
use std::sync::Arc;

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey};
use crate::hash::FlowHash;
use crate::id::{IfaceId, LPort, WorkerId};
use crate::offload::{AnyEnds, Ends};
use crate::plan::Plan;
use crate::ports::LportOwners;
use crate::rss::RssSpread;

/// How packets find the worker that owns their session.
///
/// What the key alone tells is asked before a packet is looked up; the rest, of packets that hit no session where they landed.
#[derive(Clone, Debug)]
pub enum Spread {
    /// Interfaces deliver all inbound packets of a flow to one queue, we do not know which: the worker that sees the
    /// SYN owns the session. Outbound packets go to the owner of their lport.
    Sticky(LportOwners),
    /// Interfaces promise nothing (every vdev): inbound packets belong to the worker their flow hash names, outbound
    /// packets to the owner of their lport.
    Software(LportOwners),
    /// Each interface reports its RSS key and table: inbound packets land on their worker, and lports are chosen so
    /// that the answers land there too.
    Rss(Vec<RssSpread>),
}

impl Spread {
    /// The owner of an inbound packet that arrived by `iface` at worker `here`. `hash` is the key's flow hash, the same
    /// on every worker.
    pub fn inbound<A: Addr>(&self, here: WorkerId, iface: IfaceId, key: &FlowKey<A>, hash: u64) -> WorkerId {
        match self {
            Spread::Sticky(_) => here,
            Spread::Software(owners) => owners.owner(by_hash(hash)),
            Spread::Rss(ifaces) => Spread::queue(ifaces, here, iface, key),
        }
    }

    /// The owner of an outbound packet (to a local address) that arrives by `iface` at worker `here`.
    pub fn outbound<A: Addr>(&self, here: WorkerId, iface: IfaceId, key: &FlowKey<A>) -> WorkerId {
        match self {
            Spread::Sticky(owners) | Spread::Software(owners) => owners.owner(LPort(key.dport)),
            Spread::Rss(ifaces) => Spread::queue(ifaces, here, iface, key),
        }
    }

    /// Whether packets may land at another worker than their own, and [`Spread::by_key`] tells for some.
    pub fn strays(&self) -> bool {
        match self {
            Spread::Sticky(owners) | Spread::Software(owners) => owners.workers() > 1,
            Spread::Rss(_) => false,
        }
    }

    /// The owner of a packet of this direction, if that is the same wherever it arrives. None: its session is at the worker
    /// where it arrives, if there is one.
    #[inline(always)]
    pub fn by_key<A: Addr>(&self, direction: Direction, key: &FlowKey<A>, hash: u64) -> Option<WorkerId> {
        match (self, direction) {
            // As in `inbound` and `outbound`, by which sessions are made.
            (Spread::Software(owners), Direction::Inbound) => Some(owners.owner(by_hash(hash))),
            (Spread::Sticky(owners) | Spread::Software(owners), Direction::Outbound) => {
                Some(owners.owner(LPort(key.dport)))
            }
            (Spread::Sticky(_), Direction::Inbound) | (Spread::Rss(_), _) => None,
        }
    }

    /// How many workers share the local ports.
    pub fn workers(&self) -> u32 {
        match self {
            Spread::Sticky(owners) | Spread::Software(owners) => owners.workers(),
            Spread::Rss(ifaces) => ifaces.iter().map(RssSpread::queues).max().unwrap_or(1).into(),
        }
    }

    /// The worker at which both directions of a session meet that was made elsewhere; none: they do not. Packets come by
    /// the interfaces that the plan would answer them by: `back` is that to the client.
    fn home<A: Addr>(&self, plan: &Plan, hash: &dyn FlowHash, ends: &Ends<A>, back: IfaceId) -> Option<WorkerId> {
        let there = plan.routes.lookup(ends.server)?.iface;
        let owner = self.outbound(WorkerId(0), there, &ends.key(Direction::Outbound));
        let inbound = ends.key(Direction::Inbound);
        (self.inbound(owner, back, &inbound, inbound.hash(hash)) == owner).then_some(owner)
    }

    fn queue<A: Addr>(ifaces: &[RssSpread], here: WorkerId, iface: IfaceId, key: &FlowKey<A>) -> WorkerId {
        ifaces.get(usize::from(iface.0)).map_or(here, |spread| WorkerId(spread.queue(key) as u8))
    }
}

/// The number of which the remainder is the owner. Neither the high bits, which the session index takes its bucket from, nor
/// the lowest, its tag: a worker would use only its share of them.
#[inline(always)]
fn by_hash(hash: u64) -> LPort {
    LPort((hash >> 16) as u16)
}

/// Says for any session which worker it belongs to.
#[derive(Clone)]
pub struct Placement {
    spread: Spread,
    hash: Arc<dyn FlowHash>,
}

impl fmt::Debug for Placement {
    /// Without the hash, which has a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement").field("spread", &self.spread).finish_non_exhaustive()
    }
}

impl Placement {
    /// For workers that share sessions by `spread`, and have this flow hash.
    pub fn new(spread: Spread, hash: Arc<dyn FlowHash>) -> Self {
        Placement { spread, hash }
    }

    /// The worker of a session; none: its directions do not meet at one. `back` is the interface to the client.
    pub fn home(&self, plan: &Plan, ends: &AnyEnds, back: IfaceId) -> Option<WorkerId> {
        match ends {
            AnyEnds::V4(ends) => self.spread.home(plan, &*self.hash, ends, back),
            AnyEnds::V6(ends) => self.spread.home(plan, &*self.hash, ends, back),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::id::Proto;
    use crate::testing::Rng;

    #[test]
    fn the_key_tells_the_worker_that_sessions_are_made_at() {
        let mut rng = Rng::new(1);
        let owners = LportOwners::new(3);
        assert!(!Spread::Software(LportOwners::new(1)).strays() && !Spread::Rss(Vec::new()).strays());
        for _ in 0..1000 {
            let [src, dst] = [(); 2].map(|()| Ipv4Addr::from_bits(rng.u64() as u32));
            let key = FlowKey { src, dst, sport: rng.u16(), dport: rng.u16(), proto: Proto::Tcp };
            let (here, hash) = (WorkerId(rng.below(3) as u8), rng.u64());
            for spread in [Spread::Software(owners), Spread::Sticky(owners), Spread::Rss(Vec::new())] {
                let inbound = spread.by_key(Direction::Inbound, &key, hash);
                assert_eq!(inbound.unwrap_or(here), spread.inbound(here, IfaceId(0), &key, hash));
                let outbound = spread.by_key(Direction::Outbound, &key, hash);
                assert_eq!(outbound.unwrap_or(here), spread.outbound(here, IfaceId(0), &key));
            }
        }
    }
}
