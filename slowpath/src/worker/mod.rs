//! A worker: one thread that polls its queue of every interface and runs each packet to completion.
//!
//! ```text
//!  receive queue of each interface ─┐
//!  rings from the other workers ────┼─▶ Forwarder ─▶ transmit queue of each interface
//!  verdicts of the offload manager ─┘             ├▶ rings to the other workers
//!                                                 └▶ requests to the offload manager
//! ```
//!
//! Behind a switch there is one queue each way, that of the link, and the frames in it say by their [tag](switch) which
//! interface they came or go by.
//!
//! It shares no session with anybody. Control talks to it over two bounded rings that it looks at once per round.

mod ends;
mod idle;
mod inbox;
mod outbox;
mod query;
pub mod switch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dpdk::{Burst, Mbuf};
use fullnat::counters::Counters;
use fullnat::forward::{Forwarder, Output};
use fullnat::id::IfaceId;
use fullnat::offload::Verdict;
use fullnat::time::Time;

pub use self::ends::{Sink, Source};
pub use self::idle::{Idle, IdlePolicy};
pub use self::inbox::Inbox;
pub use self::outbox::Outbox;
pub use self::query::Query;
pub use self::switch::Ports;
use self::switch::Punted;
use crate::control::{Command, Event, WorkerEnds};

/// Frames per receive call.
pub const BURST: usize = fullnat::forward::BURST;

/// Verdicts of the offload manager that are heard in a round: as much memory touched as by a burst.
const VERDICTS: usize = BURST;

/// Where a worker gets frames from: a receive queue.
pub trait Receive {
    /// Appends what has arrived, as far as there is room; returns how many.
    fn receive(&mut self, burst: &mut Burst<BURST>) -> usize;
}

/// Where a worker puts frames: a transmit queue.
pub trait Transmit {
    /// Takes frames from the front; what it has no room for stays. Returns how many it took.
    fn send(&mut self, burst: &mut Burst<BURST>) -> usize;
}

impl Receive for dpdk::RxQueue {
    #[inline(always)]
    fn receive(&mut self, burst: &mut Burst<BURST>) -> usize {
        dpdk::RxQueue::receive(self, burst)
    }
}

impl Transmit for dpdk::TxQueue {
    #[inline(always)]
    fn send(&mut self, burst: &mut Burst<BURST>) -> usize {
        dpdk::TxQueue::send(self, burst)
    }
}

/// One worker.
pub struct Worker<R, T> {
    /// The data plane.
    pub forwarder: Forwarder<Mbuf>,
    /// Receive queues, by interface; behind a switch only that of the link.
    pub receive: Vec<R>,
    /// The switch's ports, when the interfaces are that.
    pub switch: Option<Ports>,
    /// Ways out.
    pub outbox: Outbox<T>,
    /// Frames from the other workers. They know which interface they came by.
    pub inbox: Inbox,
    /// Interface by the port that a frame's buffer names: the number of the DPDK port, or behind a switch that of the
    /// interface itself.
    pub iface_of_port: Vec<IfaceId>,
    /// What the offload manager tells; none without one.
    pub verdicts: Option<rtrb::Consumer<Verdict>>,
    /// The rings to control; none in benchmarks.
    pub control: Option<WorkerEnds>,
    /// The walk that control asked for.
    pub query: Query,
    /// Counters, also the forwarder's.
    pub counters: Arc<Counters>,
    /// What [`Time`] counts from, the same for all workers.
    pub origin: Instant,
}

impl<R: Receive, T: Transmit> Worker<R, T> {
    /// Polls until `stop`.
    pub fn run(&mut self, stop: &AtomicBool, idle: IdlePolicy) {
        let mut idle = Idle::new(idle);
        while !stop.load(Ordering::Relaxed) {
            let found = self.poll();
            idle.after_poll(found);
        }
    }

