//! Packets that wait for their next hop's MAC address, per worker.

use super::Neighbors;
use crate::frame::Frame;
use crate::id::{IfaceId, NexthopId};
use crate::time::Time;
use crate::wire::Mac;

/// Packets that wait in one worker.
pub const TOTAL: usize = 256;
/// Milliseconds a packet waits at most: as long as three probes may take. Shorter than
/// [`MIN_UNUSED_MS`](super::housekeeping::MIN_UNUSED_MS), so that an id cannot change its meaning meanwhile.
pub const WAIT_MS: u64 = 3_000;

/// A bounded queue for packets whose next hop is being resolved. Nothing is allocated after it is made.
///
/// A full queue refuses the new packet and keeps the old ones, unlike Linux, which drops the oldest: the first packets
/// are the SYNs and handshake ACKs of sessions, and the newest can be counted with its reason where it is
/// refused. A client sends both again in a second.
#[derive(Debug)]
pub struct PendingQueue<F> {
    waiting: Vec<Waiting<F>>,
    per_nexthop: usize,
}

#[derive(Debug)]
struct Waiting<F> {
    id: NexthopId,
    iface: IfaceId,
    mac: Option<Mac>,
    until: Time,
    frame: F,
}

impl<F: Frame> PendingQueue<F> {
    /// An empty queue in which up to `per_nexthop` packets wait for one next hop.
    pub fn new(per_nexthop: usize) -> Self {
        PendingQueue { waiting: Vec::with_capacity(TOTAL), per_nexthop }
    }

    /// Queues a packet; gives it back when as many as may wait for this next hop, or 256 in all. Call [`Neighbors::want`] too.
    pub fn push(&mut self, id: NexthopId, iface: IfaceId, now: Time, frame: F) -> Result<(), F> {
        if self.waiting.len() == TOTAL || self.waiting.iter().filter(|w| w.id == id).count() >= self.per_nexthop {
            return Err(frame);
        }
        self.waiting.push(Waiting { id, iface, mac: None, until: now.after(WAIT_MS), frame });
        Ok(())
    }

    /// Gives away the packets whose next hop is known by now, in the order they came.
    pub fn drain_resolved(&mut self, table: &Neighbors, mut send: impl FnMut(IfaceId, Mac, F)) {
        let resolved = |w: &mut Waiting<F>| {
            w.mac = table.mac(w.id);
            w.mac.is_some()
        };
        for w in self.waiting.extract_if(.., resolved) {
            if let Some(mac) = w.mac {
                send(w.iface, mac, w.frame);
            }
        }
    }

    /// Gives away the packets whose next hop failed or that waited too long, for counting.
    pub fn drain_failed(&mut self, table: &Neighbors, now: Time, mut give_up: impl FnMut(IfaceId, F)) {
        for w in self.waiting.extract_if(.., |w| table.failed(w.id) || now >= w.until) {
            give_up(w.iface, w.frame);
        }
    }

    /// Packets waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when none waits: nothing to drain.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
