//! Sessions that the target has from an earlier life, and what has to wait until they are known.
//!
//! A session that began before that could get a local port, or a client's tuple, of which the target has entries: these would
//! catch its packets. So workers begin none until all is known. Not for ever: a target that cannot be reached has
//! sessions nobody knows of, and those that would meet one of them are few.

use fullnat::neighbor::Neighbors;
use fullnat::offload::Request;

use super::Task;
use super::link::Stage;
use crate::offload::book::{Book, Moment};
use crate::offload::replica::{Replica, relabel};

/// A target that has not begun to tell what it has by then is not waited for.
const PATIENCE_MS: u64 = 10_000;

impl Task {
    /// Offers each session that was found to the worker whose it is. All other entries of nobody are orphans.
    pub(super) fn offer(&mut self) {
        let (Some(strays), Some(placement)) = (self.strays.take(), &self.settings.placement) else { return };
        let (pairs, orphans) = strays.pair(&self.plan, self.book.flows());
        orphans.into_iter().for_each(|key| self.book.orphan(key));
        for pair in pairs {
            // Where its next hop is not known any more, the plan's own choice does.
            let [_, to_client] = pair.nexthops();
            let back = self.replica.iface_of(to_client).or_else(|| pair.way_back(&self.plan));
            match back.and_then(|back| Some((placement.home(&self.plan, &pair.ends, back)?, back))) {
                Some((worker, back)) if usize::from(worker.0) < self.rings.len() => self.book.offer(worker, pair, back),
                _ => self.book.orphan_both(&pair),
            }
        }
    }

    /// Lets workers begin sessions when it is known what the target has, or will not be known soon.
    pub(super) fn hold(&mut self, now: Moment) {
        if !self.holding {
            return;
        }
        let learning = matches!(
            self.stage,
            Stage::ReadingRows | Stage::WritingRows | Stage::ReadingFlows | Stage::Adopting | Stage::Clearing
        );
        if self.stage == Stage::Ready || (!learning && now >= Moment(0).after(PATIENCE_MS)) {
            self.holding = false;
            self.gate.hold(false);
        }
    }
}

/// A worker's request as the book takes it: with next hops as they are called in the target. Entries that are adopted stay only if
/// their next hops can be called as they are in them.
pub(super) fn labelled(request: Request, book: &Book, replica: &mut Replica, neighbors: &Neighbors) -> Request {
    match request {
        Request::Install { place, ends, idle_ms } => {
            Request::Install { place, ends: relabel(&ends, |id| replica.label(id)), idle_ms }
        }
        Request::Adopted { ticket, place, nexthops, idle_ms, stays } => {
            let labels = book.offered(ticket).map(|pair| pair.nexthops());
            let fits = labels.is_some_and(|labels| {
                let mut ways = nexthops.into_iter().zip(labels);
                ways.all(|(id, label)| replica.claim(neighbors, id, label))
            });
            Request::Adopted { ticket, place, nexthops, idle_ms, stays: stays && fits }
        }
        other => other,
    }
}
