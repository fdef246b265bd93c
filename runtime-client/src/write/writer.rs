//! Gathers operations to batches and keeps several requests under way.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tonic::Status;

use super::answer::{Answer, Outcome};
use super::batch::Batch;
use super::wire::{Update, encode_sender};
use crate::Code;
use crate::codec;
use crate::error::SubmitError;
use crate::link::{Doubt, Link};

/// How writes are gathered and how many are under way.
#[derive(Clone, Debug)]
pub struct WriteConfig {
    /// Most updates of a request.
    pub batch: usize,
    /// Most bytes of a request, but one operation always fits. Servers refuse messages above 4 MiB unless told otherwise.
    pub batch_bytes: usize,
    /// A request that is not full goes out after this long at the latest; at once when no other is under way.
    pub delay: Duration,
    /// Most requests under way.
    pub in_flight: usize,
    /// Most updates that are neither settled nor refused by `submit`.
    pub pending: usize,
    /// After so long without answer the updates of a request count as unknown.
    pub timeout: Duration,
}

impl Default for WriteConfig {
    fn default() -> Self {
        Self {
            batch: 256,
            batch_bytes: 1 << 20,
            delay: Duration::from_millis(1),
            in_flight: 8,
            pending: 16 * 1024,
            timeout: Duration::from_secs(10),
        }
    }
}

/// The end of one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The key it was submitted with.
    pub key: u64,
    /// Its place in its operation. Updates of one operation are settled next to each other, in order.
    pub index: u16,
    /// Updates in the operation.
    pub of: u16,
    /// What became of it.
    pub outcome: Outcome,
}

/// Sums since the writer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Requests sent.
    pub requests: u64,
    /// Updates that were applied.
    pub applied: u64,
    /// Updates the target refused.
    pub refused: u64,
    /// Updates without a clear answer.
    pub unknown: u64,
    /// Updates that never left.
    pub not_sent: u64,
    /// Operations that waited for an earlier one of their key.
    pub waited: u64,
}

type Request = Pin<Box<dyn Future<Output = (Batch, Option<Bytes>, Result<(), Status>)> + Send>>;

/// An operation that waits for the one before it, encoded already.
struct Held {
    body: Box<[u8]>,
    updates: u16,
}

/// Writes of one owner. Made by [`Client::writer`](crate::Client::writer). When it is dropped, nobody learns what became of
/// the updates under way.
pub struct Writer {
    config: WriteConfig,
    device_id: u64,
    role: Box<str>,
    link: watch::Receiver<Link>,
    doubt: Doubt,
    /// Takes updates.
    open: Batch,
    /// When `open` goes out even if it is not full.
    deadline: Pin<Box<Sleep>>,
    /// Full, and waiting for room among the requests.
    full: VecDeque<Batch>,
    requests: FuturesUnordered<Request>,
    /// Keys with an operation under way, and what waits behind it.
    busy: HashMap<u64, VecDeque<Held>>,
    spare: Vec<Batch>,
    pending: usize,
    stats: WriteStats,
}

impl Writer {
    pub(crate) fn new(
        config: WriteConfig,
        device_id: u64,
        role: &str,
        link: watch::Receiver<Link>,
        doubt: Doubt,
    ) -> Self {
        Self {
            config,
            device_id,
            role: role.into(),
            link,
            doubt,
            open: Batch::default(),
            deadline: Box::pin(sleep_until(Instant::now())),
            full: VecDeque::new(),
            requests: FuturesUnordered::new(),
            busy: HashMap::new(),
            spare: Vec::new(),
            pending: 0,
            stats: WriteStats::default(),
        }
    }

