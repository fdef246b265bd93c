use super::*;
use crate::flow::FlowKey;
use crate::frame::HeapFrame;
use crate::wire::icmp::{Message, message};
use crate::wire::strategies::{self, View};
use crate::wire::testing::{self, Build, DST_MAC, SRC_MAC, flow as key, icmp as icmp_frame, verify};
use proptest::prelude::*;

const US: Mac = DST_MAC;

fn v4(proto: Proto) -> Build<Ipv4Addr> {
    Build::new(key("192.0.2.1:1000", "198.51.100.1:80", proto))
}

fn v6(proto: Proto) -> Build<Ipv6Addr> {
    Build::new(key("[2001:db8::1]:1000", "[2001:db8::2]:80", proto))
}

fn check_macs(frame: &[u8]) {
    assert_eq!((ethernet::destination(frame), ethernet::source(frame)), (SRC_MAC, US));
}

fn echoes<A: View>(src: A, dst: A, request: u8, answer: u8) {
    let mut frame = icmp_frame(src, dst, 3, (request, 0), [1, 2, 3, 4], b"are you there?");
    frame.extend_from_slice(&[0; 5]);
    let packet = A::icmp_view(&frame);
    assert_eq!(message(&frame, &packet), Ok(Message::EchoRequest));
    echo(&mut frame, &packet, US);
    check_macs(&frame);
    assert_eq!(verify(&frame), Ok(()));
    let mut want = icmp_frame(dst, src, 64, (answer, 0), [1, 2, 3, 4], b"are you there?");
    ethernet::set_addresses(&mut want, SRC_MAC, US);
    want.extend_from_slice(&[0; 5]);
    assert_eq!(frame, want);
}

#[test]
fn answers_echo() {
    echoes(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1), 8, 0);
    let (a, b): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
    echoes(a, b, 128, 129);
}

#[test]
fn a_corrupt_echo_request_gets_a_corrupt_reply() {
    let mut frame = icmp_frame(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), 3, (8, 0), [0; 4], b"ping");
    frame[45] ^= 1;
    let packet = Ipv4Addr::icmp_view(&frame);
    echo(&mut frame, &packet, US);
    assert_eq!(verify(&frame), Err("ICMP checksum".into()));
}

/// The RST a segment is answered with.
fn reset<A: View>(build: &Build<A>) -> Result<tcp::Segment, NoReply> {
    let mut frame = build.frame();
    let flow = A::view(frame.bytes());
    if let Err(why) = tcp_reset(&mut frame, &flow, US) {
        assert_eq!(frame, build.frame());
        return Err(why);
    }
    check_macs(frame.bytes());
    assert_eq!(verify(frame.bytes()), Ok(()));
    let back = A::view(frame.bytes());
    assert_eq!(back.key, flow.key.reversed());
    assert_eq!((usize::from(back.end), back.payload_len()), (frame.bytes().len(), 0));
    Ok(tcp::segment(frame.bytes(), &back))
}

#[test]
fn resets_as_rfc_9293_says() {
    let rst = TcpFlags::RST;
    let numbers = |got: Result<tcp::Segment, NoReply>| got.map(|got| (got.seq, got.ack, got.flags));
    let syn = v4(Proto::Tcp).flags(TcpFlags::SYN).seq(u32::MAX).ack(0).options(&[2, 4, 5, 0xb4]);
    assert_eq!(numbers(reset(&syn)), Ok((0, 0, rst | TcpFlags::ACK)));
    let fin = v6(Proto::Tcp).flags(TcpFlags::FIN).seq(10).payload(b"bye");
    assert_eq!(numbers(reset(&fin)), Ok((0, 14, rst | TcpFlags::ACK)));
    let ack = v6(Proto::Tcp).flags(TcpFlags::ACK).seq(10).ack(77).payload(b"data").padding(9);
    assert_eq!(numbers(reset(&ack)), Ok((77, 0, rst)));
    assert_eq!(reset(&v4(Proto::Tcp).flags(rst)), Err(NoReply::NotAllowed));
    assert_eq!(reset(&v4(Proto::Udp)), Err(NoReply::NotAllowed));
}

