//! A worker as the daemon runs it, between two in-memory ports.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dpdk::{Consumer, Eal, Mempool, MempoolConfig, Producer};
use fullnat::addr::Addr;
use fullnat::counters::Counters;
use fullnat::flow::FlowKey;
use fullnat::forward::{Forwarder, Setup};
use fullnat::id::{IfaceId, NexthopId, Proto, RPort, ServerId, ServiceId, VPort, WorkerId};
use fullnat::neighbor::Neighbors;
use fullnat::persistence::Persistence;
use fullnat::plan::{Interface, LocalPool, Plan, Server, ServerShared, Service};
use fullnat::ports::LportOwners;
use fullnat::route::Routes;
use fullnat::sched::SchedulerKind;
use fullnat::spread::Spread;
use fullnat::tcp::Timeouts;
use fullnat::time::Time;
use fullnat::wire::Mac;

use super::BenchError;
use super::frames::Template;
use super::traffic::{Hosts, MemoryPort, Script, Traffic};
use crate::assemble::{self, HANDOVER_RING};
use crate::worker::{Inbox, Outbox, Query, Transmit, Worker};

/// Real servers of the service.
pub const SERVERS: u16 = 10;
/// Sessions for each local address: two thirds of what its ports carry towards all real servers.
pub const SESSIONS_PER_LIP: u32 = 400_000;
/// The service's port.
pub const VPORT: u16 = 80;
/// The real servers' port.
pub const RPORT: u16 = 8080;
const HASH_KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
/// The balancer's MAC addresses, by interface, and so where frames of a side go to.
pub const OUR_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
/// The routers' MAC addresses, by interface.
pub const PEER_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 1, 2])];

/// A family as the benchmark uses it: the hosts' addresses.
pub trait BenchAddr: Addr {
    /// Host `n` of network `net`; network 0 is the clients', 1 the real servers', 2 the local addresses', 3 the VIP's, 4
    /// nobody's.
    fn host(net: u8, n: u32) -> Self;
    /// The prefix length of a network.
    const PREFIX: u8;
}

impl BenchAddr for Ipv4Addr {
    const PREFIX: u8 = 8;

    fn host(net: u8, n: u32) -> Self {
        Ipv4Addr::from_bits(u32::from(20 + net) << 24 | (n + 1))
    }
}

impl BenchAddr for Ipv6Addr {
    const PREFIX: u8 = 64;

    fn host(net: u8, n: u32) -> Self {
        Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(net) << 64 | u128::from(n + 1))
    }
}

/// What one worker does, shared with its ports, which run in the same thread.
pub type SharedTraffic<A> = Rc<RefCell<Traffic<A>>>;

/// A worker between in-memory ports.
pub type BenchWorker<A> = Worker<MemoryPort<A>, MemoryPort<A>>;

/// What a benchmark wants of the balancer.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Protocol of the service.
    pub proto: Proto,
    /// Workers.
    pub workers: u8,
    /// Sessions there are at a time, over all workers.
    pub sessions: u32,
    /// Local ports that may be in quarantine besides.
    pub resting: u32,
    /// Milliseconds a released local port rests.
    pub quarantine_ms: u64,
    /// Timeouts of the service.
    pub timeouts: Timeouts,
}

impl Wish {
    /// So many sessions over so many workers, none of which ends by itself.
    pub fn lasting(proto: Proto, workers: u8, sessions: u32) -> Self {
        let timeouts = Timeouts { udp: 3_600_000, syn_sent: 600_000, established: 3_600_000, ..Timeouts::default() };
        Wish { proto, workers, sessions, resting: 0, quarantine_ms: 60_000, timeouts }
    }
}

/// What all workers of a run share.
pub struct Shared {
    plan: Arc<Plan>,
    neighbors: Arc<Neighbors>,
    mempool: Mempool,
    /// By worker, until it is made.
    rings: Mutex<Vec<Option<WorkerRings>>>,
    wish: Wish,
}

/// To the other workers, by their numbers, and from them.
type WorkerRings = (Vec<Option<Producer>>, Vec<Consumer>);

impl Shared {
    /// A balancer as wished.
    pub fn new<A: BenchAddr>(eal: Eal, wish: Wish) -> Result<Self, BenchError> {
        let mempool = Mempool::new(&eal, "bench", mempool(wish.workers)).map_err(|e| BenchError(e.to_string()))?;
        Self::with_buffers::<A>(eal, wish, mempool)
    }

