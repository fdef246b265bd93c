//! Turning a received frame into an answer, in its own buffer.
//!
//! `mac` is the address of the interface the frame came in by and the answer leaves by; the answer goes back to where
//! the frame came from.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::Addr;
use crate::flow::FlowKey;
use crate::frame::Frame;
use crate::id::Proto;
use crate::wire::checksum::{self, Change};
use crate::wire::icmp::{self, IcmpPacket, Types};
use crate::wire::parse::Flow;
use crate::wire::{Mac, TcpFlags, ethernet, ipv4, ipv6, rewrite, tcp};

/// What an ICMP error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpError {
    /// TTL or hop limit ended here.
    TimeExceeded,
    /// No route.
    NetUnreachable,
    /// The next hop does not answer.
    HostUnreachable,
    /// Nobody listens.
    PortUnreachable,
    /// Forbidden by policy.
    AdminProhibited,
    /// Longer than the next link takes; `mtu` is what that takes, bytes of IP packet.
    TooBig {
        /// The link's MTU, bytes.
        mtu: u16,
    },
}

impl IcmpError {
    /// Type, code, and the last word of the header.
    fn header<A: Addr>(self) -> (u8, u8, u32) {
        let types = Types::of::<A>();
        let unreachable = |v4, v6| (types.unreachable, if A::IS_V6 { v6 } else { v4 }, 0);
        match self {
            IcmpError::TimeExceeded => (types.time_exceeded, 0, 0),
            IcmpError::NetUnreachable => unreachable(0, 0),
            IcmpError::HostUnreachable => unreachable(1, 3),
            IcmpError::PortUnreachable => unreachable(3, 4),
            IcmpError::AdminProhibited => unreachable(13, 1),
            IcmpError::TooBig { mtu } if A::IS_V6 => (types.fourth_error, 0, u32::from(mtu)),
            IcmpError::TooBig { mtu } => (types.unreachable, icmp::FRAGMENTATION_NEEDED, u32::from(mtu)),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoReply {
    /// One may not be sent: to an RST, an ICMP error, a fragment, or a group (RFC 1122 section 3.2.2, RFC 4443 section
    /// 2.4 (e)).
    NotAllowed,
    /// The buffer has no room in front.
    NoRoom,
}

/// Turns an echo request into its reply. A wrong checksum stays wrong.
pub fn echo<A: Addr>(frame: &mut [u8], request: &IcmpPacket<A>, mac: Mac) {
    ethernet::turn_around(frame, mac);
    let Some((head, message)) = frame.split_at_mut_checked(usize::from(request.l4)) else { return };
    // The sum of both addresses does not change when they trade places.
    let ttl = if A::IS_V6 { ipv6::OUR_HOP_LIMIT } else { ipv4::OUR_TTL };
    rewrite::write_ip(head, request.ttl, ttl, request.dst, request.src, Change::default());
    let Some(header) = message.first_chunk_mut::<{ icmp::LEN }>() else { return };
    let reply = Types::of::<A>().echo_reply;
    let mut change = Change::default();
    change.word(u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([reply, 0]));
    let check = u16::from_be_bytes([header[icmp::CHECKSUM], header[icmp::CHECKSUM + 1]]);
    header[..2].copy_from_slice(&[reply, 0]);
    header[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&change.apply(check).to_be_bytes());
}

/// Turns a TCP segment into the RST that answers it (RFC 9293 section 3.10.7.1): with the sequence number the segment
/// acknowledges, or acknowledging the segment where it acknowledges nothing.
///
/// # Errors
///
/// [`NoReply::NotAllowed`] for an RST and for UDP; the frame is as it was.
pub fn tcp_reset<F: Frame, A: Addr>(frame: &mut F, flow: &Flow<A>, mac: Mac) -> Result<(), NoReply> {
    if flow.key.proto != Proto::Tcp || flow.flags.has(TcpFlags::RST) {
        return Err(NoReply::NotAllowed);
    }
    let segment = tcp::segment(frame.bytes(), flow);
    let (seq, ack, flags) = if segment.flags.has(TcpFlags::ACK) {
        (segment.ack, 0, TcpFlags::RST)
    } else {
        (0, segment.seq_end(), TcpFlags::RST | TcpFlags::ACK)
    };
    let len = ip_end::<A>() + tcp::LEN;
    if !frame.set_len(len) {
        return Err(NoReply::NoRoom);
    }
    let bytes = frame.bytes_mut();
    ethernet::turn_around(bytes, mac);
    write_segment(bytes, &flow.key.reversed(), (seq, ack, flags));
    Ok(())
}

/// Makes the RST with which the sender of packets with this key gives a connection up (RFC 9293 section 3.10.5), in an
/// empty frame, sent between these MAC addresses, the destination first. `seq` is what its receiver expects next. False
/// when the buffer has no room.
#[must_use]
pub fn tcp_abort<F: Frame, A: Addr>(frame: &mut F, key: &FlowKey<A>, seq: u32, (to, from): (Mac, Mac)) -> bool {
    if !frame.set_len(ip_end::<A>() + tcp::LEN) {
        return false;
    }
    let bytes = frame.bytes_mut();
    ethernet::set_addresses(bytes, to, from);
    let ether_type = if A::IS_V6 { ethernet::IPV6 } else { ethernet::IPV4 };
    bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
    write_segment(bytes, key, (seq, 0, TcpFlags::RST));
    true
}

/// Writes the IP header and a TCP header without options or data into a frame of just that length.
fn write_segment<A: Addr>(bytes: &mut [u8], key: &FlowKey<A>, (seq, ack, flags): (u32, u32, TcpFlags)) {
    let Some((head, header)) = bytes.split_at_mut_checked(ip_end::<A>()) else { return };
    let Some(header) = header.first_chunk_mut::<{ tcp::LEN }>() else { return };
    write_ip_header(head, key.src, key.dst, tcp::PROTO, 0, tcp::LEN as u16);
    header[..2].copy_from_slice(&key.sport.to_be_bytes());
    header[2..4].copy_from_slice(&key.dport.to_be_bytes());
    header[4..8].copy_from_slice(&seq.to_be_bytes());
    header[8..12].copy_from_slice(&ack.to_be_bytes());
    header[12..].copy_from_slice(&[(tcp::LEN as u8 / 4) << 4, flags.0, 0, 0, 0, 0, 0, 0]);
    let pseudo = checksum::pseudo_header(key.src, key.dst, tcp::PROTO, tcp::LEN as u16);
    let check = checksum::finish(pseudo + u32::from(checksum::sum(header)));
    header[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&check.to_be_bytes());
}

/// Turns a packet of the family of `A` into the ICMP error about it, sent by `src`. It quotes as much of the packet as
/// 576 bytes (IPv4, RFC 1812 section 4.3.2.3) or 1280 bytes (IPv6, RFC 4443 section 3) hold. The packet must be as it
/// was received: an error about a translated one would mean nothing to its sender.
///
/// # Errors
///
/// The frame is as it was.
pub fn icmp_error<F: Frame, A: Addr>(frame: &mut F, error: IcmpError, src: A, mac: Mac) -> Result<(), NoReply> {
    let offender = Offender::<A>::read(frame.bytes()).ok_or(NoReply::NotAllowed)?;
    let limit = if A::IS_V6 { usize::from(ipv6::MIN_MTU) } else { 576 };
    let headers = ip_end::<A>() - ethernet::LEN + icmp::LEN;
    let quoted = offender.ip_len.min(limit - headers);
    let to = ethernet::source(frame.bytes());
    if !frame.grow_front(headers) || !frame.set_len(ethernet::LEN + headers + quoted) {
        return Err(NoReply::NoRoom);
    }
    let bytes = frame.bytes_mut();
    ethernet::set_addresses(bytes, to, mac);
    let Some((head, message)) = bytes.split_at_mut_checked(ip_end::<A>()) else { return Err(NoReply::NoRoom) };
    let ether_type = if A::IS_V6 { ethernet::IPV6 } else { ethernet::IPV4 };
    head[12..14].copy_from_slice(&ether_type.to_be_bytes());
    let proto = if A::IS_V6 { ipv6::ICMP } else { ipv4::ICMP };
    let len = message.len() as u16;
    // Precedence "internetwork control" for IPv4, RFC 1812 section 4.3.2.5.
    write_ip_header(head, src, offender.src, proto, 0xc0, len);
    let (kind, code, last) = error.header::<A>();
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&last.to_be_bytes());
    let pseudo = if A::IS_V6 { checksum::pseudo_header(src, offender.src, proto, len) } else { 0 };
    let check = checksum::finish(pseudo + u32::from(checksum::sum(message)));
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&check.to_be_bytes());
    Ok(())
}

/// The packet an error is about.
struct Offender<A> {
    src: A,
    /// Its length, bytes.
    ip_len: usize,
}

impl<A: Addr> Offender<A> {
    /// None when no error may be sent about it.
    fn read(frame: &[u8]) -> Option<Self> {
        let head = frame.first_chunk::<{ ethernet::LEN }>()?;
        let ether_type = if A::IS_V6 { ethernet::IPV6 } else { ethernet::IPV4 };
        if ethernet::destination(frame).is_group() || u16::from_be_bytes([head[12], head[13]]) != ether_type {
            return None;
        }
        let ip = frame.get(ethernet::LEN..)?;
        let (len, allowed) = if A::IS_V6 { Self::judge_v6(ip)? } else { Self::judge_v4(ip)? };
        let src_at = if A::IS_V6 { ipv6::SRC } else { ipv4::SRC };
        (allowed && len <= ip.len()).then(|| Offender { src: A::read(&ip[src_at..]), ip_len: len })
    }

