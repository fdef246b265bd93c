//! The task that keeps the connection: connects, stands for election, listens, and starts over.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::backoff::Waits;
use crate::client::{Config, Counters, Event};
use crate::connect::Address;
use crate::election::{ElectionId, Role, Standing};
use crate::link::{Command, Link};
use crate::proto::p4::v1::p4_runtime_client::P4RuntimeClient;
use crate::proto::p4::v1::stream_message_request::Update as Ours;
use crate::proto::p4::v1::stream_message_response::Update as Theirs;
use crate::proto::p4::v1::{StreamMessageRequest, StreamMessageResponse};

/// Messages on their way to the target; more wait in the queue of commands.
const OUTBOX: usize = 64;

/// After a doubt the target is not asked again for so long: it refuses every request of a batch of them.
const DOUBT_PAUSE: Duration = Duration::from_millis(200);

/// What ended a connection.
enum End {
    /// All handles of the client are gone.
    Finished,
    /// The connection or the stream broke; the reason is for people.
    Lost(String),
}

pub(crate) struct Session {
    endpoint: Endpoint,
    connect_timeout: Duration,
    device_id: u64,
    role: Role,
    election_id: Option<ElectionId>,
    waits: Waits,
    link: watch::Sender<Link>,
    failure: watch::Sender<String>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
}

impl Session {
    pub fn new(
        config: &Config,
        endpoint: Endpoint,
        link: watch::Sender<Link>,
        failure: watch::Sender<String>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        // Clients of one machine differ by where they lie in memory, those of several by their start.
        let seed = Instant::now().into_std().elapsed().as_nanos() as u64 ^ Arc::as_ptr(&counters) as u64;
        Self {
            endpoint,
            connect_timeout: config.address.timeout,
            device_id: config.device_id,
            role: config.role.clone(),
            election_id: config.election_id,
            waits: Waits::new(config.backoff.clone(), seed),
            link,
            failure,
            commands,
            events,
            counters,
        }
    }

    pub async fn run(mut self) {
        loop {
            let started = Instant::now();
            let mut lasted = Duration::ZERO;
            self.counters.attempts.fetch_add(1, Relaxed);
            let end = match Address::connect(&self.endpoint, self.connect_timeout).await {
                Ok(channel) => {
                    let end = self.listen(channel).await;
                    lasted = started.elapsed();
                    end
                }
                Err(reason) => End::Lost(reason),
            };
            self.link.send_replace(Link::down(self.election_id));
            match end {
                End::Finished => return,
                End::Lost(reason) => self.failure.send_replace(reason),
            };
            let wait = self.waits.after(lasted);
            if !self.pause(wait).await {
                return;
            }
        }
    }

    /// Waits, but hears commands. False: all handles are gone.
    async fn pause(&mut self, wait: Duration) -> bool {
        let rest = sleep(wait);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => return true,
                command = self.commands.recv() => match command {
                    None => return false,
                    Some(Command::Stand(id)) => {
                        self.election_id = id;
                        self.link.send_replace(Link::down(id));
                    }
                    // Packets do not wait for a connection: they would be stale.
                    Some(Command::Packet(_) | Command::Doubt) => {}
                },
            }
        }
    }

    /// One connection, from the first message of its stream to its end.
    async fn listen(&mut self, channel: Channel) -> End {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        // There is room: nothing was sent yet.
        let _ = outbox.try_send(self.candidacy());
        let mut service = P4RuntimeClient::new(channel.clone());
        let opened = timeout(self.connect_timeout, service.stream_channel(Outbox(messages))).await;
        let mut inbox = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return lost("opening the stream", &status),
            Err(_) => return End::Lost("the target did not open the stream in time".into()),
        };
        self.counters.connections.fetch_add(1, Relaxed);
        let (election_id, standing) = (self.election_id, Standing::Undecided);
        self.link.send_replace(Link { channel: Some(channel), standing, election_id });
        self.exchange(&mut inbox, &outbox).await
    }

    async fn exchange(
        &mut self,
        inbox: &mut Streaming<StreamMessageResponse>,
        outbox: &mpsc::Sender<StreamMessageRequest>,
    ) -> End {
        let mut quiet_until = Instant::now();
        loop {
            tokio::select! {
                message = inbox.message() => match message {
                    Ok(Some(message)) => self.heard(message),
                    Ok(None) => return End::Lost("the target ended the stream".into()),
                    Err(status) => return lost("the stream", &status),
                },
                // Only with room, so that what the target says is heard however slowly it takes ours.
                (room, command) = next_command(outbox, &mut self.commands) => {
                    let Some(room) = room else { return End::Lost("the stream takes no more".into()) };
                    let Some(command) = command else { return End::Finished };
                    self.obey(command, room, &mut quiet_until);
                }
            }
        }
    }

    fn obey(&mut self, command: Command, room: mpsc::Permit<'_, StreamMessageRequest>, quiet_until: &mut Instant) {
        match command {
            Command::Stand(id) => {
                self.election_id = id;
                // Until the target has answered, nobody knows.
                self.link.send_modify(|link| {
                    link.election_id = id;
                    link.standing = Standing::Undecided;
                });
                room.send(self.candidacy());
            }
            Command::Packet(packet) => room.send(request(Ours::Packet(packet))),
            Command::Doubt if Instant::now() < *quiet_until => {}
            Command::Doubt => {
                *quiet_until = Instant::now() + DOUBT_PAUSE;
                self.counters.doubts.fetch_add(1, Relaxed);
                room.send(self.candidacy());
            }
        }
    }

    fn heard(&self, message: StreamMessageResponse) {
        let event = match message.update {
            Some(Theirs::Arbitration(update)) => {
                let standing = Standing::from_update(&update, self.election_id);
                self.link.send_if_modified(|link| std::mem::replace(&mut link.standing, standing) != standing);
                return;
            }
            Some(Theirs::Packet(packet)) => Event::Packet(packet),
            Some(Theirs::IdleTimeoutNotification(notice)) => Event::Idle(notice),
            Some(Theirs::Digest(digest)) => Event::Digest(digest),
            Some(Theirs::Error(error)) => Event::Error(error),
            Some(Theirs::Other(_)) | None => return,
        };
        // A full queue must not keep arbitration from being heard; targets do not promise delivery either.
        if self.events.try_send(event).is_err() {
            self.counters.lost_events.fetch_add(1, Relaxed);
        }
    }

    fn candidacy(&self) -> StreamMessageRequest {
        request(Ours::Arbitration(self.role.candidacy(self.device_id, self.election_id)))
    }
}

/// The next command once there is room for what it may send. No room ever: none.
async fn next_command<'a>(
    outbox: &'a mpsc::Sender<StreamMessageRequest>,
    commands: &mut mpsc::Receiver<Command>,
) -> (Option<mpsc::Permit<'a, StreamMessageRequest>>, Option<Command>) {
    match outbox.reserve().await {
        Ok(room) => (Some(room), commands.recv().await),
        Err(_) => (None, None),
    }
}

fn request(update: Ours) -> StreamMessageRequest {
    StreamMessageRequest { update: Some(update) }
}

fn lost(what: &str, status: &Status) -> End {
    End::Lost(format!("{what}: {:?}: {}", status.code(), status.message()))
}

/// The receiving end of a queue as a stream.
struct Outbox(mpsc::Receiver<StreamMessageRequest>);

impl futures_util::Stream for Outbox {
    type Item = StreamMessageRequest;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
