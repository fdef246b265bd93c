//! The server, as a controller sees it, and what packets see of that.

use std::time::{Duration, Instant};

use carom_p4::artifacts::PNA_SPEC;
use carom_p4::{FlowV4Key, FlowV6Key, Key, SlowpathKey};
use dpdk::Mempool;
use p4runtime_proto::google::rpc;
use p4runtime_proto::p4::v1::update::Type;
use p4runtime_proto::p4::v1::{self as p4rt, CounterEntry, TableEntry, WriteRequest, entity::Entity as Kind};
use prost::Message;
use runtime_client::pipeline::{Brought, Entries, Pipeline, PnaSpec};
use runtime_client::{Address, Client, Config, ElectionId, Event, Events, Query, Standing};
use softnic::engine::Engine;
use softnic::server::{self, Server, packet_port};
use tokio::net::TcpListener;
use tonic::Code;

use crate::file::{self, Outcome, bytes, hex};
use crate::rig::{Cable, cables, eal, info, message, pool};

const PORTS: [u32; 4] = [1, 2, 3, 4];
/// The port of controllers.
const PACKET_PORT: u32 = 5;

pub struct Rig {
    pub address: String,
    pub cables: Vec<Cable>,
    pool: Mempool,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    pub async fn start(config: server::Config) -> Rig {
        let pool = pool(1023);
        let (cables, mut wires) = cables(&PORTS, pool);
        let (wire, packets) = packet_port(pool);
        wires.push((PACKET_PORT, wire));
        let engine = Engine::start(*eal(), wires, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let server = Server::new(*eal(), engine, config).with_packet_port(packets);
        let serve = server.serve(listener, async { _ = stopped.await });
        let task = tokio::spawn(async { serve.await.unwrap() });
        Rig { address, cables, pool, stop: Some(stop), task }
    }

    pub fn client(&self, id: u128) -> (Client, Events) {
        let config = Config::new(Address::tcp(&self.address), 1);
        Client::start(Config { election_id: Some(ElectionId(id)), ..config }).expect("a good config")
    }

    /// A primary, and the program with the vectors' entries.
    async fn loaded(&self) -> (Client, Events) {
        let (client, events) = self.client(1);
        client.wait_for(Standing::is_primary).await;
        let brought = client.bring_up(&program(0xca40), Entries::KeepIfPossible).await;
        assert_eq!(brought, Ok(Brought::Committed));
        let entries = file::read().entries;
        let updates = entries.iter().map(|entry| (Type::Insert, message(&info(), entry)));
        write(&client, 1, updates.collect()).await.unwrap();
        (client, events)
    }

    pub async fn end(mut self) {
        _ = self.stop.take().unwrap().send(());
        // Streams that clients still have are cut.
        self.task.abort();
        let _ = self.task.await;
        let start = Instant::now();
        while self.pool.in_use() > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "{} mbufs", self.pool.in_use());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What becomes of a frame that comes by a port: it is sent, or dropped when nothing is.
    async fn through(&self, port: u16, frame: &[u8]) -> Vec<(u32, String)> {
        let cable = &self.cables[usize::from(port) - 1];
        cable.put(frame);
        let start = Instant::now();
        // From its being taken until it is sent or dropped a frame is in an mbuf.
        while !cable.is_taken() || self.pool.in_use() > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "{} mbufs", self.pool.in_use());
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let sent = PORTS
            .iter()
            .zip(&self.cables)
            .flat_map(|(port, cable)| cable.take().into_iter().map(|frame| (*port, hex(&frame))).collect::<Vec<_>>());
        sent.collect()
    }
}

pub fn program(cookie: u64) -> Pipeline<PnaSpec> {
    Pipeline { p4info: info(), device_config: PnaSpec(PNA_SPEC.into()), cookie }
}

