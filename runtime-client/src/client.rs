//! A controller's handle to one target.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::connect::Address;
use crate::election::{ElectionId, Role, Standing};
use crate::error::{ConnectError, PacketError, RequestError};
use crate::link::{Command, Doubt, Link};
use crate::proto::p4::v1::p4_runtime_client::P4RuntimeClient;
use crate::proto::p4::v1::{
    CapabilitiesRequest, DigestList, IdleTimeoutNotification, PacketIn, PacketOut, StreamError,
};
use crate::session::Session;
use crate::write::{WriteConfig, Writer};

/// What a client is to a target.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the target is.
    pub address: Address,
    /// Which device of it; never 0.
    pub device_id: u64,
    /// Which part of the device.
    pub role: Role,
    /// With what it stands for election; none: always a backup.
    pub election_id: Option<ElectionId>,
    /// Waits between attempts to connect.
    pub backoff: Backoff,
    /// Packets and notices that wait for [`Events::next`]; more are dropped and counted.
    pub event_queue: usize,
    /// Packets that wait for the target.
    pub packet_queue: usize,
}

impl Config {
    /// The default role, election id 1.
    pub fn new(address: Address, device_id: u64) -> Self {
        Self {
            address,
            device_id,
            role: Role::default(),
            election_id: Some(ElectionId(1)),
            backoff: Backoff::default(),
            event_queue: 4096,
            packet_queue: 1024,
        }
    }
}

/// What the target sends on its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A packet for the controller.
    Packet(PacketIn),
    /// Entries without a hit for their idle time. Targets may lose such notices and repeat them.
    Idle(IdleTimeoutNotification),
    /// Data of a digest.
    Digest(DigestList),
    /// A packet of ours could not be sent.
    Error(StreamError),
}

/// The stream of events, of which there is one for a client.
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; none when all handles of the client are gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}

/// Sums since the client was started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub attempts: AtomicU64,
    pub connections: AtomicU64,
    pub lost_events: AtomicU64,
    pub doubts: AtomicU64,
}

/// Sums since the client was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Attempts to connect.
    pub attempts: u64,
    /// Connections that came up.
    pub connections: u64,
    /// Packets and notices dropped because [`Events`] was full.
    pub lost_events: u64,
    /// Times the target was asked again who is primary, since it refused what a primary may do.
    pub doubts: u64,
}

/// A controller of one device of one target: the connection is kept up by a task that ends with the last handle.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub config: Config,
    pub link: watch::Receiver<Link>,
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
    /// Why the last connection ended or failed, for people.
    last_failure: watch::Receiver<String>,
}

impl Client {
    /// Starts to connect, and goes on until the last handle is dropped. Must be called within a tokio runtime.
    pub fn start(config: Config) -> Result<(Self, Events), ConnectError> {
        let endpoint = config.address.endpoint()?;
        let (commands, orders) = mpsc::channel(config.packet_queue.max(1));
        let (events, receiver) = mpsc::channel(config.event_queue.max(1));
        let (link_sender, link) = watch::channel(Link::down(config.election_id));
        let (failure_sender, last_failure) = watch::channel(String::new());
        let counters = Arc::new(Counters::default());
        let session = Session::new(&config, endpoint, link_sender, failure_sender, orders, events, counters.clone());
        tokio::spawn(session.run());
        let shared = Shared { config, link, commands, counters, last_failure };
        Ok((Self { shared: Arc::new(shared) }, Events { receiver }))
    }

    /// Where the client stands now.
    pub fn standing(&self) -> Standing {
        self.shared.link.borrow().standing
    }

    /// Waits until the client stands as asked, and says how.
    pub async fn wait_for(&self, mut wanted: impl FnMut(Standing) -> bool) -> Standing {
        let mut link = self.shared.link.clone();
        // The task that sends ends only after the last handle, of which this is one.
        match link.wait_for(|link| wanted(link.standing)).await {
            Ok(link) => link.standing,
            Err(_) => Standing::Disconnected,
        }
    }

    /// Waits for the next change, and returns where the client stands after it. Changes between two calls may be missed;
    /// the last one never is.
    pub fn changes(&self) -> Changes {
        Changes { link: self.shared.link.clone() }
    }

    /// Stands for election with another id: a higher one than any the target knows makes the client primary, a lower one
    /// or none makes it a backup. Holds for later connections too. Returns when the id is in use, which during an attempt
    /// to connect is after that attempt; from then on [`standing`](Self::standing) is what the target said to this id.
    pub async fn stand(&self, election_id: Option<ElectionId>) {
        // Both fail only when the task has ended, which it does not before the last handle.
        let _ = self.shared.commands.send(Command::Stand(election_id)).await;
        let _ = self.shared.link.clone().wait_for(|link| link.election_id == election_id).await;
    }

    /// A writer. There can be several, but order among keys is kept within each only.
    pub fn writer(&self, config: WriteConfig) -> Writer {
        let own = &self.shared.config;
        let doubt = Doubt(self.shared.commands.downgrade());
        Writer::new(config, own.device_id, &own.role.name, self.shared.link.clone(), doubt)
    }

    /// Gives a packet to the target, without waiting. Whether the target could send it is known only if it could not, by
    /// [`Event::Error`].
    pub fn send_packet(&self, packet: PacketOut) -> Result<(), PacketError> {
        let standing = self.standing();
        if !standing.is_primary() {
            return Err(PacketError::NotPrimary(standing));
        }
        self.shared.commands.try_send(Command::Packet(packet)).map_err(|_| PacketError::Full)
    }

    /// The version of P4Runtime the target speaks, "1.4.0" for instance.
    pub async fn api_version(&self) -> Result<String, RequestError> {
        let mut service = self.service()?;
        let request = CapabilitiesRequest { device_id: self.shared.config.device_id };
        Ok(service.capabilities(request).await?.into_inner().p4runtime_api_version)
    }

    /// Sums since the start.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            attempts: read(&counters.attempts),
            connections: read(&counters.connections),
            lost_events: read(&counters.lost_events),
            doubts: read(&counters.doubts),
        }
    }

    /// Why the last connection ended or failed; empty if none did yet.
    pub fn last_failure(&self) -> String {
        self.shared.last_failure.borrow().clone()
    }

    /// The service as generated, for what this library has no own form of. Without connection it is an error.
    pub fn service(&self) -> Result<P4RuntimeClient<tonic::transport::Channel>, RequestError> {
        let channel = self.shared.link.borrow().any()?;
        Ok(P4RuntimeClient::new(channel).max_decoding_message_size(crate::read::LONGEST_MESSAGE))
    }

    pub(crate) fn doubt(&self) {
        Doubt(self.shared.commands.downgrade()).raise();
    }
}

/// Changes of where a client stands.
pub struct Changes {
    link: watch::Receiver<Link>,
}

impl Changes {
    /// The next standing, different from the one before; none when all handles of the client are gone.
    pub async fn next(&mut self) -> Option<Standing> {
        let before = self.link.borrow_and_update().standing;
        loop {
            self.link.changed().await.ok()?;
            let now = self.link.borrow_and_update().standing;
            if now != before {
                return Some(now);
            }
        }
    }
}