    /// One round over all queues and rings. True when there was a packet or a verdict.
    ///
    /// Also true while it walks over its table for control: then it must not sleep.
    #[inline]
    pub fn poll(&mut self) -> bool {
        let now = Time(self.origin.elapsed().as_millis() as u64);
        self.inbox.fill();
        let found = self.poll_queues(now) | self.poll_handed(now) | self.poll_verdicts(now);
        self.forwarder.tick(now, &mut self.outbox);
        self.outbox.flush();
        let polls = if found { &self.counters.busy_polls } else { &self.counters.idle_polls };
        polls.add(1);
        self.control.is_some() && self.serve_control(now, found) || found
    }

    #[inline(always)]
    fn poll_queues(&mut self, now: Time) -> bool {
        let mut found = false;
        for (i, queue) in self.receive.iter_mut().enumerate() {
            let mut burst = Burst::new();
            if queue.receive(&mut burst) == 0 {
                continue;
            }
            found = true;
            self.counters.rx_packets.add(burst.len() as u64);
            self.counters.rx_bytes.add(burst.iter().map(|m| m.len() as u64).sum());
            match &self.switch {
                None => self.forwarder.receive(now, IfaceId(i as u8), burst.drain(), &mut self.outbox),
                Some(ports) => {
                    let punted = Punted::new(&mut burst, ports, &self.counters);
                    punted.receive(now, &mut self.forwarder, &mut self.outbox);
                }
            }
        }
        found
    }

    /// Takes frames that landed at other workers and belong to sessions of this one: those that are near by now, and what
    /// else came if there are many, but no more than its own queues may have brought.
    #[inline(always)]
    fn poll_handed(&mut self, now: Time) -> bool {
        let found = !self.inbox.is_empty();
        for _ in &self.receive {
            let was_full = self.inbox.is_full();
            self.counters.taken_over.add(self.inbox.len() as u64);
            self.inbox.receive(now, &self.iface_of_port, &mut self.forwarder, &mut self.outbox);
            if !was_full {
                break;
            }
            self.inbox.fill();
        }
        found
    }

    /// Hears what the offload manager says, a few words per round.
    #[inline(always)]
    fn poll_verdicts(&mut self, now: Time) -> bool {
        let Some(verdicts) = self.verdicts.as_mut().filter(|_| self.outbox.is_quit()) else { return false };
        let mut found = false;
        for _ in 0..VERDICTS {
            let Ok(verdict) = verdicts.pop() else { break };
            found = true;
            self.forwarder.verdict(now, verdict, &mut self.outbox);
        }
        found
    }

    /// Looks for a command, and goes on with the walk of the last one. True while that is not at its end.
    fn serve_control(&mut self, now: Time, busy: bool) -> bool {
        let Some(control) = &mut self.control else { return false };
        if let Ok(command) = control.commands.pop() {
            match command {
                Command::Plan(mut plan) => {
                    // In the same box goes the old one back, so that nothing is freed here.
                    self.forwarder.set_plan(&mut plan);
                    self.query.answer(Event::PlanTaken(plan));
                }
                Command::Sessions { question, filter, cursor, limit } => {
                    self.query.sessions(question, filter, cursor, limit);
                }
                Command::Ports { question } => self.query.ports(question),
            }
        }
        self.query.step(now, busy, &mut self.forwarder, &mut control.events)
    }
}

/// Gives the frames of each port to the forwarder, together and in their order.
#[inline(always)]
fn receive_by_port<const N: usize>(
    mut frames: [Option<Mbuf>; N],
    iface: impl Fn(u16) -> IfaceId,
    now: Time,
    forwarder: &mut Forwarder<Mbuf>,
    out: &mut impl Output<Mbuf>,
) {
    while let Some(port) = frames.iter().flatten().next().map(Mbuf::port) {
        let same = frames.iter_mut().filter_map(|place| place.take_if(|frame| frame.port() == port));
        forwarder.receive(now, iface(port), same, out);
    }
}
