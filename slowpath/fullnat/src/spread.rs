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
/// A packet that hits a session is handled where it landed, so this is asked on misses only.
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
            // Neither the high bits, which the session index takes its bucket from, nor the lowest, its tag: a worker
            // would use only its share of them.
            Spread::Software(owners) => owners.owner(LPort((hash >> 16) as u16)),
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
