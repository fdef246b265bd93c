//! Which entries a plan and a next-hop table come to.

use std::net::{IpAddr, Ipv6Addr};

use carom_p4::{
    InjectAction, InjectKey, LocalV4Action, LocalV4Key, LocalV6Action, LocalV6Key, NexthopAction, NexthopKey,
    PortAction, PortKey, ServiceV4Action, ServiceV4Key, ServiceV6Action, ServiceV6Key, SlowpathAction, SlowpathKey,
};
use fullnat::id::{IfaceId, NexthopId, Proto, VPort};
use fullnat::neighbor::Neighbor;
use fullnat::plan::{Own, Plan};
use fullnat::wire::Mac;
use hashbrown::HashMap;

use super::{Ports, RowAction, RowKey};

/// Whose punts go to which worker: the link spreads them, the table has one way.
const WORKER: u8 = 0;

/// Where neighbours say that their MAC address is another now (RFC 4861 section 7.2.6).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Of more, the oldest are forgotten: no table has room for them.
const MOST_FORMER: usize = 8192;

/// What earlier plans had, oldest first, and what the present one has besides tables.
#[derive(Debug, Default)]
pub struct Former {
    services: Vec<RowKey>,
    addresses: Vec<IpAddr>,
    /// Of the interfaces, by id.
    macs: Vec<Mac>,
}

/// A next hop whose entry is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    iface: IfaceId,
    addr: IpAddr,
    mac: Mac,
}

impl Hop {
    /// A neighbour that an entry leads to.
    pub fn new(neighbor: &Neighbor, NexthopAction::Forward { dmac, .. }: NexthopAction) -> Self {
        Hop { iface: neighbor.iface, addr: neighbor.addr, mac: Mac(dmac) }
    }
}

/// Key of the entry of a next hop that is called so.
pub fn nexthop(label: NexthopId) -> RowKey {
    RowKey::Nexthop(NexthopKey { nexthop: label.0 })
}

impl Former {
    /// All entries but those of next hops, for this plan and as much of the earlier ones as there is room for.
    pub fn wanted(&mut self, ports: &Ports, plan: &Plan) -> HashMap<RowKey, RowAction> {
        let mut wanted = HashMap::new();
        for service in plan.services() {
            let key = service_key(service.vip, service.proto, service.vport);
            wanted.insert(key, service_action(&key));
        }
        remember(&mut self.services, wanted.keys().copied());
        add_former(&mut wanted, &self.services, |key| (*key, service_action(key)));
        let mut own: Vec<(IpAddr, Own)> = plan.own_addresses().collect();
        own.sort_unstable_by_key(|(address, _)| *address);
        wanted.extend(own.iter().map(|(address, own)| local(*address, *own != Own::Vip)));
        if own.iter().any(|(address, _)| address.is_ipv6()) {
            wanted.extend([local(ALL_NODES.into(), false)]);
        }
        remember(&mut self.addresses, own.iter().map(|(address, _)| *address));
        add_former(&mut wanted, &self.addresses, |address| local(*address, true));
        for worker in 0..ports.workers {
            let action = SlowpathAction::ToPort { port: ports.link };
            wanted.insert(RowKey::Slowpath(SlowpathKey { worker }), RowAction::Slowpath(action));
        }
        let inject = RowKey::Inject(InjectKey { port: ports.link });
        wanted.insert(inject, RowAction::Inject(InjectAction::Honour {}));
        for &port in &ports.interfaces {
            // A tag names a port by its low 12 bits, which the config keeps apart.
            let key = RowKey::Port(PortKey { vid: port as u16 & 0xfff });
            wanted.insert(key, RowAction::Port(PortAction::OutOf { port }));
        }
        wanted
    }

    /// The interfaces' MAC addresses of another plan.
    pub fn set_macs(&mut self, plan: &Plan) {
        self.macs = plan.interfaces.iter().map(|interface| interface.mac).collect();
    }

    /// What a next hop's entry does; none: its interface is no port of the switch.
    pub fn forward(&self, ports: &Ports, iface: IfaceId, mac: Mac) -> Option<RowAction> {
        let iface = usize::from(iface.0);
        let (port, smac) = (*ports.interfaces.get(iface)?, self.macs.get(iface)?.0);
        Some(RowAction::Nexthop(NexthopAction::Forward { smac, dmac: mac.0, port }))
    }

    /// The entry of a next hop that was `before` under the same id. Without a MAC address it keeps the last one, as long as it is
    /// the same neighbour: flows go on better to where it was than nowhere.
    pub fn hop(&self, ports: &Ports, neighbor: &Neighbor, before: Option<&Hop>) -> Option<(Hop, RowAction)> {
        let Neighbor { iface, addr, .. } = *neighbor;
        let same = before.filter(|hop| (hop.iface, hop.addr) == (iface, addr)).map(|hop| hop.mac);
        let mac = neighbor.mac.or(same)?;
        Some((Hop { iface, addr, mac }, self.forward(ports, iface, mac)?))
    }
}

/// Puts what is new at the end, and what was there already too: it is the youngest again.
fn remember<T: PartialEq>(list: &mut Vec<T>, present: impl Iterator<Item = T>) {
    let present: Vec<T> = present.collect();
    list.retain(|item| !present.contains(item));
    list.extend(present);
    list.drain(..list.len().saturating_sub(MOST_FORMER));
}

/// Adds those that are not wanted anyway, the youngest first, while their tables have room.
fn add_former<T>(wanted: &mut HashMap<RowKey, RowAction>, list: &[T], entry: impl Fn(&T) -> (RowKey, RowAction)) {
    let mut taken: HashMap<u32, u64> = HashMap::new();
    wanted.keys().for_each(|key| *taken.entry(key.table().id).or_default() += 1);
    for item in list.iter().rev() {
        let (key, action) = entry(item);
        let taken = taken.entry(key.table().id).or_default();
        if !wanted.contains_key(&key) && *taken < key.table().size {
            wanted.insert(key, action);
            *taken += 1;
        }
    }
}

fn service_key(vip: IpAddr, proto: Proto, vport: VPort) -> RowKey {
    let (proto, dport) = (proto as u8, vport.0);
    match vip {
        IpAddr::V4(dst) => RowKey::ServiceV4(ServiceV4Key { dst: dst.to_bits(), proto, dport }),
        IpAddr::V6(dst) => RowKey::ServiceV6(ServiceV6Key { dst: dst.to_bits(), proto, dport }),
    }
}

fn service_action(key: &RowKey) -> RowAction {
    match key {
        RowKey::ServiceV6(_) => RowAction::ServiceV6(ServiceV6Action::PuntServiceV6 { worker: WORKER }),
        _ => RowAction::ServiceV4(ServiceV4Action::PuntServiceV4 { worker: WORKER }),
    }
}

/// The entry of an address. `all`: what has ports is punted too, though it is for no service.
pub fn local(address: IpAddr, all: bool) -> (RowKey, RowAction) {
    match address {
        IpAddr::V4(dst) => {
            let punt = match all {
                true => LocalV4Action::PuntAll { worker: WORKER },
                false => LocalV4Action::PuntOther { worker: WORKER },
            };
            (RowKey::LocalV4(LocalV4Key { dst: dst.to_bits() }), RowAction::LocalV4(punt))
        }
        IpAddr::V6(dst) => {
            let punt = match all {
                true => LocalV6Action::PuntAll { worker: WORKER },
                false => LocalV6Action::PuntOther { worker: WORKER },
            };
            (RowKey::LocalV6(LocalV6Key { dst: dst.to_bits() }), RowAction::LocalV6(punt))
        }
    }
}
