//! Two workers over queues of the test's own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use carom::control::{self, Link};
use carom::worker::{BURST, Inbox, Outbox, Ports, Query, Receive, Transmit, Worker};
use dpdk::{Burst, Eal, EalConfig, Memory, Mempool, MempoolConfig, Ring, RingMode};
use fullnat::counters::Counters;
use fullnat::flow::FlowKey;
use fullnat::forward::{Forwarder, Setup};
use fullnat::frame::Frame;
use fullnat::id::{IfaceId, Proto, WorkerId};
use fullnat::neighbor::Neighbors;
use fullnat::offload::{Gate, Request, Verdict};
use fullnat::persistence::Persistence;
use fullnat::plan::{Plan, Server, ServerShared, testing};
use fullnat::ports::LportOwners;
use fullnat::spread::Spread;
use fullnat::time::Time;
use fullnat::wire::Mac;
use fullnat::wire::testing::Build;

pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 80);
pub const LIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
pub const RIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 9]);
pub const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A receive or transmit queue: frames, and how many it takes.
#[derive(Default)]
pub struct Wire {
    pub frames: VecDeque<Vec<u8>>,
    pub room: usize,
}

/// An end of a [`Wire`] in a worker.
pub struct End {
    wire: Rc<RefCell<Wire>>,
    mempool: Mempool,
}

impl Receive for End {
    fn receive(&mut self, burst: &mut Burst<BURST>) -> usize {
        let mut wire = self.wire.borrow_mut();
        let mut received = 0;
        while !burst.is_full()
            && let Some(bytes) = wire.frames.pop_front()
        {
            let frame = self.mempool.alloc_with(&bytes).expect("the pool is large enough");
            assert!(burst.push(frame).is_ok());
            received += 1;
        }
        received
    }
}

impl Transmit for End {
    fn send(&mut self, burst: &mut Burst<BURST>) -> usize {
        let mut wire = self.wire.borrow_mut();
        let count = burst.len().min(wire.room);
        wire.room -= count;
        let mut kept = Burst::new();
        for (i, frame) in burst.drain().enumerate() {
            if i < count {
                wire.frames.push_back(frame.bytes().to_vec());
            } else {
                assert!(kept.push(frame).is_ok());
            }
        }
        *burst = kept;
        count
    }
}

/// Requests or verdicts that wait.
pub const MANAGER_RING: usize = 64;

/// The offload manager's ends of a worker's rings.
pub struct Manager {
    pub asked: rtrb::Consumer<Request>,
    pub told: rtrb::Producer<Verdict>,
}

/// Workers of one balancer, with a queue each way that each of them has, and what the test holds of them.
pub struct Rig {
    pub workers: Vec<Worker<End, End>>,
    /// By worker.
    pub rx: Vec<Rc<RefCell<Wire>>>,
    pub tx: Vec<Rc<RefCell<Wire>>>,
    pub links: Vec<Link>,
    pub managers: Vec<Manager>,
    pub mempool: Mempool,
    pub shared: Arc<ServerShared>,
}

pub fn eal() -> Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    let config = EalConfig { memory: Memory::NoHuge { mb: 256 }, ..EalConfig::default() };
    *EAL.get_or_init(|| Eal::init(config).expect("ordinary memory is always there"))
}

/// A plan with one UDP service and one real server, everything on one link.
pub fn plan(generation: u64, shared: &Arc<ServerShared>, quarantine_ms: u64) -> Arc<Plan> {
    let lan = testing::interface(OURS, Ipv4Addr::new(10, 0, 0, 2), 8);
    let service = testing::service(0, VIP, 53, Proto::Udp, &[0]);
    let server = Server { shared: Arc::clone(shared), ..testing::server(0, 0, RIP, 5353) };
    let mut plan = testing::plan(vec![lan], &[LIP], vec![service], vec![server]);
    (plan.generation, plan.quarantine_ms) = (generation, quarantine_ms);
    Arc::new(plan)
}

/// What the workers of a rig are made of.
pub struct Made {
    pub workers: u8,
    /// Of each family.
    pub sessions: usize,
    pub plan: Arc<Plan>,
    pub shared: Arc<ServerShared>,
    /// Hosts whose MAC address is known.
    pub hosts: Vec<(IfaceId, IpAddr, Mac)>,
    /// Ports of a switch that the interfaces are.
    pub switch: Option<Ports>,
    /// Whether there is an offload manager, and from when on it wants sessions.
    pub gate: Option<Arc<Gate>>,
}

impl Rig {
    pub fn new(workers: u8, sessions: usize) -> Self {
        let shared = Arc::new(ServerShared::default());
        let plan = plan(1, &shared, 0);
        let hosts = hosts().map(|host| (IfaceId(0), host.into(), ROUTER)).collect();
        Rig::made(Made { workers, sessions, plan, shared, hosts, switch: None, gate: None })
    }

