//! `carom bench synflood`: good clients open, use and close connections while spoofed SYNs arrive, so many for each packet of
//! theirs, from addresses where nobody is. Real servers answer those, too, with a SYN-ACK that leads nowhere.
//!
//! The worker is busy all the time, and nothing is lost before it. What good traffic loses is what the balancer refuses it,
//! and the CPU time that the flood takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dpdk::Eal;
use fullnat::id::Proto;
use fullnat::tcp::Timeouts;
use serde::Serialize;

use super::connect::{CLOSED, QUARANTINE_MS, RESTING, TIME_WAIT_MS};
use super::setup::{BenchAddr, Shared, Wish};
use super::traffic::Script;
use super::{BenchError, Cost, ROUNDS, drops, measure, on_each_worker, print};
use crate::cli::Synflood;
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;

/// What was measured.
#[derive(Debug, Serialize)]
struct Flooded {
    bench: &'static str,
    ipv: u8,
    sessions: u32,
    table_sessions: u32,
    hugepages: bool,
    spoofed_per_good_packet: u8,
    spoofed_syns: u64,
    good_sessions_begun: u64,
    good_sessions_done: u64,
    /// Of the good connections that were begun during the flood, those that were served to their end.
    good_kept_share: f64,
    /// Good connections per second of CPU time, by those without a flood.
    good_rate_share: f64,
    ns_per_good_session: f64,
    ns_per_spoofed_syn: f64,
    /// Sessions at the end that nobody uses; each holds a local port.
    sessions_held: u64,
    dropped: BTreeMap<&'static str, u64>,
}

/// What one worker did.
struct Run {
    done: Cost,
    begun: u64,
    spoofed: u64,
    held: u64,
    dropped: BTreeMap<&'static str, u64>,
}

/// Measures, and prints what came out.
pub fn run<A: BenchAddr>(eal: Eal, args: &Synflood) -> Result<(), BenchError> {
    let wish = Wish {
        proto: Proto::Tcp,
        workers: 1,
        sessions: args.table,
        resting: RESTING,
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
        hugepages: eal.memory().hugepages,
        spoofed_per_good_packet: args.spoofed,
        spoofed_syns: flooded.spoofed,
        good_sessions_begun: flooded.begun,
        good_sessions_done: flooded.done.count,
        good_kept_share: (flooded.done.count as f64 / flooded.begun.max(1) as f64).min(1.0),
        good_rate_share: good / cpu,
        ns_per_good_session: quiet.done.ns(),
        ns_per_spoofed_syn: (cpu - good).max(0.0) / flooded.spoofed.max(1) as f64,
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
    let script = Script { data: true, close: true, flood: Some(spoofed), ..Script::lasting(Proto::Tcp, args.sessions) };
    let traffic = shared.traffic::<A>(number, script);
    let mut worker = shared.worker(number, &traffic, args.table.max(args.sessions + CLOSED) as usize);
    let mut poll = || {
        worker.poll();
    };
    // Until so many have opened, none closes.
    let start = Instant::now();
    while traffic.borrow().open < 2 * args.sessions && start.elapsed() < length {
        (0..ROUNDS).for_each(|_| poll());
    }
    let (begun, sent) = (traffic.borrow().started, traffic.borrow().flood.sent);
    let done = measure(length, || traffic.borrow().done.into(), &mut poll);
    let traffic = traffic.borrow();
    let sessions = worker.counters.sessions_v4.get() + worker.counters.sessions_v6.get();
    Ok(Run {
        done,
        begun: (traffic.started - begun).into(),
        spoofed: traffic.flood.sent - sent,
        held: sessions.saturating_sub((traffic.open - traffic.done).into()),
        dropped: drops(&worker).collect(),
    })
}

fn text(r: &Flooded) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let rows = [
        ("good connections begun during the flood", r.good_sessions_begun.to_string()),
        ("of them served to their end", percent(r.good_kept_share)),
        ("their rate per CPU-second, of that without a flood", percent(r.good_rate_share)),
        ("ns per good connection, ports included", format!("{:.0}", r.ns_per_good_session)),
        ("spoofed SYNs", r.spoofed_syns.to_string()),
        ("ns per spoofed SYN and its SYN-ACK, ports included", format!("{:.0}", r.ns_per_spoofed_syn)),
        ("sessions and ports held for nobody", format!("{} of {}", r.sessions_held, r.table_sessions)),
    ];
    let dropped = r.dropped.iter().map(|(name, n)| (format!("dropped: {name}"), n.to_string()));
    let rows = rows.into_iter().map(|(what, n)| (what.to_owned(), n)).chain(dropped);
    let head = format!("IPv{}, {} spoofed SYNs per packet of good clients", r.ipv, r.spoofed_per_good_packet);
    table(&[(&head, Left), ("", Right)], rows.map(|(what, n)| vec![what, n]), None)
}
