use super::*;
use crate::wire::icmp::{Message, message};
use crate::wire::strategies::{self, View};
use crate::wire::testing::{self, Build, flow as key, icmp as icmp_frame, plain_sum, verify};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Type and code of the errors there are.
fn errors<A: Addr>() -> Vec<(u8, u8)> {
    if A::IS_V6 {
        vec![(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)]
    } else {
        vec![(3, 1), (3, 3), (3, 4), (4, 0), (11, 0), (12, 0)]
    }
}

/// The IP packet of a frame, cut to `len` bytes behind its IP header.
fn quoted<A: Addr>(frame: &[u8], len: usize) -> Vec<u8> {
    let ip = &frame[14..];
    let header = if A::IS_V6 { 40 } else { 20 };
    ip[..ip.len().min(header + len)].to_vec()
}

fn read<A: View>(frame: &[u8]) -> Result<Quote<A>, DropReason> {
    match message(frame, &A::icmp_view(frame)) {
        Ok(Message::Error(quote)) => Ok(quote),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => Err(reason),
    }
}

#[test]
fn tells_messages_apart() {
    let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let what = |kind| {
        let frame = icmp_frame(a, b, 64, (kind, 0), [0; 4], &[]);
        message(&frame, &Ipv4Addr::icmp_view(&frame))
    };
    assert_eq!(what(8), Ok(Message::EchoRequest));
    assert_eq!(what(0), Ok(Message::EchoReply));
    assert_eq!(what(13), Ok(Message::Other));
    assert_eq!(what(5), Ok(Message::Other), "nobody redirects us");
    assert_eq!(what(135), Ok(Message::Other));
    assert_eq!(what(3), Err(DropReason::Truncated));

    let (a, b): (Ipv6Addr, Ipv6Addr) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
    let what = |kind| {
        let frame = icmp_frame(a, b, 64, (kind, 0), [0; 4], &[]);
        message(&frame, &Ipv6Addr::icmp_view(&frame))
    };
    assert_eq!(what(128), Ok(Message::EchoRequest));
    assert_eq!(what(129), Ok(Message::EchoReply));
    assert_eq!(what(135), Ok(Message::Neighbor));
    assert_eq!(what(136), Ok(Message::Neighbor));
    assert_eq!(what(134), Ok(Message::Other));
    assert_eq!(what(8), Ok(Message::Other));
    assert_eq!(what(1), Err(DropReason::Truncated));
}

#[test]
fn reads_the_mtu() {
    let segment = Build::new(key::<Ipv4Addr>("10.0.0.1:2000", "10.0.1.1:80", Proto::Tcp)).seq(7).bytes();
    let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 0, 1));
    let quote = |kinds, rest| read::<Ipv4Addr>(&icmp_frame(a, b, 64, kinds, rest, &quoted::<Ipv4Addr>(&segment, 8)));
    let needed = quote((3, 4), [0, 0, 5, 0xd4]).unwrap();
    assert_eq!(needed.key, key("10.0.0.1:2000", "10.0.1.1:80", Proto::Tcp));
    assert_eq!((needed.seq, needed.mtu, needed.l3, needed.l4), (7, Some(1492), 42, 62));
    assert_eq!(quote((3, 4), [0; 4]).unwrap().mtu, Some(0));
    assert_eq!(quote((3, 3), [0, 0, 5, 0xd4]).unwrap().mtu, None);

    let datagram = Build::new(key::<Ipv6Addr>("[fd00::1]:2000", "[fd00::2]:53", Proto::Udp)).bytes();
    let (a, b): (Ipv6Addr, Ipv6Addr) = ("fd00::9".parse().unwrap(), "fd00::1".parse().unwrap());
    let quote = |kinds, rest| read::<Ipv6Addr>(&icmp_frame(a, b, 64, kinds, rest, &quoted::<Ipv6Addr>(&datagram, 8)));
    let too_big = quote((2, 0), [0, 0, 5, 0]).unwrap();
    assert_eq!(too_big.key, key("[fd00::1]:2000", "[fd00::2]:53", Proto::Udp));
    assert_eq!((too_big.seq, too_big.mtu, too_big.l3, too_big.l4), (0, Some(1280), 62, 102));
    assert_eq!(quote((2, 0), [0, 1, 0, 0]).unwrap().mtu, Some(u16::MAX));
}

