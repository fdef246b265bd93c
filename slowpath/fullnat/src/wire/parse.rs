//! Parsing a frame, once.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::Addr;
use crate::flow::FlowKey;
use crate::id::Proto;
use crate::reason::DropReason;
use crate::wire::icmp::{self, IcmpPacket};
use crate::wire::{ArpPacket, TcpFlags, arp, checksum, ethernet, ipv4, ipv6, ndp, tcp, udp};

/// A frame's meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet {
    /// TCP or UDP over IPv4.
    V4(Flow<Ipv4Addr>),
    /// TCP or UDP over IPv6.
    V6(Flow<Ipv6Addr>),
    /// ICMP; see [`icmp::message`].
    Icmp4(IcmpPacket<Ipv4Addr>),
    /// ICMPv6, neighbour discovery included; see [`icmp::message`].
    Icmp6(IcmpPacket<Ipv6Addr>),
    /// ARP for IPv4 over Ethernet.
    Arp(ArpPacket),
}

/// A TCP segment or UDP datagram: whose it is, and where in the frame its parts are. Offsets are from the start of the
/// frame, in bytes, and inside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow<A> {
    /// Addresses, ports and protocol as the packet carries them.
    pub key: FlowKey<A>,
    /// Offset of the payload.
    pub payload: u16,
    /// Offset behind the IP packet. Ethernet padding may follow.
    pub end: u16,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// TCP control bits; none for UDP.
    pub flags: TcpFlags,
}

impl<A: Addr> Flow<A> {
    /// Offset of the TCP or UDP header: the same for all of a family, since only IP headers without options or extensions
    /// are forwarded.
    #[inline(always)]
    pub const fn l4(&self) -> u16 {
        (if A::IS_V6 { ipv6::END } else { ipv4::END }) as u16
    }

    /// Bytes behind the TCP or UDP header.
    #[inline(always)]
    pub fn payload_len(&self) -> u16 {
        self.end - self.payload
    }

    /// Length of the IP packet, bytes: what an MTU limits.
    #[inline(always)]
    pub fn ip_len(&self) -> u16 {
        self.end - ethernet::LEN as u16
    }

    /// The first `N` bytes from the TCP or UDP header on; always there for as many as the parser checked, which is the
    /// fixed header.
    #[inline(always)]
    pub(crate) fn header<'a, const N: usize>(&self, frame: &'a [u8]) -> Option<&'a [u8; N]> {
        frame.get(usize::from(self.l4())..)?.first_chunk()
    }
}

/// What [`parse`] makes of a frame that carries TCP or UDP over IPv4 to a host, as nearly every frame does, at a third of
/// the price: all checks at once, without the reasons. `None` for every other frame; then ask [`parse`].
#[inline(always)]
pub fn flow_v4(frame: &[u8]) -> Option<Flow<Ipv4Addr>> {
    let head = frame.first_chunk::<{ ipv4::END }>()?;
    let ip = head.last_chunk::<{ ipv4::LEN }>()?;
    let total = u16::from_be_bytes([ip[ipv4::TOTAL_LENGTH], ip[ipv4::TOTAL_LENGTH + 1]]);
    let fragment = u16::from_be_bytes([ip[ipv4::FRAGMENT], ip[ipv4::FRAGMENT + 1]]) & ipv4::IS_FRAGMENT;
    let (src, dst) = (Ipv4Addr::read(&ip[ipv4::SRC..]), Ipv4Addr::read(&ip[ipv4::DST..]));
    // EtherType 0x0800, version 4 and 20 bytes of header.
    if u32::from_le_bytes([head[12], head[13], head[14], head[15]]) & 0xff_ffff != 0x45_0008
        || fragment != 0
        || !checksum::ipv4_header_is_right(ip)
        || ipv4::is_never_forwarded(src)
        || ipv4::is_never_forwarded(dst)
    {
        return None;
    }
    let body = Body::new::<{ ipv4::END }>(frame, usize::from(total).checked_sub(ipv4::LEN)?).ok()?;
    flow(body, src, dst, ip[ipv4::TTL], ip[ipv4::PROTOCOL])
}

