//! Flows by ids: what the entries of `inbound_v4` and `connection_v4` name, and the small tables that say what is named.
//!
//! A service is (VIP, protocol, port), a pair (real server, protocol, port, local address). Both have ids, and each the ways on
//! from it, which differ in the next hop. An entry of a small table never changes: with another next hop it is another way. So
//! sessions keep their next hops as they do with plain entries, and an entry that is there says what it said when a flow entry
//! first named it.

use std::net::Ipv4Addr;

use carom_p4::{
    InboundV4Action, InboundV4Key, PairIdV4Action, PairIdV4Key, PairV4Action, PairV4Key, ServiceAddrV4Action,
    ServiceAddrV4Key, ServiceIdV4Action, ServiceIdV4Key,
};
use fullnat::flow::Direction;
use fullnat::offload::Ends;

use super::named::{self, Named, Value, Want};
use super::{ConnectionAction, ConnectionKey, FlowAction, FlowKey, Tuple};
use crate::offload::replica::{RowAction, RowKey};

/// Whose punts go to which worker: the link spreads them, the table has one way.
const WORKER: u8 = 0;

impl Value for ServiceIdV4Key {
    const BITS: u32 = 10;

    fn row(self, id: u16) -> (RowKey, RowAction) {
        let action = ServiceIdV4Action::IsService { id, worker: WORKER };
        (RowKey::ServiceIdV4(self), RowAction::ServiceIdV4(action))
    }

    fn way(self, service: u16, nexthop: u16) -> (RowKey, RowAction) {
        let action = ServiceAddrV4Action::FromService { src: self.dst, sport: self.dport, nexthop };
        (RowKey::ServiceAddrV4(ServiceAddrV4Key { service }), RowAction::ServiceAddrV4(action))
    }
}

impl Value for PairIdV4Key {
    const BITS: u32 = 14;

    fn row(self, id: u16) -> (RowKey, RowAction) {
        (RowKey::PairIdV4(self), RowAction::PairIdV4(PairIdV4Action::IsPair { id }))
    }

    fn way(self, pair: u16, nexthop: u16) -> (RowKey, RowAction) {
        let action = PairV4Action::ToPair { src: self.dst, dst: self.src, dport: self.sport, nexthop };
        (RowKey::PairV4(PairV4Key { pair }), RowAction::PairV4(action))
    }
}

/// The service and the pair of a session.
fn common(ends: &Ends<Ipv4Addr>) -> (ServiceIdV4Key, PairIdV4Key) {
    let proto = ends.proto as u8;
    let [vip, local, server] = [ends.vip, ends.local, ends.server].map(Ipv4Addr::to_bits);
    let service = ServiceIdV4Key { dst: vip, proto, dport: ends.vport.0 };
    (service, PairIdV4Key { src: server, dst: local, proto, sport: ends.rport.0 })
}

/// Ids there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Of services.
    pub services: u16,
    /// Of pairs.
    pub pairs: u16,
}

/// All ids.
#[derive(Clone, Debug)]
pub struct Ids {
    services: Named<ServiceIdV4Key>,
    pairs: Named<PairIdV4Key>,
    /// Entries of small tables that are to change.
    wants: Vec<Want>,
    /// Sweeps that began.
    sweep: u64,
    /// What was given back after no more sweeps than this is named by nothing any more.
    rested: Option<u64>,
}

impl Ids {
    /// No id is given yet.
    pub fn new(room: Room) -> Self {
        let (services, pairs) = (Named::new(room.services), Named::new(room.pairs));
        Ids { services, pairs, wants: Vec::new(), sweep: 0, rested: None }
    }

    /// Takes the ids of one more session. False, with none taken: there are not enough.
    pub fn take(&mut self, ends: &Ends<Ipv4Addr>) -> bool {
        let (service, pair) = common(ends);
        let taken = self.services.take(service, ends.nexthop_out.0, self.sweep, &mut self.wants) && {
            let taken = self.pairs.take(pair, ends.nexthop_in.0, self.sweep, &mut self.wants);
            if !taken {
                self.services.give(&service, ends.nexthop_out.0, self.sweep);
            }
            taken
        };
        if let Some(rested) = self.rested {
            self.services.spare(&service, rested, &mut self.wants);
            self.pairs.spare(&pair, rested, &mut self.wants);
        }
        taken
    }

    /// Gives the ids of a session back.
    pub fn give(&mut self, ends: &Ends<Ipv4Addr>) {
        let (service, pair) = common(ends);
        self.services.give(&service, ends.nexthop_out.0, self.sweep);
        self.pairs.give(&pair, ends.nexthop_in.0, self.sweep);
    }

    /// The flow tables are read from now on.
    pub fn sweep_begins(&mut self) {
        self.sweep += 1;
    }

    /// They were read to their end, and what nobody owns is gone.
    pub fn sweep_is_clean(&mut self) {
        self.rested = self.sweep.checked_sub(1);
    }

    /// All tables of the target are empty: what nobody needs need not be written again.
    pub fn wiped(&mut self) {
        self.services.spare_all(&mut self.wants);
        self.pairs.spare_all(&mut self.wants);
    }

