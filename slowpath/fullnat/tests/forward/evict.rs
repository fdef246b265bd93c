//! No room, but half-open sessions: the oldest one goes, is counted, and its server is told. No other ever does.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::id::Proto;
use fullnat::reason::DropReason;
use fullnat::tcp::State;
use fullnat::wire::TcpFlags;
use fullnat::wire::testing::Build;

use crate::books::{Expect, drop_of, opening};
use crate::both_families;
use crate::sim::{Options, Sent, Sim, assert_right};
use crate::talk::{CLIENT_ISN, Talk, from_router, outer, segment, syn};
use crate::world::{FRONT, Net, Rs, World, our_mac, server_mac};

const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);
const ONE: Rs = Rs { weight: 1, max_connections: 0, removed: false };
/// Milliseconds from which on a session may be given up, and more than those to which its age is known.
const OLD: u64 = 256;
const TICK: u64 = 64;

/// One server, and so many ports towards it.
fn narrow(ports: u16) -> World {
    World { servers: vec![ONE], lips: vec![0], ports: 2000..=1999 + ports, ..World::default() }
}

fn with_room(sessions: usize) -> Sim {
    Sim::quiet_with(World::default(), Options { sessions, ..Options::default() })
}

/// The session of a SYN of the nth client that nobody ever answers, a tick after what was before.
fn spoofed<A: Net>(sim: &mut Sim, n: u16) -> Talk<A> {
    sim.announce(TICK);
    Talk::open(sim, Proto::Tcp, n, 666).0
}

/// Asserts that a frame is the RST with which a server is told to forget a connection.
#[track_caller]
fn assert_abort<A: Net>(sim: &Sim, sent: &Sent, of: &Talk<A>) {
    let rst = Build::new(of.inner).macs(server_mac(of.server), our_mac(sim.world.back()));
    let rst = rst.flags(TcpFlags::RST).seq(CLIENT_ISN.wrapping_add(1)).ack(0).window(0).bytes();
    assert_eq!(sent.iface, sim.world.back());
    assert_right(&sent.bytes);
    // All but what an IP header of ours does not have in common with the frame builder's.
    let addresses = if A::IS_V6 { 22 } else { 26 };
    assert_eq!(sent.bytes[..14], rst[..14]);
    assert_eq!(sent.bytes[addresses..], rst[addresses..]);
}

/// A client's SYN opens a session in place of that of `old`, whose server is told; then its handshake completes.
#[track_caller]
fn takes_the_place<A: Net>(sim: &mut Sim, client: u16, old: &Talk<A>) -> Talk<A> {
    sim.changed();
    let bytes = syn(from_router(outer::<A>(Proto::Tcp, client, 1))).bytes();
    let sent = sim.rx(FRONT, &bytes);
    let [reset, opens] = &sent[..] else { panic!("frames that left: {sent:02x?}") };
    assert_abort(sim, reset, old);
    sim.expect(&evicting(opening(bytes.len())));
    let inner = A::key(&opens.bytes).expect("a SYN");
    let server = (0..16).find(|&n| A::server(n) == inner.dst).expect("one of the servers");
    let talk = Talk { outer: outer(Proto::Tcp, client, 1), inner, server };
    complete(sim, &talk);
    talk
}

fn evicting(expect: Expect) -> Expect {
    expect.and("sessions_ended", 1).and("half_open_evicted", 1).and("service.evicted", 1).and("server.evicted", 1)
}

fn complete<A: Net>(sim: &mut Sim, talk: &Talk<A>) {
    talk.down(sim, segment(false, SYN_ACK, 0, 1, b""));
    talk.up(sim, segment(true, TcpFlags::ACK, 1, 1, b""));
}

/// Nothing answers a SYN, and nothing is changed by it.
#[track_caller]
fn ignored<A: Net>(sim: &mut Sim) {
    let before = (sim.sessions().len(), sim.world.active_in_all(), sim.holds(), sim.ports_used());
    sim.changed();
    assert_eq!(sim.rx(FRONT, &syn(from_router(outer::<A>(Proto::Tcp, 77, 777))).bytes()), []);
    let expected = drop_of(DropReason::HalfOpenFull).and("service.refused", 1);
    let change = sim.changed();
    assert!(change.iter().filter(|(name, _)| *name != "server.refused").eq(expected.books()), "{change:?}");
    assert_eq!((sim.sessions().len(), sim.world.active_in_all(), sim.holds(), sim.ports_used()), before);
}

