//! New sessions that cannot be made, and how servers are chosen: refusals answered and counted, drains, limits, ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::id::Proto;
use fullnat::plan::PersistenceRule;
use fullnat::reason::DropReason;
use fullnat::sched::SchedulerKind;
use fullnat::wire::TcpFlags;
use fullnat::wire::testing::{Build, icmp};

use crate::books::{Expect, drop_of, nothing};
use crate::both_families;
use crate::sim::{Options, Sent, Sim, assert_right};
use crate::talk::{CLIENT_ISN, Talk, from_router, outer, segment, syn};
use crate::world::{BACK, FRONT, Net, ROUTER, Rs, World, our_mac, server_mac};

const ACK: TcpFlags = TcpFlags::ACK;
const ONE: Rs = Rs { weight: 1, max_connections: 0, removed: false };

/// One server and these ports of one LIP.
fn narrow(ports: std::ops::RangeInclusive<u16>) -> World {
    World { servers: vec![ONE], lips: vec![0], ports, ..World::default() }
}

/// The RST with which a refused SYN is answered.
fn reset<A: Net>(client: u16, cport: u16) -> Vec<Sent> {
    let key = outer::<A>(Proto::Tcp, client, cport).reversed();
    let flags = TcpFlags(TcpFlags::RST.0 | ACK.0);
    let rst =
        Build::new(key).macs(ROUTER, our_mac(FRONT)).flags(flags).seq(0).ack(CLIENT_ISN.wrapping_add(1)).window(0);
    let mut bytes = rst.bytes();
    // The packets we make have neither an identification nor a flow label, as the frame builder's have.
    if A::IS_V6 {
        bytes[14..18].copy_from_slice(&[0x60, 0, 0, 0]);
    } else {
        bytes[18..20].fill(0);
        bytes[24..26].fill(0);
        let sum = !fullnat::wire::testing::plain_sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    vec![Sent { iface: FRONT, bytes }]
}

/// Checks the ICMP "port unreachable" with which a refused datagram is answered.
#[track_caller]
fn assert_unreachable<A: Net>(sent: &[Sent], datagram: &[u8]) {
    let [Sent { iface, bytes }] = sent else { panic!("frames that left: {sent:02x?}") };
    let (kind, headers) = if A::IS_V6 { ((1, 4), 40) } else { ((3, 3), 20) };
    let expected =
        icmp(A::own(FRONT), A::read(&datagram[if A::IS_V6 { 22 } else { 26 }..]), 64, kind, [0; 4], &datagram[14..]);
    assert_eq!(*iface, FRONT);
    assert_right(bytes);
    assert_eq!(bytes[..12], [ROUTER.0, our_mac(FRONT).0].concat());
    // Addresses and all of the message; the rest of the IP header is ours.
    assert_eq!(bytes[14 + headers - 2 * A::LEN..], expected[14 + headers - 2 * A::LEN..]);
}

/// A SYN and a datagram are refused for this reason, and answered.
#[track_caller]
fn refused<A: Net>(sim: &mut Sim, reason: DropReason, extra: impl Fn(Expect) -> Expect) {
    let before = (sim.sessions().len(), sim.world.active_in_all(), sim.holds(), sim.ports_used());
    sim.changed();
    let bytes = syn(from_router(outer::<A>(Proto::Tcp, 77, 777))).bytes();
    assert_eq!(sim.rx(FRONT, &bytes), reset::<A>(77, 777));
    sim.expect(&extra(drop_of(reason).and("rst_sent", 1).and("service.refused", 1)));
    let bytes = from_router(outer::<A>(Proto::Udp, 77, 777)).payload(b"question").bytes();
    let sent = sim.rx(FRONT, &bytes);
    assert_unreachable::<A>(&sent, &bytes);
    sim.expect(&extra(drop_of(reason).and("icmp_sent", 1).and("service.refused", 1)));
    assert_eq!((sim.sessions().len(), sim.world.active_in_all(), sim.holds(), sim.ports_used()), before);
}

fn no_server<A: Net>() {
    for servers in [vec![], vec![Rs { weight: 0, ..ONE }; 2], vec![Rs { removed: true, ..ONE }]] {
        let mut sim = Sim::quiet(World { servers, ..World::default() });
        refused::<A>(&mut sim, DropReason::NoServer, |e| e);
    }
}

#[test]
fn without_a_server_the_client_is_told() {
    both_families!(no_server);
}

fn no_pool<A: Net>() {
    let mut sim = Sim::quiet(World { lips: vec![], ..World::default() });
    refused::<A>(&mut sim, DropReason::NoLocalPort, |e| e.and("server.refused", 1));
}

#[test]
fn without_a_local_address_the_client_is_told() {
    both_families!(no_pool);
}

fn ports_run_out<A: Net>() {
    let mut sim = Sim::quiet(narrow(2000..=2003));
    let talks: Vec<Talk<A>> = (0..4).map(|n| Talk::established(&mut sim, n, 1)).collect();
    let _: Vec<Talk<A>> = (0..4).map(|n| Talk::open(&mut sim, Proto::Udp, n, 1).0).collect();
    let mut ports: Vec<_> = talks.iter().map(|t| t.inner.sport).collect();
    ports.sort_unstable();
    assert_eq!(ports, [2000, 2001, 2002, 2003]);
    refused::<A>(&mut sim, DropReason::NoLocalPort, |e| e.and("server.refused", 1));
    // One ends; its port rests before it is used again.
    let gone = talks[2].inner.sport;
    talks[2].down(&mut sim, segment(false, TcpFlags::RST, 1, 0, b""));
    sim.advance(10_000 + 300);
    assert_eq!(sim.sessions().iter().filter(|s| s.proto == Proto::Tcp).count(), 3);
    sim.advance(59_000);
    let syn_again = syn(from_router(outer::<A>(Proto::Tcp, 50, 1))).bytes();
    assert_eq!(sim.rx(FRONT, &syn_again), reset::<A>(50, 1));
    sim.advance(2_500);
    let (again, _) = Talk::<A>::open(&mut sim, Proto::Tcp, 50, 1);
    assert_eq!(again.inner.sport, gone);
}

#[test]
fn ports_run_out_and_come_back_after_their_rest() {
    both_families!(ports_run_out);
}

fn table_full<A: Net>() {
    let options = Options { sessions: 5, ..Options::default() };
    let mut sim = Sim::quiet_with(World::default(), options);
    let talks: Vec<Talk<A>> = (0..5).map(|n| Talk::established(&mut sim, n, 1)).collect();
    refused::<A>(&mut sim, DropReason::SessionTableFull, |e| e.and("server.refused", 1));
    talks[1].up(&mut sim, segment(true, TcpFlags::RST, 1, 1, b""));
    sim.skip(11_000);
    Talk::<A>::open(&mut sim, Proto::Tcp, 9, 1);
}

#[test]
fn a_full_session_table_refuses_and_recovers() {
    both_families!(table_full);
}

fn limited<A: Net>() {
    for scheduler in [
        SchedulerKind::RoundRobin,
        SchedulerKind::WeightedLeastConnections,
        SchedulerKind::SourceHash { with_port: true },
        SchedulerKind::Maglev { with_port: false, table_size: 251 },
    ] {
        let rs = Rs { max_connections: 2, ..ONE };
        let mut sim = Sim::quiet(World { servers: vec![rs; 2], scheduler, ..World::default() });
        let mut talks: Vec<Talk<A>> = (0..4).map(|n| Talk::established(&mut sim, n, 1)).collect();
        for n in 0..4 {
            Talk::<A>::open(&mut sim, Proto::Udp, n, 1).0.up(&mut sim, |b| b.payload(b"once more"));
        }
        for server in 0..2 {
            assert_eq!(talks.iter().filter(|t| t.server == server).count(), 2);
            assert_eq!(sim.world.active::<A>(Proto::Tcp, server), 2);
        }
        refused::<A>(&mut sim, DropReason::ServersFull, |e| e);
        let gone = talks.remove(1);
        gone.down(&mut sim, segment(false, TcpFlags::RST, 1, 0, b""));
        sim.advance(11_000);
        assert_eq!(Talk::<A>::open(&mut sim, Proto::Tcp, 60, 1).0.server, gone.server);
    }
}

#[test]
fn max_connections_is_kept_and_freed() {
    both_families!(limited);
}

fn drained<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let talks: Vec<Talk<A>> = (0..6).map(|n| Talk::established(&mut sim, n, 1)).collect();
    for (weight, removed) in [(0, false), (0, true)] {
        sim.world.servers[1] = Rs { weight, removed, ..ONE };
        sim.reload();
        for n in 0..6 {
            let new = Talk::<A>::open(&mut sim, Proto::Udp, 100 + n, 1 + u16::from(removed)).0;
            assert_ne!(new.server, 1);
        }
        for talk in &talks {
            talk.up(&mut sim, segment(true, ACK, 1, 1, b"goes on"));
            talk.down(&mut sim, segment(false, ACK, 1, 8, b"and on"));
        }
        assert_eq!(sim.world.active::<A>(Proto::Tcp, 1), 2);
    }
    sim.skip(901_000);
    assert_eq!((sim.sessions().len(), sim.world.active_in_all()), (0, 0));
    // It comes back as the same server.
    sim.world.servers[1] = ONE;
    sim.reload();
    let servers: Vec<_> = (0..3).map(|n| Talk::<A>::open(&mut sim, Proto::Tcp, n, 2).0.server).collect();
    assert!(servers.contains(&1), "{servers:?}");
}

