//! What a fake target knows, behind one lock: requests are applied one after the other, which is one of the orders the
//! standard allows.

use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::message;
use tonic::Status;

use super::chaos::{CutAt, Dice, Lie};
use super::schema::{Schema, error};
use super::table::{Tables, is_delete};
use super::{FakeConfig, FakeStats};
use crate::Code;
use crate::election::ElectionId;
use crate::proto::google::rpc;
use crate::proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use crate::proto::p4::v1::stream_message_response::Update as Theirs;
use crate::proto::p4::v1::{
    Entity, Error, ForwardingPipelineConfig, IdleTimeoutNotification, PacketIn, PacketOut,
    SetForwardingPipelineConfigRequest, Uint128, Update, WriteRequest, forwarding_pipeline_config,
};
use crate::read::fields::{Malformed, fields};
use crate::read::{number, table_entry};
use crate::target::{Arbitration, Controlled, Notices, PacketRefusal, StreamId, Streams};

/// Numbers of fields of `ReadRequest`.
mod read {
    pub const DEVICE_ID: u32 = 1;
    pub const ENTITIES: u32 = 2;
}

/// Numbers of fields of `WriteRequest`.
mod write {
    pub const DEVICE_ID: u32 = 1;
    pub const ELECTION_ID: u32 = 3;
    pub const UPDATES: u32 = 4;
    pub const ATOMICITY: u32 = 5;
    pub const ROLE: u32 = 6;
}

/// Entries of one notice at most.
const NOTICE: usize = 100;

pub(super) struct State {
    pub config: FakeConfig,
    pub dice: Dice,
    pub streams: Streams,
    pub pipeline: Option<ForwardingPipelineConfig>,
    pub tables: Tables,
    /// Nanoseconds; moves only by hand.
    pub now: i64,
    pub packets_out: Vec<PacketOut>,
    pub stats: FakeStats,
}

impl State {
    pub fn new(config: FakeConfig) -> Self {
        let mut state = Self {
            dice: Dice::new(config.seed),
            streams: Streams::new(Arbitration::new(config.device_id, config.most_controllers)),
            pipeline: None,
            tables: Tables::default(),
            now: 0,
            packets_out: Vec::new(),
            stats: FakeStats::default(),
            config,
        };
        if let Some(p4info) = state.config.p4info.clone() {
            state.tables = Tables::new(Schema::of(&p4info));
            let cookie = state.config.cookie.map(|cookie| forwarding_pipeline_config::Cookie { cookie });
            let p4info = Some(p4info);
            state.pipeline = Some(ForwardingPipelineConfig { p4info, cookie, ..ForwardingPipelineConfig::default() });
        }
        state
    }

    /// As after power was off and on: nothing is left but what the target was built with.
    pub fn restart(&mut self) {
        let fresh = Self::new(self.config.clone());
        let old = std::mem::replace(self, fresh);
        let Streams { arbitration, .. } = std::mem::replace(&mut self.streams, old.streams);
        self.streams.end_all(arbitration);
    }

    /// Makes a lie of what controllers are told.
    fn tell(&self, notices: &mut Notices, lie: Lie) {
        for (stream, notice) in notices {
            let code = match lie {
                Lie::AllPrimary | Lie::AllPrimaryByOwnId => Code::Ok,
                Lie::AllBackup => Code::AlreadyExists,
                Lie::RefusePrimary => continue,
            };
            if lie == Lie::AllPrimaryByOwnId {
                let role = notice.role.as_ref().map_or("", |role| &role.name);
                notice.election_id = self.streams.arbitration.id_of(role, *stream).map(Into::into);
            }
            notice.status = Some(rpc::Status { code: code as i32, ..rpc::Status::default() });
        }
    }

    /// Whether a change may be made by who asks for it, in the order of checks the standard gives.
    fn check_sender(&self, device_id: u64, role: &str, election_id: Option<Uint128>) -> Result<(), Status> {
        if device_id != self.config.device_id {
            return Err(Status::not_found(format!("no device {device_id}")));
        }
        if self.dice.chaos.lie == Some(Lie::RefusePrimary) {
            return Err(Status::permission_denied("not primary"));
        }
        self.streams.arbitration.check(role, election_id.map(ElectionId::from))
    }

