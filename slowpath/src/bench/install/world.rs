//! What the manager is given: a plan, two next hops with MAC addresses, and as many sessions as one likes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use fullnat::addr::Addr;
use fullnat::id::{CPort, LPort, NexthopId, Proto, RPort, VPort};
use fullnat::neighbor::Neighbors;
use fullnat::offload::{AnyEnds, Ends, Place};
use fullnat::plan::Plan;
use fullnat::table::SessionIdx;

use super::super::BenchError;
use super::super::setup::{BenchAddr, RPORT, SERVERS, VPORT, Wish, client, plan, routers};
use crate::cli::Ip;

/// A balancer without packets.
pub struct World {
    pub plan: Arc<Plan>,
    pub neighbors: Arc<Neighbors>,
    /// Towards the clients, towards the real servers.
    nexthops: [NexthopId; 2],
    family: Ip,
}

impl World {
    pub fn new(family: Ip, sessions: u32) -> Result<Self, BenchError> {
        match family {
            Ip::V4 => Self::of::<Ipv4Addr>(family, sessions),
            Ip::V6 => Self::of::<Ipv6Addr>(family, sessions),
        }
    }

    fn of<A: BenchAddr>(family: Ip, sessions: u32) -> Result<Self, BenchError> {
        let plan = plan::<A>(&Wish::lasting(Proto::Tcp, 1, sessions)).map_err(|e| BenchError(e.to_string()))?;
        let (neighbors, nexthops) = routers::<A>()?;
        Ok(World { plan: Arc::new(plan), neighbors: Arc::new(neighbors), nexthops, family })
    }

    /// Where the worker has its session `n`.
    pub fn place(&self, n: u32) -> Place {
        match self.family {
            Ip::V4 => Place::V4(SessionIdx(n)),
            Ip::V6 => Place::V6(SessionIdx(n)),
        }
    }

    /// Session `n` of so many, each with another tuple on both sides.
    pub fn ends(&self, n: u32) -> AnyEnds {
        match self.family {
            Ip::V4 => AnyEnds::V4(self.ends_of(n)),
            Ip::V6 => AnyEnds::V6(self.ends_of(n)),
        }
    }

    fn ends_of<A: BenchAddr + Addr>(&self, n: u32) -> Ends<A> {
        let (client, cport) = client::<A>(n);
        let server = n % u32::from(SERVERS);
        Ends {
            client,
            vip: A::host(3, 0),
            server: A::host(1, server),
            local: A::host(2, 0),
            cport: CPort(cport),
            vport: VPort(VPORT),
            rport: RPort(RPORT),
            lport: LPort(1025 + (n / u32::from(SERVERS)) as u16),
            proto: Proto::Tcp,
            nexthop_in: self.nexthops[1],
            nexthop_out: self.nexthops[0],
        }
    }
}

/// The session that is at this place.
pub fn number(place: Place) -> u32 {
    match place {
        Place::V4(SessionIdx(n)) | Place::V6(SessionIdx(n)) => n,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use fullnat::flow::Direction;

    use super::*;

    #[test]
    fn no_two_sessions_share_a_key() {
        for family in [Ip::V4, Ip::V6] {
            let world = World::new(family, 65_000).unwrap();
            let mut keys = HashSet::new();
            for n in 0..65_000 {
                for direction in [Direction::Inbound, Direction::Outbound] {
                    let key = match world.ends(n) {
                        AnyEnds::V4(ends) => format!("{:?}", ends.key(direction)),
                        AnyEnds::V6(ends) => format!("{:?}", ends.key(direction)),
                    };
                    assert!(keys.insert(key), "{n}");
                }
                assert_eq!(number(world.place(n)), n);
            }
        }
    }
}
