//! What the connection's task shares with everything that uses the connection.

use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::election::{ElectionId, Standing};
use crate::error::RequestError;
use crate::proto::p4::v1::PacketOut;

/// The connection as it is now.
#[derive(Clone)]
pub(crate) struct Link {
    /// None while disconnected.
    pub channel: Option<Channel>,
    /// What the target said last.
    pub standing: Standing,
    /// The id the client stands for now.
    pub election_id: Option<ElectionId>,
}

impl Link {
    pub fn down(election_id: Option<ElectionId>) -> Self {
        Self { channel: None, standing: Standing::Disconnected, election_id }
    }

    /// For requests that any client may make.
    pub fn any(&self) -> Result<Channel, RequestError> {
        self.channel.clone().ok_or(RequestError::NotConnected)
    }

    /// For requests that only the primary may make.
    pub fn primary(&self) -> Result<Channel, RequestError> {
        let channel = self.any()?;
        if self.standing.is_primary() { Ok(channel) } else { Err(RequestError::NotPrimary(self.standing)) }
    }
}

/// What the connection's task can be told.
pub(crate) enum Command {
    /// Stand with another election id, or none.
    Stand(Option<ElectionId>),
    /// Send a packet.
    Packet(PacketOut),
    /// A request was refused although the target had said "you are primary".
    Doubt,
}

/// Asks the target again who is primary.
#[derive(Clone)]
pub(crate) struct Doubt(pub mpsc::WeakSender<Command>);

impl Doubt {
    /// Asked once is enough; if the queue is full or the client gone, no harm is done.
    pub fn raise(&self) {
        if let Some(commands) = self.0.upgrade() {
            let _ = commands.try_send(Command::Doubt);
        }
    }
}
