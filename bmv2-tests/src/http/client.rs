//! The clients' side. Everything here opens sockets in the namespace of the calling thread: call it in
//! [`Netns::run`](crate::netns::Netns::run).

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::message::{Response, read_head};
use crate::blob::{self, Blob};

/// How long a connection attempt or a silent peer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection that is kept open for several requests.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { reader: BufReader::with_capacity(64 << 10, stream) })
    }

    /// The client's own address and port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.reader.get_ref().local_addr()
    }

    /// The socket, for what is not HTTP.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends a request without a body.
    pub fn send(&mut self, path: &str) -> io::Result<()> {
        let mut out = self.reader.get_ref();
        out.write_all(format!("GET {path} HTTP/1.1\r\nHost: carom\r\n\r\n").as_bytes())
    }

    /// Says that nothing more will be sent: a FIN leaves, answers still arrive.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.reader.get_ref().shutdown(Shutdown::Write)
    }

    /// Waits for one answer.
    pub fn receive(&mut self) -> io::Result<Response> {
        let (status, length) = self.receive_head()?;
        let mut body = Vec::new();
        (&mut self.reader).take(length).read_to_end(&mut body)?;
        if (body.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Response { status, body })
    }

    /// Uploads the first `bytes` of [`Blob`] and waits for the server's SHA-256 of them, in hex.
    pub fn put(&mut self, bytes: u64) -> io::Result<String> {
        let mut out = self.reader.get_ref();
        write!(out, "PUT /blob HTTP/1.1\r\nHost: carom\r\nContent-Length: {bytes}\r\n\r\n")?;
        io::copy(&mut Blob::new(bytes), &mut out)?;
        Ok(self.receive()?.text())
    }

    /// Sends a request and waits for its answer.
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send(path)?;
        self.receive()
    }

    fn receive_head(&mut self) -> io::Result<(u16, u64)> {
        let head = read_head(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| io::Error::other(format!("not HTTP: {}", head.line)))?, head.length))
    }
}

/// One request on a connection of its own.
pub fn get(to: SocketAddr, path: &str) -> io::Result<Response> {
    Connection::open(to)?.get(path)
}

/// What a large transfer gave.
#[derive(Clone, PartialEq, Debug)]
pub struct Transfer {
    /// Bytes of the body.
    pub bytes: u64,
    /// SHA-256 of the body as the receiver computed it, in hex.
    pub sha256: String,
    /// From the connection attempt to the last byte.
    pub elapsed: Duration,
}

impl Transfer {
    /// Megabits per second of the body.
    pub fn mbps(&self) -> f64 {
        self.bytes as f64 * 8e-6 / self.elapsed.as_secs_f64()
    }
}

/// Downloads `/blob/<bytes>`, hashing as it arrives.
pub fn download(from: SocketAddr, bytes: u64) -> io::Result<Transfer> {
    let start = Instant::now();
    let mut connection = Connection::open(from)?;
    connection.send(&format!("/blob/{bytes}"))?;
    let (_, length) = connection.receive_head()?;
    let (sha256, bytes) = blob::sha256((&mut connection.reader).take(length))?;
    Ok(Transfer { bytes, sha256, elapsed: start.elapsed() })
}

/// Uploads the first `bytes` of [`Blob`]; the hash is the server's.
pub fn upload(to: SocketAddr, bytes: u64) -> io::Result<Transfer> {
    let start = Instant::now();
    let sha256 = Connection::open(to)?.put(bytes)?;
    Ok(Transfer { bytes, sha256, elapsed: start.elapsed() })
}

/// What a load of many requests gave.
#[derive(Clone, Default, Debug)]
pub struct LoadReport {
    /// Answers by the name of the server that gave them.
    pub by_server: BTreeMap<String, u64>,
    /// What went wrong, one line per failed request.
    pub failures: Vec<String>,
    /// The slowest request, connection included.
    pub slowest: Duration,
    /// Wall-clock time of the whole load.
    pub elapsed: Duration,
}

impl LoadReport {
    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.by_server.values().sum()
    }

    /// The part of the answers that `server` gave, 0 to 1.
    pub fn share(&self, server: &str) -> f64 {
        self.by_server.get(server).copied().unwrap_or(0) as f64 / self.answered().max(1) as f64
    }
}

/// Makes `requests` requests for `/`, each on a new connection, `concurrency` at a time.
pub fn load(to: SocketAddr, requests: u64, concurrency: usize) -> LoadReport {
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let report = Mutex::new(LoadReport::default());
    thread::scope(|scope| {
        for _ in 0..concurrency {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < requests {
                    let begin = Instant::now();
                    let outcome = get(to, "/");
                    let took = begin.elapsed();
                    let mut report = report.lock().unwrap_or_else(|e| e.into_inner());
                    report.slowest = report.slowest.max(took);
                    match outcome {
                        Ok(answer) if answer.status == 200 => {
                            *report.by_server.entry(answer.server()).or_default() += 1
                        }
                        Ok(answer) => report.failures.push(format!("status {}", answer.status)),
                        Err(error) => report.failures.push(format!("{error} after {took:?}")),
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(|e| e.into_inner());
    report.elapsed = start.elapsed();
    report
}