fn table_full<A: Net>() {
    let mut sim = with_room(6);
    let held = [Talk::<A>::established(&mut sim, 1, 1), Talk::<A>::established(&mut sim, 2, 1)];
    let old: Vec<Talk<A>> = (10..14).map(|n| spoofed(&mut sim, n)).collect();
    sim.announce(OLD - 4 * TICK);
    ignored::<A>(&mut sim);
    sim.announce(4 * TICK);
    // The oldest has been answered by its server, which changes nothing.
    old[0].down(&mut sim, segment(false, SYN_ACK, 0, 1, b""));
    for (n, old) in (20..).zip(&old) {
        takes_the_place(&mut sim, n, old);
    }
    assert!(sim.sessions().iter().all(|s| s.state == State::Established) && sim.sessions().len() == 6);
    assert_eq!(sim.world.active_in_all(), 6);
    for talk in held {
        talk.up(&mut sim, segment(true, TcpFlags::ACK, 1, 1, b"goes on"));
    }
    // What the clients send that were given up belongs to nothing.
    sim.changed();
    assert_eq!(sim.rx(FRONT, &old[1].client_sends(&segment(true, TcpFlags::ACK, 1, 1, b"late")).bytes()), []);
    sim.expect(&drop_of(DropReason::NoSession));
    sim.skip(901_000);
    assert_eq!((sim.sessions().len(), sim.ports_used().0, sim.holds(), sim.world.active_in_all()), (0, 0, 0, 0));
}

#[test]
fn in_a_full_table_the_oldest_half_open_session_makes_room() {
    both_families!(table_full);
}

fn ports_full<A: Net>() {
    let mut sim = Sim::quiet(narrow(4));
    let held = Talk::<A>::established(&mut sim, 1, 1);
    let old: Vec<Talk<A>> = (10..13).map(|n| spoofed(&mut sim, n)).collect();
    sim.announce(TICK - 1);
    ignored::<A>(&mut sim);
    sim.announce(4 * TICK);
    for (n, old) in (20..).zip(&old) {
        let new = takes_the_place(&mut sim, n, old);
        assert_eq!(new.inner, old.inner, "the port without a rest");
        // A late SYN-ACK of the server for the one before goes to the new client, who knows better, and changes nothing.
        new.down(&mut sim, |b| b.flags(SYN_ACK).seq(77).ack(CLIENT_ISN.wrapping_sub(500)));
        new.up(&mut sim, segment(true, TcpFlags::ACK, 1, 1, b"data"));
    }
    assert!(sim.sessions().iter().all(|s| s.state == State::Established));
    assert_eq!((sim.sessions().len(), sim.ports_used(), sim.world.active_in_all()), (4, (4, 0), 4));
    held.down(&mut sim, segment(false, TcpFlags::ACK, 1, 1, b"goes on"));
    // Nobody is half-open now: the client is told.
    sim.changed();
    assert_eq!(sim.rx(FRONT, &syn(from_router(outer::<A>(Proto::Tcp, 77, 777))).bytes()).len(), 1);
    let refused = drop_of(DropReason::NoLocalPort).and("rst_sent", 1).and("service.refused", 1);
    sim.expect(&refused.and("server.refused", 1));
}

#[test]
fn without_a_port_the_oldest_half_open_session_leaves_its_own() {
    both_families!(ports_full);
}

fn servers_full<A: Net>() {
    let rs = Rs { max_connections: 2, ..ONE };
    let mut sim = Sim::quiet(World { servers: vec![rs; 2], ..World::default() });
    let held: Vec<Talk<A>> = (0..2).map(|n| Talk::established(&mut sim, n, 1)).collect();
    let old = [10, 11].map(|n| spoofed::<A>(&mut sim, n));
    ignored::<A>(&mut sim);
    sim.announce(OLD);
    for (n, old) in (20..).zip(&old) {
        let new = takes_the_place(&mut sim, n, old);
        assert_eq!(new.server, old.server, "the only one with room");
        assert_ne!(new.inner, old.inner, "ports were not lacking");
    }
    assert_eq!((sim.world.active::<A>(Proto::Tcp, 0), sim.world.active::<A>(Proto::Tcp, 1)), (2, 2));
    assert!(held.iter().all(|talk| sim.sessions().iter().any(|s| s.local.port() == talk.inner.sport)));
}

#[test]
fn at_max_connections_the_oldest_half_open_session_makes_room() {
    both_families!(servers_full);
}

/// A service with few clients is not emptied by the flood at another.
fn the_oldest_of_all<A: Net>() {
    let mut sim = with_room(64);
    let old: Vec<Talk<A>> = (0..62).map(|n| spoofed(&mut sim, n)).collect();
    // Datagrams of the other service, to other servers, in their first round trip.
    let asking: Vec<Talk<A>> = (0..2).map(|n| Talk::open(&mut sim, Proto::Udp, n, 9).0).collect();
    sim.announce(OLD - 1);
    for n in 100..130 {
        let bytes = from_router(outer::<A>(Proto::Udp, n, 9)).payload(b"question").bytes();
        assert_eq!(sim.rx(FRONT, &bytes).len(), 2, "it goes on, and a server is told to forget one");
    }
    let sessions = sim.sessions();
    assert_eq!(sessions.iter().filter(|s| s.proto == Proto::Udp).count(), 32);
    assert!(asking.iter().all(|talk| sessions.iter().any(|s| s.local.port() == talk.inner.sport)));
    // Of three servers with as many old sessions each, none was emptied before the others.
    for server in 0..3 {
        let gone = old.iter().filter(|t| t.server == server).position(|t| {
            sessions.iter().any(|s| s.proto == Proto::Tcp && s.client.port() == 666 && s.local.port() == t.inner.sport)
        });
        assert!(gone.is_some_and(|n| (9..=11).contains(&n)), "server {server}: {gone:?}");
    }
}

