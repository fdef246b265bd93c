use super::*;
use crate::flow::FlowKey;
use crate::id::Proto;
use crate::wire::strategies::{self, View};
use crate::wire::testing::{Build, flow as key, verify};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn syn(options: &[u8]) -> Build<Ipv4Addr> {
    let key: FlowKey<Ipv4Addr> = key("192.0.2.1:1000", "198.51.100.1:80", Proto::Tcp);
    Build::new(key).flags(TcpFlags::SYN).options(options)
}

/// The MSS a segment has after it was lowered, checksum checked.
fn lowered(options: &[u8], by: u16) -> Option<u16> {
    let mut frame = syn(options).bytes();
    let flow = Ipv4Addr::view(&frame);
    let new = lower_mss(&mut frame, &flow, by);
    assert_eq!(mss(&frame, &flow), new);
    assert_eq!(verify(&frame), Ok(()));
    new
}

#[test]
fn flags_read_like_tcpdump() {
    assert_eq!(format!("{:?}", TcpFlags::SYN | TcpFlags::ACK), "[S.]");
    assert!(
        TcpFlags::SYN.opens() && !(TcpFlags::SYN | TcpFlags::ACK).opens() && !(TcpFlags::SYN | TcpFlags::RST).opens()
    );
    assert!((TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR).opens());
    assert!(!(TcpFlags::SYN | TcpFlags::FIN).opens());
}

#[test]
fn reads_a_segment() {
    let frame = syn(&[2, 4, 5, 0xb4])
        .seq(0x0102_0304)
        .ack(0x0506_0708)
        .window(0x090a)
        .flags(TcpFlags::SYN | TcpFlags::FIN)
        .payload(b"abc")
        .padding(9)
        .bytes();
    let segment = segment(&frame, &Ipv4Addr::view(&frame));
    let flags = TcpFlags::SYN | TcpFlags::FIN;
    assert_eq!(segment, Segment { seq: 0x0102_0304, ack: 0x0506_0708, window: 0x090a, flags, payload_len: 3 });
    assert_eq!((segment.seq_len(), segment.seq_end()), (5, 0x0102_0309));
    assert_eq!(Segment { seq: u32::MAX, ..segment }.seq_end(), 4);
}

#[test]
fn lowers_the_mss_at_any_offset() {
    assert_eq!(lowered(&[2, 4, 5, 0xb4], 8), Some(1452));
    assert_eq!(lowered(&[1, 2, 4, 5, 0xb4], 20), Some(1440));
    assert_eq!(lowered(&[1, 1, 1, 2, 4, 5, 0xb4, 4, 2], 0xb5), Some(1279));
}

#[test]
fn does_not_lower_the_mss_too_far() {
    assert_eq!(lowered(&[2, 4, 0, 90], 20), Some(MIN_MSS));
    assert_eq!(lowered(&[2, 4, 0, 60], 20), Some(60));
    assert_eq!(lowered(&[2, 4, 0, 0], 20), Some(0));
}

#[test]
fn without_mss_nothing_changes() {
    for options in [&[][..], &[4, 2], &[2, 3, 5, 1], &[2, 5, 5, 0xb4, 0], &[0, 2, 4, 5, 0xb4], &[1, 1, 2, 4]] {
        let mut frame = syn(options).bytes();
        assert_eq!(lower_mss(&mut frame, &Ipv4Addr::view(&syn(options).bytes()), 8), None, "{options:?}");
        assert_eq!(frame, syn(options).bytes());
    }
}

fn lower_in_anything<A: View>(build: &Build<A>, by: u16) {
    let mut frame = build.bytes();
    let flow = A::view(&frame);
    let old = mss(&frame, &flow);
    let new = lower_mss(&mut frame, &flow, by);
    assert_eq!(new, old.map(|old| old.saturating_sub(by).max(MIN_MSS).min(old)));
    assert_eq!(verify(&frame), verify(&build.bytes()));
    assert_eq!(A::view(&frame), flow);
}

proptest! {
    #[test]
    fn lowers_in_anything(
        v4 in strategies::packet::<Ipv4Addr>(), v6 in strategies::packet::<Ipv6Addr>(), by in prop_oneof![Just(8u16), Just(20), any::<u16>()],
    ) {
        lower_in_anything(&v4, by);
        lower_in_anything(&v6, by);
    }
}