    /// Applies a batch. None: all of it was applied; else one result for each update.
    pub fn write(&mut self, request: Batch, cut: Option<CutAt>) -> Result<Option<Vec<Error>>, Status> {
        let Batch { updates, head } = request;
        self.check_sender(head.device_id, &head.role, head.election_id)?;
        if self.pipeline.is_none() {
            return Err(Status::failed_precondition("no pipeline"));
        }
        if head.atomicity != 0 {
            return Err(Status::unimplemented("updates stand for themselves here"));
        }
        let count = updates.len();
        let applied = match cut {
            Some(CutAt::Before) => 0,
            Some(CutAt::Middle) => count / 2,
            _ => count,
        };
        let mut errors = Vec::new();
        for (place, update) in updates.into_iter().take(applied).enumerate() {
            self.apply(place, update, count, &mut errors)?;
        }
        Ok((!errors.is_empty()).then_some(errors))
    }

    /// Results are kept only from the first failure on.
    fn apply(&mut self, place: usize, update: Change, count: usize, errors: &mut Vec<Error>) -> Result<(), Status> {
        self.stats.updates += 1;
        let result = match update {
            Change::Message(update) => self.tables.apply(*update, self.now, &mut self.dice),
            Change::Delete(update) => match self.tables.delete_exact(&update, &mut self.dice) {
                Some(result) => result,
                None => self.tables.apply(decode(update)?, self.now, &mut self.dice),
            },
        };
        if result.is_err() && errors.is_empty() {
            errors.reserve(count);
            errors.resize(place, Error::default());
        }
        match result {
            Err(error) => errors.push(error),
            Ok(()) if !errors.is_empty() => errors.push(Error::default()),
            Ok(()) => {}
        }
        Ok(())
    }

    /// The answer to an encoded `ReadRequest`: encoded `ReadResponse`s of at most so many entities each.
    pub fn read(&self, request: &[u8], entities: usize) -> Result<Vec<Bytes>, Status> {
        let malformed = |_| Status::internal("not a valid request");
        let (mut device_id, mut answer) = (0, Answer::new(entities));
        let mut patterns = Vec::new();
        for field in fields(request) {
            match field.map_err(malformed)? {
                (read::DEVICE_ID, value) => device_id = value.number().map_err(malformed)?,
                (read::ENTITIES, value) => patterns.push(value.bytes().map_err(malformed)?),
                _ => {}
            }
        }
        if device_id != self.config.device_id {
            return Err(Status::not_found(format!("no device {device_id}")));
        }
        if self.pipeline.is_none() {
            return Err(Status::failed_precondition("no pipeline"));
        }
        for pattern in patterns {
            if let Some(entry) = table_entry(pattern).map_err(malformed)?
                && answer.add(|out| self.tables.read_exact(entry, self.now, out))
            {
                continue;
            }
            let pattern = Entity::decode(pattern).map_err(|error| Status::internal(error.to_string()))?;
            for found in self.tables.read(pattern, self.now).map_err(|error| status(&error))? {
                answer.add(|out| {
                    message::encode(number::RESPONSE_ENTITIES, &found, out);
                    true
                });
            }
        }
        Ok(answer.messages())
    }

    pub fn set_pipeline(&mut self, request: SetForwardingPipelineConfigRequest) -> Result<(), Status> {
        self.check_sender(request.device_id, &request.role, request.election_id)?;
        let action = request.action();
        let config = request.config.ok_or_else(|| Status::invalid_argument("no config"))?;
        let info = config.p4info.as_ref().ok_or_else(|| Status::invalid_argument("no P4Info"))?;
        let schema = Schema::of(info);
        match action {
            Action::Verify => return Ok(()),
            Action::VerifyAndCommit => self.tables = Tables::new(schema),
            Action::ReconcileAndCommit if self.config.reconciles => {
                self.tables.reconcile(schema).map_err(|error| status(&error))?;
            }
            _ => return Err(Status::unimplemented("no such action here")),
        }
        self.stats.pipelines += 1;
        self.pipeline = Some(config);
        Ok(())
    }

