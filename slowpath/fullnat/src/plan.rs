//! The plan: what the operator configured, compiled for the workers. Immutable; a reload makes a new one.
//!
//! Services and servers keep their ids over reloads, so that sessions, counters and switch entries can name them by
//! number. Everything a worker changes while it runs lives elsewhere (scheduler state, port spaces, sessions), except the
//! few counters that all workers share in [`ServerShared`].

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::{HashMap, HashSet};

use crate::addr::same_prefix;
use crate::flow::Direction;
use crate::id::{IfaceId, Proto, RPort, ServerId, ServiceId, VPort};
use crate::route::Routes;
use crate::sched::{HashTable, SchedulerKind};
use crate::tcp::Timeouts;
use crate::wire::Mac;

/// The whole configuration as the workers see it.
#[derive(Debug, Default)]
pub struct Plan {
    /// Counts reloads; the first plan is 1.
    pub generation: u64,
    /// The interfaces, by [`IfaceId`].
    pub interfaces: Vec<Interface>,
    /// Connected, static and default routes.
    pub routes: Routes,
    /// Pools of local addresses, named by [`Service::pool`].
    pub pools: Vec<LocalPool>,
    /// Milliseconds a released local port rests before it is used again.
    pub quarantine_ms: u64,
    services: Vec<Option<Service>>,
    servers: Vec<Option<Server>>,
    by_vip: HashMap<(u128, u32), ServiceId>,
    /// By server slot: the interface and the next hop towards it.
    ways: Vec<Option<(IfaceId, IpAddr)>>,
    own: HashMap<IpAddr, Own>,
    /// VIPs and LIPs of earlier plans: sessions over them go on.
    former: HashMap<IpAddr, Own>,
    /// Addresses that were a VIP in one plan and a LIP in another.
    both: HashSet<IpAddr>,
    /// By service slot; empty where the scheduler needs none.
    hash_tables: Vec<HashTable>,
}

/// An interface of the balancer.
#[derive(Clone, Debug)]
pub struct Interface {
    /// The operator's name for it.
    pub name: String,
    /// Its MAC address.
    pub mac: Mac,
    /// The largest IP packet that leaves by it, in bytes.
    pub mtu: u16,
    /// Its own addresses with their prefix lengths; what is inside a prefix is on the link.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Interface {
    /// Our address on the link that `address` is on.
    fn prefix_of(&self, address: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().find(|&&(own, len)| same_prefix(own, address, len)).map(|&(own, _)| own)
    }
}

/// What clients connect to.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its slot in the plan.
    pub id: ServiceId,
    /// The operator's name for it.
    pub name: String,
    /// The VIP.
    pub vip: IpAddr,
    /// The port on the VIP.
    pub vport: VPort,
    /// TCP or UDP.
    pub proto: Proto,
    /// How a real server is chosen.
    pub scheduler: SchedulerKind,
    /// The real servers, in configured order, those of weight 0 included.
    pub servers: Vec<ServerId>,
    /// Index into [`Plan::pools`].
    pub pool: usize,
    /// Whether the client's address travels to the real server in TCP option 254.
    pub toa: bool,
    /// Clients of one prefix stay with one server, when set.
    pub persistence: Option<PersistenceRule>,
    /// Session timeouts by state.
    pub timeouts: Timeouts,
}

/// Persistence: connections from one client prefix go to the same real server until none came for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PersistenceRule {
    /// Milliseconds without a new connection after which the client's server is forgotten.
    pub timeout_ms: u64,
    /// Prefix length for IPv4 clients, 0 to 32.
    pub prefix_v4: u8,
    /// Prefix length for IPv6 clients, 0 to 128.
    pub prefix_v6: u8,
}

