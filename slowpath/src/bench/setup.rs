//! A worker as the daemon runs it, between two in-memory ports.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use dpdk::{Eal, Mempool, MempoolConfig};
use fullnat::addr::Addr;
use fullnat::counters::Counters;
use fullnat::forward::{Forwarder, Setup};
use fullnat::id::{IfaceId, Proto, RPort, ServerId, ServiceId, VPort, WorkerId};
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
use super::traffic::{MemoryPort, Traffic};
use crate::worker::{Outbox, Query, Worker};

/// Real servers of the service.
pub const SERVERS: u16 = 10;
/// Sessions for each local address: two thirds of what its ports carry towards all real servers.
const SESSIONS_PER_LIP: u32 = 400_000;
/// The service's port.
pub const VPORT: u16 = 80;
/// The real servers' port.
pub const RPORT: u16 = 8080;
const OUR_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
/// The routers' MAC addresses, by interface.
pub const PEER_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 1, 2])];

/// A family as the benchmark uses it: the hosts' addresses.
pub trait BenchAddr: Addr {
    /// Host `n` of network `net`; network 0 is the clients', 1 the real servers', 2 the local addresses', 3 the VIP's.
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

/// What all workers of a run share.
pub struct Shared {
    eal: Eal,
    plan: Arc<Plan>,
    neighbors: Arc<Neighbors>,
    workers: u8,
    sessions: u32,
    proto: Proto,
}

impl Shared {
    /// A balancer for so many sessions over so many workers.
    pub fn new<A: BenchAddr>(eal: Eal, sessions: u32, proto: Proto, workers: u8) -> Result<Self, BenchError> {
        let error = |e: &dyn std::fmt::Display| BenchError(e.to_string());
        let plan = plan::<A>(sessions, proto).map_err(|e| error(&e))?;
        let neighbors = Arc::new(Neighbors::new(64, [1, 2]));
        for (i, mac) in PEER_MACS.into_iter().enumerate() {
            let router = A::host(10 + i as u8, 1).into();
            neighbors.acquire_static(IfaceId(i as u8), router, mac).map_err(|e| error(&e))?;
        }
        Ok(Shared { eal, plan: Arc::new(plan), neighbors, workers, sessions: sessions.div_ceil(workers.into()), proto })
    }

    /// Worker `number`, to be made on the thread it runs on, and its traffic. With `data` its sessions exchange data.
    pub fn worker<A: BenchAddr>(
        &self,
        number: u8,
        data: bool,
    ) -> Result<(BenchWorker<A>, SharedTraffic<A>), BenchError> {
        let error = |e: &dyn std::fmt::Display| BenchError(e.to_string());
        let pool = MempoolConfig { mbufs: 4095, ..MempoolConfig::default() };
        let mempool = Mempool::new(&self.eal, &format!("bench-{number}"), pool).map_err(|e| error(&e))?;
        let side =
            |i: usize| [0, 1].map(|payload| Template::new::<A>(self.proto, (PEER_MACS[i], OUR_MACS[i]), payload));
        let traffic = Rc::new(RefCell::new(Traffic::new(
            mempool,
            self.proto,
            (A::host(3, 0), VPORT),
            [side(0), side(1)],
            client::<A>,
            u32::from(number) * self.sessions,
            self.sessions,
            data,
        )));
        let port = |side| MemoryPort { traffic: Rc::clone(&traffic), side };
        let counters = Arc::new(Counters::new(16, 64));
        let per_family = |v6| if A::IS_V6 == v6 { self.sessions as usize } else { 0 };
        let forwarder = Forwarder::new(Setup {
            worker: WorkerId(number),
            spread: Spread::Sticky(LportOwners::new(self.workers)),
            sessions_v4: per_family(false),
            sessions_v6: per_family(true),
            hash_key: (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908),
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
        let worker = Worker {
            forwarder,
            receive: vec![port(0), port(1)],
            switch: None,
            outbox: Outbox::new(vec![port(0), port(1)], Vec::new(), mempool, Arc::clone(&counters)),
            handed: Vec::new(),
            iface_of_port: Vec::new(),
            verdicts: None,
            control: None,
            query: Query::default(),
            counters,
            origin: Instant::now(),
        };
        Ok((worker, traffic))
    }
}

/// Client address and port of a session: 16 sessions from each client.
pub fn client<A: BenchAddr>(session: u32) -> (A, u16) {
    (A::host(0, session >> 4), 10_000 + (session & 15) as u16 * 3_001)
}

/// One service with its real servers, clients on one interface and real servers on the other, each behind a router.
pub fn plan<A: BenchAddr>(sessions: u32, proto: Proto) -> Result<Plan, fullnat::route::RouteError> {
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
    let lips = (0..sessions.div_ceil(SESSIONS_PER_LIP)).map(|n| A::host(2, n).into());
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
        proto,
        scheduler: SchedulerKind::RoundRobin,
        servers: (0..SERVERS).map(ServerId).collect(),
        pool: 0,
        toa: proto == Proto::Tcp,
        persistence: None,
        timeouts: Timeouts { udp: 3_600_000, syn_sent: 600_000, established: 3_600_000, ..Timeouts::default() },
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
        60_000,
        vec![service],
        (0..SERVERS).map(server).collect(),
    ))
}

/// The network with this number.
fn network<A: BenchAddr>(net: u8) -> IpAddr {
    A::host(net, 0).masked(A::PREFIX).into()
}