/// As [`flow_v4`], over IPv6.
#[inline(always)]
pub fn flow_v6(frame: &[u8]) -> Option<Flow<Ipv6Addr>> {
    let head = frame.first_chunk::<{ ipv6::END }>()?;
    let ip = head.last_chunk::<{ ipv6::LEN }>()?;
    let len = u16::from_be_bytes([ip[ipv6::PAYLOAD_LENGTH], ip[ipv6::PAYLOAD_LENGTH + 1]]);
    let (src, dst) = (Ipv6Addr::read(&ip[ipv6::SRC..]), Ipv6Addr::read(&ip[ipv6::DST..]));
    if [head[12], head[13]] != ethernet::IPV6.to_be_bytes()
        || ip[0] >> 4 != 6
        || ipv6::is_never_forwarded(src)
        || ipv6::is_never_forwarded(dst)
    {
        return None;
    }
    let body = Body::new::<{ ipv6::END }>(frame, usize::from(len)).ok()?;
    flow(body, src, dst, ip[ipv6::HOP_LIMIT], ip[ipv6::NEXT_HEADER])
}

#[inline(always)]
fn flow<A: Addr>(body: Body<'_>, src: A, dst: A, ttl: u8, proto: u8) -> Option<Flow<A>> {
    match proto {
        tcp::PROTO => parse_tcp(body, src, dst, ttl).ok(),
        udp::PROTO => parse_udp(body, src, dst, ttl).ok(),
        _ => None,
    }
}

/// Parses a frame and checks everything that the rest of the core relies on.
///
/// The destination MAC address is not looked at: compare [`ethernet::destination`] first.
///
/// # Errors
///
/// The reason to drop the frame for, when it is nothing that can be forwarded or answered.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Packet, DropReason> {
    let Some(head) = frame.first_chunk::<{ ethernet::LEN }>() else { return Err(DropReason::Truncated) };
    match u16::from_be_bytes([head[12], head[13]]) {
        ethernet::IPV4 => parse_v4(frame),
        ethernet::IPV6 => parse_v6(frame),
        ethernet::ARP => arp::parse(frame).map(Packet::Arp),
        _ => Err(DropReason::EtherType),
    }
}

#[inline]
fn parse_v4(frame: &[u8]) -> Result<Packet, DropReason> {
    let Some(head) = frame.first_chunk::<{ ipv4::END }>() else { return Err(DropReason::Truncated) };
    let Some(ip) = head.last_chunk::<{ ipv4::LEN }>() else { return Err(DropReason::Truncated) };
    if ip[0] != 0x45 {
        return Err(why_not_version_and_length(ip[0]));
    }
    if !checksum::ipv4_header_is_right(ip) {
        return Err(DropReason::BadIpChecksum);
    }
    let total = u16::from_be_bytes([ip[ipv4::TOTAL_LENGTH], ip[ipv4::TOTAL_LENGTH + 1]]);
    let Some(len) = usize::from(total).checked_sub(ipv4::LEN) else { return Err(DropReason::BadIpHeader) };
    let body = Body::new::<{ ipv4::END }>(frame, len)?;
    if u16::from_be_bytes([ip[ipv4::FRAGMENT], ip[ipv4::FRAGMENT + 1]]) & ipv4::IS_FRAGMENT != 0 {
        return Err(DropReason::Fragment);
    }
    let (src, dst) = (Ipv4Addr::read(&ip[ipv4::SRC..]), Ipv4Addr::read(&ip[ipv4::DST..]));
    if ipv4::is_never_forwarded(src) | ipv4::is_never_forwarded(dst) {
        return Err(DropReason::BadAddress);
    }
    let ttl = ip[ipv4::TTL];
    match ip[ipv4::PROTOCOL] {
        tcp::PROTO => parse_tcp(body, src, dst, ttl).map(Packet::V4),
        udp::PROTO => parse_udp(body, src, dst, ttl).map(Packet::V4),
        ipv4::ICMP => parse_icmp(body, src, dst, ttl).map(Packet::Icmp4),
        _ => Err(DropReason::Protocol),
    }
}

