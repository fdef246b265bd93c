//! Packets of a session: TCP tracked, TOA put in, rewritten, sent to the next hop.

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::counters::Traffic;
use crate::flow::Direction;
use crate::forward::housekeeping::timeouts;
use crate::forward::offload::must_wait;
use crate::forward::{Desk, Family, Lookup, Missed, Output, Rx};
use crate::frame::Frame;
use crate::id::{CPort, IfaceId, NexthopId, Proto};
use crate::neighbor::Hop;
use crate::offload::State;
use crate::reason::DropReason;
use crate::table::SessionIdx;
use crate::tcp::{Event, Segment};
use crate::wheel::HORIZON_MS;
use crate::wire::Flow;
use crate::wire::tcp::TcpFlags;
use crate::wire::toa::NoRoom;
use crate::wire::{ethernet, rewrite, tcp, toa};

impl<F: Frame> Desk<F> {
    /// Takes a packet of a session through TCP tracking, TOA and rewrite.
    #[inline(always)]
    pub(super) fn hit<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        (idx, direction): (SessionIdx, Direction),
        mut frame: F,
        flow: &mut Flow<A>,
        out: &mut impl Output<F>,
    ) {
        if flow.ttl <= 1 {
            return self.ttl_exceeded(rx, frame, flow, out);
        }
        let Some(mut session) = family.sessions.get_mut(idx) else {
            return self.counters.count_drop(DropReason::NoSession);
        };
        if flow.key.proto == Proto::Tcp {
            let segment = tcp::segment(frame.bytes(), flow);
            if self.offload.is_some() && session.offload() != State::None && must_wait(session, direction, segment) {
                return self.hold_back(rx, family, idx, out);
            }
            if !session.conn.on_plain_segment(direction, &segment) {
                if self.on_notable_segment(rx, family, (idx, direction), segment, out) == Event::Reopen {
                    return self.reopen(rx, family, idx, frame, flow, out);
                }
                let Some(same) = family.sessions.get_mut(idx) else { return };
                session = same;
            }
        } else if session.packets[Direction::Inbound as usize] == 1 && direction == Direction::Inbound {
            family.sessions.confirm(idx);
            let Some(same) = family.sessions.get_mut(idx) else { return };
            session = same;
        }
        session.touch(direction, rx.now);
        let len = frame.bytes().len();
        let traffic = [self.counters.service(session.service_id), self.counters.server(session.server_id)];
        count(traffic, direction, len);
        let nexthop = session.nexthops[direction as usize];
        let Some(hop) = self.neighbors.hop(nexthop) else {
            return self.counters.count_drop(DropReason::NeighborFailed);
        };
        let interface = rx.plan.interface(hop.iface);
        let (mtu, from) = (interface.mtu, interface.mac);
        if flow.ip_len() > mtu {
            return self.too_big(rx, frame, flow, mtu, out);
        }
        if flow.key.proto == Proto::Tcp {
            let toa = session.wants_toa();
            match direction {
                Direction::Inbound => self.client_address(&mut frame, flow, toa, mtu),
                Direction::Outbound if toa && flow.flags.has(TcpFlags::SYN) => {
                    tcp::lower_mss(frame.bytes_mut(), flow, toa::len::<A>() as u16);
                }
                Direction::Outbound => {}
            }
        }
        let bytes = frame.bytes_mut();
        rewrite::apply(bytes, flow, &session.rewrite(direction));
        let for_target = self.offload.is_some() && session.conn.may_offload();
        if let Some(to) = hop.mac {
            ethernet::set_addresses(bytes, to, from);
            out.transmit(hop.iface, frame);
        } else {
            self.wait(rx, nexthop, hop.iface, frame);
        }
        if for_target {
            self.consider(rx, family, idx, len, out);
        }
    }

    /// [`Desk::hit`] for where it is rare, so that its code is not there too.
    #[cold]
    pub(super) fn hit_again<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        found: (SessionIdx, Direction),
        frame: F,
        flow: &mut Flow<A>,
        out: &mut impl Output<F>,
    ) {
        self.hit(rx, family, found, frame, flow, out);
    }

    /// Removes TOA options the client made up, and adds the true one where the real server needs it.
    #[inline(always)]
    fn client_address<A: Addr>(&self, frame: &mut F, flow: &mut Flow<A>, toa: bool, mtu: u16) {
        if toa::strip(frame.bytes_mut(), flow) {
            self.counters.toa_stripped.add(1);
        }
        if toa && !flow.flags.any(TcpFlags(TcpFlags::SYN.0 | TcpFlags::RST.0)) {
            self.add_toa(frame, flow, mtu);
        }
    }

    /// Puts the client's address into a segment.
    #[inline(never)]
    fn add_toa<A: Addr>(&self, frame: &mut F, flow: &mut Flow<A>, mtu: u16) {
        let client = (flow.key.src, CPort(flow.key.sport));
        match toa::insert(frame, flow, client, mtu) {
            Ok(()) => self.counters.toa_added.add(1),
            // Not a drop: the segment goes on without it.
            Err(NoRoom::Options | NoRoom::Headroom) => self.counters.toa_no_room.add(1),
            Err(NoRoom::Mtu) => self.counters.toa_over_mtu.add(1),
        }
    }

    /// Sends a rewritten packet to a next hop, or keeps it until the hop's MAC address is known.
    pub(super) fn emit(&mut self, rx: Rx<'_>, nexthop: NexthopId, hop: Hop, mut frame: F, out: &mut impl Output<F>) {
        match hop.mac {
            Some(mac) => {
                ethernet::set_addresses(frame.bytes_mut(), mac, rx.plan.interface(hop.iface).mac);
                out.transmit(hop.iface, frame);
            }
            None => self.wait(rx, nexthop, hop.iface, frame),
        }
    }

    /// Keeps a packet until its next hop's MAC address is known.
    #[cold]
    fn wait(&mut self, rx: Rx<'_>, nexthop: NexthopId, iface: IfaceId, frame: F) {
        self.neighbors.want(nexthop);
        if self.neighbors.failed(nexthop) {
            self.counters.count_drop(DropReason::NeighborFailed);
        } else if self.pending.push(nexthop, iface, rx.now, frame).is_err() {
            self.counters.count_drop(DropReason::NeighborQueueFull);
        }
    }

    /// Shows the connection a segment that may change its state, and acts on what it changed.
    #[inline(never)]
    fn on_notable_segment<A: Addr>(
        &self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        (idx, direction): (SessionIdx, Direction),
        segment: Segment,
        out: &mut impl Output<F>,
    ) -> Event {
        let Some(session) = family.sessions.get_mut(idx) else { return Event::None };
        let outcome = &session.conn.on_segment(direction, &segment);
        match outcome.event {
            Event::Reopen => return Event::Reopen,
            Event::RstIgnored => self.counters.rst_ignored.add(1),
            Event::Established => {
                self.counters.handshakes.add(1);
                family.sessions.confirm(idx);
            }
            Event::None if !outcome.changed() => return Event::None,
            Event::None | Event::RstAccepted => {}
        }
        // A deadline that moves away is found when the old one comes; a nearer one must be filed, but none is filed
        // beyond the horizon.
        if outcome.changed()
            && let Some(session) = family.sessions.get(idx)
            && let Some(ms) = timeouts(rx.plan, session.service_id).shortened(outcome).filter(|&ms| ms < HORIZON_MS)
        {
            family.sessions.file(idx, rx.now.after(ms));
        }
        if self.offload.is_some() {
            self.remove_if_closing(rx.now, family, idx, out);
        }
        outcome.event
    }

    /// A client uses its tuple again: the old session ends, the packet opens a new one. Not while the target may have
    /// entries of the old one, which would catch the new one's packets: then the client has to send its SYN once more.
    #[cold]
    fn reopen<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        idx: SessionIdx,
        frame: F,
        flow: &Flow<A>,
        out: &mut impl Output<F>,
    ) {
        if family.sessions.get(idx).is_some_and(|session| session.offload() != State::None) {
            return self.hold_back(rx, family, idx, out);
        }
        self.counters.sessions_reopened.add(1);
        if let Some(ended) = family.sessions.remove(idx) {
            self.ended(rx.now, family, ended);
        }
        let mut alone = Lookup::new();
        (alone.flows[0], alone.hashes[0]) = (*flow, family.sessions.hash(&flow.key));
        let mut missed = ArrayVec::new();
        missed.push(Missed { frame, at: 0 });
        self.misses(rx, family, &mut alone, missed, out);
    }
}

/// Counts a packet of a session for its service and its server.
#[inline(always)]
fn count(traffic: [&Traffic; 2], direction: Direction, bytes: usize) {
    for traffic in traffic {
        match direction {
            Direction::Inbound => {
                traffic.packets_in.add(1);
                traffic.bytes_in.add(bytes as u64);
            }
            Direction::Outbound => {
                traffic.packets_out.add(1);
                traffic.bytes_out.add(bytes as u64);
            }
        }
    }
}
