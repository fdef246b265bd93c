//! The manager's thread: rings, connection and clock around the pure parts.
//!
//! One round: take requests from the rings, give writes to the writer and looks to readers, push verdicts, set the
//! gate; then wait for whatever comes first of results, notices, questions, or the next look at the rings. Workers make no system
//! call to wake this thread, so it polls their rings: every millisecond while something happens, less often else.
//!
//! ```text
//!  primary        bring up the pipeline      kept: read      write         read flow tables,      orphans
//!  ─────────▶ ──────────────────────────▶ static tables ─▶ static tables ─▶ compare ─────────▶ are gone ─▶ ready: gate opens
//!                                └ committed: all is empty ┘
//! ```
//!
//! Between reading the flow tables and deleting orphans, sessions of an earlier life are offered to their workers
//! ([`adopt`]).

mod adopt;
mod journal;
mod link;
mod output;
mod reads;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fullnat::id::WorkerId;
use fullnat::neighbor::Neighbors;
use fullnat::offload::{Request, Threshold, Verdict};
use fullnat::plan::Plan;
use runtime_client::pipeline::{Brought, Pipeline};
use runtime_client::write::{Settled, Writer};
use runtime_client::{Client, Config, ElectionId, Event, Events, Role};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::book::{Book, BookConfig, Moment, Reach};
use super::flows::{Flows, Ids, Need};
use super::program::{DeviceProgram, Form, ProgramError};
use super::replica::{Ports, Replica};
use super::strays::Strays;
use super::wire::{self, Tells};
use super::{Ask, Ring, Rings, Settings, StartError, Tuning};
use adopt::labelled;
use link::Stage;
use reads::{Done, Scan};

/// Rings are looked at this often while something happens.
const SHORT_POLL: Duration = Duration::from_millis(1);
/// Rings are looked at this often when nothing happened for [`QUIET_AFTER`].
const LONG_POLL: Duration = Duration::from_millis(5);
/// How long it takes from the last event to the longer waits.
const QUIET_AFTER: u64 = 100;
/// Requests taken from a ring in a round.
const REQUESTS_PER_ROUND: usize = 256;
/// Notices taken in a round; each may name many entries.
const EVENTS_PER_ROUND: usize = 16;
/// Between the two passes over entries that nobody knows of.
const GRACE_MS: u64 = 2_000;

/// What the thread owns.
pub(super) struct Task {
    settings: Settings,
    pipeline: Arc<Pipeline<DeviceProgram>>,
    neighbors: Arc<Neighbors>,
    gate: Arc<fullnat::offload::Gate>,
    rings: Vec<Queue>,
    /// What the target can tell of flow entries; with idle timeouts only if it takes them.
    tells: Tells,
    /// Whose turn it is to be first.
    first_ring: usize,
    asks: mpsc::Receiver<Ask>,
    /// Counts the times that the target became ready with tables that had been empty.
    fills: watch::Sender<u64>,
    client: Client,
    events: Events,
    writer: Writer,
    settled: Vec<Settled>,
    book: Book,
    replica: Replica,
    stage: Stage,
    /// Counts stages that began anew: what was asked for in an earlier one is not answered in this.
    epoch: u64,
    connections: u64,
    brought: Option<Brought>,
    jobs: JoinSet<Done>,
    looks_under_way: usize,
    scan: Option<Scan>,
    /// The plan in force, for what is adopted.
    plan: Arc<Plan>,
    /// Entries that the sweep under way found and nobody owns; none: they are orphans at once.
    strays: Option<Strays>,
    /// Workers begin no session yet.
    holding: bool,
    next_sweep: Moment,
    nexthops_seen: u64,
    thresholds: [Threshold; 2],
    origin: Instant,
    busy_at: Moment,
    second: u64,
    last_error: Option<String>,
    /// What the log was told last.
    told: Option<journal::News>,
}

impl Drop for Task {
    /// However it ends: workers must not ask in vain for ever.
    fn drop(&mut self) {
        self.gate.set([Threshold::Never; 2]);
        self.gate.hold(false);
    }
}

/// How far something is that flow entries name.
fn reach(replica: &Replica, neighbors: &Neighbors, need: &Need) -> Reach {
    match need {
        Need::Nexthop(id) => replica.reach(neighbors, *id),
        Need::Row(key, action) => replica.reach_small(key, action),
    }
}

