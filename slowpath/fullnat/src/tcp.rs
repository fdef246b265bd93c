//! The TCP state machine of a balancer that sees both directions but is neither end.
//!
//! ```text
//!            SYN-ACK          handshake ACK
//!  SynSent ─────────▶ SynRecv ─────────▶ Established ──client's FIN──▶ FinWait ───server's FIN──┐
//!     │                  │                    │                                                 ▼   both FINs
//!     │ RST              │ RST                └──server's FIN──▶ CloseWait ──client's FIN──▶ LastAck ───────▶ TimeWait
//!     ▼                  ▼                                                                          acked
//!   Close ◀── valid RST, in every state but TimeWait        client's SYN in LastAck, TimeWait or Close: Reopen
//!
//!  every state ──server's SYN-ACK to another SYN of the client──▶ SynRecv
//! ```
//!
//! For each direction it tracks the end of the highest sequence range sent and the highest acknowledgment sent, by the
//! arithmetic of RFC 9293, section 3.4. A segment moves them, or the state, only when its acknowledgment is one its
//! sender could have sent and its sequence number is near what was seen; a blind attacker has to guess both. Every
//! segment is forwarded, whatever the machine thinks of it: the ends judge for themselves, and better.
//!
//! While a switch forwards a connection the machine sees only what the switch hands up, FIN and RST above all, and its
//! numbers are out of date then. What it does about that is in [`lost`].

use crate::flow::Direction;
use crate::offload;
pub use crate::wire::tcp::Segment;
use crate::wire::tcp::TcpFlags;

pub mod lost;
mod timeouts;
pub use timeouts::Timeouts;

/// How far a sequence or acknowledgment number may lie beside what was seen and still be believed, in bytes. Losses in
/// front of the balancer open gaps and reordering brings old numbers, but neither by 16 MB at once; and if one did, the
/// retransmission closes the gap. Smaller is safer from guesses: one in 2¹⁵ blind segments is believed with this.
const SLACK: u32 = 1 << 24;

/// State of a session, seen from between the ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum State {
    /// No session: a slot of the table that is free.
    Free = 0,
    /// UDP, which has one state.
    Udp = 1,
    /// The client's SYN was seen.
    SynSent = 2,
    /// The server's SYN-ACK was seen.
    SynRecv = 3,
    /// The client acknowledged the server's SYN: it does receive what is sent to its address.
    Established = 4,
    /// The client's FIN was seen; the server may go on sending.
    FinWait = 5,
    /// The server's FIN was seen; the client may go on sending.
    CloseWait = 6,
    /// Both FINs were seen, in whichever order; not both are acknowledged.
    LastAck = 7,
    /// Both FINs are acknowledged.
    TimeWait = 8,
    /// A valid RST was seen.
    Close = 9,
}

impl State {
    /// All states a session can have.
    pub const ALL: [State; 9] = [
        State::Udp,
        State::SynSent,
        State::SynRecv,
        State::Established,
        State::FinWait,
        State::CloseWait,
        State::LastAck,
        State::TimeWait,
        State::Close,
    ];

    /// The state's name in tables, JSON and configuration.
    pub fn name(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Udp => "udp",
            State::SynSent => "syn_sent",
            State::SynRecv => "syn_recv",
            State::Established => "established",
            State::FinWait => "fin_wait",
            State::CloseWait => "close_wait",
            State::LastAck => "last_ack",
            State::TimeWait => "time_wait",
            State::Close => "close",
        }
    }

    fn fin_seen(self, direction: Direction) -> bool {
        match direction {
            Direction::Inbound => matches!(self, State::FinWait | State::LastAck | State::TimeWait),
            Direction::Outbound => matches!(self, State::CloseWait | State::LastAck | State::TimeWait),
        }
    }

    fn after_fin(self, direction: Direction) -> State {
        match (self, direction) {
            (State::Established, Direction::Inbound) => State::FinWait,
            (State::Established, Direction::Outbound) => State::CloseWait,
            (State::FinWait, Direction::Outbound) | (State::CloseWait, Direction::Inbound) => State::LastAck,
            (state, _) => state,
        }
    }
}

