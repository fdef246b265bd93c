//! What changes in a packet: with TOA off addresses, ports, TTL and checksums; with TOA on the client's address travels, on
//! the segments it should and no others.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::flow::Direction;
use fullnat::id::Proto;
use fullnat::reason::DropReason;
use fullnat::wire::TcpFlags;
use fullnat::wire::testing::{Build, verify};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::books::{drop_of, packet};
use crate::both_families;
use crate::sim::{Sim, assert_right};
use crate::talk::{CLIENT_ISN, SERVER_ISN, Talk, segment, syn};
use crate::world::{FRONT, Net, World};

const ACK: TcpFlags = TcpFlags::ACK;
const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | ACK.0);
const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | ACK.0);
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

fn with_toa() -> World {
    World { toa: true, ..World::default() }
}

/// The option for the talk's client.
fn option<A: Net>(talk: &Talk<A>) -> Vec<u8> {
    let mut option = vec![254, 4 + A::LEN as u8];
    option.extend_from_slice(&talk.outer.sport.to_be_bytes());
    option.resize(4 + A::LEN, 0);
    talk.outer.src.write(&mut option[4..]);
    option
}

/// The client sends `shape` with `options`; the server must get it with `expected` ones.
#[track_caller]
fn up_as<A: Net>(sim: &mut Sim, talk: &Talk<A>, shape: impl Fn(Build<A>) -> Build<A>, options: &[u8], expected: &[u8]) {
    let bytes = talk.client_sends(&shape).options(options).bytes();
    let sent = sim.rx_one(FRONT, &bytes);
    assert_right(&sent.bytes);
    let expected = talk.server_gets(sim, &shape).options(expected).bytes();
    assert_eq!((sent.iface, sent.bytes), (sim.world.back(), expected));
}

/// As [`up_as`], and the option is put in front of the others.
#[track_caller]
fn up_with_toa<A: Net>(sim: &mut Sim, talk: &Talk<A>, shape: impl Fn(Build<A>) -> Build<A>, options: &[u8]) {
    let len = talk.client_sends(&shape).options(options).bytes().len();
    sim.changed();
    up_as(sim, talk, shape, options, &[&option(talk)[..], options].concat());
    let mut change = sim.changed();
    change.remove("handshakes");
    assert_eq!(&change, packet(Direction::Inbound, len).and("toa_added", 1).books());
}

/// A handshake up to the server's SYN-ACK.
fn half_open<A: Net>(sim: &mut Sim) -> Talk<A> {
    let (talk, opened) = Talk::<A>::open(sim, Proto::Tcp, 3, 51_000);
    // On the SYN there is nothing of it: `open` compared every byte.
    sim.expect(&opened);
    let mss = |n: u16| [&[2, 4][..], &n.to_be_bytes(), &[1, 3, 3, 7]].concat();
    let shape = segment(false, SYN_ACK, 0, 1, b"");
    let bytes = talk.server_sends(sim, &shape).options(&mss(1460)).bytes();
    let sent = sim.rx_one(sim.world.back(), &bytes);
    let lowered = 1460 - if A::IS_V6 { 20 } else { 8 };
    assert_right(&sent.bytes);
    assert_eq!(sent.bytes, talk.client_gets(&shape).options(&mss(lowered)).bytes());
    sim.expect(&packet(Direction::Outbound, bytes.len()));
    talk
}

fn mss_without_toa<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let (talk, _) = Talk::<A>::open(&mut sim, Proto::Tcp, 3, 3);
    talk.down(&mut sim, |b| segment(false, SYN_ACK, 0, 1, b"")(b).options(&[2, 4, 5, 0xb4, 1, 3, 3, 7]));
}

#[test]
fn without_toa_the_server_s_mss_stays() {
    both_families!(mss_without_toa);
}

