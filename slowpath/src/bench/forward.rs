//! `carom bench forward`: packets of sessions that are made already.

use std::time::Duration;

use dpdk::Eal;
use fullnat::id;
use serde::Serialize;

use super::setup::{BenchAddr, Shared, Wish, ports};
use super::traffic::Script;
use super::{BenchError, Cost, check, fill, measure, on_each_worker, pass_through, print};
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;
use crate::cli::{Forward, Proto};

/// What was measured.
#[derive(Debug, Serialize)]
struct Forwarded {
    bench: &'static str,
    proto: &'static str,
    ipv: u8,
    sessions: u32,
    workers: u8,
    hugepages: bool,
    packets: u64,
    mpps_per_cpu_second: f64,
    ns_per_packet: f64,
    io_ns_per_packet: f64,
}

/// What one worker did, and its ports alone.
#[derive(Clone, Copy, Default)]
struct Costs {
    forwarded: Cost,
    io: Cost,
}

/// Measures, and prints what came out.
pub fn run<A: BenchAddr>(eal: Eal, args: &Forward) -> Result<(), BenchError> {
    let (proto, name) = match args.proto {
        Proto::Tcp => (id::Proto::Tcp, "tcp"),
        Proto::Udp => (id::Proto::Udp, "udp"),
    };
    let shared = Shared::new::<A>(eal, Wish::lasting(proto, args.workers, args.sessions))?;
    let costs = on_each_worker(eal, args.workers, |number| one::<A>(&shared, args, proto, number))?;
    let add = |a: Cost, b: Cost| Cost { count: a.count + b.count, cpu: a.cpu + b.cpu };
    let add = |a: Costs, b: &Costs| Costs { forwarded: add(a.forwarded, b.forwarded), io: add(a.io, b.io) };
    let Costs { forwarded, io } = costs.iter().fold(Costs::default(), add);
    let result = Forwarded {
        bench: "forward",
        proto: name,
        ipv: if A::IS_V6 { 6 } else { 4 },
        sessions: args.sessions,
        workers: args.workers,
        hugepages: eal.memory().hugepages,
        packets: forwarded.count,
        mpps_per_cpu_second: 1e3 / forwarded.ns(),
        ns_per_packet: forwarded.ns(),
        io_ns_per_packet: io.ns(),
    };
    print(args.json, &text(&result), &result)
}

/// One worker's part.
fn one<A: BenchAddr>(shared: &Shared, args: &Forward, proto: id::Proto, number: u8) -> Result<Costs, BenchError> {
    let sessions = args.sessions.div_ceil(args.workers.into());
    let script = Script { proto, first: u32::from(number) * sessions, sessions, data: true, close: false };
    let traffic = shared.traffic::<A>(number, script);
    let mut worker = shared.worker(number, &traffic, sessions as usize);
    fill(&mut worker, &traffic)?;
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(number);
    traffic.borrow_mut().make_steady(|| xorshift(&mut state));
    let sent = || traffic.borrow().sent;
    let length = Duration::from_secs_f64(args.seconds);
    let mut alone = ports(&traffic);
    let io = measure((length / 25, length / 5), sent, || pass_through(&mut alone))?;
    let forwarded = measure((length / 5, length), sent, || {
        worker.poll();
    })?;
    check(&worker, &traffic)?;
    let left = worker.counters.sessions_v4.get() + worker.counters.sessions_v6.get();
    if left != u64::from(sessions) {
        return Err(BenchError(format!("{left} of {sessions} sessions are left")));
    }
    Ok(Costs { forwarded, io })
}

fn text(r: &Forwarded) -> String {
    let rows = [vec![
        r.sessions.to_string(),
        format!("{} IPv{}", r.proto, r.ipv),
        r.workers.to_string(),
        format!("{:.2}", r.mpps_per_cpu_second),
        format!("{:.1}", r.ns_per_packet),
        format!("{:.1}", r.io_ns_per_packet),
        if r.hugepages { "hugepages" } else { "ordinary" }.to_owned(),
    ]];
    let columns = [
        ("SESSIONS", Right),
        ("PROTOCOL", Left),
        ("WORKERS", Right),
        ("MPPS/CPU-S", Right),
        ("NS/PACKET", Right),
        ("OF THEM PORTS", Right),
        ("BUFFERS", Left),
    ];
    table(&columns, rows, None)
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