    /// Moves the clock and tells of entries whose time is over.
    pub fn advance(&mut self, nanoseconds: i64) {
        self.now += nanoseconds;
        let (lose, repeat) = (self.dice.chaos.lose_notices, self.dice.chaos.repeat_notices);
        for idle in self.tables.idle(self.now) {
            let mut told = Vec::with_capacity(idle.len());
            for entry in idle {
                if self.dice.hits(lose) {
                    continue;
                }
                if self.dice.hits(repeat) {
                    told.push(entry.clone());
                }
                told.push(entry);
            }
            for entries in told.chunks(NOTICE) {
                let notice = IdleTimeoutNotification { table_entry: entries.to_vec(), timestamp: self.now };
                self.streams.send_to_primaries(&Theirs::IdleTimeoutNotification(notice));
            }
        }
    }

    pub fn packet_in(&mut self, packet: PacketIn) {
        self.streams.send_to_primaries(&Theirs::Packet(packet));
    }
}

impl Controlled for State {
    fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    fn announce(&mut self, mut notices: Notices) {
        if let Some(lie) = self.dice.chaos.lie {
            self.tell(&mut notices, lie);
        }
        self.streams.announce(notices);
    }

    fn packet_out(&mut self, stream: StreamId, packet: PacketOut) -> Result<(), PacketRefusal> {
        if !self.streams.arbitration.is_primary(stream) {
            return Err(Box::new((error(Code::PermissionDenied, "not primary"), packet)));
        }
        self.packets_out.push(packet);
        Ok(())
    }
}

/// A `WriteRequest` as far as it can be taken apart without the state, and so without the lock.
pub(super) struct Batch {
    updates: Vec<Change>,
    /// The rest of it.
    head: WriteRequest,
}

/// One update.
enum Change {
    /// A delete, encoded: most have nothing but the key.
    Delete(Bytes),
    Message(Box<Update>),
}

impl Batch {
    pub fn decode(request: &Bytes) -> Result<Self, Status> {
        let (updates, head) = write_request(request).map_err(|Malformed| Status::internal("not a valid request"))?;
        let change = |update: &[u8]| {
            let bytes = request.slice_ref(update);
            if is_delete(update) { Ok(Change::Delete(bytes)) } else { decode(bytes).map(Box::new).map(Change::Message) }
        };
        Ok(Self { updates: updates.into_iter().map(change).collect::<Result<_, _>>()?, head })
    }
}

fn decode(update: Bytes) -> Result<Update, Status> {
    Update::decode(update).map_err(|error| Status::internal(error.to_string()))
}

/// The updates of an encoded `WriteRequest`, as they are, and the rest of it.
fn write_request(request: &[u8]) -> Result<(Vec<&[u8]>, WriteRequest), Malformed> {
    let (mut updates, mut head) = (Vec::new(), WriteRequest::default());
    for field in fields(request) {
        match field? {
            (write::UPDATES, value) => updates.push(value.bytes()?),
            (write::DEVICE_ID, value) => head.device_id = value.number()?,
            (write::ELECTION_ID, value) => {
                head.election_id = Some(Uint128::decode(value.bytes()?).map_err(|_| Malformed)?);
            }
            (write::ATOMICITY, value) => head.atomicity = value.number()? as i32,
            (write::ROLE, value) => {
                head.role = String::from_utf8(value.bytes()?.to_vec()).map_err(|_| Malformed)?;
            }
            _ => {}
        }
    }
    Ok((updates, head))
}

/// Encoded messages of an answer.
struct Answer {
    done: Vec<Bytes>,
    open: Vec<u8>,
    /// In `open`, and at most.
    entities: (usize, usize),
}

impl Answer {
    fn new(most: usize) -> Self {
        Self { done: Vec::new(), open: Vec::new(), entities: (0, most) }
    }

    /// Has an entity appended, if there is one.
    fn add(&mut self, entity: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let before = self.open.len();
        let added = entity(&mut self.open);
        self.entities.0 += usize::from(self.open.len() > before);
        if self.entities.0 >= self.entities.1 {
            self.close();
        }
        added
    }

    fn close(&mut self) {
        // The next one will be about as long.
        let next = Vec::with_capacity(self.open.len());
        self.done.push(std::mem::replace(&mut self.open, next).into());
        self.entities.0 = 0;
    }

    fn messages(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.close();
        }
        self.done
    }
}

fn status(error: &Error) -> Status {
    Status::new(Code::from(error.canonical_code), error.message.clone())
}
