//! Raw Ethernet: a socket that sees and sends whole frames, and a host that exists only in a test.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt, socket,
    sockopt,
};

use crate::netns::Netns;
use crate::packet::{Ends, Packet, flag, proto};
use crate::topology::{BALANCER_MACS, Dual, RAW_CLIENT};

/// `PACKET_OUTGOING` of `linux/if_packet.h`: the host's own kernel sent the frame.
const PACKET_OUTGOING: u8 = 4;
/// Bytes of kernel buffer: a test's whole traffic waits there if the reader is not scheduled.
const RECEIVE_BUFFER: usize = 64 << 20;

/// An AF_PACKET socket on one interface.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
}

impl RawSocket {
    /// Opens the socket; from now on every frame in either direction is kept for [`RawSocket::receive`].
    pub fn open(ns: &Netns, interface: &str) -> Result<Self> {
        ns.run(|| Self::open_here(interface))
            .with_context(|| format!("cannot open a raw socket on {interface} in {}", ns.name()))
    }

    fn open_here(interface: &str) -> Result<Self> {
        let address = getifaddrs()?
            .filter(|it| it.interface_name == interface)
            .find_map(|it| it.address.as_ref().and_then(|address| address.as_link_addr().copied()))
            .context("no such interface")?;
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
        setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        // The address names the interface and no protocol: the socket keeps the one it was opened with.
        bind(fd.as_raw_fd(), &address)?;
        Ok(RawSocket { fd })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.fd.as_raw_fd(), frame, MsgFlags::empty()).context("cannot send a raw frame")?;
        Ok(())
    }

    /// Waits for the next frame. The flag tells whether the host sent it itself.
    pub fn receive(&self, timeout: Duration) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut readable = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let millis = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        if poll(&mut readable, PollTimeout::from(millis))? == 0 {
            return Ok(None);
        }
        let mut buf = vec![0; 65_536];
        let (len, from) = recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut buf)?;
        buf.truncate(len);
        Ok(Some((buf, from.is_some_and(|from| from.pkttype() == PACKET_OUTGOING))))
    }
}

/// A host that no kernel runs: it owns [`RAW_CLIENT`] on the client's cable, answers ARP and neighbour solicitations for
/// it, and otherwise sends and sees exactly the packets that a test wants. Two-armed topologies only, where the
/// balancer is the next hop.
#[derive(Debug)]
pub struct RawHost {
    socket: RawSocket,
    mac: [u8; 6],
    addr: Dual,
}

impl RawHost {
    /// The host, on the interface `eth0` of the client's namespace.
    pub fn start(client: &Netns) -> Result<Self> {
        Ok(RawHost { socket: RawSocket::open(client, "eth0")?, mac: [0x02, 0xca, 0, 0, 0, 0x66], addr: RAW_CLIENT })
    }

    /// The ends of a flow from this host's `port` to a service.
    pub fn ends(&self, port: u16, to: (IpAddr, u16)) -> Ends {
        let own = if to.0.is_ipv4() { self.addr.v4.into() } else { self.addr.v6.into() };
        Ends { macs: (self.mac, parse_mac(BALANCER_MACS[0])), src: (own, port), dst: to, ttl: 64 }
    }

    /// Sends a packet.
    pub fn send(&self, packet: &Packet) -> Result<()> {
        self.socket.send(packet.bytes())
    }

