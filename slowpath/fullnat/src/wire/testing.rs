//! Making and checking frames in tests. Checksums are computed from scratch here, by the plain RFC 1071 sum, so that
//! they vouch for the incremental ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::Addr;
use crate::flow::FlowKey;
use crate::frame::HeapFrame;
use crate::id::Proto;
use crate::wire::{Mac, TcpFlags, ethernet};

/// Where frames made here come from, unless told otherwise.
pub const SRC_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0xc1]);
/// Where frames made here go, unless told otherwise.
pub const DST_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x1b]);

/// A TCP or UDP frame in the making: `Build::new(key).flags(TcpFlags::SYN).options(&[2, 4, 5, 0xb4]).bytes()`.
#[derive(Clone, Debug)]
pub struct Build<A> {
    key: FlowKey<A>,
    macs: (Mac, Mac),
    ttl: u8,
    seq: u32,
    ack: u32,
    window: u16,
    flags: TcpFlags,
    options: Vec<u8>,
    payload: Vec<u8>,
    no_checksum: bool,
    checksum_error: u16,
    padding: usize,
}

impl<A: Addr> Build<A> {
    /// A segment or datagram with this key; TTL 64, flags ACK, no options, no payload.
    pub fn new(key: FlowKey<A>) -> Self {
        Build {
            key,
            macs: (DST_MAC, SRC_MAC),
            ttl: 64,
            seq: 1,
            ack: 1,
            window: 0xffff,
            flags: TcpFlags::ACK,
            options: Vec::new(),
            payload: Vec::new(),
            no_checksum: false,
            checksum_error: 0,
            padding: 0,
        }
    }

    /// Sets the MAC addresses.
    pub fn macs(mut self, dst: Mac, src: Mac) -> Self {
        self.macs = (dst, src);
        self
    }

    /// Sets the TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the sequence number.
    pub fn seq(mut self, seq: u32) -> Self {
        self.seq = seq;
        self
    }

    /// Sets the acknowledgement number (not the flag).
    pub fn ack(mut self, ack: u32) -> Self {
        self.ack = ack;
        self
    }

