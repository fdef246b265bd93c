//! The first two invariants: every packet of a session takes the same way, whatever happens around it, and no two sessions
//! share a translated tuple. Connections of all kinds, reloads and pauses in any order; each packet lands on any worker.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fullnat::forward::SessionView;
use fullnat::id::Proto;
use fullnat::sched::SchedulerKind;
use fullnat::tcp::{State, Timeouts};
use fullnat::time::Time;
use fullnat::wire::testing::Build;
use fullnat::wire::{Flow, TcpFlags};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sim::{Options, Sim, assert_right};
use crate::talk::{Talk, from_router, outer, segment, syn};
use crate::world::{FRONT, Net, Rs, World, our_mac, rport};

/// Each state's timeout here, milliseconds. Not longer than any default, which sessions of removed services have.
pub const TIMEOUT: u32 = 5_000;
const QUARANTINE: u64 = 20_000;
/// That for each state.
pub const TIMEOUTS: Timeouts = Timeouts {
    syn_sent: TIMEOUT,
    syn_recv: TIMEOUT,
    established: TIMEOUT,
    fin_wait: TIMEOUT,
    close_wait: TIMEOUT,
    last_ack: TIMEOUT,
    time_wait: TIMEOUT,
    close: TIMEOUT,
    udp: TIMEOUT,
};

/// What may happen. Indexes are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Open { udp: bool, v6: bool },
    Up { which: usize, flags: u8 },
    Down { which: usize, flags: u8 },
    Pause { ms: u64 },
    Servers { servers: Vec<(u16, bool)> },
    Pool { lips: Vec<u16>, first: u16 },
    Services { on: bool },
    Scheduler { kind: usize },
}

fn op() -> impl Strategy<Value = Op> {
    // ACK mostly; also FIN and RST, and a SYN now and then.
    let flags = || prop_oneof![6 => Just(0x10u8), 2 => Just(0x11), 1 => Just(0x14), 1 => Just(0x12)];
    prop_oneof![
        6 => (any::<bool>(), any::<bool>()).prop_map(|(udp, v6)| Op::Open { udp, v6 }),
        12 => (any::<usize>(), flags()).prop_map(|(which, flags)| Op::Up { which, flags }),
        12 => (any::<usize>(), flags()).prop_map(|(which, flags)| Op::Down { which, flags }),
        2 => (0u64..4_000).prop_map(|ms| Op::Pause { ms }),
        1 => vec((0u16..4, prop::bool::weighted(0.3)), 1..6).prop_map(|servers| Op::Servers { servers }),
        1 => (vec(0u16..4, 1..4), 2000u16..2024).prop_map(|(lips, first)| Op::Pool { lips, first }),
        1 => prop::bool::weighted(0.7).prop_map(|on| Op::Services { on }),
        1 => (0usize..5).prop_map(|kind| Op::Scheduler { kind }),
    ]
}

/// A connection of either family.
#[derive(Clone, Copy, Debug)]
enum Any {
    V4(Talk<Ipv4Addr>),
    V6(Talk<Ipv6Addr>),
}

type Tuple = (Proto, SocketAddr, SocketAddr);

/// What the tests know: the connections that live, with their last packets' times, and when tuples were used last.
struct Model {
    sim: Sim,
    live: Vec<(Any, Time)>,
    used: HashMap<Tuple, Time>,
    opened: u16,
    refused: u64,
    evicted: u64,
}

fn tuple<A: Net>(talk: &Talk<A>) -> Tuple {
    let (lip, rip): (IpAddr, IpAddr) = (talk.inner.src.into(), talk.inner.dst.into());
    (talk.inner.proto, SocketAddr::new(lip, talk.inner.sport), SocketAddr::new(rip, talk.inner.dport))
}

