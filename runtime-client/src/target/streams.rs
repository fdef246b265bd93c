//! The streams of a target's controllers: who stands for what is heard on them, and what they are told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::{Arbitration, Notices, StreamId};
use crate::proto::p4::v1::stream_message_request::Update as Ours;
use crate::proto::p4::v1::stream_message_response::Update as Theirs;
use crate::proto::p4::v1::{
    Error, MasterArbitrationUpdate, PacketOut, PacketOutError, StreamError, StreamMessageRequest,
    StreamMessageResponse, stream_error,
};

/// What a controller gets on its stream.
pub type Messages = UnboundedReceiverStream<Result<StreamMessageResponse, Status>>;

type Mailbox = mpsc::UnboundedSender<Result<StreamMessageResponse, Status>>;

/// All streams of a device.
#[derive(Debug)]
pub struct Streams {
    /// Who may write.
    pub arbitration: Arbitration,
    mailboxes: HashMap<StreamId, Mailbox>,
    next: StreamId,
}

impl Streams {
    /// Nobody has come yet.
    pub fn new(arbitration: Arbitration) -> Self {
        Streams { arbitration, mailboxes: HashMap::new(), next: 0 }
    }

    /// Ends all streams, as a restart of the target does. Their numbers are not used again.
    pub fn end_all(&mut self, arbitration: Arbitration) {
        (self.arbitration, self.mailboxes) = (arbitration, HashMap::new());
    }

    /// Sends a message to one controller.
    pub fn send(&self, stream: StreamId, update: Theirs) {
        if let Some(mailbox) = self.mailboxes.get(&stream) {
            // A stream that is about to end takes nothing; its end follows.
            let _ = mailbox.send(Ok(StreamMessageResponse { update: Some(update) }));
        }
    }

    /// Sends a message to the primary of each role that has one.
    pub fn send_to_primaries(&self, update: &Theirs) {
        self.arbitration.primaries().into_iter().for_each(|stream| self.send(stream, update.clone()));
    }

    /// Tells controllers how they stand.
    pub fn announce(&self, notices: Notices) {
        notices.into_iter().for_each(|(stream, notice)| self.send(stream, Theirs::Arbitration(notice)));
    }

    fn join(&mut self, mailbox: Mailbox) -> StreamId {
        self.next += 1;
        self.mailboxes.insert(self.next, mailbox);
        self.next
    }

    fn leave(&mut self, stream: StreamId) -> Notices {
        self.mailboxes.remove(&stream);
        self.arbitration.leave(stream)
    }
}

/// A packet that is not sent: why, and the packet.
pub type PacketRefusal = Box<(Error, PacketOut)>;

/// A target as its controllers' streams see it.
pub trait Controlled: Send + 'static {
    /// Its streams.
    fn streams(&mut self) -> &mut Streams;

    /// What a target has to say to who stands for election, before it counts.
    ///
    /// # Errors
    ///
    /// The status to end the stream with.
    fn check(&self, _update: &MasterArbitrationUpdate) -> Result<(), Status> {
        Ok(())
    }

    /// Tells controllers how they stand.
    fn announce(&mut self, notices: Notices) {
        self.streams().announce(notices);
    }

    /// Sends a packet of a controller.
    ///
    /// # Errors
    ///
    /// What its stream is told of it.
    fn packet_out(&mut self, stream: StreamId, packet: PacketOut) -> Result<(), PacketRefusal>;
}

/// Answers StreamChannel: hears the controller until its stream ends, in a task of its own, and returns what it is told.
pub fn hear(target: &Arc<Mutex<impl Controlled>>, inbox: Streaming<StreamMessageRequest>) -> Messages {
    let (mailbox, messages) = mpsc::unbounded_channel();
    let stream = lock(target).streams().join(mailbox.clone());
    tokio::spawn(attend(Arc::clone(target), stream, inbox, mailbox));
    UnboundedReceiverStream::new(messages)
}

/// What a thread that panicked left is still a state.
fn lock<T>(target: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn attend(
    target: Arc<Mutex<impl Controlled>>,
    stream: StreamId,
    mut inbox: Streaming<StreamMessageRequest>,
    mailbox: Mailbox,
) {
    while let Ok(Some(message)) = inbox.message().await {
        let mut target = lock(&target);
        match message.update {
            Some(Ours::Arbitration(update)) => {
                let stands = target.check(&update);
                match stands.and_then(|()| target.streams().arbitration.update(stream, update)) {
                    Ok(notices) => target.announce(notices),
                    Err(status) => {
                        // The stream ends with it; if it is gone already, so much the better.
                        let _ = mailbox.send(Err(status));
                        break;
                    }
                }
            }
            Some(Ours::Packet(packet)) => {
                if let Err(refused) = target.packet_out(stream, packet) {
                    target.streams().send(stream, Theirs::Error(told(*refused)));
                }
            }
            Some(Ours::DigestAck(_) | Ours::Other(_)) | None => {}
        }
    }
    let mut target = lock(&target);
    let notices = target.streams().leave(stream);
    target.announce(notices);
}

/// A refused packet as its controller hears of it.
fn told((error, packet): (Error, PacketOut)) -> StreamError {
    let details = Some(stream_error::Details::PacketOut(PacketOutError { packet_out: Some(packet) }));
    StreamError { canonical_code: error.canonical_code, message: error.message, details, ..StreamError::default() }
}
