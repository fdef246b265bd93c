//! Generated packets, for the property tests of this module.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::addr::Addr;
use crate::flow::FlowKey;
use crate::id::Proto;
use crate::wire::parse::{Flow, Packet, parse};
use crate::wire::testing::Build;
use crate::wire::{IcmpPacket, TcpFlags, ipv4, ipv6};

/// A family whose packets tests can generate and see.
pub trait View: Addr + Arbitrary {
    /// An address that packets may carry.
    fn address() -> BoxedStrategy<Self>;
    /// The view of a frame that is known to be TCP or UDP of this family.
    fn view(frame: &[u8]) -> Flow<Self>;
    /// The view of a frame that is known to be ICMP of this family.
    fn icmp_view(frame: &[u8]) -> IcmpPacket<Self>;
}

impl View for Ipv4Addr {
    fn address() -> BoxedStrategy<Self> {
        // Others are moved to 10.0.0.0/8.
        let forwarded = |addr: Ipv4Addr| {
            let bits = addr.to_bits();
            if ipv4::is_never_forwarded(addr) { Ipv4Addr::from_bits((bits & 0xff_ffff) | (10 << 24)) } else { addr }
        };
        any::<Ipv4Addr>().prop_map(forwarded).boxed()
    }

    fn view(frame: &[u8]) -> Flow<Self> {
        match parse(frame) {
            Ok(Packet::V4(flow)) => flow,
            other => panic!("{other:?}"),
        }
    }

    fn icmp_view(frame: &[u8]) -> IcmpPacket<Self> {
        match parse(frame) {
            Ok(Packet::Icmp4(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }
}

impl View for Ipv6Addr {
    fn address() -> BoxedStrategy<Self> {
        // Others are moved to 2000::/8.
        let forwarded = |addr: Ipv6Addr| {
            let bits = addr.to_bits();
            if ipv6::is_never_forwarded(addr) { Ipv6Addr::from_bits((bits >> 8) | (0x20 << 120)) } else { addr }
        };
        any::<Ipv6Addr>().prop_map(forwarded).boxed()
    }

    fn view(frame: &[u8]) -> Flow<Self> {
        match parse(frame) {
            Ok(Packet::V6(flow)) => flow,
            other => panic!("{other:?}"),
        }
    }

    fn icmp_view(frame: &[u8]) -> IcmpPacket<Self> {
        match parse(frame) {
            Ok(Packet::Icmp6(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }
}

/// Any key that packets may carry.
pub fn key<A: View>() -> impl Strategy<Value = FlowKey<A>> {
    let proto = prop_oneof![Just(Proto::Tcp), Just(Proto::Udp)];
    (A::address(), A::address(), any::<u16>(), any::<u16>(), proto)
        .prop_map(|(src, dst, sport, dport, proto)| FlowKey { src, dst, sport, dport, proto })
}

/// Any segment or datagram: options of any bytes, right, wrong and missing checksums, padding. TTL at least 3.
pub fn packet<A: View>() -> impl Strategy<Value = Build<A>> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u8>(), 3u8..);
    let data = (options(), vec(any::<u8>(), 0..64));
    let check = (prop::bool::weighted(0.2), prop_oneof![3 => Just(0), 1 => any::<u16>()], 0usize..20);
    (key::<A>(), numbers, data, check).prop_map(
        |(key, (seq, ack, window, flags, ttl), (options, payload), (no_checksum, error, padding))| {
            let build = Build::new(key)
                .seq(seq)
                .ack(ack)
                .window(window)
                .flags(TcpFlags(flags))
                .ttl(ttl)
                .options(&options)
                .payload(&payload)
                .checksum_error(error)
                .padding(padding);
            if no_checksum && key.proto == Proto::Udp { build.no_checksum() } else { build }
        },
    )
}

/// Any option list, from what kernels send to noise.
pub fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        2 => Just(vec![1]),
        1 => any::<u16>().prop_map(|mss| [&[2, 4], &mss.to_be_bytes()[..]].concat()),
        1 => Just(vec![4, 2]),
        1 => any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        2 => any::<[u8; 8]>().prop_map(|stamps| [&[8, 10], &stamps[..]].concat()),
        1 => any::<[u8; 8]>().prop_map(|block| [&[5, 10], &block[..]].concat()),
        1 => any::<[u8; 6]>().prop_map(|toa| [&[254, 8], &toa[..]].concat()),
        1 => vec(any::<u8>(), 0..18).prop_map(|data| [&[254, data.len() as u8 + 2], &data[..]].concat()),
    ];
    let list = vec(option, 0..8).prop_map(|options| options.concat());
    prop_oneof![
        4 => list,
        1 => vec(any::<u8>(), 0..=40),
        1 => vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(254), any::<u8>()], 0..=40),
    ]
    .prop_map(|mut options| {
        options.truncate(40);
        options
    })
}
