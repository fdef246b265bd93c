//! ICMP and ICMPv6: echo, and errors about packets of sessions. What the receiver of a translated error finds quoted must
//! be what it sent itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::flow::FlowKey;
use fullnat::id::{IfaceId, Proto};
use fullnat::ports::LportOwners;
use fullnat::reason::DropReason;
use fullnat::spread::Spread;
use fullnat::wire::testing::{Build, icmp};
use fullnat::wire::{Mac, TcpFlags};

use crate::books::{drop_of, nothing, packet};
use crate::both_families;
use crate::sim::{Options, Sent, Sim, assert_right};
use crate::talk::{Talk, from_router, outer, segment, syn};
use crate::world::{BACK, FRONT, Net, ROUTER, World, our_mac, server_mac};
use fullnat::flow::Direction;

const ACK: TcpFlags = TcpFlags::ACK;

/// Types and codes by family: echo request, echo reply, time exceeded, too big, port unreachable.
struct Types {
    echo: u8,
    reply: u8,
    exceeded: (u8, u8),
    too_big: (u8, u8),
    unreachable: (u8, u8),
}

fn types<A: Net>() -> Types {
    if A::IS_V6 {
        Types { echo: 128, reply: 129, exceeded: (3, 0), too_big: (2, 0), unreachable: (1, 4) }
    } else {
        Types { echo: 8, reply: 0, exceeded: (11, 0), too_big: (3, 4), unreachable: (3, 3) }
    }
}

/// The frame with other MAC addresses.
fn between(dst: Mac, src: Mac, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&dst.0);
    frame[6..12].copy_from_slice(&src.0);
    frame
}

fn mtu(n: u16) -> [u8; 4] {
    let [high, low] = n.to_be_bytes();
    [0, 0, high, low]
}

fn echo<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let t = types::<A>();
    for (ours, iface) in
        [(A::vip(), FRONT), (A::lip(1), BACK), (A::own(FRONT), FRONT), (A::own(BACK), BACK), (A::own(BACK), FRONT)]
    {
        for ttl in [1, 64] {
            let ping = icmp(A::client(1), ours, ttl, (t.echo, 0), [1, 2, 3, 4], b"are you there?");
            let sent = sim.rx_one(iface, &between(our_mac(iface), ROUTER, ping));
            let pong = icmp(ours, A::client(1), 64, (t.reply, 0), [1, 2, 3, 4], b"are you there?");
            assert_eq!(sent, Sent { iface, bytes: between(ROUTER, our_mac(iface), pong) });
            sim.expect(&nothing().and("echo_answered", 1));
        }
    }
    let mut none = |dst, kind, reason| {
        let frame = between(our_mac(FRONT), ROUTER, icmp(A::client(1), dst, 64, (kind, 0), [0; 4], b""));
        assert_eq!(sim.rx(FRONT, &frame), []);
        sim.expect(&drop_of(reason));
    };
    none(A::client(2), t.echo, DropReason::NoService);
    none(A::vip(), t.reply, DropReason::IcmpType);
    none(A::vip(), if A::IS_V6 { 130 } else { 13 }, DropReason::IcmpType);
}

#[test]
fn echo_is_answered_for_all_our_addresses() {
    both_families!(echo);
}

#[test]
fn echo_is_limited() {
    let mut sim = Sim::quiet_with(World::default(), Options { replies_per_second: 2, ..Options::default() });
    let ping = icmp(Ipv4Addr::client(1), Ipv4Addr::vip(), 64, (8, 0), [0; 4], b"");
    let ping = between(our_mac(FRONT), ROUTER, ping);
    let answered: usize = (0..5).map(|_| sim.rx(FRONT, &ping).len()).sum();
    assert_eq!(answered, 2);
    sim.expect(&nothing().and("echo_answered", 2).and("drop.rate_limited", 3));
}

/// A router behind `iface` reports that `packet`, as we sent it, got no further.
fn about<A: Net>(iface: IfaceId, to: A, kind: (u8, u8), rest: [u8; 4], packet: &[u8]) -> Vec<u8> {
    let from = if iface == FRONT { A::client(99) } else { A::server(9) };
    between(our_mac(iface), OTHER, icmp(from, to, 64, kind, rest, &packet[14..]))
}

const OTHER: Mac = Mac([2, 0, 0, 8, 8, 8]);

/// What must come of it: from the address the receiver talks to, quoting what it sent, one hop further.
fn translated<A: Net>((dst, src): (Mac, Mac), key: FlowKey<A>, kind: (u8, u8), rest: [u8; 4], sent: &[u8]) -> Vec<u8> {
    between(dst, src, icmp(key.dst, key.src, 63, kind, rest, &sent[14..]))
}