fn until_acknowledged<A: Net>() {
    let mut sim = Sim::quiet(with_toa());
    let talk = half_open::<A>(&mut sim);
    // The SYN once more, after the SYN-ACK.
    let counted = talk.up(&mut sim, syn);
    sim.expect(&counted);
    up_with_toa(&mut sim, &talk, segment(true, ACK, 1, 1, b""), &TIMESTAMPS);
    up_with_toa(&mut sim, &talk, segment(true, ACK, 1, 1, b"GET /"), &TIMESTAMPS);
    up_with_toa(&mut sim, &talk, segment(true, TcpFlags(ACK.0 | TcpFlags::PSH.0), 6, 1, b" HTTP/1.1"), &[]);
    // Nothing of it towards the client.
    talk.down(&mut sim, segment(false, ACK, 1, 1, b""));
    talk.down(&mut sim, segment(false, ACK, 1, 1, b"HTTP/1.1 200"));
    // A segment that crossed the server's data.
    up_with_toa(&mut sim, &talk, segment(true, ACK, 15, 1, b"\r\n"), &TIMESTAMPS);
    talk.up(&mut sim, segment(true, ACK, 17, 13, b""));
    talk.up(&mut sim, segment(true, ACK, 17, 13, b"next"));
    // An old duplicate does not bring it back.
    talk.up(&mut sim, segment(true, ACK, 15, 1, b"\r\n"));
    talk.up(&mut sim, segment(true, FIN_ACK, 21, 13, b""));
    assert_eq!(sim.changed().get("toa_added"), None);
}

fn until_the_server_acknowledges<A: Net>() {
    let mut sim = Sim::quiet(with_toa());
    let talk = half_open::<A>(&mut sim);
    up_with_toa(&mut sim, &talk, segment(true, ACK, 1, 1, b""), &TIMESTAMPS);
    up_with_toa(&mut sim, &talk, segment(true, ACK, 1, 1, b"an upload"), &TIMESTAMPS);
    talk.down(&mut sim, segment(false, ACK, 1, 1, b""));
    up_with_toa(&mut sim, &talk, segment(true, ACK, 10, 1, b" to a server"), &TIMESTAMPS);
    talk.down(&mut sim, segment(false, ACK, 1, 10, b""));
    talk.up(&mut sim, segment(true, ACK, 22, 1, b" that says nothing"));
    assert_eq!(sim.changed().get("toa_added"), None);
}

#[test]
fn the_option_travels_until_the_server_acknowledged_data() {
    both_families!(until_the_server_acknowledges);
}

#[test]
fn the_option_travels_until_the_client_acknowledged_data() {
    both_families!(until_acknowledged);
}

fn never_on_resets<A: Net>() {
    let mut sim = Sim::quiet(with_toa());
    let talk = half_open::<A>(&mut sim);
    talk.up(&mut sim, |b| b.flags(TcpFlags::RST).seq(CLIENT_ISN.wrapping_add(1)));
    assert_eq!(sim.changed().get("toa_added"), None);

    let mut sim = Sim::quiet(with_toa());
    let talk = half_open::<A>(&mut sim);
    up_with_toa(&mut sim, &talk, segment(true, ACK, 1, 1, b""), &[]);
    talk.up(&mut sim, |b| {
        b.flags(TcpFlags(TcpFlags::RST.0 | ACK.0)).seq(CLIENT_ISN.wrapping_add(1)).ack(SERVER_ISN + 1)
    });
    talk.down(&mut sim, |b| b.flags(TcpFlags::RST).seq(SERVER_ISN.wrapping_add(1)));
    assert_eq!(sim.changed().get("toa_added"), None);
}

#[test]
fn never_on_a_reset() {
    both_families!(never_on_resets);
}

fn forged<A: Net>() {
    let forged = [1, 1, 254, 8, 0, 80, 10, 0, 0, 1, 1, 1];
    let gone = [1; 12];
    for toa in [false, true] {
        let mut sim = Sim::quiet(World { toa, ..World::default() });
        let (talk, _) = Talk::<A>::open(&mut sim, Proto::Tcp, 1, 1);
        sim.changed();
        // On a SYN too.
        up_as(&mut sim, &talk, |b| syn(b), &forged, &gone);
        assert_eq!(sim.changed().get("toa_stripped"), Some(&1));
        let shape = segment(false, SYN_ACK, 0, 1, b"");
        let server_sends = talk.server_sends(&sim, &shape).bytes();
        sim.rx_one(sim.world.back(), &server_sends);
        let expected = if toa { [&option(&talk)[..], &gone].concat() } else { gone.to_vec() };
        for (shape, expected) in
            [(segment(true, ACK, 1, 1, b"x"), &expected[..]), (segment(true, TcpFlags::RST, 1, 1, b""), &gone[..])]
        {
            sim.changed();
            up_as(&mut sim, &talk, shape, &forged, expected);
            assert_eq!(sim.changed().get("toa_stripped"), Some(&1));
        }
        // A server may say what it likes.
        let shape = segment(false, ACK, 1, 2, b"");
        let server_sends = talk.server_sends(&sim, &shape).options(&forged).bytes();
        let sent = sim.rx_one(sim.world.back(), &server_sends);
        assert_eq!(sent.bytes, talk.client_gets(&shape).options(&forged).bytes());
    }
}

