//! Records what passes an interface.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::netns::Netns;
use crate::packet::Packet;
use crate::pcap::Record;
use crate::raw::RawSocket;

/// An exchange after which nothing passes for so long is over. Kernels delay an ACK by 200 ms at most, and a loaded machine adds
/// to that.
const QUIET: Duration = Duration::from_millis(500);

/// A capture that runs until it is dropped. Both directions of the interface, whole frames, in the order of passing.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

/// Frames of which direction a capture keeps, as the interface's own host sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// What the host receives.
    In,
    /// What the host sends.
    Out,
    /// All.
    Both,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    records: Mutex<Vec<Record>>,
}

impl Capture {
    /// Begins, with both directions; nothing that passes after the return is missed.
    pub fn start(ns: &Netns, interface: &str) -> Result<Self> {
        Self::of(ns, interface, Way::Both)
    }

    /// Begins with one direction; nothing that passes after the return is missed.
    pub fn of(ns: &Netns, interface: &str, way: Way) -> Result<Self> {
        let socket = RawSocket::open(ns, interface)?;
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), records: Mutex::default() });
        let reader = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let start = Instant::now();
                while !shared.stop.load(Ordering::Relaxed) {
                    if let Ok(Some((frame, sent))) = socket.receive(Duration::from_millis(20))
                        && (way == Way::Both || sent == (way == Way::Out))
                    {
                        let record = Record { time: start.elapsed(), frame };
                        shared.records.lock().unwrap_or_else(|e| e.into_inner()).push(record);
                    }
                }
            }
        });
        Ok(Capture { shared, reader: Some(reader) })
    }

    /// Everything so far.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// The IP packets so far that `wanted` accepts.
    pub fn packets(&self, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        self.records().iter().filter_map(|it| Packet::parse(&it.frame)).filter(wanted).collect()
    }

    /// Waits until at least `count` packets that `wanted` accepts have passed, and returns them; when they do not come
    /// in twenty seconds, those that did.
    pub fn wait_for(&self, count: usize, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let packets = self.packets(&wanted);
            if packets.len() >= count || Instant::now() > deadline {
                return packets;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until nothing has passed for half a second, so that [`Capture::packets`] gives a finished exchange.
    pub fn settle(&self) {
        Self::settle_all(&[self]);
    }

    /// The same for several at once.
    pub fn settle_all(captures: &[&Capture]) {
        let count = || -> usize {
            captures.iter().map(|it| it.shared.records.lock().unwrap_or_else(|e| e.into_inner()).len()).sum()
        };
        let (mut seen, mut since) = (count(), Instant::now());
        while since.elapsed() < QUIET {
            thread::sleep(Duration::from_millis(20));
            let now = count();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
