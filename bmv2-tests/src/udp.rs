//! UDP peers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Netns;

/// A server that answers each datagram with its own name, the client's address as it sees it, and the datagram.
#[derive(Debug)]
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts a server that calls itself `name` on `port` of the host `ns`, both families.
    pub fn start(ns: &Netns, name: &str, port: u16) -> Result<Self> {
        let socket = ns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)));
        let socket = socket.with_context(|| format!("{name}: cannot bind UDP port {port}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (name.to_owned(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buf = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buf) else { continue };
                let seen = SocketAddr::new(from.ip().to_canonical(), from.port());
                let answer = [format!("{name} {seen} ").as_bytes(), &buf[..len]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
        Ok(UdpEcho { stop, thread: Some(thread) })
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket that talks to one service only, so that the kernel reports ICMP errors about it as errors of the socket.
/// Call in [`Netns::run`].
pub fn connected(to: SocketAddr, timeout: Duration) -> io::Result<UdpSocket> {
    let socket = match to {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_read_timeout(Some(timeout))?;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends a datagram from a port of its own and waits for the answer. Call in [`Netns::run`].
pub fn ask(to: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = connected(to, Duration::from_secs(20))?;
    socket.send(question)?;
    let mut buf = vec![0; 65_536];
    let len = socket.recv(&mut buf)?;
    buf.truncate(len);
    Ok(buf)
}
