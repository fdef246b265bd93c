//! Flow entries that no session owns, as a sweep finds them, and the sessions that they are halves of. Pure.
//!
//! Only both halves together are a session: [`Flows::session`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use carom_p4::{FlowV4Key, InboundV4Key};
use fullnat::id::{IfaceId, NexthopId, VPort};
use fullnat::offload::AnyEnds;
use fullnat::plan::Plan;
use hashbrown::HashMap;

use super::book::Count;
use super::flows::{FlowAction, FlowKey, Flows, proto};

/// The entries.
#[derive(Debug, Default)]
pub struct Strays(HashMap<FlowKey, (Option<FlowAction>, Count)>);

/// A session that two of them are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// What the entries are made of, with the next hops as they are called in the target.
    pub ends: AnyEnds,
    /// Their keys, inbound and outbound.
    pub keys: [FlowKey; 2],
    /// Their counters.
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
    pub fn pair(mut self, plan: &Plan, flows: &Flows) -> (Vec<Pair>, Vec<FlowKey>) {
        let inbound: Vec<FlowKey> = self.0.keys().filter(|key| is_inbound(plan, key)).copied().collect();
        let pairs = inbound.iter().filter_map(|key| self.take_pair(key, flows)).collect();
        (pairs, self.0.into_keys().collect())
    }

    /// Takes an entry and its other half out, if both are there and fit.
    fn take_pair(&mut self, key: &FlowKey, flows: &Flows) -> Option<Pair> {
        let (there, inbound) = *self.0.get(key)?;
        let there = there?;
        let back = flows.other_half(key, &there)?;
        let (way_back, outbound) = *self.0.get(&back)?;
        let ends = flows.session((*key, there), (back, way_back?))?;
        let keys = [*key, back];
        keys.iter().for_each(|key| _ = self.0.remove(key));
        Some(Pair { ends, keys, counts: [inbound, outbound] })
    }
}

/// Whether packets with this key are a client's.
fn is_inbound(plan: &Plan, key: &FlowKey) -> bool {
    let (vip, dport, number) = match key {
        FlowKey::V4(FlowV4Key { dst, dport, proto, .. }) | FlowKey::Inbound(InboundV4Key { dst, dport, proto, .. }) => {
            (IpAddr::V4(Ipv4Addr::from_bits(*dst)), *dport, *proto)
        }
        FlowKey::V6(key) => (IpAddr::V6(Ipv6Addr::from_bits(key.dst)), key.dport, key.proto),
        FlowKey::Connection(_) => return false,
    };
    proto(number).is_some_and(|proto| plan.service_at(vip, VPort(dport), proto).is_some())
}

#[cfg(test)]
mod tests {
    use fullnat::flow::Direction;
    use fullnat::id::Proto;
    use fullnat::offload::Ends;

    use super::*;
    use crate::offload::replica::{RowAction, RowKey};
    use crate::offload::testing::{by_ids, ends_v4, ends_v6, plan};

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

    fn our_plan() -> Plan {
        plan(OURS, &["10.0.0.80".parse().expect("an address"), vip6()], &[])
    }

    fn vip6() -> IpAddr {
        let AnyEnds::V6(ends) = ends_v6(0) else { unreachable!("IPv6") };
        ends.vip.into()
    }

    /// TCP, as the services of the plan, and with next hops that are not all the same.
    fn sessions() -> Vec<AnyEnds> {
        let v6 = |n| match ends_v6(n) {
            AnyEnds::V6(ends) => AnyEnds::V6(Ends { proto: Proto::Tcp, ..ends }),
            ends => ends,
        };
        let v4 = |n: u32| {
            let (nexthop_in, nexthop_out) = (NexthopId(1 + n as u16 % 3), NexthopId(10 + n as u16 % 4));
            with(ends_v4(n), |ends| (ends.nexthop_in, ends.nexthop_out) = (nexthop_in, nexthop_out))
        };
        (1..20).map(v4).chain((1..20).map(v6)).collect()
    }

    fn with(ends: AnyEnds, change: impl FnOnce(&mut Ends<Ipv4Addr>)) -> AnyEnds {
        let AnyEnds::V4(mut ends) = ends else { unreachable!("IPv4") };
        change(&mut ends);
        AnyEnds::V4(ends)
    }

    fn push(strays: &mut Strays, flows: &Flows, ends: &AnyEnds, direction: Direction, packets: u64) {
        let count = Count { packets, bytes: 60 * packets };
        strays.push(flows.key(ends, direction), Some(flows.action(ends, direction)), count);
    }

