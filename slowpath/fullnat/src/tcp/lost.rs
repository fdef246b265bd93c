//! Numbers lost and found: what the machine does for a connection whose segments pass it by.
//!
//! A switch that forwards a connection shows its slow path SYN, FIN, RST and odd packets only. By the time one of those
//! comes, the numbers known are from before, perhaps gigabytes ago. [`Conn::lose_track`] says so for both directions;
//! then, until the next segment of a direction:
//!
//! - That segment's numbers are *taken*, not checked. It may be an old one, sent again: numbers that lie a little behind the
//!   known ones leave those as they are. And one end may have acknowledged by then what was not seen of the other, so
//!   acknowledgments count as news of what their sender has got.
//! - While one direction is found and the other is not, segments are measured by their own direction only. When the second
//!   is found and does not fit the first, one of them was forged: the later is believed, and the first is lost again. So a
//!   forged segment that comes first is put right by the true ones behind it.
//! - A FIN is taken as any segment is. Forged, it makes the idle timeout that of a half-closed connection, not less.
//! - A RST cannot be checked, and one that is forged must not end a connection that lives. So it closes *tentatively*: the
//!   state is [`State::Close`], but any segment without RST that comes, in either direction, brings the state back. A true
//!   RST is followed by silence, or by more of them that then match what they answer. (A connection that is silent for
//!   longer than the timeout of [`State::Close`] can be ended by a forged one.) An inbound SYN too brings the state back:
//!   it goes to the same server, which answers with a SYN-ACK if the connection is over indeed.
//! - A SYN-ACK that answers a new SYN begins a connection whose numbers it brings. Its forwarder holds it back until the
//!   switch has no entries any more ([`Conn::begins_anew`]), for they would take the handshake ACK and TOA with it.
//! - Of a connection that an earlier life left in the switch ([`Conn::out_of_sight`]) no number was ever seen, so there is
//!   nothing to measure by: no SYN-ACK is an old one, no RST fits, and the first segment's numbers are taken for both ends.
//!
//! Where FINs are seen they bound their direction: nothing comes after, so its end is not lost a second time.

use super::{Conn, IN, LOST, OFFLOAD, OFFLOAD_SHIFT, OUT, PASSED_BY, RESYN, SLACK, State, TOA_NOTE, TOA_PENDING};
use super::{after, offload, sides, within};
use crate::flow::Direction;
use crate::wire::tcp::{Segment, TcpFlags};

/// The largest window there is (RFC 7323, section 2.3): how far one end may be ahead of what the other acknowledged.
const MAX_WINDOW: u32 = 1 << 30;

/// The states in which numbers matter and can be found, in the order of their own numbers.
const TRACKED: [State; 4] = [State::Established, State::FinWait, State::CloseWait, State::LastAck];

impl Conn {
    /// Where the session is with the target.
    #[inline(always)]
    pub fn offload(&self) -> offload::State {
        match self.flags >> OFFLOAD_SHIFT {
            1 => offload::State::Installing,
            2 => offload::State::Offloaded,
            3 => offload::State::Removing,
            _ => offload::State::None,
        }
    }

    /// Says where the session is with the target.
    pub fn set_offload(&mut self, state: offload::State) {
        self.flags = self.flags & !OFFLOAD | (state as u8) << OFFLOAD_SHIFT;
    }

    /// Whether the target may be given the connection, as far as the connection goes: it is none of the target's yet, its
    /// handshake is complete, the server knows the client's address or need not, and no new one is about to begin on its
    /// tuple. For UDP the same but for the first, which UDP does not have.
    #[inline(always)]
    pub fn may_offload(&self) -> bool {
        matches!(self.state, State::Established | State::Udp) && self.flags & (OFFLOAD | TOA_PENDING | RESYN) == 0
    }

    /// Whether the connection is one that a target may go on forwarding: for TCP, that it has not begun to close.
    #[inline(always)]
    pub fn keeps_offload(&self) -> bool {
        matches!(self.state, State::Established | State::Udp)
    }

    /// A connection that a target has forwarded for so long that nothing is known but that it is there. With `toa` its server
    /// was told the client's address, as each is that was given to a target.
    pub fn out_of_sight(toa: bool) -> Self {
        let told = if toa { TOA_NOTE } else { 0 };
        let mut conn = Conn { end: [0; 2], ack: [0; 2], state: State::Established, flags: told, aside: 0 };
        conn.lose_track();
        conn
    }

