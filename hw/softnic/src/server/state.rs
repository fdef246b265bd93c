//! What the server knows, behind one lock: requests are applied one after the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dpdk::Eal;
use dpdk::swx::Pipeline;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use p4runtime_proto::p4::v1::stream_message_response::Update as Theirs;
use p4runtime_proto::p4::v1::{
    CounterData, Error, ForwardingPipelineConfig, IdleTimeoutNotification, MasterArbitrationUpdate, PacketOut,
    SetForwardingPipelineConfigRequest, TableEntry, Uint128, WriteRequest,
};
use prost::bytes::Bytes;
use runtime_client::ElectionId;
use runtime_client::target::{Arbitration, Controlled, PacketRefusal, StreamId, Streams};
use tonic::{Code, Status};

use super::error::{refusal, status};
use super::packet::{Headers, PacketSender};
use super::write::Batch;
use super::{Config, LoadError};
use crate::engine::Engine;
use crate::guard;
use crate::names;
use crate::spec::Spec;
use crate::tables::Tables;

/// Entries of one notice at most.
const NOTICE: usize = 100;

/// The program that runs.
pub(super) struct Loaded {
    pub(super) config: ForwardingPipelineConfig,
    pub(super) tables: Tables,
    headers: Headers,
}

pub(super) struct State {
    eal: Eal,
    engine: Engine,
    config: Config,
    streams: Streams,
    pub(super) loaded: Option<Loaded>,
    /// The port of controllers, if there is one.
    pub(super) packets: Option<PacketSender>,
}

impl State {
    pub(super) fn new(eal: Eal, engine: Engine, config: Config) -> State {
        let streams = Streams::new(Arbitration::new(config.device_id, config.most_controllers));
        State { eal, engine, streams, config, loaded: None, packets: None }
    }

    pub(super) fn check_device(&self, device_id: u64) -> Result<(), Status> {
        let known = device_id == self.config.device_id;
        if known { Ok(()) } else { Err(Status::not_found(format!("there is no device {device_id}"))) }
    }

    fn check_sender(&self, device_id: u64, role: &str, election_id: Option<Uint128>) -> Result<(), Status> {
        self.check_device(device_id)?;
        self.streams.arbitration.check(role, election_id.map(ElectionId::from))
    }

    /// The program that runs, for requests that need one.
    pub(super) fn running(&mut self) -> Result<&mut Loaded, Status> {
        self.loaded.as_mut().ok_or_else(|| Status::failed_precondition("there is no program yet"))
    }

    /// Applies a batch. None: all of it was applied; else one result for each update.
    pub(super) fn write(&mut self, request: WriteRequest) -> Result<Option<Vec<Error>>, Status> {
        self.check_sender(request.device_id, &request.role, request.election_id)?;
        let tables = &mut self.running()?.tables;
        if request.atomicity != 0 {
            return Err(Status::unimplemented("updates of a batch stand for themselves"));
        }
        let mut batch = Batch::new(tables, &request.updates);
        let mut errors: Vec<Error> = Vec::new();
        for (place, update) in request.updates.into_iter().enumerate() {
            match batch.apply(update) {
                Ok(()) if errors.is_empty() => {}
                Ok(()) => errors.push(Error::default()),
                Err(error) => {
                    // Those before were applied.
                    errors.resize(place, Error::default());
                    errors.push(error);
                }
            }
        }
        batch.finish().map_err(status)?;
        Ok((!errors.is_empty()).then_some(errors))
    }

    /// Makes a pipeline of a program. Nothing else changes.
    fn load(&self, config: &ForwardingPipelineConfig) -> Result<(Pipeline, Tables), LoadError> {
        let text = str::from_utf8(&config.p4_device_config).map_err(|_| LoadError::Text)?;
        let mut spec = Spec::parse(text).map_err(LoadError::Spec)?;
        for (table, size) in &self.config.sizes {
            let of_spec = names::table(spec.tables.iter().map(|table| table.name.as_str()), table).map(str::to_owned);
            of_spec.into_iter().for_each(|name| _ = spec.resize(&name, *size));
        }
        let program = guard::program(&spec).map_err(LoadError::Spec)?;
        let (pipeline, control) =
            Pipeline::build(&self.eal, &program, &self.config.code, vec![]).map_err(LoadError::Build)?;
        let empty = P4Info::default();
        let info = config.p4info.as_ref().unwrap_or(&empty);
        let tables = Tables::new(control, info, Box::new(std::thread::yield_now)).map_err(LoadError::Names)?;
        Ok((pipeline, tables))
    }

