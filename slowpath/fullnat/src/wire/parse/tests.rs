use super::*;
use crate::wire::strategies::{self, View};
use crate::wire::testing::{Build, flow as key, icmp as icmp_frame, ip_frame, plain_sum};
use proptest::prelude::*;

const MACS: (crate::wire::Mac, crate::wire::Mac) = (crate::wire::testing::DST_MAC, crate::wire::testing::SRC_MAC);

fn v4() -> Build<Ipv4Addr> {
    Build::new(key("192.0.2.1:1000", "198.51.100.1:80", Proto::Tcp))
}

fn v6() -> Build<Ipv6Addr> {
    Build::new(key("[2001:db8::1]:1000", "[2001:db8::2]:53", Proto::Udp))
}

/// Parses a frame in both ways there are, which must agree.
fn parse(frame: &[u8]) -> Result<Packet, DropReason> {
    let packet = super::parse(frame);
    let (v4, v6) = match packet {
        Ok(Packet::V4(flow)) => (Some(flow), None),
        Ok(Packet::V6(flow)) => (None, Some(flow)),
        _ => (None, None),
    };
    assert_eq!((flow_v4(frame), flow_v6(frame)), (v4, v6), "{frame:02x?}");
    packet
}

/// A v4 frame with bytes of its IP header changed and the header checksum right again.
fn v4_with(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut frame = v4().payload(b"some payload").bytes();
    change(&mut frame[14..]);
    frame[24..26].fill(0);
    let check = !plain_sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    frame
}

fn v6_with(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut frame = v6().payload(b"some payload").bytes();
    change(&mut frame[14..]);
    frame
}

#[test]
fn views_are_small() {
    assert!(size_of::<Flow<Ipv4Addr>>() <= 24);
    assert!(size_of::<Flow<Ipv6Addr>>() <= 48);
    assert!(size_of::<Result<Packet, DropReason>>() <= 52);
}

#[test]
fn reads_a_segment() {
    let frame = v4().ttl(9).flags(TcpFlags::SYN).options(&[2, 4, 5, 0xb4]).payload(b"abc").padding(3).bytes();
    let flow = Flow {
        key: key("192.0.2.1:1000", "198.51.100.1:80", Proto::Tcp),
        payload: 58,
        end: 61,
        ttl: 9,
        flags: TcpFlags::SYN,
    };
    assert_eq!(parse(&frame), Ok(Packet::V4(flow)));
    assert_eq!((flow.payload_len(), flow.ip_len()), (3, 47));
    let segment = tcp::segment(&frame, &flow);
    assert_eq!((segment.seq, segment.ack, segment.window, segment.seq_len()), (1, 1, 0xffff, 4));
}

#[test]
fn reads_a_datagram() {
    let frame = v6().ttl(3).payload(b"abc").bytes();
    let flow = Flow {
        key: key("[2001:db8::1]:1000", "[2001:db8::2]:53", Proto::Udp),
        payload: 62,
        end: 65,
        ttl: 3,
        flags: TcpFlags::NONE,
    };
    assert_eq!(parse(&frame), Ok(Packet::V6(flow)));
}

#[test]
fn reads_icmp() {
    let (src, dst) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let frame = icmp_frame(src, dst, 64, (8, 0), [0, 1, 0, 2], b"ping");
    let packet = IcmpPacket { src, dst, l4: 34, end: 46, ttl: 64, kind: 8, code: 0 };
    assert_eq!(parse(&frame), Ok(Packet::Icmp4(packet)));
}

