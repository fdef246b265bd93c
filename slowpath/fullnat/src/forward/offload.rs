//! Sessions on their way to the target and back: when to ask, what to make of the answers, how they end.
//!
//! The rules both sides keep are in [`crate::offload`]. The worker's own are:
//!
//! - A session is asked to be installed only when both ends are known to talk. For TCP that is a handshake completed by
//!   a client that does receive what is sent to its address, and TOA at the server. UDP has no such proof, so the client
//!   must have sent twice and the server once: packets of a flood from made-up sources, each with another tuple, never
//!   get there, nor do those that no server answers.
//! - Both next hops must have MAC addresses, so that nothing waits here that the target would overtake, and interfaces
//!   of the same MTU, because the target does not compare lengths with MTUs.
//! - While a session is anything but [`State::None`], it keeps its place and its local port, however long it is over;
//!   and a new connection on its client's tuple has to wait, because the entries would catch its packets.
//! - A FIN or valid RST ends offload, not only the connection: what follows is the slow path's.

use crate::addr::Addr;
use crate::flow::Direction;
use crate::forward::housekeeping::{deadline, next_look, timeouts};
use crate::forward::{Desk, Family, Forwarder, Output, Rx};
use crate::frame::Frame;
use crate::offload::{AnyEnds, Counted, Place, Request, State, Threshold, Verdict};
use crate::plan::Plan;
use crate::reason::DropReason;
use crate::session::Session;
use crate::table::SessionIdx;
use crate::tcp::Segment;
use crate::time::Time;

/// Milliseconds until what found a full ring, or waits for a verdict, is looked at again.
const AGAIN_MS: u64 = 256;
/// Milliseconds that the answer to a [`Request::Check`] may take.
const CHECK_MS: u64 = 2_000;
/// Milliseconds that a session which the target lost, or gave back alive, stays in the slow path at least.
const REST_MS: u64 = 1_000;

impl<F: Frame> Forwarder<F> {
    /// Takes what the offload manager says. A verdict about a session that has gone, or is in a state which that verdict
    /// does not belong to, is counted and changes nothing.
    pub fn verdict(&mut self, now: Time, verdict: Verdict, out: &mut impl Output<F>) {
        let Forwarder { plan, desk, v4, v6, .. } = self;
        match (verdict, verdict.place()) {
            (_, Some(Place::V4(idx))) => desk.judged(plan, now, v4, idx, verdict, out),
            (_, Some(Place::V6(idx))) => desk.judged(plan, now, v6, idx, verdict, out),
            (Verdict::Adopt(adoption), None) => match adoption.ends {
                AnyEnds::V4(ends) => desk.adopt(plan, now, v4, &adoption, &ends, out),
                AnyEnds::V6(ends) => desk.adopt(plan, now, v6, &adoption, &ends, out),
            },
            (_, None) => {}
        }
    }
}

/// Whether the target has a session that it must not have any longer.
pub(super) fn must_leave_target<A: Addr>(session: &Session<A>) -> bool {
    session.offload() == State::Offloaded && !session.conn.keeps_offload()
}

/// A TCP segment comes for a session that the target has, or may have: numbers are out of date. True when it begins a new
/// connection. Let through, its handshake ACK would pass the machine by, and miss TOA; held back, it is sent again.
#[cold]
pub(super) fn must_wait<A: Addr>(session: &mut Session<A>, direction: Direction, segment: Segment) -> bool {
    session.conn.lose_track();
    session.conn.begins_anew(direction, &segment)
}

impl<F: Frame> Desk<F> {
    /// A packet of a session that the target might take was sent: asks for that when it is time. The caller has made sure
    /// that the connection [may](crate::tcp::Conn::may_offload).
    #[inline(never)]
    pub(super) fn consider<A: Addr>(
        &self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        idx: SessionIdx,
        len: usize,
        out: &mut impl Output<F>,
    ) {
        let (Some(gate), Some((session, cold))) = (&self.offload, family.sessions.get_both_mut(idx)) else { return };
        let reached = match gate.threshold::<A>() {
            Threshold::Never => false,
            Threshold::Packets(n) => session.packets[0].saturating_add(session.packets[1]) >= n,
            Threshold::Bytes(n) => cold.count_bytes(len as u32) >= n,
            Threshold::PacketsPerSecond(n) => cold.count_in_second(rx.now) >= n,
        };
        if !reached || rx.now.seconds() < cold.retry_s || !both_talk(session) || !self.level_way(rx.plan, session) {
            return;
        }
        let Some(ends) = AnyEnds::of(&session.ends()) else { return };
        let idle_ms = timeouts(rx.plan, session.service_id).of(session.conn.state);
        if self.ask(Request::Install { place: Place::of::<A>(idx), ends, idle_ms }, out) {
            self.counters.offload.asked.add(1);
            self.moved(session, State::Installing);
        }
    }

    /// Whether packets of both directions can leave at once, and by interfaces of the same MTU.
    fn level_way<A: Addr>(&self, plan: &Plan, session: &Session<A>) -> bool {
        let mtu = |nexthop| {
            let hop = self.neighbors.hop(nexthop).filter(|hop| hop.mac.is_some())?;
            Some(plan.interface(hop.iface).mtu)
        };
        let [inbound, outbound] = session.nexthops.map(mtu);
        inbound.is_some() && inbound == outbound
    }

    /// Drops a packet that begins a new connection on the tuple of one that the target has, or may have, and sees to it that
    /// the target will not for long.
    pub(super) fn hold_back<A: Addr>(
        &self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        idx: SessionIdx,
        out: &mut impl Output<F>,
    ) {
        if family.sessions.get(idx).is_some_and(|session| session.offload() == State::Offloaded) {
            self.ask_to_remove(rx.now, family, idx, out);
        }
        self.counters.count_drop(DropReason::OffloadRemoving);
    }