#[test]
fn what_is_old_goes_wherever_it_is() {
    both_families!(the_oldest_of_all);
}

fn datagrams<A: Net>() {
    let mut sim = with_room(4);
    let once: Vec<Talk<A>> = (0..2).map(|n| Talk::open(&mut sim, Proto::Udp, n, 1).0).collect();
    let twice: Vec<Talk<A>> = (2..4).map(|n| Talk::open(&mut sim, Proto::Udp, n, 1).0).collect();
    once[0].down(&mut sim, |b| b.payload(b"answer"));
    twice.iter().for_each(|talk| drop(talk.up(&mut sim, |b| b.payload(b"once more"))));
    sim.announce(OLD);
    sim.changed();
    for n in 10..12 {
        let (_, expect) = Talk::<A>::open(&mut sim, Proto::Udp, n, 1);
        sim.expect(&evicting(expect));
    }
    let sessions = sim.sessions();
    assert!(once.iter().all(|talk| sessions.iter().all(|s| s.local.port() != talk.inner.sport)));
    assert!(twice.iter().all(|talk| sessions.iter().any(|s| s.local.port() == talk.inner.sport)));
    // A port is not taken from one for another, who would get its answer.
    let mut sim = Sim::quiet(narrow(1));
    let _ = Talk::<A>::open(&mut sim, Proto::Udp, 1, 1);
    sim.announce(OLD);
    sim.changed();
    sim.rx(FRONT, &from_router(outer::<A>(Proto::Udp, 2, 1)).payload(b"question").bytes());
    assert_eq!(sim.changed().get("drop.no_local_port"), Some(&1));
}

#[test]
fn of_udp_it_is_clients_that_sent_once() {
    both_families!(datagrams);
}

fn reset<A: Net>() {
    let mut sim = with_room(1);
    let old = spoofed::<A>(&mut sim, 1);
    old.down(&mut sim, segment(false, SYN_ACK, 0, 1, b""));
    // Somebody is at the made-up address, and does not want it.
    old.up(&mut sim, |b| b.flags(TcpFlags::RST).seq(CLIENT_ISN.wrapping_add(1)));
    assert_eq!(sim.session().state, State::Close);
    sim.announce(OLD);
    takes_the_place(&mut sim, 2, &old);
}

#[test]
fn a_handshake_that_was_reset_makes_room_and_the_server_is_told_again() {
    both_families!(reset);
}

fn reloaded<A: Net>() {
    let mut sim = Sim::quiet(narrow(2));
    let old: Vec<Talk<A>> = (0..2).map(|n| spoofed(&mut sim, n)).collect();
    sim.announce(OLD);
    sim.reload();
    takes_the_place(&mut sim, 10, &old[0]);
    // The port of the other one is not the pool's any more.
    sim.world.ports = 3000..=3000;
    sim.reload();
    let _ = Talk::<A>::established(&mut sim, 11, 1);
    sim.changed();
    sim.rx(FRONT, &syn(from_router(outer::<A>(Proto::Tcp, 12, 1))).bytes());
    assert_eq!(sim.changed().get("drop.no_local_port"), Some(&1));
}

#[test]
fn a_reload_keeps_the_order_and_a_port_out_of_the_pool_is_not_taken() {
    both_families!(reloaded);
}

#[test]
fn each_worker_gives_up_its_own() {
    let mut sim = Sim::quiet_with(narrow(64), Options::software(3));
    for n in 0..64 {
        sim.lands_on = usize::from(n % 3);
        sim.rx(FRONT, &syn(from_router(outer::<Ipv4Addr>(Proto::Tcp, n, 666))).bytes());
    }
    sim.announce(OLD);
    let before: Vec<usize> = sim.sessions_by_worker().iter().map(Vec::len).collect();
    let (mut opened, ports) = (0, sim.ports_used());
    for n in 100..160 {
        sim.lands_on = usize::from(n % 3);
        opened += usize::from(sim.rx(FRONT, &syn(from_router(outer::<Ipv4Addr>(Proto::Tcp, n, 1))).bytes()).len() == 2);
    }
    let after: Vec<usize> = sim.sessions_by_worker().iter().map(Vec::len).collect();
    assert!(opened > 30 && after.iter().zip(&before).all(|(after, before)| after >= before), "{before:?} {after:?}");
    assert!(sim.ports_used().0 >= ports.0);
}

#[test]
fn the_gauge_counts_what_is_half_open() {
    let mut sim = Sim::quiet(World::default());
    let talks: Vec<Talk<Ipv6Addr>> = (0..5).map(|n| spoofed(&mut sim, n)).collect();
    let _ = Talk::<Ipv4Addr>::open(&mut sim, Proto::Udp, 1, 1);
    let gauge = |sim: &mut Sim| {
        sim.announce(1);
        sim.workers[0].counters.half_open.get()
    };
    assert_eq!(gauge(&mut sim), 6);
    complete(&mut sim, &talks[3]);
    assert_eq!(gauge(&mut sim), 5);
    sim.skip(31_000);
    assert_eq!(gauge(&mut sim), 1, "a datagram's session lasts longer");
}