#[test]
fn says_why_not_v4() {
    use DropReason::*;
    let cases: [(&str, DropReason, Vec<u8>); 17] = [
        ("version", BadIpHeader, v4_with(|ip| ip[0] = 0x55)),
        ("short header", BadIpHeader, v4_with(|ip| ip[0] = 0x44)),
        ("options", IpOptions, v4_with(|ip| ip[0] = 0x46)),
        ("checksum", BadIpChecksum, {
            let mut frame = v4().bytes();
            frame[24] ^= 1;
            frame
        }),
        ("total length under the header", BadIpHeader, v4_with(|ip| ip[2..4].copy_from_slice(&[0, 19]))),
        ("total length over the frame", Truncated, v4_with(|ip| ip[2..4].copy_from_slice(&[0, 53]))),
        ("first fragment", Fragment, v4_with(|ip| ip[6..8].copy_from_slice(&[0x20, 0]))),
        ("later fragment", Fragment, v4_with(|ip| ip[6..8].copy_from_slice(&[0, 1]))),
        ("multicast source", BadAddress, v4_with(|ip| ip[12..16].copy_from_slice(&[224, 0, 0, 1]))),
        ("broadcast source", BadAddress, v4_with(|ip| ip[12..16].fill(255))),
        ("no source", BadAddress, v4_with(|ip| ip[12..16].fill(0))),
        ("loopback destination", BadAddress, v4_with(|ip| ip[16] = 127)),
        ("multicast destination", BadAddress, v4_with(|ip| ip[16] = 239)),
        ("GRE", Protocol, v4_with(|ip| ip[9] = 47)),
        ("short data offset", BadL4Header, v4_with(|ip| ip[32] = 0x40)),
        ("long data offset", BadL4Header, v4_with(|ip| ip[32] = 0x90)),
        ("no room for TCP", BadL4Header, v4_with(|ip| ip[2..4].copy_from_slice(&[0, 39]))),
    ];
    for (case, reason, frame) in cases {
        assert_eq!(parse(&frame), Err(reason), "{case}");
    }
    assert!(parse(&v4_with(|ip| ip[6] = 0x80)).is_ok(), "the reserved flag is nobody's business");
    assert!(parse(&v4_with(|ip| ip[6] = 0x40)).is_ok());
}

#[test]
fn says_why_not_v6() {
    use DropReason::*;
    let cases: [(&str, DropReason, Vec<u8>); 13] = [
        ("version", BadIpHeader, v6_with(|ip| ip[0] = 0x50)),
        ("payload length over the frame", Truncated, v6_with(|ip| ip[5] = 21)),
        ("fragment", Fragment, v6_with(|ip| ip[6] = 44)),
        ("hop-by-hop", IpOptions, v6_with(|ip| ip[6] = 0)),
        ("routing", IpOptions, v6_with(|ip| ip[6] = 43)),
        ("destination options", IpOptions, v6_with(|ip| ip[6] = 60)),
        ("nothing", Protocol, v6_with(|ip| ip[6] = 59)),
        ("multicast source", BadAddress, v6_with(|ip| ip[8] = 0xff)),
        ("loopback source", BadAddress, v6_with(|ip| ip[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets()))),
        ("no destination", BadAddress, v6_with(|ip| ip[24..40].fill(0))),
        ("multicast destination", BadAddress, v6_with(|ip| ip[24] = 0xff)),
        ("UDP length under the header", BadL4Header, v6_with(|ip| ip[44..46].copy_from_slice(&[0, 7]))),
        ("UDP length over the packet", BadL4Header, v6_with(|ip| ip[44..46].copy_from_slice(&[0, 21]))),
    ];
    for (case, reason, frame) in cases {
        assert_eq!(parse(&frame), Err(reason), "{case}");
    }
    assert!(parse(&v6_with(|ip| ip[45] = 19)).is_ok(), "UDP may leave bytes behind");
}

#[test]
fn refuses_other_ethernet() {
    let mut frame = v4().bytes();
    for (ether_type, reason) in [(0x8100u16, DropReason::EtherType), (0x88cc, DropReason::EtherType)] {
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        assert_eq!(parse(&frame), Err(reason));
    }
}

#[test]
fn only_neighbour_discovery_may_go_to_a_group() {
    let group: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
    let host: Ipv6Addr = "fe80::1".parse().unwrap();
    let kinds = |src, dst, kind| parse(&icmp_frame(src, dst, 255, (kind, 0), [0; 4], &[0; 16])).map(|_| ());
    for kind in 133..=137 {
        assert_eq!(kinds(host, group, kind), Ok(()));
    }
    assert_eq!(kinds(Ipv6Addr::UNSPECIFIED, group, 135), Ok(()));
    assert_eq!(kinds(host, group, 128), Err(DropReason::BadAddress));
    assert_eq!(kinds(group, host, 135), Err(DropReason::BadAddress));
    assert_eq!(kinds(host, Ipv6Addr::LOCALHOST, 135), Err(DropReason::BadAddress));
    assert_eq!(kinds(Ipv6Addr::LOCALHOST, group, 135), Err(DropReason::BadAddress));
}