#[test]
fn a_client_s_own_option_never_passes() {
    both_families!(forged);
}

fn no_room<A: Net>() {
    let mut sim = Sim::quiet(with_toa());
    let talk = half_open::<A>(&mut sim);
    // Real options only: more than the 40 bytes leave.
    let full = [&[5, 34][..], &[7; 32], &[8, 6, 0, 0, 0, 0]].concat();
    let shape = segment(true, ACK, 1, 1, b"data");
    up_as(&mut sim, &talk, &shape, &full, &full);
    let counted = packet(Direction::Inbound, talk.client_sends(&shape).options(&full).bytes().len());
    sim.expect(&counted.and("handshakes", 1).and("toa_no_room", 1));
    // What is left and filled by NOPs makes room.
    let padded = [1; 40];
    let mut expected = option(&talk);
    expected.resize(40, 1);
    up_as(&mut sim, &talk, &shape, &padded, &expected);
    assert_eq!(sim.changed().get("toa_added"), Some(&1));
}

#[test]
fn options_without_room_go_without_it() {
    both_families!(no_room);
}

fn over_mtu<A: Net>() {
    let mtu = 1400;
    let mut sim = Sim::quiet(World { mtu: [1500, mtu], ..with_toa() });
    let talk = half_open::<A>(&mut sim);
    let headers = if A::IS_V6 { 60 } else { 40 };
    let room = usize::from(mtu) - headers;
    let data = vec![7; room];
    let fits = room - option(&talk).len();
    up_as(&mut sim, &talk, segment(true, ACK, 1, 1, &data[..fits + 1]), &[], &[]);
    let counted = packet(Direction::Inbound, 14 + headers + fits + 1);
    sim.expect(&counted.and("handshakes", 1).and("toa_over_mtu", 1));
    up_with_toa(&mut sim, &talk, segment(true, ACK, 1, 1, &data[..fits]), &[]);
    up_as(&mut sim, &talk, segment(true, ACK, 1, 1, &data[..room]), &[], &[]);
    assert_eq!(sim.changed().get("toa_over_mtu"), Some(&1));
    let too_big = talk.client_sends(&segment(true, ACK, 1, 1, &[7; 1500][..room + 1])).bytes();
    let sent = sim.rx_one(FRONT, &too_big);
    assert_eq!(sent.iface, FRONT);
    assert_right(&sent.bytes);
    let counted = packet(Direction::Inbound, too_big.len()).and("icmp_sent", 1);
    sim.expect(&counted.and("drop.packet_too_big", 1));
}

#[test]
fn segments_near_the_mtu_go_without_it() {
    both_families!(over_mtu);
}

fn udp_has_none<A: Net>() {
    let mut sim = Sim::quiet(with_toa());
    let (talk, _) = Talk::<A>::open(&mut sim, Proto::Udp, 1, 1);
    talk.up(&mut sim, |b| b.payload(b"more"));
    talk.down(&mut sim, |b| b.payload(b"answer"));
    assert!(sim.changed().keys().all(|name| !name.starts_with("toa")));
}

#[test]
fn datagrams_have_none() {
    both_families!(udp_has_none);
}

/// Options as real ends send them: any but 254, closed by nothing but padding.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        Just(vec![2, 4, 5, 0xb4]),
        Just(vec![4, 2]),
        any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        any::<[u8; 8]>().prop_map(|stamps| [&[8, 10], &stamps[..]].concat()),
        (9u8..250, vec(any::<u8>(), 0..12))
            .prop_map(|(kind, data)| [&[kind, data.len() as u8 + 2], &data[..]].concat()),
    ];
    vec(option, 0..6).prop_map(|options| {
        options.into_iter().fold(Vec::new(), |list: Vec<u8>, option| {
            if list.len() + option.len() <= 40 { [list, option].concat() } else { list }
        })
    })
}