impl Model {
    fn new(workers: u8) -> Self {
        let world = World { timeouts: TIMEOUTS, quarantine_ms: QUARANTINE, ports: 2000..=2008, ..World::default() };
        let sim = Sim::quiet_with(world, Options::software(workers));
        Model { sim, live: Vec::new(), used: HashMap::new(), opened: 0, refused: 0, evicted: 0 }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Open { udp, v6 } => {
                let proto = if *udp { Proto::Udp } else { Proto::Tcp };
                let talk = match *v6 {
                    false => self.open::<Ipv4Addr>(proto).map(Any::V4),
                    true => self.open::<Ipv6Addr>(proto).map(Any::V6),
                };
                self.live.extend(talk.map(|talk| (talk, self.sim.now)));
            }
            Op::Up { which, flags } => self.packet(*which, *flags, true),
            Op::Down { which, flags } => self.packet(*which, *flags, false),
            Op::Pause { ms } => self.sim.advance_quickly(*ms),
            Op::Servers { servers } => {
                // Servers keep their places; those not mentioned are removed.
                let all = servers.len().max(self.sim.world.servers.len());
                let rs = |n: usize| {
                    let (weight, removed) = servers.get(n).copied().unwrap_or((0, true));
                    Rs { weight, max_connections: 0, removed }
                };
                self.sim.world.servers = (0..all).map(rs).collect();
                self.sim.reload();
            }
            Op::Pool { lips, first } => {
                let mut lips = lips.clone();
                lips.sort_unstable();
                lips.dedup();
                self.sim.world.lips = lips;
                self.sim.world.ports = *first..=first + 8;
                self.sim.reload();
            }
            Op::Services { on } => {
                self.sim.world.services = *on;
                self.sim.reload();
            }
            Op::Scheduler { kind } => {
                self.sim.world.scheduler = [
                    SchedulerKind::RoundRobin,
                    SchedulerKind::WeightedRoundRobin,
                    SchedulerKind::LeastConnections,
                    SchedulerKind::SourceHash { with_port: true },
                    SchedulerKind::Maglev { with_port: false, table_size: 31 },
                ][*kind];
                self.sim.reload();
            }
        }
        let over = |seen: Time| self.sim.now.since(seen) >= u64::from(TIMEOUT);
        self.live.retain(|&(_, seen)| !over(seen));
        self.check_sessions();
    }

    /// A new client's first packet: the session it opens, or none if it was refused for a counted reason.
    fn open<A: Net>(&mut self, proto: Proto) -> Option<Talk<A>> {
        self.opened += 1;
        let outer = outer::<A>(proto, self.opened, 1000 + self.opened);
        let shape = if proto == Proto::Tcp { syn } else { |build: Build<A>| build.payload(b"question") };
        let (before, sessions) = (self.sim.books(), self.sim.sessions_by_worker());
        let sent = self.sim.rx(FRONT, &shape(from_router(outer)).bytes());
        let change = crate::books::change(&before, &self.sim.books());
        if crate::books::drops(&change) == 1 {
            self.refused += 1;
            assert_eq!(change.get("sessions_created"), None);
            let answers: u64 = ["rst_sent", "icmp_sent"].iter().filter_map(|&n| change.get(n)).sum();
            let told = self.sim.world.services && !change.contains_key("drop.half_open_full");
            assert_eq!((sent.len() as u64, answers), (answers, u64::from(told)));
            return None;
        }
        let sent = match &sent[..] {
            [sent] => sent,
            [reset, sent] if change.contains_key("half_open_evicted") => {
                self.evicted(&sessions, &A::flow(&reset.bytes).expect("a RST"));
                sent
            }
            _ => panic!("{sent:02x?}, {change:?}"),
        };
        let inner = A::key(&sent.bytes).expect("a TCP or UDP frame");
        let server = (0..16).find(|&n| A::server(n) == inner.dst).expect("a server");
        let rs = self.sim.world.servers[usize::from(server)];
        assert!(rs.weight > 0 && !rs.removed && self.sim.world.services);
        assert!(self.sim.world.lips.iter().any(|&n| A::lip(n) == inner.src));
        assert!(self.sim.world.ports.contains(&inner.sport) && inner.dport == rport(proto));
        let talk = Talk { outer, inner, server };
        assert_eq!(sent.bytes, talk.server_gets(&self.sim, &shape).bytes());
        if let Some(&last) = self.used.get(&tuple(&talk)) {
            let rested = self.sim.now.since(last);
            assert!(rested >= u64::from(TIMEOUT) + QUARANTINE, "a port came back after {rested} ms");
        }
        self.used.insert(tuple(&talk), self.sim.now);
        Some(talk)
    }

    /// A session's server is told to forget it, since another one gets its port: it was the oldest half-open one of that
    /// server on its worker. `before` are all sessions by worker.
    fn evicted<A: Net>(&mut self, before: &[Vec<SessionView>], reset: &Flow<A>) {
        assert_eq!(reset.flags, TcpFlags::RST);
        let local = SocketAddr::new(reset.key.src.into(), reset.key.sport);
        let server = SocketAddr::new(reset.key.dst.into(), reset.key.dport);
        let of_server = |s: &&SessionView| (s.proto, s.server) == (Proto::Tcp, server);
        let its_worker = before.iter().find(|all| all.iter().filter(of_server).any(|s| s.local == local));
        let all: Vec<_> = its_worker.expect("a session with that port").iter().filter(of_server).collect();
        let victim = all.iter().find(|s| s.local == local).expect("a session with that port");
        let half_open = |s: &SessionView| matches!(s.state, State::SynSent | State::SynRecv);
        assert!((half_open(victim) || victim.state == State::Close) && victim.age_ms >= 256, "{victim:?}");
        assert!(all.iter().all(|s| !half_open(s) || s.age_ms <= victim.age_ms), "{victim:?} of {all:?}");
        self.evicted += 1;
        let tuple = (Proto::Tcp, local, server);
        self.used.remove(&tuple);
        self.live.retain(|(talk, _)| match talk {
            Any::V4(talk) => self::tuple(talk) != tuple,
            Any::V6(talk) => self::tuple(talk) != tuple,
        });
    }

    fn packet(&mut self, which: usize, flags: u8, up: bool) {
        if self.live.is_empty() {
            return;
        }
        let at = which % self.live.len();
        self.live[at].1 = self.sim.now;
        match self.live[at].0 {
            Any::V4(talk) => self.packet_of(&talk, flags, up),
            Any::V6(talk) => self.packet_of(&talk, flags, up),
        }
    }

    /// Every byte is as it must be: same server, same LIP and lport, same client.
    fn packet_of<A: Net>(&mut self, talk: &Talk<A>, flags: u8, up: bool) {
        self.used.insert(tuple(talk), self.sim.now);
        if up {
            talk.up(&mut self.sim, segment(true, TcpFlags(flags), 1, 1, b"up"));
        } else {
            talk.down(&mut self.sim, segment(false, TcpFlags(flags), 0, 1, b"down"));
        }
    }

    /// All that live are there, with tuples of their own, on one worker each.
    fn check_sessions(&self) {
        let sessions = self.sim.sessions();
        let mut tuples = HashMap::new();
        for s in &sessions {
            let before = tuples.insert((s.proto, s.local, s.server), (s.client, s.vip));
            assert_eq!(before, None, "two sessions share {:?}", (s.proto, s.local, s.server));
        }
        for (talk, _) in &self.live {
            let (tuple, client) = match talk {
                Any::V4(talk) => (tuple(talk), SocketAddr::new(talk.outer.src.into(), talk.outer.sport)),
                Any::V6(talk) => (tuple(talk), SocketAddr::new(talk.outer.src.into(), talk.outer.sport)),
            };
            assert_eq!(tuples.get(&tuple).map(|&(client, _)| client), Some(client));
        }
        assert_eq!(self.sim.world.active_in_all() as usize, sessions.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn sessions_keep_their_way(workers in 1u8..4, ops in vec((op(), any::<u8>()), 1..250)) {
        let mut model = Model::new(workers);
        for (op, lands_on) in &ops {
            model.sim.lands_on = usize::from(lands_on % workers);
            model.run(op);
        }
        // And in the end nothing is left of them.
        model.sim.skip(901_000);
        assert_eq!(model.sim.sessions(), []);
        assert_eq!((model.sim.world.active_in_all(), model.sim.holds(), model.sim.ports_used().0), (0, 0, 0));
    }
}

#[test]
fn the_same_operations_many_times_over() {
    // The generated ones are short; this goes round the port range several times.
    let mut model = Model::new(3);
    for n in 0..4000usize {
        model.sim.lands_on = n * 7 % 3;
        model.run(&match n % 8 {
            0 | 1 => Op::Open { udp: n % 3 == 0, v6: n % 5 == 0 },
            2 | 3 => Op::Up { which: n, flags: 0x10 },
            4 | 5 => Op::Down { which: n * 31, flags: 0x10 },
            6 if n % 40 == 6 => Op::Pool { lips: vec![(n / 40 % 4) as u16, 1], first: 2000 + (n / 40 % 16) as u16 },
            _ => Op::Pause { ms: 200 },
        });
    }
    assert!(model.evicted > 5, "{}", model.evicted);
    assert!(model.refused > 0 && model.opened - model.refused as u16 > 500, "{} {}", model.opened, model.refused);
}

#[test]
fn answers_of_the_balancer_itself_are_right() {
    let mut sim = Sim::quiet_with(World { servers: vec![], ..World::default() }, Options::software(3));
    for n in 0..30 {
        sim.lands_on = usize::from(n % 3);
        let sent = sim.rx_one(FRONT, &syn(from_router(outer::<Ipv4Addr>(Proto::Tcp, n, n))).bytes());
        assert_right(&sent.bytes);
        assert_eq!(sent.bytes[6..12], our_mac(FRONT).0);
    }
}
