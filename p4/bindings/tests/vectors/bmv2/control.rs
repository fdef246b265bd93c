//! The least P4Runtime client that installs entries and reads counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use carom_p4::Bytes;
use p4rt::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1 as p4rt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::Program;
use crate::file::{self, Entry};

const DEVICE: u64 = 1;
const ELECTION: p4rt::Uint128 = p4rt::Uint128 { high: 0, low: 1 };

pub struct Control {
    client: P4RuntimeClient<Channel>,
    program: Program,
    info: P4Info,
    /// The stream; we are primary while it lives.
    _stream: (mpsc::Sender<p4rt::StreamMessageRequest>, tonic::Streaming<p4rt::StreamMessageResponse>),
}

impl Control {
    /// Connects, becomes primary, and gives the switch this program, compiled to this.
    pub async fn connect(address: SocketAddr, program: Program, json: &[u8]) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut client = P4RuntimeClient::new(channel).max_decoding_message_size(64 << 20);
        let (requests, receiver) = mpsc::channel(1);
        let election =
            p4rt::MasterArbitrationUpdate { device_id: DEVICE, election_id: Some(ELECTION), ..Default::default() };
        let update = p4rt::stream_message_request::Update::Arbitration(election);
        requests.send(p4rt::StreamMessageRequest { update: Some(update) }).await.unwrap();
        let mut stream = client.stream_channel(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        stream.message().await.unwrap().expect("arbitration");
        let info = P4Info::decode(program.p4info).unwrap();
        let config = p4rt::ForwardingPipelineConfig {
            p4info: Some(info.clone()),
            p4_device_config: json.to_vec().into(),
            cookie: None,
        };
        let request = p4rt::SetForwardingPipelineConfigRequest {
            device_id: DEVICE,
            election_id: Some(ELECTION),
            action: p4rt::set_forwarding_pipeline_config_request::Action::VerifyAndCommit as i32,
            config: Some(config),
            ..Default::default()
        };
        client.set_forwarding_pipeline_config(request).await.unwrap();
        Control { client, program, info, _stream: (requests, stream) }
    }