    /// The packet's length, and whether an error about it may be sent.
    fn judge_v4(packet: &[u8]) -> Option<(usize, bool)> {
        let ip = packet.first_chunk::<{ ipv4::LEN }>()?;
        let header_len = usize::from(ip[0] & 0xf) * 4;
        let fragment = u16::from_be_bytes([ip[ipv4::FRAGMENT], ip[ipv4::FRAGMENT + 1]]) & ipv4::FRAGMENT_OFFSET;
        // Echo and timestamp are the only ICMP messages that may be answered; the others are errors, or unknown.
        let is_error = ip[ipv4::PROTOCOL] == ipv4::ICMP && !matches!(packet.get(header_len), Some(0 | 8 | 13 | 14));
        let addresses = [Ipv4Addr::read(&ip[ipv4::SRC..]), Ipv4Addr::read(&ip[ipv4::DST..])];
        let allowed = ip[0] >> 4 == 4
            && header_len >= ipv4::LEN
            && fragment == 0
            && !is_error
            && !addresses.into_iter().any(ipv4::is_never_forwarded);
        let len = usize::from(u16::from_be_bytes([ip[ipv4::TOTAL_LENGTH], ip[ipv4::TOTAL_LENGTH + 1]]));
        Some((len, allowed && len >= header_len))
    }

