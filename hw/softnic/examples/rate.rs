//! What the pipeline does in a second of CPU time: packets forwarded on hits, and entries written.
//!
//! ```text
//! cargo run --release -p softnic --example rate
//! cargo run --release -p softnic --example rate -- generated
//! ```

use std::time::{Duration, Instant};

use carom_p4::artifacts::{PNA_P4INFO, PNA_SPEC};
use carom_p4::{Action, FlowV4Action, FlowV4Key, Key, NexthopAction, NexthopKey};
use dpdk::swx::{Code, Compiler, Pipeline, Wire};
use dpdk::{Burst, Eal, EalConfig, Mbuf, Memory, Mempool, MempoolConfig};
use fullnat::frame::Frame;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::{self as p4rt, TableEntry};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};
use softnic::spec::Spec;
use softnic::tables::Tables;

const ROOM: u32 = 1 << 18;

/// Every frame of the flow comes in again when it has gone out: nothing but the pipeline is measured, and 60 bytes copied.
struct Source {
    pool: Mempool,
    flows: u32,
    next: u32,
    free: Vec<Mbuf>,
}

/// The key of a flow.
fn key(flow: u32) -> FlowV4Key {
    let sport = 1024 + (flow & 0x7fff) as u16;
    FlowV4Key { src: 0x0a00_0000 + (flow >> 15), dst: 0xc633_640a, proto: 6, sport, dport: 80 }
}