/// What a segment was, to those who have to act on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Nothing beyond what the states tell.
    None,
    /// The client completed the handshake. Once per session, but for a server that forgets a connection and takes a new
    /// SYN of the client on the same tuple: the state then goes back to [`State::SynRecv`].
    Established,
    /// A valid RST: the connection is over.
    RstAccepted,
    /// A RST that does not match what its receiver expects (RFC 5961, section 3.2), or that meets TIME-WAIT (RFC 1337).
    /// It is forwarded all the same: the receiver makes the same check with better knowledge and answers with a
    /// challenge ACK, which a sender in earnest needs to see; dropped here, a half-dead connection would stay.
    RstIgnored,
    /// The client opens a new connection on the tuple of one that is over. The caller ends this session and handles
    /// the SYN as a new one.
    Reopen,
}

/// What a segment changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The state before the segment.
    pub from: State,
    /// The state now. When it differs, the session's deadline may be earlier than the wheel knows.
    pub to: State,
    /// What to act on.
    pub event: Event,
}

impl Outcome {
    /// Whether the state changed.
    #[inline(always)]
    pub fn changed(&self) -> bool {
        self.from != self.to
    }
}

/// TOA still goes on inbound segments.
const TOA_PENDING: u8 = 1 << 0;
/// Without [`TOA_PENDING`]: the real server was told the client's address. With it: only what the client acknowledges
/// proves that the server was told, because the client's SYN carried data, or might have.
const TOA_NOTE: u8 = 1 << 1;
/// The client sent another SYN than the one that began the connection. If the server takes it, its SYN-ACK will tell.
const RESYN: u8 = 1 << 2;
/// By direction: its numbers were lost, and none of its segments was seen since.
const LOST: [u8; 2] = [1 << 3, 1 << 4];
/// Segments have passed by the machine, so that one end may acknowledge what was not seen of the other.
const PASSED_BY: u8 = 1 << 5;
/// Where an [`offload::State`] is: the machine keeps it for the session, whose line has no other bit free. The first
/// packet of a burst brings that line anyway, and one look at the flags tells whether a session may be installed.
const OFFLOAD: u8 = 0b11 << OFFLOAD_SHIFT;
const OFFLOAD_SHIFT: u32 = 6;

/// A session's protocol state: 20 bytes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Conn {
    /// By direction: where the highest sequence range seen ends. Stands still once a FIN was seen.
    end: [u32; 2],
    /// By direction: the highest acknowledgment number its sender sent. What the other direction's receiver expects
    /// next is therefore `ack` of this direction's peer. Until the SYN-ACK, the outbound one is the least that may come.
    ack: [u32; 2],
    /// The state.
    pub state: State,
    flags: u8,
    /// With [`RESYN`], in the upper 14 bits: as many of the acknowledgment that the other SYN asks for, the lowest. In a
    /// tentative [`State::Close`], in the lower two: the state before.
    aside: u16,
}

const _: () = assert!(size_of::<Conn>() == 20);

/// Whether `low ≤ n ≤ high` on the circle of sequence numbers.
#[inline(always)]
fn within(n: u32, low: u32, high: u32) -> bool {
    n.wrapping_sub(low) <= high.wrapping_sub(low)
}

/// Whether `a` comes after `b`.
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

const IN: usize = 0;
const OUT: usize = 1;

#[inline(always)]
fn sides(direction: Direction) -> (usize, usize) {
    match direction {
        Direction::Inbound => (IN, OUT),
        Direction::Outbound => (OUT, IN),
    }
}

impl Conn {
    /// A UDP session's.
    pub fn udp() -> Self {
        Conn { end: [0; 2], ack: [0; 2], state: State::Udp, flags: 0, aside: 0 }
    }

