//! Workers, DPDK, limits, timeouts, sockets.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::Report;
use crate::config::bounds;
use crate::config::path::KeyPath;
use crate::config::types::{Admin, Dpdk, File, Limits, Metrics, Protocol, Workers};
use crate::config::value::Duration;

/// Sessions keep 32 bits of a time in milliseconds, which tell apart what is less than 24 days away.
const MAX_TIMEOUT: Duration = Duration::from_secs(20 * 24 * 3600);

/// A path in a Unix socket's address: 108 bytes with the closing zero (`sun_path`).
const MAX_SOCKET_PATH: usize = 107;

/// EAL arguments that have a key of their own here, and the key.
const OWN_ARGS: &[(&str, &str)] = &[
    ("--no-huge", "memory = \"nohuge\" in [dpdk]"),
    ("-m", "memory_mb in [dpdk]"),
    ("--file-prefix", "file_prefix in [dpdk]"),
    ("--vdev", "device of an [[interface]], of link in [target], or of a [[port]]"),
    ("-a", "device of an [[interface]], of link in [target], or of a [[port]]"),
    ("--allow", "device of an [[interface]], of link in [target], or of a [[port]]"),
    ("-l", "cpus in [workers], or cpu of softnic"),
    ("-c", "cpus in [workers], or cpu of softnic"),
    ("--lcores", "cpus in [workers], or cpu of softnic"),
];

/// Checks everything that is not an interface, route, pool or service.
pub(super) fn check(file: &File, report: &mut Report<'_>) {
    check_workers(&file.workers, report);
    check_dpdk(&file.dpdk, report);
    check_limits(&file.limits, report);
    let quarantine = KeyPath::key("snat").join("quarantine");
    if file.snat.quarantine.is_zero() {
        report
            .error(&quarantine, "0 would hand out a port its last real server still holds in TIME_WAIT; write \"60s\"");
    } else if file.snat.quarantine < Duration::from_secs(60) {
        report.warn(&quarantine, "shorter than TIME_WAIT of Linux (60s): real servers may refuse connections");
    } else if file.snat.quarantine > Duration::from_secs(3600) {
        report.error(&quarantine, format!("{} is too long: 1h is the most", file.snat.quarantine));
    }
    check_timeouts(&file.timeouts.entries(), &KeyPath::key("timeouts"), report);
    check_admin(&file.admin, report);
    check_metrics(&file.metrics, report);
    if file.debug.seed.is_some() {
        report.warn(&KeyPath::key("debug").join("seed"), "hash keys are known to everybody: for tests only");
    }
}

/// Checks a number against its range; true when it is inside.
pub(super) fn within(path: &KeyPath, value: u32, range: &RangeInclusive<u32>, report: &mut Report<'_>) -> bool {
    if !range.contains(&value) {
        report.error(path, format!("{value} is out of range: {} to {}", range.start(), range.end()));
        return false;
    }
    true
}

fn check_workers(workers: &Workers, report: &mut Report<'_>) {
    let path = KeyPath::key("workers");
    let cpus = workers.cpus.len();
    match workers.count {
        Some(count) => {
            let at = path.join("count");
            if within(&at, count.into(), &bounds::WORKERS, report) && cpus != 0 && usize::from(count) != cpus {
                let message = format!("{count} workers, but {cpus} cpus; leave count out, or name one CPU for each");
                report.error(&at, message);
            }
        }
        None if cpus > *bounds::WORKERS.end() as usize => {
            report
                .error(&path.join("cpus"), format!("{cpus} CPUs, but {} workers are the most", bounds::WORKERS.end()));
        }
        None => {}
    }
    let mut seen = HashSet::new();
    for (i, &cpu) in workers.cpus.iter().enumerate() {
        let at = path.join("cpus").item(i);
        if within(&at, cpu.into(), &bounds::CPU, report) && !seen.insert(cpu) {
            report.error(&at, format!("CPU {cpu} is named twice; each worker needs its own"));
        }
    }
    let sleep = workers.backoff.sleep;
    if sleep.is_zero() || sleep > Duration::from_ms(10) {
        let at = path.join("backoff").join("sleep");
        report.error(&at, format!("{sleep} is out of range: 1us to 10ms; to never sleep, set idle = \"busy\""));
    }
}