#[inline]
fn parse_v6(frame: &[u8]) -> Result<Packet, DropReason> {
    let Some(head) = frame.first_chunk::<{ ipv6::END }>() else { return Err(DropReason::Truncated) };
    let Some(ip) = head.last_chunk::<{ ipv6::LEN }>() else { return Err(DropReason::Truncated) };
    if ip[0] >> 4 != 6 {
        return Err(DropReason::BadIpHeader);
    }
    let len = u16::from_be_bytes([ip[ipv6::PAYLOAD_LENGTH], ip[ipv6::PAYLOAD_LENGTH + 1]]);
    let body = Body::new::<{ ipv6::END }>(frame, usize::from(len))?;
    let (src, dst) = (Ipv6Addr::read(&ip[ipv6::SRC..]), Ipv6Addr::read(&ip[ipv6::DST..]));
    let hop_limit = ip[ipv6::HOP_LIMIT];
    let bad_address = ipv6::is_never_forwarded(src) | ipv6::is_never_forwarded(dst);
    if bad_address && !ndp::may_have_addresses(body.bytes, ip[ipv6::NEXT_HEADER], src, dst) {
        return Err(DropReason::BadAddress);
    }
    match ip[ipv6::NEXT_HEADER] {
        tcp::PROTO => parse_tcp(body, src, dst, hop_limit).map(Packet::V6),
        udp::PROTO => parse_udp(body, src, dst, hop_limit).map(Packet::V6),
        ipv6::ICMP => parse_icmp(body, src, dst, hop_limit).map(Packet::Icmp6),
        next => Err(ipv6::why_not_next_header(next)),
    }
}

/// What an IP header says it carries.
#[derive(Clone, Copy)]
struct Body<'a> {
    bytes: &'a [u8],
    /// Offset in the frame.
    at: u16,
    /// Offset behind it in the frame.
    end: u16,
}

impl<'a> Body<'a> {
    /// The `len` bytes of the frame from offset `AT` on.
    #[inline(always)]
    fn new<const AT: usize>(frame: &'a [u8], len: usize) -> Result<Self, DropReason> {
        let Some(bytes) = frame.get(AT..AT + len) else { return Err(DropReason::Truncated) };
        // Offsets are 16 bits. Only an IP packet within 54 bytes of 64 KiB does not fit, which no interface hands us.
        let Ok(end) = u16::try_from(AT + len) else { return Err(DropReason::BadIpHeader) };
        Ok(Body { bytes, at: AT as u16, end })
    }
}

#[inline(always)]
fn parse_tcp<A: Addr>(body: Body<'_>, src: A, dst: A, ttl: u8) -> Result<Flow<A>, DropReason> {
    let Some(header) = body.bytes.first_chunk::<{ tcp::LEN }>() else { return Err(DropReason::BadL4Header) };
    let len = usize::from(header[tcp::DATA_OFFSET] >> 4) * 4;
    if len < tcp::LEN || len > body.bytes.len() {
        return Err(DropReason::BadL4Header);
    }
    Ok(Flow {
        key: key(header, src, dst, Proto::Tcp),
        payload: body.at + len as u16,
        end: body.end,
        ttl,
        flags: TcpFlags(header[13]),
    })
}

#[inline(always)]
fn parse_udp<A: Addr>(body: Body<'_>, src: A, dst: A, ttl: u8) -> Result<Flow<A>, DropReason> {
    let Some(header) = body.bytes.first_chunk::<{ udp::LEN }>() else { return Err(DropReason::BadL4Header) };
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // Bytes between the datagram's end and the packet's are legal (UDP options, RFC 9868).
    if len < udp::LEN || len > body.bytes.len() {
        return Err(DropReason::BadL4Header);
    }
    Ok(Flow {
        key: key(header, src, dst, Proto::Udp),
        payload: body.at + udp::LEN as u16,
        end: body.end,
        ttl,
        flags: TcpFlags::NONE,
    })
}

#[inline(always)]
fn parse_icmp<A: Addr>(body: Body<'_>, src: A, dst: A, ttl: u8) -> Result<IcmpPacket<A>, DropReason> {
    let Some(header) = body.bytes.first_chunk::<{ icmp::LEN }>() else { return Err(DropReason::BadL4Header) };
    Ok(IcmpPacket { src, dst, l4: body.at, end: body.end, ttl, kind: header[0], code: header[1] })
}

/// The key of a packet whose TCP or UDP header starts like this; both start with the ports.
#[inline(always)]
fn key<A: Addr, const N: usize>(header: &[u8; N], src: A, dst: A, proto: Proto) -> FlowKey<A> {
    FlowKey {
        src,
        dst,
        sport: u16::from_be_bytes([header[0], header[1]]),
        dport: u16::from_be_bytes([header[2], header[3]]),
        proto,
    }
}

/// Why an IPv4 packet that does not start with version 4 and a header of 20 bytes is dropped.
#[cold]
fn why_not_version_and_length(byte: u8) -> DropReason {
    if byte >> 4 == 4 && byte & 0xf > 5 { DropReason::IpOptions } else { DropReason::BadIpHeader }
}

#[cfg(test)]
mod tests;
