//! A balancer made of a plan and counters, behind a real admin socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carom::api::client::Client;
use carom::api::{self, AdminSocket, ForwardedOf, Source, TargetState};
use carom::control::{PortRecord, SessionFilter, SessionRecord};
use carom::daemon::{
    InterfaceStats, LinkRecord, NeighborRecord, ReloadError, SessionPage, SessionsError, Settled, WorkerSilent,
};
use carom::offload::stats::{Latency, SessionCounts, TableStatus, Totals};
use carom::offload::{Forwarded, Status};
use fullnat::counters::{Counters, Offload, Traffic};
use fullnat::forward::{PortView, SessionView};
use fullnat::id::{Proto, ServerId, ServiceId, WorkerId};
use fullnat::offload::{self, Counted, Place};
use fullnat::plan::{Interface, LocalPool, PersistenceRule, Plan, Server, Service, testing};
use fullnat::reason::DropReason;
use fullnat::route::Routes;
use fullnat::sched::SchedulerKind;
use fullnat::table::SessionIdx;
use fullnat::tcp::State;
use fullnat::wire::Mac;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A balancer made by hand.
#[derive(Debug)]
pub struct Fake {
    settled: Settled,
    plan: Mutex<Arc<Plan>>,
    pub counters: Vec<Arc<Counters>>,
    pub sessions: Vec<SessionRecord>,
    ports: Vec<PortRecord>,
    /// What the clock says, and how far it goes at each look.
    uptime_ms: AtomicU64,
    pub step_ms: AtomicU64,
    /// What the next reload says.
    pub reload: Mutex<Result<(), String>>,
    /// Whether workers answer.
    pub silent: Mutex<bool>,
    pub target: Mutex<TargetState>,
    /// What passed a switch in the process.
    pub traffic: Mutex<Option<carom::softnic::Traffic>>,
}

impl Source for Fake {
    fn settled(&self) -> &Settled {
        &self.settled
    }

    /// Each look finds the clock a step further, and a hundred packets of the first service.
    fn uptime(&self) -> Duration {
        let step = self.step_ms.load(Ordering::Relaxed);
        if step > 0 {
            self.counters[0].service(ServiceId(0)).packets_in.add(100);
            self.counters[1].busy_polls.add(30);
            self.counters[1].idle_polls.add(10);
        }
        Duration::from_millis(self.uptime_ms.fetch_add(step, Ordering::Relaxed) + step)
    }

    fn plan(&self) -> Arc<Plan> {
        self.plan.lock().unwrap().clone()
    }

    fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    fn buffers(&self) -> (u64, u64) {
        (8000, 191)
    }

    fn interface_stats(&self) -> Vec<InterfaceStats> {
        let wan = InterfaceStats {
            link_up: true,
            rx_packets: 1_234_567,
            rx_bytes: 987_654_321,
            rx_missed: 3,
            rx_errors: 1,
            rx_no_buffer: 2,
            tx_packets: 1_234_000,
            tx_bytes: 987_000_000,
            tx_errors: 4,
        };
        vec![wan, InterfaceStats::default()]
    }

    fn link(&self) -> Option<LinkRecord> {
        let link = LinkRecord {
            mac: Mac([2, 0, 0, 0, 0, 0x40]),
            mtu: 9000,
            stats: InterfaceStats { link_up: true, rx_packets: 70, rx_bytes: 7000, ..InterfaceStats::default() },
        };
        self.target.lock().unwrap().is_some().then_some(link)
    }

