//! Sessions and plans for tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fullnat::id::{CPort, IfaceId, LPort, NexthopId, Proto, RPort, ServiceId, VPort};
use fullnat::offload::{AnyEnds, Ends};
use fullnat::plan::{Interface, LocalPool, Plan, Service};
use fullnat::route::Routes;
use fullnat::sched::SchedulerKind;
use fullnat::tcp::Timeouts;
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
    let mut routes = Routes::builder();
    routes.connected(IfaceId(0), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 8);
    let interface = Interface {
        name: "lan".into(),
        mac: Mac(mac),
        mtu: 1500,
        addresses: vec![(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 8), (IpAddr::V6(address(0, 2)), 64)],
    };
    let service = |(id, vip): (usize, &IpAddr)| Service {
        id: ServiceId(id as u16),
        name: format!("service{id}"),
        vip: *vip,
        vport: VPort(80),
        proto: Proto::Tcp,
        scheduler: SchedulerKind::RoundRobin,
        servers: Vec::new(),
        pool: 0,
        toa: false,
        persistence: None,
        timeouts: Timeouts::default(),
    };
    let services = vips.iter().enumerate().map(service).collect();
    let pool = LocalPool { name: "snat".into(), v4: lips.to_vec(), v6: Vec::new(), ports: 1025..=65535 };
    let routes = routes.build().expect("one connected route");
    Plan::new(1, vec![interface], routes, vec![pool], 0, services, Vec::new())
}
