//! What a forwarder does between bursts: sessions end, waiting packets leave, next hops are probed, a new plan begins.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::flow::Direction;
use crate::forward::offload::must_leave_target;
use crate::forward::{Desk, Family, Forwarder, Output, link};
use crate::frame::Frame;
use crate::id::{IfaceId, ServiceId, WorkerId};
use crate::neighbor::Probe;
use crate::plan::Plan;
use crate::reason::DropReason;
use crate::sched::{Loads, Scheduler};
use crate::session::{Cold, Session};
use crate::table::{Placed, SessionIdx, SessionTable};
use crate::tcp::{State, Timeouts};
use crate::time::Time;
use crate::wire::{Mac, arp, ethernet, ndp};

/// Sessions whose deadline is looked at in one call: bounds the pause between two bursts to a few microseconds, and
/// still ends millions of sessions per second.
const EXPIRE_BUDGET: usize = 64;
/// Port spaces looked at in one call, to forget those of servers long gone.
const SWEEP_BUDGET: usize = 1;
/// Addresses announced per millisecond: neighbours must keep up, and a thousand still take a quarter of a second only.
const ANNOUNCE_PER_MS: usize = 4;

impl<F: Frame> Forwarder<F> {
    /// Does what is due. Call it in every round of the worker's loop; it is cheap when nothing is.
    pub fn tick(&mut self, now: Time, out: &mut impl Output<F>) {
        let Forwarder { plan, desk, v4, v6, announce, announced, .. } = self;
        desk.expire(plan, now, v4, out);
        desk.expire(plan, now, v6, out);
        desk.send_pending(plan, now, out);
        desk.probe(plan, now, out);
        desk.counters.sessions_v4.set(v4.sessions.len() as u64);
        desk.counters.sessions_v6.set(v6.sessions.len() as u64);
        desk.counters.half_open.set((v4.sessions.half_open() + v6.sessions.half_open()) as u64);
        v4.ports.sweep(now, SWEEP_BUDGET);
        v6.ports.sweep(now, SWEEP_BUDGET);
        if now > desk.published {
            desk.published = now;
            desk.loads.publish();
        }
        if now > *announced {
            *announced = now;
            for (iface, address) in announce.drain(announce.len().saturating_sub(ANNOUNCE_PER_MS)..) {
                send_made(plan, iface, out, |frame, mac| match address {
                    IpAddr::V4(ip) => arp::announce(frame, mac, ip),
                    IpAddr::V6(ip) => ndp::announce(frame, mac, ip),
                });
            }
        }
    }

    /// Tells all workers and control how many sessions servers have, which [`Forwarder::tick`] does every millisecond.
    pub fn publish_loads(&mut self) {
        self.desk.loads.publish();
    }

    /// Works by this plan from now on. Sessions go on as they are; those of servers that are gone, until they end.
    ///
    /// Allocates and frees nothing: `next` then holds the old plan and its parts, to be freed on another thread.
    pub fn set_plan(&mut self, next: &mut Prepared) {
        for (new, old) in next.schedulers.iter_mut().zip(&self.desk.schedulers) {
            if let (Some(new), Some(old)) = (new, old) {
                new.continue_from(old);
            }
        }
        if self.desk.housekeeper.is_none() {
            next.announce.clear();
        }
        self.v4.ports.set_quarantine(next.plan.quarantine_ms);
        self.v6.ports.set_quarantine(next.plan.quarantine_ms);
        std::mem::swap(&mut self.plan, &mut next.plan);
        self.v4.directions.forget();
        self.v6.directions.forget();
        std::mem::swap(&mut self.desk.schedulers, &mut next.schedulers);
        self.desk.loads.publish();
        std::mem::swap(&mut self.desk.loads, &mut next.loads);
        std::mem::swap(&mut self.announce, &mut next.announce);
    }
}

/// A plan made ready for one worker, on another thread, so that the worker only takes it.
#[derive(Debug)]
pub struct Prepared {
    pub(super) plan: Arc<Plan>,
    pub(super) schedulers: Vec<Option<Scheduler>>,
    pub(super) loads: Loads,
    pub(super) announce: Vec<(IfaceId, IpAddr)>,
}