    fn neighbors(&self) -> Vec<NeighborRecord> {
        let neighbor = |address: &str, mac, state| NeighborRecord {
            address: address.parse().unwrap(),
            interface: "wan".to_owned(),
            mac,
            state,
        };
        vec![
            neighbor("10.10.0.1", Some(Mac([2, 0, 0, 0, 0, 0xab])), "reachable"),
            neighbor("fd10::1", None, "incomplete"),
        ]
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<SessionPage, SessionsError> {
        self.answers()?;
        let from = match cursor {
            None => 0,
            Some(text) => text.parse().map_err(|_| SessionsError::BadCursor(text.to_owned()))?,
        };
        let passing: Vec<_> = self.sessions.iter().filter(|s| passes(&filter, s)).copied().collect();
        let next = (from + limit < passing.len()).then(|| (from + limit).to_string());
        Ok(SessionPage { sessions: passing.into_iter().skip(from).take(limit).collect(), next })
    }

    async fn ports(&self) -> Result<Vec<PortRecord>, WorkerSilent> {
        self.answers()?;
        Ok(self.ports.clone())
    }

    async fn softnic(&self) -> Option<carom::softnic::Traffic> {
        self.traffic.lock().unwrap().clone()
    }

    /// Each look finds ten more installs where time passes.
    async fn target(&self) -> TargetState {
        let mut target = self.target.lock().unwrap();
        if let Some(Ok(status)) = target.as_mut()
            && self.step_ms.load(Ordering::Relaxed) > 0
        {
            status.totals.installed += 10;
            *status.punts.get_mut("miss").unwrap() += 7;
        }
        target.clone()
    }

    /// The first session of either family was offloaded for some time, each with numbers of its own.
    async fn forwarded(&self, sessions: Vec<(WorkerId, Place)>) -> ForwardedOf {
        let counted = |packets: [u64; 2], bytes| Counted { packets, bytes: packets.map(|n| n * bytes) };
        let counters = |place| match place {
            Place::V4(SessionIdx(0)) => Some((counted([1_500, 2_500], 60), counted([1_000, 2_000], 60))),
            Place::V6(SessionIdx(0)) => Some((counted([30_000, 40_000], 80), counted([30_000, 40_000], 80))),
            _ => None,
        };
        let known = sessions.into_iter().filter_map(|(worker, place)| {
            let (total, untold) = counters(place)?;
            Some(((worker, place), Forwarded { total, untold }))
        });
        known.collect()
    }

    async fn reload(&self) -> Result<(), ReloadError> {
        self.reload.lock().unwrap().clone().map_err(ReloadError)?;
        *self.plan.lock().unwrap() = Arc::new(plan(2));
        Ok(())
    }
}

fn passes(filter: &SessionFilter, s: &SessionRecord) -> bool {
    let s = &s.view;
    let client = filter.client.is_none_or(|(prefix, len)| match (prefix, s.client.ip()) {
        (IpAddr::V4(p), IpAddr::V4(a)) => len == 0 || (p.to_bits() ^ a.to_bits()) >> (32 - u32::from(len)) == 0,
        (IpAddr::V6(p), IpAddr::V6(a)) => len == 0 || (p.to_bits() ^ a.to_bits()) >> (128 - u32::from(len)) == 0,
        _ => false,
    });
    client
        && filter.service.is_none_or(|id| id == s.service)
        && filter.servers.as_ref().is_none_or(|ids| ids.contains(&s.server_id))
        && filter.state.as_ref().is_none_or(|state| state == s.state.name())
        && filter.offload.is_none_or(|state| state == s.offload)
}

impl Fake {
    /// Two workers, two services on one VIP and port, three real servers, and traffic.
    pub fn new() -> Self {
        let counters: Vec<_> = (0..2).map(|_| Arc::new(Counters::new(4, 8))).collect();
        fill(&counters);
        Fake {
            settled: Settled {
                config_path: "/etc/carom/carom.toml".into(),
                hugepages: true,
                memory_bytes: 512 << 20,
                tables_hugepages: true,
                tables_bytes: 96 << 20,
                session_capacity: 1_000_000,
            },
            plan: Mutex::new(Arc::new(plan(1))),
            counters,
            sessions: sessions(),
            ports: ports(),
            uptime_ms: AtomicU64::new(273_906_000),
            step_ms: AtomicU64::new(0),
            reload: Mutex::new(Ok(())),
            silent: Mutex::new(false),
            target: Mutex::new(None),
            traffic: Mutex::new(None),
        }
    }

    /// The same with an offload target.
    pub fn offloading() -> Self {
        Fake { target: Mutex::new(Some(Ok(target()))), ..Self::new() }
    }

    /// Changes how the target stands.
    pub fn offload(&self, change: impl FnOnce(&mut Status)) {
        change(self.target.lock().unwrap().as_mut().unwrap().as_mut().unwrap());
    }

