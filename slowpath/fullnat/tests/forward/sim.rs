//! The workers with their forwarders, the clock, and the wires.

use std::collections::VecDeque;
use std::sync::Arc;

use fullnat::counters::Counters;
use fullnat::forward::{Forwarder, Output, PortView, Prepared, SessionView, Setup};
use fullnat::frame::{Frame, HeapFrame};
use fullnat::hash::{FlowHash, FlowHasher};
use fullnat::id::{IfaceId, WorkerId};
use fullnat::neighbor::{Neighbors, Pins};
use fullnat::offload::{Full, Gate, Request, Threshold, Verdict};
use fullnat::persistence::Persistence;
use fullnat::plan::Plan;
use fullnat::ports::LportOwners;
use fullnat::spread::{Placement, Spread};
use fullnat::time::Time;
use fullnat::wire::testing::verify;

use crate::books::{self, Books, Expect};
use crate::switch::Switch;
use crate::world::{GROUP, World, frame};

fn flow_hash() -> Arc<dyn FlowHash> {
    Arc::new(FlowHasher::new(5, 6))
}

/// A frame that left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    pub iface: IfaceId,
    pub bytes: Vec<u8>,
}

/// Where the forwarders' frames end up.
#[derive(Default)]
pub struct Wires {
    sent: Vec<Sent>,
    handed: VecDeque<(WorkerId, IfaceId, HeapFrame)>,
    allocated: u64,
    requests: Vec<Request>,
    /// How many requests the ring takes.
    room: usize,
}

impl Output<HeapFrame> for Wires {
    fn transmit(&mut self, iface: IfaceId, frame: HeapFrame) {
        self.sent.push(Sent { iface, bytes: frame.bytes().to_vec() });
    }

    fn hand_over(&mut self, to: WorkerId, iface: IfaceId, frame: HeapFrame) {
        self.handed.push_back((to, iface, frame));
    }

    fn alloc(&mut self) -> Option<HeapFrame> {
        self.allocated += 1;
        Some(frame(&[]))
    }

    fn offload(&mut self, request: Request) -> Result<(), Full> {
        self.room = self.room.checked_sub(1).ok_or(Full)?;
        self.requests.push(request);
        Ok(())
    }

    fn answer(&mut self, request: Request) {
        self.requests.push(request);
    }
}

/// How a simulation differs from the usual.
#[derive(Clone)]
pub struct Options {
    pub workers: u8,
    pub spread: Spread,
    pub sessions: usize,
    pub replies_per_second: u32,
    pub pending_per_nexthop: usize,
    /// Next hops are known from the start.
    pub pinned: bool,
    /// When sessions are offloaded; without, there is no target.
    pub offload: Option<Threshold>,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            workers: 1,
            spread: Spread::Software(LportOwners::new(1)),
            sessions: 4096,
            replies_per_second: 1_000_000,
            pending_per_nexthop: 16,
            pinned: true,
            offload: None,
            seed: 7,
        }
    }
}

impl Options {
    /// This many workers, to which packets come as it happens.
    pub fn software(workers: u8) -> Self {
        Options { workers, spread: Spread::Software(LportOwners::new(workers)), ..Options::default() }
    }
}

pub struct Worker {
    pub forwarder: Forwarder<HeapFrame>,
    pub counters: Arc<Counters>,
    /// What it asked of the offload manager, and how much more it may ask.
    pub requests: VecDeque<Request>,
    pub room: usize,
}

impl Worker {
    /// The forwarder does something with the wires.
    fn with(&mut self, wires: &mut Wires, act: impl FnOnce(&mut Forwarder<HeapFrame>, &mut Wires)) {
        wires.room = self.room;
        act(&mut self.forwarder, wires);
        // At once, so that tests need not let the time pass.
        self.forwarder.publish_loads();
        self.room = wires.room;
        self.requests.extend(wires.requests.drain(..));
    }
}

/// The balancer in its network.
pub struct Sim {
    pub now: Time,
    pub world: World,
    pub workers: Vec<Worker>,
    pub neighbors: Arc<Neighbors>,
    /// The worker at which frames from outside arrive.
    pub lands_on: usize,
    /// Frames received from outside, and frames handed from worker to worker.
    pub received: u64,
    pub handed: u64,
    /// Frames transmitted, and those of them that answer no other.
    pub transmitted: u64,
    pub made: u64,
    pub gate: Option<Arc<Gate>>,
    /// What the balancer's interfaces are ports of; without entries it is as if it were not there.
    pub switch: Switch,
    pins: u32,
    plan: Arc<Plan>,
    seen: Books,
    options: Options,
}

impl Sim {
    pub fn with(world: World, options: Options) -> Self {
        // Not 0, and short times wrap soon after.
        Sim::at(Time((1 << 32) - 100_000), world, options)
    }

