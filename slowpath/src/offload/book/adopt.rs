//! Entries of an earlier life that become sessions: offered to their workers, who make the sessions or decline.
//!
//! ```text
//!  found, both halves ─▶ offered ─┬ Adopted ──────────────────▶ offloaded
//!                                 ├ Adopted, entries unfit ───▶ cleaning ─▶ Removed
//!                                 └ Declined ─────────────────▶ two orphans
//! ```
//!
//! Whatever happens to the target meanwhile, each offer has one answer, and its keys are nobody else's until then.

use fullnat::id::{IfaceId, WorkerId};
use fullnat::offload::{Adoption, Place, Verdict};

use super::session::{Answer, DIRECTIONS, Moment, Phase, Session, SessionId, Sides};
use super::{Book, FlowKey, Owner};
use crate::offload::strays::Pair;

impl Book {
    /// Offers a session that was found to its worker. `back`: the interface to the client.
    pub fn offer(&mut self, worker: WorkerId, pair: Pair, back: IfaceId) {
        // It is made of ids that were read, so they are there.
        if !self.flows.take(&pair.ends) {
            return self.orphan_both(&pair);
        }
        self.last_offer = self.last_offer.wrapping_add(1);
        let ticket = self.last_offer;
        self.offered_keys.extend(pair.keys);
        self.offers.insert(ticket, pair);
        let packets = pair.counts.map(|count| count.packets);
        self.verdicts.push_back((worker, Verdict::Adopt(Adoption { ticket, ends: pair.ends, back, packets })));
    }

    /// What was offered and has no answer yet.
    pub fn offered(&self, ticket: u32) -> Option<&Pair> {
        self.offers.get(&ticket)
    }

    /// Whether all offers are answered.
    pub fn is_answered(&self) -> bool {
        self.offers.is_empty()
    }

    /// The worker has made the session. `stays`: its entries may, if they are still there.
    pub fn adopted(&mut self, ticket: u32, worker: WorkerId, place: Place, idle_ms: u64, stays: bool, now: Moment) {
        let Some(Pair { ends, counts, .. }) = self.take_offer(ticket) else { return };
        let stays = stays && ticket > self.wiped_offers;
        let id = SessionId::new(worker, place);
        for direction in DIRECTIONS {
            self.own(FlowKey::of(&ends, direction), Owner { id, direction });
        }
        let session = Session {
            phase: Phase::Offloaded,
            installed_at: now.max(Moment(1)),
            installed_in: self.sweep,
            seen: counts,
            told: counts,
            ..Session::new(ends, idle_ms, now)
        };
        self.sessions.insert(id, session);
        self.room(&ends).adopted();
        self.stats.totals.adopted += 1;
        if stays {
            self.counts.offloaded += 1;
        } else {
            self.counts.removing += 1;
            self.unfit = true;
            self.clean(id, Answer::Removed, Sides::BOTH, 0, now);
        }
    }

    /// The worker has no session for it.
    pub fn declined(&mut self, ticket: u32) {
        if let Some(pair) = self.take_offer(ticket) {
            self.flows.give(&pair.ends);
            self.orphan_both(&pair);
        }
    }

    /// The entries of a session that nobody has are to go.
    pub fn orphan_both(&mut self, pair: &Pair) {
        pair.keys.into_iter().for_each(|key| self.orphan(key));
    }

    fn take_offer(&mut self, ticket: u32) -> Option<Pair> {
        let pair = self.offers.remove(&ticket)?;
        pair.keys.iter().for_each(|key| _ = self.offered_keys.remove(key));
        Some(pair)
    }
}
