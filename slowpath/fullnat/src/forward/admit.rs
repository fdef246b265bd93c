//! Packets of no session: another worker's, or the first of a new one.

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey};
use crate::forward::{BURST, Desk, Family, Lookup, Missed, Output, Rx};
use crate::frame::Frame;
use crate::id::{CPort, IfaceId, LPort, Proto, ServerId, VPort};
use crate::offload::Ends;
use crate::plan::{LocalPool, Own, Server, Service};
use crate::ports::{Exhausted, Lease, Pool, Remote};
use crate::reason::DropReason;
use crate::route::Route;
use crate::sched;
use crate::session::{Cold, Session};
use crate::table::Placed;
use crate::tcp::{Conn, State};
use crate::wire::{Flow, tcp};

/// A packet that is to open a session.
struct Arrival<'a, F, A> {
    frame: &'a F,
    flow: &'a Flow<A>,
    hash: u64,
}

/// A packet that opens a session, and the session's place.
struct Opening<'a, F> {
    missed: Missed<F>,
    placed: Placed,
    service: &'a Service,
}

type Openings<'a, F> = ArrayVec<Opening<'a, F>, BURST>;

/// Sessions whose outbound keys are hashed together, so that the others' lines of the index come near while these are made.
const HASHED: usize = 4;