    /// A TCP session's that the client's `syn` opens. With `toa` the real server is told the client's address.
    pub fn tcp(syn: &Segment, toa: bool) -> Self {
        let isn_end = syn.seq.wrapping_add(1);
        let flags = match (toa, syn.payload_len) {
            (false, _) => 0,
            (true, 0) => TOA_PENDING,
            (true, _) => TOA_PENDING | TOA_NOTE,
        };
        // Data on the SYN (RFC 7413) may be acknowledged or not.
        Conn {
            end: [isn_end.wrapping_add(u32::from(syn.payload_len)), 0],
            ack: [0, isn_end],
            state: State::SynSent,
            flags,
            aside: 0,
        }
    }

    /// Whether an inbound segment without SYN and RST, already shown to [`Conn::on_segment`], must carry TOA. All do from
    /// the handshake ACK on until it is certain that the server has got one of them, by either of two signs:
    ///
    /// - The client acknowledged something beyond the server's SYN. A server sends nothing before its handshake is complete.
    /// - The server acknowledged something beyond the client's SYN. It was sent after that, in a segment with TOA. This
    ///   says nothing when the SYN itself carried data (RFC 7413).
    #[inline(always)]
    pub fn wants_toa(&self) -> bool {
        self.flags & TOA_PENDING != 0 && self.state >= State::SynRecv
    }

    /// Of a handshake that is not complete: the sequence number that the server expects of the client next, as far as it has
    /// told. A RST with it is one that the server believes (RFC 5961, section 3.2).
    pub fn server_expects(&self) -> u32 {
        self.ack[OUT]
    }

