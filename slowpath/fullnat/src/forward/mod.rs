//! The packet's way. One worker's forwarder takes bursts of received frames and gives each an end: sent on, answered,
//! handed to the worker that owns it, kept until its next hop is known, or dropped with a counted reason.
//!
//! ```text
//!  receive ─▶ parse ─▶ hash ─▶ probe index ─▶ find ─┬ hit ──▶ track TCP ▸ TOA ▸ rewrite ▸ next hop ─▶ transmit
//!   eight packets pass a stage together, and        └ miss ─▶ another worker's? ─▶ hand over
//!   others are between it and their next one                  service ▸ admission ▸ scheduler ▸ local port
//!                                                             ▸ session ─▶ enter ─▶ as a hit
//!
//!  where the hash tells whose a packet is: parse ─▶ hash ─┬ ours ─────────────▶ probe index, as above
//!                                                         └ another worker's ─▶ hand over
//!  ICMP ─▶ echo answered, error translated by the session of the packet inside
//!  ARP, neighbour discovery ─▶ answered for our addresses, learned for next hops
//!
//!  established ─▶ Install ─▶ offload manager ─▶ verdict: the target forwards, and hands up what ends the session
//! ```
//!
//! The stages have the same names in the P4 program: parse, flow, rewrite, nexthop.

mod admit;
mod adopt;
mod evict;
mod hit;
mod hops;
mod housekeeping;
mod icmp;
mod link;
mod offload;
mod output;
mod reply;
mod show;
mod stray;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;

use self::hops::Hops;
use self::housekeeping::Due;
pub use self::housekeeping::Prepared;
pub use self::output::Output;
use self::output::RateLimit;
pub use self::show::{PortView, SessionView};
use self::stray::Directions;
use crate::addr::Addr;
use crate::counters::Counters;
use crate::flow::FlowKey;
use crate::frame::Frame;
use crate::hash::{FlowHash, GROUP};
use crate::id::{IfaceId, Proto, WorkerId};
use crate::index::Probe;
use crate::neighbor::{Housekeeper, Neighbors, PendingQueue, Probes};
use crate::offload::Gate;
use crate::persistence::Persistence;
use crate::plan::Plan;
use crate::ports::PortSpaces;
use crate::reason::DropReason;
use crate::sched::{Loads, Scheduler};
use crate::spread::Spread;
use crate::table::SessionTable;
use crate::time::Time;
use crate::wire::{Flow, Mac, Packet, TcpFlags, ethernet, flow_v4, flow_v6, parse};

/// Most frames that pass the stages together.
pub const BURST: usize = 32;

/// What a forwarder is given when it starts, and keeps.
pub struct Setup {
    /// The worker it runs on. Worker 0 also keeps the next-hop table fresh for all.
    pub worker: WorkerId,
    /// Which worker owns which flow.
    pub spread: Spread,
    /// Most IPv4 sessions.
    pub sessions_v4: usize,
    /// Most IPv6 sessions.
    pub sessions_v6: usize,
    /// The flow hash, of a key unknown to clients: the same on all workers.
    pub hash: Arc<dyn FlowHash>,
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
    lookup_v4: Lookup<Ipv4Addr>,
    lookup_v6: Lookup<Ipv6Addr>,
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
    loads: Loads,
    /// When the loads were last published.
    published: Time,
    pending: PendingQueue<F>,
    /// Batches that are still to be sorted out, since packets of other workers came of late.
    unsorted: u8,
    /// The one worker that sends probes has it.
    housekeeper: Option<Housekeeper>,
    probes: Probes,
    icmp_limit: RateLimit,
    reset_limit: RateLimit,
    /// None without a target: then no session is ever offloaded.
    offload: Option<Arc<Gate>>,
}

/// What one family needs: its sessions, their local ports and next hops.
struct Family<A: Addr> {
    sessions: SessionTable<A>,
    directions: Directions<A>,
    ports: PortSpaces<A>,
    hops: Hops<A>,
    due: Due,
}

/// The circumstances of a burst.
#[derive(Clone, Copy)]
struct Rx<'a> {
    now: Time,
    /// The interface it arrived by.
    iface: IfaceId,
    plan: &'a Plan,
}

/// What the stages made of the frames of one family in a burst. In the forwarder, so that no burst has to make it.
struct Lookup<A: Addr> {
    flows: [Flow<A>; BURST],
    keys: [A::KeyWords; BURST],
    hashes: [u64; BURST],
    probes: [Probe; BURST],
    /// How many are probed.
    probed: usize,
    /// By bit, those that are to be looked for behind their bucket.
    behind: u32,
}

/// Parsed frames of one family on their way through the stages.
struct Batch<'a, F, A: Addr> {
    frames: ArrayVec<F, BURST>,
    lookup: &'a mut Lookup<A>,
}

/// A frame that left the others' way. What the stages made of it stays in their lists.
struct Missed<F> {
    frame: F,
    /// Its place in those lists.
    at: u8,
}