#[test]
fn sessions_of_drained_and_removed_servers_go_on() {
    both_families!(drained);
}

fn persistent<A: Net>() {
    let rule = PersistenceRule { timeout_ms: 100_000, prefix_v4: 24, prefix_v6: 64 };
    let mut sim = Sim::quiet(World { persistence: Some(rule), ..World::default() });
    let first = Talk::<A>::open(&mut sim, Proto::Tcp, 0, 1).0;
    for n in 1..8 {
        sim.skip(99_000);
        assert_eq!(Talk::<A>::open(&mut sim, Proto::Tcp, n, 1).0.server, first.server, "one prefix, one server");
    }
    // Of services each for itself, and not when drained.
    sim.world.servers[usize::from(first.server)].weight = 0;
    sim.reload();
    let second = Talk::<A>::open(&mut sim, Proto::Tcp, 9, 1).0;
    assert_ne!(second.server, first.server);
    for n in 10..14 {
        assert_eq!(Talk::<A>::open(&mut sim, Proto::Tcp, n, 1).0.server, second.server);
    }
    sim.skip(102_000);
    let servers: Vec<_> = (20..22).map(|n| Talk::<A>::open(&mut sim, Proto::Tcp, n, 1).0.server).collect();
    assert_eq!(servers[0], servers[1]);
}