/// A TCP segment of 54 bytes, padded to 60. Checksums are wrong and stay so.
fn segment() -> [u8; 60] {
    let mut frame = [0; 60];
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[16..18].copy_from_slice(&40u16.to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[46..48].copy_from_slice(&[0x50, 0x10]);
    frame
}

impl Wire for Source {
    fn receive(&mut self, burst: &mut Burst) {
        let template = segment();
        while !burst.is_full() {
            let Some(mut mbuf) = self.free.pop().or_else(|| self.pool.alloc()) else { return };
            // Scattered, as flows come.
            self.next = (self.next + 7919) % self.flows;
            let key = key(self.next);
            if !mbuf.set_len(60) {
                return;
            }
            let frame = mbuf.bytes_mut();
            frame.copy_from_slice(&template);
            frame[26..30].copy_from_slice(&key.src.to_be_bytes());
            frame[30..34].copy_from_slice(&key.dst.to_be_bytes());
            frame[34..36].copy_from_slice(&key.sport.to_be_bytes());
            frame[36..38].copy_from_slice(&key.dport.to_be_bytes());
            if burst.push(mbuf).is_err() {
                return;
            }
        }
    }

    fn send(&mut self, burst: &mut Burst) {
        self.free.extend(burst.drain());
    }
}

fn entry<K: Key<Action = A>, A: Action>(key: &K, action: &A) -> TableEntry {
    let field = |(field_id, value): &(u32, carom_p4::Bytes)| p4rt::FieldMatch {
        field_id: *field_id,
        field_match_type: Some(p4rt::field_match::FieldMatchType::Exact(p4rt::field_match::Exact {
            value: value.as_ref().to_vec().into(),
        })),
    };
    let param = |(param_id, value): &(u32, carom_p4::Bytes)| p4rt::action::Param {
        param_id: *param_id,
        value: value.as_ref().to_vec().into(),
    };
    let call = p4rt::Action { action_id: action.id(), params: action.params().iter().map(param).collect() };
    TableEntry {
        table_id: K::TABLE.id,
        r#match: key.fields().iter().map(field).collect(),
        action: Some(p4rt::TableAction { r#type: Some(p4rt::table_action::Type::Action(call)) }),
        ..TableEntry::default()
    }
}

fn flow(flow: u32) -> TableEntry {
    let action = FlowV4Action::RewriteV4 { src: 0x0a00_0105, dst: 0x0a00_0114, sport: 1025, dport: 8080, nexthop: 1 };
    entry(&key(flow), &action)
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn build(eal: &Eal, code: &Code, pool: Mempool, flows: u32) -> (Pipeline, Tables) {
    let mut spec = Spec::parse(str::from_utf8(PNA_SPEC).expect("text")).expect("the program");
    spec.resize("_flow_v4_0", ROOM);
    let program = softnic::guard::program(&spec).expect("the program");
    let source = Source { pool, flows, next: 0, free: Vec::new() };
    let (pipeline, control) = Pipeline::build(eal, &program, code, vec![(1, Box::new(source))]).expect("a pipeline");
    let info = P4Info::decode(PNA_P4INFO).expect("P4Info");
    (pipeline, Tables::new(control, &info, Box::new(std::thread::yield_now)).expect("names"))
}

/// Waits for the pipeline by running it: writes are measured with what they cost the pipeline's thread.
fn publish(tables: &mut Tables, pipeline: &mut Pipeline) {
    while tables.publish_within(Duration::ZERO).is_err() {
        pipeline.run();
    }
}

fn forwarding(eal: &Eal, code: &Code, pool: Mempool, flows: u32) {
    let (mut pipeline, mut tables) = build(eal, code, pool, flows);
    let nexthop = NexthopAction::Forward { smac: [2; 6], dmac: [4; 6], port: 1 };
    tables.insert(&entry(&NexthopKey { nexthop: 1 }, &nexthop)).expect("a next hop");
    (0..flows).for_each(|at| tables.insert(&flow(at)).expect("a flow"));
    publish(&mut tables, &mut pipeline);
    let sent = |pipeline: &Pipeline| pipeline.wires()[0].1.sent;
    let run = |pipeline: &mut Pipeline, time: Duration| {
        let (start, cpu, before) = (Instant::now(), cpu_time(), sent(pipeline));
        while start.elapsed() < time {
            (0..64).for_each(|_| _ = pipeline.run());
        }
        (sent(pipeline) - before, cpu_time() - cpu)
    };
    run(&mut pipeline, Duration::from_millis(500));
    let (packets, cpu) = run(&mut pipeline, Duration::from_secs(3));
    let nanoseconds = cpu.as_nanos() as f64 / packets as f64;
    println!("forward  {flows:>7} flows: {:5.2} Mpps per CPU-second, {nanoseconds:.0} ns", 1e3 / nanoseconds);
}

fn writing(eal: &Eal, code: &Code, pool: Mempool, entries: u32) {
    let (mut pipeline, mut tables) = build(eal, code, pool, 1);
    let messages: Vec<TableEntry> = (0..entries).map(flow).collect();
    for (what, delete) in [("insert", false), ("delete", true)] {
        let (start, cpu) = (Instant::now(), cpu_time());
        // As large as a controller's batches.
        for batch in messages.chunks(512) {
            for message in batch {
                if delete { tables.delete(message) } else { tables.insert(message) }.expect("a write");
            }
            publish(&mut tables, &mut pipeline);
        }
        let (wall, cpu) = (start.elapsed(), cpu_time() - cpu);
        let each = |time: Duration| time.as_nanos() as f64 / f64::from(entries);
        println!("{what}   {entries:>7} entries: {:4.0} ns each ({:.0} ns CPU)", each(wall), each(cpu));
    }
}

fn main() {
    let memory = Memory::Auto { mb: 1024 };
    let eal = Eal::init(EalConfig { memory, ..Default::default() }).expect("EAL");
    let pool =
        Mempool::new(&eal, "rate", MempoolConfig { mbufs: 1023, cache: 0, ..Default::default() }).expect("mbufs");
    println!("memory: {}", eal.memory());
    let generated = std::env::args().nth(1).is_some_and(|word| word == "generated");
    let code = &if generated { Code::Generated(Compiler::default()) } else { Code::Interpreted };
    for entries in [1_000, 100_000, ROOM] {
        writing(&eal, code, pool, entries);
    }
    let before = eal.memory().free;
    let switch = build(&eal, code, pool, 1);
    let used = before - eal.memory().free;
    println!("DPDK's memory of the program with room for {ROOM} IPv4 flows: {} MB", used >> 20);
    drop(switch);
    for flows in [1_000, 100_000, ROOM] {
        forwarding(&eal, code, pool, flows);
    }
}