/// Errors about a packet each way, whole, and cut to 8 bytes of TCP or UDP.
fn errors<A: Net>() {
    let t = types::<A>();
    let kinds = [(t.exceeded, [0; 4], [0; 4]), (t.too_big, mtu(1400), mtu(1400)), (t.unreachable, [0; 4], [0; 4])];
    for (proto, two_arm) in [(Proto::Tcp, true), (Proto::Udp, true), (Proto::Tcp, false)] {
        let mut sim = Sim::quiet(World { two_arm, ..World::default() });
        let talk = match proto {
            Proto::Tcp => Talk::<A>::established(&mut sim, 5, 500),
            Proto::Udp => Talk::<A>::open(&mut sim, proto, 5, 500).0,
        };
        sim.changed();
        let back = sim.world.back();
        // The quoted TTL is what the router saw.
        let shape = |b: Build<A>| segment::<A>(true, ACK, 1, 1, b"some data")(b).ttl(9);
        let headers = if A::IS_V6 { 40 } else { 20 };
        for (kind, rest, expected) in kinds {
            for cut in [14 + headers + 8, 14 + headers + 18, usize::MAX] {
                // About what the client sent: to the LIP, and on to the client.
                let quoted = cut_to(shape(Build::new(talk.inner)).bytes(), cut);
                let sent = sim.rx_one(back, &about(back, talk.inner.src, kind, rest, &quoted));
                let original = cut_to(shape(Build::new(talk.outer)).bytes(), cut);
                let macs = (ROUTER, our_mac(FRONT));
                assert_right(&sent.bytes);
                assert_eq!(sent, Sent { iface: FRONT, bytes: translated(macs, talk.outer, kind, expected, &original) });
                sim.expect(&nothing().and("icmp_translated", 1));

                // About what the server sent: to the VIP, and on to the server.
                let quoted = cut_to(shape(Build::new(talk.outer.reversed())).bytes(), cut);
                let sent = sim.rx_one(FRONT, &about(FRONT, talk.outer.dst, kind, rest, &quoted));
                let original = cut_to(shape(Build::new(talk.inner.reversed())).bytes(), cut);
                let macs = (server_mac(talk.server), our_mac(back));
                let bytes = translated(macs, talk.inner.reversed(), kind, expected, &original);
                assert_right(&sent.bytes);
                assert_eq!(sent, Sent { iface: back, bytes });
                sim.expect(&nothing().and("icmp_translated", 1));
            }
        }
    }
}

fn cut_to(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.truncate(len);
    bytes
}

#[test]
fn errors_reach_who_sent_the_packet() {
    both_families!(errors);
}

fn mtu_with_toa<A: Net>() {
    let t = types::<A>();
    let mut sim = Sim::quiet(World { toa: true, ..World::default() });
    let (talk, _) = Talk::<A>::open(&mut sim, Proto::Tcp, 5, 500);
    talk.down(&mut sim, segment(false, TcpFlags(TcpFlags::SYN.0 | ACK.0), 0, 1, b""));
    sim.rx_one(FRONT, &talk.client_sends(&segment(true, ACK, 1, 1, b"")).bytes());
    let quoted = segment(true, ACK, 1, 1, b"data")(Build::new(talk.inner)).bytes();
    let original = segment(true, ACK, 1, 1, b"data")(Build::new(talk.outer)).bytes();
    let added = 4 + A::LEN as u16;
    let mut told = |expected: u16, way_out: bool| {
        let (iface, to, quoted, key, original, macs) = if way_out {
            (BACK, talk.inner.src, &quoted, talk.outer, &original, (ROUTER, our_mac(FRONT)))
        } else {
            (FRONT, talk.outer.dst, &original, talk.inner, &quoted, (server_mac(talk.server), our_mac(BACK)))
        };
        let (quoted, original, key) = if way_out {
            (quoted.clone(), original.clone(), key)
        } else {
            let (seen, sent) = (talk.outer.reversed(), talk.inner.reversed());
            let make = |key| segment::<A>(false, ACK, 1, 1, b"data")(Build::new(key)).bytes();
            (make(seen), make(sent), sent)
        };
        let sent = sim.rx_one(iface, &about(iface, to, t.too_big, mtu(1450), &quoted));
        assert_eq!(sent.bytes, translated(macs, key, t.too_big, mtu(expected), &original));
    };
    // Room for the option, which the client knows nothing of; the server's packets are not made longer.
    told(1450 - added, true);
    told(1450, false);
    talk.down(&mut sim, segment(false, ACK, 1, 1, b"data"));
    talk.up(&mut sim, segment(true, ACK, 1, 5, b""));
    let sent = sim.rx_one(BACK, &about(BACK, talk.inner.src, t.too_big, mtu(1450), &quoted));
    let macs = (ROUTER, our_mac(FRONT));
    assert_eq!(sent.bytes, translated(macs, talk.outer, t.too_big, mtu(1450), &original));
}

