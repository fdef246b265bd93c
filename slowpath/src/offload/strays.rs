//! Flow entries that no session owns, as a sweep finds them, and the sessions that they are halves of. Pure.
//!
//! An entry tells what packets carry and what they carry then. Its other half is what the answers need: their key is the rewritten
//! packet turned round, and they are rewritten to the original one turned round. Only both together are a session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use carom_p4::{FlowV4Action, FlowV6Action};
use fullnat::flow::Direction;
use fullnat::id::{CPort, IfaceId, LPort, NexthopId, Proto, RPort, VPort};
use fullnat::offload::{AnyEnds, Ends};
use fullnat::plan::Plan;
use hashbrown::HashMap;

use super::book::Count;
use super::flows::{FlowAction, FlowKey};

/// The entries.
#[derive(Debug, Default)]
pub struct Strays(HashMap<FlowKey, (Option<FlowAction>, Count)>);

/// A session that two of them are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// What the entries are made of, with the next hops as they are called in the target.
    pub ends: AnyEnds,
    /// Their counters, inbound and outbound.
    pub counts: [Count; 2],
}

impl Pair {
    /// The next hops, towards the real server and towards the client.
    pub fn nexthops(&self) -> [NexthopId; 2] {
        match &self.ends {
            AnyEnds::V4(ends) => [ends.nexthop_in, ends.nexthop_out],
            AnyEnds::V6(ends) => [ends.nexthop_in, ends.nexthop_out],
        }
    }

    /// The interface by which this plan reaches the client.
    pub fn way_back(&self, plan: &Plan) -> Option<IfaceId> {
        match &self.ends {
            AnyEnds::V4(ends) => plan.routes.lookup(ends.client).map(|route| route.iface),
            AnyEnds::V6(ends) => plan.routes.lookup(ends.client).map(|route| route.iface),
        }
    }
}

impl Strays {
    /// One more. `action`: none for one that is not of our making.
    pub fn push(&mut self, key: FlowKey, action: Option<FlowAction>, count: Count) {
        self.0.insert(key, (action, count));
    }

    /// The sessions of services of this plan, and the keys of all other entries.
    pub fn pair(mut self, plan: &Plan) -> (Vec<Pair>, Vec<FlowKey>) {
        let inbound: Vec<FlowKey> = self.0.keys().filter(|key| is_inbound(plan, key)).copied().collect();
        let pairs = inbound.iter().filter_map(|key| self.take_pair(key)).collect();
        (pairs, self.0.into_keys().collect())
    }

    /// Takes an entry and its other half out, if both are there and fit.
    fn take_pair(&mut self, key: &FlowKey) -> Option<Pair> {
        let (there, inbound) = *self.0.get(key)?;
        let there = there?;
        let back = FlowKey::of(&ends(key, &there, NexthopId(0))?, Direction::Outbound);
        let (way_back, outbound) = *self.0.get(&back)?;
        let way_back = way_back?;
        let ends = ends(key, &there, nexthop(&way_back)?)?;
        if back == *key || FlowAction::of(&ends, Direction::Outbound) != way_back {
            return None;
        }
        self.0.remove(key);
        self.0.remove(&back);
        Some(Pair { ends, counts: [inbound, outbound] })
    }
}

/// Whether packets with this key are a client's.
fn is_inbound(plan: &Plan, key: &FlowKey) -> bool {
    let (vip, dport, number) = match key {
        FlowKey::V4(key) => (IpAddr::V4(Ipv4Addr::from_bits(key.dst)), key.dport, key.proto),
        FlowKey::V6(key) => (IpAddr::V6(Ipv6Addr::from_bits(key.dst)), key.dport, key.proto),
        FlowKey::Inbound(_) | FlowKey::Connection(_) => return false,
    };
    proto(number).is_some_and(|proto| plan.service_at(vip, VPort(dport), proto).is_some())
}

fn proto(number: u8) -> Option<Proto> {
    [Proto::Tcp, Proto::Udp].into_iter().find(|proto| *proto as u8 == number)
}

/// What a session's entries are made of, by the inbound one, and by the next hop of the outbound one.
fn ends(key: &FlowKey, action: &FlowAction, nexthop_out: NexthopId) -> Option<AnyEnds> {
    Some(match (key, action) {
        (FlowKey::V4(key), FlowAction::V4(FlowV4Action::RewriteV4 { src, dst, sport, dport, nexthop })) => {
            let [client, vip, server, local] = [key.src, key.dst, *dst, *src].map(Ipv4Addr::from_bits);
            let ports = [key.sport, key.dport, *dport, *sport];
            AnyEnds::V4(ends_of([client, vip, server, local], ports, proto(key.proto)?, *nexthop, nexthop_out))
        }
        (FlowKey::V6(key), FlowAction::V6(FlowV6Action::RewriteV6 { src, dst, sport, dport, nexthop })) => {
            let [client, vip, server, local] = [key.src, key.dst, *dst, *src].map(Ipv6Addr::from_bits);
            let ports = [key.sport, key.dport, *dport, *sport];
            AnyEnds::V6(ends_of([client, vip, server, local], ports, proto(key.proto)?, *nexthop, nexthop_out))
        }
        _ => return None,
    })
}

