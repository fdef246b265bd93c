//! How far the target is: from a connection to "installs are taken", and back.

use runtime_client::Standing;
use runtime_client::pipeline::Brought;

use super::Task;
use super::reads::{Done, Of};
use crate::offload::book::Moment;

/// After a failure on the way up it is tried again after so long.
const PAUSE_MS: u64 = 1_000;

/// How far the target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Not connected, or not primary.
    Down,
    /// Something failed; again at this moment.
    Paused(Moment),
    /// The pipeline is being looked at, and set if need be.
    BringingUp,
    /// Static tables are being read.
    ReadingRows,
    /// Static tables are being written.
    WritingRows,
    /// Flow tables are being read.
    ReadingFlows,
    /// Workers make sessions of entries that have none.
    Adopting,
    /// Entries without a session are being deleted.
    Clearing,
    /// Installs are taken.
    Ready,
}

impl Stage {
    /// The target runs the program, and takes writes from us.
    pub fn is_up(self) -> bool {
        !matches!(self, Stage::Down | Stage::Paused(_) | Stage::BringingUp)
    }

    /// It is known what the static tables hold.
    pub fn writes_rows(self) -> bool {
        self.is_up() && self != Stage::ReadingRows
    }
}

impl Task {
    /// Notices changes of the connection, and goes on when a stage is done.
    pub(super) fn follow_link(&mut self, now: Moment) {
        let primary = self.client.standing().is_primary();
        let connections = self.client.stats().connections;
        if self.stage != Stage::Down && (!primary || connections != self.connections) {
            self.go(Stage::Down, now);
        }
        match self.stage {
            Stage::Down if primary => {
                self.connections = connections;
                self.go(Stage::BringingUp, now);
            }
            Stage::Paused(until) if now >= until => self.go(Stage::BringingUp, now),
            Stage::WritingRows if self.replica.is_settled() => self.go(Stage::ReadingFlows, now),
            Stage::Adopting if self.book.is_answered() => self.go(Stage::Clearing, now),
            Stage::Clearing => match self.book.orphans_gone() {
                None => {}
                Some(true) => self.go(Stage::Ready, now),
                Some(false) => self.failed("entries without a session could not be deleted".into(), now),
            },
            Stage::Ready if self.scan.is_none() && now >= self.next_sweep => {
                self.scan_tables(Of::Rows);
            }
            _ => {}
        }
    }

    /// Enters a stage.
    pub(super) fn go(&mut self, stage: Stage, now: Moment) {
        self.stage = stage;
        if !stage.is_up() {
            self.epoch += 1;
            self.scan = None;
            self.book.set_writable(false);
            self.replica.set_with_named(false);
        }
        match stage {
            Stage::Down | Stage::Paused(_) | Stage::WritingRows | Stage::Clearing => {}
            Stage::Adopting => self.offer(),
            Stage::BringingUp => self.bring_up(),
            Stage::ReadingRows => self.scan_tables(Of::Rows),
            Stage::ReadingFlows => self.scan_tables(Of::Flows),
            Stage::Ready => {
                self.next_sweep = now.after(self.settings.sweep.as_millis() as u64);
                self.replica.set_with_named(true);
                self.book.set_ready(true);
                if self.brought == Some(Brought::Committed) {
                    self.fills.send_modify(|fills| *fills += 1);
                }
            }
        }
    }

    fn bring_up(&mut self) {
        let (client, pipeline, epoch) = (self.client.clone(), self.pipeline.clone(), self.epoch);
        let entries = self.settings.program.kind.entries();
        self.jobs.spawn(async move { Done::BroughtUp(epoch, client.bring_up(&pipeline, entries).await) });
    }

    /// The pipeline runs.
    pub(super) fn brought_up(&mut self, brought: Brought, now: Moment) {
        self.brought = Some(brought);
        self.book.set_writable(true);
        if brought == Brought::Committed {
            self.book.wiped(now);
            self.replica.look_begin(true);
            self.go(Stage::WritingRows, now);
        } else {
            self.go(Stage::ReadingRows, now);
        }
    }

    /// Something on the way up failed, or a sweep did.
    pub(super) fn failed(&mut self, what: String, now: Moment) {
        self.last_error = Some(what);
        self.go(Stage::Paused(now.after(PAUSE_MS)), now);
    }
}

/// A standing's name in JSON.
pub(super) fn name_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Disconnected => "disconnected",
        Standing::Undecided => "undecided",
        Standing::Primary => "primary",
        Standing::Backup { .. } => "backup",
    }
}
