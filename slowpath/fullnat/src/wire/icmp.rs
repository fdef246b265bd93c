//! ICMP (RFC 792) and ICMPv6 (RFC 4443): what kind of message a packet is.

use crate::addr::Addr;
use crate::reason::DropReason;
use crate::wire::icmp_error::{self, Quote};

/// Length of the header of the messages handled here, bytes.
pub const LEN: usize = 8;
/// Offset of the checksum in the header.
pub(crate) const CHECKSUM: usize = 2;

/// Type numbers of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Types {
    pub echo_request: u8,
    pub echo_reply: u8,
    pub unreachable: u8,
    pub time_exceeded: u8,
    pub parameter_problem: u8,
    /// ICMPv6 "packet too big"; ICMP says it with a code of "unreachable" and has the source quench of RFC 792 as its
    /// fourth error.
    pub fourth_error: u8,
}

const V4: Types =
    Types { echo_request: 8, echo_reply: 0, unreachable: 3, time_exceeded: 11, parameter_problem: 12, fourth_error: 4 };

const V6: Types = Types {
    echo_request: 128,
    echo_reply: 129,
    unreachable: 1,
    time_exceeded: 3,
    parameter_problem: 4,
    fourth_error: 2,
};

/// Neighbour solicitation and advertisement (RFC 4861).
pub(crate) const NEIGHBOR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Code of an ICMP "unreachable": fragmentation needed and DF set.
pub(crate) const FRAGMENTATION_NEEDED: u8 = 4;

impl Types {
    /// The numbers of the family of `A`.
    #[inline(always)]
    pub(crate) const fn of<A: Addr>() -> Types {
        if A::IS_V6 { V6 } else { V4 }
    }

    /// True for an error about another packet, which it quotes.
    #[inline(always)]
    pub(crate) fn is_error(self, kind: u8) -> bool {
        (kind == self.unreachable)
            | (kind == self.time_exceeded)
            | (kind == self.parameter_problem)
            | (kind == self.fourth_error)
    }
}

/// An ICMP or ICMPv6 packet. Offsets are from the start of the frame, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpPacket<A> {
    /// Source of the packet.
    pub src: A,
    /// Destination of the packet.
    pub dst: A,
    /// Offset of the ICMP header.
    pub l4: u16,
    /// Offset behind the IP packet. Ethernet padding may follow.
    pub end: u16,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
}

impl<A: Addr> IcmpPacket<A> {
    /// Whether it is a neighbour solicitation or advertisement, to be read by [`crate::wire::ndp::parse`].
    #[inline]
    pub fn is_neighbor_message(&self) -> bool {
        A::IS_V6 && matches!(self.kind, NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT)
    }

    /// The message: ICMP header and what follows, without Ethernet padding.
    #[inline]
    pub(crate) fn message<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(usize::from(self.l4)..usize::from(self.end)).unwrap_or(&[])
    }
}

/// What an ICMP packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<A> {
    /// Answer it with [`crate::wire::reply::echo`] when it is for an address of ours.
    EchoRequest,
    /// Somebody answers an echo request.
    EchoReply,
    /// An error about a TCP segment or UDP datagram; [`icmp_error::translate`] sends it on.
    Error(Quote<A>),
    /// Neighbour solicitation or advertisement; read it with [`crate::wire::ndp::parse`].
    Neighbor,
    /// Anything else.
    Other,
}

/// Says what an ICMP packet is. The checksum is not verified.
///
/// # Errors
///
/// When it is an error, but not about a TCP segment or UDP datagram whose ports can be read.
pub fn message<A: Addr>(frame: &[u8], packet: &IcmpPacket<A>) -> Result<Message<A>, DropReason> {
    let types = Types::of::<A>();
    Ok(match packet.kind {
        kind if types.is_error(kind) => Message::Error(icmp_error::quote(frame, packet)?),
        kind if kind == types.echo_request => Message::EchoRequest,
        kind if kind == types.echo_reply => Message::EchoReply,
        _ if packet.is_neighbor_message() => Message::Neighbor,
        _ => Message::Other,
    })
}
