//! Applying a session's rewrite to a packet: what the P4 action `rewrite` does in the switch.

use crate::addr::Addr;
use crate::flow::Rewrite;
use crate::id::Proto;
use crate::wire::checksum::Change;
use crate::wire::parse::Flow;
use crate::wire::{ethernet, ipv4, ipv6, tcp, udp};

/// Gives a packet its new addresses and ports, takes one off its TTL or hop limit, and updates its checksums.
///
/// MAC addresses are for [`ethernet::set_addresses`], once the next hop is known. That the TTL allows it is for the
/// caller to check: a TTL of 0 stays 0. The view describes the packet as it was; it is not changed.
#[inline(always)]
pub fn apply<A: Addr>(frame: &mut [u8], flow: &Flow<A>, rewrite: &Rewrite<A>) {
    let mut change = Change::default();
    change.sums(A::memory_sum([flow.key.src, flow.key.dst]), A::memory_sum([rewrite.src, rewrite.dst]));
    let Some((head, l4)) = frame.split_at_mut_checked(usize::from(flow.l4())) else { return };
    write_ip(head, flow.ttl, flow.ttl.saturating_sub(1), rewrite.src, rewrite.dst, change);
    change.word(flow.key.sport, rewrite.sport);
    change.word(flow.key.dport, rewrite.dport);
    match flow.key.proto {
        Proto::Tcp => {
            let Some(header) = l4.first_chunk_mut::<{ tcp::LEN }>() else { return };
            write_ports(header, rewrite.sport, rewrite.dport);
            let check = u16::from_be_bytes([header[tcp::CHECKSUM], header[tcp::CHECKSUM + 1]]);
            header[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&change.apply(check).to_be_bytes());
        }
        Proto::Udp => {
            let Some(header) = l4.first_chunk_mut::<{ udp::LEN }>() else { return };
            write_ports(header, rewrite.sport, rewrite.dport);
            let check = u16::from_be_bytes([header[udp::CHECKSUM], header[udp::CHECKSUM + 1]]);
            header[udp::CHECKSUM..].copy_from_slice(&change.apply_udp(check).to_be_bytes());
        }
    }
}

/// Writes a new TTL and new addresses into the IP header of a frame; `change` holds the old and new addresses.
#[inline(always)]
pub(crate) fn write_ip<A: Addr>(head: &mut [u8], old_ttl: u8, ttl: u8, src: A, dst: A, mut change: Change) {
    if A::IS_V6 {
        let Some(head) = head.first_chunk_mut::<{ ipv6::END }>() else { return };
        let ip = &mut head[ethernet::LEN..];
        ip[ipv6::HOP_LIMIT] = ttl;
        src.write(&mut ip[ipv6::SRC..]);
        dst.write(&mut ip[ipv6::DST..]);
    } else {
        let Some(head) = head.first_chunk_mut::<{ ipv4::END }>() else { return };
        let ip = &mut head[ethernet::LEN..];
        change.word(u16::from_be_bytes([old_ttl, 0]), u16::from_be_bytes([ttl, 0]));
        let check = u16::from_be_bytes([ip[ipv4::CHECKSUM], ip[ipv4::CHECKSUM + 1]]);
        ip[ipv4::TTL] = ttl;
        ip[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&change.apply(check).to_be_bytes());
        src.write(&mut ip[ipv4::SRC..]);
        dst.write(&mut ip[ipv4::DST..]);
    }
}

#[inline(always)]
fn write_ports<const N: usize>(header: &mut [u8; N], sport: u16, dport: u16) {
    header[..2].copy_from_slice(&sport.to_be_bytes());
    header[2..4].copy_from_slice(&dport.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowKey;
    use crate::id::NexthopId;
    use crate::wire::strategies::{self, View};
    use crate::wire::testing::{self, verify};
    use crate::wire::{Packet, TcpFlags, parse};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn rewrite_to<A: Addr>(key: FlowKey<A>) -> Rewrite<A> {
        Rewrite { src: key.src, dst: key.dst, sport: key.sport, dport: key.dport, nexthop: NexthopId(0) }
    }

    /// Rewrites to `to`, checks everything, rewrites back and compares.
    fn there_and_back<A: View>(build: &testing::Build<A>, to: FlowKey<A>) {
        let original = build.bytes();
        let was_right = verify(&original);
        let flow = A::view(&original);
        let to = FlowKey { proto: flow.key.proto, ..to };

        let mut frame = original.clone();
        apply(&mut frame, &flow, &rewrite_to(to));
        let there = A::view(&frame);
        assert_eq!(there, Flow { key: to, ttl: flow.ttl - 1, ..flow });
        assert_eq!(verify(&frame), was_right, "a checksum is off by what it was off by before");

        apply(&mut frame, &there, &rewrite_to(flow.key));
        let back = A::view(&frame);
        assert_eq!(back, Flow { ttl: flow.ttl - 2, ..flow });
        let mut expected = original;
        if A::IS_V6 {
            expected[14 + ipv6::HOP_LIMIT] -= 2;
        } else {
            expected[14 + ipv4::TTL] -= 2;
            expected[24..26].copy_from_slice(&frame[24..26]);
        }
        // Zero is written 0x0000 in TCP, whichever way it came.
        let check_at = usize::from(flow.l4()) + tcp::CHECKSUM;
        if flow.key.proto == Proto::Tcp && expected[check_at..check_at + 2] == [0xff, 0xff] {
            expected[check_at..check_at + 2].fill(0);
        }
        assert_eq!(frame, expected);
    }

    proptest! {
        #[test]
        fn v4_there_and_back(build in strategies::packet::<Ipv4Addr>(), to in strategies::key::<Ipv4Addr>()) {
            there_and_back(&build, to);
        }

        #[test]
        fn v6_there_and_back(build in strategies::packet::<Ipv6Addr>(), to in strategies::key::<Ipv6Addr>()) {
            there_and_back(&build, to);
        }
    }

    #[test]
    fn changes_nothing_else() {
        let key = testing::flow("192.0.2.1:1000", "198.51.100.1:80", Proto::Tcp);
        let to = testing::flow("10.0.0.1:2000", "10.0.1.1:8080", Proto::Tcp);
        let build = |key, ttl| {
            testing::Build::new(key)
                .ttl(ttl)
                .flags(TcpFlags::ACK | TcpFlags::PSH | TcpFlags::CWR)
                .options(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8])
                .payload(b"hello")
                .padding(7)
                .bytes()
        };
        let mut frame = build(key, 64);
        let Ok(Packet::V4(flow)) = parse(&frame) else { panic!("TCP") };
        apply(&mut frame, &flow, &rewrite_to(to));
        assert_eq!(frame, build(to, 63));
    }

    #[test]
    fn a_view_of_another_frame_does_no_harm() {
        let key = testing::flow::<Ipv6Addr>("[2001:db8::1]:1000", "[2001:db8::2]:80", Proto::Tcp);
        let flow = Ipv6Addr::view(&testing::Build::new(key).bytes());
        for len in 0..80 {
            apply(&mut vec![0; len], &flow, &rewrite_to(key));
        }
    }
}