/// Writes a batch. The codes are those of the updates, in order.
pub async fn write(client: &Client, id: u64, updates: Vec<(Type, TableEntry)>) -> Result<(), Vec<Code>> {
    let update = |(kind, entry)| p4rt::Update {
        r#type: kind as i32,
        entity: Some(p4rt::Entity { entity: Some(Kind::TableEntry(entry)) }),
    };
    let request = WriteRequest {
        device_id: 1,
        election_id: Some(p4rt::Uint128 { high: 0, low: id }),
        updates: updates.into_iter().map(update).collect(),
        ..WriteRequest::default()
    };
    let Err(status) = client.service().unwrap().write(request).await else { return Ok(()) };
    let details = rpc::Status::decode(status.details()).unwrap().details;
    if details.is_empty() {
        return Err(vec![status.code()]);
    }
    let code = |any: &prost_types::Any| Code::from(p4rt::Error::decode(any.value.as_slice()).unwrap().canonical_code);
    Err(details.iter().map(code).collect())
}

fn entry(table: &str, number: usize) -> TableEntry {
    let entries = file::read().entries;
    message(&info(), entries.iter().filter(|entry| entry.table == table).nth(number).expect("an entry"))
}

pub async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

/// Everything holds for interpreted programs and for generated code.
macro_rules! with_either_code {
    ($($test:ident)*) => {
        mod interpreted {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::server::Config::default()).await;
            })*
        }

        mod generated {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let Some(code) = crate::rig::generated() else { return };
                super::$test(super::server::Config { code, ..super::server::Config::default() }).await;
            })*
        }
    };
}

with_either_code! {
    a_controller_brings_the_program_and_packets_take_it
    each_update_gets_the_code_of_the_standard
    a_program_that_does_not_fit_leaves_the_old_one_running
    entries_without_packets_are_told_of
}

async fn a_controller_brings_the_program_and_packets_take_it(config: server::Config) {
    let rig = Rig::start(config).await;
    in_time(async {
        let vectors = file::read();
        let some: Vec<_> = vectors.cases.iter().step_by(7).collect();
        let drop_all = rig.through(some[0].port, &bytes(&some[0].frame)).await;
        assert_eq!(drop_all, [], "there is no program yet");
        let (client, _events) = rig.loaded().await;
        for case in some {
            let expected = match &case.outcome {
                Outcome::Drop(_) => None,
                Outcome::Punt { port, frame, .. }
                | Outcome::Forward { port, frame }
                | Outcome::Inject { port, frame } => Some((u32::from(*port), frame.clone())),
            };
            let sent = rig.through(case.port, &bytes(&case.frame)).await;
            assert_eq!(sent, Vec::from_iter(expected), "{}", case.name);
        }
        // What was written is what is read, of each table and of all.
        let mut written: Vec<TableEntry> = vectors.entries.iter().map(|entry| message(&info(), entry)).collect();
        let mut read = client.read(Query::table(0)).await.unwrap().all().await.unwrap();
        let key = |entry: &TableEntry| format!("{entry:?}");
        written.sort_by_key(key);
        read.sort_by_key(key);
        assert_eq!(read, written);
        let one = client.read(Query::entry(&written[0])).await.unwrap().all().await.unwrap();
        assert_eq!(one, written[..1]);
        // Counters: each forwarded frame is in one.
        let flows = client.read(Query::table(FlowV4Key::TABLE.id).with_counters()).await.unwrap().all().await.unwrap();
        assert!(flows.iter().any(|flow| flow.counter_data.unwrap().packet_count > 0));
        let drops = CounterEntry { counter_id: carom_p4::ID_DROPS, ..CounterEntry::default() };
        let drops = vec![p4rt::Entity { entity: Some(Kind::CounterEntry(drops)) }];
        let request = p4rt::ReadRequest { device_id: 1, entities: drops, ..p4rt::ReadRequest::default() };
        let mut cells = client.service().unwrap().read(request).await.unwrap().into_inner();
        let cells = cells.message().await.unwrap().unwrap().entities.len();
        assert_eq!(cells, 64);
    })
    .await;
    rig.end().await;
}