#[test]
fn a_told_mtu_leaves_room_for_toa_while_it_is_added() {
    both_families!(mtu_with_toa);
}

fn strangers<A: Net>() {
    let t = types::<A>();
    let mut sim = Sim::quiet(World::default());
    let talk = Talk::<A>::established(&mut sim, 5, 500);
    let quoted = segment(true, ACK, 1, 1, b"data")(Build::new(talk.inner)).bytes();
    let mut dropped = |frame: &[u8], reason| {
        assert_eq!(sim.rx(BACK, frame), []);
        sim.expect(&drop_of(reason));
    };
    // About a session there is, but sent to another address of ours than the packet came from.
    dropped(&about(BACK, A::lip(1 - lip_of(&talk)), t.exceeded, [0; 4], &quoted), DropReason::IcmpNoSession);
    // About a packet we never sent.
    let other = FlowKey { sport: talk.inner.sport ^ 1, ..talk.inner };
    let quote = |key| segment::<A>(true, ACK, 1, 1, b"data")(Build::new(key)).bytes();
    dropped(&about(BACK, talk.inner.src, t.exceeded, [0; 4], &quote(other)), DropReason::IcmpNoSession);
    // About a packet in the direction it cannot have come from.
    dropped(&about(BACK, talk.inner.dst, t.exceeded, [0; 4], &quote(talk.inner.reversed())), DropReason::IcmpNoSession);
    // That ends here.
    let mut last = about(BACK, talk.inner.src, t.exceeded, [0; 4], &quoted);
    let ended = icmp(A::server(9), talk.inner.src, 1, t.exceeded, [0; 4], &quoted[14..]);
    last[14..].copy_from_slice(&ended[14..]);
    dropped(&last, DropReason::TtlExceeded);
    // Too short to say what it is about.
    dropped(&about(BACK, talk.inner.src, t.exceeded, [0; 4], &quoted[..14 + 10]), DropReason::Truncated);
}

fn lip_of<A: Net>(talk: &Talk<A>) -> u16 {
    u16::from(talk.inner.src == A::lip(1))
}

#[test]
fn errors_about_nothing_of_ours_are_dropped() {
    both_families!(strangers);
}

fn on_any_worker<A: Net>() {
    let t = types::<A>();
    for lands_on in 0..3 {
        let mut sim = Sim::quiet_with(World::default(), Options::software(3));
        let talk = Talk::<A>::established(&mut sim, 5, 500);
        let quoted = segment(true, ACK, 1, 1, b"data")(Build::new(talk.inner)).bytes();
        let original = segment(true, ACK, 1, 1, b"data")(Build::new(talk.outer)).bytes();
        // Also when the LIP is no longer configured.
        for lips in [vec![0, 1], vec![3]] {
            sim.world.lips = lips;
            sim.reload();
            sim.lands_on = lands_on;
            let sent = sim.rx_one(BACK, &about(BACK, talk.inner.src, t.exceeded, [0; 4], &quoted));
            let macs = (ROUTER, our_mac(FRONT));
            assert_eq!(sent.bytes, translated(macs, talk.outer, t.exceeded, [0; 4], &original));
            let seen = segment(false, ACK, 1, 1, b"x")(Build::new(talk.outer.reversed())).bytes();
            let sent = sim.rx_one(FRONT, &about(FRONT, A::vip(), t.exceeded, [0; 4], &seen));
            assert_eq!(sent.iface, BACK);
            sim.expect(&nothing().and("icmp_translated", 2));
        }
        // Nobody's error is dropped by the worker that would know it.
        let other = FlowKey { sport: talk.inner.sport ^ 1, ..talk.inner };
        let quoted = segment(true, ACK, 1, 1, b"data")(Build::new(other)).bytes();
        assert_eq!(sim.rx(BACK, &about(BACK, talk.inner.src, t.exceeded, [0; 4], &quoted)), []);
        sim.expect(&drop_of(DropReason::IcmpNoSession));
    }
}

#[test]
fn errors_find_the_worker_of_their_session() {
    both_families!(on_any_worker);
    assert!(matches!(Options::software(3).spread, Spread::Software(owners) if owners == LportOwners::new(3)));
}

