use super::*;
use crate::frame::HeapFrame;
use crate::wire::{Packet, parse as parse_frame};
use proptest::prelude::*;

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
const IP_A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const IP_B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

fn made(make: impl Fn(&mut HeapFrame) -> bool) -> HeapFrame {
    let mut frame = HeapFrame::new(&[0xee; 60]);
    assert!(make(&mut frame));
    assert_eq!(frame.bytes().len(), 42);
    frame
}

fn read(frame: &[u8]) -> ArpPacket {
    match parse_frame(frame) {
        Ok(Packet::Arp(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_what_rfc_826_says() {
    let frame = made(|frame| request(frame, Mac::BROADCAST, (A, IP_A), IP_B));
    let want =
        [&[0xff; 6][..], &A.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &A.0, &[192, 0, 2, 10], &[0; 6], &[192, 0, 2, 11]];
    assert_eq!(frame.bytes(), want.concat());
}

#[test]
fn a_request_turns_into_its_reply() {
    let mut frame = made(|frame| request(frame, Mac::BROADCAST, (A, IP_A), IP_B));
    let asked = read(frame.bytes());
    assert!(reply(&mut frame, &asked, B));
    let want = ArpPacket { op: Op::Reply, sender_mac: B, sender: IP_B, target_mac: A, target: IP_A };
    assert_eq!(read(frame.bytes()), want);
    assert_eq!((ethernet::destination(frame.bytes()), ethernet::source(frame.bytes())), (A, B));
}

#[test]
fn an_announcement_names_its_sender_twice() {
    let frame = made(|frame| announce(frame, A, IP_A));
    let want = ArpPacket { op: Op::Request, sender_mac: A, sender: IP_A, target_mac: Mac::ZERO, target: IP_A };
    assert_eq!(read(frame.bytes()), want);
    assert_eq!(ethernet::destination(frame.bytes()), Mac::BROADCAST);
}

#[test]
fn a_probe_is_read_and_forgeries_are_not() {
    let probe = made(|frame| request(frame, Mac::BROADCAST, (A, Ipv4Addr::UNSPECIFIED), IP_B));
    assert_eq!(read(probe.bytes()).sender, Ipv4Addr::UNSPECIFIED);
    let request = made(|frame| request(frame, Mac::BROADCAST, (A, IP_A), IP_B));
    let bad = |at: usize, bytes: &[u8]| {
        let mut frame = request.clone();
        frame.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(parse_frame(frame.bytes()), Err(DropReason::BadArp), "{bytes:?} at {at}");
    };
    bad(14, &[0, 6]); // hardware type
    bad(16, &[0x86, 0xdd]); // protocol type
    bad(18, &[8]); // hardware address length
    bad(19, &[16]); // protocol address length
    bad(20, &[0, 3]); // reverse ARP
    bad(22, &[0xff; 6]); // a broadcast sender
    bad(22, &[0; 6]); // no sender
    bad(28, &[224, 0, 0, 1]); // a multicast sender address
    bad(28, &[127, 0, 0, 1]);
    bad(38, &[255; 4]); // who is everybody?
    assert_eq!(parse_frame(&request.bytes()[..41]), Err(DropReason::Truncated));
}

#[test]
fn a_buffer_without_room_is_told() {
    /// A buffer of a fixed length.
    struct Full([u8; 41]);

    impl Frame for Full {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }

        fn grow_front(&mut self, _: usize) -> bool {
            false
        }

        fn shrink_front(&mut self, _: usize) {}

        fn set_len(&mut self, len: usize) -> bool {
            len == self.0.len()
        }
    }

    let mut full = Full([7; 41]);
    assert!(!announce(&mut full, A, IP_A));
    let ip: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
    assert!(!crate::wire::ndp::announce(&mut full, A, ip));
    assert_eq!(full.0, [7; 41]);
}

proptest! {
    #[test]
    fn survives_noise(body in proptest::collection::vec(any::<u8>(), 0..40)) {
        let frame = [&[0xff; 6][..], &A.0, &[8, 6], &body].concat();
        let _ = parse_frame(&frame);
        let valid = [&[0xff; 6][..], &A.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &body].concat();
        if let Ok(packet) = parse(&valid) {
            let mut frame = HeapFrame::new(&valid);
            prop_assert!(reply(&mut frame, &packet, B));
            // The asker of a probe has no address to reply to, and an old target cannot be a sender.
            if packet.sender != Ipv4Addr::UNSPECIFIED {
                let back = read(frame.bytes());
                prop_assert_eq!((back.target_mac, back.target), (packet.sender_mac, packet.sender));
                prop_assert_eq!((back.sender_mac, back.sender), (B, packet.target));
            }
        }
    }
}