/// The error about a packet: type, code, last word of the header, and how much of the packet it quotes.
fn error_about<A: View>(frame: &[u8], error: IcmpError, src: A) -> Result<(u8, u8, u32, usize), NoReply> {
    let original = frame;
    let mut frame = HeapFrame::new(original);
    if let Err(why) = icmp_error(&mut frame, error, src, US) {
        assert_eq!(frame.bytes(), original);
        return Err(why);
    }
    check_macs(frame.bytes());
    assert_eq!(verify(frame.bytes()), Ok(()));
    let packet = A::icmp_view(frame.bytes());
    assert_eq!((packet.src, usize::from(packet.end)), (src, frame.bytes().len()));
    let message = packet.message(frame.bytes());
    let quoted = &message[8..];
    assert_eq!(*quoted, original[14..14 + quoted.len()]);
    let last = u32::from_be_bytes(message[4..8].try_into().unwrap());
    Ok((packet.kind, packet.code, last, quoted.len()))
}

#[test]
fn errors_have_their_numbers() {
    use IcmpError::*;
    let (us4, us6) = (Ipv4Addr::new(198, 51, 100, 1), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
    let frame4 = v4(Proto::Udp).payload(&[7; 10]).padding(4).bytes();
    let frame6 = v6(Proto::Udp).payload(&[7; 10]).padding(4).bytes();
    let cases = [
        (TimeExceeded, (11, 0, 0), (3, 0, 0)),
        (NetUnreachable, (3, 0, 0), (1, 0, 0)),
        (HostUnreachable, (3, 1, 0), (1, 3, 0)),
        (PortUnreachable, (3, 3, 0), (1, 4, 0)),
        (AdminProhibited, (3, 13, 0), (1, 1, 0)),
        (TooBig { mtu: 1400 }, (3, 4, 1400), (2, 0, 1400)),
    ];
    for (error, (kind4, code4, last4), (kind6, code6, last6)) in cases {
        assert_eq!(error_about(&frame4, error, us4), Ok((kind4, code4, last4, 38)));
        assert_eq!(error_about(&frame6, error, us6), Ok((kind6, code6, last6, 58)));
    }
}

#[test]
fn errors_are_as_long_as_allowed() {
    let (us4, us6) = (Ipv4Addr::new(198, 51, 100, 1), "2001:db8::2".parse::<Ipv6Addr>().unwrap());
    let long = [7; 1400];
    let error = IcmpError::TimeExceeded;
    assert_eq!(error_about(&v4(Proto::Tcp).payload(&long).bytes(), error, us4).unwrap().3, 576 - 28);
    assert_eq!(error_about(&v6(Proto::Tcp).payload(&long).bytes(), error, us6).unwrap().3, 1280 - 48);
}

#[test]
fn an_error_is_read_back_as_one_about_the_packet() {
    let frame = v6(Proto::Tcp).seq(99).payload(b"data");
    let mut answer = frame.frame();
    let us: Ipv6Addr = "2001:db8::2".parse().unwrap();
    icmp_error(&mut answer, IcmpError::TooBig { mtu: 1300 }, us, US).unwrap();
    let Ok(Message::Error(quote)) = message(answer.bytes(), &Ipv6Addr::icmp_view(answer.bytes())) else {
        panic!("an error")
    };
    let about: FlowKey<Ipv6Addr> = key("[2001:db8::1]:1000", "[2001:db8::2]:80", Proto::Tcp);
    assert_eq!((quote.key, quote.seq, quote.mtu), (about, 99, Some(1300)));
}

#[test]
fn no_error_about_errors_groups_and_fragments() {
    let (a, us) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1));
    let refused = |frame: &[u8]| {
        assert_eq!(error_about(frame, IcmpError::TimeExceeded, us), Err(NoReply::NotAllowed));
    };
    for kind in [3, 4, 5, 11, 12, 40] {
        refused(&icmp_frame(a, us, 64, (kind, 0), [0; 4], &[0; 28]));
    }
    assert!(error_about(&icmp_frame(a, us, 64, (8, 0), [0; 4], &[]), IcmpError::TimeExceeded, us).is_ok());
    let good = v4(Proto::Udp);
    refused(&good.clone().macs(Mac::BROADCAST, SRC_MAC).bytes());
    let with = |change: fn(&mut [u8])| {
        let mut frame = good.bytes();
        change(&mut frame[14..]);
        frame
    };
    refused(&with(|ip| ip[7] = 1));
    refused(&with(|ip| ip[12..16].fill(255)));
    refused(&with(|ip| ip[16] = 224));
    refused(&with(|ip| ip[12] = 127));
    refused(&with(|ip| ip[2] = 4)); // longer than the frame
    refused(&with(|ip| ip[3] = 19));
    refused(&v6(Proto::Udp).bytes());

    let us: Ipv6Addr = "2001:db8::2".parse().unwrap();
    let refused = |frame: &[u8]| {
        assert_eq!(error_about(frame, IcmpError::TimeExceeded, us), Err(NoReply::NotAllowed));
    };
    let a: Ipv6Addr = "2001:db8::1".parse().unwrap();
    for kind in [1, 2, 3, 4, 100, 137] {
        refused(&icmp_frame(a, us, 64, (kind, 0), [0; 4], &[0; 48]));
    }
    assert!(error_about(&icmp_frame(a, us, 64, (128, 0), [0; 4], &[]), IcmpError::TimeExceeded, us).is_ok());
    let with = |change: fn(&mut [u8])| {
        let mut frame = v6(Proto::Udp).bytes();
        change(&mut frame[14..]);
        frame
    };
    refused(&with(|ip| ip[6] = 44));
    refused(&with(|ip| ip[24] = 0xff));
    refused(&with(|ip| ip[8..24].fill(0)));
}

