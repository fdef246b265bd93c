//! Plans for tests, which say only what matters to them.

use super::*;

/// A service without anything special over the servers with these ids.
pub fn service(id: u16, vip: impl Into<IpAddr>, vport: u16, proto: Proto, servers: &[u16]) -> Service {
    Service {
        id: ServiceId(id),
        name: format!("service{id}"),
        vip: vip.into(),
        vport: VPort(vport),
        proto,
        scheduler: SchedulerKind::RoundRobin,
        servers: servers.iter().copied().map(ServerId).collect(),
        pool: 0,
        toa: false,
        persistence: None,
        timeouts: Timeouts::default(),
    }
}

/// A server of a service, of weight 1 and without a limit.
pub fn server(id: u16, service: u16, rip: impl Into<IpAddr>, rport: u16) -> Server {
    Server {
        id: ServerId(id),
        service: ServiceId(service),
        rip: rip.into(),
        rport: RPort(rport),
        weight: 1,
        max_connections: 0,
        shared: Arc::default(),
    }
}

/// An interface with one address of its own, and the length of its prefix.
pub fn interface(mac: Mac, address: impl Into<IpAddr>, len: u8) -> Interface {
    Interface { name: "lan".into(), mac, mtu: 1500, addresses: vec![(address.into(), len)] }
}

/// The first plan: these interfaces and what is on their links, one pool of these local addresses, whose ports do not rest.
pub fn plan(interfaces: Vec<Interface>, lips: &[Ipv4Addr], services: Vec<Service>, servers: Vec<Server>) -> Plan {
    let mut routes = Routes::builder();
    for (iface, interface) in (0..).map(IfaceId).zip(&interfaces) {
        for &(address, len) in &interface.addresses {
            routes.connected(iface, address, len);
        }
    }
    let routes = routes.build().expect("a route for each address");
    let pool = LocalPool { name: "snat".into(), v4: lips.to_vec(), v6: Vec::new(), ports: 1025..=65535 };
    Plan::new(1, interfaces, routes, vec![pool], 0, services, servers)
}
