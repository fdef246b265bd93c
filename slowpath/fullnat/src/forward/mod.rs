//! The packet's way. One worker's forwarder takes bursts of received frames and gives each an end: sent on, answered,
//! handed to the worker that owns it, kept until its next hop is known, or dropped with a counted reason.
//!
//! ```text
//!  receive ─▶ parse ─▶ hash ─▶ probe index ─▶ find ─┬ hit ──▶ track TCP ▸ TOA ▸ rewrite ▸ next hop ─▶ transmit
//!   every frame of a burst passes a stage           └ miss ─▶ another worker's? ─▶ hand over
//!   before the first frame enters the next                    service ▸ admission ▸ scheduler ▸ local port
//!                                                             ▸ session ─▶ as a hit
//!  ICMP ─▶ echo answered, error translated by the session of the packet inside
//!  ARP, neighbour discovery ─▶ answered for our addresses, learned for next hops
//!
//!  established ─▶ Install ─▶ offload manager ─▶ verdict: the target forwards, and hands up what ends the session
//! ```
//!
//! The stages have the same names in the P4 program: parse, flow, rewrite, nexthop.

mod admit;
mod hit;
mod housekeeping;
mod icmp;
mod link;
mod offload;
mod output;
mod reply;
mod show;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;

pub use self::housekeeping::Prepared;
pub use self::output::Output;
use self::output::RateLimit;
pub use self::show::{PortView, SessionView};
use crate::addr::Addr;
use crate::counters::Counters;
use crate::frame::Frame;
use crate::hash::FlowHasher;
use crate::id::{IfaceId, WorkerId};
use crate::neighbor::{Housekeeper, Neighbors, PendingQueue, Probes};
use crate::offload::Gate;
use crate::persistence::Persistence;
use crate::plan::Plan;
use crate::ports::PortSpaces;
use crate::reason::DropReason;
use crate::sched::Scheduler;
use crate::spread::Spread;
use crate::table::SessionTable;
use crate::time::Time;
use crate::wire::{Flow, Packet, parse};
use crate::wire::{Mac, ethernet};

/// Most frames that pass the stages together.
pub const BURST: usize = 32;

/// What a forwarder is given when it starts, and keeps.
#[derive(Debug)]
pub struct Setup {
    /// The worker it runs on. Worker 0 also keeps the next-hop table fresh for all.
    pub worker: WorkerId,
    /// Which worker owns which flow.
    pub spread: Spread,
    /// Most IPv4 sessions.
    pub sessions_v4: usize,
    /// Most IPv6 sessions.
    pub sessions_v6: usize,
    /// Keys of the flow hash: the same on all workers, unknown to clients.
    pub hash_key: (u64, u64),
    /// Seed of this worker's choices: first local ports, scheduler offsets.
    pub seed: u64,
    /// ICMP errors and echo replies per second.
    pub icmp_per_second: u32,
    /// RST segments of our own per second.
    pub resets_per_second: u32,
    /// Packets that may wait for one next hop's MAC address.
    pub pending_per_nexthop: usize,
    /// The next-hop table, shared by all workers.
    pub neighbors: Arc<Neighbors>,
    /// The persistence table, shared by all workers.
    pub persistence: Arc<Persistence>,
    /// This worker's counters.
    pub counters: Arc<Counters>,
    /// The first plan.
    pub plan: Arc<Plan>,
    /// From when on sessions are offloaded; none when there is no target.
    pub offload: Option<Arc<Gate>>,
    /// Now.
    pub now: Time,
}

/// One worker's data plane.
pub struct Forwarder<F: Frame> {
    plan: Arc<Plan>,
    desk: Desk<F>,
    v4: Family<Ipv4Addr>,
    v6: Family<Ipv6Addr>,
    /// Addresses of ours still to be announced by gratuitous ARP or unsolicited neighbour advertisement.
    announce: Vec<(IfaceId, IpAddr)>,
    /// When the last ones were.
    announced: Time,
}

/// What packets of both families need.
struct Desk<F: Frame> {
    worker: WorkerId,
    spread: Spread,
    neighbors: Arc<Neighbors>,
    persistence: Arc<Persistence>,
    counters: Arc<Counters>,
    schedulers: Vec<Option<Scheduler>>,
    pending: PendingQueue<F>,
    /// The one worker that sends probes has it.
    housekeeper: Option<Housekeeper>,
    probes: Probes,
    icmp_limit: RateLimit,
    reset_limit: RateLimit,
    /// None without a target: then no session is ever offloaded.
    offload: Option<Arc<Gate>>,
}

/// What one family needs: its sessions and its local ports.
struct Family<A: Addr> {
    sessions: SessionTable<A>,
    ports: PortSpaces<A>,
}

/// The circumstances of a burst.
#[derive(Clone, Copy)]
struct Rx<'a> {
    now: Time,
    /// The interface it arrived by.
    iface: IfaceId,
    plan: &'a Plan,
}

/// A parsed frame on its way.
struct Arrival<F, A> {
    frame: F,
    flow: Flow<A>,
    hash: u64,
}