    /// Takes an operation: updates that go out in one request and are settled together. Operations of one key are written
    /// one after the other, each when the one before is settled; those of different keys in any order. Never waits; nothing
    /// is sent before [`settle`](Self::settle) runs.
    pub fn submit(&mut self, key: u64, updates: &[Update<'_>]) -> Result<(), SubmitError> {
        let count = self.check(updates.len())?;
        match self.busy.entry(key) {
            Slot::Vacant(free) => {
                // An empty queue has no memory of its own.
                free.insert(VecDeque::new());
                self.make_room(count);
                updates.iter().for_each(|update| update.encode(&mut self.open.body));
                self.open.note(key, count);
            }
            Slot::Occupied(mut waiting) => {
                let mut body = Vec::new();
                updates.iter().for_each(|update| update.encode(&mut body));
                waiting.get_mut().push_back(Held { body: body.into(), updates: count });
                self.stats.waited += 1;
            }
        }
        self.pending += updates.len();
        Ok(())
    }

    /// Appends the ends of updates to `settled`: of all that came by now, or, if none did, of the next that come. Returns
    /// at once when nothing is pending. Runs all of the writer's work, so it has to be awaited while something is pending;
    /// dropping the future loses nothing.
    pub async fn settle(&mut self, settled: &mut Vec<Settled>) {
        poll_fn(|context| self.poll_settle(context, settled)).await;
    }

    /// Updates that are not settled.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Updates that [`submit`](Self::submit) still takes.
    pub fn room(&self) -> usize {
        self.config.pending.saturating_sub(self.pending)
    }

    /// Sums since the writer was made.
    pub fn stats(&self) -> WriteStats {
        self.stats
    }

    /// [`settle`](Self::settle) for callers that poll.
    pub fn poll_settle(&mut self, context: &mut Context<'_>, settled: &mut Vec<Settled>) -> Poll<()> {
        let before = settled.len();
        loop {
            self.send_what_is_due(context, settled);
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Ready(Some((batch, body, result))) => self.answered(batch, body, result, settled),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if settled.len() > before || self.pending == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    fn check(&self, updates: usize) -> Result<u16, SubmitError> {
        let most = self.config.batch;
        let count = u16::try_from(updates).ok().filter(|_| (1..=most).contains(&updates));
        let count = count.ok_or(SubmitError::Size { updates, most })?;
        if self.pending + updates > self.config.pending { Err(SubmitError::Full) } else { Ok(count) }
    }

    /// Sees to it that `open` takes so many more, and that its time runs.
    fn make_room(&mut self, updates: u16) {
        let full = self.open.len() + usize::from(updates) > self.config.batch
            || self.open.body.len() >= self.config.batch_bytes;
        if full && !self.open.is_empty() {
            self.close();
        }
        if self.open.is_empty() {
            self.deadline.as_mut().reset(Instant::now() + self.config.delay);
        }
    }

    fn close(&mut self) {
        let next = self.spare.pop().unwrap_or_default();
        self.full.push_back(mem::replace(&mut self.open, next));
    }

    fn send_what_is_due(&mut self, context: &mut Context<'_>, settled: &mut Vec<Settled>) {
        while self.requests.len() < self.config.in_flight {
            if self.full.is_empty() && self.is_open_due(context) {
                self.close();
            }
            let Some(batch) = self.full.pop_front() else { return };
            self.send(batch, settled);
        }
    }

    fn is_open_due(&mut self, context: &mut Context<'_>) -> bool {
        !self.open.is_empty()
            && (self.open.len() >= self.config.batch
                || self.requests.is_empty()
                || self.deadline.as_mut().poll(context).is_ready())
    }

    /// Sends a batch if the client may; else it is settled at once.
    fn send(&mut self, mut batch: Batch, settled: &mut Vec<Settled>) {
        let link = self.link.borrow();
        let (true, Some(channel)) = (link.standing.is_primary(), link.channel.clone()) else {
            drop(link);
            return self.finish(batch, None, Answer::All(Outcome::NotSent), settled);
        };
        let election_id = link.election_id.map(Into::into);
        drop(link);
        encode_sender(self.device_id, &self.role, election_id, &mut batch.body);
        self.stats.requests += 1;
        let body = Bytes::from(mem::take(&mut batch.body));
        let limit = self.config.timeout;
        self.requests.push(Box::pin(async move {
            let result = timeout(limit, codec::write(channel, body.clone())).await;
            let result = result.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            (batch, Some(body), result)
        }));
    }

    fn answered(&mut self, batch: Batch, body: Option<Bytes>, result: Result<(), Status>, settled: &mut Vec<Settled>) {
        if matches!(&result, Err(status) if status.code() == Code::PermissionDenied) {
            // The target does not take this client for the primary. Have it say so.
            self.doubt.raise();
        }
        let answer = Answer::of(result, batch.len());
        self.finish(batch, body, answer, settled);
    }

    fn finish(&mut self, mut batch: Batch, body: Option<Bytes>, answer: Answer, settled: &mut Vec<Settled>) {
        let mut each = match answer {
            Answer::All(outcome) => std::iter::repeat_n(outcome, batch.len()).collect(),
            Answer::Each(outcomes) => outcomes,
        }
        .into_iter();
        settled.reserve(batch.len());
        self.pending -= batch.len();
        let operations = mem::take(&mut batch.operations);
        for operation in &operations {
            for (index, outcome) in (0..operation.updates).zip(&mut each) {
                self.count(&outcome);
                settled.push(Settled { key: operation.key, index, of: operation.updates, outcome });
            }
            self.release(operation.key);
        }
        batch.operations = operations;
        batch.recycle(body);
        if self.spare.len() <= self.config.in_flight {
            self.spare.push(batch);
        }
    }

    /// Lets the next operation of a key go, or frees the key.
    fn release(&mut self, key: u64) {
        let Slot::Occupied(mut waiting) = self.busy.entry(key) else { return };
        match waiting.get_mut().pop_front() {
            None => {
                waiting.remove();
            }
            Some(held) => {
                self.make_room(held.updates);
                self.open.body.extend_from_slice(&held.body);
                self.open.note(key, held.updates);
            }
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        let sum = match outcome {
            Outcome::Applied => &mut self.stats.applied,
            Outcome::Refused(_) => &mut self.stats.refused,
            Outcome::Unknown(_) => &mut self.stats.unknown,
            Outcome::NotSent => &mut self.stats.not_sent,
        };
        *sum += 1;
    }
}