impl<F: Frame> Desk<F> {
    /// Takes a burst's packets of no session through: decides for each, brings the index lines of the sessions to be made
    /// near, and then makes them all. `lookup` has the flows and hashes.
    #[inline(never)]
    pub(super) fn misses<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        lookup: &mut Lookup<A>,
        missed: ArrayVec<Missed<F>, BURST>,
        out: &mut impl Output<F>,
    ) {
        for (session, cold, link, half_open) in family.sessions.next_places(missed.len()) {
            F::prefetch(session);
            F::prefetch(cold);
            F::prefetch(link);
            half_open.inspect(|link| F::prefetch(*link));
        }
        let mut openings = Openings::new();
        let (mut entered, mut filter) = (false, 0u64);
        for Missed { frame, at } in missed {
            let (flow, hash) = (&mut lookup.flows[usize::from(at)], lookup.hashes[usize::from(at)]);
            let service = rx.plan.service_at(flow.key.dst.into(), VPort(flow.key.dport), flow.key.proto);
            // A packet before it in the burst may open this one's session. Few pass the filter that do not; and what is
            // for no service may be an answer, where the frames were not received as they were sent, as from a file.
            let bit = 1u64 << (hash % 64);
            let maybe = filter & bit != 0;
            filter |= bit;
            let is_next = maybe && openings.iter().any(|o| lookup.hashes[usize::from(o.missed.at)] == hash);
            if is_next || service.is_none() && !openings.is_empty() {
                self.enter(rx, family, lookup, &mut openings, out);
                entered = true;
            }
            let flow = &mut lookup.flows[usize::from(at)];
            if entered && let Some(found) = family.sessions.find(&flow.key, hash) {
                self.hit_again(rx, family, found, frame, flow, out);
                continue;
            }
            let Some((service, frame)) = self.admit(rx, service, frame, flow, hash, out) else { continue };
            match self.open(rx, family, &Arrival { frame: &frame, flow, hash }, service, out) {
                Ok(placed) => {
                    openings.push(Opening { missed: Missed { frame, at }, placed, service });
                    if openings.len().is_multiple_of(HASHED) {
                        let start = openings.len() - HASHED;
                        bring_near::<F, A>(family, &mut openings[start..]);
                    }
                }
                Err(reason) => {
                    self.counters.service(service.id).refused.add(1);
                    self.refuse(rx, frame, flow, reason, out);
                }
            }
        }
        self.enter(rx, family, lookup, &mut openings, out);
    }

    /// Whether a packet of no session may open one: it does not when it belongs to another worker, or is dropped.
    #[inline(always)]
    fn admit<'a, A: Addr>(
        &mut self,
        rx: Rx<'_>,
        service: Option<&'a Service>,
        frame: F,
        flow: &Flow<A>,
        hash: u64,
        out: &mut impl Output<F>,
    ) -> Option<(&'a Service, F)> {
        let key = &flow.key;
        let Some(service) = service else {
            self.serviceless(rx, frame, key, hash, out);
            return None;
        };
        let owner = self.spread.inbound(self.worker, rx.iface, key, hash);
        if owner != self.worker {
            self.strayed(rx, owner, frame, out);
            return None;
        }
        if key.proto == Proto::Tcp && !flow.flags.opens() {
            self.counters.count_drop(DropReason::NoSession);
            return None;
        }
        if self.offload.as_ref().is_some_and(|gate| gate.is_held()) {
            self.counters.count_drop(DropReason::OffloadAdopting);
            return None;
        }
        if flow.ttl <= 1 {
            self.ttl_exceeded(rx, frame, flow, out);
            return None;
        }
        Some((service, frame))
    }

    /// Makes the sessions that packets of a burst open, and takes each packet through its own. Leaves none.
    #[inline(never)]
    fn enter<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        lookup: &mut Lookup<A>,
        openings: &mut Openings<'_, F>,
        out: &mut impl Output<F>,
    ) {
        let last = openings.len() % HASHED;
        let start = openings.len() - last;
        bring_near::<F, A>(family, &mut openings[start..]);
        for Opening { missed: Missed { frame, at }, placed, service } in openings.drain(..) {
            let flow = &mut lookup.flows[usize::from(at)];
            let first = match flow.key.proto {
                Proto::Tcp => State::SynSent,
                Proto::Udp => State::Udp,
            };
            match family.sessions.enter(&placed, rx.now.after(service.timeouts.of(first))) {
                Ok(idx) => {
                    self.counters.sessions_created.add(1);
                    self.counters.service(service.id).sessions.add(1);
                    family.sessions.await_confirmation(idx);
                    self.hit(rx, family, (idx, Direction::Inbound), frame, flow, out);
                }
                // A local port given out twice, which it never is.
                Err(_) => {
                    if let Some(unmade) = family.sessions.withdraw(&placed) {
                        self.give_back(rx.now, family, unmade);
                    }
                    self.counters.service(service.id).refused.add(1);
                    self.refuse(rx, frame, flow, DropReason::SessionTableFull, out);
                }
            }
        }
    }

    /// A packet to no service: the answer of a real server, or of a session whose service was removed, for their owner; or
    /// for nobody.
    fn serviceless<A: Addr>(&mut self, rx: Rx<'_>, frame: F, key: &FlowKey<A>, hash: u64, out: &mut impl Output<F>) {
        let (owner, reason) = match rx.plan.own_or_former(key.dst.into()) {
            Some(Own::Lip) => (self.spread.outbound(self.worker, rx.iface, key), DropReason::NoSession),
            Some(Own::Vip) => (self.spread.inbound(self.worker, rx.iface, key, hash), DropReason::NoService),
            Some(Own::Interface(_)) | None => (self.worker, DropReason::NoService),
        };
        if owner == self.worker {
            self.counters.count_drop(reason);
        } else {
            self.strayed(rx, owner, frame, out);
        }
    }

    /// Gives a session its place: route back, real server, local port, next hops. On failure nothing stays taken.
    fn open<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        arrival: &Arrival<'_, F, A>,
        service: &Service,
        out: &mut impl Output<F>,
    ) -> Result<Placed, DropReason> {
        let key = &arrival.flow.key;
        let back = rx.plan.routes.lookup_from(rx.iface, key.src).ok_or(DropReason::NoRoute)?;
        let server = match self.choose(rx, key, service) {
            Err(DropReason::ServersFull) => {
                self.make_room_on_servers(rx, family, service, out)?;
                self.choose(rx, key, service)?
            }
            chosen => chosen?,
        };
        let placed = self.open_to(rx, family, arrival, (service, server, back), out);
        match placed {
            Ok(_) => self.counters.server(server.id).sessions.add(1),
            Err(_) => {
                self.loads.end(server.id);
                self.counters.server(server.id).refused.add(1);
            }
        }
        placed
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
            .filter(|&id| sched::rejoin(rx.plan, service.id, id, &mut self.loads));
        let id = match rejoined {
            Some(id) => id,
            None => {
                let scheduler = self.schedulers.get_mut(usize::from(service.id.0)).and_then(Option::as_mut);
                scheduler.ok_or(DropReason::NoServer)?.pick(key.src, CPort(key.sport), &mut self.loads)?
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
        arrival: &Arrival<'_, F, A>,
        (service, server, back): (&Service, &Server, Route<A>),
        out: &mut impl Output<F>,
    ) -> Result<Placed, DropReason> {
        let key = &arrival.flow.key;
        // The plan gives a service servers and local addresses of its own family.
        let rip = A::from_ip(server.rip).ok_or(DropReason::NoServer)?;
        let pool = rx.plan.pools.get(service.pool).ok_or(DropReason::NoLocalPort)?;
        let (iface, next_hop) = rx.plan.way_to(server.id).ok_or(DropReason::NoRoute)?;
        let next_hop = A::from_ip(next_hop).ok_or(DropReason::NoRoute)?;
        if family.sessions.len() == family.sessions.capacity() {
            self.make_room(rx, family, server.id, out)?;
        }
        let inbound = family.hops.acquire(&self.neighbors, iface, next_hop);
        let nexthop_in = inbound.map_err(|_| DropReason::NexthopTableFull)?;
        let outbound = family.hops.acquire(&self.neighbors, back.iface, back.next_hop(key.src));
        let nexthop_out = outbound.map_err(|_| {
            family.hops.release(&self.neighbors, nexthop_in);
            DropReason::NexthopTableFull
        })?;
        let remote = Remote { proto: key.proto, rip, rport: server.rport };
        let lease =
            self.lease(rx, family, (service.pool, pool), (server.id, remote, iface), out).inspect_err(|_| {
                family.hops.release(&self.neighbors, nexthop_in);
                family.hops.release(&self.neighbors, nexthop_out);
            })?;
        let ends = Ends {
            client: key.src,
            vip: key.dst,
            server: rip,
            local: lease.lip,
            cport: CPort(key.sport),
            vport: service.vport,
            rport: server.rport,
            lport: lease.lport,
            proto: key.proto,
            nexthop_in,
            nexthop_out,
        };
        let session = Session::new(&ends, conn(arrival, service.toa), service.id, server.id, rx.now);
        // There is room: that was asked first.
        family
            .sessions
            .place(session, Cold::new(rx.now, lease.space), arrival.hash)
            .map_err(|_| DropReason::SessionTableFull)
    }

    /// Takes a local port of the pool towards `remote`, which is `server` and behind `iface`.
    fn lease<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        (index, pool): (usize, &LocalPool),
        (server, remote, iface): (ServerId, Remote<A>, IfaceId),
        out: &mut impl Output<F>,
    ) -> Result<Lease<A>, DropReason> {
        let pool = Pool {
            index,
            generation: rx.plan.generation,
            lips: A::pick(&pool.v4, &pool.v6),
            ports: pool.ports.clone(),
        };
        let Remote { proto, rip, rport } = remote;
        let mine = |lip, lport: LPort| {
            let answer = FlowKey { src: rip, dst: lip, sport: rport.0, dport: lport.0, proto };
            self.spread.outbound(self.worker, iface, &answer) == self.worker
        };
        let free = family.ports.allocate(&pool, remote, rx.now, mine);
        free.or_else(|Exhausted| self.take_over_port(rx, family, (server, remote), &pool, out))
    }
}

/// Hashes the outbound keys of sessions to be made, and asks for their lines of the index. The inbound ones are near since
/// they were looked up.
#[inline(always)]
fn bring_near<F: Frame, A: Addr>(family: &Family<A>, openings: &mut [Opening<'_, F>]) {
    family.sessions.hash_placed(Direction::Outbound, openings.iter_mut().map(|opening| &mut opening.placed));
    for opening in openings {
        F::prefetch(family.sessions.line_of(&opening.placed, Direction::Outbound));
    }
}

/// The first state of a session that this packet opens.
#[inline(always)]
fn conn<F: Frame, A: Addr>(arrival: &Arrival<'_, F, A>, toa: bool) -> Conn {
    match arrival.flow.key.proto {
        Proto::Tcp => Conn::tcp(&tcp::segment(arrival.frame.bytes(), arrival.flow), toa),
        Proto::Udp => Conn::udp(),
    }
}