#[test]
fn clients_of_a_prefix_stay_together() {
    both_families!(persistent);
}

fn back_where_it_came_from<A: Net>() {
    let mut sim = Sim::quiet(World { router_behind: true, ..World::default() });
    for (iface, mac) in [(FRONT, ROUTER), (BACK, server_mac(9))] {
        let key = outer::<A>(Proto::Udp, 1, 10 + u16::from(iface.0));
        let sent = sim.rx_one(iface, &Build::new(key).macs(our_mac(iface), mac).payload(b"question").bytes());
        let inner = A::key(&sent.bytes).expect("a datagram");
        assert_eq!(sent.iface, BACK);
        let answer = Build::new(inner.reversed()).macs(our_mac(BACK), server_mac(0)).payload(b"answer");
        let sent = sim.rx_one(BACK, &answer.bytes());
        let expected = Build::new(key.reversed()).macs(mac, our_mac(iface)).payload(b"answer").ttl(63).bytes();
        assert_eq!(sent, Sent { iface, bytes: expected });
    }
}

#[test]
fn answers_leave_by_the_interface_the_client_came_by() {
    both_families!(back_where_it_came_from);
}

#[test]
fn weights_are_kept() {
    let rs = |weight| Rs { weight, ..ONE };
    let world = World {
        servers: vec![rs(5), rs(3), rs(0), rs(2)],
        scheduler: SchedulerKind::WeightedRoundRobin,
        ..World::default()
    };
    let mut sim = Sim::quiet(world);
    let mut chosen = [0; 4];
    for n in 0..200 {
        chosen[usize::from(Talk::<Ipv4Addr>::open(&mut sim, Proto::Tcp, n % 50, n).0.server)] += 1;
    }
    assert_eq!(chosen, [100, 60, 0, 40]);
}

#[test]
fn replies_are_limited() {
    let options = Options { replies_per_second: 3, ..Options::default() };
    let mut sim = Sim::quiet_with(World { servers: vec![], ..World::default() }, options);
    let opening = |n| syn(from_router(outer::<Ipv4Addr>(Proto::Tcp, n, 1))).bytes();
    let sent: usize = (0..10).map(|n| sim.rx(FRONT, &opening(n)).len()).sum();
    assert_eq!(sent, 3);
    let refused = nothing().and("drop.no_server", 10).and("service.refused", 10);
    sim.expect(&refused.and("rst_sent", 3).and("replies_limited", 7));
    sim.advance(1000);
    assert_eq!(sim.rx(FRONT, &opening(11)).len(), 1);
}

#[test]
fn a_tuple_used_again_gets_another_port_of_the_same_server() {
    let mut sim = Sim::quiet(narrow(1025..=65535));
    let old = Talk::<Ipv6Addr>::established(&mut sim, 1, 4000);
    old.down(&mut sim, segment(false, TcpFlags::RST, 1, 0, b""));
    let (new, _) = Talk::<Ipv6Addr>::open(&mut sim, Proto::Tcp, 1, 4000);
    assert_eq!(old.server, new.server);
    assert_ne!(old.inner.sport, new.inner.sport);
}

#[test]
fn packets_for_nobody_are_dropped() {
    fn nobody<A: Net>() {
        let mut sim = Sim::quiet(World::default());
        let key = outer::<A>(Proto::Tcp, 1, 1);
        let mut drops = |key, iface, reason| {
            let bytes = syn(Build::new(key).macs(our_mac(iface), ROUTER)).bytes();
            assert_eq!(sim.rx(iface, &bytes), []);
            sim.expect(&drop_of(reason));
        };
        drops(fullnat::flow::FlowKey { dport: 81, ..key }, FRONT, DropReason::NoService);
        drops(fullnat::flow::FlowKey { dst: A::client(9), ..key }, FRONT, DropReason::NoService);
        drops(fullnat::flow::FlowKey { dst: A::own(FRONT), ..key }, FRONT, DropReason::NoService);
        drops(fullnat::flow::FlowKey { dst: A::lip(0), ..key }, BACK, DropReason::NoSession);
        let bytes = syn(Build::new(key).macs(our_mac(BACK), ROUTER)).bytes();
        assert_eq!(sim.rx(FRONT, &bytes), []);
        sim.expect(&drop_of(DropReason::NotOurMac));
    }
    both_families!(nobody);
}