    /// Segments may have passed by: both directions' numbers are to be found anew.
    pub fn lose_track(&mut self) {
        if self.is_tracked() {
            self.flags |= LOST[IN] | LOST[OUT] | PASSED_BY;
        }
    }

    /// Segments passed by until now, and none will from here on. Where both FINs were seen the last acknowledgment has
    /// most likely been among them, since it carries no flag that would have brought it here.
    pub fn back_in_view(&mut self) {
        self.lose_track();
        if self.state == State::LastAck {
            self.state = State::TimeWait;
        }
    }

    /// Whether a direction's numbers are lost.
    #[inline(always)]
    pub(super) fn is_lost(&self) -> bool {
        self.flags & (LOST[IN] | LOST[OUT]) != 0
    }

    /// Whether no segment was ever seen: the numbers are none, and must not be compared with. Should all four of a
    /// connection that was seen be zero by chance, it is only believed as readily as one that was not.
    #[inline(always)]
    pub(super) fn is_unseen(&self) -> bool {
        const BOTH: u8 = LOST[IN] | LOST[OUT];
        self.flags & BOTH == BOTH && self.end == [0; 2] && self.ack == [0; 2]
    }

    /// Whether numbers matter in this state.
    pub(super) fn is_tracked(&self) -> bool {
        TRACKED.contains(&self.state)
    }

    /// Notes the state to come back to, which is a tracked one. The caller closes.
    #[cold]
    pub(super) fn close_tentatively(&mut self) {
        self.flags |= LOST[IN] | LOST[OUT] | PASSED_BY;
        self.aside = self.aside & !0b11 | u16::from(self.state as u8 - TRACKED[0] as u8);
    }

    /// Back to the state before a RST that seems to have been forged.
    #[cold]
    pub(super) fn revive(&mut self) {
        self.state = TRACKED[usize::from(self.aside & 0b11)];
    }

    /// Takes a segment's numbers where they are lost, and says whether they are believable. By the same arithmetic as for
    /// other connections, but that one end may acknowledge what was not seen of the other.
    #[cold]
    pub(super) fn find(&mut self, direction: Direction, segment: &Segment) -> bool {
        if !segment.flags.has(TcpFlags::ACK) {
            return false;
        }
        let (own, peer) = sides(direction);
        let (ack, end) = (segment.ack, segment.seq_end());
        if self.is_unseen() {
            self.flags &= !LOST[own];
            (self.ack[own], self.end[own]) = (ack, end);
            (self.ack[peer], self.end[peer]) = (segment.seq, ack);
            return true;
        }
        let slack_around = |n: u32, low: u32, high: u32| within(n, low.wrapping_sub(SLACK), high.wrapping_add(SLACK));
        let window_behind = |n: u32, known: u32| within(n, known.wrapping_sub(MAX_WINDOW), known.wrapping_add(SLACK));
        let window_ahead = |n: u32, known: u32| within(n, known.wrapping_sub(SLACK), known.wrapping_add(MAX_WINDOW));
        let peer_found = self.flags & LOST[peer] == 0;
        if self.flags & LOST[own] != 0 {
            self.flags &= !LOST[own];
            self.ack[own] = take(self.ack[own], ack);
            if !self.state.fin_seen(direction) {
                self.end[own] = if segment.flags.has(TcpFlags::FIN) { end } else { take(self.end[own], end) };
            }
            if peer_found && !(window_behind(ack, self.end[peer]) && window_ahead(end, self.ack[peer])) {
                self.flags |= LOST[peer];
            }
        } else {
            let believable = if peer_found {
                slack_around(ack, self.ack[own], self.end[peer]) && slack_around(end, self.ack[peer], self.end[own])
            } else {
                window_ahead(ack, self.ack[own]) && window_behind(end, self.end[own])
            };
            if !believable {
                return false;
            }
        }
        if !self.state.fin_seen(other(direction)) {
            if self.flags & LOST[peer] != 0 {
                self.end[peer] = take(self.end[peer], ack);
            } else if after(ack, self.end[peer]) {
                self.end[peer] = ack;
            }
        }
        true
    }
}

/// What is known after a number was seen that cannot be checked: that number, unless it is a little behind.
fn take(known: u32, seen: u32) -> u32 {
    if within(seen, known.wrapping_sub(SLACK), known) { known } else { seen }
}

fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Inbound => Direction::Outbound,
        Direction::Outbound => Direction::Inbound,
    }
}
