//! Which worker owns a flow. Both directions of a session meet on one worker; this says which, from the packet alone.

use crate::addr::Addr;
use crate::flow::FlowKey;
use crate::id::{IfaceId, LPort, WorkerId};
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

    fn queue<A: Addr>(ifaces: &[RssSpread], here: WorkerId, iface: IfaceId, key: &FlowKey<A>) -> WorkerId {
        ifaces.get(usize::from(iface.0)).map_or(here, |spread| WorkerId(spread.queue(key) as u8))
    }
}