fn error_too_big<A: Net>() {
    let t = types::<A>();
    let mut sim = Sim::quiet(World { mtu: [1400, 1500], ..World::default() });
    let talk = Talk::<A>::established(&mut sim, 5, 500);
    let quoted = segment(true, ACK, 1, 1, &[1; 1400])(Build::new(talk.inner)).bytes();
    let headers = if A::IS_V6 { 48 } else { 28 };
    let error = |len: usize| about(BACK, talk.inner.src, t.exceeded, [0; 4], &quoted[..14 + len - headers]);
    assert_eq!(sim.rx_one(BACK, &error(1400)).bytes.len(), 14 + 1400);
    sim.expect(&nothing().and("icmp_translated", 1));
    assert_eq!(sim.rx(BACK, &error(1401)), []);
    sim.expect(&drop_of(DropReason::PacketTooBig));
}

#[test]
fn an_error_too_big_is_told_nobody() {
    both_families!(error_too_big);
}

#[test]
fn errors_are_not_sent_from_an_address_of_the_link() {
    let mut sim = Sim::quiet(World { link_local: true, ..World::default() });
    let first = syn(from_router(outer::<Ipv6Addr>(Proto::Tcp, 3, 3))).ttl(1).bytes();
    let sent = sim.rx_one(FRONT, &first);
    assert_error(&sent, FRONT, (ROUTER, Ipv6Addr::client(3)), (3, 0), [0; 4], &first);
}

/// The error the balancer itself sends: its first word is checked by type and code, its quote is the packet as it came.
#[track_caller]
fn assert_error<A: Net>(sent: &Sent, iface: IfaceId, to: (Mac, A), kind: (u8, u8), rest: [u8; 4], came: &[u8]) {
    let headers = if A::IS_V6 { 40 } else { 20 };
    let most = if A::IS_V6 { 1280 } else { 576 } - headers - 8;
    let quoted = &came[14..came.len().min(14 + most)];
    let expected = between(to.0, our_mac(iface), icmp(A::own(iface), to.1, 64, kind, rest, quoted));
    assert_eq!(sent.iface, iface);
    assert_right(&sent.bytes);
    assert_eq!(sent.bytes[..14], expected[..14]);
    assert_eq!(sent.bytes[14 + headers - 2 * A::LEN..], expected[14 + headers - 2 * A::LEN..]);
}

fn ttl_ends<A: Net>() {
    let t = types::<A>();
    let mut sim = Sim::quiet(World::default());
    for ttl in [0, 1] {
        let first = syn(from_router(outer::<A>(Proto::Tcp, 3, 3))).ttl(ttl).bytes();
        let sent = sim.rx_one(FRONT, &first);
        assert_error(&sent, FRONT, (ROUTER, A::client(3)), t.exceeded, [0; 4], &first);
        sim.expect(&drop_of(DropReason::TtlExceeded).and("icmp_sent", 1));
    }
    assert_eq!(sim.sessions(), []);
    let talk = Talk::<A>::established(&mut sim, 5, 500);
    let up = talk.client_sends(&segment(true, ACK, 1, 1, b"x")).ttl(1).bytes();
    let sent = sim.rx_one(FRONT, &up);
    assert_error(&sent, FRONT, (ROUTER, talk.outer.src), t.exceeded, [0; 4], &up);
    let down = talk.server_sends(&sim, &segment(false, ACK, 1, 1, b"x")).ttl(1).bytes();
    let sent = sim.rx_one(BACK, &down);
    assert_error(&sent, BACK, (server_mac(talk.server), talk.inner.dst), t.exceeded, [0; 4], &down);
    sim.expect(&nothing().and("drop.ttl_exceeded", 2).and("icmp_sent", 2));
}

#[test]
fn a_ttl_that_ends_here_is_told() {
    both_families!(ttl_ends);
}

fn too_big<A: Net>() {
    let t = types::<A>();
    let mut sim = Sim::quiet(World { mtu: [1500, 1350], ..World::default() });
    let talk = Talk::<A>::established(&mut sim, 5, 500);
    let headers = if A::IS_V6 { 60 } else { 40 };
    let data = vec![5; 1500];
    let counted = talk.up(&mut sim, segment(true, ACK, 1, 1, &data[..1350 - headers]));
    sim.expect(&counted);
    let up = talk.client_sends(&segment(true, ACK, 1, 1, &data[..1351 - headers])).bytes();
    let sent = sim.rx_one(FRONT, &up);
    assert_error(&sent, FRONT, (ROUTER, talk.outer.src), t.too_big, mtu(1350), &up);
    let counted = packet(Direction::Inbound, up.len());
    sim.expect(&counted.and("icmp_sent", 1).and("drop.packet_too_big", 1));
}

#[test]
fn a_packet_too_big_is_told() {
    both_families!(too_big);
}
