//! `carom bench synflood`: good clients open, use and close connections while spoofed SYNs arrive, so many for each packet of
//! theirs, from addresses where nobody is. Real servers answer those, too, with a SYN-ACK that leads nowhere.
//!
//! The worker is busy all the time, and nothing is lost before it. What good traffic loses is what the balancer refuses it or
//! gives up of it, and the CPU time that the flood takes. Good clients are a round trip away, try once, and are counted from
//! when the flood has filled the table or the ports.
//!
//! Where half-open sessions would last for less than they are protected, new ones are taken in spells. Clients then open
//! fewer of their share: one packet in so many is theirs, and in such a spell most carry on what has just begun.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dpdk::Eal;
use fullnat::id::Proto;
use fullnat::reason::DropReason;
use fullnat::tcp::Timeouts;
use serde::Serialize;

use super::connect::{QUARANTINE_MS, TIME_WAIT_MS};
use super::setup::{BenchAddr, SESSIONS_PER_LIP, Shared, Wish};
use super::traffic::Script;
use super::{BenchError, Cost, PATIENCE, ROUNDS, drops, measure, on_each_worker, packet_pages, print};
use crate::cli::Synflood;
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;

/// Room for closed good sessions besides.
const CLOSED: u32 = 1 << 17;
/// Local ports that may rest: more than the flood's sessions give back in that time.
const RESTING: u32 = 8_000_000;

/// What was measured.
#[derive(Debug, Serialize)]
struct Flooded {
    bench: &'static str,
    ipv: u8,
    sessions: u32,
    table_sessions: u32,
    rtt_ms: u64,
    /// Whether the flood had filled the table or the ports before anything was counted.
    filled: bool,
    /// What packet buffers are on.
    packet_pages: &'static str,
    spoofed_per_good_packet: u8,
    spoofed_syns: u64,
    spoofed_syns_per_cpu_second: f64,
    good_sessions_begun: u64,
    good_sessions_done: u64,
    good_handshakes_done: u64,
    /// Of the good connections that were begun during the flood, those whose handshake completed.
    good_kept_share: f64,
    /// Good connections per second of CPU time, by those without a flood.
    good_rate_share: f64,
    ns_per_good_session: f64,
    ns_per_spoofed_syn: f64,
    /// Half-open sessions at the end.
    half_open_sessions: u64,
    /// How long a half-open session lasts, by how many there are and how many are given up.
    half_open_ms: Option<f64>,
    half_open_evicted: u64,
    /// Sessions at the end that nobody uses; each holds a local port.
    sessions_held: u64,
    dropped: BTreeMap<&'static str, u64>,
}

/// What one worker did.
struct Run {
    done: Cost,
    begun: u64,
    opened: u64,
    spoofed: u64,
    filled: bool,
    half_open: u64,
    evicted: u64,
    held: u64,
    dropped: BTreeMap<&'static str, u64>,
}

/// Measures, and prints what came out.
pub fn run<A: BenchAddr>(eal: Eal, args: &Synflood) -> Result<(), BenchError> {
    let (sessions, resting) = args.lips.map_or((args.table, RESTING), |lips| (lips * SESSIONS_PER_LIP, 0));
    let wish = Wish {
        proto: Proto::Tcp,
        workers: 1,
        sessions,
        resting,
        quarantine_ms: QUARANTINE_MS,
        timeouts: Timeouts { time_wait: TIME_WAIT_MS, ..Timeouts::default() },
    };
    let shared = Shared::new::<A>(eal, wish)?;
    let length = Duration::from_secs_f64(args.seconds);
    let of = |spoofed, length| {
        let runs = on_each_worker(eal, 1, |number| one::<A>(&shared, args, number, spoofed, length))?;
        runs.into_iter().next().ok_or_else(|| BenchError("there is no worker".to_owned()))
    };
    let (quiet, flooded) = (of(0, length / 4)?, of(args.spoofed.into(), length)?);
    let good = quiet.done.ns() * flooded.done.count as f64;
    let cpu = flooded.done.cpu.as_secs_f64() * 1e9;
    let result = Flooded {
        bench: "synflood",
        ipv: if A::IS_V6 { 6 } else { 4 },
        sessions: args.sessions,
        table_sessions: args.table,
        rtt_ms: args.rtt_ms,
        filled: flooded.filled,
        packet_pages: packet_pages(&eal),
        spoofed_per_good_packet: args.spoofed,
        spoofed_syns: flooded.spoofed,
        spoofed_syns_per_cpu_second: flooded.spoofed as f64 * 1e9 / cpu,
        good_sessions_begun: flooded.begun,
        good_sessions_done: flooded.done.count,
        good_handshakes_done: flooded.opened,
        good_kept_share: (flooded.opened as f64 / flooded.begun.max(1) as f64).min(1.0),
        good_rate_share: good / cpu,
        ns_per_good_session: quiet.done.ns(),
        ns_per_spoofed_syn: (cpu - good).max(0.0) / flooded.spoofed.max(1) as f64,
        half_open_sessions: flooded.half_open,
        half_open_ms: (flooded.evicted > 0).then(|| flooded.half_open as f64 * cpu / 1e6 / flooded.evicted as f64),
        half_open_evicted: flooded.evicted,
        sessions_held: flooded.held,
        dropped: flooded.dropped,
    };
    print(args.json, &text(&result), &result)
}

