//! The network around the balancer, and the plan that describes it.
//!
//! ```text
//!   clients 198.51.100.0/24 ─▶ router .254 ─┐front: 192.0.2.1          back: 10.0.0.1┌─ servers 10.0.0.10 + n
//!           2001:db8:c::/64                 └─────────────  balancer  ───────────────┘          fd00::10 + n
//!                        VIP 203.0.113.10, 2001:db8:f::10        LIPs 10.0.0.100 + n, fd00::100 + n
//! ```
//!
//! One-armed, both links are one: the front interface carries all addresses.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use fullnat::addr::Addr;
use fullnat::flow::FlowKey;
use fullnat::frame::HeapFrame;
use fullnat::id::{IfaceId, Proto, RPort, ServerId, ServiceId, VPort};
use fullnat::plan::{Interface, LocalPool, Own, PersistenceRule, Plan, Server, ServerShared, Service};
use fullnat::route::Routes;
use fullnat::sched::SchedulerKind;
use fullnat::tcp::Timeouts;
use fullnat::wire::{Flow, Mac, Packet, parse};

pub const FRONT: IfaceId = IfaceId(0);
pub const BACK: IfaceId = IfaceId(1);
/// The clients' router.
pub const ROUTER: Mac = Mac([2, 0, 0, 0, 1, 0xfe]);

/// MAC address of an interface of the balancer.
pub fn our_mac(iface: IfaceId) -> Mac {
    Mac([2, 0, 0, 0, 0, iface.0])
}

/// MAC address of the nth real server.
pub fn server_mac(n: u16) -> Mac {
    let [high, low] = n.to_be_bytes();
    Mac([2, 0, 0, 2, high, low])
}

/// The addresses of the network in one family.
pub trait Net: Addr {
    fn client(n: u16) -> Self;
    fn router() -> Self;
    fn vip() -> Self;
    fn lip(n: u16) -> Self;
    fn server(n: u16) -> Self;
    /// The balancer's own address on an interface.
    fn own(iface: IfaceId) -> Self;
    /// A TCP or UDP frame of this family.
    fn flow(frame: &[u8]) -> Option<Flow<Self>>;

    /// The key of a TCP or UDP frame of this family.
    fn key(frame: &[u8]) -> Option<FlowKey<Self>> {
        Self::flow(frame).map(|flow| flow.key)
    }
}

impl Net for Ipv4Addr {
    fn client(n: u16) -> Self {
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 51, 100, 1).to_bits() + u32::from(n))
    }

    fn router() -> Self {
        Ipv4Addr::new(192, 0, 2, 254)
    }

    fn vip() -> Self {
        Ipv4Addr::new(203, 0, 113, 10)
    }

    fn lip(n: u16) -> Self {
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 100).to_bits() + u32::from(n))
    }

    fn server(n: u16) -> Self {
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 10).to_bits() + u32::from(n))
    }

    fn own(iface: IfaceId) -> Self {
        if iface == FRONT { Ipv4Addr::new(192, 0, 2, 1) } else { Ipv4Addr::new(10, 0, 0, 1) }
    }

    fn flow(frame: &[u8]) -> Option<Flow<Self>> {
        match parse(frame) {
            Ok(Packet::V4(flow)) => Some(flow),
            _ => None,
        }
    }
}

impl Net for Ipv6Addr {
    fn client(n: u16) -> Self {
        Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1 + n)
    }

    fn router() -> Self {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe)
    }

    fn vip() -> Self {
        Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10)
    }

    fn lip(n: u16) -> Self {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100 + n)
    }

    fn server(n: u16) -> Self {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10 + n)
    }

    fn own(iface: IfaceId) -> Self {
        let net = if iface == FRONT { [0x2001, 0xdb8, 1] } else { [0xfd00, 0, 0] };
        Ipv6Addr::new(net[0], net[1], net[2], 0, 0, 0, 0, 1)
    }

    fn flow(frame: &[u8]) -> Option<Flow<Self>> {
        match parse(frame) {
            Ok(Packet::V6(flow)) => Some(flow),
            _ => None,
        }
    }
}