/// The rings of a worker, and the verdicts that did not fit.
struct Queue {
    ring: Ring,
    late: std::collections::VecDeque<Verdict>,
}

impl Task {
    pub fn new(
        mut settings: Settings,
        pipeline: Pipeline<DeviceProgram>,
        plan: Arc<Plan>,
        neighbors: Arc<Neighbors>,
        rings: Rings,
        asks: mpsc::Receiver<Ask>,
        fills: watch::Sender<u64>,
    ) -> Result<Self, StartError> {
        let (client, events) = Client::start(Config {
            role: Role::named(settings.role.clone()),
            election_id: Some(ElectionId(settings.election_id.into())),
            ..Config::new(settings.address.clone(), settings.device_id)
        })?;
        // A session is two updates in one request.
        settings.write.batch = settings.write.batch.max(2);
        settings.write.pending = settings.write.pending.max(2 * settings.write.batch);
        let writer = client.writer(settings.write.clone());
        let form = settings.program.form;
        let tells = report::flows_tell(&pipeline.p4info, form);
        let tells = Tells { ages: tells.ages && settings.idle_timeouts, ..tells };
        if !tells.counts && !tells.ages {
            return Err(ProgramError::Silent.into());
        }
        let flows = match form {
            Form::Plain => Flows::Plain,
            Form::Ids => Flows::ByIds(Box::new(Ids::new(report::id_room(&pipeline.p4info)))),
        };
        let config = BookConfig {
            retry_ms: settings.retry.as_millis() as u64,
            grace_ms: GRACE_MS,
            size: report::flow_sizes(&pipeline.p4info, form),
            unknown_is_full: settings.program.kind.says_unknown_when_full(),
            operations: settings.write.pending / 2,
            counts: tells.counts,
        };
        let book = Book::new(config, flows);
        let ports = Ports {
            link: settings.link_port,
            interfaces: settings.switch_ports.clone(),
            workers: settings.workers.min(usize::from(u8::MAX)) as u8,
            punt_rate: settings.punt_rate,
        };
        let queue = |ring| Queue { ring, late: Default::default() };
        rings.gate.hold(settings.placement.is_some());
        Ok(Task {
            tells,
            replica: Replica::new(ports, &plan),
            holding: settings.placement.is_some(),
            strays: None,
            plan,
            settings,
            pipeline: Arc::new(pipeline),
            neighbors,
            gate: rings.gate,
            rings: rings.workers.into_iter().map(queue).collect(),
            first_ring: 0,
            asks,
            fills,
            client,
            events,
            writer,
            settled: Vec::new(),
            book,
            stage: Stage::Down,
            epoch: 0,
            connections: 0,
            brought: None,
            jobs: JoinSet::new(),
            looks_under_way: 0,
            scan: None,
            next_sweep: Moment(0),
            nexthops_seen: 0,
            thresholds: [Threshold::Never; 2],
            origin: Instant::now(),
            busy_at: Moment(0),
            second: 0,
            last_error: None,
            told: None,
        })
    }

