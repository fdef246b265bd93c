//! A worker's ways out: a transmit queue per interface, or that of the link to the switch, and a ring per other worker,
//! each behind a burst.

use std::collections::VecDeque;
use std::sync::Arc;

use dpdk::{Burst, Mbuf, Mempool, Producer};
use fullnat::counters::Counters;
use fullnat::forward::Output;
use fullnat::frame::Frame;
use fullnat::id::{IfaceId, WorkerId};
use fullnat::offload::{Full, Request};
use fullnat::reason::DropReason;

use super::{BURST, Ports, Transmit, VERDICTS};

/// The only queue behind a switch.
const LINK: usize = 0;

/// The ways out of one worker.
pub struct Outbox<T> {
    /// By interface; behind a switch only the link.
    interfaces: Vec<Way<T>>,
    /// The switch's ports, when the interfaces are that.
    switch: Option<Ports>,
    /// To the offload manager, when there is one.
    requests: Option<rtrb::Producer<Request>>,
    /// Answers it had no room for; nothing else goes before them.
    owed: VecDeque<Request>,
    /// By worker; none to itself.
    workers: Vec<Option<Way<Producer>>>,
    mempool: Mempool,
    counters: Arc<Counters>,
}

/// A queue or ring with the frames collected for it.
struct Way<T> {
    to: T,
    burst: Burst<BURST>,
}

impl<T> Way<T> {
    fn new(to: T) -> Self {
        Way { to, burst: Burst::new() }
    }
}

impl<T: Transmit> Outbox<T> {
    /// An outbox over these queues, by interface, and rings, by worker. Packets of our own are taken from `mempool`.
    pub fn new(queues: Vec<T>, rings: Vec<Option<Producer>>, mempool: Mempool, counters: Arc<Counters>) -> Self {
        Outbox {
            interfaces: queues.into_iter().map(Way::new).collect(),
            switch: None,
            requests: None,
            // As many verdicts as are heard in a round, and none is while one is here.
            owed: VecDeque::with_capacity(VERDICTS),
            workers: rings.into_iter().map(|ring| ring.map(Way::new)).collect(),
            mempool,
            counters,
        }
    }

    /// The same behind a switch: all that is sent goes to the first queue, that of the link, with the tag that leads out
    /// of the interface's port.
    #[must_use]
    pub fn behind(self, switch: Option<Ports>) -> Self {
        Outbox { switch, ..self }
    }

    /// The same with a ring to the offload manager.
    #[must_use]
    pub fn offloading(self, requests: Option<rtrb::Producer<Request>>) -> Self {
        Outbox { requests, ..self }
    }

    /// Whether the offload manager has all answers, after another try to give them.
    #[inline]
    pub(super) fn is_quit(&mut self) -> bool {
        while let Some(request) = self.owed.pop_front() {
            let pushed = self.requests.as_mut().map(|requests| requests.push(request));
            if let Some(Err(rtrb::PushError::Full(request))) = pushed {
                self.owed.push_front(request);
                return false;
            }
        }
        true
    }

    /// Sends all that is collected. What a full queue does not take is tried again in the next round; what a full ring
    /// does not take is dropped, because its worker is behind already.
    pub fn flush(&mut self) {
        for way in &mut self.interfaces {
            if !way.burst.is_empty() {
                send(way, &self.counters);
            }
        }
        for way in self.workers.iter_mut().flatten() {
            if !way.burst.is_empty() {
                hand_over(way, &self.counters);
            }
        }
    }
}

impl<T: Transmit> Output<Mbuf> for Outbox<T> {
    #[inline(always)]
    fn transmit(&mut self, iface: IfaceId, mut frame: Mbuf) {
        let mut queue = usize::from(iface.0);
        if let Some(ports) = &self.switch {
            if !ports.tag(iface, &mut frame) {
                return self.counters.count_drop(DropReason::NoBuffer);
            }
            queue = LINK;
        }
        let Some(way) = self.interfaces.get_mut(queue) else {
            return self.counters.count_drop(DropReason::TxFull);
        };
        if way.burst.is_full() {
            send(way, &self.counters);
        }
        if way.burst.push(frame).is_err() {
            self.counters.count_drop(DropReason::TxFull);
        }
    }

    #[inline(always)]
    fn hand_over(&mut self, to: WorkerId, _: IfaceId, frame: Mbuf) {
        let Some(Some(way)) = self.workers.get_mut(usize::from(to.0)) else {
            return self.counters.count_drop(DropReason::HandoverFull);
        };
        if way.burst.is_full() {
            hand_over(way, &self.counters);
        }
        if way.burst.push(frame).is_err() {
            self.counters.count_drop(DropReason::HandoverFull);
        }
    }

    #[inline]
    fn offload(&mut self, request: Request) -> Result<(), Full> {
        let Some(requests) = self.requests.as_mut().filter(|_| self.owed.is_empty()) else { return Err(Full) };
        requests.push(request).map_err(|_| Full)
    }

    fn answer(&mut self, request: Request) {
        if self.offload(request).is_err() {
            self.owed.push_back(request);
        }
    }

    fn alloc(&mut self) -> Option<Mbuf> {
        let frame = self.mempool.alloc();
        if frame.is_none() {
            self.counters.count_drop(DropReason::NoBuffer);
        }
        frame
    }
}

fn send<T: Transmit>(way: &mut Way<T>, counters: &Counters) {
    let bytes = |burst: &Burst<BURST>| burst.iter().map(|m| m.bytes().len() as u64).sum::<u64>();
    let before = bytes(&way.burst);
    let sent = way.to.send(&mut way.burst);
    counters.tx_packets.add(sent as u64);
    counters.tx_bytes.add(before - bytes(&way.burst));
}

fn hand_over(way: &mut Way<Producer>, counters: &Counters) {
    let sent = way.to.enqueue_burst(&mut way.burst);
    counters.handed_over.add(sent as u64);
    for left in way.burst.drain() {
        counters.count_drop(DropReason::HandoverFull);
        drop(left);
    }
}
