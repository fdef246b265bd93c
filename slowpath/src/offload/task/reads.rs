//! Reads: looks at counters, whole tables for sweeps, and what control asks for.

use std::future::pending;
use std::time::Duration;

use carom_p4::Table;
use fullnat::id::WorkerId;
use fullnat::offload::Place;
use hashbrown::{HashMap, HashSet};
use runtime_client::pipeline::Brought;
use runtime_client::proto::p4::v1::TableEntry;
use runtime_client::{Client, Code, PipelineError, Query, RequestError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Task;
use super::link::Stage;
use crate::offload::Forwarded;
use crate::offload::book::{Found, Look, Moment, SessionId};
use crate::offload::flows::{FlowKey, Flows};
use crate::offload::replica::row_of;
use crate::offload::strays::Strays;
use crate::offload::wire::{self, Tells};

/// Sessions of one read request: two entries each.
const SESSIONS: usize = 128;
/// Read requests of looks under way.
const MOST_LOOKS: usize = 4;
/// A read that says nothing for so long has failed. Targets may take their time to put a large table together.
const PATIENCE: Duration = Duration::from_secs(60);
/// Chunks of a table that wait to be compared; the target waits behind them.
const CHUNKS: usize = 2;

/// The end of a job.
pub(super) enum Done {
    /// The pipeline, and of which epoch.
    BroughtUp(u64, Result<Brought, PipelineError>),
    /// A look: its sessions, and what it found.
    Looked(Look, Vec<SessionId>, Result<Vec<Found>, RequestError>),
    /// Counters for control.
    News(HashSet<SessionId>, Vec<Found>, oneshot::Sender<HashMap<(WorkerId, Place), Forwarded>>),
}

/// Which tables are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    /// The static ones.
    Rows,
    /// The flow tables.
    Flows,
}

/// A walk over whole tables.
pub(super) struct Scan {
    of: Of,
    chunks: mpsc::Receiver<Chunk>,
}

/// A part of a walk.
pub(super) enum Chunk {
    /// Some entries.
    Entries(Vec<TableEntry>),
    /// There are no more.
    End,
    /// There may be more, but this is what happened.
    Failed(RequestError),
}

/// The next part; never when there is no walk.
pub(super) async fn next_chunk(scan: &mut Option<Scan>) -> Chunk {
    let Some(scan) = scan else { return pending().await };
    // The walk ends with one of the last two, so its end without them is that of its task.
    scan.chunks.recv().await.unwrap_or(Chunk::Failed(RequestError::NotConnected))
}

impl Task {
    /// Begins to read sessions' entries that are to be looked at.
    pub(super) fn look(&mut self, now: Moment) {
        while self.looks_under_way < MOST_LOOKS && self.book.wants_looks() {
            let mut sessions = Vec::with_capacity(SESSIONS);
            let look = self.book.next_looks(SESSIONS, &mut sessions, now);
            if sessions.is_empty() {
                continue;
            }
            let keys = sessions.iter().flat_map(|(_, ends)| keys_of(self.book.flows(), ends)).collect();
            let ids = sessions.into_iter().map(|(id, _)| id).collect();
            let (client, tells, patience) = (self.client.clone(), self.tells, self.settings.write.timeout);
            self.looks_under_way += 1;
            self.jobs.spawn(async move { Done::Looked(look, ids, read_flows(&client, keys, tells, patience).await) });
        }
    }

    /// Begins to read whole tables.
    pub(super) fn scan_tables(&mut self, of: Of) {
        let form = self.settings.program.form;
        let tables: Vec<Table> = match of {
            Of::Rows => form.static_tables().collect(),
            Of::Flows => form.flow_tables().to_vec(),
        };
        match of {
            Of::Rows => self.replica.look_begin(false),
            Of::Flows => {
                self.book.sweep_begin();
                // Later than at the start an entry of nobody is one that was applied late.
                let adopts = self.stage == Stage::ReadingFlows && self.settings.placement.is_some();
                self.strays = adopts.then(Strays::default);
            }
        }
        let (sender, chunks) = mpsc::channel(CHUNKS);
        // What a session had in an earlier life is not news of this one.
        let counted = self.tells.counts && self.strays.is_some() && of == Of::Flows;
        let client = self.client.clone();
        // It ends when nobody takes its chunks any more.
        tokio::spawn(async move {
            let end = match read_tables(&client, &tables, counted, &sender).await {
                Ok(()) => Chunk::End,
                Err(error) => Chunk::Failed(error),
            };
            let _ = sender.send(end).await;
        });
        self.scan = Some(Scan { of, chunks });
    }