    pub(super) fn set_pipeline(&mut self, request: SetForwardingPipelineConfigRequest) -> Result<(), Status> {
        self.check_sender(request.device_id, &request.role, request.election_id)?;
        let action = request.action();
        let config = request.config.ok_or_else(|| Status::invalid_argument("there is no program in the request"))?;
        match action {
            Action::Verify => self.load(&config).map(drop).map_err(Status::from),
            Action::VerifyAndCommit => {
                let (pipeline, tables) = self.load(&config)?;
                self.engine.replace(pipeline);
                self.loaded = Some(Loaded { headers: headers(&config), config, tables });
                Ok(())
            }
            Action::ReconcileAndCommit => self.reconcile(config),
            _ => Err(Status::unimplemented("programs are not saved for later")),
        }
    }

    /// Another program with the entries there are, if it has a place for all of them; the same one just goes on.
    fn reconcile(&mut self, config: ForwardingPipelineConfig) -> Result<(), Status> {
        let is_same = |loaded: &&mut Loaded| {
            loaded.config.p4_device_config == config.p4_device_config && loaded.config.p4info == config.p4info
        };
        if let Some(loaded) = self.loaded.as_mut().filter(is_same) {
            loaded.config = config;
            return Ok(());
        }
        let (mut pipeline, mut tables) = self.load(&config)?;
        let wanted = TableEntry { counter_data: Some(CounterData::default()), ..TableEntry::default() };
        let mut entries = Vec::new();
        if let Some(loaded) = &self.loaded {
            for table in &loaded.tables.names().tables {
                let wanted = TableEntry { table_id: table.id, ..wanted.clone() };
                loaded.tables.read_from(&wanted, 0, usize::MAX, |entry| entries.push(entry));
            }
        }
        for entry in &entries {
            tables.insert(entry).map_err(|error| {
                Status::invalid_argument(format!("an entry of table {:#x} does not fit: {error}", entry.table_id))
            })?;
        }
        // It has no packets yet, so its first round exchanges the tables. It says that this is still to come.
        let _ = tables.publish_within(Duration::ZERO);
        pipeline.run();
        tables.publish_within(Duration::ZERO).map_err(status)?;
        self.engine.replace(pipeline);
        self.loaded = Some(Loaded { headers: headers(&config), config, tables });
        Ok(())
    }

    /// Tells the primary of each role of a frame that the program sent by the port of controllers.
    pub(super) fn packet_in(&self, frame: Bytes) {
        if let Some(loaded) = &self.loaded {
            self.streams.send_to_primaries(&Theirs::Packet(loaded.headers.packet_in(frame)));
        }
    }

    /// Tells of entries whose time is over.
    pub(super) fn sweep(&mut self) {
        let Some(loaded) = &mut self.loaded else { return };
        let mut idle = Vec::new();
        loaded.tables.sweep(|entry| idle.push(entry));
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        for entries in idle.chunks(NOTICE) {
            let notice = IdleTimeoutNotification { table_entry: entries.to_vec(), timestamp };
            self.streams.send_to_primaries(&Theirs::IdleTimeoutNotification(notice));
        }
    }
}

/// The controller headers of a program.
fn headers(config: &ForwardingPipelineConfig) -> Headers {
    config.p4info.as_ref().map(Headers::new).unwrap_or_default()
}

impl Controlled for State {
    fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    fn check(&self, update: &MasterArbitrationUpdate) -> Result<(), Status> {
        // To pass it over would give the controller more rights than it asks for.
        match &update.role {
            Some(role) if role.config.is_some() => {
                Err(Status::invalid_argument("this target knows no form of role configs; leave it out for all rights"))
            }
            _ => Ok(()),
        }
    }

    fn packet_out(&mut self, stream: StreamId, packet: PacketOut) -> Result<(), PacketRefusal> {
        let is_primary = self.streams.arbitration.is_primary(stream);
        let sent = match (&self.packets, &self.loaded) {
            _ if !is_primary => Err((Code::PermissionDenied, "not primary")),
            (None, _) => Err((Code::Unimplemented, "the switch has no port for packets of controllers")),
            (_, None) => Err((Code::FailedPrecondition, "there is no program yet")),
            (Some(port), Some(loaded)) => loaded.headers.frame(&packet).and_then(|frame| port.send(frame)),
        };
        sent.map_err(|(code, message)| Box::new((refusal(code, message), packet)))
    }
}