impl Prepared {
    /// Prepares a plan for a worker. Addresses of ours that are not in the plan before are announced on their links.
    pub fn new(plan: Arc<Plan>, before: Option<&Plan>, worker: WorkerId) -> Self {
        let mut schedulers = Vec::new();
        for service in plan.services() {
            let slot = usize::from(service.id.0);
            schedulers.resize_with(schedulers.len().max(slot + 1), || None);
            schedulers[slot] = Some(Scheduler::new(service, &plan, worker));
        }
        let announce = announcements(&plan, before);
        Prepared { schedulers, loads: Loads::new(&plan), plan, announce }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}

/// Sessions whose timers have gone off, where there are so many that not all can be looked at between two bursts. Meanwhile
/// their memory comes near: what is waited for between two bursts, no packet is taken in.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Their lines of the index are under way.
    near: ArrayVec<SessionIdx, EXPIRE_BUDGET>,
    /// They themselves are under way.
    up: ArrayVec<SessionIdx, EXPIRE_BUDGET>,
}

impl Due {
    fn is_empty(&self) -> bool {
        self.near.is_empty() && self.up.is_empty()
    }
}

impl<F: Frame> Desk<F> {
    /// Ends sessions whose deadline has passed, once the target has nothing of them.
    fn expire<A: Addr>(&mut self, plan: &Plan, now: Time, family: &mut Family<A>, out: &mut impl Output<F>) {
        if !family.due.near.is_empty() {
            let near = std::mem::take(&mut family.due.near);
            self.look_at(plan, now, family, &near, out);
        }
        if !family.due.up.is_empty() {
            family.due.near = std::mem::take(&mut family.due.up);
            let mut placed: ArrayVec<Placed, EXPIRE_BUDGET> =
                family.due.near.iter().filter_map(|&idx| family.sessions.locate(idx)).collect();
            bring_near::<F, A>(&family.sessions, &mut placed);
        }
        let mut budget = EXPIRE_BUDGET;
        while let Some(idx) = family.sessions.poll(now, &mut budget) {
            if let Some((session, cold)) = family.sessions.memory(idx) {
                F::prefetch(session);
                F::prefetch(cold);
            }
            family.due.up.push(idx);
        }
        // Those that are left wait for nobody.
        if budget > 0 && !family.due.is_empty() {
            let Due { near, up } = std::mem::take(&mut family.due);
            self.look_at(plan, now, family, &near, out);
            self.look_at(plan, now, family, &up, out);
        }
    }

    /// Looks at sessions whose timers have gone off: ends them, or sets their timers anew.
    #[inline(never)]
    fn look_at<A: Addr>(
        &mut self,
        plan: &Plan,
        now: Time,
        family: &mut Family<A>,
        up: &[SessionIdx],
        out: &mut impl Output<F>,
    ) {
        let mut ending: ArrayVec<Placed, EXPIRE_BUDGET> = ArrayVec::new();
        for &idx in up {
            let Some(session) = family.sessions.get(idx) else { continue };
            let deadline = due(plan, now, session);
            if deadline > now {
                family.sessions.file(idx, next_look(plan, now, session));
            } else if let Some(placed) = family.sessions.locate(idx) {
                ending.push(placed);
            } else {
                self.due_with_target(now, family, idx, out);
            }
        }
        bring_near::<F, A>(&family.sessions, &mut ending);
        for placed in &ending {
            if let Some(ended) = family.sessions.remove_located(placed) {
                self.ended(now, family, ended);
            }
        }
    }

    /// Gives back what an ended session held.
    pub(super) fn ended<A: Addr>(&mut self, now: Time, family: &mut Family<A>, ended: (Session<A>, Cold)) {
        self.give_back(now, family, ended);
        self.counters.sessions_ended.add(1);
    }

    /// Gives back what a session holds: its local port rests, its server and next hops count one less.
    pub(super) fn give_back<A: Addr>(
        &mut self,
        now: Time,
        family: &mut Family<A>,
        (session, cold): (Session<A>, Cold),
    ) {
        family.ports.release(cold.ports, session.lport(), now);
        self.let_go(family, &session);
    }

    /// Gives back what a session holds but its local port.
    pub(super) fn let_go<A: Addr>(&mut self, family: &mut Family<A>, session: &Session<A>) {
        self.loads.end(session.server_id);
        for nexthop in session.nexthops {
            family.hops.release(&self.neighbors, nexthop);
        }
    }