    /// The same with these buffers.
    pub fn with_buffers<A: BenchAddr>(eal: Eal, wish: Wish, mempool: Mempool) -> Result<Self, BenchError> {
        let error = |e: &dyn std::fmt::Display| BenchError(e.to_string());
        let plan = plan::<A>(&wish).map_err(|e| error(&e))?;
        let (neighbors, _) = routers::<A>()?;
        let (to, from) = assemble::rings(eal, wish.workers.into()).map_err(|e| error(&e))?;
        let rings = to.into_iter().zip(from).map(Some).collect();
        Ok(Shared { plan: Arc::new(plan), neighbors: Arc::new(neighbors), mempool, rings: Mutex::new(rings), wish })
    }

    /// Which worker owns which flow, as in the daemon where interfaces promise nothing.
    fn spread(&self) -> Spread {
        let owners = LportOwners::new(self.wish.workers);
        if self.wish.workers == 1 { Spread::Sticky(owners) } else { Spread::Software(owners) }
    }

    /// Numbers of clients whose connections to the service belong to a worker, as many as it is to have. Empty for the only
    /// worker, whose all are.
    pub fn clients<A: BenchAddr>(&self, number: u8) -> Vec<u32> {
        if self.wish.workers == 1 {
            return Vec::new();
        }
        let (hasher, spread) = (dpdk::flow_hash(HASH_KEY), self.spread());
        let is_mine = |&n: &u32| {
            let (src, sport) = client::<A>(n);
            let key = FlowKey { src, dst: A::host(3, 0), sport, dport: VPORT, proto: self.wish.proto };
            spread.inbound(WorkerId(number), IfaceId(0), &key, key.hash(&*hasher)) == WorkerId(number)
        };
        (0..).filter(is_mine).take(self.sessions_each() as usize).collect()
    }

    /// Local ports towards all real servers: so many sessions begin before one of them gets a port that was used before.
    pub fn leases(&self) -> u64 {
        let pool = &self.plan.pools[0];
        (pool.v4.len() + pool.v6.len()) as u64 * u64::from(SERVERS) * pool.ports.len() as u64
    }

    /// Sessions of each worker.
    pub fn sessions_each(&self) -> u32 {
        self.wish.sessions.div_ceil(self.wish.workers.into())
    }

    /// What the hosts around a worker do, to be made on the thread it runs on.
    pub fn traffic<A: BenchAddr>(&self, number: u8, script: Script) -> SharedTraffic<A> {
        let side =
            |i: usize| [0, 1].map(|payload| Template::new::<A>(script.proto, (PEER_MACS[i], OUR_MACS[i]), payload));
        Rc::new(RefCell::new(Traffic::new(
            self.mempool,
            script,
            (A::host(3, 0), VPORT),
            [side(0), side(1)],
            Hosts { client: client::<A>, clients: self.clients::<A>(number), spoof: |n| A::host(4, n) },
        )))
    }

    /// Worker `number` with room for so many sessions, to be made on the thread it runs on.
    pub fn worker<A: BenchAddr>(&self, number: u8, traffic: &SharedTraffic<A>, capacity: usize) -> BenchWorker<A> {
        let [receive, send] = [(); 2].map(|()| ports(traffic).into());
        self.worker_between::<A, _, _>(number, receive, send, capacity)
    }

    /// The same, for sessions of this family, between these queues.
    pub fn worker_between<A: BenchAddr, R, T: Transmit>(
        &self,
        number: u8,
        receive: Vec<R>,
        send: Vec<T>,
        capacity: usize,
    ) -> Worker<R, T> {
        let counters = Arc::new(Counters::new(16, 64));
        let taken = self.rings.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(number)].take();
        let (to, from) = taken.unwrap_or_default();
        let per_family = |v6| if A::IS_V6 == v6 { capacity } else { 0 };
        let forwarder = Forwarder::new(Setup {
            worker: WorkerId(number),
            spread: self.spread(),
            sessions_v4: per_family(false),
            sessions_v6: per_family(true),
            hash: dpdk::flow_hash(HASH_KEY),
            seed: u64::from(number) + 1,
            icmp_per_second: 0,
            resets_per_second: 0,
            pending_per_nexthop: 8,
            neighbors: Arc::clone(&self.neighbors),
            persistence: Arc::new(Persistence::new(8, [3, 4])),
            counters: Arc::clone(&counters),
            plan: Arc::clone(&self.plan),
            offload: None,
            now: Time(0),
        });
        Worker {
            forwarder,
            receive,
            switch: None,
            outbox: Outbox::new(send, to, self.mempool, Arc::clone(&counters)),
            inbox: Inbox::new(from),
            iface_of_port: vec![IfaceId(0), IfaceId(1)],
            verdicts: None,
            control: None,
            query: Query::default(),
            counters,
            origin: Instant::now(),
        }
    }
}