    /// The balancer is killed and started again. The switch is not.
    pub fn restart(&mut self) {
        let options = Options { seed: self.options.seed + 1000, ..self.options.clone() };
        let mut world = std::mem::take(&mut self.world);
        world.shared.clear();
        let switch = std::mem::take(&mut self.switch);
        *self = Sim { switch, ..Sim::at(self.now, world, options) };
        self.announce(32);
    }

    fn at(now: Time, mut world: World, options: Options) -> Self {
        let plan = world.plan();
        let neighbors = Arc::new(Neighbors::new(512, [1, 2]));
        if options.pinned {
            let hops = world.next_hops().into_iter().map(|(iface, addr, mac)| (iface, addr, Some(mac)));
            // Held for good: the pins' own end would not let go of them.
            Pins::default().update(&neighbors, hops).expect("room for the pins");
        }
        let pins = neighbors.iter().map(|n| n.holders).sum();
        let persistence = Arc::new(Persistence::new(1024, [3, 4]));
        let gate = options.offload.map(|threshold| Arc::new(Gate::new(threshold)));
        let worker = |n: u8| {
            let counters = Arc::new(Counters::new(4, usize::from(4 * GROUP)));
            let setup = Setup {
                worker: WorkerId(n),
                spread: options.spread.clone(),
                sessions_v4: options.sessions,
                sessions_v6: options.sessions,
                hash: flow_hash(),
                seed: options.seed + u64::from(n),
                icmp_per_second: options.replies_per_second,
                resets_per_second: options.replies_per_second,
                pending_per_nexthop: options.pending_per_nexthop,
                neighbors: Arc::clone(&neighbors),
                persistence: Arc::clone(&persistence),
                counters: Arc::clone(&counters),
                plan: Arc::clone(&plan),
                offload: gate.clone(),
                now,
            };
            Worker { forwarder: Forwarder::new(setup), counters, requests: VecDeque::new(), room: usize::MAX }
        };
        let workers = (0..options.workers).map(worker).collect();
        let (seen, received, handed, transmitted, made) = (Books::new(), 0, 0, 0, 0);
        let lands_on = 0;
        Sim {
            now,
            world,
            workers,
            neighbors,
            lands_on,
            received,
            handed,
            transmitted,
            made,
            gate,
            switch: Switch::default(),
            pins,
            plan,
            seen,
            options,
        }
    }

    /// A simulation past its announcements, with the usual options.
    pub fn quiet(world: World) -> Self {
        Sim::quiet_with(world, Options::default())
    }

    /// A simulation past its announcements.
    pub fn quiet_with(world: World, options: Options) -> Self {
        let mut sim = Sim::with(world, options);
        sim.announce(32);
        sim
    }

    /// A frame arrives.
    pub fn rx(&mut self, iface: IfaceId, bytes: &[u8]) -> Vec<Sent> {
        if let Some(sent) = self.switch.forward(bytes, &self.neighbors, &self.plan) {
            return vec![sent];
        }
        self.rx_at(self.lands_on, iface, &[bytes.to_vec()])
    }

    /// A frame arrives, and exactly one leaves.
    pub fn rx_one(&mut self, iface: IfaceId, bytes: &[u8]) -> Sent {
        let mut sent = self.rx(iface, bytes);
        assert_eq!(sent.len(), 1, "frames that left: {sent:02x?}");
        sent.remove(0)
    }

    /// A burst arrives at a worker. Returns what leaves, hand-overs included. A frame is handed over once at most.
    pub fn rx_at(&mut self, worker: usize, iface: IfaceId, frames: &[Vec<u8>]) -> Vec<Sent> {
        let mut wires = Wires::default();
        self.received += frames.len() as u64;
        let burst: Vec<_> = frames.iter().map(|bytes| frame(bytes)).collect();
        let now = self.now;
        self.workers[worker].with(&mut wires, |forwarder, wires| forwarder.receive(now, iface, burst, wires));
        let handed = std::mem::take(&mut wires.handed);
        self.handed += handed.len() as u64;
        for (to, iface, frame) in handed {
            assert_ne!(usize::from(to.0), worker, "handed to itself");
            let owner = &mut self.workers[usize::from(to.0)];
            owner.with(&mut wires, |forwarder, wires| forwarder.receive(now, iface, [frame], wires));
            assert!(wires.handed.is_empty(), "handed over twice");
        }
        self.made += wires.allocated;
        self.left(wires)
    }

    fn left(&mut self, wires: Wires) -> Vec<Sent> {
        self.transmitted += wires.sent.len() as u64;
        wires.sent
    }