    /// How flows were kept in an earlier life that had these sessions, and the small tables that it left.
    fn earlier(mut flows: Flows, sessions: &[AnyEnds]) -> (Flows, Vec<(RowKey, RowAction)>) {
        assert!(sessions.iter().all(|ends| flows.take(ends)));
        let mut rows: Vec<_> = match flows.ids() {
            None => Vec::new(),
            Some(ids) => ids.wants().filter_map(|(key, action)| Some((key, action?))).collect(),
        };
        // As tables are read.
        rows.sort_by_key(|(key, _)| key.table().id);
        (flows, rows)
    }

    /// How they are kept in a life that has read these small tables.
    fn later(mut flows: Flows, rows: &[(RowKey, RowAction)]) -> Flows {
        if let Some(ids) = flows.ids() {
            rows.iter().for_each(|(key, action)| ids.take_over(key, action));
        }
        flows
    }

    #[test]
    fn halves_find_each_other() {
        for new in [|| Flows::Plain, by_ids as fn() -> Flows] {
            let (flows, rows) = earlier(new(), &sessions());
            let mut strays = Strays::default();
            for ends in sessions() {
                push(&mut strays, &flows, &ends, Direction::Outbound, 5);
                push(&mut strays, &flows, &ends, Direction::Inbound, 4);
            }
            let mut now = later(new(), &rows);
            let (pairs, rest) = strays.pair(&our_plan(), &now);
            assert_eq!((pairs.len(), rest), (38, vec![]));
            let counts = [4, 5].map(|packets| Count { packets, bytes: 60 * packets });
            for ends in sessions() {
                let keys = DIRECTIONS.map(|direction| flows.key(&ends, direction));
                assert!(pairs.contains(&Pair { ends, keys, counts }), "{ends:?}");
                // They are its entries in this life too.
                assert!(now.take(&ends));
                assert_eq!(DIRECTIONS.map(|direction| now.key(&ends, direction)), keys);
            }
        }
    }

    #[test]
    fn what_is_no_whole_session_is_left() {
        let ends = ends_v4(1);
        // The second entry is of ends that differ in one thing each.
        let others = [
            with(ends, |ends| ends.lport.0 += 1),
            with(ends, |ends| ends.server = Ipv4Addr::new(10, 0, 0, 11)),
            with(ends, |ends| ends.cport.0 += 1),
            with(ends, |ends| ends.client = Ipv4Addr::new(10, 2, 0, 1)),
            with(ends, |ends| ends.vport.0 += 1),
            with(ends, |ends| ends.proto = Proto::Udp),
        ];
        for new in [|| Flows::Plain, by_ids as fn() -> Flows] {
            for second in others {
                let (flows, rows) = earlier(new(), &[ends, second]);
                let mut strays = Strays::default();
                push(&mut strays, &flows, &ends, Direction::Inbound, 1);
                push(&mut strays, &flows, &second, Direction::Outbound, 1);
                let (pairs, rest) = strays.pair(&our_plan(), &later(new(), &rows));
                assert_eq!((pairs, rest.len()), (vec![], 2), "{second:?}");
            }
            // One half alone, one without an action of ours, and both of a service that there is not.
            let (flows, rows) = earlier(new(), &[ends_v4(2), ends_v4(3), ends_v4(4)]);
            let mut strays = Strays::default();
            push(&mut strays, &flows, &ends_v4(2), Direction::Outbound, 1);
            push(&mut strays, &flows, &ends_v4(3), Direction::Inbound, 1);
            push(&mut strays, &flows, &ends_v4(4), Direction::Inbound, 1);
            strays.push(flows.key(&ends_v4(4), Direction::Outbound), None, Count::default());
            for direction in DIRECTIONS {
                push(&mut strays, &flows, &ends_v6(5), direction, 1);
            }
            let (pairs, rest) = strays.pair(&our_plan(), &later(new(), &rows));
            assert_eq!((pairs, rest.len()), (vec![], 6));
        }
    }

    #[test]
    fn entries_whose_ids_stand_for_nothing_are_left() {
        let (flows, rows) = earlier(by_ids(), &[ends_v4(1)]);
        assert_eq!(rows.len(), 4);
        for missing in 0..rows.len() {
            let mut strays = Strays::default();
            DIRECTIONS.into_iter().for_each(|direction| push(&mut strays, &flows, &ends_v4(1), direction, 1));
            let mut rows = rows.clone();
            let (key, _) = rows.remove(missing);
            let (pairs, rest) = strays.pair(&our_plan(), &later(by_ids(), &rows));
            assert_eq!((pairs, rest.len()), (vec![], 2), "without {key:?}");
        }
    }
}
