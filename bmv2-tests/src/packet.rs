//! A reader and writer of packets that shares no code with the balancer: it is the judge. Slow and plain on purpose;
//! checksums are the sum of RFC 1071 over everything they cover, never updated.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol numbers.
pub mod proto {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// TCP flag bits.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// Kind of the TCP option that carries the client's address.
pub const TOA_KIND: u8 = 254;

const ETHERNET: usize = 14;

/// An Ethernet frame that holds an IPv4 or IPv6 packet with at least eight bytes behind the IP header.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    /// Where the transport header begins.
    l4: usize,
    /// Where the IP packet ends; an Ethernet trailer may follow.
    end: usize,
}

impl Packet {
    /// Reads a frame; `None` when it holds anything else than an unfragmented IP packet without extension headers.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (l4, end) = match frame.get(12..15)? {
            [0x08, 0x00, first] if first >> 4 == 4 && frame.len() >= ETHERNET + 20 => {
                let fragment = u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff;
                if fragment != 0 {
                    return None;
                }
                (ETHERNET + usize::from(first & 0xf) * 4, ETHERNET + be16(frame, 16))
            }
            [0x86, 0xdd, first] if first >> 4 == 6 && frame.len() >= ETHERNET + 40 => {
                (ETHERNET + 40, ETHERNET + 40 + be16(frame, 18))
            }
            _ => return None,
        };
        (l4 + 8 <= end && end <= frame.len()).then(|| Packet { bytes: frame.to_vec(), l4, end })
    }

    /// The whole frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True for IPv4.
    pub fn is_v4(&self) -> bool {
        self.bytes[12] == 0x08
    }

    /// Where the IP addresses begin and how long each is.
    fn addresses(&self) -> (usize, usize) {
        if self.is_v4() { (ETHERNET + 12, 4) } else { (ETHERNET + 8, 16) }
    }

    /// Source address.
    pub fn src(&self) -> IpAddr {
        let (at, len) = self.addresses();
        read_ip(&self.bytes[at..at + len])
    }

    /// Destination address.
    pub fn dst(&self) -> IpAddr {
        let (at, len) = self.addresses();
        read_ip(&self.bytes[at + len..at + 2 * len])
    }

    /// TTL or hop limit.
    pub fn ttl(&self) -> u8 {
        self.bytes[if self.is_v4() { ETHERNET + 8 } else { ETHERNET + 7 }]
    }

    /// IP protocol number.
    pub fn protocol(&self) -> u8 {
        self.bytes[if self.is_v4() { ETHERNET + 9 } else { ETHERNET + 6 }]
    }

    /// Length of the IP packet in bytes.
    pub fn ip_len(&self) -> usize {
        self.end - ETHERNET
    }

    /// The transport header and what follows, to the end of the IP packet.
    pub fn l4(&self) -> &[u8] {
        &self.bytes[self.l4..self.end]
    }

    /// Source port (TCP and UDP).
    pub fn sport(&self) -> u16 {
        u16::from_be_bytes([self.l4()[0], self.l4()[1]])
    }

    /// Destination port (TCP and UDP).
    pub fn dport(&self) -> u16 {
        u16::from_be_bytes([self.l4()[2], self.l4()[3]])
    }

    /// The TCP view, when this is a whole TCP segment.
    pub fn tcp(&self) -> Option<Tcp<'_>> {
        let l4 = self.l4();
        if self.protocol() != proto::TCP || l4.len() < 20 {
            return None;
        }
        let header = usize::from(l4[12] >> 4) * 4;
        (20 <= header && header <= l4.len()).then_some(Tcp { l4, header })
    }

    /// The payload of a UDP datagram.
    pub fn udp_payload(&self) -> Option<&[u8]> {
        (self.protocol() == proto::UDP).then(|| &self.l4()[8..])
    }

    /// Type and code, when this is an ICMP message of the packet's family.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let wanted = if self.is_v4() { proto::ICMP } else { proto::ICMPV6 };
        (self.protocol() == wanted).then(|| (self.l4()[0], self.l4()[1]))
    }

    /// The packet that an ICMP error message quotes.
    pub fn quoted(&self) -> Option<Quoted> {
        self.icmp()?;
        let inner = self.l4().get(8..)?;
        let (addresses, len, protocol, l4) = match inner.first()? >> 4 {
            4 => (12, 4, *inner.get(9)?, usize::from(inner[0] & 0xf) * 4),
            6 => (8, 16, *inner.get(6)?, 40),
            _ => return None,
        };
        let ports = inner.get(l4..l4 + 4)?;
        Some(Quoted {
            src: read_ip(&inner[addresses..addresses + len]),
            dst: read_ip(&inner[addresses + len..addresses + 2 * len]),
            protocol,
            sport: u16::from_be_bytes([ports[0], ports[1]]),
            dport: u16::from_be_bytes([ports[2], ports[3]]),
            ip_checksum_ok: len == 16 || sum(&inner[..l4], 0) == 0xffff,
        })
    }

    /// Whether the IPv4 header checksum is right; IPv6 has none.
    pub fn ip_checksum_ok(&self) -> bool {
        !self.is_v4() || sum(&self.bytes[ETHERNET..self.l4], 0) == 0xffff
    }

    /// Whether the transport checksum is right. A UDP checksum of 0 over IPv4 counts as right: none was sent. So does
    /// whatever an unknown protocol (an IPv6 extension header) has.
    pub fn l4_checksum_ok(&self) -> bool {
        if !matches!(self.protocol(), proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6) {
            return true;
        }
        let unsent = self.protocol() == proto::UDP && self.is_v4() && self.l4()[6..8] == [0, 0];
        unsent || sum(self.l4(), self.pseudo_header_sum()) == 0xffff
    }

    /// The checksum of an ICMP (IPv4) message whose checksum field is zero.
    pub fn icmp_v4_checksum(message: &[u8]) -> u16 {
        !sum(message, 0)
    }

    fn pseudo_header_sum(&self) -> u32 {
        if self.protocol() == proto::ICMP {
            return 0;
        }
        let (at, len) = self.addresses();
        let addresses = u32::from(sum(&self.bytes[at..at + 2 * len], 0));
        addresses + u32::from(self.protocol()) + self.l4().len() as u32
    }

    /// This packet with MAC and IP addresses and ports of `other`, its TTL lowered by `hops` and its checksums computed
    /// again: what must arrive when the way to `other` changes only those fields. Meaningful when both are of one
    /// family and this one's checksums are right.
    pub fn translated_like(&self, other: &Packet, hops: u8) -> Packet {
        let mut it = self.clone();
        it.bytes[..12].copy_from_slice(&other.bytes[..12]);
        let (at, len) = self.addresses();
        it.bytes[at..at + 2 * len].copy_from_slice(&other.bytes[at..at + 2 * len]);
        it.bytes[self.l4..self.l4 + 4].copy_from_slice(&other.bytes[other.l4..other.l4 + 4]);
        it.bytes[if self.is_v4() { ETHERNET + 8 } else { ETHERNET + 7 }] -= hops;
        it.fix_checksums();
        it
    }

    /// Computes the IP and transport checksums. A UDP checksum of 0 over IPv4 stays.
    fn fix_checksums(&mut self) {
        if self.is_v4() {
            self.bytes[ETHERNET + 10..ETHERNET + 12].fill(0);
            let check = !sum(&self.bytes[ETHERNET..self.l4], 0);
            self.bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&check.to_be_bytes());
        }
        let at = self.l4
            + match self.protocol() {
                proto::TCP => 16,
                proto::UDP => 6,
                proto::ICMP | proto::ICMPV6 => 2,
                _ => return,
            };
        if self.protocol() == proto::UDP && self.is_v4() && self.bytes[at..at + 2] == [0, 0] {
            return;
        }
        self.bytes[at..at + 2].fill(0);
        let check = match !sum(self.l4(), self.pseudo_header_sum()) {
            0 if self.protocol() == proto::UDP => 0xffff,
            check => check,
        };
        self.bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ttl {} ", self.src(), self.dst(), self.ttl())?;
        if let Some(tcp) = self.tcp() {
            let names = [(flag::SYN, 'S'), (flag::FIN, 'F'), (flag::RST, 'R'), (flag::PSH, 'P'), (flag::ACK, '.')];
            let flags: String = names.iter().filter(|(bit, _)| tcp.flags() & bit != 0).map(|(_, name)| name).collect();
            write!(f, "tcp {} > {} [{flags}] seq {} ack {}", self.sport(), self.dport(), tcp.seq(), tcp.ack())?;
            write!(f, " options {:?} payload {}", tcp.options(), tcp.payload().len())
        } else if let Some((kind, code)) = self.icmp() {
            write!(f, "icmp {kind}/{code} about {:?}", self.quoted())
        } else {
            write!(f, "protocol {} {} > {} length {}", self.protocol(), self.sport(), self.dport(), self.l4().len())
        }
    }
}

