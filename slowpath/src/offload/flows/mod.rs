//! How a program keeps flows: the keys and actions of its flow entries, and what they name in other tables.
//!
//! The book knows sessions by their five-tuples. With plain entries these are the keys. By ids a key has an id in the place of
//! what many sessions have in common, and small tables say what each id stands for.

mod connection;
mod halves;
mod ids;
mod named;
mod space;

use carom_p4::{
    ConnectionV4EvenKey, ConnectionV4OddKey, FlowV4Action, FlowV4Key, FlowV6Action, FlowV6Key, InboundV4Action,
    InboundV4Key, Key, Table,
};
use fullnat::addr::Addr;
use fullnat::flow::{Direction, Rewrite};
use fullnat::id::NexthopId;
use fullnat::offload::{AnyEnds, Ends};

pub use connection::{ConnectionAction, ConnectionKey, Half};
pub use halves::proto;
pub use ids::{Ids, Room as IdRoom};

use super::book::Sides;
use super::replica::{RowAction, RowKey};

/// A five-tuple over IPv4, as packets come with it.
pub type Tuple = FlowV4Key;

/// Key of a flow entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowKey {
    /// Of `flow_v4`.
    V4(FlowV4Key),
    /// Of `flow_v6`.
    V6(FlowV6Key),
    /// Of `inbound_v4`.
    Inbound(InboundV4Key),
    /// Of a half of `connection_v4`, which outbound packets find by themselves.
    Connection(ConnectionKey),
}

impl FlowKey {
    /// The five-tuple of this direction, which is the key of its plain entry.
    pub fn of(ends: &AnyEnds, direction: Direction) -> Self {
        match ends {
            AnyEnds::V4(ends) => {
                let fullnat::flow::FlowKey { src, dst, sport, dport, proto } = ends.key(direction);
                FlowKey::V4(FlowV4Key { src: src.to_bits(), dst: dst.to_bits(), proto: proto as u8, sport, dport })
            }
            AnyEnds::V6(ends) => {
                let fullnat::flow::FlowKey { src, dst, sport, dport, proto } = ends.key(direction);
                FlowKey::V6(FlowV6Key { src: src.to_bits(), dst: dst.to_bits(), proto: proto as u8, sport, dport })
            }
        }
    }
}

/// What a flow entry does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowAction {
    /// In `flow_v4`.
    V4(FlowV4Action),
    /// In `flow_v6`.
    V6(FlowV6Action),
    /// In `inbound_v4`.
    Inbound(InboundV4Action),
    /// In a half of `connection_v4`.
    Connection(ConnectionAction),
}

impl FlowAction {
    /// What the plain entry of this direction does.
    pub fn of(ends: &AnyEnds, direction: Direction) -> Self {
        match ends {
            AnyEnds::V4(ends) => {
                let Rewrite { src, dst, sport, dport, nexthop } = ends.rewrite(direction);
                let (src, dst, nexthop) = (src.to_bits(), dst.to_bits(), nexthop.0);
                FlowAction::V4(FlowV4Action::RewriteV4 { src, dst, sport, dport, nexthop })
            }
            AnyEnds::V6(ends) => {
                let Rewrite { src, dst, sport, dport, nexthop } = ends.rewrite(direction);
                let (src, dst, nexthop) = (src.to_bits(), dst.to_bits(), nexthop.0);
                FlowAction::V6(FlowV6Action::RewriteV6 { src, dst, sport, dport, nexthop })
            }
        }
    }
}

/// What has to be in the target before a session's entries are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The entry of a next hop.
    Nexthop(NexthopId),
    /// An entry of a small table.
    Row(RowKey, RowAction),
}

/// How flows are kept.
#[derive(Clone, Debug, Default)]
pub enum Flows {
    /// Five-tuples, and all that a rewrite needs.
    #[default]
    Plain,
    /// By ids where they are of IPv4, and plain where they are of IPv6.
    ByIds(Box<Ids>),
}

