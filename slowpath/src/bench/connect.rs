//! `carom bench connect`: new sessions.
//!
//! Without `--teardown` an empty table is filled; each session takes SYN, SYN-ACK and ACK. With it, as many sessions are open
//! all the time, and for each that opens the oldest one closes by FIN, FIN and ACK; counted are those whose end the timers
//! have found and whose ports are back. Closed sessions stay for [`TIME_WAIT_MS`] and their ports rest for
//! [`QUARANTINE_MS`] after that, so that in some seconds of measurement both are in a steady state. The clock is the real
//! one. There is room for all that closes meanwhile, so that sessions go on opening and the worker always has something to
//! do: [`Connected::idle_share`] tells whether it had.

use std::time::{Duration, Instant};

use dpdk::Eal;
use fullnat::counters::Counters;
use fullnat::id::Proto;
use fullnat::tcp::Timeouts;
use fullnat::wheel::TICK_MS;
use serde::Serialize;

use super::setup::{BenchAddr, Shared, Wish, ports};
use super::traffic::{OPENING, Script};
use super::{
    BenchError, Cost, ROUNDS, check, cpu_time, fill, make_sessions, measure, median, on_each_worker, packet_pages,
    pass_through, print,
};
use crate::cli::Connect;
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;

/// Milliseconds a closed session stays. Shorter than any operator would have it, so that not those sessions are measured.
pub const TIME_WAIT_MS: u32 = 20;
/// Room for closed sessions: what closes in that time and a tick of the [wheel](fullnat::wheel), which ends them together,
/// at a rate beyond any measured. With less the clock would limit the rate, and the worker's polls of empty queues would be
/// counted for sessions.
const CLOSED: u32 = 1 << 19;
/// Milliseconds a port rests: the shortest there is but none.
pub const QUARANTINE_MS: u64 = 1000;
/// More ports than are given back in that time and the second to which it is rounded up; few enough that soon each was used
/// before.
const RESTING: u32 = 3_000_000;

/// What was measured; medians over the runs.
#[derive(Debug, Serialize)]
struct Connected {
    bench: &'static str,
    ipv: u8,
    sessions: u32,
    teardown: bool,
    workers: u8,
    /// What packet buffers are on.
    packet_pages: &'static str,
    runs: usize,
    packets_per_session: u32,
    sessions_per_cpu_second: f64,
    ns_per_session: f64,
    io_ns_per_session: f64,
    /// Share of the worker's polls that found nothing to do, which are paid for all the same.
    idle_share: f64,
    each_ns_per_session: Vec<f64>,
}

/// One run: the worker with its ports, and the ports alone.
#[derive(Clone, Copy)]
struct Costs {
    whole: Cost,
    io: Cost,
    idle_share: f64,
}

/// A worker's polls so far: those that found something, and those that did not.
struct Polls {
    busy: u64,
    idle: u64,
}

impl Polls {
    fn of(counters: &Counters) -> Self {
        Polls { busy: counters.busy_polls.get(), idle: counters.idle_polls.get() }
    }

    /// Share of the idle ones since `before`.
    fn idle_share(&self, before: &Polls) -> f64 {
        let (busy, idle) = (self.busy - before.busy, self.idle - before.idle);
        idle as f64 / (busy + idle).max(1) as f64
    }
}

/// Measures, and prints what came out.
pub fn run<A: BenchAddr>(eal: Eal, args: &Connect) -> Result<(), BenchError> {
    let lasting = Wish::lasting(Proto::Tcp, 1, args.sessions);
    let closing = Wish {
        resting: RESTING,
        quarantine_ms: QUARANTINE_MS,
        timeouts: Timeouts { time_wait: TIME_WAIT_MS, ..lasting.timeouts },
        ..lasting
    };
    let shared = Shared::new::<A>(eal, if args.teardown { closing } else { lasting })?;
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        runs.extend(on_each_worker(eal, 1, |_| {
            if args.teardown { churn::<A>(&shared, args) } else { fill_anew::<A>(&shared, args) }
        })?);
    }
    let ns = median(runs.iter().map(|c| c.whole.ns()));
    let result = Connected {
        bench: "connect",
        ipv: if A::IS_V6 { 6 } else { 4 },
        sessions: args.sessions,
        teardown: args.teardown,
        workers: 1,
        packet_pages: packet_pages(&eal),
        runs: runs.len(),
        packets_per_session: if args.teardown { 6 } else { 3 },
        sessions_per_cpu_second: 1e9 / ns,
        ns_per_session: ns,
        io_ns_per_session: median(runs.iter().map(|c| c.io.ns())),
        idle_share: median(runs.iter().map(|c| c.idle_share)),
        each_ns_per_session: runs.iter().map(|c| c.whole.ns()).collect(),
    };
    print(args.json, &text(&result), &result)
}