async fn each_update_gets_the_code_of_the_standard(config: server::Config) {
    let rig = Rig::start(config).await;
    in_time(async {
        let (client, _events) = rig.loaded().await;
        let (known, mut fresh) = (entry("flow_v4", 0), entry("flow_v4", 1));
        let wide = |entry: &TableEntry, value: &'static [u8]| {
            let mut entry = entry.clone();
            let exact = p4rt::field_match::Exact { value: value.into() };
            entry.r#match[0].field_match_type = Some(p4rt::field_match::FieldMatchType::Exact(exact));
            entry
        };
        fresh = wide(&fresh, &[9, 9, 9, 9]);
        let mut wrong_action = fresh.clone();
        wrong_action.action = entry("nexthop", 0).action;
        let short = TableEntry { r#match: fresh.r#match[1..].to_vec(), ..fresh.clone() };
        let codes = write(
            &client,
            1,
            vec![
                (Type::Insert, known.clone()),
                (Type::Insert, fresh.clone()),
                (Type::Delete, wide(&fresh, &[8, 8, 8, 8])),
                (Type::Modify, wide(&fresh, &[8, 8, 8, 8])),
                (Type::Insert, wide(&fresh, &[1, 0, 0, 0, 0])),
                (Type::Insert, wide(&fresh, &[])),
                (Type::Insert, wrong_action),
                (Type::Insert, short),
                (Type::Insert, TableEntry { table_id: 0x0200_00ff, ..fresh.clone() }),
                (Type::Insert, TableEntry { priority: 1, ..fresh.clone() }),
                (Type::Modify, TableEntry { is_default_action: true, ..fresh.clone() }),
                (Type::Insert, TableEntry { idle_timeout_ns: 1, ..entry("nexthop", 0) }),
                (Type::Unspecified, fresh.clone()),
                // In one batch: away and there again, with leading zeros.
                (Type::Delete, fresh.clone()),
                (Type::Insert, wide(&fresh, &[0, 0, 9, 9, 9, 9])),
            ],
        );
        use Code::*;
        assert_eq!(
            codes.await.unwrap_err(),
            [
                AlreadyExists,
                Ok,
                NotFound,
                NotFound,
                OutOfRange,
                OutOfRange,
                InvalidArgument,
                InvalidArgument,
                InvalidArgument,
                InvalidArgument,
                PermissionDenied,
                InvalidArgument,
                InvalidArgument,
                Ok,
                Ok,
            ]
        );
        // A full table: the slow path's has 64 entries.
        let to = entry("slowpath", 0);
        let id = SlowpathKey::TABLE.id;
        let used = client.read(Query::table(id)).await.unwrap().all().await.unwrap().len();
        let worker = |number: u8| {
            let mut entry = to.clone();
            let exact = p4rt::field_match::Exact { value: vec![number].into() };
            entry.r#match[0].field_match_type = Some(p4rt::field_match::FieldMatchType::Exact(exact));
            entry
        };
        let more = (100..).take(64 - used).map(|number| (Type::Insert, worker(number))).collect();
        write(&client, 1, more).await.unwrap();
        let exchange = vec![(Type::Insert, worker(99)), (Type::Delete, worker(100)), (Type::Insert, worker(98))];
        assert_eq!(write(&client, 1, exchange).await.unwrap_err(), [ResourceExhausted, Ok, Ok]);

        let (backup, _events) = rig.client(0);
        backup.wait_for(|standing| matches!(standing, Standing::Backup { .. })).await;
        assert_eq!(write(&backup, 0, vec![(Type::Delete, known)]).await.unwrap_err(), [PermissionDenied]);
        assert_eq!(backup.read(Query::table(id)).await.unwrap().all().await.unwrap().len(), 64, "backups read");
    })
    .await;
    rig.end().await;
}