/// Buffers for so many workers: what their ports and outboxes hold, and full rings.
pub fn mempool(workers: u8) -> MempoolConfig {
    let workers = u32::from(workers);
    let rings = workers * (workers - 1) * HANDOVER_RING;
    MempoolConfig { mbufs: workers * 4096 + rings - 1, ..MempoolConfig::default() }
}

/// The two ends of the hosts.
pub fn ports<A>(traffic: &SharedTraffic<A>) -> [MemoryPort<A>; 2] {
    [0, 1].map(|side| MemoryPort { traffic: Rc::clone(traffic), side })
}

/// Client address and port of a session: 16 sessions from each client.
pub fn client<A: BenchAddr>(session: u32) -> (A, u16) {
    (A::host(0, session >> 4), 10_000 + (session & 15) as u16 * 3_001)
}

/// The next hops there are: the routers, by interface.
pub fn routers<A: BenchAddr>() -> Result<(Neighbors, [NexthopId; 2]), BenchError> {
    let neighbors = Neighbors::new(64, [1, 2]);
    let mut ids = [NexthopId::default(); 2];
    for (i, mac) in PEER_MACS.into_iter().enumerate() {
        let acquired = neighbors.acquire_static(IfaceId(i as u8), A::host(10 + i as u8, 1).into(), mac);
        ids[i] = acquired.map_err(|e| BenchError(e.to_string()))?;
    }
    Ok((neighbors, ids))
}

/// One service with its real servers, clients on one interface and real servers on the other, each behind a router.
pub fn plan<A: BenchAddr>(wish: &Wish) -> Result<Plan, fullnat::route::RouteError> {
    let interface = |i: u8, name: &str| Interface {
        name: name.to_owned(),
        mac: OUR_MACS[usize::from(i)],
        mtu: 1500,
        addresses: vec![(A::host(10 + i, 0).into(), A::PREFIX)],
    };
    let mut routes = Routes::builder();
    for i in [0, 1] {
        routes.connected(IfaceId(i), A::host(10 + i, 0).into(), A::PREFIX);
        routes.via(network::<A>(i), A::PREFIX, A::host(10 + i, 1).into(), Some(IfaceId(i)));
    }
    // Where the flood seems to come from.
    routes.via(network::<A>(4), A::PREFIX, A::host(10, 1).into(), Some(IfaceId(0)));
    let lips = (0..(wish.sessions + wish.resting).div_ceil(SESSIONS_PER_LIP)).map(|n| A::host(2, n).into());
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for lip in lips {
        match lip {
            IpAddr::V4(lip) => v4.push(lip),
            IpAddr::V6(lip) => v6.push(lip),
        }
    }
    let service = Service {
        id: ServiceId(0),
        name: "bench".to_owned(),
        vip: A::host(3, 0).into(),
        vport: VPort(VPORT),
        proto: wish.proto,
        scheduler: SchedulerKind::RoundRobin,
        servers: (0..SERVERS).map(ServerId).collect(),
        pool: 0,
        toa: wish.proto == Proto::Tcp,
        persistence: None,
        timeouts: wish.timeouts,
    };
    let server = |n: u16| Server {
        id: ServerId(n),
        service: ServiceId(0),
        rip: A::host(1, n.into()).into(),
        rport: RPort(RPORT),
        weight: 1,
        max_connections: 0,
        shared: Arc::new(ServerShared::default()),
    };
    Ok(Plan::new(
        1,
        vec![interface(0, "clients"), interface(1, "servers")],
        routes.build()?,
        vec![LocalPool { name: "bench".to_owned(), v4, v6, ports: 1025..=65535 }],
        wish.quarantine_ms,
        vec![service],
        (0..SERVERS).map(server).collect(),
    ))
}

/// The network with this number.
fn network<A: BenchAddr>(net: u8) -> IpAddr {
    A::host(net, 0).masked(A::PREFIX).into()
}