impl<F: Frame> Forwarder<F> {
    /// A forwarder without sessions. Takes the memory of its tables now, and none later.
    pub fn new(setup: Setup) -> Self {
        let (v4, v6) = (
            Family::new(setup.sessions_v4, Arc::clone(&setup.hash), setup.seed, setup.now, &setup.neighbors),
            Family::new(setup.sessions_v6, setup.hash, setup.seed ^ 1, setup.now, &setup.neighbors),
        );
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
                loads: Loads::default(),
                published: setup.now,
                pending: PendingQueue::new(setup.pending_per_nexthop),
                unsorted: 0,
                icmp_limit: RateLimit::new(setup.icmp_per_second),
                reset_limit: RateLimit::new(setup.resets_per_second),
                offload: setup.offload,
            },
            v4,
            v6,
            lookup_v4: Lookup::new(),
            lookup_v6: Lookup::new(),
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
        let Forwarder { plan, desk, v4, v6, lookup_v4, lookup_v6, .. } = self;
        let rx = Rx { now, iface, plan };
        let mac = plan.interface(iface).mac;
        let strays = desk.unsorted > 0 && desk.spread.strays();
        desk.send_pending(plan, now, out);
        let mut frames = frames.into_iter();
        let mut burst = ArrayVec::<F, BURST>::new();
        let mut batch_v4 = Batch { frames: ArrayVec::new(), lookup: lookup_v4 };
        let mut batch_v6 = Batch { frames: ArrayVec::new(), lookup: lookup_v6 };
        loop {
            burst.extend(frames.by_ref().take(BURST).inspect(F::prefetch_start));
            let taken = burst.len();
            for frame in burst.drain(..) {
                let bytes = frame.bytes();
                if !ethernet::is_to(bytes, mac) {
                    desk.other(rx, v4, v6, frame, out);
                } else if let Some(flow) = flow_v4(bytes) {
                    batch_v4.push(frame, flow, &v4.sessions, strays);
                } else if let Some(flow) = flow_v6(bytes) {
                    batch_v6.push(frame, flow, &v6.sessions, strays);
                } else {
                    desk.other(rx, v4, v6, frame, out);
                }
            }
            if strays {
                desk.sort_out(rx, v4, &mut batch_v4, out);
                desk.sort_out(rx, v6, &mut batch_v6, out);
            }
            if !batch_v4.frames.is_empty() {
                desk.flows(rx, v4, &mut batch_v4, out);
            }
            if !batch_v6.frames.is_empty() {
                desk.flows(rx, v6, &mut batch_v6, out);
            }
            if taken < BURST {
                return;
            }
        }
    }
}

impl<F: Frame, A: Addr> Batch<'_, F, A> {
    /// Takes a parsed frame, and those before it a stage further, unless they have to be [sorted out](Desk::sort_out) first.
    #[inline(always)]
    fn push(&mut self, frame: F, flow: Flow<A>, sessions: &SessionTable<A>, strays: bool) {
        let at = self.frames.len() % BURST;
        self.lookup.keys[at] = flow.key.words();
        self.lookup.flows[at] = flow;
        self.frames.push(frame);
        let len = at + 1;
        if len.is_multiple_of(GROUP) && !strays {
            self.lookup.hash::<F>(sessions, len - GROUP, len);
            self.lookup.probe::<F>(sessions, (len - GROUP).min(Lookup::<A>::AHEAD - GROUP));
        }
    }
}

impl<A: Addr> Lookup<A> {
    /// So many packets from the first of a group on have their sessions' lines asked for when the group comes to its last
    /// stage; a group less while the burst is still parsed. A CPU waits for about two dozen lines at a time, and what is asked
    /// for beyond that is late or forgotten. A session of IPv6 is on two lines, so the same number ahead would be too many.
    const AHEAD: usize = if A::IS_V6 { 2 * GROUP } else { 3 * GROUP };

    fn new() -> Self {
        let none = FlowKey { src: A::UNSPECIFIED, dst: A::UNSPECIFIED, sport: 0, dport: 0, proto: Proto::Tcp };
        Lookup {
            flows: [Flow { key: none, payload: 0, end: 0, ttl: 0, flags: TcpFlags::NONE }; BURST],
            keys: [A::KeyWords::default(); BURST],
            hashes: [0; BURST],
            probes: [Probe::default(); BURST],
            probed: 0,
            behind: 0,
        }
    }

    /// Hashes the keys of a group, and asks for their lines of the index.
    #[inline(always)]
    fn hash<F: Frame>(&mut self, sessions: &SessionTable<A>, start: usize, end: usize) {
        let hashes = &mut self.hashes[start..end];
        sessions.hash_all(&self.keys[start..end], hashes);
        for &hash in &*hashes {
            F::prefetch(sessions.bucket(hash));
        }
    }