    /// Sends packets whose next hop is known by now, and drops those whose next hop does not answer. Called before other
    /// packets may go to a next hop that was just learned, so that those do not overtake the waiting ones.
    pub(super) fn send_pending(&mut self, plan: &Plan, now: Time, out: &mut impl Output<F>) {
        if self.pending.is_empty() {
            return;
        }
        self.pending.drain_resolved(&self.neighbors, |iface, mac, mut frame| {
            ethernet::set_addresses(frame.bytes_mut(), mac, plan.interface(iface).mac);
            out.transmit(iface, frame);
        });
        self.pending.drain_failed(&self.neighbors, now, |_, _| self.counters.count_drop(DropReason::NeighborFailed));
    }

    /// Asks for next hops, where this worker is the one that does.
    fn probe(&mut self, plan: &Plan, now: Time, out: &mut impl Output<F>) {
        let Some(housekeeper) = &mut self.housekeeper else { return };
        housekeeper.due(now, &mut self.probes);
        for probe in self.probes.iter() {
            send_made(plan, probe.iface, out, |frame, mac| ask(plan, probe, frame, mac));
        }
    }
}

/// Hashes the keys of sessions, and asks for their lines of the index.
#[inline(always)]
pub(super) fn bring_near<F: Frame, A: Addr>(sessions: &SessionTable<A>, placed: &mut [Placed]) {
    for direction in [Direction::Inbound, Direction::Outbound] {
        sessions.hash_placed(direction, &mut *placed);
        for placed in &*placed {
            F::prefetch(sessions.line_of(placed, direction));
        }
    }
}

/// When a session ends if no packet comes.
pub(super) fn deadline<A: Addr>(plan: &Plan, now: Time, session: &Session<A>) -> Time {
    session.last_seen(now).after(timeouts(plan, session.service_id).of(session.conn.state))
}

/// When the timer of a session with time left looks at it next. Between the last FIN and its acknowledgment that is as
/// early as the state behind that may need it: see [`Timeouts::shortened`].
pub(super) fn next_look<A: Addr>(plan: &Plan, now: Time, session: &Session<A>) -> Time {
    let deadline = deadline(plan, now, session);
    match session.conn.state {
        State::LastAck => deadline.min(now.after(timeouts(plan, session.service_id).of(State::TimeWait))),
        _ => deadline,
    }
}

/// When there is something to do about a session if no packet comes.
fn due<A: Addr>(plan: &Plan, now: Time, session: &Session<A>) -> Time {
    if must_leave_target(session) { now } else { deadline(plan, now, session) }
}

/// The timeouts of a service; the defaults for one that is gone.
#[inline]
pub(super) fn timeouts(plan: &Plan, service: ServiceId) -> &Timeouts {
    plan.service(service).map_or(&Timeouts::DEFAULT, |s| &s.timeouts)
}

/// Writes the question of a probe; false when it cannot be asked.
fn ask<F: Frame>(plan: &Plan, probe: &Probe, frame: &mut F, mac: Mac) -> bool {
    match (probe.addr, plan.source_for(probe.iface, probe.addr)) {
        (IpAddr::V4(target), Some(IpAddr::V4(sender))) => {
            arp::request(frame, probe.to.unwrap_or(Mac::BROADCAST), (mac, sender), target)
        }
        (IpAddr::V6(target), Some(IpAddr::V6(sender))) => ndp::solicit(frame, probe.to, (mac, sender), target),
        _ => false,
    }
}

/// Sends a packet of our own that `make` writes into an empty frame.
fn send_made<F: Frame>(plan: &Plan, iface: IfaceId, out: &mut impl Output<F>, make: impl FnOnce(&mut F, Mac) -> bool) {
    if let Some(mut frame) = out.alloc()
        && make(&mut frame, plan.interface(iface).mac)
    {
        out.transmit(iface, frame);
    }
}

/// Our addresses that `before` does not have, on each interface that answers for them.
fn announcements(plan: &Plan, before: Option<&Plan>) -> Vec<(IfaceId, IpAddr)> {
    let ifaces = || (0..plan.interfaces.len()).map(|i| IfaceId(i as u8));
    let on = |address| ifaces().filter(move |&iface| link::answers(plan, iface, address)).map(move |i| (i, address));
    let is_new = |address: &IpAddr| before.is_none_or(|before| before.own(*address).is_none());
    plan.own_addresses().map(|(address, _)| address).filter(is_new).flat_map(on).collect()
}