pub(super) fn check_dpdk(dpdk: &Dpdk, report: &mut Report<'_>) {
    let path = KeyPath::key("dpdk");
    within(&path.join("memory_mb"), dpdk.memory_mb, &bounds::MEMORY_MB, report);
    if let Some(mbufs) = dpdk.mbufs {
        within(&path.join("mbufs"), mbufs, &bounds::MBUFS, report);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let wrong = |prefix: &&String| prefix.is_empty() || prefix.len() > 32 || !prefix.chars().all(allowed);
    if let Some(prefix) = dpdk.file_prefix.as_ref().filter(wrong) {
        let message = format!("\"{prefix}\" is no part of a file name: use 1 to 32 letters, digits, \"-\" or \"_\"");
        report.error(&path.join("file_prefix"), message);
    }
    for (i, arg) in dpdk.args.iter().enumerate() {
        let at = path.join("args").item(i);
        let name = arg.split(['=', ' ']).next().unwrap_or_default();
        if let Some((_, key)) = OWN_ARGS.iter().find(|(own, _)| *own == name) {
            report.error(&at, format!("\"{arg}\" would contradict Carom's own arguments; use {key}"));
        } else if arg.is_empty() || arg.chars().any(|c| c.is_whitespace() || c.is_control()) {
            report.error(&at, format!("\"{arg}\" is not one argument; write each as an item of its own"));
        }
    }
}

pub(super) fn check_metrics(metrics: &Metrics, report: &mut Report<'_>) {
    if metrics.address().is_some_and(|address| address.port() == 0) {
        let at = KeyPath::key("metrics").join("listen");
        report.error(&at, "port 0; write the port to serve metrics at, for example 9100");
    }
}

fn check_limits(limits: &Limits, report: &mut Report<'_>) {
    let ranges = [
        ("sessions", limits.sessions, bounds::SESSIONS),
        ("sessions6", limits.sessions6, bounds::SESSIONS),
        ("nexthops", limits.nexthops.into(), bounds::NEXTHOPS),
        ("pending_packets", limits.pending_packets.into(), bounds::PENDING),
        ("persistence", limits.persistence, bounds::PERSISTENCE),
        ("icmp_rate", limits.icmp_rate, bounds::RATE),
        ("reset_rate", limits.reset_rate, bounds::RATE),
    ];
    for (key, value, range) in ranges {
        within(&KeyPath::key("limits").join(key), value, &range, report);
    }
}

/// Checks timeouts, each with its key and value.
pub(super) fn check_timeouts(entries: &[(&'static str, Protocol, Duration)], path: &KeyPath, report: &mut Report<'_>) {
    for &(key, _, value) in entries {
        if value.is_zero() {
            report.error(&path.join(key), "0 would end sessions at once; write for example \"30s\"");
        } else if value > MAX_TIMEOUT {
            report.error(&path.join(key), format!("{value} is too long: {MAX_TIMEOUT} is the most"));
        }
    }
}

fn check_admin(admin: &Admin, report: &mut Report<'_>) {
    let path = KeyPath::key("admin").join("socket");
    let socket = &admin.socket;
    let bytes = socket.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || socket.file_name().is_none() || bytes.ends_with(b"/") {
        report.error(&path, "names no file; write for example \"/run/carom/admin.sock\"");
    } else if bytes.len() > MAX_SOCKET_PATH {
        report.error(&path, format!("is {} bytes long; a socket's path has {MAX_SOCKET_PATH} at most", bytes.len()));
    } else if bytes.contains(&0) {
        report.error(&path, "has a zero byte in it");
    }
}
