//! The sweep: all flow entries of the target against all sessions of the book.
//!
//! The answer to a read is older than what was settled since it was asked. So nothing is concluded about a session
//! that was not offloaded before the read began, and of an entry only that nobody has its key now. If that is wrong all the
//! same, because its session is being installed again, the delete makes an entry that is missing: its packets take the slow
//! path, and the next sweep gives the session back. Never is an entry left that nobody owns.
//!
//! After a start with a pipeline that was kept, every entry is of an earlier life. Those may become sessions before they are
//! orphans: [`Book::sweep_entry`] says which they are.

use super::session::{Found, Moment, Phase, SessionId, Sides};
use super::{Book, FlowKey, Write};
use crate::offload::flows::FlowAction;

impl Book {
    /// A sweep begins: the flow tables are read from now on.
    pub fn sweep_begin(&mut self) {
        self.sweep += 1;
        self.orphans_left = 0;
        self.unfit &= self.counts.removing > 0;
        self.swept = false;
        if let Some(ids) = self.flows.ids() {
            ids.sweep_begins();
        }
    }

    /// An entry of a flow table, and what it does; none: nothing that an entry of ours does. True: it is nobody's, and the caller
    /// decides whether it is an orphan.
    #[must_use]
    pub fn sweep_entry(&mut self, found: &Found, does: Option<FlowAction>) -> bool {
        let Some(owner) = self.owner(&found.key) else { return !self.offered_keys.contains(&found.key) };
        let Some(session) = self.sessions.get_mut(&owner.id) else { return false };
        if session.phase == Phase::Offloaded && does == Some(self.flows.action(&session.ends, owner.direction)) {
            let sides = if session.swept.0 == self.sweep { session.swept.1 } else { Sides::NONE };
            session.swept = (self.sweep, sides.with(owner.direction));
        }
        false
    }

    /// The read came to its end: sessions whose entries were not found have lost them.
    pub fn sweep_end(&mut self, now: Moment) {
        let sweep = self.sweep;
        let lost = |(id, session): (&SessionId, &super::session::Session)| {
            let due = session.phase == Phase::Offloaded && session.installed_in < sweep;
            (due && session.swept != (sweep, Sides::BOTH)).then_some(*id)
        };
        let lost: Vec<SessionId> = self.sessions.iter().filter_map(lost).collect();
        for id in lost {
            self.lose(id, now);
        }
        self.stats.totals.sweeps += 1;
        self.swept = true;
        self.note_clean_sweep();
    }

    /// Ids that nobody needed when it began are named by no entry when all that nobody owned is gone.
    pub(super) fn note_clean_sweep(&mut self) {
        if self.swept
            && self.orphans_gone() == Some(true)
            && let Some(ids) = self.flows.ids()
        {
            ids.sweep_is_clean();
        }
    }

    /// Whether all orphans of the last sweep are gone, and entries that were adopted but do not fit; none: some are still being
    /// deleted.
    pub fn orphans_gone(&self) -> Option<bool> {
        let unfit = self.unfit && self.counts.removing > 0;
        (self.orphans.is_empty() && !unfit).then_some(self.orphans_left == 0)
    }

    /// The target lost all entries at once.
    pub fn wiped(&mut self, now: Moment) {
        let gone =
            |(id, session): (&SessionId, &super::session::Session)| (session.phase == Phase::Offloaded).then_some(*id);
        let gone: Vec<SessionId> = self.sessions.iter().filter_map(gone).collect();
        for id in gone {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.asked_at = now;
            }
            self.stats.totals.lost += 1;
            self.removed(id, now);
        }
        self.wiped_offers = self.last_offer;
        if let Some(ids) = self.flows.ids() {
            ids.wiped();
        }
    }

    /// An entry of nobody is to go.
    pub fn orphan(&mut self, key: FlowKey) {
        if self.orphan_keys.insert(key) {
            self.last_orphan = self.last_orphan.wrapping_add(1);
            self.orphans.insert(self.last_orphan, key);
            self.writes.push_back(Write::Orphan { ticket: self.last_orphan, key });
        }
    }
}