    /// Sets the window.
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// Sets the TCP control bits.
    pub fn flags(mut self, flags: TcpFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the TCP options, padded with EOL to a multiple of four. At most 40 bytes.
    pub fn options(mut self, options: &[u8]) -> Self {
        assert!(options.len() <= 40);
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Sets the payload.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Leaves the UDP checksum zero.
    pub fn no_checksum(mut self) -> Self {
        self.no_checksum = true;
        self
    }

    /// Adds to the TCP or UDP checksum, so that it is wrong.
    pub fn checksum_error(mut self, error: u16) -> Self {
        self.checksum_error = error;
        self
    }

    /// Adds bytes behind the IP packet, as Ethernet does to short frames.
    pub fn padding(mut self, len: usize) -> Self {
        self.padding = len;
        self
    }

    /// The frame.
    pub fn frame(&self) -> HeapFrame {
        HeapFrame::new(&self.bytes())
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let (proto, mut l4, check_at) = match self.key.proto {
            Proto::Tcp => (6, self.tcp_header(), 16),
            Proto::Udp => (17, self.udp_header(), 6),
        };
        l4.extend_from_slice(&self.payload);
        if !self.no_checksum {
            let mut check =
                !plain_sum(&[pseudo_header(self.key.src, self.key.dst, proto, l4.len()), l4.clone()].concat());
            if self.key.proto == Proto::Udp && check == 0 {
                check = 0xffff;
            }
            let check = check.wrapping_add(self.checksum_error);
            l4[check_at..check_at + 2].copy_from_slice(&check.to_be_bytes());
        }
        let mut frame = ip_frame(self.macs, self.key.src, self.key.dst, proto, self.ttl, &l4);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    fn ports(&self) -> Vec<u8> {
        [self.key.sport.to_be_bytes(), self.key.dport.to_be_bytes()].concat()
    }

    fn tcp_header(&self) -> Vec<u8> {
        let mut header = self.ports();
        header.extend_from_slice(&self.seq.to_be_bytes());
        header.extend_from_slice(&self.ack.to_be_bytes());
        header.extend_from_slice(&[(((20 + self.options.len()) / 4) << 4) as u8, self.flags.0]);
        header.extend_from_slice(&self.window.to_be_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&self.options);
        header
    }

    fn udp_header(&self) -> Vec<u8> {
        let mut header = self.ports();
        header.extend_from_slice(&((8 + self.payload.len()) as u16).to_be_bytes());
        header.extend_from_slice(&[0; 2]);
        header
    }
}

/// A key from text, `flow("192.0.2.1:1000", "198.51.100.1:80", Proto::Tcp)`; IPv6 as `[2001:db8::1]:80`.
pub fn flow<A: Addr>(src: &str, dst: &str, proto: Proto) -> FlowKey<A> {
    let parse = |text: &str| {
        let socket: std::net::SocketAddr = text.parse().expect("address:port");
        (A::from_ip(socket.ip()).expect("address of the family"), socket.port())
    };
    let ((src, sport), (dst, dport)) = (parse(src), parse(dst));
    FlowKey { src, dst, sport, dport, proto }
}

/// A frame with an ICMP or ICMPv6 message: type, code, the rest of the header (identifier and sequence number, or
/// unused and MTU), and a body. The checksum is right.
pub fn icmp<A: Addr>(src: A, dst: A, ttl: u8, (kind, code): (u8, u8), rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let proto = if A::IS_V6 { 58 } else { 1 };
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&rest);
    message.extend_from_slice(body);
    let pseudo = if A::IS_V6 { pseudo_header(src, dst, proto, message.len()) } else { Vec::new() };
    let check = !plain_sum(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&check.to_be_bytes());
    ip_frame((DST_MAC, SRC_MAC), src, dst, proto, ttl, &message)
}

/// An Ethernet frame with an IP packet around `body`.
pub fn ip_frame<A: Addr>((to, from): (Mac, Mac), src: A, dst: A, proto: u8, ttl: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    match (src.into(), dst.into()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame.extend_from_slice(&ethernet::IPV4.to_be_bytes());
            let mut ip = vec![0x45, 0];
            ip.extend_from_slice(&((20 + body.len()) as u16).to_be_bytes());
            ip.extend_from_slice(&[0x12, 0x34, 0x40, 0, ttl, proto, 0, 0]);
            ip.extend_from_slice(&src.octets());
            ip.extend_from_slice(&dst.octets());
            let check = !plain_sum(&ip);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
            frame.extend_from_slice(&ip);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame.extend_from_slice(&ethernet::IPV6.to_be_bytes());
            frame.extend_from_slice(&[0x60, 0, 0x12, 0x34]);
            frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
            frame.extend_from_slice(&[proto, ttl]);
            frame.extend_from_slice(&src.octets());
            frame.extend_from_slice(&dst.octets());
        }
        _ => unreachable!("both addresses are of one type"),
    }
    frame.extend_from_slice(body);
    frame
}

/// The sum of RFC 1071, written as its section 1 says it: 16-bit words added with end-around carry.
pub fn plain_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, word| {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

fn pseudo_header<A: Addr>(src: A, dst: A, proto: u8, len: usize) -> Vec<u8> {
    let mut pseudo = vec![0; 2 * A::LEN];
    src.write(&mut pseudo);
    dst.write(&mut pseudo[A::LEN..]);
    pseudo.extend_from_slice(&(len as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, proto]);
    pseudo
}

/// Checks lengths and all checksums of an IP frame from scratch. IPv6 without extension headers; IPv4 without options.
///
/// # Errors
///
/// What is wrong.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let need = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    need(frame.len() >= 34, "frame too short")?;
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ethernet::IPV4 => {
            let ip = &frame[14..];
            need(ip[0] == 0x45, "IPv4 version or header length")?;
            need(plain_sum(&ip[..20]) == 0xffff, "IPv4 header checksum")?;
            let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            need((20..=ip.len()).contains(&len), "IPv4 total length")?;
            verify_l4(Ipv4Addr::read(&ip[12..]), Ipv4Addr::read(&ip[16..]), ip[9], &ip[20..len])
        }
        ethernet::IPV6 => {
            let ip = &frame[14..];
            need(ip.len() >= 40 && ip[0] >> 4 == 6, "IPv6 version or length")?;
            let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            need(40 + len <= ip.len(), "IPv6 payload length")?;
            verify_l4(Ipv6Addr::read(&ip[8..]), Ipv6Addr::read(&ip[24..]), ip[6], &ip[40..40 + len])
        }
        other => Err(format!("EtherType {other:#06x}")),
    }
}

fn verify_l4<A: Addr>(src: A, dst: A, proto: u8, l4: &[u8]) -> Result<(), String> {
    let sum = plain_sum(&[pseudo_header(src, dst, proto, l4.len()), l4.to_vec()].concat());
    match proto {
        6 if l4.len() < 20 => Err("TCP header cut".into()),
        6 if !(20..=l4.len()).contains(&(usize::from(l4[12] >> 4) * 4)) => Err("TCP data offset".into()),
        6 if sum != 0xffff => Err(format!("TCP checksum, off by {:#06x}", !sum)),
        17 if l4.len() < 8 => Err("UDP header cut".into()),
        17 if usize::from(u16::from_be_bytes([l4[4], l4[5]])) != l4.len() => Err("UDP length".into()),
        17 if l4[6..8] == [0, 0] => {
            if A::IS_V6 {
                Err("UDP without checksum".into())
            } else {
                Ok(())
            }
        }
        17 if sum != 0xffff => Err(format!("UDP checksum, off by {:#06x}", !sum)),
        1 if plain_sum(l4) != 0xffff => Err("ICMP checksum".into()),
        58 if sum != 0xffff => Err("ICMPv6 checksum".into()),
        6 | 17 | 1 | 58 => Ok(()),
        other => Err(format!("IP protocol {other}")),
    }
}