impl<F: Frame> Forwarder<F> {
    /// A forwarder without sessions. Takes the memory of its tables now, and none later.
    pub fn new(setup: Setup) -> Self {
        let hasher = FlowHasher::new(setup.hash_key.0, setup.hash_key.1);
        let mut forwarder = Forwarder {
            plan: Arc::clone(&setup.plan),
            desk: Desk {
                worker: setup.worker,
                spread: setup.spread,
                housekeeper: (setup.worker == WorkerId(0))
                    .then(|| Housekeeper::new(Arc::clone(&setup.neighbors)))
                    .flatten(),
                probes: Probes::new(),
                neighbors: setup.neighbors,
                persistence: setup.persistence,
                counters: setup.counters,
                schedulers: Vec::new(),
                pending: PendingQueue::new(setup.pending_per_nexthop),
                icmp_limit: RateLimit::new(setup.icmp_per_second),
                reset_limit: RateLimit::new(setup.resets_per_second),
                offload: setup.offload,
            },
            v4: Family::new(setup.sessions_v4, hasher, setup.seed, setup.now),
            v6: Family::new(setup.sessions_v6, hasher, setup.seed ^ 1, setup.now),
            announce: Vec::new(),
            announced: setup.now,
        };
        forwarder.set_plan(&mut Prepared::new(setup.plan, None, setup.worker));
        forwarder
    }

    /// Takes received frames through all stages. `iface` is the interface they arrived by, also for frames that another
    /// worker hands over.
    pub fn receive(
        &mut self,
        now: Time,
        iface: IfaceId,
        frames: impl IntoIterator<Item = F>,
        out: &mut impl Output<F>,
    ) {
        let Forwarder { plan, desk, v4, v6, .. } = self;
        let rx = Rx { now, iface, plan };
        let mac = plan.interface(iface).mac;
        desk.send_pending(plan, now, out);
        let mut frames = frames.into_iter();
        loop {
            let mut arrivals_v4 = ArrayVec::new();
            let mut arrivals_v6 = ArrayVec::new();
            let mut taken = 0;
            for frame in frames.by_ref().take(BURST) {
                taken += 1;
                // By reference: moved out of the result, the larger packets would be copied twice.
                match &parse(frame.bytes()) {
                    Ok(packet) if !is_for(mac, frame.bytes(), packet) => {
                        desk.counters.count_drop(DropReason::NotOurMac)
                    }
                    Ok(Packet::V4(flow)) => arrivals_v4.push(v4.arrival(frame, *flow)),
                    Ok(Packet::V6(flow)) => arrivals_v6.push(v6.arrival(frame, *flow)),
                    Ok(Packet::Icmp4(packet)) => desk.icmp(rx, v4, frame, packet, out),
                    Ok(Packet::Icmp6(packet)) if packet.is_neighbor_message() => {
                        desk.neighbor_discovery(rx, v6, frame, packet, out);
                    }
                    Ok(Packet::Icmp6(packet)) => desk.icmp(rx, v6, frame, packet, out),
                    Ok(Packet::Arp(packet)) => desk.arp(rx, v4, frame, packet, out),
                    Err(reason) => desk.counters.count_drop(*reason),
                }
            }
            desk.flows(rx, v4, arrivals_v4, out);
            desk.flows(rx, v6, arrivals_v6, out);
            if taken < BURST {
                return;
            }
        }
    }
}

impl<A: Addr> Family<A> {
    fn new(sessions: usize, hasher: FlowHasher, seed: u64, now: Time) -> Self {
        Family { sessions: SessionTable::new(sessions, hasher, now), ports: PortSpaces::new(0, seed) }
    }

    #[inline(always)]
    fn arrival<F: Frame>(&self, frame: F, flow: Flow<A>) -> Arrival<F, A> {
        let hash = self.sessions.hash(&flow.key);
        F::prefetch(self.sessions.bucket(hash));
        Arrival { frame, flow, hash }
    }
}

impl<F: Frame> Desk<F> {
    /// The stages after parsing: probe, find, then each packet by itself.
    #[inline(always)]
    fn flows<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        arrivals: ArrayVec<Arrival<F, A>, BURST>,
        out: &mut impl Output<F>,
    ) {
        let probe = |arrival: &Arrival<F, A>| {
            let probe = family.sessions.probe(arrival.hash);
            if let Some(session) = family.sessions.candidate(&probe) {
                F::prefetch(session);
            }
            probe
        };
        let probes: ArrayVec<_, BURST> = arrivals.iter().map(probe).collect();
        for (arrival, probe) in arrivals.into_iter().zip(probes) {
            // Looked up only now, and not once for all: an earlier packet of the burst may have opened or closed it.
            match family.sessions.resolve(&arrival.flow.key, &probe) {
                Some(found) => self.hit(rx, family, found, arrival, out),
                None => self.miss(rx, family, arrival, out),
            }
        }
    }
}

/// Whether a frame is for the interface with this MAC address. One to a group is only if it asks for an address.
#[inline(always)]
fn is_for(mac: Mac, frame: &[u8], packet: &Packet) -> bool {
    let to = ethernet::destination(frame);
    to == mac || to.is_group() && matches!(packet, Packet::Arp(_) | Packet::Icmp6(_))
}
