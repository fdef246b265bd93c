//! ICMP errors about packets of a session: reading the packet they quote, and translating them (RFC 5508 section 4,
//! with the addresses of a FullNAT).
//!
//! Whoever sends an error quotes the packet as it saw it, after our translation. On its way to the other side the
//! error needs new addresses outside and the translation undone inside, or its receiver would not know the packet.

use crate::addr::Addr;
use crate::flow::FlowKey;
use crate::id::Proto;
use crate::reason::DropReason;
use crate::wire::checksum::Change;
use crate::wire::icmp::{self, IcmpPacket, Types};
use crate::wire::{ipv4, ipv6, rewrite, tcp, udp};

/// Bytes of a TCP or UDP header that every error quotes (RFC 792): the ports, and the sequence number.
const QUOTED_L4: usize = 8;

/// The smallest MTU an IPv4 link may have (RFC 791), bytes.
const MIN_MTU_V4: u16 = 68;

/// The packet that an ICMP error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote<A> {
    /// Addresses, ports and protocol as quoted. The quoted packet went the other way than the error goes.
    pub key: FlowKey<A>,
    /// The quoted segment's sequence number, so that a forged error can be told from a true one (RFC 5927 section 4);
    /// 0 for UDP.
    pub seq: u32,
    /// The MTU told by "packet too big" or "fragmentation needed", bytes; 0 from routers older than RFC 1191. IPv6 MTUs
    /// over 65 535 count as that.
    pub mtu: Option<u16>,
    /// Offset in the frame of the quoted IP header.
    pub l3: u16,
    /// Offset in the frame of the quoted TCP or UDP header.
    pub l4: u16,
}

/// Reads the packet an ICMP error quotes.
///
/// # Errors
///
/// When the quote is no TCP segment or UDP datagram, is not the first fragment, or ends before the 8th byte of the TCP
/// or UDP header.
pub(crate) fn quote<A: Addr>(frame: &[u8], packet: &IcmpPacket<A>) -> Result<Quote<A>, DropReason> {
    let message = packet.message(frame);
    let Some((header, quoted)) = message.split_first_chunk::<{ icmp::LEN }>() else {
        return Err(DropReason::Truncated);
    };
    let ip = QuotedIp::<A>::read(quoted)?;
    let Some(l4) = quoted.get(ip.len..).and_then(|l4| l4.first_chunk::<QUOTED_L4>()) else {
        return Err(DropReason::Truncated);
    };
    let seq = match ip.proto {
        Proto::Tcp => u32::from_be_bytes([l4[4], l4[5], l4[6], l4[7]]),
        Proto::Udp => 0,
    };
    let key = FlowKey {
        src: ip.src,
        dst: ip.dst,
        sport: u16::from_be_bytes([l4[0], l4[1]]),
        dport: u16::from_be_bytes([l4[2], l4[3]]),
        proto: ip.proto,
    };
    let l3 = packet.l4 + icmp::LEN as u16;
    Ok(Quote { key, seq, mtu: mtu(packet, header), l3, l4: l3 + ip.len as u16 })
}

/// What a quoted IP header says.
struct QuotedIp<A> {
    src: A,
    dst: A,
    proto: Proto,
    /// Its length, bytes.
    len: usize,
}

impl<A: Addr> QuotedIp<A> {
    /// Reads the header a quote starts with. Its checksum and total length are not looked at: routers on the way may
    /// have changed the one and cut the other.
    fn read(quoted: &[u8]) -> Result<Self, DropReason> {
        let (proto, len, src_at, dst_at) = if A::IS_V6 {
            let Some(ip) = quoted.first_chunk::<{ ipv6::LEN }>() else { return Err(DropReason::Truncated) };
            if ip[0] >> 4 != 6 {
                return Err(DropReason::BadIpHeader);
            }
            (ip[ipv6::NEXT_HEADER], ipv6::LEN, ipv6::SRC, ipv6::DST)
        } else {
            let Some(ip) = quoted.first_chunk::<{ ipv4::LEN }>() else { return Err(DropReason::Truncated) };
            let len = usize::from(ip[0] & 0xf) * 4;
            if ip[0] >> 4 != 4 || len < ipv4::LEN {
                return Err(DropReason::BadIpHeader);
            }
            // A router may have fragmented our packet; only the first fragment has ports.
            if u16::from_be_bytes([ip[ipv4::FRAGMENT], ip[ipv4::FRAGMENT + 1]]) & ipv4::FRAGMENT_OFFSET != 0 {
                return Err(DropReason::Fragment);
            }
            (ip[ipv4::PROTOCOL], len, ipv4::SRC, ipv4::DST)
        };
        let proto = match proto {
            tcp::PROTO => Proto::Tcp,
            udp::PROTO => Proto::Udp,
            next if A::IS_V6 => return Err(ipv6::why_not_next_header(next)),
            _ => return Err(DropReason::Protocol),
        };
        Ok(QuotedIp { src: A::read(&quoted[src_at..]), dst: A::read(&quoted[dst_at..]), proto, len })
    }
}

/// True for "packet too big" and for "fragmentation needed".
fn tells_mtu<A: Addr>(packet: &IcmpPacket<A>) -> bool {
    let types = Types::of::<A>();
    if A::IS_V6 {
        packet.kind == types.fourth_error
    } else {
        packet.kind == types.unreachable && packet.code == icmp::FRAGMENTATION_NEEDED
    }
}