/// A real server as configured: the same for each of the four services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rs {
    pub weight: u16,
    pub max_connections: u32,
    /// Removed, but kept in the plan while it has sessions, as control does.
    pub removed: bool,
}

/// What the operator configures.
#[derive(Clone, Debug)]
pub struct World {
    pub two_arm: bool,
    pub toa: bool,
    pub scheduler: SchedulerKind,
    pub persistence: Option<PersistenceRule>,
    pub servers: Vec<Rs>,
    /// Which LIPs the pool has.
    pub lips: Vec<u16>,
    pub ports: RangeInclusive<u16>,
    pub quarantine_ms: u64,
    pub timeouts: Timeouts,
    pub mtu: [u16; 2],
    /// There is a default gateway behind too, the server of number 9.
    pub router_behind: bool,
    /// Interfaces have a link-local address, in front of the others.
    pub link_local: bool,
    /// False: the services are gone from the plan.
    pub services: bool,
    pub generation: u64,
    /// The VIPs are in the pool, too.
    pub vips_as_lips: bool,
    /// Every VIP and LIP there was.
    pub former: Vec<(IpAddr, Own)>,
    pub shared: BTreeMap<u16, Arc<ServerShared>>,
}

impl Default for World {
    fn default() -> Self {
        World {
            two_arm: true,
            toa: false,
            scheduler: SchedulerKind::RoundRobin,
            persistence: None,
            servers: vec![Rs { weight: 1, max_connections: 0, removed: false }; 3],
            lips: vec![0, 1],
            ports: 1025..=65535,
            quarantine_ms: 60_000,
            timeouts: Timeouts::default(),
            mtu: [1500; 2],
            router_behind: false,
            link_local: false,
            services: true,
            generation: 0,
            vips_as_lips: false,
            former: Vec::new(),
            shared: BTreeMap::new(),
        }
    }
}

/// The services, by id: IPv4 TCP, IPv4 UDP, IPv6 TCP, IPv6 UDP.
const SERVICES: [(bool, Proto); 4] = [(false, Proto::Tcp), (false, Proto::Udp), (true, Proto::Tcp), (true, Proto::Udp)];

/// Server ids are in groups of this many, one group per service.
pub const GROUP: u16 = 16;

pub fn vport(proto: Proto) -> u16 {
    if proto == Proto::Tcp { 80 } else { 53 }
}

pub fn rport(proto: Proto) -> u16 {
    if proto == Proto::Tcp { 8080 } else { 5353 }
}

impl World {
    /// The interface the servers are on.
    pub fn back(&self) -> IfaceId {
        if self.two_arm { BACK } else { FRONT }
    }

    /// Sessions that count on the nth server in the service of this family and protocol.
    pub fn active<A: Addr>(&self, proto: Proto, n: u16) -> u32 {
        self.shared.get(&server_id::<A>(proto, n)).map_or(0, |shared| shared.active())
    }

    /// Sessions that count on any server.
    pub fn active_in_all(&self) -> u32 {
        self.shared.values().map(|shared| shared.active()).sum()
    }

    /// The next plan.
    pub fn plan(&mut self) -> Arc<Plan> {
        self.generation += 1;
        let (mut services, mut servers) = (Vec::new(), Vec::new());
        for (group, &(v6, proto)) in SERVICES.iter().enumerate() {
            let id = ServiceId(group as u16);
            let group = group as u16 * GROUP;
            let ids =
                self.servers.iter().zip(group..).filter(|(s, _)| !s.removed).map(|(_, id)| ServerId(id)).collect();
            if self.services {
                services.push(self.service(id, v6, proto, ids));
            }
            for (n, rs) in self.servers.iter().enumerate() {
                let rip = if v6 { IpAddr::V6(Net::server(n as u16)) } else { IpAddr::V4(Net::server(n as u16)) };
                servers.push(Server {
                    id: ServerId(group + n as u16),
                    service: id,
                    rip,
                    rport: RPort(rport(proto)),
                    weight: if rs.removed || !self.services { 0 } else { rs.weight },
                    max_connections: rs.max_connections,
                    shared: Arc::clone(self.shared.entry(group + n as u16).or_default()),
                });
            }
        }
        let pool = LocalPool {
            name: "pool".into(),
            v4: self.lips.iter().map(|&n| Net::lip(n)).chain(self.vips_as_lips.then(Net::vip)).collect(),
            v6: self.lips.iter().map(|&n| Net::lip(n)).chain(self.vips_as_lips.then(Net::vip)).collect(),
            ports: self.ports.clone(),
        };
        let (interfaces, routes) = (self.interfaces(), self.routes());
        let pools = vec![pool];
        let mut plan = Plan::new(self.generation, interfaces, routes, pools, self.quarantine_ms, services, servers);
        plan.remember(self.former.iter().copied());
        let changed = |&&(address, own): &&(IpAddr, Own)| plan.own(address).is_some_and(|now| now != own);
        let both: Vec<IpAddr> = self.former.iter().filter(changed).map(|&(address, _)| address).collect();
        plan.remember_both(both);
        self.former.extend(plan.own_addresses().filter(|(_, own)| matches!(own, Own::Vip | Own::Lip)));
        Arc::new(plan)
    }

