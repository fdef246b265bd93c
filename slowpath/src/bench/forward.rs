//! `carom bench forward`: packets of sessions that are made already.
//!
//! Several workers have sessions of their own, as where NICs steer by flow. With `--handover` a share of the packets arrives
//! at another worker, as where they do not, and goes to its own through the rings of the daemon.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dpdk::Eal;
use fullnat::id;
use fullnat::reason::DropReason;
use serde::Serialize;

use super::frames::Packet;
use super::setup::{BenchAddr, BenchWorker, Shared, Wish, ports};
use super::together::Together;
use super::traffic::Script;
use super::{BenchError, Cost, drops, fill, measure, on_each_worker, packet_pages, pass_through, print, table_pages};
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
    /// What packet buffers are on.
    packet_pages: &'static str,
    /// What the tables are on.
    table_pages: String,
    packets: u64,
    mpps_per_cpu_second: f64,
    ns_per_packet: f64,
    io_ns_per_packet: f64,
    /// What was asked, and what was counted: packets handed over, and those among them that found the ring full.
    handover: f64,
    handed_over_share: f64,
    handover_dropped_share: f64,
    each_mpps_per_cpu_second: Vec<f64>,
}

/// What one worker did, and its ports alone.
#[derive(Default)]
struct Costs {
    /// What the tables of all workers are on.
    table_pages: String,
    forwarded: Cost,
    io: Cost,
    handed_over: u64,
    lost: u64,
}

/// Packets of both sides.
type Sides<A> = [Vec<Packet<A>>; 2];

/// What the workers share beside the balancer.
struct Table<A> {
    together: Together,
    /// By worker the packets that arrive there.
    dealt: Vec<Mutex<Sides<A>>>,
}

/// Measures, and prints what came out.
pub fn run<A: BenchAddr>(eal: Eal, args: &Forward) -> Result<(), BenchError> {
    let (proto, name) = match args.proto {
        Proto::Tcp => (id::Proto::Tcp, "tcp"),
        Proto::Udp => (id::Proto::Udp, "udp"),
    };
    let shared = Shared::new::<A>(eal, Wish::lasting(proto, args.workers, args.sessions))?;
    let dealt = (0..args.workers).map(|_| Mutex::default()).collect();
    let table = Table::<A> { together: Together::new(args.workers), dealt };
    let costs =
        on_each_worker(eal, args.workers, |number| table.together.with(|| one(&shared, &table, args, proto, number)))?;
    let add = |a: Cost, b: Cost| Cost { count: a.count + b.count, cpu: a.cpu + b.cpu };
    let all = costs.iter().fold(Costs::default(), |a, b| Costs {
        forwarded: add(a.forwarded, b.forwarded),
        io: add(a.io, b.io),
        handed_over: a.handed_over + b.handed_over,
        lost: a.lost + b.lost,
        ..a
    });
    let packets = all.forwarded.count.max(1) as f64;
    let result = Forwarded {
        bench: "forward",
        proto: name,
        ipv: if A::IS_V6 { 6 } else { 4 },
        sessions: args.sessions,
        workers: args.workers,
        packet_pages: packet_pages(&eal),
        table_pages: costs.first().map(|c| c.table_pages.clone()).unwrap_or_default(),
        packets: all.forwarded.count,
        mpps_per_cpu_second: 1e3 / all.forwarded.ns(),
        ns_per_packet: all.forwarded.ns(),
        io_ns_per_packet: all.io.ns(),
        handover: args.handover,
        handed_over_share: all.handed_over as f64 / packets,
        handover_dropped_share: all.lost as f64 / packets,
        each_mpps_per_cpu_second: costs.iter().map(|c| 1e3 / c.forwarded.ns()).collect(),
    };
    print(args.json, &text(&result), &result)
}