async fn a_program_that_does_not_fit_leaves_the_old_one_running(config: server::Config) {
    let rig = Rig::start(config).await;
    in_time(async {
        let (client, _events) = rig.loaded().await;
        let vectors = file::read();
        let is_forward = |case: &&file::Case| matches!(case.outcome, Outcome::Forward { .. });
        let case = vectors.cases.iter().find(is_forward).unwrap();
        let Outcome::Forward { port, frame } = &case.outcome else { unreachable!() };
        let expected = [(u32::from(*port), frame.clone())];
        let text = str::from_utf8(PNA_SPEC).unwrap();
        for broken in [text.replace("size 0x20000", "size 0x3fffffff"), text.replace("mov m", "moo m"), "x".into()] {
            let pipeline = Pipeline { device_config: PnaSpec(broken.into_bytes().into()), ..program(1) };
            assert!(client.bring_up(&pipeline, Entries::Clear).await.is_err());
            assert_eq!(rig.through(case.port, &bytes(&case.frame)).await, expected, "the old one runs");
        }
        assert_eq!(client.cookie().await, Ok(Some(0xca40)));
        // A larger one, with the entries there are.
        let larger = text.replace("size 0x1000\n", "size 0x2000\n");
        let pipeline = Pipeline { device_config: PnaSpec(larger.into_bytes().into()), ..program(2) };
        assert_eq!(client.bring_up(&pipeline, Entries::KeepIfPossible).await, Ok(Brought::Reconciled));
        assert_eq!(rig.through(case.port, &bytes(&case.frame)).await, expected, "its entries are there");
        let count = client.read(Query::table(0)).await.unwrap().all().await.unwrap().len();
        assert_eq!(count, vectors.entries.len());
        // And one from the start.
        assert_eq!(client.bring_up(&program(3), Entries::Clear).await, Ok(Brought::Committed));
        assert_eq!(client.read(Query::table(0)).await.unwrap().all().await.unwrap(), []);
        assert_eq!(rig.through(case.port, &bytes(&case.frame)).await, []);
    })
    .await;
    rig.end().await;
}

async fn entries_without_packets_are_told_of(config: server::Config) {
    let rig = Rig::start(config).await;
    in_time(async {
        let (client, mut events) = rig.loaded().await;
        let vectors = file::read();
        let is_forward = |case: &&file::Case| matches!(case.outcome, Outcome::Forward { .. });
        let case = vectors.cases.iter().find(is_forward).unwrap();
        let timeout = 1_500_000_000;
        let mut busy = entry("flow_v4", 0);
        let mut quiet = entry("flow_v6", 1);
        (busy.idle_timeout_ns, quiet.idle_timeout_ns) = (timeout, timeout);
        let start = Instant::now();
        write(&client, 1, vec![(Type::Modify, busy.clone()), (Type::Modify, quiet.clone())]).await.unwrap();
        // A machine that stands still for a second and a half makes the busy one quiet too: the longest from before a hit to
        // after the next one.
        let (mut hit, mut longest) = (start, Duration::ZERO);
        let mut told: Vec<TableEntry> = Vec::new();
        while !told.iter().any(|idle| idle.r#match == quiet.r#match) {
            let last = std::mem::replace(&mut hit, Instant::now());
            rig.through(case.port, &bytes(&case.frame)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(Event::Idle(notice)) = events.try_next() {
                told.extend(notice.table_entry);
            }
            longest = longest.max(last.elapsed());
        }
        let timeout = Duration::from_nanos(timeout as u64);
        assert!(start.elapsed() >= timeout);
        let stood_still = longest >= timeout;
        told.retain(|idle| !stood_still || idle.r#match == quiet.r#match);
        let [idle] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((idle.table_id, &idle.r#match), (FlowV6Key::TABLE.id, &quiet.r#match));
        assert_eq!(idle.idle_timeout_ns, timeout.as_nanos() as i64);
        let mut hits = Vec::new();
        for entry in [&busy, &quiet] {
            let query = Query::entry(entry).with_last_hit().with_counters();
            let read = client.read(query).await.unwrap().all().await.unwrap();
            let counted = read[0].counter_data.unwrap().packet_count;
            hits.push((read[0].time_since_last_hit.unwrap().elapsed_ns, counted > 0));
        }
        let [(busy, true), (quiet, false)] = hits[..] else { panic!("{hits:?}") };
        assert!(busy < quiet && quiet >= timeout.as_nanos() as i64, "{busy} {quiet}");
    })
    .await;
    rig.end().await;
}
