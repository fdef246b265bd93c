//! The real servers' HTTP server.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, listen};

use super::message::{Head, read_head};
use crate::blob::{self, Blob};
use crate::netns::Netns;

/// A server on one port of one host, both families.
///
/// | request | answer |
/// |---|---|
/// | `GET /` | the server's name and the client's address as the server sees it |
/// | `GET /blob/N` | the first N bytes of [`Blob`] |
/// | `GET /after-eof` | like `/`, but only after the client has closed its sending side |
/// | `PUT` or `POST`, any path | the SHA-256 of the body |
#[derive(Debug)]
pub struct HttpServer {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    stop: AtomicBool,
    accepted: AtomicU64,
    /// Open connections, so that stopping ends them too.
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl HttpServer {
    /// Starts a server that calls itself `name` on `port` of the host `ns`.
    pub fn start(ns: &Netns, name: &str, port: u16) -> Result<Self> {
        let listener = ns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
        let listener = listener.with_context(|| format!("{name}: cannot listen on port {port}"))?;
        // The standard library asks for 128, which a hundred clients at once overflow; asked again, Linux takes the new value.
        listen(&listener, Backlog::new(4096)?).with_context(|| format!("{name}: cannot lengthen the backlog"))?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stop: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept_all(&listener, &shared)
        });
        Ok(HttpServer { shared, acceptor: Some(acceptor) })
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // A poisoned lock only means that a connection's thread panicked.
        for stream in self.shared.open.lock().unwrap_or_else(|e| e.into_inner()).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let mut readable = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut readable, PollTimeout::from(50u8)).unwrap_or(0) == 0 {
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        let id = shared.accepted.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            if let Ok(copy) = stream.try_clone() {
                shared.open.lock().unwrap_or_else(|e| e.into_inner()).insert(id, copy);
            }
            // A client that goes away is not the server's concern; the client's side of the test judges.
            let _ = serve(&stream, &shared.name);
            let _ = stream.shutdown(Shutdown::Both);
            shared.open.lock().unwrap_or_else(|e| e.into_inner()).remove(&id);
        });
    }
}

/// Answers requests on one connection until the client closes it.
fn serve(stream: &TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let identity = format!("{name} {}\n", std::net::SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    while let Some(head) = read_head(&mut reader)? {
        answer(&head, &mut reader, stream, &identity)?;
        if head.close {
            break;
        }
    }
    Ok(())
}

fn answer(head: &Head, reader: &mut impl Read, mut out: &TcpStream, identity: &str) -> io::Result<()> {
    let mut words = head.line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match (method, path) {
        ("PUT" | "POST", _) => {
            if head.expects_continue {
                out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let (sum, received) = blob::sha256(reader.take(head.length))?;
            if received < head.length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            respond(out, 200, &format!("{sum}\n"))
        }
        ("GET", "/") => respond(out, 200, identity),
        ("GET", "/after-eof") => {
            io::copy(reader, &mut io::sink())?;
            respond(out, 200, identity)
        }
        ("GET", path) => match path.strip_prefix("/blob/").and_then(|len| len.parse().ok()) {
            Some(len) => {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n")?;
                let mut blob = Blob::new(len);
                let mut buf = vec![0; 64 << 10];
                loop {
                    match blob.read(&mut buf)? {
                        0 => return Ok(()),
                        n => out.write_all(&buf[..n])?,
                    }
                }
            }
            None => respond(out, 404, "no such path\n"),
        },
        _ => respond(out, 405, "GET, PUT and POST only\n"),
    }
}

/// One write for head and body, so that a small answer is one segment.
fn respond(mut out: &TcpStream, status: u16, body: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status} -\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
    out.write_all(format!("{head}{body}").as_bytes())
}