    /// Asks for the removal of a session that the target must not have any longer, if this is one.
    pub(super) fn remove_if_closing<A: Addr>(
        &self,
        now: Time,
        family: &mut Family<A>,
        idx: SessionIdx,
        out: &mut impl Output<F>,
    ) {
        if family.sessions.get(idx).is_some_and(must_leave_target) {
            self.ask_to_remove(now, family, idx, out);
        }
    }

    /// The session is offloaded, and should not be.
    fn ask_to_remove<A: Addr>(&self, now: Time, family: &mut Family<A>, idx: SessionIdx, out: &mut impl Output<F>) {
        let Some(session) = family.sessions.get_mut(idx) else { return };
        if self.ask(Request::Remove { place: Place::of::<A>(idx) }, out) {
            self.moved(session, State::Removing);
        } else {
            family.sessions.file(idx, now.after(AGAIN_MS));
        }
    }

    /// A session's deadline has passed, or it must leave the target, and it is not [`State::None`].
    #[cold]
    pub(super) fn due_with_target<A: Addr>(
        &self,
        now: Time,
        family: &mut Family<A>,
        idx: SessionIdx,
        out: &mut impl Output<F>,
    ) {
        let Some(session) = family.sessions.get(idx) else { return };
        let (offloaded, leaves) = (session.offload() == State::Offloaded, must_leave_target(session));
        family.sessions.file(idx, now.after(AGAIN_MS));
        if leaves {
            self.ask_to_remove(now, family, idx, out);
        } else if offloaded && self.ask(Request::Check { place: Place::of::<A>(idx) }, out) {
            family.sessions.file(idx, now.after(CHECK_MS));
        }
    }

    fn ask(&self, request: Request, out: &mut impl Output<F>) -> bool {
        let asked = out.offload(request).is_ok();
        if !asked {
            self.counters.offload.full.add(1);
        }
        asked
    }

    /// Notes where a session is, and how many the target has.
    pub(super) fn moved<A: Addr>(&self, session: &mut Session<A>, to: State) {
        let offloaded = |state| u64::from(state == State::Offloaded);
        let sessions = &self.counters.offload.sessions;
        sessions.set(sessions.get() + offloaded(to) - offloaded(session.offload()));
        session.conn.set_offload(to);
    }

    fn judged<A: Addr>(
        &self,
        plan: &Plan,
        now: Time,
        family: &mut Family<A>,
        idx: SessionIdx,
        verdict: Verdict,
        out: &mut impl Output<F>,
    ) {
        let Some((session, cold)) = family.sessions.get_both_mut(idx) else {
            return self.counters.offload.ignored.add(1);
        };
        match (verdict, session.offload()) {
            (Verdict::Installed(_), State::Installing) => {
                self.counters.offload.installed.add(1);
                session.conn.lose_track();
                self.moved(session, State::Offloaded);
                self.remove_if_closing(now, family, idx, out);
            }
            (Verdict::Refused(_, retry_ms), State::Installing) => {
                self.counters.offload.refused.add(1);
                // One of the two entries may have been in force for a moment.
                session.conn.lose_track();
                session.last_seen = now.short();
                cold.retry_s = not_before(now.after(retry_ms));
                self.moved(session, State::None);
            }
            (Verdict::Active(_, counted), State::Offloaded | State::Removing) => {
                self.count_forwarded(session, counted);
                session.last_seen = now.short();
            }
            (Verdict::Idle(_, counted), State::Offloaded | State::Removing) => {
                self.count_forwarded(session, counted);
                if session.offload() == State::Offloaded && deadline(plan, now, session) <= now {
                    self.ask_to_remove(now, family, idx, out);
                }
            }
            (Verdict::Removed(_, counted), State::Offloaded | State::Removing) => {
                self.counters.offload.removed.add(1);
                self.count_forwarded(session, counted);
                // Not asked for, its counters may be lost too: nobody knows when its last packet was.
                if session.offload() == State::Offloaded || counted.packets != [0; 2] {
                    session.last_seen = now.short();
                }
                session.conn.back_in_view();
                cold.retry_s = not_before(now.after(REST_MS));
                self.moved(session, State::None);
                let look = next_look(plan, now, session);
                family.sessions.file(idx, look);
            }
            _ => self.counters.offload.ignored.add(1),
        }
    }

    /// Counts what the target forwarded as if it had been forwarded here.
    fn count_forwarded<A: Addr>(&self, session: &mut Session<A>, counted: Counted) {
        let Counted { packets, bytes } = counted;
        for (own, more) in session.packets.iter_mut().zip(packets) {
            *own = own.wrapping_add(more as u32);
        }
        let offload = &self.counters.offload;
        offload.packets_in.add(packets[0]);
        offload.bytes_in.add(bytes[0]);
        offload.packets_out.add(packets[1]);
        offload.bytes_out.add(bytes[1]);
        for traffic in [self.counters.service(session.service_id), self.counters.server(session.server_id)] {
            traffic.packets_in.add(packets[0]);
            traffic.bytes_in.add(bytes[0]);
            traffic.packets_out.add(packets[1]);
            traffic.bytes_out.add(bytes[1]);
        }
    }
}

/// Whether both ends are known to talk. TCP says so by its state.
fn both_talk<A: Addr>(session: &Session<A>) -> bool {
    session.conn.state != crate::tcp::State::Udp || session.packets[0] >= 2 && session.packets[1] >= 1
}

/// The first second that is not before this moment.
fn not_before(time: Time) -> u32 {
    time.after(999).seconds()
}