/// A TCP segment inside a [`Packet`].
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    l4: &'a [u8],
    header: usize,
}

impl<'a> Tcp<'a> {
    /// Sequence number.
    pub fn seq(&self) -> u32 {
        be32(self.l4, 4)
    }

    /// Acknowledgement number.
    pub fn ack(&self) -> u32 {
        be32(self.l4, 8)
    }

    /// The flag bits, see [`flag`].
    pub fn flags(&self) -> u8 {
        self.l4[13]
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.l4[self.header..]
    }

    /// Kind and value of each option; padding is left out, and what follows a malformed one.
    pub fn options(&self) -> Vec<(u8, &'a [u8])> {
        let mut rest = &self.l4[20..self.header];
        let mut options = Vec::new();
        loop {
            match *rest {
                [] | [0, ..] => return options,
                [1, ..] => rest = &rest[1..],
                [kind, len, ..] if len >= 2 && usize::from(len) <= rest.len() => {
                    options.push((kind, &rest[2..len.into()]));
                    rest = &rest[len.into()..];
                }
                _ => return options,
            }
        }
    }

    /// The value of the first option of a kind.
    pub fn option(&self, kind: u8) -> Option<&'a [u8]> {
        self.options().into_iter().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    /// The maximum segment size option.
    pub fn mss(&self) -> Option<u16> {
        self.option(2).map(|value| u16::from_be_bytes([value[0], value[1]]))
    }

