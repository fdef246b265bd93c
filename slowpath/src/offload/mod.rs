//! The offload manager: moves established sessions into a P4 target, watches them there, and takes them back.
//!
//! ```text
//!  workers ── Request ring each ──▶ ┌──────────── task (thread carom-offload) ────────────┐
//!     ▲                             │  Book: sessions, their two entries, verdicts        │ Write ──▶
//!     └─────── Verdict ring each ── │  Replica: next hops, services, addresses, ports     │ Read ◀──▶ target
//!  gate ◀── threshold ───────────── │  Stats: rates, latencies, failures                  │ notices ◀─
//!                                   └─────────────────────────────────────────────────────┘
//!                                      ▲ plan, next-hop table      ▲ Ask: status, counters
//! ```
//!
//! `Book` and `Replica` are pure: time is an argument, writes and verdicts are what they return. `task` is the
//! thin shell around them that owns the connection, the rings and the clock. What workers and manager may say to each other is
//! in [`fullnat::offload`].

mod book;
pub(crate) mod flows;
mod program;
mod replica;
pub mod stats;
mod strays;
mod task;
#[cfg(test)]
mod testing;
pub(crate) mod wire;

use std::sync::Arc;
use std::time::Duration;

use fullnat::id::WorkerId;
use fullnat::neighbor::Neighbors;
use fullnat::offload::{Counted, Gate, Place, Request, Threshold, Verdict};
use fullnat::plan::Plan;
use fullnat::spread::Placement;
use hashbrown::HashMap;
use runtime_client::write::WriteConfig;
use runtime_client::{Address, ConnectError};
use tokio::sync::{mpsc, oneshot, watch};

pub use program::{Chip, Form, Kind, Program, ProgramError};
pub use stats::Status;

/// Requests of a worker that wait for the manager.
const REQUESTS: usize = 4096;
/// Verdicts that wait for a worker.
const VERDICTS: usize = 4096;
/// Questions of control that wait.
const ASKS: usize = 16;

/// What the manager is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the target is.
    pub address: Address,
    /// Which device of it; never 0.
    pub device_id: u64,
    /// The role; empty is the default role, with access to everything.
    pub role: String,
    /// With what it stands for election among controllers of the role: the highest wins.
    pub election_id: u64,
    /// The program the target has to run.
    pub program: Program,
    /// Which sessions are offloaded.
    pub policy: Policy,
    /// After a refused install a session is not asked for again for so long.
    pub retry: Duration,
    /// All tables are read and compared this often.
    pub sweep: Duration,
    /// The target's port the slow path is at.
    pub link_port: u32,
    /// The target's ports that are our interfaces, by interface id.
    pub switch_ports: Vec<u32>,
    /// Workers of the slow path.
    pub workers: usize,
    /// Most punts of each service; none: no limit.
    pub punt_rate: Option<PuntRate>,
    /// Which worker has which session: those that the target has at the start are adopted. None: their entries are deleted.
    pub placement: Option<Placement>,
    /// The target takes idle timeouts where the program has them.
    pub idle_timeouts: bool,
    /// How writes are gathered.
    pub write: WriteConfig,
}

impl Settings {
    /// The program for BMv2, policy "established", one worker, and otherwise what suits most.
    pub fn bmv2(address: Address, link_port: u32, switch_ports: Vec<u32>) -> Self {
        Settings {
            address,
            device_id: 1,
            role: String::new(),
            election_id: 1,
            program: Program::bmv2(),
            policy: Policy::Established,
            retry: Duration::from_secs(1),
            sweep: Duration::from_secs(300),
            link_port,
            switch_ports,
            workers: 1,
            punt_rate: None,
            placement: None,
            idle_timeouts: true,
            // Reading a table of 40 000 entries takes it 11 s, in which it writes nothing.
            write: WriteConfig { timeout: Duration::from_secs(30), ..WriteConfig::default() },
        }
    }
}

/// What of [`Settings`] can change while the manager runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// Which sessions are offloaded from now on. Those that are, stay.
    pub policy: Policy,
    /// See [`Settings::retry`].
    pub retry: Duration,
    /// See [`Settings::sweep`].
    pub sweep: Duration,
    /// See [`Settings::punt_rate`].
    pub punt_rate: Option<PuntRate>,
}

/// Packets that the switch punts for one service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PuntRate {
    /// Packets per second.
    pub rate: u32,
    /// Packets at once.
    pub burst: u32,
}

/// Which established sessions are worth their entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// None.
    Never,
    /// All.
    Established,
    /// Those with so many packets of both directions.
    Packets(u32),
    /// Those with so many bytes of both directions.
    Bytes(u32),
    /// Those that had so many packets within a second.
    PacketsPerSecond(u16),
    /// All while the target has room and keeps up, then only those with more and more packets.
    Adaptive,
}

/// A worker's ends of the rings to the manager.
#[derive(Debug)]
pub struct OffloadEnds {
    /// What the worker asks.
    pub requests: rtrb::Producer<Request>,
    /// What it is told.
    pub verdicts: rtrb::Consumer<Verdict>,
}

