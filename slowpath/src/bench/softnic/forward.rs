//! Frames through one pipeline thread, and through the slow path beside it, which takes its turns on the same thread.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use carom_p4::{
    InjectAction, InjectKey, NexthopAction, NexthopKey, PortAction, PortKey, ServiceV4Action, ServiceV4Key,
    SlowpathAction, SlowpathKey,
};
use dpdk::swx::Wire;
use dpdk::{Burst, Eal, EalConfig, Memory, Mempool, MempoolConfig};
use fullnat::id::Proto;
use fullnat::reason::DropReason;
use serde::Serialize;

use super::super::setup::{OUR_MACS, PEER_MACS, Shared, Wish};
use super::super::{BenchError, PATIENCE, cpu_time, packet_pages, print};
use super::failed;
use super::frames::{self, NEXTHOP};
use super::ports::{Incoming, Outgoing, Passed};
use super::program::{self, LINK, Switch};
use crate::cli::SoftnicForward;
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;
use crate::softnic;
use crate::worker::{BURST, Ports, Sink, Source, Worker};

/// Memory for tables and buffers, where there are no huge pages, MB.
const MEMORY_MB: u32 = 384;
/// Rounds between two looks at the clock.
const ROUNDS: u32 = 64;

/// What was measured.
#[derive(Debug, Serialize)]
struct Forwarded {
    bench: &'static str,
    code: String,
    flows: u32,
    punted_percent: u32,
    /// What packet buffers are on.
    packet_pages: &'static str,
    packets: u64,
    mpps_per_cpu_second: f64,
    /// All of it: ports, pipeline, and the slow path's part.
    ns_per_packet: f64,
    /// Of the ports alone.
    io_ns_per_packet: f64,
    lost_packets: u64,
    wrong_packets: u64,
}

type SlowPath = Worker<Source, Sink>;

pub fn run(args: &SoftnicForward) -> Result<(), BenchError> {
    let memory = Memory::Auto { mb: MEMORY_MB };
    let eal = Eal::init(EalConfig { memory, ..EalConfig::default() }).map_err(|e| failed("DPDK")(&e))?;
    let lcore = dpdk::register_thread(&eal, None).map_err(|e| failed("this thread")(&e))?;
    let result = measure(eal, args)?;
    drop(lcore);
    print(args.json, &text(&result), &result)
}

fn measure(eal: Eal, args: &SoftnicForward) -> Result<Forwarded, BenchError> {
    let code = softnic::code(args.code.into()).map_err(|e| BenchError(e.to_string()))?;
    let mempool = Mempool::new(&eal, "bench", MempoolConfig { mbufs: 8191, ..MempoolConfig::default() });
    let mempool = mempool.map_err(|e| failed("buffers")(&e))?;
    // Flows below this are punted: spread evenly over time, as flows are in turn.
    let punted = (u64::from(args.flows) * u64::from(args.punted) / 100) as u32;
    let io_ns = ports_alone(mempool, args);

    let passed = Arc::new(Passed::default());
    let (link, mut ends) = softnic::rings(&eal, 1).map_err(|e| failed("rings")(&e))?;
    let turn = spread_out(args.flows);
    let wires: Vec<(u32, Box<dyn Wire>)> = vec![
        (1, Box::new(Incoming::new(mempool, turn, &passed))),
        (2, Box::new(Outgoing::new(punted..args.flows, &passed))),
        (LINK.into(), link),
    ];
    let mut switch = program::build(&eal, &code, args.flows.max(program::LITTLE_ROOM), wires)?;
    fill(&mut switch, punted..args.flows)?;
    let end = ends.pop().ok_or_else(|| BenchError("no ring".to_owned()))?;
    let mut slow_path = if punted > 0 { Some(worker(eal, mempool, punted, end)?) } else { None };

    let mut round = || {
        let idle = switch.pipeline.run();
        // As often as it takes: the daemon's worker has a thread of its own.
        let rounds = slow_path.iter_mut().flat_map(|worker| std::iter::from_fn(|| worker.poll().then_some(())));
        rounds.count() == 0 && idle
    };
    let length = Duration::from_secs_f64(args.seconds);
    // Sessions are made, too.
    repeat(length / 5, &passed, args.flows.into(), &mut round);
    let (packets, cpu) = repeat(length, &passed, 0, &mut round);
    passed.stopped.store(true, Relaxed);
    let start = Instant::now();
    while (!round() || passed.missing() > 0) && start.elapsed() < PATIENCE {}
    complete(packets, &passed, slow_path.as_ref())?;
    let ns = cpu.as_secs_f64() * 1e9 / packets as f64;
    Ok(Forwarded {
        bench: "softnic",
        code: format!("{:?}", args.code).to_lowercase(),
        flows: args.flows,
        punted_percent: args.punted,
        packet_pages: packet_pages(&eal),
        packets,
        mpps_per_cpu_second: 1e3 / ns,
        ns_per_packet: ns,
        io_ns_per_packet: io_ns,
        lost_packets: passed.missing(),
        wrong_packets: passed.wrong.load(Relaxed),
    })
}

