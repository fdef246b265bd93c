//! How many entries a second the server takes over gRPC while the pipeline forwards, and whether a packet suffers.
//!
//! ```text
//! cargo run --release -p softnic --example install
//! ```
//!
//! Flows are inserted, all of them, and deleted again. Meanwhile frames of some flows that stay pass as fast as the
//! pipeline takes them, and each one that leaves is looked at.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use carom_p4::artifacts::{PNA_P4INFO, PNA_SPEC};
use carom_p4::{Action as _, FlowV4Action, FlowV4Key, Key, NexthopAction, NexthopKey};
use dpdk::swx::Wire;
use dpdk::{Burst, Eal, EalConfig, Mbuf, Memory, Mempool, MempoolConfig};
use fullnat::frame::Frame;
use p4runtime_proto::p4::config::v1::P4Info;
use prost::Message;
use runtime_client::pipeline::{Entries, Pipeline, PnaSpec};
use runtime_client::write::{
    Action, Entity, Entry, Kind, Match, MatchValue, Outcome, Param, Settled, Update, WriteConfig, Writer,
};
use runtime_client::{Address, Client, Config, Standing};
use softnic::engine::Engine;
use softnic::server::{self, Server};
use tokio::net::TcpListener;

/// Flows that come and go, and those that stay.
const FLOWS: u32 = (1 << 18) - STAYING;
const STAYING: u32 = 1000;

#[derive(Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
    wrong: AtomicU64,
}

/// Frames of the flows that stay, over and over.
struct Source {
    pool: Mempool,
    next: u32,
    free: Vec<Mbuf>,
    counts: Arc<Counts>,
}

fn key(flow: u32) -> FlowV4Key {
    let sport = 1024 + (flow & 0x7fff) as u16;
    FlowV4Key { src: 0x0a00_0000 + (flow >> 15), dst: 0xc633_640a, proto: 6, sport, dport: 80 }
}

/// Where a flow is rewritten to: another place for each.
fn rewrite(flow: u32) -> FlowV4Action {
    FlowV4Action::RewriteV4 { src: 0x0b00_0000 + flow, dst: 0x0a00_0114, sport: 1025, dport: 8080, nexthop: 1 }
}

impl Wire for Source {
    fn receive(&mut self, burst: &mut Burst) {
        while !burst.is_full() {
            let Some(mut mbuf) = self.free.pop().or_else(|| self.pool.alloc()) else { return };
            self.next = (self.next + 1) % STAYING;
            let key = key(FLOWS + self.next);
            if !mbuf.set_len(60) {
                return;
            }
            let frame = mbuf.bytes_mut();
            frame.fill(0);
            frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
            frame[16..18].copy_from_slice(&46u16.to_be_bytes());
            frame[22..24].copy_from_slice(&[64, 6]);
            frame[26..30].copy_from_slice(&key.src.to_be_bytes());
            frame[30..34].copy_from_slice(&key.dst.to_be_bytes());
            frame[34..36].copy_from_slice(&key.sport.to_be_bytes());
            frame[36..38].copy_from_slice(&key.dport.to_be_bytes());
            frame[47] = 0x10;
            // What the flow shall be rewritten to.
            frame[54..58].copy_from_slice(&(0x0b00_0000 + FLOWS + self.next).to_be_bytes());
            if burst.push(mbuf).is_err() {
                return;
            }
            self.counts.received.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&mut self, burst: &mut Burst) {
        for mbuf in burst.drain() {
            let frame = mbuf.bytes();
            let right = frame.len() == 60 && frame[26..30] == frame[54..58] && frame[22] == 63;
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
            self.counts.wrong.fetch_add(u64::from(!right), Ordering::Relaxed);
            self.free.push(mbuf);
        }
    }
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

/// Submits so many updates and waits for all of them. Says how many were not applied.
async fn submit_all(writer: &mut Writer, count: u32, mut submit: impl FnMut(&mut Writer, u32) -> bool) -> usize {
    let (mut next, mut failed) = (0, 0);
    let mut settled: Vec<Settled> = Vec::new();
    while next < count || writer.pending() > 0 {
        while next < count && writer.room() > 0 && submit(writer, next) {
            next += 1;
        }
        writer.settle(&mut settled).await;
        failed += settled.drain(..).filter(|each| each.outcome != Outcome::Applied).count();
    }
    failed
}

async fn measure(address: String, counts: &Counts) -> Result<(), Box<dyn Error>> {
    let (client, _events) = Client::start(Config::new(Address::tcp(address), 1))?;
    client.wait_for(Standing::is_primary).await;
    let info = P4Info::decode(PNA_P4INFO)?;
    let pipeline = Pipeline { p4info: info, device_config: PnaSpec(PNA_SPEC.into()), cookie: 1 };
    client.bring_up(&pipeline, Entries::Clear).await?;
    let mut writer = client.writer(WriteConfig { batch: 512, ..WriteConfig::default() });
    let nexthop = NexthopAction::Forward { smac: [2; 6], dmac: [4; 6], port: 1 };
    let flow = |writer: &mut Writer, kind, at: u32| submit(writer, at.into(), kind, &key(at), &rewrite(at));
    let mut failed = submit_all(&mut writer, 1, |writer, _| {
        submit(writer, u64::MAX, Kind::Insert, &NexthopKey { nexthop: 1 }, &nexthop)
    })
    .await;
    failed += submit_all(&mut writer, STAYING, |writer, at| flow(writer, Kind::Insert, FLOWS + at)).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    for (what, kind) in [("inserted", Kind::Insert), ("deleted", Kind::Delete)] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (start, sent, wrong) = (Instant::now(), load(&counts.sent), load(&counts.wrong));
        failed += submit_all(&mut writer, FLOWS, |writer, at| flow(writer, kind, at)).await;
        let seconds = start.elapsed().as_secs_f64();
        let (sent, wrong) = (load(&counts.sent) - sent, load(&counts.wrong) - wrong);
        println!(
            "{FLOWS} {what} in {seconds:.2} s: {:.0} per second; {failed} refused; meanwhile {:.2} Mpps, {wrong} of {sent} \
             packets wrong",
            f64::from(FLOWS) / seconds,
            sent as f64 / seconds / 1e6,
        );
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let eal = Eal::init(EalConfig { memory: Memory::Auto { mb: 1024 }, ..Default::default() })?;
    let pool = Mempool::new(&eal, "install", MempoolConfig { mbufs: 1023, cache: 0, ..Default::default() })?;
    let counts = Arc::new(Counts::default());
    let source = Source { pool, next: 0, free: Vec::new(), counts: counts.clone() };
    let engine = Engine::start(eal, vec![(1, Box::new(source))], None)?;
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = servers.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?.to_string();
    let config = server::Config { sizes: vec![("flow_v4".into(), 1 << 18)], ..server::Config::default() };
    servers.spawn(Server::new(eal, engine, config).serve(listener, std::future::pending()));
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    own.block_on(measure(address, &counts))
}
