//! The manager's thread: rings, connection and clock around the pure parts.

use std::sync::Arc;
use std::time::Duration;

use fullnat::neighbor::Neighbors;
use fullnat::offload::{Request, Verdict};
use fullnat::plan::Plan;
use runtime_client::pipeline::{Brought, Pipeline};
use runtime_client::{Client, Config, ConnectError, ElectionId, Events, Role, Standing};
use tokio::sync::mpsc;

use super::program::DeviceProgram;
use super::{Ask, Rings, Settings, Status};

/// Rings are looked at this often.
const POLL: Duration = Duration::from_millis(1);

/// What the thread owns.
pub(super) struct Task {
    settings: Settings,
    pipeline: Pipeline<DeviceProgram>,
    plan: Arc<Plan>,
    _neighbors: Arc<Neighbors>,
    rings: Rings,
    asks: mpsc::Receiver<Ask>,
    client: Client,
    _events: Events,
    brought: Option<Brought>,
    last_error: Option<String>,
    refused: u64,
}

impl Task {
    pub fn new(
        settings: Settings,
        pipeline: Pipeline<DeviceProgram>,
        plan: Arc<Plan>,
        neighbors: Arc<Neighbors>,
        rings: Rings,
        asks: mpsc::Receiver<Ask>,
    ) -> Result<Self, ConnectError> {
        let (client, events) = Client::start(Config {
            role: Role::named(settings.role.clone()),
            election_id: Some(ElectionId(settings.election_id.into())),
            ..Config::new(settings.address.clone(), settings.device_id)
        })?;
        let (brought, last_error, refused) = (None, None, 0);
        Ok(Task {
            settings,
            pipeline,
            plan,
            _neighbors: neighbors,
            rings,
            asks,
            client,
            _events: events,
            brought,
            last_error,
            refused,
        })
    }

    /// Until all handles are gone.
    pub async fn run(mut self) {
        loop {
            self.serve_rings();
            if self.brought.is_none() && self.client.standing().is_primary() {
                match self.client.bring_up(&self.pipeline, self.settings.program.kind.entries()).await {
                    Ok(brought) => self.brought = Some(brought),
                    Err(error) => self.last_error = Some(error.to_string()),
                }
            }
            match tokio::time::timeout(POLL, self.asks.recv()).await {
                Err(_) => {}
                Ok(Some(Ask::Plan(plan))) => self.plan = plan,
                // Whoever asked may have gone meanwhile.
                Ok(Some(Ask::Status(answer))) => {
                    let _ = answer.send(self.status());
                }
                Ok(Some(Ask::Counters(sessions, answer))) => {
                    let _ = answer.send(hashbrown::HashMap::with_capacity(sessions.len()));
                }
                Ok(Some(Ask::Stop(done))) => {
                    let _ = done.send(());
                    return;
                }
                Ok(None) => return,
            }
        }
    }

    /// Nothing is installed yet, so that installs are refused and nothing else can be asked.
    fn serve_rings(&mut self) {
        let retry = self.settings.retry.as_millis() as u64;
        for ring in &mut self.rings.workers {
            while ring.verdicts.slots() > 0
                && let Ok(request) = ring.requests.pop()
            {
                if let Request::Install { place, .. } = request {
                    self.refused += u64::from(ring.verdicts.push(Verdict::Refused(place, retry)).is_ok());
                }
            }
        }
    }

    fn status(&self) -> Status {
        let standing = self.client.standing();
        let mut status = Status {
            address: self.settings.address.target.clone(),
            kind: self.settings.program.kind.name().into(),
            device_id: self.settings.device_id,
            role: self.settings.role.clone(),
            election_id: self.settings.election_id,
            connected: standing != Standing::Disconnected,
            standing: name_of(standing).into(),
            cookie: format!("{:016x}", self.pipeline.cookie),
            pipeline: self.brought.map(|brought| format!("{brought:?}").to_lowercase()),
            threshold: "never".into(),
            last_error: self.last_error.clone(),
            ..Status::default()
        };
        status.totals.refused = self.refused;
        status
    }
}

fn name_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Disconnected => "disconnected",
        Standing::Undecided => "undecided",
        Standing::Primary => "primary",
        Standing::Backup { .. } => "backup",
    }
}
