//! `carom targets`: a few lines on the connection and the offload, then tables.

use carom_p4::{Punt, SwitchDrop};

use super::*;
use crate::offload::Status as Target;
use crate::offload::stats::Latency;

/// What is printed when there is no target.
const NONE: &str = "no offload target (target.kind = \"none\"): the slow path does the whole job\n";

impl View for Targets {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        if self.targets.is_empty() {
            return NONE.to_owned();
        }
        let past = by_key(before.map_or(&[][..], |b| &b.targets), |t| (t.address.as_str(), t.device_id));
        let seconds = seconds(self, before);
        let one = |now: &Target| {
            let before = past.get(&(now.address.as_str(), now.device_id)).copied();
            let row = Counting { look, seconds, now, before };
            let parts = [headlines(&row), tables(&row), operations(&row), failures(&row), switch(&row)];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
        };
        let mut parts: Vec<_> = self.targets.iter().map(one).collect();
        parts.extend((!self.ports.is_empty()).then(|| ports(self, before, look)));
        parts.join("\n")
    }
}

/// What passed the ports of a switch in the balancer's process.
fn ports(now: &Targets, before: Option<&Targets>, look: Look) -> String {
    let past = by_key(before.map_or(&[][..], |b| &b.ports), |port| port.number);
    let (rx, tx) = if look.watch { ("RX PKT/S", "TX PKT/S") } else { ("RX PACKETS", "TX PACKETS") };
    let columns = [("PORT", Left), ("NO", Right), (rx, Right), (tx, Right), ("DROPPED", Right)];
    let rows = now.ports.iter().map(|port| {
        let row = Counting { look, seconds: seconds(now, before), now: port, before: past.get(&port.number).copied() };
        let counts =
            [row.show(|p| p.rx_packets), row.show(|p| p.tx_packets), row.show(|p| p.port_full + p.no_headroom)];
        [vec![port.port.clone(), port.number.to_string()], counts.to_vec()].concat()
    });
    table(&columns, rows, None)
}

/// What is no table: names to the left, values to the right.
fn headlines(row: &Counting<Target>) -> String {
    let (t, per) = (row.now, if row.look.watch { " per second" } else { "" });
    let n = |count| row.look.numbers.count(count);
    let role = if t.role.is_empty() { String::new() } else { format!(", role {}", t.role) };
    let offload = match (t.ready, t.threshold.as_str()) {
        (false, _) => "not ready".to_owned(),
        (true, "never") => "ready, but no session is taken now".to_owned(),
        (true, "at once") => "ready, every session as soon as it may".to_owned(),
        (true, threshold) => format!("ready, sessions from {threshold} on"),
    };
    let mut lines = vec![
        ("target", format!("{} at {}, device {}, program {}", t.kind, t.address, t.device_id, t.program)),
        ("connection", format!("{}, election id {}{role}", t.standing, t.election_id)),
        ("pipeline", format!("{}, cookie {}", t.pipeline.as_deref().unwrap_or("not there yet"), t.cookie)),
        ("offload", offload),
        ("sessions", format!("{} offloaded{}", n(t.sessions.offloaded), under_way(t, row.look.numbers))),
        ("refused", format!("{} installs{per}{}", row.show(|t| t.totals.refused), refusals(row))),
        (
            "watched",
            format!(
                "{} idle notices, {} checks, {} found idle{per}",
                row.show(|t| t.totals.notices),
                row.show(|t| t.totals.checks),
                row.show(|t| t.totals.idle)
            ),
        ),
        (
            "swept",
            format!(
                "{} times, {} sessions of an earlier life adopted, {} orphans deleted, {} sessions had lost entries",
                n(t.totals.sweeps),
                n(t.totals.adopted),
                n(t.totals.orphans),
                n(t.totals.lost)
            ),
        ),
    ];
    if let Some(error) = &t.last_error {
        lines.push(("last error", error.clone()));
    }
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{name:<11} {value}");
        text
    })
}

/// Sessions that are neither offloaded nor with the slow path alone, those kinds there are.
fn under_way(t: &Target, numbers: Numbers) -> String {
    let kinds = [
        (t.sessions.waiting, "waiting for a next hop"),
        (t.sessions.installing, "installing"),
        (t.sessions.undoing, "undoing"),
        (t.sessions.removing, "removing"),
    ];
    list(kinds, |n| numbers.count(n))
}

