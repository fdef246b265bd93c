//! What became of writes, and what follows.

use std::cmp::Reverse;

use fullnat::offload::Verdict;
use runtime_client::Code;
use runtime_client::write::Outcome;

use super::session::{Answer, Cleanup, DIRECTIONS, Moment, Phase, SessionId, Sides};
use super::{Book, SHORT_RETRY_MS, Write};

/// The wait after the first pass of deletes that did not do it; doubled from one to the next.
const FIRST_WAIT_MS: u64 = 50;
/// No wait is longer.
const LONGEST_WAIT_MS: u64 = 5_000;

/// What became of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The target has it.
    Applied,
    /// The target said no.
    Refused(Code),
    /// Nobody knows.
    Unknown,
    /// It never left.
    NotSent,
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Applied => End::Applied,
            Outcome::Refused(refusal) => End::Refused(refusal.code),
            Outcome::Unknown(_) => End::Unknown,
            Outcome::NotSent => End::NotSent,
        }
    }
}

impl End {
    /// After a delete: the entry is not there.
    fn is_gone(self) -> bool {
        matches!(self, End::Applied | End::Refused(Code::NotFound))
    }
}

impl Book {
    /// The end of a session's operation: of each update, in the order they stand in it.
    pub fn settled(&mut self, id: SessionId, ends: impl Iterator<Item = End>, now: Moment) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(session) = self.sessions.get(&id) else { return };
        match session.phase {
            Phase::Inserting => self.inserted(id, ends, now),
            Phase::Cleaning(cleanup) => self.deleted(id, cleanup, ends, now),
            // Nothing of these is under way.
            Phase::Waiting | Phase::Offloaded | Phase::Reading => {}
        }
    }

    fn inserted(&mut self, id: SessionId, ends: impl Iterator<Item = End>, now: Moment) {
        let (mut there, mut unknown, mut full, mut old, mut sent) = (Sides::NONE, false, false, false, true);
        let Some(session) = self.sessions.get(&id) else { return };
        let (of, mut applied) = (session.ends, 0);
        for (end, direction) in ends.zip(DIRECTIONS) {
            match end {
                End::Applied => applied += 1,
                // Deleted by its key it might be another's that goes. If it is an old one of this key, the sweep finds it.
                End::Refused(Code::AlreadyExists) if !self.flows.keeps_key(&of, direction) => {
                    self.stats.refused_with(Code::AlreadyExists);
                    self.stats.totals.refused_hash += 1;
                    continue;
                }
                End::Refused(code) => {
                    self.stats.refused_with(code);
                    old |= code == Code::AlreadyExists;
                    full |= code == Code::ResourceExhausted || (code == Code::Unknown && self.config.unknown_is_full);
                }
                End::Unknown => unknown = true,
                End::NotSent => sent = false,
            }
            if matches!(end, End::Applied | End::Unknown | End::Refused(Code::AlreadyExists)) {
                there = there.with(direction);
            }
        }
        self.stats.totals.unknown += u64::from(unknown);
        self.stats.totals.not_sent += u64::from(!sent);
        self.stats.totals.already_there += u64::from(old);
        if applied == DIRECTIONS.len() {
            return self.installed(id, now);
        }
        if full {
            self.stats.totals.refused_full += 1;
            self.room(&of).refused(now);
        }
        let retry_ms = if old { SHORT_RETRY_MS.min(self.config.retry_ms) } else { self.config.retry_ms };
        self.counts.installing -= 1;
        self.counts.undoing += 1;
        let more = u8::from(unknown);
        self.clean(id, Answer::Refused(retry_ms), there, more, now);
    }

    fn installed(&mut self, id: SessionId, now: Moment) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.phase = Phase::Offloaded;
        // Later than the beginning of time, which means "never".
        session.installed_at = now.max(Moment(1));
        session.installed_in = self.sweep;
        self.stats.installs.record(now.since(session.asked_at));
        self.stats.totals.installed += 1;
        self.counts.installing -= 1;
        self.counts.offloaded += 1;
        let ends = session.ends;
        self.room(&ends).installed();
        self.tell(id, Verdict::Installed(id.place()));
    }

    /// Begins to delete entries; the counts are right already. With none to delete it ends at once.
    pub(super) fn clean(&mut self, id: SessionId, answer: Answer, open: Sides, more: u8, now: Moment) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.phase = Phase::Cleaning(Cleanup { answer, open, more, attempts: 0, busy: false });
        session.look = 0;
        if open == Sides::NONE && more == 0 {
            return self.finish(id, answer, now);
        }
        if self.writable {
            self.delete(id);
        } else {
            self.due.push(Reverse((now, id)));
        }
    }

    /// Writes the deletes of a cleanup.
    pub(super) fn delete(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Phase::Cleaning(cleanup) = &mut session.phase else { return };
        if !cleanup.busy {
            cleanup.busy = true;
            self.writes.push_back(Write::Delete { id, ends: session.ends, sides: cleanup.open });
        }
    }

    fn deleted(&mut self, id: SessionId, before: Cleanup, ends: impl Iterator<Item = End>, now: Moment) {
        let mut cleanup = Cleanup { busy: false, ..before };
        for (end, direction) in ends.zip(before.open.iter()) {
            self.count_delete(end);
            if end.is_gone() {
                cleanup.open = cleanup.open.without(direction);
            }
        }
        let wait = if cleanup.open != Sides::NONE {
            let wait = FIRST_WAIT_MS << cleanup.attempts.min(10);
            cleanup.attempts = cleanup.attempts.saturating_add(1);
            wait.min(LONGEST_WAIT_MS)
        } else if cleanup.more > 0 {
            cleanup = Cleanup { open: Sides::BOTH, more: cleanup.more - 1, attempts: 0, ..cleanup };
            self.config.grace_ms
        } else {
            return self.finish(id, cleanup.answer, now);
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.phase = Phase::Cleaning(cleanup);
            self.due.push(Reverse((now.after(wait), id)));
        }
    }

    fn count_delete(&mut self, end: End) {
        match end {
            End::Applied | End::Refused(Code::NotFound) => {}
            End::Refused(code) => self.stats.refused_with(code),
            End::Unknown => self.stats.totals.unknown += 1,
            End::NotSent => self.stats.totals.not_sent += 1,
        }
    }

    /// All entries of a cleanup are gone.
    fn finish(&mut self, id: SessionId, answer: Answer, now: Moment) {
        match answer {
            Answer::Refused(retry_ms) => {
                self.forget(id);
                self.refuse(id, retry_ms);
            }
            Answer::Removed => self.removed(id, now),
        }
    }

    /// Gives a session back to its worker.
    pub(super) fn removed(&mut self, id: SessionId, now: Moment) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.stats.removes.record(now.since(session.asked_at));
        self.stats.totals.removed += 1;
        let counted = session.tell();
        self.forget(id);
        self.tell(id, Verdict::Removed(id.place(), counted));
    }

    /// The end of an orphan's deletion.
    pub fn orphan_settled(&mut self, ticket: u32, end: End) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(key) = self.orphans.remove(&ticket) else { return };
        self.orphan_keys.remove(&key);
        self.count_delete(end);
        if end == End::Applied {
            self.stats.totals.orphans += 1;
        } else if !end.is_gone() {
            self.orphans_left += 1;
        }
        self.note_clean_sweep();
    }
}