/// The manager's ends of the rings to all workers.
#[derive(Debug)]
pub struct Rings {
    /// The threshold that workers read; they share it.
    pub gate: Arc<Gate>,
    workers: Vec<Ring>,
}

#[derive(Debug)]
struct Ring {
    requests: rtrb::Consumer<Request>,
    verdicts: rtrb::Producer<Verdict>,
}

/// Makes the rings between the manager and so many workers, and a closed gate.
pub fn rings(workers: usize) -> (Rings, Vec<OffloadEnds>) {
    let make = |_| {
        let (ask, requests) = rtrb::RingBuffer::new(REQUESTS);
        let (tell, verdicts) = rtrb::RingBuffer::new(VERDICTS);
        (Ring { requests, verdicts: tell }, OffloadEnds { requests: ask, verdicts })
    };
    let (own, theirs) = (0..workers).map(make).unzip();
    (Rings { gate: Arc::new(Gate::new(Threshold::Never)), workers: own }, theirs)
}

/// What control asks of the manager.
#[derive(Debug)]
enum Ask {
    Plan(Arc<Plan>),
    Tune(Tuning),
    Status(oneshot::Sender<Status>),
    Counters(Vec<(WorkerId, Place)>, oneshot::Sender<HashMap<(WorkerId, Place), Forwarded>>),
    Stop(oneshot::Sender<()>),
}

/// What the switch forwarded of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Forwarded {
    /// Since it was installed.
    pub total: Counted,
    /// The part of it that the worker was not told yet.
    pub untold: Counted,
}

/// The manager's thread has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the offload manager has ended")]
pub struct Gone;

/// Why the manager did not start. That the target cannot be reached is no error: it goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The target's address or its certificates make no sense.
    #[error("target: {0}")]
    Connect(#[from] ConnectError),
    /// The program's artifacts are not what they should be.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The thread or its runtime.
    #[error("cannot start the offload manager's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Control's handle to the manager. When the last one is gone, the manager ends.
#[derive(Clone, Debug)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    filled: watch::Receiver<u64>,
}

impl PuntRate {
    /// More than any link carries: what meters are set to when there is no limit any more.
    pub(crate) const NO_LIMIT: PuntRate = PuntRate { rate: u32::MAX, burst: u32::MAX };
}

impl Handle {
    /// Has the switch's static tables follow another plan. Returns when the manager has it, not when the switch does.
    pub async fn set_plan(&self, plan: Arc<Plan>) -> Result<(), Gone> {
        self.asks.send(Ask::Plan(plan)).await.map_err(|_| Gone)
    }

    /// Goes by other settings from now on. Returns when the manager has them.
    pub async fn tune(&self, tuning: Tuning) -> Result<(), Gone> {
        self.asks.send(Ask::Tune(tuning)).await.map_err(|_| Gone)
    }

    /// Counts how often a switch became ready whose tables had been empty: nothing we sent before can have got through.
    pub fn filled(&self) -> watch::Receiver<u64> {
        self.filled.clone()
    }

    /// How things stand. Reads the switch's counters of punts and drops, for which it waits a second at most.
    pub async fn status(&self) -> Result<Status, Gone> {
        let (answer, status) = oneshot::channel();
        self.asks.send(Ask::Status(answer)).await.map_err(|_| Gone)?;
        status.await.map_err(|_| Gone)
    }

    /// What the switch forwarded of those of these sessions that are offloaded. Reads their counters.
    pub async fn counters_of(
        &self,
        sessions: Vec<(WorkerId, Place)>,
    ) -> Result<HashMap<(WorkerId, Place), Forwarded>, Gone> {
        let (answer, counters) = oneshot::channel();
        self.asks.send(Ask::Counters(sessions, answer)).await.map_err(|_| Gone)?;
        counters.await.map_err(|_| Gone)
    }

    /// Ends the manager and waits until it has. Entries stay in the switch.
    pub async fn stop(&self) {
        let (done, end) = oneshot::channel();
        // Either way an error means that it has ended.
        if self.asks.send(Ask::Stop(done)).await.is_ok() {
            let _ = end.await;
        }
    }
}

/// Starts the manager on a thread of its own. It keeps the target's static tables in step with plan and next hops, and
/// serves the workers at the other ends of `rings` until the last handle is gone.
pub fn start(
    settings: Settings,
    plan: Arc<Plan>,
    neighbors: Arc<Neighbors>,
    rings: Rings,
) -> Result<Handle, StartError> {
    let pipeline = settings.program.pipeline()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (asks, asked) = mpsc::channel(ASKS);
    let (fills, filled) = watch::channel(0);
    let task = {
        // The client's own task is spawned here, and runs when the thread does.
        let _inside = runtime.enter();
        task::Task::new(settings, pipeline, plan, neighbors, rings, asked, fills)?
    };
    std::thread::Builder::new().name("carom-offload".into()).spawn(move || runtime.block_on(task.run()))?;
    Ok(Handle { asks, filled })
}