/// Fills an empty table, that of a new worker.
fn fill_anew<A: BenchAddr>(shared: &Shared, args: &Connect) -> Result<Costs, BenchError> {
    let script = Script::lasting(Proto::Tcp, args.sessions);
    let cost = |cpu| Cost { count: args.sessions.into(), cpu };

    let traffic = shared.traffic::<A>(0, script);
    let mut alone = ports(&traffic);
    let start = cpu_time();
    make_sessions(&traffic, || pass_through(&mut alone))?;
    let io = cost(cpu_time() - start);

    let traffic = shared.traffic::<A>(0, script);
    let mut worker = shared.worker(0, &traffic, args.sessions as usize);
    let (start, polls) = (cpu_time(), Polls::of(&worker.counters));
    fill(&mut worker, &traffic)?;
    let whole = cost(cpu_time() - start);
    Ok(Costs { whole, io, idle_share: Polls::of(&worker.counters).idle_share(&polls) })
}

/// Opens and closes sessions while others stay open.
fn churn<A: BenchAddr>(shared: &Shared, args: &Connect) -> Result<Costs, BenchError> {
    let script = Script { close: true, ..Script::lasting(Proto::Tcp, args.sessions) };
    // Timers go off once a tick, so only whole ticks have as many ends as begins.
    let ticks = Duration::from_secs_f64(args.seconds).as_millis().div_ceil(TICK_MS.into()).max(2);
    let length = Duration::from_millis(ticks as u64 * TICK_MS);

    let traffic = shared.traffic::<A>(0, script);
    let mut alone = ports(&traffic);
    make_sessions(&traffic, || pass_through(&mut alone))?;
    let done = || traffic.borrow().done.into();
    measure(length / 25, done, || pass_through(&mut alone));
    let io = measure(length / 5, done, || pass_through(&mut alone)).of_some()?;

    let traffic = shared.traffic::<A>(0, script);
    let capacity = (args.sessions + OPENING + CLOSED) as usize;
    let mut worker = shared.worker(0, &traffic, capacity);
    traffic.borrow_mut().limit(worker.counters.clone(), capacity);
    fill(&mut worker, &traffic)?;
    let counters = worker.counters.clone();
    let ended = || counters.sessions_ended.get();
    let mut poll = || {
        worker.poll();
    };
    // Until ports are used again, which are found elsewhere than those never used.
    let (created, start) = (|| counters.sessions_created.get(), Instant::now());
    while created() < shared.leases() && start.elapsed() < 2 * length {
        for _ in 0..ROUNDS {
            poll();
        }
    }
    let polls = Polls::of(&counters);
    let whole = measure(length, ended, &mut poll).of_some()?;
    let idle_share = Polls::of(&counters).idle_share(&polls);
    check(&worker, &traffic)?;
    Ok(Costs { whole, io, idle_share })
}

fn text(r: &Connected) -> String {
    let rows = [vec![
        r.sessions.to_string(),
        format!("IPv{}", r.ipv),
        r.packets_per_session.to_string(),
        format!("{:.0}", r.sessions_per_cpu_second),
        format!("{:.0}", r.ns_per_session),
        format!("{:.0}", r.io_ns_per_session),
        format!("{:.1} %", r.idle_share * 100.0),
    ]];
    let what = if r.teardown { "OPEN SESSIONS" } else { "SESSIONS" };
    let columns = [
        (what, Right),
        ("", Left),
        ("PACKETS/SESSION", Right),
        ("SESSIONS/CPU-S", Right),
        ("NS/SESSION", Right),
        ("OF THEM PORTS", Right),
        ("IDLE POLLS", Right),
    ];
    let how = if r.teardown {
        "SYN, SYN-ACK, ACK with TOA, and later FIN, FIN, ACK, expiry and release of the port"
    } else {
        "SYN, SYN-ACK, ACK with TOA"
    };
    format!("{}{how}; median of {} run(s)", table(&columns, rows, None), r.runs)
}
