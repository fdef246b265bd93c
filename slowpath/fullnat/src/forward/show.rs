//! What a forwarder shows of itself: its sessions and local ports, a bounded piece at a time.

use std::net::{IpAddr, SocketAddr};

use crate::addr::Addr;
use crate::forward::housekeeping::timeouts;
use crate::forward::{Family, Forwarder};
use crate::frame::Frame;
use crate::id::{Proto, ServerId, ServiceId};
use crate::offload;
use crate::plan::Plan;
use crate::session::{Cold, Session};
use crate::table::{SessionIdx, TableBytes};
use crate::tcp::State;
use crate::time::Time;

/// One session, of either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// Transport protocol.
    pub proto: Proto,
    /// TCP state, or that it is UDP.
    pub state: State,
    /// CIP:cport.
    pub client: SocketAddr,
    /// VIP:vport.
    pub vip: SocketAddr,
    /// LIP:lport.
    pub local: SocketAddr,
    /// RIP:rport.
    pub server: SocketAddr,
    /// The service.
    pub service: ServiceId,
    /// The real server.
    pub server_id: ServerId,
    /// Milliseconds since it began, to a 64th of a second.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Milliseconds until it ends if no packet comes.
    pub expires_ms: u64,
    /// Packets from the client; wraps at 2³².
    pub packets_in: u32,
    /// Packets from the real server; wraps at 2³².
    pub packets_out: u32,
    /// Which of its worker's sessions it is.
    pub place: offload::Place,
    /// Where it is with the target.
    pub offload: offload::State,
}

/// Use of the local ports of one local address towards one real server, on one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortView {
    /// Transport protocol.
    pub proto: Proto,
    /// The LIP.
    pub local: IpAddr,
    /// RIP:rport.
    pub server: SocketAddr,
    /// Ports of the worker's share, by the last look at the range.
    pub total: u32,
    /// Ports that carry a session.
    pub in_use: u32,
    /// Released ports still in quarantine.
    pub quarantined: u32,
    /// Searches that found no free port here.
    pub exhausted: u64,
}

/// Marks a cursor in the IPv6 table; below it, in the IPv4 table.
const V6: u64 = 1 << 32;

impl<F: Frame> Forwarder<F> {
    /// Shows the sessions in up to `slots` places of the tables from `cursor` on (0 is the start), and returns where to
    /// go on, or `None` at the end. A session that lives through the whole walk is shown exactly once.
    pub fn scan_sessions(
        &self,
        now: Time,
        cursor: u64,
        slots: usize,
        mut show: impl FnMut(SessionView),
    ) -> Option<u64> {
        if cursor < V6 {
            let next = scan(&self.v4, &self.plan, now, cursor as u32, slots, &mut show);
            return Some(next.map_or(V6, u64::from));
        }
        let next = scan(&self.v6, &self.plan, now, cursor as u32, slots, &mut show);
        next.map(|next| V6 | u64::from(next))
    }

    /// What the session tables take of the machine's memory, IPv4 and IPv6.
    pub fn table_bytes(&self) -> [TableBytes; 2] {
        [self.v4.sessions.bytes(), self.v6.sessions.bytes()]
    }

    /// Packets that wait for the MAC address of their next hop.
    pub fn waiting(&self) -> usize {
        self.desk.pending.len()
    }

    /// Shows the port spaces in up to `slots` places from `cursor` on, and returns where to go on, or `None`.
    pub fn scan_ports(&mut self, now: Time, cursor: u64, slots: usize, mut show: impl FnMut(PortView)) -> Option<u64> {
        let workers = self.desk.spread.workers();
        if cursor < V6 {
            let next = scan_ports(&mut self.v4, workers, now, cursor as usize, slots, &mut show);
            return Some(next.map_or(V6, |next| next as u64));
        }
        let next = scan_ports(&mut self.v6, workers, now, (cursor - V6) as usize, slots, &mut show);
        next.map(|next| V6 | next as u64)
    }
}

fn scan<A: Addr>(
    family: &Family<A>,
    plan: &Plan,
    now: Time,
    from: u32,
    slots: usize,
    show: &mut impl FnMut(SessionView),
) -> Option<u32> {
    let (sessions, next) = family.sessions.scan(from, slots);
    sessions.for_each(|(idx, session, cold)| show(view(plan, now, idx, session, cold)));
    next
}

fn view<A: Addr>(plan: &Plan, now: Time, idx: SessionIdx, session: &Session<A>, cold: &Cold) -> SessionView {
    let idle_ms = now.since(session.last_seen(now));
    let (ends, [packets_in, packets_out]) = (session.ends(), session.packets);
    SessionView {
        proto: ends.proto,
        state: session.conn.state,
        client: SocketAddr::new(ends.client.into(), ends.cport.0),
        vip: SocketAddr::new(ends.vip.into(), ends.vport.0),
        local: SocketAddr::new(ends.local.into(), ends.lport.0),
        server: SocketAddr::new(ends.server.into(), ends.rport.0),
        service: session.service_id,
        server_id: session.server_id,
        age_ms: cold.age_ms(now),
        idle_ms,
        expires_ms: timeouts(plan, session.service_id).of(session.conn.state).saturating_sub(idle_ms),
        packets_in,
        packets_out,
        place: offload::Place::of::<A>(idx),
        offload: session.offload(),
    }
}

fn scan_ports<A: Addr>(
    family: &mut Family<A>,
    workers: u32,
    now: Time,
    from: usize,
    slots: usize,
    show: &mut impl FnMut(PortView),
) -> Option<usize> {
    let end = family.ports.slots().min(from + slots);
    for slot in from..end {
        if let Some(stats) = family.ports.stats(slot, now) {
            show(PortView {
                proto: stats.key.remote.proto,
                local: stats.key.lip.into(),
                server: SocketAddr::new(stats.key.remote.rip.into(), stats.key.remote.rport.0),
                // Ports never used count for all workers; this one's share of them is an even one, near enough.
                total: stats.in_use + stats.quarantined + stats.reusable + stats.fresh.div_ceil(workers),
                in_use: stats.in_use,
                quarantined: stats.quarantined,
                exhausted: stats.exhausted,
            });
        }
    }
    (end < family.ports.slots()).then_some(end)
}
