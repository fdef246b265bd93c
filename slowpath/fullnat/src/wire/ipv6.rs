//! IPv6 headers (RFC 8200). Only packets without extension headers are forwarded.

use std::net::Ipv6Addr;

use crate::reason::DropReason;
use crate::wire::ethernet;

/// Length of a header, bytes.
pub const LEN: usize = 40;
/// Offset of what follows the IPv6 header, in a frame.
pub const END: usize = ethernet::LEN + LEN;
/// IANA protocol number of ICMPv6.
pub const ICMP: u8 = 58;
/// The smallest MTU a link may have, bytes.
pub const MIN_MTU: u16 = 1280;
/// Hop limit of the packets we make that may be routed.
pub(crate) const OUR_HOP_LIMIT: u8 = 64;
/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Offsets in the header.
pub(crate) const PAYLOAD_LENGTH: usize = 4;
pub(crate) const NEXT_HEADER: usize = 6;
pub(crate) const HOP_LIMIT: usize = 7;
pub(crate) const SRC: usize = 8;
pub(crate) const DST: usize = 24;

/// True for an address that no packet we forward comes from or goes to: multicast, and all of ::/64, which holds the
/// unspecified, the loopback, the IPv4-compatible and the IPv4-mapped addresses (RFC 4291 section 2.5).
#[inline(always)]
pub fn is_never_forwarded(addr: Ipv6Addr) -> bool {
    let high = (addr.to_bits() >> 64) as u64;
    (high == 0) | (high >> 56 == 0xff)
}

/// Writes the header of a packet we make: no flow label. `len` counts what follows the header.
pub(crate) fn write_header(header: &mut [u8; LEN], src: Ipv6Addr, dst: Ipv6Addr, proto: u8, hop_limit: u8, len: u16) {
    header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    header[PAYLOAD_LENGTH..NEXT_HEADER].copy_from_slice(&len.to_be_bytes());
    header[NEXT_HEADER] = proto;
    header[HOP_LIMIT] = hop_limit;
    header[SRC..DST].copy_from_slice(&src.octets());
    header[DST..].copy_from_slice(&dst.octets());
}

/// The group that neighbour solicitations for `addr` go to (RFC 4291 section 2.7.1).
pub fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = addr.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// Why a packet with a next header other than TCP, UDP and ICMPv6 is dropped.
#[cold]
pub(crate) fn why_not_next_header(next: u8) -> DropReason {
    match next {
        44 => DropReason::Fragment,
        // The extension headers of RFC 7045, ESP excepted: what follows that is encrypted, nothing to balance.
        0 | 43 | 51 | 60 | 135 | 139 | 140 => DropReason::IpOptions,
        _ => DropReason::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for bad in ["::", "::1", "::ffff:192.0.2.1", "ff02::1"] {
            assert!(is_never_forwarded(bad.parse().unwrap()), "{bad}");
        }
        for good in ["2001:db8::1", "fe80::1", "64:ff9b::192.0.2.1", "fd00::1"] {
            assert!(!is_never_forwarded(good.parse().unwrap()), "{good}");
        }
        assert_eq!(
            solicited_node("2001:db8::a1:b2c3:d4e5".parse().unwrap()),
            "ff02::1:ffc3:d4e5".parse::<Ipv6Addr>().unwrap()
        );
    }
}
