//! What a forwarder does between bursts: sessions end, waiting packets leave, next hops are probed, a new plan begins.

use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::Addr;
use crate::forward::{Desk, Family, Forwarder, Output, link};
use crate::frame::Frame;
use crate::id::{IfaceId, ServiceId};
use crate::neighbor::Probe;
use crate::plan::Plan;
use crate::reason::DropReason;
use crate::sched::Scheduler;
use crate::session::{Cold, Session};
use crate::tcp::Timeouts;
use crate::time::Time;
use crate::wire::{Mac, arp, ethernet, ndp};

/// Sessions whose deadline is looked at in one call: bounds the pause between two bursts to a few microseconds, and
/// still ends millions of sessions per second.
const EXPIRE_BUDGET: usize = 64;
/// Port spaces looked at in one call, to forget those of servers long gone.
const SWEEP_BUDGET: usize = 1;
/// Addresses announced in one call.
const ANNOUNCE_BUDGET: usize = 4;

impl<F: Frame> Forwarder<F> {
    /// Does what is due. Call it in every round of the worker's loop; it is cheap when nothing is.
    pub fn tick(&mut self, now: Time, out: &mut impl Output<F>) {
        let Forwarder { plan, desk, v4, v6, announce } = self;
        desk.expire(plan, now, v4);
        desk.expire(plan, now, v6);
        desk.send_pending(plan, now, out);
        desk.probe(plan, now, out);
        desk.counters.sessions_v4.set(v4.sessions.len() as u64);
        desk.counters.sessions_v6.set(v6.sessions.len() as u64);
        v4.ports.sweep(now, SWEEP_BUDGET);
        v6.ports.sweep(now, SWEEP_BUDGET);
        for _ in 0..ANNOUNCE_BUDGET.min(announce.len()) {
            if let Some((iface, address)) = announce.pop() {
                send_made(plan, iface, out, |frame, mac| match address {
                    IpAddr::V4(ip) => arp::announce(frame, mac, ip),
                    IpAddr::V6(ip) => ndp::announce(frame, mac, ip),
                });
            }
        }
    }

    /// Works by this plan from now on. Sessions go on as they are; those of servers that are gone, until they end.
    ///
    /// The old plan is returned, for its memory to be freed elsewhere.
    pub fn set_plan(&mut self, plan: Arc<Plan>) -> Arc<Plan> {
        self.desk.renew_schedulers(&plan);
        if self.desk.housekeeper.is_some() {
            self.announce = announcements(&plan);
        }
        self.v4.ports.set_quarantine(plan.quarantine_ms);
        self.v6.ports.set_quarantine(plan.quarantine_ms);
        std::mem::replace(&mut self.plan, plan)
    }
}

impl<F: Frame> Desk<F> {
    /// Ends sessions whose deadline has passed.
    fn expire<A: Addr>(&mut self, plan: &Plan, now: Time, family: &mut Family<A>) {
        let mut budget = EXPIRE_BUDGET;
        let deadline = |session: &Session<A>| {
            let timeout = timeouts(plan, session.service_id).of(session.conn.state);
            session.last_seen(now).after(timeout)
        };
        while let Some(ended) = family.sessions.pop_expired(now, &mut budget, deadline) {
            self.ended(plan, now, family, ended);
        }
    }

    /// Gives back what an ended session held: its local port rests, its server and next hops count one less.
    pub(super) fn ended<A: Addr>(
        &mut self,
        plan: &Plan,
        now: Time,
        family: &mut Family<A>,
        (session, cold): (Session<A>, Cold),
    ) {
        family.ports.release(cold.ports, session.lport, now);
        if let Some(server) = plan.server(session.server_id) {
            server.shared.end();
        }
        self.neighbors.release(session.nexthop_in);
        self.neighbors.release(session.nexthop_out);
        self.counters.sessions_ended.add(1);
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

    /// Makes schedulers for the plan; turns go on where they were.
    fn renew_schedulers(&mut self, plan: &Plan) {
        let mut old = std::mem::take(&mut self.schedulers);
        for service in plan.services() {
            let slot = usize::from(service.id.0);
            let scheduler = match old.get_mut(slot).and_then(Option::take) {
                Some(mut scheduler) => {
                    scheduler.update(service, plan);
                    scheduler
                }
                None => Scheduler::new(service, plan, self.worker),
            };
            self.schedulers.resize_with(self.schedulers.len().max(slot + 1), || None);
            self.schedulers[slot] = Some(scheduler);
        }
    }
}

/// The timeouts of a service; the defaults for one that is gone.
pub(super) fn timeouts(plan: &Plan, service: ServiceId) -> Timeouts {
    plan.service(service).map_or_else(Timeouts::default, |s| s.timeouts)
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

/// All our addresses, on each interface that answers for them.
fn announcements(plan: &Plan) -> Vec<(IfaceId, IpAddr)> {
    let ifaces = || (0..plan.interfaces.len()).map(|i| IfaceId(i as u8));
    let on = |address| ifaces().filter(move |&iface| link::answers(plan, iface, address)).map(move |i| (i, address));
    plan.own_addresses().flat_map(|(address, _)| on(address)).collect()
}