/// A real server of one service.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its slot in the plan.
    pub id: ServerId,
    /// The service it belongs to.
    pub service: ServiceId,
    /// The RIP.
    pub rip: IpAddr,
    /// The port on the RIP.
    pub rport: RPort,
    /// Share of new sessions; 0 drains: sessions go on, none begins.
    pub weight: u16,
    /// Most sessions at a time over all workers; 0 means no limit.
    pub max_connections: u32,
    /// What all workers count together.
    pub shared: Arc<ServerShared>,
}

/// Counters of one real server that all workers share; written by way of [`Loads`](crate::sched::Loads).
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServerShared {
    active: AtomicU32,
}

impl ServerShared {
    /// Sessions that count on the server now.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Counts one more session; false, with nothing counted, when `max` (0 = no limit) is reached.
    pub fn begin(&self, max: u32) -> bool {
        if max == 0 {
            self.active.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        // Never above `max`, not even for a moment: another worker would see a full server that is not.
        self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then(|| n + 1)).is_ok()
    }

    /// Counts one session less.
    pub fn end(&self) {
        self.change(-1);
    }

    /// Counts so many sessions more or less.
    pub fn change(&self, by: i32) {
        self.active.fetch_add(by as u32, Ordering::Relaxed);
    }
}

/// Local addresses (LIPs) and the ports used on them.
#[derive(Clone, Debug)]
pub struct LocalPool {
    /// The operator's name for it.
    pub name: String,
    /// IPv4 LIPs.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6 LIPs.
    pub v6: Vec<Ipv6Addr>,
    /// The ports of each LIP that sessions may use.
    pub ports: RangeInclusive<u16>,
}

/// What an address of ours is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Own {
    /// The address of one or more services.
    Vip,
    /// A local address: the source real servers see.
    Lip,
    /// An interface's own address.
    Interface(IfaceId),
}

impl Plan {
    /// Builds a plan from its parts. `services` and `servers` carry the ids that decide their slots.
    pub fn new(
        generation: u64,
        interfaces: Vec<Interface>,
        routes: Routes,
        pools: Vec<LocalPool>,
        quarantine_ms: u64,
        services: Vec<Service>,
        servers: Vec<Server>,
    ) -> Self {
        let mut own = HashMap::new();
        for (i, interface) in interfaces.iter().enumerate() {
            for &(address, _) in &interface.addresses {
                own.insert(address, Own::Interface(IfaceId(i as u8)));
            }
        }
        for pool in &pools {
            own.extend(pool.v4.iter().map(|&a| (IpAddr::V4(a), Own::Lip)));
            own.extend(pool.v6.iter().map(|&a| (IpAddr::V6(a), Own::Lip)));
        }
        own.extend(services.iter().map(|s| (s.vip, Own::Vip)));
        let by_vip = services.iter().map(|s| (vip_key(s.vip, s.vport, s.proto), s.id)).collect();
        let servers = slots(servers, |s| s.id.0);
        let ways = servers.iter().map(|server| routes.way_to(server.as_ref()?.rip)).collect();
        let mut plan = Plan {
            generation,
            interfaces,
            routes,
            pools,
            quarantine_ms,
            services: slots(services, |s| s.id.0),
            servers,
            by_vip,
            ways,
            own,
            former: HashMap::new(),
            both: HashSet::new(),
            hash_tables: Vec::new(),
        };
        let table = |s: &Option<Service>| s.as_ref().and_then(|s| HashTable::build(s, &plan)).unwrap_or_default();
        plan.hash_tables = plan.services.iter().map(table).collect();
        plan
    }

    /// The lookup table of a service whose scheduler hashes; an empty one for any other.
    pub fn hash_table(&self, service: ServiceId) -> HashTable {
        self.hash_tables.get(usize::from(service.0)).cloned().unwrap_or_default()
    }

    /// The service with this VIP, port and protocol.
    #[inline]
    pub fn service_at(&self, vip: IpAddr, vport: VPort, proto: Proto) -> Option<&Service> {
        self.service(*self.by_vip.get(&vip_key(vip, vport, proto))?)
    }