#[test]
fn says_why_a_quote_cannot_be_used() {
    let segment = Build::new(key::<Ipv4Addr>("10.0.0.1:2000", "10.0.1.1:80", Proto::Tcp)).bytes();
    let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 0, 1));
    let with = |change: fn(&mut Vec<u8>)| {
        let mut body = quoted::<Ipv4Addr>(&segment, 8);
        change(&mut body);
        read::<Ipv4Addr>(&icmp_frame(a, b, 64, (3, 1), [0; 4], &body)).map(|quote| quote.l4)
    };
    assert_eq!(with(|_| ()), Ok(62));
    assert_eq!(with(|ip| ip.truncate(27)), Err(DropReason::Truncated));
    assert_eq!(with(|ip| ip.truncate(19)), Err(DropReason::Truncated));
    assert_eq!(with(|ip| ip[0] = 0x65), Err(DropReason::BadIpHeader));
    assert_eq!(with(|ip| ip[0] = 0x44), Err(DropReason::BadIpHeader));
    assert_eq!(with(|ip| ip[0] = 0x46), Err(DropReason::Truncated), "ports would lie behind the options");
    assert_eq!(
        with(|ip| {
            ip[0] = 0x46;
            ip.extend_from_slice(&[0; 4])
        }),
        Ok(66)
    );
    assert_eq!(with(|ip| ip[7] = 1), Err(DropReason::Fragment));
    assert_eq!(with(|ip| ip[6] = 0x20), Ok(62), "a first fragment has ports");
    assert_eq!(with(|ip| ip[9] = 1), Err(DropReason::Protocol));

    let datagram = Build::new(key::<Ipv6Addr>("[fd00::1]:2000", "[fd00::2]:53", Proto::Udp)).bytes();
    let (a, b): (Ipv6Addr, Ipv6Addr) = ("fd00::9".parse().unwrap(), "fd00::1".parse().unwrap());
    let with = |change: fn(&mut Vec<u8>)| {
        let mut body = quoted::<Ipv6Addr>(&datagram, 8);
        change(&mut body);
        read::<Ipv6Addr>(&icmp_frame(a, b, 64, (1, 0), [0; 4], &body)).map(|quote| quote.l4)
    };
    assert_eq!(with(|_| ()), Ok(102));
    assert_eq!(with(|ip| ip.truncate(47)), Err(DropReason::Truncated));
    assert_eq!(with(|ip| ip[0] = 0x45), Err(DropReason::BadIpHeader));
    assert_eq!(with(|ip| ip[6] = 44), Err(DropReason::Fragment));
    assert_eq!(with(|ip| ip[6] = 58), Err(DropReason::Protocol));
}

#[test]
fn lowers_the_mtu_but_not_too_far() {
    fn lowered<A: View>(kinds: (u8, u8), key: FlowKey<A>, rest: [u8; 4], by: u16) -> [u8; 4] {
        let body = quoted::<A>(&Build::new(key).bytes(), 8);
        let mut frame = icmp_frame(key.dst, key.src, 64, kinds, rest, &body);
        let packet = A::icmp_view(&frame);
        let quote = read(&frame).unwrap();
        translate(&mut frame, &packet, &quote, (key.dst, key.src), &key, by);
        assert_eq!(verify(&frame), Ok(()));
        frame[usize::from(packet.l4) + 4..][..4].try_into().unwrap()
    }
    let v4 = key("10.0.0.1:2000", "10.0.1.1:80", Proto::Tcp);
    assert_eq!(lowered::<Ipv4Addr>((3, 4), v4, [0, 9, 5, 0xdc], 8), [0, 9, 5, 0xd4]);
    assert_eq!(lowered::<Ipv4Addr>((3, 4), v4, [0, 0, 0, 70], 8), [0, 0, 0, 68]);
    assert_eq!(lowered::<Ipv4Addr>((3, 4), v4, [0; 4], 8), [0; 4]);
    assert_eq!(lowered::<Ipv4Addr>((3, 1), v4, [0, 0, 5, 0xdc], 8), [0, 0, 5, 0xdc]);
    let v6 = key("[fd00::1]:2000", "[fd00::2]:53", Proto::Tcp);
    assert_eq!(lowered::<Ipv6Addr>((2, 0), v6, [0, 0, 5, 0xdc], 20), [0, 0, 5, 0xc8]);
    assert_eq!(lowered::<Ipv6Addr>((2, 0), v6, [0, 0, 5, 4], 20), [0, 0, 5, 0]);
    assert_eq!(lowered::<Ipv6Addr>((2, 0), v6, [0, 1, 5, 4], 20), [0, 1, 5, 4]);
}