    /// Looks up the packets before `end`, which are hashed, and asks for the lines of their sessions.
    #[inline(always)]
    fn probe<F: Frame>(&mut self, sessions: &SessionTable<A>, end: usize) {
        for at in self.probed..end.min(BURST) {
            let probe = sessions.probe(self.hashes[at]);
            if let Some(session) = sessions.candidate(&probe) {
                F::prefetch(session);
            } else if let Some(behind) = sessions.behind(&probe) {
                F::prefetch(behind);
                self.behind |= 1 << at;
            }
            self.probes[at] = probe;
        }
        self.probed = self.probed.max(end);
    }

    /// Looks for the packets before `end` behind the buckets that were too full for their sessions.
    #[inline(always)]
    fn probe_behind<F: Frame>(&mut self, sessions: &SessionTable<A>, end: usize) {
        let before = if end < BURST { (1 << end) - 1 } else { u32::MAX };
        let mut wanted = self.behind & before;
        self.behind &= !before;
        while wanted != 0 {
            let probe = &mut self.probes[wanted.trailing_zeros() as usize % BURST];
            wanted &= wanted - 1;
            if sessions.probe_behind(probe)
                && let Some(session) = sessions.candidate(probe)
            {
                F::prefetch(session);
            }
        }
    }
}

impl<A: Addr> Family<A> {
    fn new(sessions: usize, hash: Arc<dyn FlowHash>, seed: u64, now: Time, neighbors: &Neighbors) -> Self {
        Family {
            sessions: SessionTable::new(sessions, hash, now),
            directions: Directions::new(),
            ports: PortSpaces::new(0, seed),
            hops: Hops::new(neighbors),
            due: Due::default(),
        }
    }
}

impl<F: Frame> Desk<F> {
    /// The stages that are left, in which each packet is by itself, while those behind it are looked up. Leaves the batch
    /// empty.
    #[inline]
    fn flows<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        batch: &mut Batch<'_, F, A>,
        out: &mut impl Output<F>,
    ) {
        let Batch { frames, lookup } = batch;
        let (len, mut frames) = (frames.len(), frames.drain(..));
        let sessions = &family.sessions;
        lookup.hash::<F>(sessions, len - len % GROUP, len);
        lookup.probe::<F>(sessions, len.min(Lookup::<A>::AHEAD - GROUP));
        lookup.probe_behind::<F>(sessions, GROUP);
        let mut missed = ArrayVec::<_, BURST>::new();
        for start in (0..len).step_by(GROUP) {
            lookup.probe::<F>(&family.sessions, len.min(start + Lookup::<A>::AHEAD));
            lookup.probe_behind::<F>(&family.sessions, start + Lookup::<A>::AHEAD - GROUP);
            for (at, frame) in (start..).zip(frames.by_ref().take(GROUP)) {
                let at = at % BURST;
                let (flow, key, probe) = (&mut lookup.flows[at], &lookup.keys[at], &lookup.probes[at]);
                // Looked up only now, and not once for all: an earlier packet of the burst may have closed it.
                if let Some(found) = family.sessions.resolve(key, probe) {
                    self.hit(rx, family, found, frame, flow, out);
                    continue;
                }
                match family.sessions.resolve_anew(key, probe) {
                    Some(found) => self.hit_again(rx, family, found, frame, flow, out),
                    None => missed.push(Missed { frame, at: at as u8 }),
                }
            }
        }
        drop(frames);
        lookup.probed = 0;
        if !missed.is_empty() {
            self.misses(rx, family, lookup, missed, out);
        }
    }

    /// A frame that is not TCP or UDP to the interface's MAC address.
    #[cold]
    fn other(
        &mut self,
        rx: Rx<'_>,
        v4: &mut Family<Ipv4Addr>,
        v6: &mut Family<Ipv6Addr>,
        frame: F,
        out: &mut impl Output<F>,
    ) {
        let mac = rx.plan.interface(rx.iface).mac;
        match &parse(frame.bytes()) {
            Ok(packet) if !is_for(mac, frame.bytes(), packet) => self.counters.count_drop(DropReason::NotOurMac),
            Ok(Packet::Icmp4(packet)) => self.icmp(rx, v4, frame, packet, out),
            Ok(Packet::Icmp6(packet)) if packet.is_neighbor_message() => {
                self.neighbor_discovery(rx, v6, frame, packet, out);
            }
            Ok(Packet::Icmp6(packet)) => self.icmp(rx, v6, frame, packet, out),
            Ok(Packet::Arp(packet)) => self.arp(rx, v4, frame, packet, out),
            // Flows to the interface's MAC address do not come here.
            Ok(Packet::V4(_) | Packet::V6(_)) => self.counters.count_drop(DropReason::NotOurMac),
            Err(reason) => self.counters.count_drop(*reason),
        }
    }
}

/// Whether a frame is for the interface with this MAC address. One to a group is only if it asks for an address.
fn is_for(mac: Mac, frame: &[u8], packet: &Packet) -> bool {
    let to = ethernet::destination(frame);
    to == mac || to.is_group() && matches!(packet, Packet::Arp(_) | Packet::Icmp6(_))
}
