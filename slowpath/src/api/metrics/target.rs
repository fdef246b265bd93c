//! The metrics of the offload target. Without target there are none of them.

use super::{Metric, Text, counter, gauge};
use crate::api::source::TargetState;
use crate::offload::Status;
use crate::offload::stats::{Latency, TableStatus};

const INFO: Metric = gauge(
    "carom_target_info",
    "kind address device_id role election_id cookie pipeline",
    "Always 1; the labels tell which target, which program, and whether it was kept or committed.",
);
const CONNECTED: Metric = gauge("carom_target_connected", "", "1 when there is a connection to the target.");
const PRIMARY: Metric = gauge("carom_target_primary", "", "1 when the balancer may write to the target.");
const READY: Metric =
    gauge("carom_target_ready", "", "1 when installs are taken; 0 also when the offload manager has ended.");
const SESSIONS: Metric = gauge(
    "carom_target_sessions",
    "state",
    "Sessions by where they are with the target: waiting, installing, offloaded, undoing, removing.",
);
const REFUSED: Metric = counter(
    "carom_target_refused_installs_total",
    "reason",
    "Installs refused: table_full, nexthop (no MAC address), ids (none left), hash (another session's), not_ready, other.",
);
const SECONDS: Metric = gauge(
    "carom_target_operation_seconds",
    "operation quantile",
    "Time from a worker's decision to the target's acknowledgement; quantile 1 is the longest.",
);
const FAILED: Metric =
    counter("carom_target_failed_updates_total", "code", "Updates of flow tables that failed, by canonical code.");
const PUNTED: Metric =
    counter("carom_switch_punted_packets_total", "reason", "Packets the switch handed to the slow path.");
const DROPPED: Metric =
    counter("carom_switch_dropped_packets_total", "reason", "Packets the switch dropped; see `carom drops`.");

/// A number of a table and how to read it.
type TableMetric = (Metric, fn(&TableStatus) -> u64);

const TABLES: &[TableMetric] = &[
    (gauge("carom_target_table_entries", "table", "Entries the balancer has in the table."), |t| t.entries),
    (gauge("carom_target_table_size", "table", "Entries the table has room for."), |t| t.size),
];

/// A sum of the manager and how to read it.
type TotalMetric = (Metric, fn(&Status) -> u64);

const TOTALS: &[TotalMetric] = &[
    (counter("carom_target_installed_sessions_total", "", "Sessions installed."), |s| s.totals.installed),
    (counter("carom_target_removed_sessions_total", "", "Sessions removed."), |s| s.totals.removed),
    (counter("carom_target_already_there_total", "", "Installs that found an entry of their key."), |s| {
        s.totals.already_there
    }),
    (counter("carom_target_unknown_results_total", "", "Operations without a clear answer."), |s| s.totals.unknown),
    (counter("carom_target_not_sent_total", "", "Operations that never left."), |s| s.totals.not_sent),
    (counter("carom_target_sweeps_total", "", "Comparisons of all tables that came to their end."), |s| {
        s.totals.sweeps
    }),
    (counter("carom_target_orphans_total", "", "Entries without a session that were deleted."), |s| s.totals.orphans),
    (counter("carom_target_lost_sessions_total", "", "Sessions whose entries were lost."), |s| s.totals.lost),
    (counter("carom_target_idle_notices_total", "", "Idle notices of the target."), |s| s.totals.notices),
    (counter("carom_target_idle_checks_total", "", "Times a worker asked whether a session is idle."), |s| {
        s.totals.checks
    }),
    (counter("carom_target_idle_sessions_total", "", "Sessions that were found idle."), |s| s.totals.idle),
    (
        counter("carom_target_misplaced_requests_total", "", "Requests of workers that break the rules; always 0."),
        |s| s.totals.misplaced,
    ),
];

/// All of them, each once, in the order they are written.
pub fn all() -> Vec<Metric> {
    let mut all = vec![INFO, CONNECTED, PRIMARY, READY];
    all.extend(TABLES.iter().map(|m| m.0));
    all.push(SESSIONS);
    all.extend(TOTALS.iter().map(|m| m.0));
    all.extend([REFUSED, SECONDS, FAILED, PUNTED, DROPPED]);
    all
}

pub(super) fn text(out: &mut Text, target: &TargetState) {
    let status = match target {
        None => return,
        Some(Ok(status)) => status,
        Some(Err(_)) => return [CONNECTED, PRIMARY, READY].into_iter().for_each(|metric| out.one(metric, &[], 0)),
    };
    let pipeline = status.pipeline.as_deref().unwrap_or("unknown");
    let which = [("kind", &status.kind as _), ("address", &status.address as _), ("device_id", &status.device_id as _)];
    let how = [("role", &status.role as _), ("election_id", &status.election_id as _)];
    let program = [("cookie", &status.cookie as _), ("pipeline", &pipeline as _)];
    out.one(INFO, &[&which[..], &how, &program].concat(), 1);
    out.one(CONNECTED, &[], u8::from(status.connected));
    out.one(PRIMARY, &[], u8::from(status.standing == "primary"));
    out.one(READY, &[], u8::from(status.ready));
    for &(metric, read) in TABLES {
        out.head(metric);
        status.tables.iter().for_each(|t| out.sample(metric, &[("table", &t.name)], read(t)));
    }
    sessions(out, status);
    TOTALS.iter().for_each(|&(metric, read)| out.one(metric, &[], read(status)));
    refused(out, status);
    seconds(out, status);
    for (metric, label, counts) in
        [(FAILED, "code", &status.failures), (PUNTED, "reason", &status.punts), (DROPPED, "reason", &status.drops)]
    {
        out.head(metric);
        counts.iter().for_each(|(name, count)| out.sample(metric, &[(label, name)], count));
    }
}

fn sessions(out: &mut Text, status: &Status) {
    let s = &status.sessions;
    out.head(SESSIONS);
    for (state, count) in [
        ("waiting", s.waiting),
        ("installing", s.installing),
        ("offloaded", s.offloaded),
        ("undoing", s.undoing),
        ("removing", s.removing),
    ] {
        out.sample(SESSIONS, &[("state", &state)], count);
    }
}

fn refused(out: &mut Text, status: &Status) {
    let t = &status.totals;
    let known = [
        ("table_full", t.refused_full),
        ("nexthop", t.refused_nexthop),
        ("ids", t.refused_ids),
        ("hash", t.refused_hash),
        ("not_ready", t.refused_not_ready),
    ];
    let other = t.refused.saturating_sub(known.iter().map(|k| k.1).sum());
    out.head(REFUSED);
    for (reason, count) in known.into_iter().chain([("other", other)]) {
        out.sample(REFUSED, &[("reason", &reason)], count);
    }
}

fn seconds(out: &mut Text, status: &Status) {
    out.head(SECONDS);
    for (operation, Latency { p50_us, p99_us, max_us, .. }) in
        [("install", status.install_latency), ("remove", status.remove_latency)]
    {
        for (quantile, us) in [("0.5", p50_us), ("0.99", p99_us), ("1", max_us)] {
            out.sample(SECONDS, &[("operation", &operation), ("quantile", &quantile)], us as f64 / 1e6);
        }
    }
}
