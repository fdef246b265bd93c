//! Ping.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::packet::Packet;

/// Sends one echo request with `len` bytes of data and waits for its reply: true when it came, with the same data.
/// Call in [`Netns::run`](crate::netns::Netns::run).
pub fn ping(to: IpAddr, len: usize, timeout: Duration) -> io::Result<bool> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    // The kernel's raw socket is as good as its UDP socket for what std does with one: send_to, recv_from, timeouts.
    let socket = UdpSocket::from(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?);
    let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let mut message = vec![request, 0, 0, 0, 0xca, 0x40, 0, 1];
    message.extend_from_slice(&data);
    if to.is_ipv4() {
        let check = Packet::icmp_v4_checksum(&message);
        message[2..4].copy_from_slice(&check.to_be_bytes());
    }
    socket.send_to(&message, SocketAddr::new(to, 0))?;

    let deadline = Instant::now() + timeout;
    let mut buf = vec![0; 65_536];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let (len, from) = match socket.recv_from(&mut buf) {
            Ok(received) => received,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(false),
            Err(e) => return Err(e),
        };
        // IPv4 raw sockets give the IP header too, IPv6 ones do not (RFC 3542 section 3).
        let header = if to.is_ipv4() { usize::from(buf[0] & 0xf) * 4 } else { 0 };
        let message = &buf[header..len];
        if from.ip() == to && message[0] == reply && message[4..6] == [0xca, 0x40] && message[8..] == data {
            return Ok(true);
        }
    }
}