    /// By which interface and through which next hop packets to a real server go.
    #[inline]
    pub fn way_to(&self, server: ServerId) -> Option<(IfaceId, IpAddr)> {
        *self.ways.get(usize::from(server.0))?
    }

    /// The service in this slot.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(usize::from(id.0))?.as_ref()
    }

    /// The real server in this slot.
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers.get(usize::from(id.0))?.as_ref()
    }

    /// All services, by id.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().flatten()
    }

    /// All real servers, by id.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().flatten()
    }

    /// What `address` is for, when it is ours.
    pub fn own(&self, address: IpAddr) -> Option<Own> {
        self.own.get(&address).copied()
    }

    /// What `address` is for, or was for in an earlier plan. Packets for it may be of a session that goes on.
    pub fn own_or_former(&self, address: IpAddr) -> Option<Own> {
        self.own(address).or_else(|| self.former.get(&address).copied())
    }

    /// Remembers what addresses were for in earlier plans. The sessions over them go on, and a packet of theirs that lands at another worker must find its owner.
    pub fn remember(&mut self, former: impl IntoIterator<Item = (IpAddr, Own)>) {
        self.former.extend(former);
    }

    /// Remembers addresses that were a VIP in one plan and a LIP in another: sessions may be of either kind.
    pub fn remember_both(&mut self, both: impl IntoIterator<Item = IpAddr>) {
        self.both.extend(both);
    }

    /// The direction of packets of sessions that go to this address; none where there may be both or neither.
    pub fn direction_to(&self, address: IpAddr) -> Option<Direction> {
        match self.own_or_former(address)? {
            _ if self.both.contains(&address) => None,
            Own::Vip => Some(Direction::Inbound),
            Own::Lip => Some(Direction::Outbound),
            Own::Interface(_) => None,
        }
    }

    /// The interface in this slot. Ids come from the plan itself, which has at least one interface.
    pub fn interface(&self, id: IfaceId) -> &Interface {
        &self.interfaces[usize::from(id.0)]
    }

    /// The interface on whose link an address is, by the prefixes of the interfaces.
    pub fn on_link(&self, address: IpAddr) -> Option<IfaceId> {
        let has = |interface: &Interface| interface.prefix_of(address).is_some();
        self.interfaces.iter().position(has).map(|i| IfaceId(i as u8))
    }

    /// The address of ours to ask for `target` from, on this interface: one of the same prefix, else any of its family.
    pub fn source_for(&self, iface: IfaceId, target: IpAddr) -> Option<IpAddr> {
        let interface = self.interface(iface);
        let any = || interface.addresses.iter().map(|&(ip, _)| ip).find(|ip| ip.is_ipv4() == target.is_ipv4());
        interface.prefix_of(target).or_else(any)
    }

    /// All addresses of ours, for announcing them.
    pub fn own_addresses(&self) -> impl Iterator<Item = (IpAddr, Own)> {
        self.own.iter().map(|(&address, &own)| (address, own))
    }
}

/// A service's address as numbers, which are cheaper to hash than an address is.
#[inline(always)]
fn vip_key(vip: IpAddr, vport: VPort, proto: Proto) -> (u128, u32) {
    let (family, bits) = match vip {
        IpAddr::V4(ip) => (0, u128::from(ip.to_bits())),
        IpAddr::V6(ip) => (1 << 24, ip.to_bits()),
    };
    (bits, family | (proto as u32) << 16 | u32::from(vport.0))
}

/// Places each item at the index `slot` gives it.
fn slots<T>(items: Vec<T>, slot: impl Fn(&T) -> u16) -> Vec<Option<T>> {
    let len = items.iter().map(|i| usize::from(slot(i)) + 1).max().unwrap_or(0);
    let mut slots: Vec<Option<T>> = (0..len).map(|_| None).collect();
    for item in items {
        let at = usize::from(slot(&item));
        slots[at] = Some(item);
    }
    slots
}