/// Translates an error about a packet with the key `about` into one about `inner`, checks it against one made from
/// scratch, and translates it back.
fn there_and_back<A: View>(
    about: &Build<A>,
    inner: FlowKey<A>,
    [from, to, new_from, new_to]: [A; 4],
    kinds: (u8, u8),
    cut: usize,
) {
    let offender = about.bytes();
    let original = icmp_frame(from, to, 64, kinds, [0, 0, 0x10, 0], &quoted::<A>(&offender, cut));
    let packet = A::icmp_view(&original);
    let quote = read::<A>(&original).unwrap();
    let inner = FlowKey { proto: quote.key.proto, ..inner };

    let mut frame = original.clone();
    translate(&mut frame, &packet, &quote, (new_from, new_to), &inner, 0);
    assert_eq!(verify(&frame), Ok(()), "the error's own checksums");
    // The quoted packet is what its sender would have sent: the same rewrite applied to the packet itself.
    let mut sent = offender.clone();
    let flow = A::view(&sent);
    let rewrite = crate::flow::Rewrite {
        src: inner.src,
        dst: inner.dst,
        sport: inner.sport,
        dport: inner.dport,
        nexthop: crate::id::NexthopId(0),
    };
    rewrite::apply(&mut sent, &flow, &rewrite);
    let mut want = quoted::<A>(&sent, cut);
    let mut got = frame[usize::from(quote.l3)..].to_vec();
    for ip in [&mut want, &mut got] {
        if A::IS_V6 {
            ip[7] = 0; // rewriting took one off the hop limit
        } else {
            ip[8] = 0;
            ip[10..12].fill(0);
        }
    }
    assert_eq!(got, want);

    let back_packet = A::icmp_view(&frame);
    let back_quote = read::<A>(&frame).unwrap();
    assert_eq!((back_packet.ttl, back_quote.key, back_quote.seq), (63, inner, quote.seq));
    translate(&mut frame, &back_packet, &back_quote, (from, to), &quote.key, 0);
    let mut want = original;
    if A::IS_V6 {
        want[21] -= 2;
    } else {
        want[22] -= 2;
        want[24..26].fill(0);
        let check = !plain_sum(&want[14..34]);
        want[24..26].copy_from_slice(&check.to_be_bytes());
    }
    // A quoted TCP checksum of 0xffff comes back as 0x0000, which the error's checksum cannot tell apart.
    let check_at = usize::from(quote.l4) + tcp::CHECKSUM;
    if quote.key.proto == Proto::Tcp && want.get(check_at..check_at + 2) == Some(&[0xff, 0xff]) {
        want[check_at..check_at + 2].fill(0);
    }
    assert_eq!(frame, want);
}

fn addresses<A: View>() -> impl Strategy<Value = [A; 4]> {
    (A::address(), A::address(), A::address(), A::address()).prop_map(|(a, b, c, d)| [a, b, c, d])
}

/// How much a router quotes. Not 17 bytes: half a TCP checksum is no use to anybody, and stays as it is.
fn cuts() -> impl Strategy<Value = usize> {
    prop_oneof![Just(8), 8usize..17, 18usize..100]
}

proptest! {
    #[test]
    fn translates_v4_there_and_back(
        about in strategies::packet::<Ipv4Addr>(), inner in strategies::key::<Ipv4Addr>(), outer in addresses(),
        kinds in prop::sample::select(errors::<Ipv4Addr>()), cut in cuts(),
    ) {
        there_and_back(&about, inner, outer, kinds, cut);
    }

    #[test]
    fn translates_v6_there_and_back(
        about in strategies::packet::<Ipv6Addr>(), inner in strategies::key::<Ipv6Addr>(), outer in addresses(),
        kinds in prop::sample::select(errors::<Ipv6Addr>()), cut in cuts(),
    ) {
        there_and_back(&about, inner, outer, kinds, cut);
    }

    #[test]
    fn survives_noise(
        kinds in prop::sample::select(errors::<Ipv4Addr>()), kinds6 in prop::sample::select(errors::<Ipv6Addr>()),
        mut body in proptest::collection::vec(any::<u8>(), 0..80), rest: [u8; 4], key in strategies::key::<Ipv4Addr>(),
        key6 in strategies::key::<Ipv6Addr>(), proto in prop::sample::select(vec![6u8, 17]),
    ) {
        noise(icmp_frame(key.src, key.dst, 9, kinds, rest, &body), key);
        noise(icmp_frame(key6.src, key6.dst, 9, kinds6, rest, &body), key6);
        if body.len() > 10 {
            body[0] = 0x40 | (body[0] & 0xf);
            body[6..8].fill(0);
            body[9] = proto;
            noise(icmp_frame(key.src, key.dst, 9, kinds, rest, &body), key);
            body[0] = 0x60;
            body[6] = proto;
            noise(icmp_frame(key6.src, key6.dst, 9, kinds6, rest, &body), key6);
        }
    }
}

fn noise<A: View>(mut frame: Vec<u8>, key: FlowKey<A>) {
    let packet = A::icmp_view(&frame);
    if let Ok(Message::Error(quote)) = message(&frame, &packet) {
        translate(&mut frame, &packet, &quote, (key.dst, key.src), &key, 20);
        assert_eq!(testing::verify(&frame), Ok(()));
    }
}
