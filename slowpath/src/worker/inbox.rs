//! Where a worker finds what other workers hand over to it.

use dpdk::{Burst, Consumer, Mbuf};
use fullnat::forward::{Forwarder, Output};
use fullnat::id::IfaceId;
use fullnat::time::Time;

use super::{BURST, receive_by_port};

/// Frames that are taken at once, over all rings. Where packets come to any of the workers as it happens, those of two
/// interfaces bring less in a round.
const TAKEN: usize = 2 * BURST;

/// The rings from other workers, and what was taken out of them.
pub struct Inbox {
    rings: Vec<Consumer>,
    /// The ring that is looked at first the next time, so that each comes to it.
    first: usize,
    taken: Burst<TAKEN>,
}

impl Inbox {
    /// Over the taking ends of the rings.
    pub fn new(rings: Vec<Consumer>) -> Self {
        Inbox { rings, first: 0, taken: Burst::new() }
    }

    /// Takes what has come, as far as there is room, and asks for it to come near: buffer and frame were another core's. The
    /// worker does something else meanwhile, since that takes longer than to forward a packet.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        let (last, first) = self.rings.split_at_mut(self.first);
        for ring in first.iter_mut().chain(last) {
            ring.dequeue_burst(&mut self.taken);
        }
        self.first = if self.first + 1 < self.rings.len() { self.first + 1 } else { 0 };
        self.taken.iter().for_each(Mbuf::prefetch_received);
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Whether there may be more in the rings.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.taken.is_full()
    }

    /// Gives what was taken to the forwarder.
    #[inline(always)]
    pub(super) fn receive(
        &mut self,
        now: Time,
        iface_of_port: &[IfaceId],
        forwarder: &mut Forwarder<Mbuf>,
        out: &mut impl Output<Mbuf>,
    ) {
        if self.taken.is_empty() {
            return;
        }
        let mut frames = [const { None }; TAKEN];
        for (place, frame) in frames.iter_mut().zip(self.taken.drain()) {
            *place = Some(frame);
        }
        let iface = |port| iface_of_port.get(usize::from(port)).copied().unwrap_or_default();
        receive_by_port(frames, iface, now, forwarder, out);
    }
}