impl Flows {
    /// The tables that have flows: those of IPv4, and that of IPv6.
    pub fn tables(by_ids: bool) -> &'static [Table] {
        if by_ids {
            &[InboundV4Key::TABLE, ConnectionV4EvenKey::TABLE, ConnectionV4OddKey::TABLE, FlowV6Key::TABLE]
        } else {
            &[FlowV4Key::TABLE, FlowV6Key::TABLE]
        }
    }

    /// Whether entries of a flow table count and age.
    pub fn is_watched(table: &Table) -> bool {
        table.id != InboundV4Key::TABLE.id
    }

    /// Whether the target keeps the whole key of such an entry. Of an inbound key by ids it may keep a hash: what it has there
    /// already may be another session's.
    pub fn keeps_key(&self, ends: &AnyEnds, direction: Direction) -> bool {
        !matches!((self, ends, direction), (Flows::ByIds(_), AnyEnds::V4(_), Direction::Inbound))
    }

    /// Which entries of a session like this count and age. By ids one does for both directions.
    pub fn watched(&self, ends: &AnyEnds) -> Sides {
        match (self, ends) {
            (Flows::ByIds(_), AnyEnds::V4(_)) => Sides::NONE.with(Direction::Outbound),
            _ => Sides::BOTH,
        }
    }

    /// Takes what one more session needs. False: there is not enough of it.
    pub fn take(&mut self, ends: &AnyEnds) -> bool {
        match (self, ends) {
            (Flows::ByIds(ids), AnyEnds::V4(ends)) => ids.take(ends),
            _ => true,
        }
    }

    /// Gives back what a session needed.
    pub fn give(&mut self, ends: &AnyEnds) {
        if let (Flows::ByIds(ids), AnyEnds::V4(ends)) = (self, ends) {
            ids.give(ends);
        }
    }

    /// The ids, if there are any.
    pub fn ids(&mut self) -> Option<&mut Ids> {
        match self {
            Flows::Plain => None,
            Flows::ByIds(ids) => Some(ids),
        }
    }

    /// What has to be in the target before the entries of a session that took its part.
    pub fn needs(&self, ends: &AnyEnds) -> impl Iterator<Item = Need> + use<> {
        fn nexthops<A: Addr>(ends: &Ends<A>) -> [Need; 2] {
            [ends.nexthop_in, ends.nexthop_out].map(Need::Nexthop)
        }
        let (hops, rows) = match (self, ends) {
            (Flows::ByIds(ids), AnyEnds::V4(ends)) => (nexthops(ends), ids.rows(ends)),
            (Flows::Plain, AnyEnds::V4(ends)) => (nexthops(ends), None),
            (_, AnyEnds::V6(ends)) => (nexthops(ends), None),
        };
        hops.into_iter().chain(rows.into_iter().flatten().map(|(key, action)| Need::Row(key, action)))
    }

    /// The key of a session's entry. The session took its part.
    pub fn key(&self, ends: &AnyEnds, direction: Direction) -> FlowKey {
        let by_ids = match (self, ends) {
            (Flows::ByIds(ids), AnyEnds::V4(ends)) => ids.key(ends, direction),
            _ => None,
        };
        by_ids.unwrap_or_else(|| FlowKey::of(ends, direction))
    }

    /// What a session's entry does. The session took its part.
    pub fn action(&self, ends: &AnyEnds, direction: Direction) -> FlowAction {
        let by_ids = match (self, ends) {
            (Flows::ByIds(ids), AnyEnds::V4(ends)) => ids.action(ends, direction),
            _ => None,
        };
        by_ids.unwrap_or_else(|| FlowAction::of(ends, direction))
    }

    /// The five-tuple that the key of an entry stands for, and of which direction it has to be then; none: the ids in it stand for
    /// nothing.
    pub fn tuple(&self, key: &FlowKey) -> Option<(FlowKey, Option<Direction>)> {
        match (self, key) {
            (_, FlowKey::V4(_) | FlowKey::V6(_)) => Some((*key, None)),
            (_, FlowKey::Inbound(InboundV4Key { src, dst, proto, sport, dport })) => {
                let tuple = Tuple { src: *src, dst: *dst, proto: *proto, sport: *sport, dport: *dport };
                Some((FlowKey::V4(tuple), Some(Direction::Inbound)))
            }
            (Flows::ByIds(ids), FlowKey::Connection(key)) => {
                Some((FlowKey::V4(ids.outbound(key)?), Some(Direction::Outbound)))
            }
            (Flows::Plain, FlowKey::Connection(_)) => None,
        }
    }
}