    fn service(&self, id: ServiceId, v6: bool, proto: Proto, servers: Vec<ServerId>) -> Service {
        Service {
            id,
            name: format!("service {}", id.0),
            vip: if v6 { IpAddr::V6(Net::vip()) } else { IpAddr::V4(Net::vip()) },
            vport: VPort(vport(proto)),
            proto,
            scheduler: self.scheduler,
            servers,
            pool: 0,
            toa: self.toa,
            persistence: self.persistence,
            timeouts: self.timeouts,
        }
    }

    /// Addresses of an interface with their prefix lengths.
    fn addresses(&self, iface: IfaceId) -> Vec<(IpAddr, u8)> {
        let links = if self.two_arm { vec![iface] } else { vec![FRONT, BACK] };
        let of = |&link: &IfaceId| [(IpAddr::V4(Net::own(link)), 24), (IpAddr::V6(Net::own(link)), 64)];
        let link_local = (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), 64);
        self.link_local.then_some(link_local).into_iter().chain(links.iter().flat_map(of)).collect()
    }

    fn interfaces(&self) -> Vec<Interface> {
        let interface = |iface: IfaceId| Interface {
            name: format!("if{}", iface.0),
            mac: our_mac(iface),
            mtu: self.mtu[usize::from(iface.0)],
            addresses: self.addresses(iface),
        };
        let all: &[IfaceId] = if self.two_arm { &[FRONT, BACK] } else { &[FRONT] };
        all.iter().map(|&iface| interface(iface)).collect()
    }

    fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        for (i, interface) in self.interfaces().iter().enumerate() {
            for &(address, len) in &interface.addresses {
                routes.connected(IfaceId(i as u8), address, len);
            }
        }
        routes.default_gateway(FRONT, IpAddr::V4(Net::router()));
        routes.default_gateway(FRONT, IpAddr::V6(Net::router()));
        if self.router_behind {
            routes.default_gateway(BACK, IpAddr::V4(Net::server(9)));
            routes.default_gateway(BACK, IpAddr::V6(Net::server(9)));
        }
        routes.build().expect("routes of the test network")
    }

    /// Next hops with their MAC addresses.
    pub fn next_hops(&self) -> Vec<(IfaceId, IpAddr, Mac)> {
        let mut hops = vec![(FRONT, IpAddr::V4(Net::router()), ROUTER), (FRONT, IpAddr::V6(Net::router()), ROUTER)];
        for n in 0..GROUP {
            hops.push((self.back(), IpAddr::V4(Net::server(n)), server_mac(n)));
            hops.push((self.back(), IpAddr::V6(Net::server(n)), server_mac(n)));
        }
        hops
    }
}

fn server_id<A: Addr>(proto: Proto, n: u16) -> u16 {
    let group = SERVICES.iter().position(|&service| service == (A::IS_V6, proto)).expect("one of the four services");
    group as u16 * GROUP + n
}

/// A frame in a buffer.
pub fn frame(bytes: &[u8]) -> HeapFrame {
    HeapFrame::new(bytes)
}
