//! Room for a new session where there is none: the oldest half-open one goes.
//!
//! A flood of SYNs from made-up addresses fills whatever is kept for connections that are opening: the session table, the
//! local ports towards a real server, a server's `max_connections`. What of it is good completes its handshake within a
//! round trip to its client; the rest only waits for its timeout. So the oldest goes first, when there is need and not
//! before, and none that is younger than [`PROTECTED_MS`]: were those given up too, a flood of any strength would leave
//! every client too little time. Then the new one has to wait, and is told nothing, since a client told of a refusal does
//! not try again. A confirmed session is never ended for another.

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey};
use crate::forward::housekeeping::bring_near;
use crate::forward::{Desk, Family, Output, Rx};
use crate::frame::Frame;
use crate::id::{LPort, Proto, RPort, ServerId};
use crate::plan::Service;
use crate::ports::{Lease, Pool, Remote};
use crate::reason::DropReason;
use crate::session::{Cold, Session};
use crate::table::{SessionIdx, SessionTable};
use crate::tcp::State;
use crate::wire::reply;

/// Milliseconds that no session is given up in: a round trip to nearly every client, and the server's time to answer.
pub const PROTECTED_MS: u64 = 256;

impl<F: Frame> Desk<F> {
    /// Makes room in the session table, for a session to `server`.
    #[cold]
    pub(super) fn make_room<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        server: ServerId,
        out: &mut impl Output<F>,
    ) -> Result<(), DropReason> {
        if family.sessions.half_open() == 0 {
            return Err(DropReason::SessionTableFull);
        }
        let oldest = family.sessions.old_half_open(server, rx.now);
        let evicted = oldest.and_then(|idx| self.evict(rx, family, idx, out)).ok_or(DropReason::HalfOpenFull)?;
        // Its port rests as any other: it is not ports that are lacking.
        self.give_back(rx.now, family, evicted);
        Ok(())
    }

    /// Makes room on one of the service's servers, all of which have as many sessions as they may.
    #[cold]
    pub(super) fn make_room_on_servers<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        service: &Service,
        out: &mut impl Output<F>,
    ) -> Result<(), DropReason> {
        let takes = |id: &ServerId| rx.plan.server(*id).is_some_and(|server| server.weight > 0);
        let age = |idx: &SessionIdx| family.sessions.cold(*idx).map_or(0, |cold| cold.age_ms(rx.now));
        let servers = service.servers.iter().copied().filter(takes);
        let oldest = servers.filter_map(|id| family.sessions.oldest_half_open(id)).max_by_key(age);
        let oldest = oldest.ok_or(DropReason::ServersFull)?;
        let evicted = self.evict(rx, family, oldest, out).ok_or(DropReason::HalfOpenFull)?;
        self.give_back(rx.now, family, evicted);
        Ok(())
    }

    /// The local port towards `server` of the session given up for a new one.
    ///
    /// Nothing of the old connection can meet the new one: the server has not seen a handshake completed, so it has no
    /// TIME-WAIT; what it had is gone with the RST that travels before the new SYN; and its SYN-ACK came long ago. Were
    /// one still under way, its acknowledgment number would be wrong for the new client. UDP has no such numbers.
    #[cold]
    pub(super) fn take_over_port<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        (server, remote): (ServerId, Remote<A>),
        pool: &Pool<'_, A>,
        out: &mut impl Output<F>,
    ) -> Result<Lease<A>, DropReason> {
        let oldest = family.sessions.oldest_half_open(server).ok_or(DropReason::NoLocalPort)?;
        let old = family.sessions.get(oldest).ok_or(DropReason::NoLocalPort)?;
        let FlowKey { src: rip, dst: lip, sport, dport, proto } = old.key(Direction::Outbound);
        let lport = LPort(dport);
        let is_towards = Remote { proto, rip, rport: RPort(sport) } == remote;
        if !is_towards || proto == Proto::Udp || !pool.lips.contains(&lip) || !pool.ports.contains(&lport.0) {
            return Err(DropReason::NoLocalPort);
        }
        let (old, cold) = self.evict(rx, family, oldest, out).ok_or(DropReason::HalfOpenFull)?;
        self.let_go(family, &old);
        Ok(Lease { lip, lport, space: cold.ports })
    }

    /// Takes a half-open session out of the table, unless it is too young or the target has something of it, and tells
    /// its server. What it held is still to be given back.
    fn evict<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        idx: SessionIdx,
        out: &mut impl Output<F>,
    ) -> Option<(Session<A>, Cold)> {
        family.sessions.cold(idx).filter(|cold| cold.age_ms(rx.now) >= PROTECTED_MS)?;
        let (session, cold) = family.sessions.remove(idx)?;
        self.counters.sessions_ended.add(1);
        self.counters.half_open_evicted.add(1);
        self.counters.service(session.service_id).evicted.add(1);
        self.counters.server(session.server_id).evicted.add(1);
        self.abort(rx, &session, out);
        foresee::<F, A>(&family.sessions, session.server_id);
        Some((session, cold))
    }

    /// Sends a half-open connection's server a RST in the client's name, so that it keeps nothing of it either: also when the
    /// client has sent one, which may have been lost since.
    fn abort<A: Addr>(&self, rx: Rx<'_>, session: &Session<A>, out: &mut impl Output<F>) {
        if session.conn.state == State::Udp {
            return;
        }
        // Where no MAC address is known, no SYN has got there.
        let Some(hop) = self.neighbors.hop(session.nexthops[Direction::Inbound as usize]) else { return };
        let Some(to) = hop.mac else { return };
        let Some(mut frame) = out.alloc() else { return };
        let key = session.key(Direction::Outbound).reversed();
        if reply::tcp_abort(&mut frame, &key, session.conn.server_expects(), (to, rx.plan.interface(hop.iface).mac)) {
            out.transmit(hop.iface, frame);
        }
    }
}

/// Fetches what giving up the server's next session will need: in a flood that comes soon, and each far line would be
/// waited for. Of the session behind it, what is needed to do the same then.
fn foresee<F: Frame, A: Addr>(sessions: &SessionTable<A>, server: ServerId) {
    let Some(next) = sessions.oldest_half_open(server) else { return };
    if let Some(placed) = sessions.locate(next) {
        bring_near::<F, A>(sessions, &mut [placed]);
    }
    if let Some((session, cold)) = sessions.half_open_behind(next).and_then(|idx| sessions.memory(idx)) {
        F::prefetch(session);
        F::prefetch(cold);
    }
}