/// Addresses and ports in the order client, VIP, real server, local.
fn ends_of<A>(
    [client, vip, server, local]: [A; 4],
    [cport, vport, rport, lport]: [u16; 4],
    proto: Proto,
    nexthop_in: u16,
    nexthop_out: NexthopId,
) -> Ends<A> {
    Ends {
        client,
        vip,
        server,
        local,
        cport: CPort(cport),
        vport: VPort(vport),
        rport: RPort(rport),
        lport: LPort(lport),
        proto,
        nexthop_in: NexthopId(nexthop_in),
        nexthop_out,
    }
}

/// The next hop that an entry names.
fn nexthop(action: &FlowAction) -> Option<NexthopId> {
    match action {
        FlowAction::V4(FlowV4Action::RewriteV4 { nexthop, .. })
        | FlowAction::V6(FlowV6Action::RewriteV6 { nexthop, .. }) => Some(NexthopId(*nexthop)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::testing::{ends_v4, ends_v6, plan};

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn our_plan() -> Plan {
        plan(OURS, &["10.0.0.80".parse().expect("an address"), vip6()], &[])
    }

    fn vip6() -> IpAddr {
        let AnyEnds::V6(ends) = ends_v6(0) else { unreachable!("IPv6") };
        ends.vip.into()
    }

    /// TCP, as the services of the plan.
    fn sessions() -> Vec<AnyEnds> {
        let v6 = |n| match ends_v6(n) {
            AnyEnds::V6(ends) => AnyEnds::V6(Ends { proto: Proto::Tcp, ..ends }),
            ends => ends,
        };
        (1..20).map(ends_v4).chain((1..20).map(v6)).collect()
    }

    fn push(strays: &mut Strays, ends: &AnyEnds, direction: Direction, packets: u64) {
        let count = Count { packets, bytes: 60 * packets };
        strays.push(FlowKey::of(ends, direction), Some(FlowAction::of(ends, direction)), count);
    }

    #[test]
    fn halves_find_each_other() {
        let mut strays = Strays::default();
        for ends in sessions() {
            push(&mut strays, &ends, Direction::Outbound, 5);
            push(&mut strays, &ends, Direction::Inbound, 4);
        }
        let (pairs, rest) = strays.pair(&our_plan());
        assert_eq!((pairs.len(), rest), (38, vec![]));
        let counts = [4, 5].map(|packets| Count { packets, bytes: 60 * packets });
        assert!(sessions().iter().all(|ends| pairs.contains(&Pair { ends: *ends, counts })));
    }

    #[test]
    fn what_is_no_whole_session_is_left() {
        let AnyEnds::V4(ends) = ends_v4(1) else { unreachable!("IPv4") };
        let other = |change: fn(&mut Ends<Ipv4Addr>)| {
            let mut other = ends;
            change(&mut other);
            AnyEnds::V4(other)
        };
        let ends = AnyEnds::V4(ends);
        // The second entry is of ends that differ in one thing each.
        for second in [
            other(|ends| ends.lport.0 += 1),
            other(|ends| ends.server = Ipv4Addr::new(10, 0, 0, 11)),
            other(|ends| ends.cport.0 += 1),
            other(|ends| ends.client = Ipv4Addr::new(10, 2, 0, 1)),
            other(|ends| ends.vport.0 += 1),
            other(|ends| ends.proto = Proto::Udp),
        ] {
            let mut strays = Strays::default();
            push(&mut strays, &ends, Direction::Inbound, 1);
            push(&mut strays, &second, Direction::Outbound, 1);
            let (pairs, rest) = strays.pair(&our_plan());
            assert_eq!((pairs, rest.len()), (vec![], 2), "{second:?}");
        }
        // One half alone, one without an action of ours, and both of a service that there is not.
        let mut strays = Strays::default();
        push(&mut strays, &ends_v4(2), Direction::Outbound, 1);
        push(&mut strays, &ends_v4(3), Direction::Inbound, 1);
        push(&mut strays, &ends_v4(4), Direction::Inbound, 1);
        strays.push(FlowKey::of(&ends_v4(4), Direction::Outbound), None, Count::default());
        for direction in [Direction::Inbound, Direction::Outbound] {
            push(&mut strays, &ends_v6(5), direction, 1);
        }
        let (pairs, rest) = strays.pair(&our_plan());
        assert_eq!((pairs, rest.len()), (vec![], 6));
    }
}