    /// Takes a part of a walk.
    pub(super) fn scanned(&mut self, chunk: Chunk) {
        let now = self.now();
        let Some(Scan { of, .. }) = self.scan else { return };
        match (chunk, of) {
            (Chunk::Entries(entries), Of::Rows) => {
                for (key, action) in entries.iter().filter_map(row_of) {
                    self.replica.look_found(key, action);
                    // What the target had before us: flow entries of that time name it.
                    if self.stage == Stage::ReadingRows
                        && let Some(ids) = self.book.flows_mut().ids()
                    {
                        ids.take_over(&key, &action);
                    }
                }
                self.follow_ids();
            }
            (Chunk::Entries(entries), Of::Flows) => {
                for entry in &entries {
                    let Some(found) = wire::found(entry) else { continue };
                    let does = wire::flow_action_of(entry);
                    if self.book.sweep_entry(&found, does) {
                        match &mut self.strays {
                            Some(strays) => strays.push(found.key, does, found.count),
                            None => self.book.orphan(found.key),
                        }
                    }
                }
            }
            (Chunk::Failed(error), _) => {
                self.scan = None;
                self.failed(format!("reading tables: {error}"), now);
            }
            (Chunk::End, of) => {
                self.scan = None;
                self.scan_ended(of, now);
            }
        }
    }

    fn scan_ended(&mut self, of: Of, now: Moment) {
        match of {
            Of::Rows => self.replica.look_end(),
            Of::Flows => self.book.sweep_end(now),
        }
        match (self.stage, of) {
            (Stage::ReadingRows, Of::Rows) => self.go(Stage::WritingRows, now),
            (Stage::ReadingFlows, Of::Flows) => self.go(Stage::Adopting, now),
            (Stage::Ready, Of::Rows) => self.scan_tables(Of::Flows),
            (Stage::Ready, Of::Flows) => {
                self.next_sweep = now.after(self.settings.sweep.as_millis() as u64);
            }
            _ => {}
        }
    }

    /// Reads counters for control.
    pub(super) fn read_news(
        &mut self,
        sessions: &[(WorkerId, Place)],
        answer: oneshot::Sender<HashMap<(WorkerId, Place), Forwarded>>,
    ) {
        let ids = sessions.iter().map(|(worker, place)| SessionId::new(*worker, *place));
        let offloaded: Vec<_> = ids.filter_map(|id| Some((id, self.book.offloaded(id)?))).collect();
        let keys: Vec<FlowKey> = offloaded.iter().flat_map(|(_, ends)| keys_of(self.book.flows(), ends)).collect();
        let ids = offloaded.into_iter().map(|(id, _)| id).collect();
        let (client, tells, patience) = (self.client.clone(), self.tells, self.settings.write.timeout);
        self.jobs.spawn(async move {
            let mut found = Vec::with_capacity(keys.len());
            for part in keys.chunks(2 * SESSIONS) {
                // What cannot be read is left out.
                found.extend(read_flows(&client, part.to_vec(), tells, patience).await.unwrap_or_default());
            }
            Done::News(ids, found, answer)
        });
    }

    /// Takes the end of a job.
    pub(super) fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::BroughtUp(epoch, _) if epoch != self.epoch => {}
            Done::BroughtUp(_, Ok(brought)) => self.brought_up(brought, now),
            Done::BroughtUp(_, Err(error)) => self.failed(error.to_string(), now),
            Done::Looked(look, ids, result) => {
                self.looks_under_way -= 1;
                self.book.looked(look, ids.into_iter(), result.as_deref().ok(), now);
                if let Err(error) = result {
                    self.last_error = Some(format!("reading counters: {error}"));
                }
            }
            Done::News(ids, found, answer) => {
                let mut news = self.book.news(&found);
                news.retain(|id, _| ids.contains(id));
                let news = news.into_iter().map(|(id, forwarded)| ((id.worker(), id.place()), forwarded));
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(news.collect());
            }
        }
    }
}

fn keys_of(flows: &Flows, ends: &fullnat::offload::AnyEnds) -> [FlowKey; 2] {
    use fullnat::flow::Direction::{Inbound, Outbound};
    [Inbound, Outbound].map(|direction| flows.key(ends, direction))
}

/// Reads entries with what the target tells of them.
async fn read_flows(
    client: &Client,
    keys: Vec<FlowKey>,
    tells: Tells,
    patience: Duration,
) -> Result<Vec<Found>, RequestError> {
    let read = async {
        match read_with(client, &keys, tells).await {
            // It has idle timeouts and does not tell.
            Err(RequestError::Refused(refusal))
                if tells.ages && matches!(refusal.code, Code::Unimplemented | Code::InvalidArgument) =>
            {
                read_with(client, &keys, Tells { ages: false, ..tells }).await
            }
            other => other,
        }
    };
    timeout(patience, read).await.unwrap_or(Err(RequestError::NotConnected))
}

async fn read_with(client: &Client, keys: &[FlowKey], tells: Tells) -> Result<Vec<Found>, RequestError> {
    let mut pages = client.look_up(wire::look_up(keys, tells)).await?;
    let mut found = Vec::with_capacity(keys.len());
    while let Some(page) = pages.next().await? {
        for entry in page.entries() {
            found.extend(wire::seen(&entry?));
        }
    }
    Ok(found)
}

async fn read_tables(
    client: &Client,
    tables: &[Table],
    counted: bool,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), RequestError> {
    let late = |_| RequestError::NotConnected;
    for table in tables {
        let query = Query::table(table.id);
        let query = if counted && Flows::is_watched(table) { query.with_counters() } else { query };
        let mut reading = timeout(PATIENCE, client.read(query)).await.map_err(late)??;
        while let Some(entries) = timeout(PATIENCE, reading.next()).await.map_err(late)?? {
            if chunks.send(Chunk::Entries(entries)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
