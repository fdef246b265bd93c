//! Packets of other workers' sessions that their keys give away: they are handed over without being looked up.
//!
//! That is so where interfaces promise nothing and each session is made at the worker that its keys name. What the key does
//! not tell is found out by the lookup, and handed over by [admission](super::admit); so is the first one of all, with which a
//! worker begins to look at keys.

use arrayvec::ArrayVec;

use crate::addr::Addr;
use crate::flow::Direction;
use crate::forward::{BURST, Batch, Desk, Family, Output, Rx};
use crate::frame::Frame;
use crate::id::WorkerId;
use crate::plan::Plan;

/// Places for addresses of ours, of which few are in use at a time.
const PLACES: usize = 64;

/// Batches that are sorted out after one that had packets of other workers; where all come to their own, none is. What it
/// costs to look is a tenth of a packet's time.
const SORTED: u8 = u8::MAX;

/// The directions of packets by the address they go to, as the plan told them.
pub(super) struct Directions<A> {
    /// By the last bits of the address, in which addresses of a pool differ.
    places: [(A, Option<Direction>); PLACES],
}

impl<A: Addr> Directions<A> {
    pub(super) fn new() -> Self {
        // Nothing of ours goes there.
        Directions { places: [(A::UNSPECIFIED, None); PLACES] }
    }

    /// There is another plan.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }

    #[inline(always)]
    fn of(&mut self, plan: &Plan, to: A) -> Option<Direction> {
        let place = &mut self.places[to.words()[1] as usize % PLACES];
        if place.0 != to {
            *place = (to, direction_to(plan, to));
        }
        place.1
    }
}

#[cold]
fn direction_to<A: Addr>(plan: &Plan, to: A) -> Option<Direction> {
    plan.direction_to(to.into())
}

impl<F: Frame> Desk<F> {
    /// Hands a packet over to its worker. The batches that follow are sorted out.
    #[inline(always)]
    pub(super) fn strayed(&mut self, rx: Rx<'_>, owner: WorkerId, frame: F, out: &mut impl Output<F>) {
        self.unsorted = SORTED;
        out.hand_over(owner, rx.iface, frame);
    }

    /// Hashes the keys of a batch, hands over the packets that are other workers' by them, and moves the others together.
    /// The lines of the index are asked for, as [`Lookup::hash`](super::Lookup::hash) does.
    #[inline(never)]
    pub(super) fn sort_out<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        batch: &mut Batch<'_, F, A>,
        out: &mut impl Output<F>,
    ) {
        let Batch { frames, lookup } = batch;
        let Family { sessions, directions, .. } = family;
        let len = frames.len();
        if len == 0 {
            return;
        }
        sessions.hash_all(&lookup.keys[..len], &mut lookup.hashes[..len]);
        let mut ours = ArrayVec::<F, BURST>::new();
        for (at, frame) in frames.drain(..).enumerate() {
            let (flow, hash) = (lookup.flows[at], lookup.hashes[at]);
            let direction = directions.of(rx.plan, flow.key.dst);
            let owner = direction.and_then(|direction| self.spread.by_key(direction, &flow.key, hash));
            if let Some(other) = owner.filter(|&owner| owner != self.worker) {
                self.strayed(rx, other, frame, out);
                continue;
            }
            F::prefetch(sessions.bucket(hash));
            let to = ours.len();
            (lookup.keys[to], lookup.flows[to], lookup.hashes[to]) = (lookup.keys[at], flow, hash);
            ours.push(frame);
        }
        if ours.len() == len {
            self.unsorted = self.unsorted.saturating_sub(1);
        }
        *frames = ours;
    }
}
