//! Frames of the benchmark: one template, of which only what differs between sessions is written.

use dpdk::Mbuf;
use fullnat::addr::Addr;
use fullnat::frame::Frame;
use fullnat::id::Proto;
use fullnat::wire::checksum::{self, Change};
use fullnat::wire::{Mac, TcpFlags, ethernet};

/// Length of the shortest Ethernet frame, without FCS.
const SHORTEST: usize = 60;
const LONGEST: usize = 80;
/// A cache line, and room for the frames of IPv4.
const LINE: usize = 64;

/// What differs between the packets of a benchmark. Numbers in host byte order.
#[derive(Clone, Copy, Debug)]
pub struct Packet<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number of TCP; the first four bytes of the payload of UDP.
    pub seq: u32,
    /// Acknowledgement number of TCP.
    pub ack: u32,
    /// Control bits of TCP.
    pub flags: TcpFlags,
}

/// A frame of 60 bytes, or what the headers take, to be filled in.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: [u8; LONGEST],
    len: usize,
    proto: Proto,
    /// Sum of the IPv4 header without addresses.
    header_check: u16,
}

impl Template {
    /// The template of a family and protocol, sent from `src` to `dst`. With `payload` bytes of TCP payload.
    pub fn new<A: Addr>(proto: Proto, (src, dst): (Mac, Mac), payload: usize) -> Self {
        let mut bytes = [0; LONGEST];
        ethernet::set_addresses(&mut bytes, dst, src);
        let l4_len = match proto {
            Proto::Tcp => 20 + payload,
            Proto::Udp => 12,
        };
        let ip = ethernet::LEN;
        if A::IS_V6 {
            bytes[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
            bytes[ip] = 0x60;
            bytes[ip + 4..ip + 6].copy_from_slice(&(l4_len as u16).to_be_bytes());
            bytes[ip + 6] = proto as u8;
            bytes[ip + 7] = 64;
        } else {
            bytes[12..14].copy_from_slice(&ethernet::IPV4.to_be_bytes());
            bytes[ip] = 0x45;
            bytes[ip + 2..ip + 4].copy_from_slice(&(20 + l4_len as u16).to_be_bytes());
            bytes[ip + 6] = 0x40;
            bytes[ip + 8] = 64;
            bytes[ip + 9] = proto as u8;
        }
        let l4 = l4::<A>();
        match proto {
            Proto::Tcp => bytes[l4 + 12] = 0x50,
            Proto::Udp => bytes[l4 + 4..l4 + 6].copy_from_slice(&(l4_len as u16).to_be_bytes()),
        }
        let header_check = checksum::finish(u32::from(checksum::sum(&bytes[ip..ip + 20])));
        Template { bytes, len: (l4 + l4_len).max(SHORTEST), proto, header_check }
    }

    /// Writes a packet into an empty frame. Its TCP or UDP checksum is not right: nobody on this way verifies it, and the
    /// balancer updates it all the same.
    #[inline(always)]
    pub fn fill<A: Addr>(&self, frame: &mut Mbuf, packet: &Packet<A>) {
        // Of a length known to the compiler, which makes it a few moves.
        let copied = if self.len <= LINE { self.copy::<LINE>(frame) } else { self.copy::<LONGEST>(frame) };
        if !copied {
            return;
        }
        let bytes = frame.bytes_mut();
        let (l4, addresses) = (l4::<A>(), l4::<A>() - 2 * A::LEN);
        packet.src.write(&mut bytes[addresses..]);
        packet.dst.write(&mut bytes[addresses + A::LEN..]);
        if !A::IS_V6 {
            let mut change = Change::default();
            change.sums(0, A::memory_sum([packet.src, packet.dst]));
            bytes[ethernet::LEN + 10..ethernet::LEN + 12]
                .copy_from_slice(&change.apply(self.header_check).to_be_bytes());
        }
        bytes[l4..l4 + 2].copy_from_slice(&packet.sport.to_be_bytes());
        bytes[l4 + 2..l4 + 4].copy_from_slice(&packet.dport.to_be_bytes());
        match self.proto {
            Proto::Tcp => {
                bytes[l4 + 4..l4 + 8].copy_from_slice(&packet.seq.to_be_bytes());
                bytes[l4 + 8..l4 + 12].copy_from_slice(&packet.ack.to_be_bytes());
                bytes[l4 + 13] = packet.flags.0;
            }
            Proto::Udp => bytes[l4 + 8..l4 + 12].copy_from_slice(&packet.seq.to_be_bytes()),
        }
    }
}

impl Template {
    /// Copies the template, which is no longer than `N`, to an empty frame. False when that has no room.
    #[inline(always)]
    fn copy<const N: usize>(&self, frame: &mut Mbuf) -> bool {
        if !frame.set_len(N) {
            return false;
        }
        if let (Some(to), Some(from)) = (frame.bytes_mut().first_chunk_mut::<N>(), self.bytes.first_chunk()) {
            *to = *from;
        }
        frame.set_len(self.len)
    }
}

/// Offset of the TCP or UDP header.
const fn l4<A: Addr>() -> usize {
    ethernet::LEN + if A::IS_V6 { 40 } else { 20 }
}

/// Reads a frame that started as a template. `None` for any other, such as the balancer's announcements.
pub fn read<A: Addr>(bytes: &[u8], proto: Proto) -> Option<Packet<A>> {
    let (l4, addresses) = (l4::<A>(), l4::<A>() - 2 * A::LEN);
    let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let port = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let ether_type = if A::IS_V6 { ethernet::IPV6 } else { ethernet::IPV4 };
    let next_header = ethernet::LEN + if A::IS_V6 { 6 } else { 9 };
    if port(12)? != ether_type || *bytes.get(next_header)? != proto as u8 {
        return None;
    }
    let tcp = proto == Proto::Tcp;
    Some(Packet {
        src: A::read(bytes.get(addresses..addresses + A::LEN)?),
        dst: A::read(bytes.get(addresses + A::LEN..l4)?),
        sport: port(l4)?,
        dport: port(l4 + 2)?,
        seq: word(if tcp { l4 + 4 } else { l4 + 8 })?,
        ack: word(l4 + 8)?,
        flags: if tcp { TcpFlags(*bytes.get(l4 + 13)?) } else { TcpFlags::NONE },
    })
}