    /// Inserts entries.
    pub async fn install(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.insert(entry).await.unwrap_or_else(|error| panic!("{entry:?}: {error:?}"));
        }
    }

    /// Inserts an entry. The error is that of the one update, from the details of the status.
    pub async fn insert(&mut self, entry: &Entry) -> Result<(), p4rt::Error> {
        let entity = p4rt::entity::Entity::TableEntry(self.entry(entry));
        self.write(p4rt::update::Type::Insert, entity).await.map_err(|status| {
            let details = p4runtime_proto::google::rpc::Status::decode(status.details()).expect("details");
            let [error] = details.details.as_slice() else { panic!("{status}") };
            p4rt::Error::decode(error.value.as_slice()).expect("p4.v1.Error")
        })
    }

    /// Sets the meter of an entry: packets per second, and burst, for both rates.
    pub async fn limit(&mut self, table: u32, key: &[(u32, Bytes)], rate: i64, burst: i64) {
        let fields = key.iter().map(|(id, value)| exact(*id, value.as_ref().to_vec())).collect();
        let config = p4rt::MeterConfig { cir: rate, cburst: burst, pir: rate, pburst: burst, eburst: 0 };
        let entry = p4rt::DirectMeterEntry {
            table_entry: Some(p4rt::TableEntry { table_id: table, r#match: fields, ..Default::default() }),
            config: Some(config),
            counter_data: None,
        };
        let entity = p4rt::entity::Entity::DirectMeterEntry(entry);
        self.write(p4rt::update::Type::Modify, entity).await.expect("a meter");
    }

    /// The packets of a counter by index; those that are zero are left out.
    pub async fn counter(&mut self, id: u32) -> BTreeMap<u64, u64> {
        let wanted = p4rt::CounterEntry { counter_id: id, ..Default::default() };
        let entity = p4rt::Entity { entity: Some(p4rt::entity::Entity::CounterEntry(wanted)) };
        let request = p4rt::ReadRequest { device_id: DEVICE, entities: vec![entity], ..Default::default() };
        let mut stream = self.client.read(request).await.unwrap().into_inner();
        let mut counts = BTreeMap::new();
        while let Some(response) = stream.message().await.unwrap() {
            for entity in response.entities {
                let Some(p4rt::entity::Entity::CounterEntry(cell)) = entity.entity else { panic!("not a counter") };
                let packets = cell.data.expect("data").packet_count;
                if packets != 0 {
                    counts.insert(cell.index.map_or(0, |index| index.index as u64), packets as u64);
                }
            }
        }
        counts
    }

    /// Packets and bytes the entries of a table counted, by the entry's key.
    pub async fn entry_counts(&mut self, table_id: u32) -> BTreeMap<Vec<Vec<u8>>, (u64, u64)> {
        let wanted = p4rt::DirectCounterEntry {
            table_entry: Some(p4rt::TableEntry { table_id, ..Default::default() }),
            data: None,
        };
        let entity = p4rt::Entity { entity: Some(p4rt::entity::Entity::DirectCounterEntry(wanted)) };
        let request = p4rt::ReadRequest { device_id: DEVICE, entities: vec![entity], ..Default::default() };
        let mut stream = self.client.read(request).await.unwrap().into_inner();
        let mut counts = BTreeMap::new();
        while let Some(response) = stream.message().await.unwrap() {
            for entity in response.entities {
                let Some(p4rt::entity::Entity::DirectCounterEntry(entry)) = entity.entity else {
                    panic!("not a direct counter")
                };
                let value = |field: &p4rt::FieldMatch| match &field.field_match_type {
                    Some(p4rt::field_match::FieldMatchType::Exact(exact)) => exact.value.to_vec(),
                    other => panic!("{other:?}"),
                };
                let key = entry.table_entry.expect("an entry").r#match.iter().map(value).collect();
                let data = entry.data.expect("data");
                counts.insert(key, (data.packet_count as u64, data.byte_count as u64));
            }
        }
        counts
    }

    async fn write(&mut self, r#type: p4rt::update::Type, entity: p4rt::entity::Entity) -> Result<(), tonic::Status> {
        let update = p4rt::Update { r#type: r#type as i32, entity: Some(p4rt::Entity { entity: Some(entity) }) };
        let request = p4rt::WriteRequest {
            device_id: DEVICE,
            election_id: Some(ELECTION),
            updates: vec![update],
            ..Default::default()
        };
        self.client.write(request).await.map(|_| ())
    }

    /// An entry of the file as a message: names become ids.
    fn entry(&self, entry: &Entry) -> p4rt::TableEntry {
        let id = self.program.tables.iter().find(|table| table.name == entry.table).expect("a table").id;
        let table = self.info.tables.iter().find(|t| t.preamble.as_ref().unwrap().id == id).expect("the table");
        let action = self.info.actions.iter().find(|a| a.preamble.as_ref().unwrap().name == entry.action);
        let action = action.expect("an action");
        let value = |map: &BTreeMap<String, String>, name: &str| file::bytes(&map[name]);
        let fields = table.match_fields.iter().map(|f| exact(f.id, value(&entry.key, &f.name))).collect();
        let param = |p: &p4runtime_proto::p4::config::v1::action::Param| p4rt::action::Param {
            param_id: p.id,
            value: value(&entry.params, &p.name).into(),
        };
        let call = p4rt::Action {
            action_id: action.preamble.as_ref().unwrap().id,
            params: action.params.iter().map(param).collect(),
        };
        let call = p4rt::TableAction { r#type: Some(p4rt::table_action::Type::Action(call)) };
        p4rt::TableEntry { table_id: id, r#match: fields, action: Some(call), ..Default::default() }
    }
}

fn exact(field_id: u32, value: Vec<u8>) -> p4rt::FieldMatch {
    let exact = p4rt::field_match::Exact { value: value.into() };
    p4rt::FieldMatch { field_id, field_match_type: Some(p4rt::field_match::FieldMatchType::Exact(exact)) }
}
