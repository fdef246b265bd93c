//! What a worker of the daemon polls: the queues of devices, or rings to a switch in the same process.

use dpdk::{Burst, Consumer, Producer, RxQueue, TxQueue};

use super::{BURST, Receive, Transmit};

/// Where frames come from.
pub enum Source {
    /// A device.
    Queue(RxQueue),
    /// A switch in this process.
    Ring(Consumer),
}

/// Where frames go.
pub enum Sink {
    /// A device.
    Queue(TxQueue),
    /// A switch in this process.
    Ring(Producer),
}

impl Receive for Source {
    #[inline(always)]
    fn receive(&mut self, burst: &mut Burst<BURST>) -> usize {
        match self {
            Source::Queue(queue) => queue.receive(burst),
            Source::Ring(ring) => ring.dequeue_burst(burst),
        }
    }
}

impl Transmit for Sink {
    #[inline(always)]
    fn send(&mut self, burst: &mut Burst<BURST>) -> usize {
        match self {
            Sink::Queue(queue) => queue.send(burst),
            Sink::Ring(ring) => ring.enqueue_burst(burst),
        }
    }
}