    /// The client's port and address in the TOA option; `None` without one or with one of another length.
    pub fn toa(&self) -> Option<(u16, IpAddr)> {
        let value = self.option(TOA_KIND)?;
        matches!(value.len(), 6 | 18).then(|| (u16::from_be_bytes([value[0], value[1]]), read_ip(&value[2..])))
    }
}

/// What an ICMP error message says about the packet that caused it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Whether the quoted IPv4 header checksum is right; true for IPv6.
    pub ip_checksum_ok: bool,
}

/// The two ends of a flow as one end writes them into packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// Source and destination MAC address.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source address and port.
    pub src: (IpAddr, u16),
    /// Destination address and port; of the same family.
    pub dst: (IpAddr, u16),
    /// TTL or hop limit.
    pub ttl: u8,
}

impl Ends {
    /// A TCP segment. `options` must be padded to whole words.
    pub fn tcp(&self, seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8]) -> Packet {
        assert!(options.len().is_multiple_of(4) && options.len() <= 40, "options of {} bytes", options.len());
        let mut l4 = self.ports();
        l4.extend_from_slice(&seq.to_be_bytes());
        l4.extend_from_slice(&ack.to_be_bytes());
        let words = (20 + options.len()) / 4;
        l4.extend_from_slice(&[(words as u8) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        l4.extend_from_slice(options);
        l4.extend_from_slice(payload);
        self.ip(proto::TCP, &l4)
    }

    /// A UDP datagram with a checksum.
    pub fn udp(&self, payload: &[u8]) -> Packet {
        let mut l4 = self.ports();
        let length = u16::try_from(8 + payload.len()).expect("a datagram of a test is short");
        l4.extend_from_slice(&length.to_be_bytes());
        // Anything but 0, which would mean "no checksum wanted"; it is computed below.
        l4.extend_from_slice(&[0xff, 0xff]);
        l4.extend_from_slice(payload);
        self.ip(proto::UDP, &l4)
    }

    fn ports(&self) -> Vec<u8> {
        [self.src.1.to_be_bytes(), self.dst.1.to_be_bytes()].concat()
    }

    /// An IP packet with DF around a transport header and payload, checksums computed.
    pub fn ip(&self, protocol: u8, l4: &[u8]) -> Packet {
        let mut bytes = [self.macs.1, self.macs.0].concat();
        match (self.src.0, self.dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let length = u16::try_from(20 + l4.len()).expect("a packet of a test is short").to_be_bytes();
                bytes.extend_from_slice(&[0x08, 0x00, 0x45, 0, length[0], length[1], 0, 0, 0x40, 0]);
                bytes.extend_from_slice(&[self.ttl, protocol, 0, 0]);
                bytes.extend_from_slice(&[src.octets(), dst.octets()].concat());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let length = u16::try_from(l4.len()).expect("a packet of a test is short").to_be_bytes();
                bytes.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], protocol, self.ttl]);
                bytes.extend_from_slice(&[src.octets(), dst.octets()].concat());
            }
            _ => panic!("{self:?} mixes address families"),
        }
        let at = bytes.len();
        bytes.extend_from_slice(l4);
        let mut packet = Packet { l4: at, end: bytes.len(), bytes };
        packet.fix_checksums();
        packet
    }
}