    fn answers(&self) -> Result<(), WorkerSilent> {
        if *self.silent.lock().unwrap() { Err(WorkerSilent { worker: 1, ms: 500 }) } else { Ok(()) }
    }
}

/// Packets, bytes and sessions that differ everywhere, so that no two counters can be taken for each other.
fn fill(counters: &[Arc<Counters>]) {
    let traffic = |t: &Traffic, scale: u64| {
        t.packets_in.set(11 * scale);
        t.packets_out.set(13 * scale);
        t.bytes_in.set(1_700 * scale);
        t.bytes_out.set(190_000 * scale);
        t.sessions.set(2 * scale);
        t.refused.set(scale / 10);
        t.evicted.set(scale / 100);
    };
    for (w, c) in (1..).zip(counters) {
        c.rx_packets.set(1_000_000 * w);
        c.rx_bytes.set(100_000_000 * w);
        c.tx_packets.set(900_000 * w);
        c.tx_bytes.set(90_000_000 * w);
        c.handed_over.set(40 * w);
        c.taken_over.set(50 * w);
        c.busy_polls.set(600 * w);
        c.idle_polls.set(400);
        c.sessions_v4.set(70 * w);
        c.sessions_v6.set(8 * w);
        c.half_open.set(3 * w);
        c.half_open_evicted.set(9 * w);
        c.handshakes.set(1_800 * w);
        c.sessions_created.set(2_000 * w);
        c.sessions_ended.set(1_900 * w);
        fill_offload(&c.offload, w);
        c.count_punt(1);
        c.count_drop(DropReason::NoService);
        for _ in 0..w * 20 {
            c.count_drop(DropReason::TxFull);
        }
        for service in 0..2 {
            traffic(c.service(ServiceId(service)), 1_000 * w + u64::from(service));
        }
        for server in 0..3 {
            traffic(c.server(ServerId(server)), 300 * w + u64::from(server));
        }
    }
}

fn fill_offload(o: &Offload, w: u64) {
    let all = [
        &o.sessions,
        &o.asked,
        &o.installed,
        &o.refused,
        &o.removed,
        &o.full,
        &o.ignored,
        &o.packets_in,
        &o.packets_out,
        &o.bytes_in,
        &o.bytes_out,
        &o.adopted,
    ];
    for (n, counter) in (1..).zip(all) {
        counter.set(n * 100 * w);
    }
}

fn plan(generation: u64) -> Plan {
    let service = |id: u16, name: &str, proto, scheduler, servers: &[u16]| Service {
        name: name.to_owned(),
        scheduler,
        toa: id == 0,
        persistence: (id == 1).then_some(PersistenceRule { timeout_ms: 360_000, prefix_v4: 24, prefix_v6: 64 }),
        ..testing::service(id, Ipv4Addr::new(10, 10, 0, 100), 443, proto, servers)
    };
    let server = |id: u16, service, rip: &str, weight, max_connections| {
        let server = testing::server(id, service, rip.parse::<IpAddr>().unwrap(), 8443);
        for _ in 0..10 * (id + 1) {
            server.shared.begin(0);
        }
        Server { weight, max_connections, ..server }
    };
    let interface = |name: &str, last, addresses: &[(&str, u8)]| Interface {
        name: name.to_owned(),
        mac: Mac([2, 0, 0, 0, 0, last]),
        mtu: 1500,
        addresses: addresses.iter().map(|&(a, len)| (a.parse().unwrap(), len)).collect(),
    };
    Plan::new(
        generation,
        vec![interface("wan", 1, &[("10.10.0.2", 24), ("fd10::2", 64)]), interface("lan", 2, &[])],
        Routes::default(),
        vec![LocalPool {
            name: "snat".to_owned(),
            v4: vec!["10.20.0.200".parse().unwrap()],
            v6: Vec::new(),
            ports: 1025..=65535,
        }],
        60_000,
        vec![
            service(0, "web", Proto::Tcp, SchedulerKind::WeightedRoundRobin, &[0, 1]),
            service(1, "quic", Proto::Udp, SchedulerKind::SourceHash { with_port: false }, &[2]),
        ],
        vec![server(0, 0, "10.20.1.10", 3, 0), server(1, 0, "10.20.2.10", 0, 5_000), server(2, 1, "10.20.1.10", 1, 0)],
    )
}

/// A target in the middle of its work. No two numbers are the same.
pub fn target() -> Status {
    let table = |name: &str, size, entries| TableStatus { name: name.to_owned(), size, entries };
    let counts = |counts: &[(&str, u64)]| counts.iter().map(|&(name, n)| (name.to_owned(), n)).collect();
    Status {
        address: "127.0.0.1:9559".to_owned(),
        kind: "bmv2".to_owned(),
        program: "plain".to_owned(),
        device_id: 1,
        role: String::new(),
        election_id: 3,
        connected: true,
        standing: "primary".to_owned(),
        cookie: "0123456789abcdef".to_owned(),
        pipeline: Some("kept".to_owned()),
        ready: true,
        threshold: "100 packets".to_owned(),
        tables: vec![table("flow_v4", 131_072, 9_006), table("flow_v6", 65_536, 14), table("nexthop", 4_096, 5)],
        sessions: SessionCounts { waiting: 2, installing: 12, offloaded: 4_510, undoing: 1, removing: 7 },
        installs_per_second: 5_412.4,
        removes_per_second: 0.0,
        install_latency: Latency { count: 20_000, p50_us: 812, p99_us: 6_420, max_us: 1_250_000 },
        remove_latency: Latency::default(),
        totals: Totals {
            installed: 20_017,
            removed: 15_507,
            refused: 40,
            refused_full: 21,
            refused_nexthop: 13,
            refused_ids: 2,
            refused_hash: 3,
            refused_not_ready: 0,
            already_there: 8,
            unknown: 9,
            not_sent: 10,
            sweeps: 11,
            adopted: 14,
            orphans: 15,
            lost: 16,
            notices: 18,
            checks: 19,
            idle: 17,
            misplaced: 22,
        },
        failures: counts(&[("AlreadyExists", 8), ("ResourceExhausted", 42)]),
        last_error: Some("resource_exhausted: table flow_v4 is full".to_owned()),
        punts: counts(&[("miss", 123_456), ("tcp_control", 60_000), ("ttl", 0)]),
        drops: counts(&[("no_service", 23), ("no_nexthop", 24), ("truncated", 0)]),
    }
}

fn sessions() -> Vec<SessionRecord> {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let session = |client: &str, state, proto, server: u16, place, offload| SessionRecord {
        worker: WorkerId((server % 2) as u8),
        view: SessionView {
            proto,
            state,
            client: address(client),
            vip: address("10.10.0.100:443"),
            local: address("10.20.0.200:1025"),
            server: address(if server == 1 { "10.20.2.10:8443" } else { "10.20.1.10:8443" }),
            service: ServiceId(u16::from(proto == Proto::Udp)),
            server_id: ServerId(server),
            age_ms: 65_000,
            idle_ms: 1_250,
            expires_ms: 898_750,
            packets_in: 7,
            packets_out: 9,
            place,
            offload,
        },
    };
    let v4 = |n| Place::V4(SessionIdx(n));
    use offload::State::{Installing, None, Offloaded};
    vec![
        session("192.0.2.7:40000", State::Established, Proto::Tcp, 0, v4(0), Offloaded),
        session("192.0.2.8:40001", State::Established, Proto::Tcp, 1, v4(1), Installing),
        session("198.51.100.1:53", State::Udp, Proto::Udp, 2, v4(2), None),
        session("192.0.2.7:40002", State::SynSent, Proto::Tcp, 0, v4(3), None),
        session("[2001:db8::7]:40003", State::Established, Proto::Tcp, 1, Place::V6(SessionIdx(0)), Offloaded),
    ]
}

fn ports() -> Vec<PortRecord> {
    let record = |worker, server: &str, in_use, quarantined, exhausted| PortRecord {
        worker: WorkerId(worker),
        view: PortView {
            proto: Proto::Tcp,
            local: "10.20.0.200".parse().unwrap(),
            server: server.parse().unwrap(),
            total: 32_256,
            in_use,
            quarantined,
            exhausted,
        },
    };
    vec![
        record(0, "10.20.1.10:8443", 1_000, 20, 0),
        record(1, "10.20.1.10:8443", 1_200, 30, 5),
        record(1, "10.20.2.10:8443", 4, 0, 0),
    ]
}

/// The fake behind an admin socket, until dropped.
pub struct Served {
    pub fake: Arc<Fake>,
    pub socket: PathBuf,
    pub client: Client,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _directory: TempDir,
}

impl Served {
    pub fn new() -> Self {
        Self::with(Fake::new())
    }

    pub fn with(fake: Fake) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let fake = Arc::new(fake);
        let admin = AdminSocket::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let source = fake.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async { drop(stopped.await) };
            runtime.block_on(api::serve_admin(source, admin, shutdown)).unwrap();
        });
        let client = Client::new(&path);
        Served { fake, socket: path, client, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// Stops it and waits until it has.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}
