//! Sessions made of entries that the target has from an earlier life of the balancer, which ended without a word. Their
//! packets have gone on all the while; what is made here is what the balancer knew of them.
//!
//! A session is made only if this plan would still have it: the service is there with this real server, and the
//! local address in its pool. What the entries do not tell is taken as after a long time out of sight: the
//! connection is established, its numbers are lost ([`crate::tcp::lost`]), and its last packet was just now.

use crate::addr::Addr;
use crate::forward::{Desk, Family, Output};
use crate::frame::Frame;
use crate::id::{NexthopId, Proto};
use crate::offload::{Adoption, Ends, Place, Request, State};
use crate::plan::{Plan, Server, Service};
use crate::ports::{Remote, SpaceKey};
use crate::session::{Cold, Session};
use crate::table::SessionIdx;
use crate::tcp::Conn;
use crate::time::Time;

impl<F: Frame> Desk<F> {
    /// Makes the session, or says that there will be none.
    #[cold]
    pub(super) fn adopt<A: Addr>(
        &mut self,
        plan: &Plan,
        now: Time,
        family: &mut Family<A>,
        adoption: &Adoption,
        ends: &Ends<A>,
        out: &mut impl Output<F>,
    ) {
        let made = self.make(plan, now, family, adoption, ends);
        let Some((session, idx)) = made.and_then(|idx| Some((family.sessions.get_mut(idx)?, idx))) else {
            self.counters.offload.declined.add(1);
            return out.answer(Request::Declined { ticket: adoption.ticket });
        };
        self.counters.offload.adopted.add(1);
        let nexthops = session.nexthops;
        let stays = self.same_mtu(plan, nexthops);
        self.moved(session, if stays { State::Offloaded } else { State::Removing });
        let idle_ms = super::housekeeping::timeouts(plan, session.service_id).of(session.conn.state);
        let (ticket, place) = (adoption.ticket, Place::of::<A>(idx));
        out.answer(Request::Adopted { ticket, place, nexthops, idle_ms, stays });
    }

    /// Takes all that a session needs and has it in the table; on failure nothing stays taken.
    fn make<A: Addr>(
        &mut self,
        plan: &Plan,
        now: Time,
        family: &mut Family<A>,
        adoption: &Adoption,
        ends: &Ends<A>,
    ) -> Option<SessionIdx> {
        let (service, server) = wanted(plan, ends)?;
        if family.sessions.len() == family.sessions.capacity() {
            return None;
        }
        let there = plan.routes.lookup(ends.server)?;
        let back = plan.routes.lookup_from(adoption.back, ends.client)?;
        let nexthop_in = family.hops.acquire(&self.neighbors, there.iface, there.next_hop(ends.server)).ok()?;
        let Ok(nexthop_out) = family.hops.acquire(&self.neighbors, back.iface, back.next_hop(ends.client)) else {
            family.hops.release(&self.neighbors, nexthop_in);
            return None;
        };
        let remote = Remote { proto: ends.proto, rip: ends.server, rport: ends.rport };
        let Ok(space) = family.ports.reserve(SpaceKey { lip: ends.local, remote }, ends.lport) else {
            family.hops.release(&self.neighbors, nexthop_in);
            family.hops.release(&self.neighbors, nexthop_out);
            return None;
        };
        let session = session(now, adoption, ends, (service, server), [nexthop_in, nexthop_out]);
        let (cold, deadline) = (Cold::new(now, space), now.after(service.timeouts.of(session.conn.state)));
        self.loads.begin(server.id, 0);
        match family.sessions.insert(session.clone(), cold, deadline) {
            Ok(idx) => {
                self.counters.sessions_created.add(1);
                self.counters.service(service.id).sessions.add(1);
                self.counters.server(server.id).sessions.add(1);
                Some(idx)
            }
            Err(_) => {
                self.give_back(now, family, (session, cold));
                None
            }
        }
    }

    /// Whether both next hops are behind interfaces of the same MTU, which the target does not look at.
    fn same_mtu(&self, plan: &Plan, nexthops: [NexthopId; 2]) -> bool {
        let [inbound, outbound] = nexthops.map(|id| Some(plan.interface(self.neighbors.hop(id)?.iface).mtu));
        inbound.is_some() && inbound == outbound
    }
}

/// The service and the real server of a session that this plan would have too.
fn wanted<'a, A: Addr>(plan: &'a Plan, ends: &Ends<A>) -> Option<(&'a Service, &'a Server)> {
    let service = plan.service_at(ends.vip.into(), ends.vport, ends.proto)?;
    let mut servers = service.servers.iter().filter_map(|&id| plan.server(id));
    let server = servers.find(|server| server.rip == ends.server.into() && server.rport == ends.rport)?;
    let pool = plan.pools.get(service.pool)?;
    A::pick(&pool.v4, &pool.v6).contains(&ends.local).then_some((service, server))
}

fn session<A: Addr>(
    now: Time,
    adoption: &Adoption,
    ends: &Ends<A>,
    (service, server): (&Service, &Server),
    [nexthop_in, nexthop_out]: [NexthopId; 2],
) -> Session<A> {
    let conn = match ends.proto {
        Proto::Tcp => Conn::out_of_sight(service.toa),
        Proto::Udp => Conn::udp(),
    };
    let ends = Ends { nexthop_in, nexthop_out, ..*ends };
    let mut session = Session::new(&ends, conn, service.id, server.id, now);
    // Those of its beginning and its end in the slow path are not known any more.
    session.packets = adoption.packets.map(|packets| packets as u32);
    session
}
