//! `carom bench memory`: what a session takes of the machine's memory, everything counted: the growth of what is resident
//! from before the worker's tables are made to when as many sessions as they are made for are in them.

use std::fs;

use dpdk::Eal;
use fullnat::id::Proto;
use fullnat::table::TableBytes;
use serde::Serialize;

use super::setup::{BenchAddr, Shared, Wish, ports};
use super::traffic::Script;
use super::{BenchError, fill, make_sessions, on_each_worker, pass_through, print, table_pages};
use crate::cli::MemoryOptions;
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;

/// Sessions that are made without a worker at first, so that packet buffers and code are resident.
const WARM_UP: u32 = 10_000;

/// What was measured.
#[derive(Debug, Serialize)]
struct Remembered {
    bench: &'static str,
    ipv: u8,
    sessions: u32,
    bytes_per_session: f64,
    /// Resident before the tables were made, when they were, and when they were full.
    before_bytes: u64,
    empty_bytes: u64,
    full_bytes: u64,
    /// What of the growth is on pages larger than the usual: hugetlbfs and transparent.
    huge_bytes: u64,
    /// What the tables are on.
    table_pages: String,
    /// The growth by structure, in bytes for each session.
    #[serde(flatten)]
    parts: Parts,
}

/// What the growth is of, in bytes for each session.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Parts {
    hot_bytes_per_session: f64,
    cold_bytes_per_session: f64,
    index_bytes_per_session: f64,
    timer_bytes_per_session: f64,
    half_open_bytes_per_session: f64,
    /// Local ports, counters, what pages were not filled with, and all else.
    other_bytes_per_session: f64,
}

impl Parts {
    fn of(tables: [TableBytes; 2], grown: f64, sessions: u32) -> Self {
        let each = |read: fn(&TableBytes) -> usize| tables.iter().map(read).sum::<usize>() as f64 / f64::from(sessions);
        let (hot, cold, index) = (each(|t| t.hot), each(|t| t.cold), each(|t| t.index));
        let (timer, half_open) = (each(|t| t.wheel), each(|t| t.half_open));
        Parts {
            hot_bytes_per_session: hot,
            cold_bytes_per_session: cold,
            index_bytes_per_session: index,
            timer_bytes_per_session: timer,
            half_open_bytes_per_session: half_open,
            other_bytes_per_session: grown - hot - cold - index - timer - half_open,
        }
    }
}

/// Memory of this process that takes room of the machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resident {
    /// All of it. The kernel does not count pages of hugetlbfs among the resident ones, so they are added.
    pub(super) all: u64,
    /// What of it is on huge pages, of hugetlbfs or transparent.
    huge: u64,
}

impl Resident {
    /// As the kernel has it now. `smaps_rollup` walks the page tables and so is exact, as `VmRSS` is not.
    pub(super) fn now() -> Result<Self, BenchError> {
        let file = "/proc/self/smaps_rollup";
        fs::read_to_string(file).map(|text| Self::parse(&text)).map_err(|e| BenchError(format!("{file}: {e}")))
    }

    fn parse(smaps: &str) -> Self {
        let bytes = |key: &str| {
            let line = smaps.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        let hugetlb = bytes("Private_Hugetlb") + bytes("Shared_Hugetlb");
        Resident { all: bytes("Rss") + hugetlb, huge: bytes("AnonHugePages") + bytes("ShmemPmdMapped") + hugetlb }
    }
}

/// Measures, and prints what came out.
pub fn run<A: BenchAddr>(eal: Eal, args: &MemoryOptions) -> Result<(), BenchError> {
    let shared = Shared::new::<A>(eal, Wish::lasting(Proto::Tcp, 1, args.sessions))?;
    let measured = on_each_worker(eal, 1, |number| {
        let script = Script::lasting(Proto::Tcp, args.sessions);
        let warm_up = shared.traffic::<A>(number, Script { sessions: WARM_UP, ..script });
        let mut alone = ports(&warm_up);
        make_sessions(&warm_up, || pass_through(&mut alone))?;
        let traffic = shared.traffic::<A>(number, script);

        let before = Resident::now()?;
        let mut worker = shared.worker(number, &traffic, args.sessions as usize);
        let empty = Resident::now()?;
        fill(&mut worker, &traffic)?;
        let full = Resident::now()?;
        Ok((before, empty, full, worker.forwarder.table_bytes(), table_pages()))
    })?;
    for (before, empty, full, tables, table_pages) in measured {
        let grown = full.all.saturating_sub(before.all) as f64 / f64::from(args.sessions);
        let result = Remembered {
            bench: "memory",
            ipv: if A::IS_V6 { 6 } else { 4 },
            sessions: args.sessions,
            bytes_per_session: grown,
            before_bytes: before.all,
            empty_bytes: empty.all,
            full_bytes: full.all,
            huge_bytes: full.huge.saturating_sub(before.huge),
            table_pages,
            parts: Parts::of(tables, grown, args.sessions),
        };
        print(args.json, &text(&result), &result)?;
    }
    Ok(())
}

fn text(r: &Remembered) -> String {
    let row = |what: &str, bytes: u64| {
        vec![
            what.to_owned(),
            format!("{:.1}", bytes as f64 / f64::from(r.sessions)),
            format!("{:.1}", bytes as f64 / 1e6),
        ]
    };
    let rows = [
        row("when the tables are made", r.empty_bytes.saturating_sub(r.before_bytes)),
        row("as sessions come", r.full_bytes.saturating_sub(r.empty_bytes)),
        row("together", r.full_bytes.saturating_sub(r.before_bytes)),
        row("of it on huge pages", r.huge_bytes),
    ];
    let part = |what: &str, each: f64| {
        vec![what.to_owned(), format!("{each:.1}"), format!("{:.1}", each * f64::from(r.sessions) / 1e6)]
    };
    let parts = [
        part("of it: sessions, what packets need", r.parts.hot_bytes_per_session),
        part("of it: sessions, the rest", r.parts.cold_bytes_per_session),
        part("of it: index", r.parts.index_bytes_per_session),
        part("of it: timers", r.parts.timer_bytes_per_session),
        part("of it: the list of half-open ones", r.parts.half_open_bytes_per_session),
        part("of it: ports, counters and all else", r.parts.other_bytes_per_session),
    ];
    let columns = [("RESIDENT MEMORY", Left), ("BYTES/SESSION", Right), ("MB", Right)];
    format!(
        "{} IPv{} sessions, tables on pages: {}\n{}",
        r.sessions,
        r.ipv,
        r.table_pages,
        table(&columns, rows.into_iter().chain(parts), None)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_every_kind_count() {
        let smaps = "00400000-7fff00000000 ---p 00000000 00:00 0    [rollup]\nRss:   1000 kB\nPss_Anon:  7 kB\n\
                     AnonHugePages:      200 kB\nShared_Hugetlb:     10 kB\nPrivate_Hugetlb:    30 kB\n";
        assert_eq!(Resident::parse(smaps), Resident { all: 1040 << 10, huge: 240 << 10 });
    }

    #[test]
    fn what_is_touched_is_resident() {
        let grows = || {
            let before = Resident::now().unwrap();
            let block = std::hint::black_box(vec![1_u8; 64 << 20]);
            let after = Resident::now().unwrap();
            drop(block);
            after.all >= before.all + (60 << 20)
        };
        // Another test may give back as much at the same time, but not always.
        assert!((0..20).any(|_| grows()));
    }
}
