use super::*;
use crate::frame::HeapFrame;
use crate::wire::strategies::View;
use crate::wire::testing::{icmp, verify};
use proptest::prelude::*;

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn made(make: impl Fn(&mut HeapFrame) -> bool) -> HeapFrame {
    let mut frame = HeapFrame::new(&[0xee; 60]);
    assert!(make(&mut frame));
    assert_eq!(frame.bytes().len(), 86);
    assert_eq!(verify(frame.bytes()), Ok(()));
    frame
}

fn read(frame: &[u8]) -> Result<Neighbor, DropReason> {
    parse(frame, &Ipv6Addr::icmp_view(frame))
}

fn solicitation() -> HeapFrame {
    made(|frame| solicit(frame, None, (A, ip("2001:db8::a")), ip("2001:db8::12:3456")))
}

#[test]
fn a_solicitation_goes_to_the_targets_group() {
    let frame = solicitation();
    let (from, target) = (ip("2001:db8::a"), ip("2001:db8::12:3456"));
    assert_eq!(read(frame.bytes()), Ok(Neighbor::Solicitation { from, target, mac: Some(A) }));
    assert_eq!(ethernet::destination(frame.bytes()), Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
    assert_eq!(Ipv6Addr::icmp_view(frame.bytes()).dst, ip("ff02::1:ff12:3456"));

    let known = made(|frame| solicit(frame, Some(B), (A, from), target));
    assert_eq!(read(known.bytes()), Ok(Neighbor::Solicitation { from, target, mac: Some(A) }));
    assert_eq!((ethernet::destination(known.bytes()), Ipv6Addr::icmp_view(known.bytes()).dst), (B, target));
}

#[test]
fn a_solicitation_turns_into_its_answer() {
    let mut frame = solicitation();
    let (from, target) = (ip("2001:db8::a"), ip("2001:db8::12:3456"));
    assert!(reply(&mut frame, from, target, B));
    assert_eq!(verify(frame.bytes()), Ok(()));
    let want = Neighbor::Advertisement { target, mac: Some(B), solicited: true, replaces: true };
    assert_eq!(read(frame.bytes()), Ok(want));
    assert_eq!((ethernet::destination(frame.bytes()), ethernet::source(frame.bytes())), (A, B));
    let packet = Ipv6Addr::icmp_view(frame.bytes());
    assert_eq!((packet.src, packet.dst, packet.ttl), (target, from, 255));
}

#[test]
fn a_host_without_address_is_answered_through_the_group() {
    let target = ip("2001:db8::12:3456");
    let mut body = target.octets().to_vec();
    let probe = icmp(Ipv6Addr::UNSPECIFIED, ipv6::solicited_node(target), 255, (135, 0), [0; 4], &body);
    let want = Neighbor::Solicitation { from: Ipv6Addr::UNSPECIFIED, target, mac: None };
    assert_eq!(read(&probe), Ok(want));

    let mut frame = HeapFrame::new(&probe);
    assert!(reply(&mut frame, Ipv6Addr::UNSPECIFIED, target, B));
    let want = Neighbor::Advertisement { target, mac: Some(B), solicited: false, replaces: true };
    assert_eq!(read(frame.bytes()), Ok(want));
    assert_eq!(ethernet::destination(frame.bytes()), Mac([0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(Ipv6Addr::icmp_view(frame.bytes()).dst, ip("ff02::1"));

    // Not elsewhere than to the group, and not with a link-layer address (RFC 4861 section 7.1.1).
    let elsewhere = icmp(Ipv6Addr::UNSPECIFIED, target, 255, (135, 0), [0; 4], &body);
    assert_eq!(read(&elsewhere), Err(DropReason::BadArp));
    body.extend_from_slice(&[1, 1, 2, 0, 0, 0, 0, 0xa]);
    let told = icmp(Ipv6Addr::UNSPECIFIED, ipv6::solicited_node(target), 255, (135, 0), [0; 4], &body);
    assert_eq!(read(&told), Err(DropReason::BadArp));
}

#[test]
fn an_announcement_goes_to_all() {
    let frame = made(|frame| announce(frame, A, ip("2001:db8::a")));
    let want = Neighbor::Advertisement { target: ip("2001:db8::a"), mac: Some(A), solicited: false, replaces: true };
    assert_eq!(read(frame.bytes()), Ok(want));
    assert_eq!(ethernet::destination(frame.bytes()), Mac([0x33, 0x33, 0, 0, 0, 1]));
}

#[test]
fn says_no_to_what_rfc_4861_forbids() {
    let (from, to, target) = (ip("fe80::1"), ip("fe80::2"), ip("2001:db8::a"));
    let good = [&target.octets()[..], &[2, 1, 2, 0, 0, 0, 0, 0xa]].concat();
    let na = |ttl, code, flags: u8, dst, body: &[u8]| read(&icmp(from, dst, ttl, (136, code), [flags, 0, 0, 0], body));
    assert!(na(255, 0, 0x40, to, &good).is_ok());
    assert!(na(255, 0, 0x00, ipv6::ALL_NODES, &good).is_ok());
    assert_eq!(na(254, 0, 0x40, to, &good), Err(DropReason::BadArp), "crossed a router");
    assert_eq!(na(255, 1, 0x40, to, &good), Err(DropReason::BadArp), "code");
    assert_eq!(na(255, 0, 0x40, ipv6::ALL_NODES, &good), Err(DropReason::BadArp), "solicited, to a group");
    assert_eq!(na(255, 0, 0x40, to, &good[..15]), Err(DropReason::BadArp), "short");
    assert_eq!(na(255, 0, 0x40, to, &ipv6::ALL_NODES.octets()), Err(DropReason::BadArp), "a group as target");
    let option = |option: &[u8]| na(255, 0, 0x40, to, &[&target.octets()[..], option].concat());
    assert_eq!(option(&[14, 0, 0, 0, 0, 0, 0, 0]), Err(DropReason::BadArp), "an option without length");
    assert_eq!(option(&[14, 2, 0, 0, 0, 0, 0, 0]), Err(DropReason::BadArp), "an option that passes the end");
    assert_eq!(option(&[2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(DropReason::BadArp), "a group's address");
    assert_eq!(option(&[14]), Err(DropReason::BadArp), "half an option");
    let unknown = option(&[14, 1, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 0xb]);
    assert!(matches!(unknown, Ok(Neighbor::Advertisement { mac: Some(B), .. })), "{unknown:?}");
    let router_advertisement = icmp(from, to, 255, (134, 0), [0; 4], &good);
    assert_eq!(read(&router_advertisement), Err(DropReason::BadArp));
    let mut corrupt = icmp(from, to, 255, (136, 0), [0x40, 0, 0, 0], &good);
    corrupt[70] ^= 1;
    assert_eq!(read(&corrupt), Err(DropReason::BadArp));
}

proptest! {
    #[test]
    fn survives_noise(kind in 133u8..=137, code in 0u8..2, flags: [u8; 4], body in proptest::collection::vec(any::<u8>(), 16..64)) {
        let frame = icmp(ip("fe80::1"), ip("fe80::2"), 255, (kind, code), flags, &body);
        let _ = read(&frame);
        // What is behind a valid target: options only.
        let options = icmp(ip("fe80::1"), ip("fe80::2"), 255, (135, 0), [0; 4], &[&ip("fe80::2").octets()[..], &body].concat());
        if let Ok(Neighbor::Solicitation { from, target, .. }) = read(&options) {
            let mut frame = HeapFrame::new(&options);
            prop_assert!(reply(&mut frame, from, target, B));
            prop_assert!(read(frame.bytes()).is_ok());
        }
    }
}
