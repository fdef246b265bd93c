//! Entries through the P4Runtime server: inserted, all of them, and deleted again, by one client over TCP, while frames of
//! flows that stay pass. Each frame that is offered must come out, and byte for byte right.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use carom_p4::artifacts::{PNA_P4INFO, PNA_SPEC};
use carom_p4::{Action as _, Key, NexthopAction, NexthopKey};
use dpdk::swx::Wire;
use dpdk::{Eal, EalConfig, Memory, Mempool, MempoolConfig};
use p4runtime_proto::p4::config::v1::P4Info;
use prost::Message;
use runtime_client::pipeline::{Entries, Pipeline, PnaSpec};
use runtime_client::write::{
    Action, Entity, Entry, Kind, Match, MatchValue, Outcome, Param, Settled, Update, WriteConfig, Writer,
};
use runtime_client::{Address, Client, Config, Standing};
use serde::Serialize;
use softnic::engine::Engine;
use softnic::server::{self, Server};
use tokio::net::TcpListener;

use super::super::install::cpu;
use super::super::memory::Resident;
use super::super::setup::{OUR_MACS, PEER_MACS};
use super::super::{BenchError, PATIENCE, print};
use super::failed;
use super::frames::{self, NEXTHOP};
use super::ports::{Incoming, Outgoing, Passed};
use super::program::LITTLE_ROOM;
use crate::cli::SoftnicInstall;
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;

/// Memory for tables and buffers, where there are no huge pages, MB.
const MEMORY_MB: u32 = 384;
/// Flows that frames are of, which stay.
const STAYING: u32 = 1000;
/// Name of the server's thread.
const SERVER: &str = "bench-server";

/// One operation on all entries.
#[derive(Debug, Serialize)]
struct Rate {
    per_second: f64,
    /// By the CPU time of the server's thread alone.
    per_server_cpu_second: f64,
    refused: usize,
    /// What the pipeline forwarded meanwhile.
    forwarded_mpps: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Installed {
    bench: &'static str,
    code: String,
    entries: u32,
    batch: u16,
    insert: Rate,
    delete: Rate,
    offered_packets: u64,
    lost_packets: u64,
    wrong_packets: u64,
    /// Growth of what is resident, from before the program to the last entry.
    resident_bytes_per_entry: f64,
    /// Of DPDK's memory.
    dpdk_bytes_per_entry: f64,
}

pub fn run(args: &SoftnicInstall) -> Result<(), BenchError> {
    let error = |what: &'static str| failed(what);
    let code = crate::softnic::code(args.code.into()).map_err(|e| BenchError(e.to_string()))?;
    let memory = Memory::Auto { mb: MEMORY_MB };
    let eal = Eal::init(EalConfig { memory, ..EalConfig::default() }).map_err(|e| error("DPDK")(&e))?;
    let mempool = Mempool::new(&eal, "bench", MempoolConfig { mbufs: 4095, ..MempoolConfig::default() });
    let mempool = mempool.map_err(|e| error("buffers")(&e))?;
    let passed = Arc::new(Passed::default());
    passed.stopped.store(true, Relaxed);
    let staying = args.entries..args.entries + STAYING;
    let wires: Vec<(u32, Box<dyn Wire>)> = vec![
        (1, Box::new(Incoming::new(mempool, staying.clone(), &passed))),
        (2, Box::new(Outgoing::new(staying, &passed))),
    ];
    let engine = Engine::start(eal, wires, args.pipeline_cpu).map_err(|e| error("the pipeline")(&e))?;
    let room = args.entries + STAYING;
    let sizes = vec![("flow_v4".into(), room), ("flow_v6".into(), LITTLE_ROOM)];
    let config = server::Config { sizes, code, ..server::Config::default() };
    let runtime = |name: &str| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all().build().map_err(|e| error("threads")(&e))
    };
    let servers = runtime(SERVER)?;
    let listener = servers.block_on(TcpListener::bind("127.0.0.1:0")).map_err(|e| error("the server")(&e))?;
    let address = listener.local_addr().map_err(|e| error("the server")(&e))?.to_string();
    servers.spawn(Server::new(eal, engine, config).serve(listener, std::future::pending()));
    let result = runtime("bench-client")?.block_on(Measurement { args, eal, passed, address }.run())?;
    print(args.json, &text(&result), &result)
}

struct Measurement<'a> {
    args: &'a SoftnicInstall,
    eal: Eal,
    passed: Arc<Passed>,
    address: String,
}

