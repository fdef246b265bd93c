//! IPv4 headers (RFC 791). Only headers without options are forwarded.

use std::net::Ipv4Addr;

use crate::wire::{checksum, ethernet};

/// Length of a header without options, bytes.
pub const LEN: usize = 20;
/// Offset of what follows an IPv4 header without options, in a frame.
pub const END: usize = ethernet::LEN + LEN;
/// IANA protocol number of ICMP.
pub const ICMP: u8 = 1;

/// Offsets in the header.
pub(crate) const TOTAL_LENGTH: usize = 2;
pub(crate) const FRAGMENT: usize = 6;
pub(crate) const TTL: usize = 8;
pub(crate) const PROTOCOL: usize = 9;
pub(crate) const CHECKSUM: usize = 10;
pub(crate) const SRC: usize = 12;
pub(crate) const DST: usize = 16;

/// "More fragments" and the fragment offset, in the word at [`FRAGMENT`]: zero for a whole packet.
pub(crate) const IS_FRAGMENT: u16 = 0x3fff;
/// The fragment offset, in the same word.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;
/// "Don't fragment", in the same word.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;

/// TTL of the packets we make.
pub(crate) const OUR_TTL: u8 = 64;

/// Writes the header of a packet we make: no options, not to be fragmented, right checksum. `tos` is the traffic class
/// byte, `len` counts what follows the header.
pub(crate) fn write_header(header: &mut [u8; LEN], src: Ipv4Addr, dst: Ipv4Addr, proto: u8, tos: u8, len: u16) {
    let [len_hi, len_lo] = (len + LEN as u16).to_be_bytes();
    let [flags_hi, flags_lo] = DONT_FRAGMENT.to_be_bytes();
    let [a, b, c, d] = src.octets();
    let [e, f, g, h] = dst.octets();
    *header = [0x45, tos, len_hi, len_lo, 0, 0, flags_hi, flags_lo, OUR_TTL, proto, 0, 0, a, b, c, d, e, f, g, h];
    let check = checksum::finish(u32::from(checksum::sum(header)));
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&check.to_be_bytes());
}

/// True for an address that no packet we forward comes from or goes to: 0.0.0.0/8, loopback, multicast and the
/// limited broadcast address (RFC 1122 section 3.2.1.3). 240.0.0.0/4 passes, since some networks do use it.
#[inline(always)]
pub fn is_never_forwarded(addr: Ipv4Addr) -> bool {
    let net = addr.octets()[0];
    // One comparison tells 0 and everything from 224 on from the addresses of hosts.
    (net.wrapping_sub(1) >= 223 && is_special(addr)) || net == 127
}

#[cold]
fn is_special(addr: Ipv4Addr) -> bool {
    matches!(addr.octets()[0], 0 | 224..=239) || addr.is_broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for bad in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.0", "224.0.0.1", "239.255.255.255", "255.255.255.255"]
        {
            assert!(is_never_forwarded(bad.parse().unwrap()), "{bad}");
        }
        for good in ["1.0.0.0", "10.0.0.1", "126.255.255.255", "128.0.0.1", "223.255.255.255", "240.0.0.1", "255.0.0.1"]
        {
            assert!(!is_never_forwarded(good.parse().unwrap()), "{good}");
        }
    }
}