#[test]
fn no_room_is_no_harm() {
    let mut frame = HeapFrame::new(&v4(Proto::Udp).bytes());
    assert!(frame.grow_front(HeapFrame::HEADROOM - 10));
    let at = HeapFrame::HEADROOM - 10;
    let moved = v4(Proto::Udp).padding(at).bytes();
    frame.bytes_mut().copy_from_slice(&moved);
    let us = Ipv4Addr::new(198, 51, 100, 1);
    assert_eq!(icmp_error(&mut frame, IcmpError::TimeExceeded, us, US), Err(NoReply::NoRoom));
    assert_eq!(frame.bytes(), moved);
}

proptest! {
    #[test]
    fn any_segment_is_reset_and_any_packet_gets_its_error(
        v4 in strategies::packet::<Ipv4Addr>(), v6 in strategies::packet::<Ipv6Addr>(),
    ) {
        let _ = reset(&v4);
        let _ = reset(&v6);
        let (frame4, frame6) = (v4.bytes(), v6.bytes());
        let (flow4, flow6) = (Ipv4Addr::view(&frame4), Ipv6Addr::view(&frame6));
        let too_big = IcmpError::TooBig { mtu: 1300 };
        prop_assert_eq!(error_about(&frame4, too_big, flow4.key.dst).unwrap().3, usize::from(flow4.ip_len()));
        prop_assert_eq!(error_about(&frame6, too_big, flow6.key.dst).unwrap().3, usize::from(flow6.ip_len()));
    }

    #[test]
    fn survives_noise(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
        if let Some(head) = bytes.get_mut(12..15) {
            head.copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] });
        }
        let _ = icmp_error(&mut HeapFrame::new(&bytes), IcmpError::TimeExceeded, Ipv4Addr::LOCALHOST, US);
        let _ = icmp_error(&mut HeapFrame::new(&bytes), IcmpError::TimeExceeded, Ipv6Addr::LOCALHOST, US);
        let _ = testing::verify(&bytes);
    }
}
