//! A manager, a fake target, and a test in the place of the workers.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carom::offload::{self, Form, Handle, OffloadEnds, Program, Settings, Status};
use carom_p4::{ConnectionV4EvenKey, ConnectionV4OddKey, FlowV4Key, InboundV4Key, Key};
use fullnat::id::{CPort, IfaceId, LPort, NexthopId, Proto, RPort, VPort, WorkerId};
use fullnat::neighbor::Neighbors;
use fullnat::offload::{AnyEnds, Counted, Ends, Gate, Place, Request, Threshold, Verdict};
use fullnat::plan::{Plan, testing};
use fullnat::table::SessionIdx;
use fullnat::wire::Mac;
use runtime_client::Address;
use runtime_client::fake::{FakeConfig, FakeTarget};
use runtime_client::proto::p4::v1::TableEntry;

pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 80);
pub const LIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
pub const RIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A manager and what stands around it.
pub struct Rig {
    pub handle: Handle,
    pub gate: Arc<Gate>,
    pub workers: Vec<OffloadEnds>,
    pub neighbors: Arc<Neighbors>,
    pub server: NexthopId,
    pub router: NexthopId,
    heard: Vec<VecDeque<Verdict>>,
}

/// A target without a program, as one that has just been started.
pub async fn target() -> FakeTarget {
    let config = FakeConfig { p4info: None, ..FakeConfig::default() };
    FakeTarget::start(config).await.expect("a free port on loopback")
}

/// Whatever is tested of flows is tested with both programs.
pub const FORMS: [Form; 2] = [Form::Plain, Form::Ids];

pub fn settings(address: Address, form: Form) -> Settings {
    let program = match form {
        Form::Plain => Program::bmv2(),
        Form::Ids => Program::bmv2_ids(),
    };
    Settings { program, retry: Duration::from_millis(200), workers: 2, ..Settings::bmv2(address, 64, vec![1]) }
}

/// The flow entries of IPv4 sessions, in whatever table.
pub fn flows(target: &FakeTarget) -> Vec<TableEntry> {
    let tables = [FlowV4Key::TABLE, ConnectionV4EvenKey::TABLE, ConnectionV4OddKey::TABLE, InboundV4Key::TABLE];
    tables.iter().flat_map(|table| target.entries(table.id)).collect()
}

/// The capacity of a table with which a target has room for so many sessions.
pub fn capacity(form: Form, sessions: usize) -> Option<usize> {
    match form {
        Form::Plain => Some(2 * sessions),
        Form::Ids => Some(sessions),
    }
}

/// What is told when each entry of a session is said to have been hit so often: by ids one counts for both directions.
pub fn counted(form: Form, packets: u64, bytes: u64) -> Counted {
    match form {
        Form::Plain => Counted { packets: [packets; 2], bytes: [bytes; 2] },
        Form::Ids => Counted { packets: [0, packets], bytes: [0, bytes] },
    }
}

/// A plan with one TCP service and one real server, everything on one link.
pub fn plan(generation: u64, vip: Ipv4Addr) -> Arc<Plan> {
    let lan = testing::interface(Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 2), 8);
    let service = testing::service(0, vip, 80, Proto::Tcp, &[0]);
    let mut plan = testing::plan(vec![lan], &[LIP], vec![service], vec![testing::server(0, 0, RIP, 8080)]);
    plan.generation = generation;
    Arc::new(plan)
}

impl Rig {
    pub fn start(settings: Settings) -> Self {
        Self::knowing(settings, &[])
    }

    /// The same in a life in which the next hops have other numbers, because one was there before them.
    pub fn later(settings: Settings) -> Self {
        Self::knowing(settings, &[Ipv4Addr::new(10, 0, 0, 77)])
    }

    fn knowing(settings: Settings, others: &[Ipv4Addr]) -> Self {
        let neighbors = Arc::new(Neighbors::new(100, [1, 2]));
        let learn = |address: Ipv4Addr, last| {
            neighbors.acquire_static(IfaceId(0), address.into(), Mac([2, 0, 0, 0, 1, last])).expect("room")
        };
        others.iter().for_each(|address| _ = learn(*address, 77));
        let (server, router) = (learn(RIP, 10), learn(ROUTER, 1));
        let (rings, workers) = offload::rings(settings.workers);
        let gate = Arc::clone(&rings.gate);
        let heard = workers.iter().map(|_| VecDeque::new()).collect();
        let handle = offload::start(settings, plan(1, VIP), Arc::clone(&neighbors), rings).expect("good settings");
        Rig { handle, gate, workers, neighbors, server, router, heard }
    }

    /// With a target that is ready.
    pub async fn ready(settings: Settings) -> Self {
        let rig = Self::start(settings);
        rig.until_open().await;
        rig
    }

    pub async fn until_open(&self) {
        until(|| self.gate.threshold::<std::net::Ipv4Addr>() != Threshold::Never).await;
    }

    pub fn ends(&self, n: u32) -> AnyEnds {
        AnyEnds::V4(Ends {
            client: Ipv4Addr::from_bits(0x0a01_0000 + (n >> 12)),
            vip: VIP,
            server: RIP,
            local: Ipv4Addr::from_bits(LIP.to_bits() + (n >> 15)),
            cport: CPort(1024 + (n & 0xfff) as u16),
            vport: VPort(80),
            rport: RPort(8080),
            lport: LPort(0x8000 | n as u16),
            proto: Proto::Tcp,
            nexthop_in: self.server,
            nexthop_out: self.router,
        })
    }

    /// Asks for the `n`th session, which is at this place of the worker.
    pub fn install(&mut self, worker: usize, n: u32) {
        self.install_for(worker, n, 10_000);
    }

    /// With a timeout in milliseconds.
    pub fn install_for(&mut self, worker: usize, n: u32, idle_ms: u64) {
        let ends = self.ends(n);
        self.tell(worker, Request::Install { place: place(n), ends, idle_ms });
    }

    pub fn remove(&mut self, worker: usize, n: u32) {
        self.tell(worker, Request::Remove { place: place(n) });
    }

    pub fn check(&mut self, worker: usize, n: u32) {
        self.tell(worker, Request::Check { place: place(n) });
    }

    /// A worker says something.
    pub fn tell(&mut self, worker: usize, request: Request) {
        self.workers[worker].requests.push(request).expect("a ring with room");
    }

    /// The next verdict for a worker.
    pub async fn verdict(&mut self, worker: usize) -> Verdict {
        let start = Instant::now();
        loop {
            if let Some(verdict) = self.poll(worker) {
                return verdict;
            }
            assert!(start.elapsed() < PATIENCE, "no verdict");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A verdict for a worker, if there is one by now.
    pub fn poll(&mut self, worker: usize) -> Option<Verdict> {
        while let Ok(verdict) = self.workers[worker].verdicts.pop() {
            self.heard[worker].push_back(verdict);
        }
        self.heard[worker].pop_front()
    }

    pub async fn status(&self) -> Status {
        self.handle.status().await.expect("it runs")
    }

    /// Until the status is as wanted.
    pub async fn until_status(&self, mut holds: impl FnMut(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn place(n: u32) -> Place {
    Place::V4(SessionIdx(n))
}

pub fn key(worker: usize, n: u32) -> (WorkerId, Place) {
    (WorkerId(worker as u8), place(n))
}

/// Until it is so.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "it takes too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