    /// The packet's length, and whether an error about it may be sent.
    fn judge_v6(packet: &[u8]) -> Option<(usize, bool)> {
        let ip = packet.first_chunk::<{ ipv6::LEN }>()?;
        let next = ip[ipv6::NEXT_HEADER];
        // 44 is the fragment header. Types under 128 are errors, 137 is a redirect.
        let is_error = next == ipv6::ICMP && !matches!(packet.get(ipv6::LEN), Some(128..=136 | 138..));
        let addresses = [Ipv6Addr::read(&ip[ipv6::SRC..]), Ipv6Addr::read(&ip[ipv6::DST..])];
        let allowed =
            ip[0] >> 4 == 6 && next != 44 && !is_error && !addresses.into_iter().any(ipv6::is_never_forwarded);
        let len = usize::from(u16::from_be_bytes([ip[ipv6::PAYLOAD_LENGTH], ip[ipv6::PAYLOAD_LENGTH + 1]]));
        Some((ipv6::LEN + len, allowed))
    }
}

/// Offset behind the IP header in a frame.
const fn ip_end<A: Addr>() -> usize {
    if A::IS_V6 { ipv6::END } else { ipv4::END }
}

/// Writes the IP header of a packet we make into a frame that has room for it.
fn write_ip_header<A: Addr>(head: &mut [u8], src: A, dst: A, proto: u8, tos: u8, len: u16) {
    let Some(ip) = head.get_mut(ethernet::LEN..) else { return };
    match (src.into(), dst.into()) {
        (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => {
            if let Some(ip) = ip.first_chunk_mut() {
                ipv4::write_header(ip, src, dst, proto, tos, len);
            }
        }
        (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => {
            if let Some(ip) = ip.first_chunk_mut() {
                ipv6::write_header(ip, src, dst, proto, ipv6::OUR_HOP_LIMIT, len);
            }
        }
        // Both are of the type A.
        _ => {}
    }
}

#[cfg(test)]
mod tests;