/// One packet of a session: direction, flags, numbers, options, payload, padding, TTL, checksum error.
type Shape = (bool, u8, (u32, u32, u16), Vec<u8>, Vec<u8>, (usize, u8, u16, bool));

fn shape() -> impl Strategy<Value = Shape> {
    // Neither SYN nor RST, so that the session stays what it is; those are in the other tests.
    let flags = any::<u8>().prop_map(|flags| flags & !(TcpFlags::SYN.0 | TcpFlags::RST.0));
    let error = prop_oneof![3 => Just(0), 1 => any::<u16>()];
    let last = (0usize..20, 2u8.., error, prop::bool::weighted(0.2));
    (any::<bool>(), flags, any::<(u32, u32, u16)>(), options(), vec(any::<u8>(), 0..200), last)
}

/// Sends the packets through a session and compares with what frames built from scratch would be.
fn only_these_fields<A: Net>(proto: Proto, shapes: &[Shape]) {
    let mut sim = Sim::quiet(World::default());
    let talk = match proto {
        Proto::Tcp => Talk::<A>::established(&mut sim, 9, 9999),
        Proto::Udp => Talk::<A>::open(&mut sim, proto, 9, 9999).0,
    };
    for (up, flags, (seq, ack, window), options, payload, (padding, ttl, error, unsummed)) in shapes {
        let shape = |ttl: u8| {
            move |b: Build<A>| {
                let b = b.flags(TcpFlags(*flags)).seq(*seq).ack(*ack).window(*window).options(options).payload(payload);
                let b = b.padding(*padding).ttl(ttl).checksum_error(*error);
                if *unsummed && proto == Proto::Udp { b.no_checksum() } else { b }
            }
        };
        let (iface, came, to, expected) = if *up {
            (FRONT, talk.client_sends(&shape(*ttl)), sim.world.back(), talk.server_gets(&sim, &shape(*ttl)))
        } else {
            (sim.world.back(), talk.server_sends(&sim, &shape(*ttl)), FRONT, talk.client_gets(&shape(*ttl)))
        };
        let (came, expected) = (came.bytes(), expected.ttl(ttl - 1).bytes());
        sim.changed();
        let sent = sim.rx_one(iface, &came);
        assert_eq!(sent.iface, to);
        assert_eq!(verify(&sent.bytes), verify(&came), "as wrong as it came");
        if *error == 0 {
            assert_eq!(sent.bytes, expected);
        } else {
            assert_eq!(without_checksum::<A>(&sent.bytes, proto), without_checksum::<A>(&expected, proto));
        }
        let direction = if *up { Direction::Inbound } else { Direction::Outbound };
        sim.expect(&packet(direction, came.len()));
    }
}

/// The frame with its TCP or UDP checksum zeroed.
fn without_checksum<A: Net>(frame: &[u8], proto: Proto) -> Vec<u8> {
    let at = 14 + if A::IS_V6 { 40 } else { 20 } + if proto == Proto::Tcp { 16 } else { 6 };
    let mut frame = frame.to_vec();
    frame[at..at + 2].fill(0);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn without_toa_only_addresses_ports_ttl_and_checksums_change(shapes in vec(shape(), 1..24)) {
        for proto in [Proto::Tcp, Proto::Udp] {
            only_these_fields::<Ipv4Addr>(proto, &shapes);
            only_these_fields::<Ipv6Addr>(proto, &shapes);
        }
    }
}

#[test]
fn a_corrupt_first_packet_goes_on_corrupt() {
    fn corrupt<A: Net>() {
        let mut sim = Sim::quiet(World::default());
        let bytes = syn(crate::talk::from_router::<A>(crate::talk::outer(Proto::Tcp, 1, 1))).checksum_error(77).bytes();
        let sent = sim.rx_one(FRONT, &bytes);
        assert!(verify(&sent.bytes).is_err());
    }
    both_families!(corrupt);
}

#[test]
fn a_truncated_frame_is_counted_as_that() {
    let mut sim = Sim::quiet(World::default());
    let bytes = syn(crate::talk::from_router::<Ipv4Addr>(crate::talk::outer(Proto::Tcp, 1, 1))).bytes();
    assert_eq!(sim.rx(FRONT, &bytes[..33]), []);
    sim.changed();
    assert_eq!(sim.rx(FRONT, &bytes[..40]), []);
    sim.expect(&drop_of(DropReason::Truncated));
}