    /// Until all handles are gone.
    pub async fn run(mut self) {
        loop {
            self.round();
            if self.wait().await.is_break() {
                return;
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(self.origin.elapsed().as_micros() as u64)
    }

    fn round(&mut self) {
        let now = self.now();
        self.take_settled(now);
        self.follow_link(now);
        self.tell();
        self.take_requests(now);
        self.book.tick(now);
        self.follow_ids();
        self.follow_nexthops();
        self.write(now);
        // Ids whose entries are gone are free before the gate opens, or the first that come would be refused.
        self.follow_ids();
        self.look(now);
        self.deliver();
        self.set_gate();
        self.hold(now);
        let second = now.0 / 1_000_000;
        if std::mem::replace(&mut self.second, second) != second {
            self.book.stats.second();
        }
    }

    fn take_requests(&mut self, now: Moment) {
        let rings = self.rings.len();
        // Another one first in each round, so that none waits for ever behind the others when there is no room for all.
        self.first_ring = (self.first_ring + 1) % rings.max(1);
        for number in (0..rings).map(|n| (self.first_ring + n) % rings) {
            let (queue, worker) = (&mut self.rings[number], WorkerId(number as u8));
            for _ in 0..REQUESTS_PER_ROUND {
                if !self.book.has_room() {
                    return;
                }
                let Ok(request) = queue.ring.requests.pop() else { break };
                self.busy_at = now;
                if matches!(request, Request::Install { .. }) && self.stage.is_up() {
                    // A next hop of a new session may be new too.
                    self.replica.follow(&self.neighbors);
                }
                let request = labelled(request, &self.book, &mut self.replica, &self.neighbors);
                self.book.request(worker, request, now, |need| reach(&self.replica, &self.neighbors, need));
            }
        }
    }

    fn follow_nexthops(&mut self) {
        self.replica.follow(&self.neighbors);
        let changes = self.replica.changes();
        if std::mem::replace(&mut self.nexthops_seen, changes) != changes {
            self.book.needs_changed(|need| reach(&self.replica, &self.neighbors, need));
        }
    }

    /// Has the small tables say what the ids of flow entries stand for.
    pub(super) fn follow_ids(&mut self) {
        let Some(ids) = self.book.flows_mut().ids() else { return };
        self.replica.gone_small().for_each(|key| ids.gone(&key));
        ids.wants().for_each(|(key, action)| self.replica.want_small(key, action));
    }

    /// Pushes verdicts into the workers' rings, in order; what does not fit waits here.
    fn deliver(&mut self) {
        for queue in &mut self.rings {
            while let Some(verdict) = queue.late.pop_front() {
                if let Err(rtrb::PushError::Full(verdict)) = queue.ring.verdicts.push(verdict) {
                    queue.late.push_front(verdict);
                    break;
                }
            }
        }
        while let Some((worker, verdict)) = self.book.next_verdict() {
            // Sessions are only ever those of workers that have rings.
            let Some(queue) = self.rings.get_mut(usize::from(worker.0)) else { continue };
            if !queue.late.is_empty() {
                queue.late.push_back(verdict);
            } else if let Err(rtrb::PushError::Full(verdict)) = queue.ring.verdicts.push(verdict) {
                queue.late.push_back(verdict);
            }
        }
    }

    fn set_gate(&mut self) {
        let thresholds = self.book.thresholds(self.settings.policy);
        if std::mem::replace(&mut self.thresholds, thresholds) != thresholds {
            self.gate.set(thresholds);
        }
    }

    /// Waits for the next thing to do, and takes it. Break: it is time to end.
    async fn wait(&mut self) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        let quiet = self.now().ms_since(self.busy_at) >= QUIET_AFTER && self.writer.pending() == 0;
        let poll = if quiet { LONG_POLL } else { SHORT_POLL };
        tokio::select! {
            () = self.writer.settle(&mut self.settled), if self.writer.pending() > 0 => {}
            Some(event) = self.events.next() => {
                self.event(event);
                for _ in 0..EVENTS_PER_ROUND {
                    let Some(event) = self.events.try_next() else { break };
                    self.event(event);
                }
            }
            ask = self.asks.recv() => match ask {
                None => return Break(()),
                Some(Ask::Stop(done)) => {
                    // Whoever asked may have gone meanwhile.
                    let _ = done.send(());
                    return Break(());
                }
                Some(ask) => self.answer(ask),
            },
            Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                // A job that panicked has been told of by the panic; what it was for is tried again.
                if let Ok(done) = done {
                    self.done(done);
                }
            }
            chunk = reads::next_chunk(&mut self.scan) => self.scanned(chunk),
            () = tokio::time::sleep(poll) => {}
        }
        Continue(())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Idle(notice) => {
                for key in notice.table_entry.iter().filter_map(wire::flow_key_of) {
                    self.book.notice(&key);
                }
            }
            Event::Error(error) => self.last_error = Some(error.message),
            // The program sends neither.
            Event::Packet(_) | Event::Digest(_) => {}
        }
    }

    fn tune(&mut self, Tuning { policy, retry, sweep, punt_rate }: Tuning) {
        (self.settings.policy, self.settings.retry, self.settings.sweep) = (policy, retry, sweep);
        self.book.set_retry(retry.as_millis() as u64);
        self.replica.set_punt_rate(punt_rate);
        self.next_sweep = self.next_sweep.min(self.now().after(sweep.as_millis() as u64));
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Plan(plan) => {
                self.replica.set_plan(&plan);
                self.plan = plan;
            }
            Ask::Tune(tuning) => self.tune(tuning),
            Ask::Status(answer) => self.report(answer),
            Ask::Counters(sessions, answer) => self.read_news(&sessions, answer),
            Ask::Stop(_) => {}
        }
    }
}