    pub fn made(Made { workers, sessions, plan, shared, hosts, switch, gate }: Made) -> Self {
        static RIGS: AtomicU32 = AtomicU32::new(0);
        let (eal, number) = (eal(), RIGS.fetch_add(1, Ordering::Relaxed));
        let config = MempoolConfig { mbufs: 2047, cache: 0, ..MempoolConfig::default() };
        let mempool = Mempool::new(&eal, &format!("rig{number}"), config).expect("a small pool");
        let neighbors = Arc::new(Neighbors::new(1000, [1, 2]));
        let persistence = Arc::new(Persistence::new(8, [3, 4]));
        for (iface, host, mac) in hosts {
            neighbors.acquire_static(iface, host, mac).expect("room for all");
        }
        let mut rig = Rig { workers: vec![], rx: vec![], tx: vec![], links: vec![], managers: vec![], mempool, shared };
        let mut rings: Vec<_> = (0..workers).map(|_| (Vec::new(), Vec::new())).collect();
        for from in 0..workers {
            for to in 0..workers {
                let ring = (from != to).then(|| {
                    let name = format!("rig{number}-{from}-{to}");
                    Ring::create(&eal, &name, 64, RingMode::Spsc).expect("a small ring")
                });
                let (producer, consumer) = ring.map_or((None, None), |(p, c)| (Some(p), Some(c)));
                rings[usize::from(from)].0.push(producer);
                rings[usize::from(to)].1.extend(consumer);
            }
        }
        for (number, (producers, consumers)) in rings.into_iter().enumerate() {
            let counters = Arc::new(Counters::new(4, 4));
            let wire = || Rc::new(RefCell::new(Wire { frames: VecDeque::new(), room: usize::MAX }));
            let (rx, tx) = (wire(), wire());
            let end = |wire: &Rc<RefCell<Wire>>| End { wire: Rc::clone(wire), mempool };
            let (link, ends) = control::link();
            let (requests, asked) = rtrb::RingBuffer::new(MANAGER_RING);
            let (told, verdicts) = rtrb::RingBuffer::new(MANAGER_RING);
            let outbox = Outbox::new(vec![end(&tx)], producers, mempool, Arc::clone(&counters)).behind(switch.clone());
            let forwarder = Forwarder::new(Setup {
                worker: WorkerId(number as u8),
                spread: Spread::Software(LportOwners::new(workers)),
                sessions_v4: sessions,
                sessions_v6: 16,
                hash: Arc::new(fullnat::hash::FlowHasher::new(5, 6)),
                seed: 7,
                icmp_per_second: 100,
                resets_per_second: 100,
                pending_per_nexthop: 4,
                neighbors: Arc::clone(&neighbors),
                persistence: Arc::clone(&persistence),
                counters: Arc::clone(&counters),
                plan: Arc::clone(&plan),
                offload: gate.clone(),
                now: Time(0),
            });
            rig.workers.push(Worker {
                forwarder,
                receive: vec![end(&rx)],
                switch: switch.clone(),
                outbox: outbox.offloading(gate.is_some().then_some(requests)),
                inbox: Inbox::new(consumers),
                iface_of_port: (0..plan.interfaces.len()).map(|i| IfaceId(i as u8)).collect(),
                verdicts: gate.is_some().then_some(verdicts),
                control: Some(ends),
                query: Query::default(),
                counters,
                origin: Instant::now(),
            });
            rig.rx.push(rx);
            rig.tx.push(tx);
            rig.links.push(link);
            rig.managers.push(Manager { asked, told });
        }
        rig.settle();
        rig
    }

    /// Past the announcements of our addresses, some of which leave in each millisecond as long as there are any.
    fn settle(&mut self) {
        loop {
            std::thread::sleep(Duration::from_millis(2));
            self.poll();
            if self.sent().iter().all(Vec::is_empty) {
                break;
            }
        }
    }

    /// A round of every worker.
    pub fn poll(&mut self) {
        for worker in &mut self.workers {
            worker.poll();
        }
    }

    /// All that was sent, by worker.
    pub fn sent(&mut self) -> Vec<Vec<Vec<u8>>> {
        self.tx.iter().map(|tx| tx.borrow_mut().frames.drain(..).collect()).collect()
    }

    pub fn total(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|worker| counter(&worker.counters)).sum()
    }
}

/// Every host that the tests use: clients and the real server.
fn hosts() -> impl Iterator<Item = Ipv4Addr> {
    (0..64).map(client).chain([RIP])
}

pub fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, n)
}

/// A client's datagram.
pub fn request(n: u8, cport: u16) -> Vec<u8> {
    let key = FlowKey { src: client(n), dst: VIP, sport: cport, dport: 53, proto: Proto::Udp };
    Build::new(key).macs(OURS, ROUTER).payload(b"question").bytes()
}

/// The real server's answer to a request as it arrived there.
pub fn answer(request: &[u8]) -> Vec<u8> {
    let key = key_of(request).reversed();
    Build::new(key).macs(OURS, ROUTER).payload(b"answer").bytes()
}

pub fn key_of(frame: &[u8]) -> FlowKey<Ipv4Addr> {
    match fullnat::wire::parse(frame) {
        Ok(fullnat::wire::Packet::V4(flow)) => flow.key,
        other => panic!("{other:?} is no datagram"),
    }
}