    /// The target has an entry of an earlier life. Its value gets the id that it has there, unless that contradicts ours. Ids
    /// come before the ways on from them.
    pub fn take_over(&mut self, key: &RowKey, action: &RowAction) {
        let sweep = self.sweep;
        let agrees = match (*key, *action) {
            (
                RowKey::ServiceIdV4(value),
                RowAction::ServiceIdV4(ServiceIdV4Action::IsService { id, worker: WORKER }),
            ) => self.services.take_over(id, value, sweep),
            (RowKey::PairIdV4(value), RowAction::PairIdV4(PairIdV4Action::IsPair { id })) => {
                self.pairs.take_over(id, value, sweep)
            }
            (
                RowKey::ServiceAddrV4(ServiceAddrV4Key { service }),
                RowAction::ServiceAddrV4(ServiceAddrV4Action::FromService { nexthop, .. }),
            ) => self.services.take_way_over(key, action, service, nexthop, sweep),
            (RowKey::PairV4(PairV4Key { pair }), RowAction::PairV4(PairV4Action::ToPair { nexthop, .. })) => {
                self.pairs.take_way_over(key, action, pair, nexthop, sweep)
            }
            _ => false,
        };
        if agrees {
            self.wants.push((*key, Some(*action)));
        }
    }

    /// An entry of a small table that was to go is gone.
    pub fn gone(&mut self, key: &RowKey) {
        match key {
            RowKey::ServiceIdV4(value) => self.services.value_gone(value),
            RowKey::PairIdV4(value) => self.pairs.value_gone(value),
            RowKey::ServiceAddrV4(ServiceAddrV4Key { service }) => self.services.way_gone(*service),
            RowKey::PairV4(PairV4Key { pair }) => self.pairs.way_gone(*pair),
            _ => {}
        }
    }

    /// The entries of small tables that are to change, in order.
    pub fn wants(&mut self) -> std::vec::Drain<'_, Want> {
        self.wants.drain(..)
    }

    /// The names that a session's entries have for service and pair, with the ways on from them; none of a session without ids.
    fn names(&self, ends: &Ends<Ipv4Addr>) -> Option<(u16, u16)> {
        let (service, pair) = common(ends);
        Some((self.services.name(&service, ends.nexthop_out.0)?, self.pairs.name(&pair, ends.nexthop_in.0)?))
    }

    /// The entries of small tables that a session's entries need: of the service and the way on from it, and of the pair. None
    /// of a session without ids.
    pub fn rows(&self, ends: &Ends<Ipv4Addr>) -> Option<[(RowKey, RowAction); 4]> {
        let (service, pair) = common(ends);
        let (from, to) = self.names(ends)?;
        Some([
            service.row(self.services.id(&service)?),
            service.way(from, ends.nexthop_out.0),
            pair.row(self.pairs.id(&pair)?),
            pair.way(to, ends.nexthop_in.0),
        ])
    }

    /// The key of a session's entry; none of a session without ids.
    pub fn key(&self, ends: &Ends<Ipv4Addr>, direction: Direction) -> Option<FlowKey> {
        Some(match direction {
            Direction::Inbound => {
                let fullnat::flow::FlowKey { src, dst, sport, dport, proto } = ends.key(direction);
                let (src, dst, proto) = (src.to_bits(), dst.to_bits(), proto as u8);
                FlowKey::Inbound(InboundV4Key { src, dst, proto, sport, dport })
            }
            Direction::Outbound => {
                let pair = self.pairs.id(&common(ends).1)?;
                FlowKey::Connection(ConnectionKey { pair, lport: ends.lport.0 })
            }
        })
    }

    /// What a session's entry does; none of a session without ids.
    pub fn action(&self, ends: &Ends<Ipv4Addr>, direction: Direction) -> Option<FlowAction> {
        let (service, pair) = self.names(ends)?;
        Some(match direction {
            Direction::Inbound => FlowAction::Inbound(InboundV4Action::ToConnection { pair, lport: ends.lport.0 }),
            Direction::Outbound => {
                let (client, cport) = (ends.client.to_bits(), ends.cport.0);
                FlowAction::Connection(ConnectionAction { client, cport, service })
            }
        })
    }

    /// The five-tuple of the outbound packets that a connection's key stands for.
    pub fn outbound(&self, key: &ConnectionKey) -> Option<Tuple> {
        let PairIdV4Key { src, dst, proto, sport } = self.pairs.value(key.pair)?;
        Some(Tuple { src, dst, proto, sport, dport: key.lport })
    }

    /// The key of the connection that an inbound entry names.
    pub fn connection(&self, pair: u16, lport: u16) -> ConnectionKey {
        ConnectionKey { pair: named::parts::<PairIdV4Key>(pair).0, lport }
    }

    /// What the name of a pair stands for, with the next hop to its real server.
    pub fn pair(&self, name: u16) -> Option<(PairIdV4Key, u16)> {
        self.pairs.named(name)
    }

    /// The next hop to the client that the name of a service stands for.
    pub fn nexthop_out(&self, service: u16) -> Option<u16> {
        Some(self.services.named(service)?.1)
    }

    /// Whether no session has any.
    #[cfg(test)]
    pub fn are_unused(&self) -> bool {
        self.services.is_unused() && self.pairs.is_unused()
    }
}
