//! What the log is told of the target: each change of state once.

use runtime_client::{ElectionId, Standing};

use super::Task;
use super::link::Stage;

/// A state that somebody may want to know of. What lasts a moment only is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Attempts to connect fail.
    Unreached,
    /// Another controller is primary, with an election id of at least this.
    Backup(Option<ElectionId>),
    /// Connected and primary, but something on the way up fails.
    Failing,
    /// Installs are taken.
    Ready,
}

impl News {
    fn of(stage: Stage, standing: Standing, attempts: u64) -> Option<News> {
        match (stage, standing) {
            (Stage::Ready, _) => Some(News::Ready),
            (Stage::Paused(_), Standing::Primary) => Some(News::Failing),
            (_, Standing::Backup { highest, .. }) => Some(News::Backup(highest)),
            // The first attempt is under way.
            (_, Standing::Disconnected) => (attempts > 1).then_some(News::Unreached),
            _ => None,
        }
    }
}

impl Task {
    /// Writes to the log what has changed since the last round.
    pub(super) fn tell(&mut self) {
        let Some(news) = News::of(self.stage, self.client.standing(), self.client.stats().attempts) else { return };
        let before = self.told.replace(news);
        if before == Some(news) {
            return;
        }
        let target = &self.settings.address.target;
        match news {
            News::Unreached if before.is_none() => {
                let why = self.client.last_failure();
                tracing::warn!(target, "target not reached, and no packet comes until it is; trying on: {why}");
            }
            News::Unreached => {
                let why = self.client.last_failure();
                tracing::warn!(target, "connection to the target lost, it forwards what it has; trying again: {why}");
            }
            News::Backup(highest) => {
                let highest = highest.map_or(0, |ElectionId(id)| id);
                let own = self.settings.election_id;
                tracing::warn!(
                    target,
                    "another controller is the target's primary (highest election id {highest}, ours is {own}); nothing is \
                     installed until it is gone, or until target.election_id is raised and Carom started again"
                );
            }
            News::Failing => {
                let why = self.last_error.as_deref().unwrap_or("no reason given");
                tracing::warn!(target, "target not ready, trying again: {why}");
            }
            News::Ready => {
                let program = self.brought.map(|brought| format!("{brought:?}").to_lowercase()).unwrap_or_default();
                tracing::info!(target, program, "target ready, sessions can be offloaded");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::book::Moment;

    #[test]
    fn what_lasts_is_news() {
        let backup = Standing::Backup { other: true, highest: Some(ElectionId(9)) };
        for (stage, standing, attempts, news) in [
            (Stage::Down, Standing::Disconnected, 0, None),
            (Stage::Down, Standing::Disconnected, 1, None),
            (Stage::Down, Standing::Disconnected, 2, Some(News::Unreached)),
            (Stage::Down, Standing::Undecided, 2, None),
            (Stage::Down, backup, 1, Some(News::Backup(Some(ElectionId(9))))),
            (Stage::BringingUp, Standing::Primary, 1, None),
            (Stage::Paused(Moment(5)), Standing::Primary, 1, Some(News::Failing)),
            (Stage::WritingRows, Standing::Primary, 1, None),
            (Stage::Ready, Standing::Primary, 1, Some(News::Ready)),
        ] {
            assert_eq!(News::of(stage, standing, attempts), news, "{stage:?} {standing:?} {attempts}");
        }
    }
}