/// One worker's part.
fn one<A: BenchAddr>(
    shared: &Shared,
    table: &Table<A>,
    args: &Forward,
    proto: id::Proto,
    number: u8,
) -> Result<Costs, BenchError> {
    let sessions = shared.sessions_each();
    let traffic = shared.traffic::<A>(number, Script { data: true, ..Script::lasting(proto, sessions) });
    let mut worker = shared.worker(number, &traffic, sessions as usize);
    fill(&mut worker, &traffic)?;

    let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(number);
    let mut random = || xorshift(&mut state);
    deal(table, traffic.borrow_mut().packets(), usize::from(number), args.handover, &mut random);
    table.together.wait(1)?;
    let mut packets = std::mem::take(&mut *lock(&table.dealt[usize::from(number)]));
    for side in &mut packets {
        shuffle(side, &mut random);
    }
    if packets.iter().any(Vec::is_empty) {
        return Err(BenchError("too few --sessions for so many workers".to_owned()));
    }
    traffic.borrow_mut().repeat(packets);

    let sent = || traffic.borrow().sent;
    let length = Duration::from_secs_f64(args.seconds);
    let mut alone = ports(&traffic);
    measure(length / 25, sent, || pass_through(&mut alone));
    let io = measure(length / 5, sent, || pass_through(&mut alone)).of_some()?;
    table.together.wait(2)?;
    let counters = Arc::clone(&worker.counters);
    let counted = || (counters.handed_over.get(), counters.dropped(DropReason::HandoverFull));
    let waited = Cell::new(Duration::ZERO);
    let mut round = || {
        worker.poll();
        if args.handover > 0.0 {
            waited.set(waited.get() + table.together.keep_pace(number));
        }
    };
    measure(length / 5, sent, &mut round);
    let before = counted();
    waited.take();
    let mut forwarded = measure(length, sent, &mut round).of_some()?;
    forwarded.cpu = forwarded.cpu.saturating_sub(waited.get());
    let after = counted();
    table.together.run_free(number);
    // The others may still hand over.
    let all_done = table.together.arrive(3);
    while !all_done()? {
        worker.poll();
    }
    check_steady(&worker, sessions)?;
    Ok(Costs { table_pages: table_pages(), forwarded, io, handed_over: after.0 - before.0, lost: after.1 - before.1 })
}

/// Deals out the packets of a worker's sessions to where they arrive: a share to the others.
fn deal<A: BenchAddr>(table: &Table<A>, packets: Sides<A>, mine: usize, share: f64, random: &mut impl FnMut() -> u64) {
    let workers = table.dealt.len();
    let mut dealt: Vec<Sides<A>> = (0..workers).map(|_| Default::default()).collect();
    for (side, packets) in packets.into_iter().enumerate() {
        for packet in packets {
            // 53 bits are what a float holds.
            let strays = workers > 1 && ((random() >> 11) as f64) < share * (1_u64 << 53) as f64;
            let away = if strays { 1 + random() as usize % (workers - 1) } else { 0 };
            dealt[(mine + away) % workers][side].push(packet);
        }
    }
    for (to, mut sides) in table.dealt.iter().zip(dealt) {
        let mut to = lock(to);
        for (to, side) in to.iter_mut().zip(&mut sides) {
            to.append(side);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> impl std::ops::DerefMut<Target = T> + '_ {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shuffle<T>(items: &mut [T], random: &mut impl FnMut() -> u64) {
    for i in (1..items.len()).rev() {
        // A remainder is even enough for a shuffle.
        items.swap(i, (random() % (i as u64 + 1)) as usize);
    }
}

/// That every session is still there, and no packet was dropped but for a full ring between workers.
fn check_steady<A: BenchAddr>(worker: &BenchWorker<A>, sessions: u32) -> Result<(), BenchError> {
    let left = worker.counters.sessions_v4.get() + worker.counters.sessions_v6.get();
    let dropped: Vec<_> = drops(worker)
        .filter(|&(name, _)| name != DropReason::HandoverFull.name())
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    if left == u64::from(sessions) && dropped.is_empty() {
        return Ok(());
    }
    Err(BenchError(format!("{left} of {sessions} sessions are left; dropped: {}", dropped.join(", "))))
}

fn text(r: &Forwarded) -> String {
    let rows = [vec![
        r.sessions.to_string(),
        format!("{} IPv{}", r.proto, r.ipv),
        r.workers.to_string(),
        format!("{:.2}", r.mpps_per_cpu_second),
        format!("{:.1}", r.ns_per_packet),
        format!("{:.1}", r.io_ns_per_packet),
        format!("{:.1} %", 100.0 * r.handed_over_share),
        format!("{:.3} %", 100.0 * r.handover_dropped_share),
        r.packet_pages.to_owned(),
        r.table_pages.clone(),
    ]];
    let columns = [
        ("SESSIONS", Right),
        ("PROTOCOL", Left),
        ("WORKERS", Right),
        ("MPPS/CPU-S", Right),
        ("NS/PACKET", Right),
        ("OF THEM PORTS", Right),
        ("HANDED OVER", Right),
        ("RING FULL", Right),
        ("BUFFERS", Left),
        ("TABLES", Left),
    ];
    table(&columns, rows, None)
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