/// Why installs were refused, as far as there is a reason of its own.
fn refusals(row: &Counting<Target>) -> String {
    type Read = fn(&Target) -> u64;
    let kinds: [(Read, &str); 5] = [
        (|t| t.totals.refused_full, "table full"),
        (|t| t.totals.refused_nexthop, "next hop unknown"),
        (|t| t.totals.refused_ids, "no ids left"),
        (|t| t.totals.refused_hash, "hash taken"),
        (|t| t.totals.refused_not_ready, "target not ready"),
    ];
    let there = kinds.into_iter().filter(|(read, _)| read(row.now) > 0);
    let texts: Vec<_> = there.map(|(read, what)| format!("{} {what}", row.show(read))).collect();
    if texts.is_empty() { String::new() } else { format!(" ({})", texts.join(", ")) }
}

/// `, 3 of these, 5 of those`: the kinds there are some of.
fn list<const N: usize>(kinds: [(u64, &str); N], show: impl Fn(u64) -> String) -> String {
    kinds.iter().filter(|(n, _)| *n > 0).map(|&(n, what)| format!(", {} {what}", show(n))).collect()
}

fn tables(row: &Counting<Target>) -> String {
    let columns = [("TABLE", Left), ("ENTRIES", Right), ("SIZE", Right), ("USED", Right)];
    let numbers = row.look.numbers;
    let rows = row
        .now
        .tables
        .iter()
        .map(|t| vec![t.name.clone(), numbers.count(t.entries), numbers.count(t.size), percent(t.entries, t.size)]);
    if row.now.tables.is_empty() { String::new() } else { table(&columns, rows, None) }
}

/// Installs and deletes of sessions. Times are from the worker's decision to the target's acknowledgement.
fn operations(row: &Counting<Target>) -> String {
    type Reads = (&'static str, fn(&Target) -> u64, fn(&Target) -> f64, fn(&Target) -> Latency);
    const OPERATIONS: [Reads; 2] = [
        ("install", |t| t.totals.installed, |t| t.installs_per_second, |t| t.install_latency),
        ("remove", |t| t.totals.removed, |t| t.removes_per_second, |t| t.remove_latency),
    ];
    let columns = [
        ("OPERATION", Left),
        (if row.look.watch { "SESSIONS/S" } else { "SESSIONS" }, Right),
        ("PER SECOND", Right),
        ("P50", Right),
        ("P99", Right),
        ("MAX", Right),
    ];
    let rows = OPERATIONS.map(|(name, total, rate, latency)| {
        let latency = latency(row.now);
        let mut cells = vec![name.to_owned(), row.show(total), row.look.numbers.count(rate(row.now).round() as u64)];
        cells.extend([latency.p50_us, latency.p99_us, latency.max_us].map(|us| match latency.count {
            0 => "-".to_owned(),
            _ => microseconds(us),
        }));
        cells
    });
    table(&columns, rows, None)
}

/// Updates that failed, by code; nothing when none did.
fn failures(row: &Counting<Target>) -> String {
    let columns = [("FAILED WITH", Left), (if row.look.watch { "UPDATES/S" } else { "UPDATES" }, Right)];
    let count = |t: &Target, code: &String| t.failures.get(code).copied().unwrap_or(0);
    let rows: Vec<_> = row.now.failures.keys().map(|code| vec![code.clone(), row.show(|t| count(t, code))]).collect();
    if rows.is_empty() { String::new() } else { table(&columns, rows, None) }
}

/// What the switch punted and dropped: the reasons that happened.
fn switch(row: &Counting<Target>) -> String {
    let punts = Punt::ALL.iter().map(|&r| ("punt", r.name(), r as u8, r.text()));
    let drops = SwitchDrop::ALL.iter().map(|&r| ("drop", r.name(), r as u8, r.text()));
    let counted = |t: &Target, kind: &str, name: &str| {
        let counts = if kind == "punt" { &t.punts } else { &t.drops };
        counts.get(name).copied().unwrap_or(0)
    };
    let happened = punts.chain(drops).filter(|&(kind, name, ..)| counted(row.now, kind, name) > 0);
    let rows: Vec<_> = happened
        .map(|(kind, name, number, text)| {
            let packets = row.show(|t| counted(t, kind, name));
            vec![kind.to_owned(), name.to_owned(), number.to_string(), packets, text.to_owned()]
        })
        .collect();
    let packets = (if row.look.watch { "PKT/S" } else { "PACKETS" }, Right);
    let columns = [("SWITCH", Left), ("REASON", Left), ("NO", Right), packets, ("WHAT HAPPENED", Left)];
    if rows.is_empty() { String::new() } else { table(&columns, rows, Some(row.look.width)) }
}