    /// Every worker does what is due.
    pub fn tick(&mut self) -> Vec<Sent> {
        let mut wires = Wires::default();
        for worker in &mut self.workers {
            worker.with(&mut wires, |forwarder, wires| forwarder.tick(self.now, wires));
        }
        assert!(wires.handed.is_empty(), "nothing arrived that could be handed over");
        self.made += wires.allocated;
        self.left(wires)
    }

    /// The offload manager tells a worker.
    pub fn verdict(&mut self, worker: usize, verdict: Verdict) {
        let mut wires = Wires::default();
        self.workers[worker].with(&mut wires, |forwarder, wires| forwarder.verdict(self.now, verdict, wires));
        assert!(wires.sent.is_empty() && wires.handed.is_empty());
    }

    /// So many milliseconds pass one by one, in each of which some of our addresses are announced.
    pub fn announce(&mut self, ms: u64) -> Vec<Sent> {
        let step = |_| {
            self.now = self.now.after(1);
            self.tick()
        };
        (0..ms).flat_map(step).collect()
    }

    /// Time passes in steps of half a second or less, with all that is due done.
    pub fn advance(&mut self, ms: u64) -> Vec<Sent> {
        let end = self.now.after(ms);
        let mut sent = Vec::new();
        while self.now < end {
            self.now = Time(end.0.min(self.now.0 + 500));
            sent.extend(self.tick());
            sent.extend(self.tick());
        }
        sent
    }

    /// A while passes in which nothing is due but the ends of a few sessions.
    pub fn advance_quickly(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        for _ in 0..ms / 256 / 32 + 2 {
            self.tick();
        }
    }

    /// A long time passes in which nothing is due but the ends of sessions.
    pub fn skip(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        // 64 sessions or ticks of the wheel (256 ms each) are done in each round.
        for _ in 0..(ms / 256 + 4096) / 64 + 2 {
            self.tick();
        }
    }

    /// The operator changed `world`.
    pub fn reload(&mut self) {
        let before = std::mem::replace(&mut self.plan, self.world.plan());
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let mut plan = Prepared::new(Arc::clone(&self.plan), Some(&before), WorkerId(number as u8));
            worker.forwarder.set_plan(&mut plan);
        }
    }

    /// What the counters did since the last call.
    pub fn changed(&mut self) -> Books {
        let now = self.books();
        let change = books::change(&self.seen, &now);
        self.seen = now;
        change
    }

    /// All counters.
    pub fn books(&self) -> Books {
        books::read(self.workers.iter().map(|w| &*w.counters))
    }

    /// Asserts that the counters did this, and nothing else, since the last look.
    #[track_caller]
    pub fn expect(&mut self, expect: &Expect) {
        assert_eq!(&self.changed(), expect.books());
    }

    /// All sessions of all workers.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.sessions_by_worker().concat()
    }

    /// All sessions by worker.
    pub fn sessions_by_worker(&self) -> Vec<Vec<SessionView>> {
        let of = |worker: &Worker| {
            let (mut views, mut cursor) = (Vec::new(), Some(0));
            while let Some(at) = cursor {
                cursor = worker.forwarder.scan_sessions(self.now, at, 64, |view| views.push(view));
            }
            views
        };
        self.workers.iter().map(of).collect()
    }

    /// The only session.
    #[track_caller]
    pub fn session(&self) -> SessionView {
        let sessions = self.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        sessions[0]
    }

    /// Which worker has which session.
    pub fn placement(&self) -> Placement {
        Placement::new(self.options.spread.clone(), flow_hash())
    }

    /// The plan in force.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

    /// All port spaces of all workers.
    pub fn ports(&mut self) -> Vec<PortView> {
        let mut views = Vec::new();
        for worker in &mut self.workers {
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                cursor = worker.forwarder.scan_ports(self.now, at, 64, |view| views.push(view));
            }
        }
        views
    }

    /// Packets that wait for their next hop.
    pub fn waiting(&self) -> u64 {
        self.workers.iter().map(|w| w.forwarder.waiting() as u64).sum()
    }

    /// How often next hops are held: once each by a worker with sessions of a family that need it.
    pub fn holds(&self) -> u32 {
        self.neighbors.iter().map(|n| n.holders).sum::<u32>() - self.pins
    }

    /// Ports in use and in quarantine, in all spaces.
    pub fn ports_used(&mut self) -> (u32, u32) {
        self.ports().iter().fold((0, 0), |(used, resting), p| (used + p.in_use, resting + p.quarantined))
    }
}

/// Asserts that lengths and checksums of an IP frame are right.
#[track_caller]
pub fn assert_right(frame: &[u8]) {
    if let Err(wrong) = verify(frame) {
        panic!("{wrong}: {frame:02x?}");
    }
}

/// Runs a generic test for both families.
#[macro_export]
macro_rules! both_families {
    ($test:ident) => {{
        $test::<std::net::Ipv4Addr>();
        $test::<std::net::Ipv6Addr>();
    }};
}
