//! Cases at the edges: checksums that are zero, all ones or wrong; frames that are no TCP or UDP, or malformed.

use std::net::{Ipv4Addr, Ipv6Addr};

use carom_p4::Punt;
use fullnat::id::Proto;
use fullnat::wire::testing::{Build, DST_MAC, SRC_MAC, icmp, ip_frame};
use fullnat::wire::{Mac, TcpFlags};

use crate::cases::{case, drop, forward, port_in, punt, tagged, title, way_out};
use crate::file::{Case, Outcome, bytes, hex};
use crate::setup::{CLIENTS, SERVERS, Session, Sessions};

/// Offset of the TCP or UDP checksum in a frame.
fn check_at<A: Sessions>(session: &Session<A>) -> usize {
    let in_header = if session.key.proto == Proto::Tcp { 16 } else { 6 };
    14 + if A::IS_V6 { 40 } else { 20 } + in_header
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn set_word(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Moves a checksum by `error` in ones' complement arithmetic: modulo 65535, zero written as the protocol does.
fn move_by(frame: &mut [u8], at: usize, error: u32, proto: Option<Proto>) {
    let moved = ((u32::from(word(frame, at)) + error) % 0xffff) as u16;
    set_word(frame, at, if moved == 0 && proto == Some(Proto::Udp) { 0xffff } else { moved });
}

/// The case with the frame in and the frame out both changed.
fn changed(mut case: Case, name: String, change: impl Fn(&mut [u8])) -> Case {
    let mut frame = bytes(&case.frame);
    change(&mut frame);
    (case.name, case.frame) = (name, hex(&frame));
    if let Outcome::Forward { frame: out, .. } = &mut case.outcome {
        let mut frame = bytes(out);
        change(&mut frame);
        *out = hex(&frame);
    }
    case
}

/// A payload with which the packet's right checksum is this, in the frame that `build` makes.
fn payload_for(wanted: u16, at: usize, build: impl Fn(&[u8]) -> Vec<u8>) -> [u8; 2] {
    let found = (0..=u16::MAX).map(u16::to_be_bytes).find(|payload| word(&build(payload), at) == wanted);
    found.expect("one word can make any checksum")
}

/// Checksums of TCP and UDP.
pub fn checksums<A: Sessions>(cases: &mut Vec<Case>) {
    let sessions = A::sessions();
    for session in [&sessions[0], &sessions[1], &sessions[2], &sessions[3]] {
        let (title, at, proto) = (title(session), check_at(session), session.key.proto);
        // Off by one, by half, and by what carries all the way.
        for error in [1, 0x7fff, 0xfffe] {
            let right = forward(String::new(), session, 64, |b| b.payload(&[error as u8, 0x55, 0xaa]));
            let name = format!("{title}, checksum wrong by {error:#06x}");
            cases.push(changed(right, name, |frame| move_by(frame, at, error, Some(proto))));
        }
        let (macs, _) = way_out(session.nexthop);
        let leaving =
            |p: &[u8]| Build::new(session.to).seq(0xffff_fff0).ack(0x1234_5678).macs(macs.0, macs.1).payload(p);
        let entering = |p: &[u8]| Build::new(session.key).seq(0xffff_fff0).ack(0x1234_5678).payload(p);
        let zero = if proto == Proto::Tcp { 0 } else { 0xffff };
        for (name, wanted) in [("zero", zero), ("one", 1), ("0xfffe", 0xfffe)] {
            let payload = payload_for(wanted, at, |p| leaving(p).bytes());
            cases.push(forward(format!("{title}, checksum becomes {name}"), session, 64, |b| b.payload(&payload)));
            let payload = payload_for(wanted, at, |p| entering(p).bytes());
            cases.push(forward(format!("{title}, checksum was {name}"), session, 64, |b| b.payload(&payload)));
        }
        if proto == Proto::Tcp {
            // Zero written the other way, which is as right.
            let payload = payload_for(0, at, |p| entering(p).bytes());
            let mut case = forward(format!("{title}, checksum was 0xffff"), session, 64, |b| b.payload(&payload));
            let mut frame = bytes(&case.frame);
            set_word(&mut frame, at, 0xffff);
            case.frame = hex(&frame);
            cases.push(case);
        } else {
            cases.push(forward(format!("{title}, no checksum"), session, 64, |b| b.no_checksum().payload(b"none")));
        }
    }
}

/// The checksum of the IPv4 header.
pub fn header_checksum(cases: &mut Vec<Case>) {
    const AT: usize = 24;
    let session = &Ipv4Addr::sessions()[0];
    for error in [1, 0x7fff, 0xfffe] {
        let right = forward(String::new(), session, 64, |b| b.payload(&[error as u8, 1, 2, 3]));
        let name = format!("IPv4 header checksum wrong by {error:#06x}");
        cases.push(changed(right, name, |frame| move_by(frame, AT, error, None)));
    }
    // The identification takes the part of the payload.
    let (macs, port) = way_out(session.nexthop);
    for (name, wanted) in [("zero", 0), ("0xfffe", 0xfffe)] {
        let with_id = |mut frame: Vec<u8>, id: u16| {
            let before = word(&frame, 18);
            set_word(&mut frame, 18, id);
            // The checksum falls by what the data rises by.
            move_by(&mut frame, AT, u32::from(before) + u32::from(!id), None);
            frame
        };
        let out = Build::new(session.to).ttl(63).macs(macs.0, macs.1).bytes();
        let id = (0..=u16::MAX).find(|&id| word(&with_id(out.clone(), id), AT) == wanted).expect("an identification");
        let (frame, out) = (with_id(Build::new(session.key).bytes(), id), with_id(out, id));
        let outcome = Outcome::Forward { port, frame: hex(&out) };
        cases.push(case(format!("IPv4 header checksum becomes {name}"), CLIENTS, &frame, outcome));
    }
}

fn arp(operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [&Mac::BROADCAST.0[..], &SRC_MAC.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    let mut frame = [&head[..], &SRC_MAC.0, &sender.octets(), &[0; 6], &target.octets()].concat();
    frame.resize(60, 0);
    frame
}

/// ARP, neighbour discovery, and what is no IP.
pub fn link(cases: &mut Vec<Case>) {
    let v4 = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let (client, vip, lip, own) = (v4("192.0.2.77"), v4("198.51.100.10"), v4("10.0.1.5"), v4("10.0.1.1"));
    let vlan = tagged(&arp(1, client, vip), [0x81, 0, 0, 9]);
    cases.push(punt("ARP request for a service's address", CLIENTS, &arp(1, client, vip), Punt::Neighbor, 0));
    cases.push(punt("ARP request for a local address", SERVERS, &arp(1, v4("10.0.1.20"), lip), Punt::Neighbor, 0));
    cases.push(punt("ARP reply to an interface", SERVERS, &arp(2, v4("10.0.1.20"), own), Punt::Neighbor, 1));
    cases.push(punt("ARP request, VLAN tag", CLIENTS, &vlan, Punt::Vlan, 0));
    cases.push(drop("ARP request for another", CLIENTS, &arp(1, client, v4("192.0.2.1")), "no_service"));
    cases.push(drop("ARP, operation 3", CLIENTS, &arp(3, client, vip), "bad_arp"));

    let (from, all) = (v6("fe80::77"), v6("ff02::1:ff00:10"));
    let ndp = |dst: Ipv6Addr, kind: u8, target: Ipv6Addr| {
        icmp(from, dst, 255, (kind, 0), [0; 4], &[&target.octets()[..], &[1, 1], &SRC_MAC.0].concat())
    };
    let solicit = |target| ndp(all, 135, target);
    cases.push(punt("solicitation for a service", CLIENTS, &solicit(v6("2001:db8:1::10")), Punt::Neighbor, 0));
    cases.push(punt("solicitation for an interface", SERVERS, &solicit(v6("fd00:1::1")), Punt::Neighbor, 1));
    cases.push(drop("solicitation for another", CLIENTS, &solicit(v6("2001:db8:1::1110")), "no_service"));
    cases.push(punt("advertisement to us", SERVERS, &ndp(v6("fd00:1::1"), 136, from), Punt::Neighbor, 1));
    cases.push(drop("advertisement to all", SERVERS, &ndp(v6("ff02::1"), 136, from), "no_service"));

    let mut lldp = [&[1, 0x80, 0xc2, 0, 0, 0x0e][..], &SRC_MAC.0, &[0x88, 0xcc]].concat();
    lldp.resize(60, 0);
    cases.push(drop("LLDP", CLIENTS, &lldp, "ether_type"));
    cases.push(drop("two VLAN tags", CLIENTS, &tagged(&vlan, [0x81, 0, 0, 8]), "ether_type"));
}

/// An IPv4 frame to a destination with other words at some offsets of its header, and a right header checksum.
fn odd_v4(dst: &str, proto: u8, words: &[(usize, u16)], body: &[u8]) -> Vec<u8> {
    let (src, dst) = (Ipv4Addr::new(192, 0, 2, 77), dst.parse::<Ipv4Addr>().unwrap());
    let mut frame = ip_frame((DST_MAC, SRC_MAC), src, dst, proto, 64, body);
    words.iter().for_each(|&(at, value)| set_word(&mut frame, 14 + at, value));
    set_word(&mut frame, 24, 0);
    let len = 4 * usize::from(frame[14] & 0xf).max(5);
    let sum = fullnat::wire::testing::plain_sum(&frame[14..14 + len]);
    set_word(&mut frame, 24, !sum);
    frame
}

/// IP packets that are neither TCP nor UDP, or not to be looked into.
pub fn ip(cases: &mut Vec<Case>) {
    let (vip, lip, nobody) = ("198.51.100.10", "10.0.1.5", "198.51.100.11");
    let body = Build::new(Ipv4Addr::sessions()[0].key).bytes().split_off(34);
    let options = [&[1_u8, 1, 1, 0][..], &body].concat();
    let many = [&[1_u8; 40][..], &body].concat();
    for (name, frame, why) in [
        ("first fragment to a service's address", odd_v4(vip, 6, &[(6, 0x2000)], &body), Punt::Fragment),
        ("later fragment to a service's address", odd_v4(vip, 17, &[(6, 0x0100)], &body), Punt::Fragment),
        ("fragment to a local address", odd_v4(lip, 6, &[(6, 0x3fff)], &body), Punt::Fragment),
        ("IPv4 options to a service's address", odd_v4(vip, 6, &[(0, 0x4600)], &options), Punt::Options),
        ("40 bytes of IPv4 options", odd_v4(vip, 6, &[(0, 0x4f00)], &many), Punt::Options),
        ("echo request to a service's address", odd_v4(vip, 1, &[], &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]), Punt::Icmp),
        ("ICMP error to a local address", odd_v4(lip, 1, &[], &[3, 1, 0xfc, 0xfe, 0, 0, 0, 0]), Punt::Icmp),
    ] {
        cases.push(punt(name, CLIENTS, &frame, why, 0));
    }
    for (name, frame, reason) in [
        ("fragment to nobody", odd_v4(nobody, 6, &[(6, 0x2000)], &body), "no_service"),
        ("IPv4 options to nobody", odd_v4(nobody, 6, &[(0, 0x4600)], &options), "no_service"),
        ("echo request to nobody", odd_v4(nobody, 1, &[], &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]), "no_service"),
        ("IPv4 header of 16 bytes", odd_v4(vip, 6, &[(0, 0x4400)], &body), "bad_ip_header"),
        ("version 5 as IPv4", odd_v4(vip, 6, &[(0, 0x5500)], &body), "bad_ip_header"),
        ("SCTP", odd_v4(vip, 132, &[], &body), "protocol"),
        ("cut in the Ethernet header's end", odd_v4(vip, 6, &[], &body)[..14].to_vec(), "truncated"),
        ("cut in the IPv4 header", odd_v4(vip, 6, &[], &body)[..33].to_vec(), "truncated"),
    ] {
        cases.push(drop(name, CLIENTS, &frame, reason));
    }
    let (client, vip): (Ipv6Addr, Ipv6Addr) = ("2001:db8:c::77".parse().unwrap(), "2001:db8:1::10".parse().unwrap());
    let v6 = |next, body: &[u8]| ip_frame((DST_MAC, SRC_MAC), client, vip, next, 64, body);
    cases.push(punt("IPv6 fragment", CLIENTS, &v6(44, &[6, 0, 0, 1, 0, 0, 0, 1, 0, 0]), Punt::Fragment, 0));
    for (name, next) in [("hop-by-hop options", 0), ("routing header", 43), ("destination options", 60)] {
        cases.push(punt(name, CLIENTS, &v6(next, &[6, 0, 1, 4, 0, 0, 0, 0]), Punt::Options, 0));
    }
    cases.push(punt("ICMPv6 echo", CLIENTS, &icmp(client, vip, 64, (128, 0), [0, 1, 0, 1], b"x"), Punt::Icmp, 0));
    cases.push(drop("ESP over IPv6", CLIENTS, &v6(50, &[0; 16]), "protocol"));
    let mut version = v6(6, &[0; 20]);
    version[14] = 0x40;
    cases.push(drop("version 4 as IPv6", CLIENTS, &version, "bad_ip_header"));
    cases.push(drop("cut in the IPv6 header", CLIENTS, &v6(6, &[0; 20])[..53], "truncated"));
    let urgent = Build::new(Ipv6Addr::sessions()[0].key).flags(TcpFlags::SYN).bytes();
    cases.push(drop("cut in the TCP header", port_in(&Ipv6Addr::sessions()[0]), &urgent[..60], "truncated"));
}