/// The MTU in the header of an error that tells one. ICMP has it in the second half of the last word (RFC 1191
/// section 4), ICMPv6 fills the word (RFC 4443 section 3.2).
fn mtu<A: Addr>(packet: &IcmpPacket<A>, header: &[u8; icmp::LEN]) -> Option<u16> {
    let low = u16::from_be_bytes([header[6], header[7]]);
    let over_16_bits = A::IS_V6 && (header[4] | header[5]) != 0;
    tells_mtu(packet).then_some(if over_16_bits { u16::MAX } else { low })
}

/// Turns an error into what the other side of the session expects: `src` and `dst` outside, `inner` inside, checksums
/// updated, TTL one less (the caller has checked that it may be). `quote` is what [`icmp::message`] read from this
/// packet; of `inner`, addresses and ports count.
///
/// A told MTU is lowered by `mtu_reduce` bytes, what the balancer adds to a packet on its way to where the error comes
/// from, but not under what the family guarantees.
pub fn translate<A: Addr>(
    frame: &mut [u8],
    packet: &IcmpPacket<A>,
    quote: &Quote<A>,
    (src, dst): (A, A),
    inner: &FlowKey<A>,
    mtu_reduce: u16,
) {
    let mut outer = Change::default();
    outer.sums(A::memory_sum([packet.src, packet.dst]), A::memory_sum([src, dst]));
    let Some(ip_packet) = frame.get_mut(..usize::from(packet.end)) else { return };
    let Some((head, message)) = ip_packet.split_at_mut_checked(usize::from(packet.l4)) else { return };
    rewrite::write_ip(head, packet.ttl, packet.ttl.saturating_sub(1), src, dst, outer);

    let Some((header, quoted)) = message.split_first_chunk_mut::<{ icmp::LEN }>() else { return };
    let mut change = Change::default();
    if A::IS_V6 {
        // ICMPv6 counts the outer addresses in its checksum, ICMP does not.
        change.also(outer);
    }
    change.also(write_quote(quoted, quote, inner));
    if let Some(mtu) = quote.mtu {
        change.also(lower_mtu::<A>(header, mtu, mtu_reduce));
    }
    let check = u16::from_be_bytes([header[icmp::CHECKSUM], header[icmp::CHECKSUM + 1]]);
    header[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&change.apply(check).to_be_bytes());
}

/// Rewrites the quoted packet, which starts at `quoted`, and returns what that changes for the checksum of the error.
/// Its own checksums are updated where the quote has them.
fn write_quote<A: Addr>(quoted: &mut [u8], quote: &Quote<A>, inner: &FlowKey<A>) -> Change {
    let mut addresses = Change::default();
    addresses.sums(A::memory_sum([quote.key.src, quote.key.dst]), A::memory_sum([inner.src, inner.dst]));
    let mut total = addresses;
    let Some((ip, l4)) = quoted.split_at_mut_checked(usize::from(quote.l4 - quote.l3)) else { return total };
    if A::IS_V6 {
        let Some(ip) = ip.first_chunk_mut::<{ ipv6::LEN }>() else { return total };
        inner.src.write(&mut ip[ipv6::SRC..]);
        inner.dst.write(&mut ip[ipv6::DST..]);
    } else {
        let Some(ip) = ip.first_chunk_mut::<{ ipv4::LEN }>() else { return total };
        inner.src.write(&mut ip[ipv4::SRC..]);
        inner.dst.write(&mut ip[ipv4::DST..]);
        total.also(write_check(&mut ip[ipv4::CHECKSUM..], |check| addresses.apply(check)));
    }

    let Some(ports) = l4.first_chunk_mut::<4>() else { return total };
    ports[..2].copy_from_slice(&inner.sport.to_be_bytes());
    ports[2..].copy_from_slice(&inner.dport.to_be_bytes());
    let mut ports = Change::default();
    ports.word(quote.key.sport, inner.sport);
    ports.word(quote.key.dport, inner.dport);
    total.also(ports);
    ports.also(addresses);
    total.also(match quote.key.proto {
        Proto::Tcp => write_check(l4.get_mut(tcp::CHECKSUM..).unwrap_or(&mut []), |check| ports.apply(check)),
        Proto::Udp => write_check(l4.get_mut(udp::CHECKSUM..).unwrap_or(&mut []), |check| ports.apply_udp(check)),
    });
    total
}

/// Updates the checksum at the start of `field` and returns that as a change; a quote may end before it.
fn write_check(field: &mut [u8], update: impl Fn(u16) -> u16) -> Change {
    let mut change = Change::default();
    if let Some(field) = field.first_chunk_mut::<2>() {
        let old = u16::from_be_bytes(*field);
        let new = update(old);
        *field = new.to_be_bytes();
        change.word(old, new);
    }
    change
}

/// Lowers the MTU in the header of an error. MTUs over 65 535 and those already at the minimum stay.
fn lower_mtu<A: Addr>(header: &mut [u8; icmp::LEN], mtu: u16, by: u16) -> Change {
    let mut change = Change::default();
    let minimum = if A::IS_V6 { ipv6::MIN_MTU } else { MIN_MTU_V4 };
    let over_16_bits = A::IS_V6 && (header[4] | header[5]) != 0;
    if mtu > minimum && !over_16_bits {
        let lowered = mtu.saturating_sub(by).max(minimum);
        header[6..].copy_from_slice(&lowered.to_be_bytes());
        change.word(mtu, lowered);
    }
    change
}

#[cfg(test)]
mod tests;
