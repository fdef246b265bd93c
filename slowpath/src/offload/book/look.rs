//! Looks at counters: because the target gave notice, a worker asked, or a session ends.
//!
//! A session is idle when no packet of either direction came for its timeout. The target's word for it is the time since
//! each entry's last hit, where it tells that. Where it does not, counters must not have moved between two looks that are
//! the timeout apart; for a worker's question a session that was never hit counts as looked at when it was installed, since
//! the worker knows of the time before. Notices only say when it is worth looking: a lost one
//! costs time, a repeated one a read. Where entries do not count, the time since their last hit alone decides. By ids the entry that outbound packets find counts and ages for both directions.

use fullnat::offload::{AnyEnds, Counted, Verdict};
use hashbrown::HashMap;

use super::session::{Answer, Found, Moment, Phase, QUEUED, SessionId, Sides};
use super::{Book, FlowKey};
use crate::offload::Forwarded;

/// A look under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    number: u32,
    began: Moment,
}

impl Book {
    /// The target gave notice that no packet hit an entry for its idle time.
    pub fn notice(&mut self, key: &FlowKey) {
        self.stats.totals.notices += 1;
        let Some(owner) = self.owner(key) else { return };
        let Some(session) = self.sessions.get_mut(&owner.id) else { return };
        session.notices = session.notices.with(owner.direction);
        let watched = self.flows.watched(&session.ends);
        // One direction alone may be quiet for as long as it likes.
        if session.phase == Phase::Offloaded && session.notices == watched && session.look == 0 {
            self.queue_look(owner.id);
        }
    }

    /// A worker asks whether a session is idle.
    pub(super) fn check(&mut self, id: SessionId) {
        self.stats.totals.checks += 1;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // In any other phase it will hear of the end.
        if session.phase == Phase::Offloaded {
            session.checked = true;
            if session.look == 0 {
                self.queue_look(id);
            }
        }
    }

    pub(super) fn queue_look(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.look != QUEUED
        {
            session.look = QUEUED;
            self.looks.push_back(id);
        }
    }

    /// Appends up to `most` sessions whose entries are to be read with counters and times of the last hit. This look has to
    /// end in [`Book::looked`].
    pub fn next_looks(&mut self, most: usize, looks: &mut Vec<(SessionId, AnyEnds)>, now: Moment) -> Look {
        // 0 and the highest have a meaning of their own.
        self.last_look = self.last_look % (QUEUED - 1) + 1;
        let end = looks.len() + most;
        while looks.len() < end
            && let Some(id) = self.looks.pop_front()
        {
            if let Some(session) = self.sessions.get_mut(&id)
                && session.look == QUEUED
            {
                session.look = self.last_look;
                (session.found, session.quiet, session.moved) = (Sides::NONE, Sides::NONE, false);
                looks.push((id, session.ends));
            }
        }
        Look { number: self.last_look, began: now }
    }

    /// Whether there is something to look at.
    pub fn wants_looks(&self) -> bool {
        !self.looks.is_empty()
    }

    /// The end of a look: the entries that were found, or that it could not be done.
    pub fn looked(&mut self, look: Look, ids: impl Iterator<Item = SessionId>, found: Option<&[Found]>, now: Moment) {
        for found in found.unwrap_or_default() {
            self.take(look.number, found);
        }
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            // Its place may be another session's by now, or it is to be looked at once more.
            if session.look != look.number {
                continue;
            }
            session.look = 0;
            match session.phase {
                Phase::Reading => self.clean(id, Answer::Removed, Sides::BOTH, 0, now),
                Phase::Offloaded if found.is_none() => self.unseen(id),
                Phase::Offloaded if session.found != Sides::BOTH => self.lose(id, now),
                Phase::Offloaded => self.judge(id, look.began, now),
                Phase::Waiting | Phase::Inserting | Phase::Cleaning(_) => {}
            }
        }
    }

    fn take(&mut self, look: u32, found: &Found) {
        let Some(owner) = self.owner(&found.key) else { return };
        let Some(session) = self.sessions.get_mut(&owner.id) else { return };
        if session.look != look {
            return;
        }
        session.take(owner.direction, found.count);
        session.found = session.found.with(owner.direction);
        if found.quiet_ms.is_some_and(|ms| ms >= session.idle_ms) {
            session.quiet = session.quiet.with(owner.direction);
        }
    }

    /// It could not be looked at: nobody can say that it is idle.
    fn unseen(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.notices = Sides::NONE;
        if std::mem::take(&mut session.checked) {
            let counted = session.tell();
            self.tell(id, Verdict::Active(id.place(), counted));
        }
    }

    /// What was read is of some moment between `began` and `now`.
    fn judge(&mut self, id: SessionId, began: Moment, now: Moment) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let checked = std::mem::take(&mut session.checked);
        if session.moved {
            session.moved_at = Some(now);
        }
        // A worker's clock and this one do not tick together.
        let enough = session.idle_ms - session.idle_ms / 16;
        let long_since = |moment: Moment| began.ms_since(moment) >= enough;
        let still = self.config.counts
            && !session.moved
            && session.moved_at.is_none_or(long_since)
            && (checked || long_since(session.installed_at));
        let watched = self.flows.watched(&session.ends);
        session.notices = session.quiet;
        let counted = session.tell();
        if still || session.quiet == watched {
            session.notices = Sides::NONE;
            self.stats.totals.idle += 1;
            self.tell(id, Verdict::Idle(id.place(), counted));
        } else if checked || counted != Counted::default() {
            self.tell(id, Verdict::Active(id.place(), counted));
        }
    }

    /// A session lacks an entry it should have: what it has goes, and the worker gets it back.
    pub(super) fn lose(&mut self, id: SessionId, now: Moment) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.asked_at = now;
        self.stats.totals.lost += 1;
        self.counts.offloaded -= 1;
        self.counts.removing += 1;
        self.clean(id, Answer::Removed, Sides::BOTH, 0, now);
    }

    /// The ends of a session that is offloaded.
    pub fn offloaded(&self, id: SessionId) -> Option<AnyEnds> {
        let session = self.sessions.get(&id)?;
        (session.phase == Phase::Offloaded).then_some(session.ends)
    }

    /// What these entries counted, by session, and what of it the workers do not know.
    pub fn news(&self, found: &[Found]) -> HashMap<SessionId, Forwarded> {
        let mut news: HashMap<SessionId, Forwarded> = HashMap::new();
        for found in found {
            if let Some(owner) = self.owner(&found.key)
                && let Some(session) = self.sessions.get(&owner.id)
            {
                let side = owner.direction as usize;
                let Forwarded { total, untold } = news.entry(owner.id).or_default();
                for (counted, count) in [(total, found.count), (untold, session.news(owner.direction, found.count))] {
                    (counted.packets[side], counted.bytes[side]) = (count.packets, count.bytes);
                }
            }
        }
        news
    }
}
