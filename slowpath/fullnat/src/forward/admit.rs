//! Packets of no session: another worker's, or the first of a new one.

use std::net::IpAddr;

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey};
use crate::forward::{Arrival, Desk, Family, Output, Rx};
use crate::frame::Frame;
use crate::id::{CPort, IfaceId, LPort, NexthopId, Proto, VPort};
use crate::neighbor::Neighbors;
use crate::plan::{Own, Server, Service};
use crate::ports::{Pool, Remote};
use crate::reason::DropReason;
use crate::route::Route;
use crate::sched;
use crate::session::{Cold, Session};
use crate::table::SessionIdx;
use crate::tcp::Conn;
use crate::wire::tcp;

impl<F: Frame> Desk<F> {
    /// Opens a session for a packet that may, and takes the packet through it; gives the packet to its owner when that
    /// is another worker.
    #[cold]
    pub(super) fn miss<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        mut arrival: Arrival<F, A>,
        out: &mut impl Output<F>,
    ) {
        let key = &arrival.flow.key;
        let dst: IpAddr = key.dst.into();
        let Some(service) = rx.plan.service_at(dst, VPort(key.dport), key.proto) else {
            return self.serviceless(rx, arrival, out);
        };
        let owner = self.spread.inbound(self.worker, rx.iface, key, arrival.hash);
        if owner != self.worker {
            return out.hand_over(owner, rx.iface, arrival.frame);
        }
        if key.proto == Proto::Tcp && !arrival.flow.flags.opens() {
            return self.counters.count_drop(DropReason::NoSession);
        }
        if arrival.flow.ttl <= 1 {
            return self.ttl_exceeded(rx, arrival.frame, &arrival.flow, out);
        }
        match self.open(rx, family, &arrival, service) {
            Ok(idx) => {
                self.counters.sessions_created.add(1);
                self.counters.service(service.id).sessions.add(1);
                self.hit(rx, family, (idx, Direction::Inbound), arrival.frame, &mut arrival.flow, out);
            }
            Err(reason) => {
                self.counters.service(service.id).refused.add(1);
                self.refuse(rx, arrival, reason, out);
            }
        }
    }

    /// A packet to no service: the answer of a real server, or of a session whose service was removed, for their owner; or
    /// for nobody.
    fn serviceless<A: Addr>(&mut self, rx: Rx<'_>, arrival: Arrival<F, A>, out: &mut impl Output<F>) {
        let key = &arrival.flow.key;
        let (owner, reason) = match rx.plan.own_or_former(key.dst.into()) {
            Some(Own::Lip) => (self.spread.outbound(self.worker, rx.iface, key), DropReason::NoSession),
            Some(Own::Vip) => (self.spread.inbound(self.worker, rx.iface, key, arrival.hash), DropReason::NoService),
            Some(Own::Interface(_)) | None => (self.worker, DropReason::NoService),
        };
        if owner == self.worker {
            self.counters.count_drop(reason);
        } else {
            out.hand_over(owner, rx.iface, arrival.frame);
        }
    }

    /// Makes the session: route back, real server, local port, next hops. On failure nothing stays taken.
    fn open<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        arrival: &Arrival<F, A>,
        service: &Service,
    ) -> Result<SessionIdx, DropReason> {
        let client = arrival.flow.key.src;
        let back = rx.plan.routes.lookup_from(rx.iface, client).ok_or(DropReason::NoRoute)?;
        let server = self.choose(rx, &arrival.flow.key, service)?;
        let opened = self.open_to(rx, family, arrival, service, server, back);
        match opened {
            Ok(_) => self.counters.server(server.id).sessions.add(1),
            Err(_) => {
                server.shared.end();
                self.counters.server(server.id).refused.add(1);
            }
        }
        opened
    }

    /// Chooses the real server, on which the session then counts.
    fn choose<'a, A: Addr>(
        &mut self,
        rx: Rx<'a>,
        key: &FlowKey<A>,
        service: &Service,
    ) -> Result<&'a Server, DropReason> {
        let remembered =
            service.persistence.map(|rule| (self.persistence.key(service.id, &rule, key.src), rule.timeout_ms));
        let rejoined = remembered
            .and_then(|(client, _)| self.persistence.get(client, rx.now))
            .filter(|&id| sched::rejoin(rx.plan, service.id, id));
        let id = match rejoined {
            Some(id) => id,
            None => {
                let scheduler = self.schedulers.get_mut(usize::from(service.id.0)).and_then(Option::as_mut);
                scheduler.ok_or(DropReason::NoServer)?.pick(key.src, CPort(key.sport))?
            }
        };
        if let Some((client, timeout_ms)) = remembered {
            self.persistence.set(client, id, timeout_ms, rx.now);
        }
        // Both ways choose from this plan.
        rx.plan.server(id).ok_or(DropReason::NoServer)
    }

    /// The part of [`Desk::open`] that follows the choice of the real server.
    fn open_to<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        arrival: &Arrival<F, A>,
        service: &Service,
        server: &Server,
        back: Route<A>,
    ) -> Result<SessionIdx, DropReason> {
        let key = &arrival.flow.key;
        // The plan gives a service servers and local addresses of its own family.
        let rip = A::from_ip(server.rip).ok_or(DropReason::NoServer)?;
        let pool = rx.plan.pools.get(service.pool).ok_or(DropReason::NoLocalPort)?;
        let there = rx.plan.routes.lookup(rip).ok_or(DropReason::NoRoute)?;
        if family.sessions.len() == family.sessions.capacity() {
            return Err(DropReason::SessionTableFull);
        }
        let hops =
            Hops::acquire(&self.neighbors, (there.iface, there.next_hop(rip)), (back.iface, back.next_hop(key.src)))?;
        let lips = Pool {
            index: service.pool,
            generation: rx.plan.generation,
            lips: A::pick(&pool.v4, &pool.v6),
            ports: pool.ports.clone(),
        };
        let remote = Remote { proto: key.proto, rip, rport: server.rport };
        let mine = |lip, lport: LPort| {
            let answer = FlowKey { src: rip, dst: lip, sport: server.rport.0, dport: lport.0, proto: key.proto };
            self.spread.outbound(self.worker, there.iface, &answer) == self.worker
        };
        let lease = family.ports.allocate(&lips, remote, rx.now, mine).map_err(|_| {
            hops.release(&self.neighbors);
            DropReason::NoLocalPort
        })?;
        let session = Session {
            client: key.src,
            vip: key.dst,
            server: rip,
            local: lease.lip,
            cport: CPort(key.sport),
            vport: service.vport,
            rport: server.rport,
            lport: lease.lport,
            conn: conn(arrival, service.toa),
            last_seen: rx.now.short(),
            packets_in: 0,
            packets_out: 0,
            service_id: service.id,
            server_id: server.id,
            nexthop_in: hops.inbound,
            nexthop_out: hops.outbound,
        };
        let deadline = rx.now.after(service.timeouts.of(session.conn.state));
        family.sessions.insert(session, Cold::new(rx.now, lease.space), deadline).map_err(|_| {
            // Not for want of room. A duplicate would be a local port given out twice, which it never is.
            family.ports.release(lease.space, lease.lport, rx.now);
            hops.release(&self.neighbors);
            DropReason::SessionTableFull
        })
    }
}

/// The first state of a session that this packet opens.
fn conn<F: Frame, A: Addr>(arrival: &Arrival<F, A>, toa: bool) -> Conn {
    match arrival.flow.key.proto {
        Proto::Tcp => Conn::tcp(&tcp::segment(arrival.frame.bytes(), &arrival.flow), toa),
        Proto::Udp => Conn::udp(),
    }
}

/// The next hops of a session, each counted.
#[derive(Clone, Copy)]
struct Hops {
    inbound: NexthopId,
    outbound: NexthopId,
}

impl Hops {
    fn acquire<A: Addr>(table: &Neighbors, there: (IfaceId, A), back: (IfaceId, A)) -> Result<Self, DropReason> {
        let full = |_| DropReason::NexthopTableFull;
        let inbound = table.acquire(there.0, there.1.into()).map_err(full)?;
        match table.acquire(back.0, back.1.into()).map_err(full) {
            Ok(outbound) => Ok(Hops { inbound, outbound }),
            Err(reason) => {
                table.release(inbound);
                Err(reason)
            }
        }
    }

    fn release(self, table: &Neighbors) {
        table.release(self.inbound);
        table.release(self.outbound);
    }
}