/// That every frame came out, and right: otherwise something else was measured.
fn complete(packets: u64, passed: &Passed, slow_path: Option<&SlowPath>) -> Result<(), BenchError> {
    let (lost, wrong) = (passed.missing(), passed.wrong.load(Relaxed));
    if packets > 0 && lost == 0 && wrong == 0 {
        return Ok(());
    }
    let count = |worker: &SlowPath| {
        let counted = DropReason::ALL.iter().map(|&reason| (reason.name(), worker.counters.dropped(reason)));
        let drops: Vec<_> = counted.filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        format!("; of the slow path's {} frames dropped: {}", worker.counters.rx_packets.get(), drops.join(", "))
    };
    let drops = slow_path.map(count).unwrap_or_default();
    Err(BenchError(format!("{packets} frames came out, {lost} were lost and {wrong} wrong{drops}")))
}

/// Every flow once, those that follow each other in number far apart.
fn spread_out(flows: u32) -> impl Iterator<Item = u32> {
    // A prime above most numbers of flows has no divisor in common with them; otherwise one after the other.
    let step = if flows.is_multiple_of(7919) { 1 } else { 7919 };
    (0..u64::from(flows)).map(move |at| (at * step % u64::from(flows)) as u32)
}

/// Goes round for so long and until so many frames have left. Says how many have, and the CPU time.
fn repeat(length: Duration, passed: &Passed, least: u64, round: &mut impl FnMut() -> bool) -> (u64, Duration) {
    let (start, cpu, before) = (Instant::now(), cpu_time(), passed.arrived.load(Relaxed));
    loop {
        for _ in 0..ROUNDS {
            round();
        }
        let packets = passed.arrived.load(Relaxed) - before;
        let enough = packets >= least || start.elapsed() > PATIENCE;
        if start.elapsed() >= length && enough {
            return (packets, cpu_time() - cpu);
        }
    }
}

/// What the ports take without a switch between them, nanoseconds for each frame.
fn ports_alone(mempool: Mempool, args: &SoftnicForward) -> f64 {
    let passed = Arc::new(Passed::default());
    let mut incoming = Incoming::new(mempool, spread_out(args.flows), &passed);
    let mut outgoing = Outgoing::new(0..args.flows, &passed);
    let (packets, cpu) = repeat(Duration::from_secs_f64(args.seconds / 5.0), &passed, 1, &mut || {
        let mut burst: Burst<BURST> = Burst::new();
        incoming.receive(&mut burst);
        outgoing.send(&mut burst);
        false
    });
    cpu.as_secs_f64() * 1e9 / packets.max(1) as f64
}

/// The entries: some flows, the service for all others, and the ways to the slow path and back.
fn fill(switch: &mut Switch, hits: std::ops::Range<u32>) -> Result<(), BenchError> {
    let forward = NexthopAction::Forward { smac: OUR_MACS[1].0, dmac: PEER_MACS[1].0, port: 2 };
    switch.insert(&NexthopKey { nexthop: NEXTHOP }, &forward)?;
    let key = frames::key(0);
    let service = ServiceV4Key { dst: key.dst, proto: key.proto, dport: key.dport };
    switch.insert(&service, &ServiceV4Action::PuntServiceV4 { worker: 0 })?;
    switch.insert(&SlowpathKey { worker: 0 }, &SlowpathAction::ToPort { port: LINK.into() })?;
    switch.insert(&InjectKey { port: LINK.into() }, &InjectAction::Honour {})?;
    for port in [1, 2] {
        switch.insert(&PortKey { vid: port }, &PortAction::OutOf { port: port.into() })?;
    }
    for flow in hits {
        switch.insert(&frames::key(flow), &frames::action(flow))?;
    }
    switch.publish()
}

/// A worker as the daemon runs it behind a switch in its process.
fn worker(eal: Eal, mempool: Mempool, sessions: u32, (from, to): softnic::WorkerEnd) -> Result<SlowPath, BenchError> {
    let shared = Shared::with_buffers::<Ipv4Addr>(eal, Wish::lasting(Proto::Udp, 1, sessions), mempool)?;
    let ports = Ports::new([1, 2]).map_err(|e| failed("the slow path")(&e))?;
    let (receive, send) = (vec![Source::Ring(from)], vec![Sink::Ring(to)]);
    let worker = shared.worker_between::<Ipv4Addr, _, _>(0, receive, send, sessions as usize);
    Ok(Worker { outbox: worker.outbox.behind(Some(ports.clone())), switch: Some(ports), ..worker })
}

fn text(r: &Forwarded) -> String {
    let rows = [vec![
        r.code.clone(),
        r.flows.to_string(),
        format!("{} %", r.punted_percent),
        format!("{:.2}", r.mpps_per_cpu_second),
        format!("{:.1}", r.ns_per_packet),
        format!("{:.1}", r.io_ns_per_packet),
        r.lost_packets.to_string(),
        r.wrong_packets.to_string(),
    ]];
    let columns = [
        ("CODE", Left),
        ("FLOWS", Right),
        ("PUNTED", Right),
        ("MPPS/CPU-S", Right),
        ("NS/PACKET", Right),
        ("OF THEM PORTS", Right),
        ("LOST", Right),
        ("WRONG", Right),
    ];
    table(&columns, rows, None)
}