    /// Takes a segment of either direction into account if it is one as nearly all are: of an established connection, which
    /// it leaves established. False, and nothing done, for any other; then ask [`Conn::on_segment`].
    #[inline(always)]
    pub fn on_plain_segment(&mut self, direction: Direction, segment: &Segment) -> bool {
        const NOT_PLAIN: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0);
        if self.state != State::Established || self.flags & PASSED_BY != 0 || segment.flags.any(NOT_PLAIN) {
            return false;
        }
        let end = segment.seq.wrapping_add(u32::from(segment.payload_len));
        if self.is_believable(direction, segment, end) {
            self.note_ack(direction, segment);
            self.note_end(direction, end);
        }
        true
    }

    /// Takes a segment of either direction into account. UDP sessions have no segments; nothing changes for them.
    #[inline]
    pub fn on_segment(&mut self, direction: Direction, segment: &Segment) -> Outcome {
        let from = self.state;
        if self.on_plain_segment(direction, segment) {
            return Outcome { from, to: from, event: Event::None };
        }
        if from == State::Close && self.is_lost() && !segment.flags.has(TcpFlags::RST) {
            self.revive();
        }
        let event = match self.state {
            State::Free | State::Udp => Event::None,
            _ if segment.flags.has(TcpFlags::RST) => self.on_rst(direction, segment),
            _ if segment.flags.has(TcpFlags::SYN) => self.on_syn(direction, segment),
            State::SynRecv if direction == Direction::Inbound => self.on_handshake_ack(segment),
            State::SynRecv | State::Established | State::FinWait | State::CloseWait | State::LastAck => {
                self.on_ack(direction, segment);
                Event::None
            }
            State::SynSent | State::TimeWait | State::Close => Event::None,
        };
        Outcome { from, to: self.state, event }
    }

    /// RFC 5961, section 3.2: only the exact sequence number the receiver expects resets. The receiver's latest
    /// acknowledgment may still be under way to us or be delayed, so the end of what the sender sent counts as well.
    fn on_rst(&mut self, direction: Direction, rst: &Segment) -> Event {
        let (own, peer) = sides(direction);
        let valid = match (self.state, direction) {
            // RFC 1337: a reset must not end TIME-WAIT. And what is closed stays closed.
            (State::TimeWait | State::Close, _) => false,
            // RFC 9293, section 3.10.7.3: the answer to a SYN is valid by its acknowledgment.
            (State::SynSent, Direction::Outbound) => {
                rst.flags.has(TcpFlags::ACK) && within(rst.ack, self.ack[OUT], self.end[IN])
            }
            _ => !self.is_unseen() && (rst.seq == self.ack[peer] || rst.seq == self.end[own]),
        };
        if valid {
            self.flags &= !(LOST[IN] | LOST[OUT]);
        } else if self.flags & LOST[own] != 0 && self.is_tracked() {
            self.close_tentatively();
        } else {
            return Event::RstIgnored;
        }
        self.state = State::Close;
        Event::RstAccepted
    }

    fn on_syn(&mut self, direction: Direction, syn: &Segment) -> Event {
        match (direction, self.state) {
            (Direction::Outbound, _) if syn.flags.has(TcpFlags::ACK) => {
                self.on_syn_ack(syn);
                Event::None
            }
            _ if syn.flags.has(TcpFlags::ACK) || direction == Direction::Outbound => Event::None,
            // No test of the sequence number against the old connection's (RFC 9293, section 3.6.1, and RFC 6191 want
            // one): it protects the new connection at the server from the old one's late segments. Here the new one
            // gets another local port, so the server sees another tuple, and what is late from the server meets no
            // session.
            (_, State::TimeWait | State::Close) => Event::Reopen,
            // Not quite over, so at least it must not be an old duplicate.
            (_, State::LastAck) if after(syn.seq, self.end[IN].wrapping_sub(1)) => Event::Reopen,
            // A retransmission, or a client that tries anew. Which one the server answers, it will say. To a connection
            // that lives, its challenge ACK (RFC 5961, section 4.2) makes a client in earnest send a valid RST.
            _ => {
                let isn_end = syn.seq.wrapping_add(1);
                let opening = matches!(self.state, State::SynSent | State::SynRecv);
                if !opening || isn_end != self.ack[OUT] {
                    self.flags |= RESYN;
                    self.aside = (isn_end as u16) << 2 | self.aside & 0b11;
                }
                Event::None
            }
        }
    }

    fn on_syn_ack(&mut self, syn_ack: &Segment) {
        let isn_end = syn_ack.seq.wrapping_add(1);
        let opening = matches!(self.state, State::SynSent | State::SynRecv);
        if opening && within(syn_ack.ack, self.ack[OUT], self.end[IN]) {
            self.ack[OUT] = syn_ack.ack;
            // A retransmission must not take back what the server sent since.
            if self.state == State::SynSent || self.ack[IN] != isn_end {
                self.ack[IN] = isn_end;
                self.end[OUT] = syn_ack.seq_end();
            }
            self.state = State::SynRecv;
        } else if self.takes_resyn(syn_ack) {
            // Whether that SYN carried data was not noted.
            let toa = if self.flags & (TOA_PENDING | TOA_NOTE) != 0 { TOA_PENDING | TOA_NOTE } else { 0 };
            *self = Conn {
                end: [syn_ack.ack, syn_ack.seq_end()],
                ack: [isn_end, syn_ack.ack],
                state: State::SynRecv,
                flags: toa | self.flags & OFFLOAD,
                aside: 0,
            };
        }
    }

    /// Whether this segment, not yet shown to [`Conn::on_segment`], begins a new connection on the tuples of this one: a
    /// SYN-ACK of a server that forgot this one, to a new SYN of the client.
    pub fn begins_anew(&self, direction: Direction, segment: &Segment) -> bool {
        direction == Direction::Outbound
            && segment.flags.has(TcpFlags::SYN)
            && segment.flags.has(TcpFlags::ACK)
            && !segment.flags.has(TcpFlags::RST)
            && self.takes_resyn(segment)
    }

    /// Whether a SYN-ACK answers the client's other SYN: the server knew nothing of this connection, or no longer does,
    /// and a new one begins on both tuples. An old SYN-ACK that comes once more, behind an old SYN, is told by the nearness of
    /// both its numbers to what was seen, even when that is out of date: it is from the beginning too, mostly.
    fn takes_resyn(&self, syn_ack: &Segment) -> bool {
        let isn_end = syn_ack.seq.wrapping_add(1);
        let near = |n: u32, seen: u32| within(n, seen.wrapping_sub(SLACK), seen.wrapping_add(SLACK));
        let old = !self.is_unseen() && near(isn_end, self.end[OUT]) && near(syn_ack.ack, self.ack[OUT]);
        self.flags & RESYN != 0
            && self.aside >> 2 == syn_ack.ack as u16 & 0x3fff
            && (self.state <= State::SynRecv || !old)
    }

    /// The first inbound segment that acknowledges the server's SYN. Nobody can send it who did not get the SYN-ACK.
    fn on_handshake_ack(&mut self, segment: &Segment) -> Event {
        let fits = segment.flags.has(TcpFlags::ACK)
            && within(segment.ack, self.ack[IN], self.end[OUT])
            && within(segment.seq_end(), self.ack[OUT], self.end[IN].wrapping_add(SLACK));
        if !fits {
            return Event::None;
        }
        self.state = State::Established;
        // This segment carries TOA even when it acknowledges data that came with the SYN-ACK.
        let flags = self.flags;
        self.on_ack(Direction::Inbound, segment);
        self.flags = flags;
        Event::Established
    }

    /// Tracks a segment without SYN and RST, and the closing of the connection.
    fn on_ack(&mut self, direction: Direction, segment: &Segment) {
        let end = segment.seq_end();
        let believable = if self.flags & PASSED_BY != 0 {
            self.find(direction, segment)
        } else {
            self.is_believable(direction, segment, end)
        };
        if !believable {
            return;
        }
        self.note_ack(direction, segment);
        if segment.flags.has(TcpFlags::FIN) && self.state != State::SynRecv {
            self.on_fin(direction, end);
        } else if !self.state.fin_seen(direction) {
            self.note_end(direction, end);
        }
        if self.state == State::LastAck && self.ack[IN] == self.end[OUT] && self.ack[OUT] == self.end[IN] {
            self.state = State::TimeWait;
        }
    }

    /// Whether the sender of a segment that ends at `end` could have sent its acknowledgment, and its numbers are near what
    /// was seen.
    #[inline(always)]
    fn is_believable(&self, direction: Direction, segment: &Segment, end: u32) -> bool {
        let (own, peer) = sides(direction);
        segment.flags.has(TcpFlags::ACK)
            && within(segment.ack, self.ack[own].wrapping_sub(SLACK), self.end[peer])
            && within(end, self.ack[peer].wrapping_sub(SLACK), self.end[own].wrapping_add(SLACK))
    }

    #[inline(always)]
    fn note_ack(&mut self, direction: Direction, segment: &Segment) {
        let (own, _) = sides(direction);
        if after(segment.ack, self.ack[own]) {
            self.ack[own] = segment.ack;
            // Settled for good in either case; what is left of the flags tells a later connection what it needs to know.
            if self.flags & TOA_PENDING != 0 && (direction == Direction::Inbound || self.flags & TOA_NOTE == 0) {
                self.flags = self.flags & !TOA_PENDING | TOA_NOTE;
            }
        }
    }

    #[inline(always)]
    fn note_end(&mut self, direction: Direction, end: u32) {
        let (own, _) = sides(direction);
        if after(end, self.end[own]) {
            self.end[own] = end;
        }
    }

    fn on_fin(&mut self, direction: Direction, end: u32) {
        let (own, peer) = sides(direction);
        if self.state.fin_seen(direction) {
            // A retransmission ends where the first one did. Should they differ, one was forged; the true one will be
            // repeated until it is acknowledged, so the latest is taken.
            if self.flags & LOST[peer] != 0 || !after(self.ack[peer], end) {
                self.end[own] = end;
            }
        } else if !after(self.end[own], end) {
            self.end[own] = end;
            self.state = self.state.after_fin(direction);
        }
    }
}

#[cfg(test)]
mod tests;