impl Measurement<'_> {
    async fn run(&self) -> Result<Installed, BenchError> {
        let (args, entries) = (self.args, self.args.entries);
        let error = failed("the client");
        let (client, _events) = Client::start(Config::new(Address::tcp(&self.address), 1)).map_err(|e| error(&e))?;
        client.wait_for(Standing::is_primary).await;
        let info = P4Info::decode(PNA_P4INFO).map_err(|e| error(&e))?;
        let pipeline = Pipeline { p4info: info, device_config: PnaSpec(PNA_SPEC.into()), cookie: 1 };
        let (resident, free) = (Resident::now()?, self.eal.memory().free);
        client.bring_up(&pipeline, Entries::Clear).await.map_err(|e| error(&e))?;
        let dpdk_bytes = free.saturating_sub(self.eal.memory().free);

        let config = WriteConfig { batch: args.batch.into(), ..WriteConfig::default() };
        let mut writer = client.writer(config);
        let nexthop = NexthopAction::Forward { smac: OUR_MACS[1].0, dmac: PEER_MACS[1].0, port: 2 };
        let hop = |writer: &mut Writer, _| submit(writer, 0, Kind::Insert, &NexthopKey { nexthop: NEXTHOP }, &nexthop);
        let refused = submit_all(&mut writer, 0..1, hop).await
            + submit_all(&mut writer, entries..entries + STAYING, |writer, at| flow(writer, Kind::Insert, at)).await;
        if refused > 0 {
            return Err(BenchError(format!("{refused} of the first entries were refused")));
        }
        self.passed.stopped.store(false, Relaxed);
        let insert = self.rate(&mut writer, Kind::Insert).await?;
        let full = Resident::now()?;
        let delete = self.rate(&mut writer, Kind::Delete).await?;
        self.passed.stopped.store(true, Relaxed);
        let start = Instant::now();
        while self.passed.missing() > 0 && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let each = |bytes: u64| bytes as f64 / f64::from(entries + STAYING);
        Ok(Installed {
            bench: "softnic-install",
            code: format!("{:?}", args.code).to_lowercase(),
            entries,
            batch: args.batch,
            insert,
            delete,
            offered_packets: self.passed.offered.load(Relaxed),
            lost_packets: self.passed.missing(),
            wrong_packets: self.passed.wrong.load(Relaxed),
            resident_bytes_per_entry: each(full.all.saturating_sub(resident.all)),
            dpdk_bytes_per_entry: each(dpdk_bytes),
        })
    }

    /// Does it to all entries.
    async fn rate(&self, writer: &mut Writer, kind: Kind) -> Result<Rate, BenchError> {
        let entries = self.args.entries;
        let (start, cpu, arrived) = (Instant::now(), cpu::of_thread(SERVER)?, self.passed.arrived.load(Relaxed));
        let refused = submit_all(writer, 0..entries, |writer, at| flow(writer, kind, at)).await;
        let seconds = start.elapsed().as_secs_f64();
        let cpu = cpu::of_thread(SERVER)?.saturating_sub(cpu);
        Ok(Rate {
            per_second: f64::from(entries) / seconds,
            per_server_cpu_second: f64::from(entries) / cpu.as_secs_f64(),
            refused,
            forwarded_mpps: (self.passed.arrived.load(Relaxed) - arrived) as f64 / seconds / 1e6,
        })
    }
}

fn flow(writer: &mut Writer, kind: Kind, at: u32) -> bool {
    submit(writer, at.into(), kind, &frames::key(at), &frames::action(at))
}

fn submit<K: Key>(writer: &mut Writer, number: u64, kind: Kind, key: &K, action: &K::Action) -> bool {
    let (fields, params) = (key.fields(), action.params());
    let matches: Vec<_> =
        fields.iter().map(|(id, value)| Match { field_id: *id, value: MatchValue::Exact(value.as_ref()) }).collect();
    let params: Vec<_> = params.iter().map(|(id, value)| Param { id: *id, value: value.as_ref() }).collect();
    let action = (kind != Kind::Delete).then(|| Action { id: action.id(), params: &params });
    let entry = Entry { table_id: K::TABLE.id, matches: &matches, action, ..Entry::default() };
    writer.submit(number, &[Update { kind, entity: Entity::Entry(entry) }]).is_ok()
}

/// Submits these updates and waits for all of them. Says how many were not applied.
async fn submit_all(
    writer: &mut Writer,
    numbers: std::ops::Range<u32>,
    mut submit: impl FnMut(&mut Writer, u32) -> bool,
) -> usize {
    let (mut numbers, mut refused) = (numbers.peekable(), 0);
    let mut settled: Vec<Settled> = Vec::new();
    while numbers.peek().is_some() || writer.pending() > 0 {
        while writer.room() > 0 && numbers.next_if(|number| submit(writer, *number)).is_some() {}
        writer.settle(&mut settled).await;
        refused += settled.drain(..).filter(|each| each.outcome != Outcome::Applied).count();
    }
    refused
}

fn text(r: &Installed) -> String {
    let row = |what: &str, rate: &Rate| {
        vec![
            what.to_owned(),
            format!("{:.0}", rate.per_second),
            format!("{:.0}", rate.per_server_cpu_second),
            rate.refused.to_string(),
            format!("{:.2}", rate.forwarded_mpps),
        ]
    };
    let columns = [
        ("ENTRIES", Left),
        ("PER SECOND", Right),
        ("PER CPU-S OF THE SERVER", Right),
        ("REFUSED", Right),
        ("MPPS MEANWHILE", Right),
    ];
    let rows = [row("inserted", &r.insert), row("deleted", &r.delete)];
    format!(
        "{} entries, batches of {}, {} code\n{}\n{} frames offered, {} lost, {} wrong\n\
         {:.0} bytes resident for each entry, {:.0} of them DPDK's",
        r.entries,
        r.batch,
        r.code,
        table(&columns, rows, None),
        r.offered_packets,
        r.lost_packets,
        r.wrong_packets,
        r.resident_bytes_per_entry,
        r.dpdk_bytes_per_entry,
    )
}
