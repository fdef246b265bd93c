//! Packets on the wire: parse once into a checked view, change in place, answer in place.
//!
//! [`parse`] reads the headers of a frame one time and returns a [`Packet`], a few dozen bytes that say who talks to
//! whom and where in the frame things are. Everything else here takes the frame together with that view and cannot
//! fail for reasons of format any more. The contract of all of it: a view is used with the frame it was parsed from.
//! With another frame nothing is read or written out of bounds; the result is then just meaningless.
//!
//! Nothing here allocates, panics on any input, or knows about sessions.
//!
//! Layer-4 checksums are never verified (ICMPv6 neighbour discovery excepted, RFC 4861 wants it) and always updated
//! incrementally (RFC 1624), so that a packet that arrived corrupt leaves corrupt and its receiver finds out.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod icmp_error;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
mod parse;
pub mod reply;
pub mod rewrite;
#[cfg(test)]
mod strategies;
pub mod tcp;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod toa;
pub mod udp;

pub use arp::ArpPacket;
pub use ethernet::Mac;
pub use icmp::IcmpPacket;
pub use parse::{Flow, Packet, flow_v4, flow_v6, parse};
pub use tcp::TcpFlags;