#[test]
fn offsets_that_do_not_fit_are_refused() {
    let (src, dst) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let frame = |len: usize| ip_frame(MACS, src, dst, tcp::PROTO, 64, &[0x50; 65515][..len]);
    assert_eq!(parse(&frame(65535 - 34)).map(|_| ()), Ok(()));
    assert_eq!(parse(&frame(65535 - 33)), Err(DropReason::BadIpHeader));
}

/// What the rest of the core relies on, whatever the bytes.
fn check_view(frame: &[u8]) {
    fn offsets(frame: &[u8], l4: u16, payload: u16, end: u16) {
        assert!(l4 <= payload && payload <= end && usize::from(end) <= frame.len());
    }
    match parse(frame) {
        Ok(Packet::V4(flow)) => {
            offsets(frame, flow.l4(), flow.payload, flow.end);
            tcp::segment(frame, &flow);
        }
        Ok(Packet::V6(flow)) => {
            offsets(frame, flow.l4(), flow.payload, flow.end);
            tcp::segment(frame, &flow);
        }
        Ok(Packet::Icmp4(packet)) => {
            offsets(frame, packet.l4, packet.l4 + 8, packet.end);
            let _ = icmp::message(frame, &packet);
        }
        Ok(Packet::Icmp6(packet)) => {
            offsets(frame, packet.l4, packet.l4 + 8, packet.end);
            let _ = icmp::message(frame, &packet);
            let _ = ndp::parse(frame, &packet);
        }
        Ok(Packet::Arp(_)) | Err(_) => {}
    }
}

/// Cuts a valid frame at every length and flips bytes in it.
fn check_damaged(mut frame: Vec<u8>, flips: &[(proptest::sample::Index, u8)]) {
    for len in 0..frame.len() {
        check_view(&frame[..len]);
    }
    for (at, bits) in flips {
        *at.get_mut(&mut frame) ^= bits;
        check_view(&frame);
        // A wrong header checksum hides all that is behind it from this test.
        if frame[12..14] == [8, 0] {
            frame[24..26].fill(0);
            let check = !plain_sum(&frame[14..34]);
            frame[24..26].copy_from_slice(&check.to_be_bytes());
            check_view(&frame);
        }
    }
}

/// A frame cut anywhere inside the IP packet is not parsed.
fn check_cut<A: View>(build: &Build<A>) {
    let frame = build.bytes();
    let flow = A::view(&frame);
    for len in 0..usize::from(flow.end) {
        assert_eq!(parse(&frame[..len]), Err(DropReason::Truncated), "cut to {len}");
    }
    assert_eq!(A::view(&frame[..usize::from(flow.end)]), flow);
}

proptest! {
    #[test]
    fn survives_noise(mut frame in proptest::collection::vec(any::<u8>(), 0..128), kind in 0..4usize) {
        check_view(&frame);
        if let Some(ether_type) = frame.get_mut(12..15) {
            ether_type.copy_from_slice(&[[8, 0, 0x45], [0x86, 0xdd, 0x60], [8, 6, 0], [0x81, 0, 0]][kind]);
            check_view(&frame);
        }
    }

    #[test]
    fn survives_damage_v4(
        build in strategies::packet::<Ipv4Addr>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
    ) {
        check_damaged(build.bytes(), &flips);
    }

    #[test]
    fn survives_damage_v6(
        build in strategies::packet::<Ipv6Addr>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
    ) {
        check_damaged(build.bytes(), &flips);
    }

    #[test]
    fn refuses_what_is_cut(v4 in strategies::packet::<Ipv4Addr>(), v6 in strategies::packet::<Ipv6Addr>()) {
        check_cut(&v4);
        check_cut(&v6);
    }
}
