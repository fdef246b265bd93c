//! How long a session lives without a packet.

use super::{Outcome, State};

/// Session timeouts by state, in milliseconds since the last packet of either direction. They must stay below 24 days.
///
/// In brackets: DPVS, and Linux's conntrack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Waiting for the server's SYN-ACK: 5 s (3; 120). Outlasts the client's first pauses of 1 and 2 and 4 s between
    /// SYNs, so that they reach the same server; shorter than the next, so that a client still trying then is given
    /// another one.
    pub syn_sent: u32,
    /// Waiting for the handshake ACK: 30 s (30; 60). Outlasts the pauses of up to 16 s between a server's SYN-ACKs, and
    /// the handshakes of the slowest clients.
    pub syn_recv: u32,
    /// Idle connection: 900 s (90; 5 days). Keep-alives of clients are tuned for balancers and NATs that forget after
    /// 240 to 600 s, so those outlive it. RFC 5382 asks 7440 s of a NAT, which suits clients that rely on the usual
    /// keep-alive after 2 h; each idle session costs memory and a local port, so that is left to the operator.
    pub established: u32,
    /// Idle after the client's FIN: 300 s (7; 120). The server may take long to compose its answer, and data of the
    /// answer starts it anew; 7 s, as DPVS has it, cuts answers off.
    pub fin_wait: u32,
    /// Idle after the server's FIN: 300 s (7; 60). The same, seen from the other side: an upload after the answer.
    pub close_wait: u32,
    /// Both FINs seen, not both acknowledged: 30 s (7; 30). Lost FINs are repeated with growing pauses, each of which
    /// starts it anew.
    pub last_ack: u32,
    /// Closed by both: 10 s (7; 120). Passes on repeated FINs and their ACKs when the last ACK was lost behind the
    /// balancer. The real server's TIME-WAIT needs no session: the local port's quarantine keeps the tuple unused.
    pub time_wait: u32,
    /// Reset: 10 s (3; 10). Passes on what was under way, and further resets.
    pub close: u32,
    /// UDP: 300 s (300; 30, or 120 when answered). RFC 4787 requires 120 s and recommends 300 s.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts::DEFAULT
    }
}

impl Timeouts {
    /// Those of a service for which nothing else is configured.
    pub const DEFAULT: Timeouts = Timeouts {
        syn_sent: 5_000,
        syn_recv: 30_000,
        established: 900_000,
        fin_wait: 300_000,
        close_wait: 300_000,
        last_ack: 30_000,
        time_wait: 10_000,
        close: 10_000,
        udp: 300_000,
    };

    /// The timeout in this state, in milliseconds.
    #[inline]
    pub fn of(&self, state: State) -> u64 {
        u64::from(match state {
            State::Free => 0,
            State::Udp => self.udp,
            State::SynSent => self.syn_sent,
            State::SynRecv => self.syn_recv,
            State::Established => self.established,
            State::FinWait => self.fin_wait,
            State::CloseWait => self.close_wait,
            State::LastAck => self.last_ack,
            State::TimeWait => self.time_wait,
            State::Close => self.close,
        })
    }

    /// After which time the session's timer must look at it when a segment made its timeout shorter, so that it must be
    /// filed anew in the wheel.
    ///
    /// The last acknowledgment follows close behind the last FIN: the timer that is set for the one serves for the other.
    #[inline]
    pub fn shortened(&self, outcome: &Outcome) -> Option<u64> {
        let ms = match (outcome.from, outcome.to) {
            (State::LastAck, State::TimeWait) => return None,
            (_, State::LastAck) => self.of(State::LastAck).min(self.of(State::TimeWait)),
            (_, to) => self.of(to),
        };
        (ms < self.of(outcome.from)).then_some(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::Event;

    #[test]
    fn only_a_shorter_timeout_is_filed_anew() {
        let t = Timeouts::default();
        let change = |from, to| t.shortened(&Outcome { from, to, event: Event::None });
        assert_eq!(change(State::Established, State::FinWait), Some(300_000));
        assert_eq!(change(State::SynSent, State::SynRecv), None);
        assert_eq!(change(State::FinWait, State::FinWait), None);
        assert_eq!(change(State::FinWait, State::LastAck), Some(10_000), "the next state's");
        assert_eq!(change(State::LastAck, State::TimeWait), None);
        assert_eq!(change(State::FinWait, State::TimeWait), Some(10_000));
    }
}
