//! A flow's key and its rewrite: the same two values match and change a packet here and in the P4 `flow` tables.

use crate::addr::Addr;
use crate::id::{NexthopId, Proto};

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Client → service → real server.
    Inbound,
    /// Real server → local address → client.
    Outbound,
}

impl Direction {
    /// The way of the answers.
    #[inline(always)]
    pub fn other(self) -> Direction {
        match self {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        }
    }
}

/// What a packet of one direction of a session carries: the key of a `flow_v4` or `flow_v6` entry.
/// Ports are in host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Transport protocol.
    pub proto: Proto,
}

impl<A: Addr> FlowKey<A> {
    /// The key of a packet that answers one with this key.
    pub fn reversed(self) -> Self {
        FlowKey { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, proto: self.proto }
    }
}

/// What becomes of a packet of one direction of a session: the parameters of the P4 action `rewrite`.
/// Compiled once when the session is made; applied in software by [`crate::wire`], or written to a target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rewrite<A> {
    /// New source address.
    pub src: A,
    /// New destination address.
    pub dst: A,
    /// New source port, host byte order.
    pub sport: u16,
    /// New destination port, host byte order.
    pub dport: u16,
    /// Where the packet goes next.
    pub nexthop: NexthopId,
}
