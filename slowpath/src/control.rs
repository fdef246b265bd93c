//! What control and workers say to each other, over bounded rings. Workers never wait for an answer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fullnat::forward::{PortView, Prepared, SessionView};
use fullnat::id::{ServerId, ServiceId, WorkerId};
use fullnat::offload;
use serde::{Deserialize, Serialize};

/// Room in the ring to a worker; control sends one command and waits for its end.
const COMMANDS: usize = 4;
/// Room in the ring from a worker.
const EVENTS: usize = 1024;
/// How long a worker that is alive may take between two messages.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// A message to a worker.
#[derive(Debug)]
pub enum Command {
    /// Work by this plan from now on.
    Plan(Box<Prepared>),
    /// Walk over the sessions from `cursor` on and send those that pass the filter.
    Sessions {
        /// The question's number.
        question: u64,
        /// What to look for.
        filter: SessionFilter,
        /// Where to begin, from an earlier [`Event::SessionsEnd`]; 0 is the start.
        cursor: u64,
        /// Most sessions to send, at least 1.
        limit: usize,
    },
    /// Send the use of the local ports.
    Ports {
        /// The question's number.
        question: u64,
    },
}

/// A message from a worker.
#[derive(Debug)]
pub enum Event {
    /// Another plan is in force on the worker; this is the old one, for its memory to be freed by control.
    PlanTaken(Box<Prepared>),
    /// From here on the answer to this question follows, and nothing more of an earlier one.
    Begin(u64),
    /// A session that passed the filter.
    Session(SessionView),
    /// No more sessions to this query. `next` continues where the limit cut; `None` at the end of the table.
    SessionsEnd {
        /// Cursor for the next page.
        next: Option<u64>,
    },
    /// Ports of one local address towards one real server.
    Port(PortView),
    /// No more port records.
    PortsEnd,
}

/// Which sessions to list. An absent part matches every session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFilter {
    /// Client address prefix: address and length.
    pub client: Option<(IpAddr, u8)>,
    /// Service slot.
    #[serde(skip)]
    pub service: Option<ServiceId>,
    /// Server slots: one real server of several services has several.
    #[serde(skip)]
    pub servers: Option<Vec<ServerId>>,
    /// State name as printed, e.g. `established`.
    pub state: Option<String>,
    /// Where the session is with the offload target.
    #[serde(skip)]
    pub offload: Option<offload::State>,
}

/// One session as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct SessionRecord {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// The session.
    pub view: SessionView,
}

/// Local ports of one worker on one local address towards one real server.
#[derive(Clone, Copy, Debug)]
pub struct PortRecord {
    /// The worker.
    pub worker: WorkerId,
    /// The ports.
    pub view: PortView,
}

/// A worker's ends of the rings to control.
#[derive(Debug)]
pub struct WorkerEnds {
    /// What control wants.
    pub commands: rtrb::Consumer<Command>,
    /// What the worker answers.
    pub events: rtrb::Producer<Event>,
}

/// Control's ends of the rings to a worker.
#[derive(Debug)]
pub struct Link {
    commands: rtrb::Producer<Command>,
    events: rtrb::Consumer<Event>,
    question: u64,
}

/// A worker that does not take commands or does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Silent;

/// Makes the rings between control and one worker.
pub fn link() -> (Link, WorkerEnds) {
    let (to_worker, commands) = rtrb::RingBuffer::new(COMMANDS);
    let (events, from_worker) = rtrb::RingBuffer::new(EVENTS);
    (Link { commands: to_worker, events: from_worker, question: 0 }, WorkerEnds { commands, events })
}

impl Link {
    /// Puts a plan in force in place of the one with generation `last`, and waits until it is. The plan in force itself can
    /// be put in force again.
    pub async fn set_plan(&mut self, plan: Prepared, last: u64) -> Result<(), Silent> {
        self.commands.push(Command::Plan(Box::new(plan))).map_err(|_| Silent)?;
        // Generations are counted one by one, so this is the answer to this plan and to no earlier one.
        self.until(|event| matches!(event, Event::PlanTaken(old) if old.plan().generation == last).then_some(())).await
    }

    /// Asks for sessions; returns the cursor to go on from, `None` at the end.
    pub async fn sessions(
        &mut self,
        filter: SessionFilter,
        cursor: u64,
        limit: usize,
        mut take: impl FnMut(SessionView),
    ) -> Result<Option<u64>, Silent> {
        let question = self.next_question();
        self.commands.push(Command::Sessions { question, filter, cursor, limit }).map_err(|_| Silent)?;
        self.begin(question).await?;
        self.until(|event| match event {
            Event::SessionsEnd { next } => Some(next),
            Event::Session(view) => {
                take(view);
                None
            }
            _ => None,
        })
        .await
    }

    /// Asks for the use of the local ports.
    pub async fn ports(&mut self, mut take: impl FnMut(PortView)) -> Result<(), Silent> {
        let question = self.next_question();
        self.commands.push(Command::Ports { question }).map_err(|_| Silent)?;
        self.begin(question).await?;
        self.until(|event| match event {
            Event::PortsEnd => Some(()),
            Event::Port(view) => {
                take(view);
                None
            }
            _ => None,
        })
        .await
    }

    fn next_question(&mut self) -> u64 {
        self.question += 1;
        self.question
    }

    /// Passes over what is left of an earlier answer that nobody waited for.
    async fn begin(&mut self, question: u64) -> Result<(), Silent> {
        self.until(|event| matches!(event, Event::Begin(begun) if begun == question).then_some(())).await
    }

    /// Takes events until one of them is the end.
    async fn until<T>(&mut self, mut end: impl FnMut(Event) -> Option<T>) -> Result<T, Silent> {
        let mut heard = Instant::now();
        loop {
            while let Ok(event) = self.events.pop() {
                if let Some(answer) = end(event) {
                    return Ok(answer);
                }
                heard = Instant::now();
            }
            // A walk over a large table that finds nothing is silent for as long as it takes; see Query::step.
            if heard.elapsed() > PATIENCE {
                return Err(Silent);
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
}
