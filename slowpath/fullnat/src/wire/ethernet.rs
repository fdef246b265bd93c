//! Ethernet II headers and MAC addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Length of an Ethernet header without VLAN tag, bytes.
pub const LEN: usize = 14;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// 00:00:00:00:00:00, which no host has.
    pub const ZERO: Mac = Mac([0; 6]);

    /// True for a multicast address and for broadcast.
    #[inline(always)]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for an address a host can have: neither a group nor zero.
    #[inline(always)]
    pub fn is_host(self) -> bool {
        !self.is_group() && self != Mac::ZERO
    }

    /// The group address that frames to an IPv4 multicast address go to (RFC 1112 section 6.4).
    pub fn multicast_v4(group: Ipv4Addr) -> Mac {
        let [_, b, c, d] = group.octets();
        Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The group address that frames to an IPv6 multicast address go to (RFC 2464 section 7).
    pub fn multicast_v6(group: Ipv6Addr) -> Mac {
        let [.., a, b, c, d] = group.octets();
        Mac([0x33, 0x33, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not a MAC address: six pairs of hexadecimal digits joined by `:` or by `-`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacSyntax;

impl fmt::Display for MacSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address; write it like 02:00:00:00:00:01")
    }
}

impl std::error::Error for MacSyntax {}

impl FromStr for Mac {
    type Err = MacSyntax;

    fn from_str(text: &str) -> Result<Self, MacSyntax> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut pairs = text.split(separator);
        let mut octets = [0; 6];
        for octet in &mut octets {
            let pair = pairs.next().ok_or(MacSyntax)?;
            // from_str_radix alone would take a sign.
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacSyntax);
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| MacSyntax)?;
        }
        if pairs.next().is_some() {
            return Err(MacSyntax);
        }
        Ok(Mac(octets))
    }
}

/// The destination of a frame; [`Mac::ZERO`] when the frame has none.
#[inline(always)]
pub fn destination(frame: &[u8]) -> Mac {
    frame.first_chunk().map_or(Mac::ZERO, |&octets| Mac(octets))
}

/// Whether a frame is sent to `mac`. False for one shorter than an Ethernet header.
#[inline(always)]
pub fn is_to(frame: &[u8], mac: Mac) -> bool {
    // Eight bytes in one piece, without the two that are not the destination's.
    let [a, b, c, d, e, f] = mac.0;
    let mac = u64::from_le_bytes([0, 0, a, b, c, d, e, f]);
    frame.first_chunk::<8>().is_some_and(|head| u64::from_le_bytes(*head) << 16 == mac)
}

/// The source of a frame; [`Mac::ZERO`] when the frame has none.
#[inline(always)]
pub fn source(frame: &[u8]) -> Mac {
    frame.get(6..).and_then(|rest| rest.first_chunk()).map_or(Mac::ZERO, |&octets| Mac(octets))
}

/// Sets both addresses of a frame. A frame shorter than that is left alone.
#[inline(always)]
pub fn set_addresses(frame: &mut [u8], dst: Mac, src: Mac) {
    if let Some(head) = frame.first_chunk_mut::<12>() {
        head[..6].copy_from_slice(&dst.0);
        head[6..].copy_from_slice(&src.0);
    }
}

/// Sends a frame back: its source becomes its destination, and `src` its source.
///
/// Not the old destination: that may be a group address, which no frame may come from.
#[inline]
pub fn turn_around(frame: &mut [u8], src: Mac) {
    let back = source(frame);
    set_addresses(frame, back, src);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_parses_back_what_it_prints() {
        let mac = Mac([0x02, 0x00, 0xab, 0xcd, 0xef, 0x01]);
        assert_eq!(mac.to_string(), "02:00:ab:cd:ef:01");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("02-00-AB-CD-EF-01".parse(), Ok(mac));
    }

    #[test]
    fn other_text_is_no_mac() {
        for text in [
            "",
            ":::::",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:+1",
            "2:0:0:0:0:1",
            "02:00-00:00:00:01",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(MacSyntax), "{text:?}");
        }
    }

    #[test]
    fn groups_and_hosts() {
        assert!(Mac::BROADCAST.is_group());
        assert!(!Mac::ZERO.is_group() && !Mac::ZERO.is_host());
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_host());
        assert_eq!(Mac::multicast_v4("224.129.2.3".parse().unwrap()), Mac([1, 0, 0x5e, 1, 2, 3]));
        assert_eq!(Mac::multicast_v6("ff02::1:ff12:3456".parse().unwrap()), Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
    }

    #[test]
    fn addresses_of_a_frame() {
        let (a, b) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let mut frame = [0; 14];
        set_addresses(&mut frame, a, b);
        assert_eq!((destination(&frame), source(&frame)), (a, b));
        turn_around(&mut frame, a);
        assert_eq!((destination(&frame), source(&frame)), (b, a));
        assert_eq!(destination(&frame[..5]), Mac::ZERO);
        assert_eq!(source(&frame[..11]), Mac::ZERO);
    }
}
