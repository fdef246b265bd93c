//! Flows, and their frames before and after the switch.

use std::net::Ipv4Addr;

use carom_p4::{FlowV4Action, FlowV4Key};
use fullnat::wire::{Mac, checksum, ethernet};

use super::super::setup::{BenchAddr, OUR_MACS, PEER_MACS, RPORT, SERVERS, VPORT, client};

/// Length of every frame, without FCS: the shortest there is.
pub const LENGTH: usize = 60;
/// A frame.
pub type Bytes = [u8; LENGTH];

/// The next hop's entry that flows have.
pub const NEXTHOP: u16 = 1;
const UDP: u8 = 17;
/// Where a frame has its flow's number: the first bytes of the payload.
const NUMBER: usize = 42;

/// What a flow is called by its client.
pub fn key(flow: u32) -> FlowV4Key {
    let (src, sport) = client::<Ipv4Addr>(flow);
    FlowV4Key { src: src.to_bits(), dst: vip().to_bits(), proto: UDP, sport, dport: VPORT }
}

/// What an entry makes of it: a pair of local address and port that is its own.
pub fn action(flow: u32) -> FlowV4Action {
    let (src, sport, dst) = translated(flow);
    FlowV4Action::RewriteV4 { src: src.to_bits(), dst: dst.to_bits(), sport, dport: RPORT, nexthop: NEXTHOP }
}

fn translated(flow: u32) -> (Ipv4Addr, u16, Ipv4Addr) {
    let local = Ipv4Addr::host(2, flow >> 15);
    (local, 1025 + (flow & 0x7fff) as u16, Ipv4Addr::host(1, flow % u32::from(SERVERS)))
}

fn vip() -> Ipv4Addr {
    Ipv4Addr::host(3, 0)
}

/// The frame of a flow as its client sends it.
pub fn before(flow: u32) -> Bytes {
    frame((PEER_MACS[0], OUR_MACS[0]), client(flow), (vip(), VPORT), 64, flow)
}

/// The same as its entry makes it.
pub fn after(flow: u32) -> Bytes {
    let (src, sport, dst) = translated(flow);
    frame((OUR_MACS[1], PEER_MACS[1]), (src, sport), (dst, RPORT), 63, flow)
}

/// The flow of a frame.
pub fn number(frame: &[u8]) -> Option<u32> {
    frame.get(NUMBER..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// A UDP datagram whose checksums are right.
fn frame(macs: (Mac, Mac), from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), ttl: u8, number: u32) -> Bytes {
    const IP: usize = ethernet::LEN;
    const L4: usize = IP + 20;
    let l4_length = (LENGTH - L4) as u16;
    let mut bytes = [0; LENGTH];
    ethernet::set_addresses(&mut bytes, macs.1, macs.0);
    bytes[12..14].copy_from_slice(&ethernet::IPV4.to_be_bytes());
    bytes[IP] = 0x45;
    bytes[IP + 2..IP + 4].copy_from_slice(&(20 + l4_length).to_be_bytes());
    bytes[IP + 8] = ttl;
    bytes[IP + 9] = UDP;
    bytes[IP + 12..IP + 16].copy_from_slice(&from.0.octets());
    bytes[IP + 16..L4].copy_from_slice(&to.0.octets());
    let check = checksum::finish(checksum::sum(&bytes[IP..L4]).into());
    bytes[IP + 10..IP + 12].copy_from_slice(&check.to_be_bytes());
    bytes[L4..L4 + 2].copy_from_slice(&from.1.to_be_bytes());
    bytes[L4 + 2..L4 + 4].copy_from_slice(&to.1.to_be_bytes());
    bytes[L4 + 4..L4 + 6].copy_from_slice(&l4_length.to_be_bytes());
    bytes[NUMBER..NUMBER + 4].copy_from_slice(&number.to_be_bytes());
    let pseudo = checksum::pseudo_header(from.0, to.0, UDP, l4_length);
    let check = match checksum::finish(pseudo + u32::from(checksum::sum(&bytes[L4..]))) {
        // Zero would say that there is none (RFC 768).
        0 => 0xffff,
        check => check,
    };
    bytes[L4 + 6..L4 + 8].copy_from_slice(&check.to_be_bytes());
    bytes
}