/// A TOA option as a client could forge it: 8 bytes for IPv4, 20 for IPv6, already whole words.
pub fn toa_option(port: u16, addr: IpAddr) -> Vec<u8> {
    let octets = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let mut option = vec![TOA_KIND, 4 + octets.len() as u8];
    option.extend_from_slice(&port.to_be_bytes());
    option.extend_from_slice(&octets);
    option
}

fn read_ip(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("4 or 16 bytes by the callers")).into(),
    }
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The one's complement sum of RFC 1071, not inverted, begun with `start`.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(src: &str, dst: &str) -> Ends {
        Ends {
            macs: ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]),
            src: (src.parse().unwrap(), 1234),
            dst: (dst.parse().unwrap(), 80),
            ttl: 64,
        }
    }

    #[test]
    fn sum_of_the_rfc_1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0), 0xddf2);
    }

    #[test]
    fn reads_back_what_it_writes() {
        for ends in [ends("10.0.0.1", "10.0.0.2"), ends("fd00::1", "fd00::2")] {
            let toa = toa_option(77, ends.src.0);
            let packet = ends.tcp(1, 2, flag::ACK | flag::PSH, &toa, b"hello");
            assert_eq!(Packet::parse(packet.bytes()).as_ref(), Some(&packet));
            assert!(packet.ip_checksum_ok() && packet.l4_checksum_ok());
            let tcp = packet.tcp().unwrap();
            assert_eq!((tcp.seq(), tcp.ack(), tcp.flags()), (1, 2, flag::ACK | flag::PSH));
            assert_eq!((tcp.toa(), tcp.payload()), (Some((77, ends.src.0)), &b"hello"[..]));
            assert_eq!((packet.src(), packet.dst(), packet.ttl()), (ends.src.0, ends.dst.0, 64));

            let udp = ends.udp(b"x");
            assert_eq!((udp.sport(), udp.dport(), udp.udp_payload()), (1234, 80, Some(&b"x"[..])));
            assert!(udp.l4_checksum_ok());
        }
    }

    #[test]
    fn a_changed_byte_makes_a_checksum_wrong() {
        let packet = ends("10.0.0.1", "10.0.0.2").tcp(1, 2, flag::ACK, &[], b"hello");
        for at in ETHERNET..packet.bytes().len() {
            let mut bytes = packet.bytes().to_vec();
            bytes[at] ^= 0x04;
            let still_right = Packet::parse(&bytes).is_some_and(|p| p.ip_checksum_ok() && p.l4_checksum_ok());
            assert!(!still_right, "byte {at}");
        }
    }

    #[test]
    fn translation_changes_addresses_ports_ttl_and_checksums() {
        let (a, b) = (ends("10.0.0.1", "10.0.0.2"), ends("10.9.0.1", "10.9.0.2"));
        let before = a.tcp(5, 6, flag::ACK, &[1, 1, 1, 1], b"data");
        let after = Ends { ttl: 62, ..b }.tcp(5, 6, flag::ACK, &[1, 1, 1, 1], b"data");
        assert_eq!(before.translated_like(&after, 2), after);
        let other = Ends { ttl: 62, ..b }.tcp(5, 6, flag::ACK, &[1, 1, 1, 0], b"data");
        assert_ne!(before.translated_like(&other, 2), other);
    }
}