fn one<A: BenchAddr>(
    shared: &Shared,
    args: &Synflood,
    number: u8,
    spoofed: u32,
    length: Duration,
) -> Result<Run, BenchError> {
    let script = Script {
        data: true,
        close: true,
        flood: Some(spoofed),
        rtt: Duration::from_millis(args.rtt_ms),
        ..Script::lasting(Proto::Tcp, args.sessions)
    };
    let traffic = shared.traffic::<A>(number, script);
    let mut worker = shared.worker(number, &traffic, args.table.max(args.sessions + CLOSED) as usize);
    let counters = worker.counters.clone();
    let mut poll = || {
        worker.poll();
    };
    let lacking = [DropReason::SessionTableFull, DropReason::NoLocalPort, DropReason::HalfOpenFull];
    let is_filled = || counters.half_open_evicted.get() + lacking.map(|r| counters.dropped(r)).iter().sum::<u64>() > 0;
    let start = Instant::now();
    let is_warm = || traffic.borrow().done > args.sessions && (spoofed == 0 || is_filled());
    while !is_warm() && start.elapsed() < PATIENCE / 2 {
        (0..ROUNDS).for_each(|_| poll());
    }
    let filled = is_filled();
    let before = (traffic.borrow().started, traffic.borrow().open, traffic.borrow().flood.sent);
    let evicted = counters.half_open_evicted.get();
    let done = measure(length, || traffic.borrow().done.into(), &mut poll);
    let ((begun, opened, sent), traffic) = (before, traffic.borrow());
    let sessions = worker.counters.sessions_v4.get() + worker.counters.sessions_v6.get();
    Ok(Run {
        done,
        begun: (traffic.started - begun).into(),
        opened: (traffic.open - opened).into(),
        spoofed: traffic.flood.sent - sent,
        filled,
        half_open: counters.half_open.get(),
        evicted: counters.half_open_evicted.get() - evicted,
        held: sessions.saturating_sub((traffic.open - traffic.done).into()),
        dropped: drops(&worker).collect(),
    })
}

fn text(r: &Flooded) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let rows = [
        ("good connections begun during the flood", r.good_sessions_begun.to_string()),
        ("of them open after one try", percent(r.good_kept_share)),
        ("their rate per CPU-second, of that without a flood", percent(r.good_rate_share)),
        ("ns per good connection, ports included", format!("{:.0}", r.ns_per_good_session)),
        ("spoofed SYNs", r.spoofed_syns.to_string()),
        ("spoofed SYNs per CPU-second", format!("{:.0}", r.spoofed_syns_per_cpu_second)),
        ("ns per spoofed SYN and its SYN-ACK, ports included", format!("{:.0}", r.ns_per_spoofed_syn)),
        ("half-open sessions", r.half_open_sessions.to_string()),
        ("ms that one of them lasts", r.half_open_ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"))),
        ("of them given up for new ones", r.half_open_evicted.to_string()),
        ("sessions and ports held for nobody", format!("{} of {}", r.sessions_held, r.table_sessions)),
    ];
    let dropped = r.dropped.iter().map(|(name, n)| (format!("dropped: {name}"), n.to_string()));
    let rows = rows.into_iter().map(|(what, n)| (what.to_owned(), n)).chain(dropped);
    let full = if r.filled { "" } else { ", which did not fill the table" };
    let head = format!(
        "IPv{}, {} spoofed SYNs per packet of good clients {} ms away{full}",
        r.ipv, r.spoofed_per_good_packet, r.rtt_ms
    );
    table(&[(&head, Left), ("", Right)], rows.map(|(what, n)| vec![what, n]), None)
}