    /// Waits for a packet to this host that `wanted` accepts, answering neighbour requests meanwhile; others are
    /// ignored.
    pub fn receive(&self, timeout: Duration, wanted: impl Fn(&Packet) -> bool) -> Result<Option<Packet>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.socket.receive(left)? {
                None => return Ok(None),
                Some((_, true)) => {}
                Some((frame, false)) => {
                    if let Some(reply) = self.neighbor_reply(&frame) {
                        self.socket.send(&reply)?;
                    } else if let Some(packet) = Packet::parse(&frame).filter(|p| self.owns(p.dst()) && wanted(p)) {
                        return Ok(Some(packet));
                    }
                }
            }
        }
    }

    fn owns(&self, ip: IpAddr) -> bool {
        self.addr.both().contains(&ip)
    }

    fn neighbor_reply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        self.arp_reply(frame).or_else(|| self.neighbor_advertisement(frame))
    }

    /// RFC 826: a request for our address is answered with our hardware address.
    fn arp_reply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let asked = frame.get(12..42)?;
        if asked[..10] != [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1] || asked[26..30] != self.addr.v4.octets() {
            return None;
        }
        let (sender, own) = (&asked[10..20], self.addr.v4.octets());
        let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
        Some([&sender[..6], &self.mac, &head, &self.mac, &own, sender].concat())
    }

    /// RFC 4861 section 7.2.4: solicited, override, with our link-layer address.
    fn neighbor_advertisement(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let asked = Packet::parse(frame)?;
        if asked.icmp() != Some((135, 0)) || asked.l4().get(8..24)? != self.addr.v6.octets() {
            return None;
        }
        let asker: [u8; 6] = frame[6..12].try_into().ok()?;
        let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend_from_slice(&self.addr.v6.octets());
        message.extend_from_slice(&[2, 1]);
        message.extend_from_slice(&self.mac);
        let ends = Ends { macs: (self.mac, asker), src: (self.addr.v6.into(), 0), dst: (asked.src(), 0), ttl: 255 };
        Some(ends.ip(proto::ICMPV6, &message).bytes().to_vec())
    }

    /// Opens a TCP connection by hand: SYN with the given options, SYN-ACK, and the handshake ACK with the given
    /// options.
    pub fn connect(&self, port: u16, to: (IpAddr, u16), syn_options: &[u8], ack_options: &[u8]) -> Result<RawTcp<'_>> {
        let ends = self.ends(port, to);
        let first = 1_000_000;
        self.send(&ends.tcp(first, 0, flag::SYN, syn_options, &[]))?;
        let mine = |p: &Packet| p.tcp().is_some() && (p.src(), p.sport()) == to && p.dport() == port;
        let syn_ack = self.receive(Duration::from_secs(20), mine)?.context("no answer to a SYN")?;
        let tcp = syn_ack.tcp().context("not TCP")?;
        anyhow::ensure!(tcp.flags() == flag::SYN | flag::ACK, "answer to a SYN: {syn_ack:?}");
        let connection =
            RawTcp { host: self, ends, seq: first + 1, ack: tcp.seq().wrapping_add(1), syn_ack: syn_ack.clone() };
        connection.send(flag::ACK, ack_options, &[])?;
        Ok(connection)
    }
}

/// One TCP connection written by hand: no retransmission, no window.
#[derive(Debug)]
pub struct RawTcp<'a> {
    host: &'a RawHost,
    /// The flow as this host writes it.
    pub ends: Ends,
    /// The next sequence number to send.
    pub seq: u32,
    /// The next sequence number expected.
    pub ack: u32,
    /// The SYN-ACK that was received.
    pub syn_ack: Packet,
}

impl RawTcp<'_> {
    /// Sends a segment at the current sequence numbers and leaves these as they are.
    pub fn send(&self, flags: u8, options: &[u8], payload: &[u8]) -> Result<()> {
        self.host.send(&self.ends.tcp(self.seq, self.ack, flags, options, payload))
    }

    /// Sends data and moves on.
    pub fn send_data(&mut self, options: &[u8], payload: &[u8]) -> Result<()> {
        self.send(flag::ACK | flag::PSH, options, payload)?;
        self.seq = self.seq.wrapping_add(payload.len() as u32);
        Ok(())
    }

    /// Waits for the next segment with data, without acknowledging it.
    pub fn receive_data(&mut self) -> Result<Packet> {
        let expected = self.ack;
        let (to, port) = (self.ends.dst, self.ends.src.1);
        let wanted = |p: &Packet| {
            (p.src(), p.sport()) == to
                && p.dport() == port
                && p.tcp().is_some_and(|tcp| !tcp.payload().is_empty() && tcp.seq() == expected)
        };
        let packet = self.host.receive(Duration::from_secs(20), wanted)?.context("no data arrived")?;
        self.ack = self.ack.wrapping_add(packet.tcp().map_or(0, |tcp| tcp.payload().len() as u32));
        Ok(packet)
    }
}

/// Reads a MAC address of six hexadecimal bytes.
fn parse_mac(text: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    for (byte, word) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(word, 16).expect("a constant of this crate");
    }
    mac
}
