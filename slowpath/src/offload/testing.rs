//! Sessions for tests.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::id::{CPort, LPort, NexthopId, Proto, RPort, VPort};
use fullnat::offload::{AnyEnds, Ends};

/// The `n`th IPv4 session; all differ in both their keys.
pub fn ends_v4(n: u32) -> AnyEnds {
    AnyEnds::V4(Ends {
        client: Ipv4Addr::from_bits(0x0a01_0000 + n),
        vip: Ipv4Addr::new(10, 0, 0, 80),
        server: Ipv4Addr::new(10, 0, 0, 10),
        local: Ipv4Addr::from_bits(0x0a00_0100 + (n >> 15)),
        cport: CPort(4711),
        vport: VPort(80),
        rport: RPort(8080),
        lport: LPort(0x8000 | n as u16),
        proto: Proto::Tcp,
        nexthop_in: NexthopId(1),
        nexthop_out: NexthopId(2),
    })
}

/// The `n`th IPv6 session; all differ in both their keys.
pub fn ends_v6(n: u32) -> AnyEnds {
    let address = |part: u16, n: u32| Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(part) << 96 | u128::from(n));
    AnyEnds::V6(Ends {
        client: address(1, n),
        vip: address(2, 80),
        server: address(3, 10),
        local: address(4, n >> 15),
        cport: CPort(4711),
        vport: VPort(80),
        rport: RPort(8080),
        lport: LPort(0x8000 | n as u16),
        proto: Proto::Udp,
        nexthop_in: NexthopId(1),
        nexthop_out: NexthopId(3),
    })
}
