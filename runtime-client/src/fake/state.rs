//! What a fake target knows, behind one lock: requests are applied one after the other, which is one of the orders the
//! standard allows.

use std::collections::HashMap;

use tokio::sync::mpsc;
use tonic::Status;

use super::chaos::{CutAt, Dice, Lie};
use super::schema::{Schema, error};
use super::table::Tables;
use super::{FakeConfig, FakeStats};
use crate::Code;
use crate::election::ElectionId;
use crate::proto::google::rpc;
use crate::proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use crate::proto::p4::v1::stream_message_response::Update as Theirs;
use crate::proto::p4::v1::{
    Entity, Error, ForwardingPipelineConfig, IdleTimeoutNotification, PacketIn, PacketOut, ReadRequest,
    SetForwardingPipelineConfigRequest, StreamMessageResponse, Update, WriteRequest, forwarding_pipeline_config,
};
use crate::target::{Arbitration, Notices, StreamId};

/// Messages to one controller.
pub(super) type Mailbox = mpsc::UnboundedSender<Result<StreamMessageResponse, Status>>;

/// Entries of one notice at most.
const NOTICE: usize = 100;

pub(super) struct State {
    pub config: FakeConfig,
    pub dice: Dice,
    pub arbitration: Arbitration,
    pub pipeline: Option<ForwardingPipelineConfig>,
    pub tables: Tables,
    /// Nanoseconds; moves only by hand.
    pub now: i64,
    pub packets_out: Vec<PacketOut>,
    pub stats: FakeStats,
    mailboxes: HashMap<StreamId, Mailbox>,
    next_stream: StreamId,
}

impl State {
    pub fn new(config: FakeConfig) -> Self {
        let mut state = Self {
            dice: Dice::new(config.seed),
            arbitration: Arbitration::new(config.device_id, config.most_controllers),
            pipeline: None,
            tables: Tables::default(),
            now: 0,
            packets_out: Vec::new(),
            stats: FakeStats::default(),
            mailboxes: HashMap::new(),
            next_stream: 0,
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
        let next_stream = self.next_stream;
        *self = Self { next_stream, ..fresh };
    }

    pub fn join(&mut self, mailbox: Mailbox) -> StreamId {
        self.next_stream += 1;
        self.mailboxes.insert(self.next_stream, mailbox);
        self.next_stream
    }

    pub fn leave(&mut self, stream: StreamId) {
        self.mailboxes.remove(&stream);
        let notices = self.arbitration.leave(stream);
        self.announce(notices);
    }

    pub fn announce(&mut self, mut notices: Notices) {
        if let Some(lie) = self.dice.chaos.lie {
            self.tell(&mut notices, lie);
        }
        for (stream, notice) in notices {
            self.send(stream, Theirs::Arbitration(notice));
        }
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
                notice.election_id = self.arbitration.id_of(role, *stream).map(Into::into);
            }
            notice.status = Some(rpc::Status { code: code as i32, ..rpc::Status::default() });
        }
    }

    pub fn send(&mut self, stream: StreamId, update: Theirs) {
        if let Some(mailbox) = self.mailboxes.get(&stream) {
            // A stream that is about to end takes nothing; `leave` follows.
            let _ = mailbox.send(Ok(StreamMessageResponse { update: Some(update) }));
        }
    }

    /// Whether a change may be made by who asks for it, in the order of checks the standard gives.
    fn check_sender(
        &self,
        device_id: u64,
        role: &str,
        election_id: Option<crate::proto::p4::v1::Uint128>,
    ) -> Result<(), Status> {
        if device_id != self.config.device_id {
            return Err(Status::not_found(format!("no device {device_id}")));
        }
        if self.dice.chaos.lie == Some(Lie::RefusePrimary) {
            return Err(Status::permission_denied("not primary"));
        }
        self.arbitration.check(role, election_id.map(ElectionId::from))
    }

    /// Applies a batch. None: all of it was applied; else one result for each update.
    pub fn write(&mut self, request: WriteRequest, cut: Option<CutAt>) -> Result<Option<Vec<Error>>, Status> {
        self.stats.writes += 1;
        self.check_sender(request.device_id, &request.role, request.election_id)?;
        if self.pipeline.is_none() {
            return Err(Status::failed_precondition("no pipeline"));
        }
        if request.atomicity != 0 {
            return Err(Status::unimplemented("updates stand for themselves here"));
        }
        let count = request.updates.len();
        let applied = match cut {
            Some(CutAt::Before) => 0,
            Some(CutAt::Middle) => count / 2,
            _ => count,
        };
        let mut errors = Vec::new();
        for (place, update) in request.updates.into_iter().take(applied).enumerate() {
            self.apply(place, update, count, &mut errors);
        }
        Ok((!errors.is_empty()).then_some(errors))
    }

    /// Results are kept only from the first failure on.
    fn apply(&mut self, place: usize, update: Update, count: usize, errors: &mut Vec<Error>) {
        self.stats.updates += 1;
        let result = self.tables.apply(update, self.now, &mut self.dice);
        if result.is_err() && errors.is_empty() {
            errors.reserve(count);
            errors.resize(place, Error::default());
        }
        match result {
            Err(error) => errors.push(error),
            Ok(()) if !errors.is_empty() => errors.push(Error::default()),
            Ok(()) => {}
        }
    }

    pub fn read(&self, request: ReadRequest) -> Result<Vec<Entity>, Status> {
        if request.device_id != self.config.device_id {
            return Err(Status::not_found(format!("no device {}", request.device_id)));
        }
        if self.pipeline.is_none() {
            return Err(Status::failed_precondition("no pipeline"));
        }
        let mut found = Vec::new();
        for pattern in request.entities {
            found.append(&mut self.tables.read(pattern, self.now).map_err(|error| status(&error))?);
        }
        Ok(found)
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
                self.send_to_primaries(&Theirs::IdleTimeoutNotification(notice));
            }
        }
    }

    pub fn packet_in(&mut self, packet: PacketIn) {
        self.send_to_primaries(&Theirs::Packet(packet));
    }

    fn send_to_primaries(&mut self, update: &Theirs) {
        for stream in self.arbitration.primaries() {
            self.send(stream, update.clone());
        }
    }

    /// A packet of a controller; an error goes back on the stream.
    pub fn packet_out(&mut self, stream: StreamId, packet: PacketOut) -> Result<(), Box<(Error, PacketOut)>> {
        if !self.arbitration.is_primary(stream) {
            return Err(Box::new((error(Code::PermissionDenied, "not primary"), packet)));
        }
        self.packets_out.push(packet);
        Ok(())
    }
}

fn status(error: &Error) -> Status {
    Status::new(Code::from(error.canonical_code), error.message.clone())
}
