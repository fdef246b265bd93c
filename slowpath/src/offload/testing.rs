//! Sessions and plans for tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fullnat::id::{CPort, LPort, NexthopId, Proto, RPort, VPort};
use fullnat::offload::{AnyEnds, Ends};
use fullnat::plan::{Plan, testing};
use fullnat::wire::Mac;

use super::flows::{Flows, IdRoom, Ids};

/// No id is given yet, and there are as many as on BMv2.
pub fn by_ids() -> Flows {
    let room = IdRoom { services: 1024, pairs: 16_384 };
    Flows::ByIds(Box::new(Ids::new(room)))
}

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

fn address(part: u16, n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(part) << 96 | u128::from(n))
}

/// The `n`th IPv6 session; all differ in both their keys.
pub fn ends_v6(n: u32) -> AnyEnds {
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

/// A plan with an interface of this MAC address and own addresses 10.0.0.2 and fd00::2, services on port 80 of these VIPs,
/// and these local addresses.
pub fn plan(mac: [u8; 6], vips: &[IpAddr], lips: &[Ipv4Addr]) -> Plan {
    let mut interface = testing::interface(Mac(mac), Ipv4Addr::new(10, 0, 0, 2), 8);
    interface.addresses.push((IpAddr::V6(address(0, 2)), 64));
    let services = (0..).zip(vips).map(|(id, vip)| testing::service(id, *vip, 80, Proto::Tcp, &[]));
    testing::plan(vec![interface], lips, services.collect(), Vec::new())
}
