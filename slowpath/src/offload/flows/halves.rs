//! Sessions made out again from the entries of an earlier life.
//!
//! An entry tells what packets carry and what they carry then. Its other half is what the answers need: their key is the rewritten
//! packet turned round, and they are rewritten to the original one turned round. By ids the inbound entry names the other one.

use std::net::{Ipv4Addr, Ipv6Addr};

use carom_p4::{FlowV4Action, FlowV6Action, InboundV4Action};
use fullnat::flow::Direction;
use fullnat::id::{NexthopId, Proto};
use fullnat::offload::{AnyEnds, Ends};

use super::{ConnectionAction, FlowAction, FlowKey, Flows};

impl Flows {
    /// The key of the other half of a session whose inbound entry this is; none: it is no session's.
    pub fn other_half(&self, key: &FlowKey, action: &FlowAction) -> Option<FlowKey> {
        match (self, action) {
            (Flows::ByIds(ids), FlowAction::Inbound(InboundV4Action::ToConnection { pair, lport })) => {
                Some(FlowKey::Connection(ids.connection(*pair, *lport)))
            }
            _ => Some(FlowKey::of(&plain(key, action, NexthopId(0))?, Direction::Outbound)),
        }
    }

    /// The session that two entries are, the inbound one first; none: they do not fit.
    pub fn session(&self, inbound: (FlowKey, FlowAction), outbound: (FlowKey, FlowAction)) -> Option<AnyEnds> {
        let ends = match self {
            Flows::ByIds(_) if matches!(inbound.0, FlowKey::Inbound(_)) => self.by_ids(inbound, outbound.1)?,
            _ => plain(&inbound.0, &inbound.1, nexthop(&outbound.1)?)?,
        };
        // Nothing is guessed from one of them: each has to be the entry that this session would have.
        let expected = |direction| (self.key(&ends, direction), self.action(&ends, direction));
        let fits = expected(Direction::Inbound) == inbound && expected(Direction::Outbound) == outbound;
        (fits && inbound.0 != outbound.0).then_some(ends)
    }

    /// What ids stand for is not in the entries.
    fn by_ids(&self, (key, action): (FlowKey, FlowAction), outbound: FlowAction) -> Option<AnyEnds> {
        let (
            Flows::ByIds(ids),
            FlowKey::Inbound(key),
            FlowAction::Inbound(InboundV4Action::ToConnection { pair, lport }),
            FlowAction::Connection(ConnectionAction { service, .. }),
        ) = (self, key, action, outbound)
        else {
            return None;
        };
        let (pair, nexthop_in) = ids.pair(pair)?;
        let addresses = [key.src, key.dst, pair.src, pair.dst].map(Ipv4Addr::from_bits);
        let ports = [key.sport, key.dport, pair.sport, lport];
        let nexthops = [nexthop_in, ids.nexthop_out(service)?].map(NexthopId);
        Some(AnyEnds::V4(Ends::new(addresses, ports, proto(key.proto)?, nexthops)))
    }
}

/// The protocol of a number, of those that are balanced.
pub fn proto(number: u8) -> Option<Proto> {
    [Proto::Tcp, Proto::Udp].into_iter().find(|proto| *proto as u8 == number)
}

/// What a session's plain entries are made of, by the inbound one, and by the next hop of the outbound one.
fn plain(key: &FlowKey, action: &FlowAction, nexthop_out: NexthopId) -> Option<AnyEnds> {
    Some(match (key, action) {
        (FlowKey::V4(key), FlowAction::V4(FlowV4Action::RewriteV4 { src, dst, sport, dport, nexthop })) => {
            let addresses = [key.src, key.dst, *dst, *src].map(Ipv4Addr::from_bits);
            let ports = [key.sport, key.dport, *dport, *sport];
            AnyEnds::V4(Ends::new(addresses, ports, proto(key.proto)?, [NexthopId(*nexthop), nexthop_out]))
        }
        (FlowKey::V6(key), FlowAction::V6(FlowV6Action::RewriteV6 { src, dst, sport, dport, nexthop })) => {
            let addresses = [key.src, key.dst, *dst, *src].map(Ipv6Addr::from_bits);
            let ports = [key.sport, key.dport, *dport, *sport];
            AnyEnds::V6(Ends::new(addresses, ports, proto(key.proto)?, [NexthopId(*nexthop), nexthop_out]))
        }
        _ => return None,
    })
}

/// The next hop that a plain entry names.
fn nexthop(action: &FlowAction) -> Option<NexthopId> {
    match action {
        FlowAction::V4(FlowV4Action::RewriteV4 { nexthop, .. })
        | FlowAction::V6(FlowV6Action::RewriteV6 { nexthop, .. }) => Some(NexthopId(*nexthop)),
        _ => None,
    }
}
