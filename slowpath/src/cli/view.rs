//! What the show commands print for people. With `--watch`, counters become rates per second.

mod drops;
mod sessions;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::format::{Numbers, duration, memory, microseconds, percent};
use super::table::Align::{Left, Right};
use super::table::{Column, table, width};
use crate::api::model::*;

pub use drops::drops;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Rates instead of totals.
    pub watch: bool,
    /// How numbers look.
    pub numbers: Numbers,
    /// Columns of the terminal.
    pub width: u16,
}

/// A document of the API that can be shown.
pub trait View: Serialize + DeserializeOwned {
    /// Milliseconds since the daemon started, when the document was made.
    fn uptime_ms(&self) -> u64;
    /// The text, with the document of the frame before when watching.
    fn render(&self, before: Option<&Self>, look: Look) -> String;
}

/// Seconds between two documents; `None` when there is one only, or the daemon was started anew between them.
fn seconds<T: View>(now: &T, before: Option<&T>) -> Option<f64> {
    let before = before?.uptime_ms();
    (now.uptime_ms() > before).then(|| (now.uptime_ms() - before) as f64 / 1000.0)
}

/// Prints one counter of a row: the total, or its rate when watching.
struct Counting<'a, R> {
    look: Look,
    seconds: Option<f64>,
    now: &'a R,
    before: Option<&'a R>,
}

impl<R> Counting<'_, R> {
    fn show(&self, read: impl Fn(&R) -> u64) -> String {
        let numbers = self.look.numbers;
        if self.look.watch {
            numbers.rate(read(self.now), self.before.map(read), self.seconds)
        } else {
            numbers.count(read(self.now))
        }
    }
}

/// The rows of the frame before, by what names them.
fn by_key<'a, R, K: Hash + Eq>(rows: &'a [R], key: impl Fn(&'a R) -> K) -> HashMap<K, &'a R> {
    rows.iter().map(|row| (key(row), row)).collect()
}

/// Heads of the traffic columns.
fn traffic_columns(watch: bool) -> [Column<'static>; 6] {
    if watch {
        ["CONN/S", "REF/S", "PKT/S IN", "PKT/S OUT", "BYTE/S IN", "BYTE/S OUT"].map(|h| (h, Right))
    } else {
        ["CONNS", "REFUSED", "PKTS IN", "PKTS OUT", "BYTES IN", "BYTES OUT"].map(|h| (h, Right))
    }
}

fn traffic_cells<R>(row: &Counting<R>, traffic: impl Fn(&R) -> &TrafficCounters) -> [String; 6] {
    [
        row.show(|r| traffic(r).sessions_total),
        row.show(|r| traffic(r).sessions_refused),
        row.show(|r| traffic(r).packets_in),
        row.show(|r| traffic(r).packets_out),
        row.show(|r| traffic(r).bytes_in),
        row.show(|r| traffic(r).bytes_out),
    ]
}

impl View for Status {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        let numbers = look.numbers;
        let row = Counting { look, seconds: seconds(self, before), now: self, before };
        let per = if look.watch { " per second" } else { "" };
        let t = &self.totals;
        let target = match (self.target.as_str(), &self.offload) {
            ("none", _) => "none (slow path alone)".to_owned(),
            (kind, None) => format!("{kind} (the offload manager has ended; its log says why)"),
            (kind, Some(o)) => format!(
                "{kind} at {}, {}{}, {} of the sessions offloaded",
                o.address,
                o.standing,
                if o.ready { "" } else { " and not ready" },
                numbers.count(o.sessions)
            ),
        };
        let pages = |huge| if huge { "on hugepages" } else { "on ordinary pages" };
        let lines = [
            ("carom", format!("{}, up {}, pid {}", self.version, duration(self.uptime_ms), self.pid)),
            ("config", format!("{}, generation {}", self.config_path.display(), self.generation)),
            ("target", target),
            ("packets", format!("{} {}", memory(self.memory_bytes), pages(self.hugepages))),
            ("tables", format!("{} {}", memory(self.tables_bytes), pages(self.tables_hugepages))),
            ("workers", format!("{} on {}", self.workers, plural(self.interfaces, "interface"))),
            ("services", format!("{} with {}", self.services, plural(self.servers, "real server"))),
            (
                "sessions",
                format!(
                    "{} of {} (IPv4 {}, IPv6 {}; half-open {})",
                    numbers.count(t.sessions()),
                    numbers.count(self.session_capacity),
                    numbers.count(t.sessions_v4),
                    numbers.count(t.sessions_v6),
                    numbers.count(t.half_open)
                ),
            ),
            (
                "",
                format!(
                    "{} made, {} ended, {} given up half-open{per}",
                    row.show(|s| s.totals.sessions_created),
                    row.show(|s| s.totals.sessions_ended),
                    row.show(|s| s.totals.half_open_evicted)
                ),
            ),
            (
                "received",
                format!(
                    "{} packets, {} bytes{per}",
                    row.show(|s| s.totals.rx_packets),
                    row.show(|s| s.totals.rx_bytes)
                ),
            ),
            (
                "sent",
                format!(
                    "{} packets, {} bytes{per}",
                    row.show(|s| s.totals.tx_packets),
                    row.show(|s| s.totals.tx_bytes)
                ),
            ),
            ("dropped", format!("{} packets{per}", row.show(|s| s.totals.dropped))),
        ];
        lines.iter().fold(String::new(), |mut text, (name, value)| {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{name:<9} {value}");
            text
        })
    }
}

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl View for Services {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        let past = by_key(before.map_or(&[][..], |b| &b.services), |s| (s.proto, s.address));
        let mut columns =
            vec![("NAME", Left), ("SERVICE", Left), ("SCHED", Left), ("SERVERS", Right), ("ACTIVE", Right)];
        columns.extend(traffic_columns(look.watch));
        let rows = self.services.iter().map(|s| {
            let row = Counting {
                look,
                seconds: seconds(self, before),
                now: s,
                before: past.get(&(s.proto, s.address)).copied(),
            };
            let mut cells = vec![
                s.name.clone(),
                format!("{} {}", s.proto, s.address),
                s.scheduler.clone(),
                format!("{}/{}", s.servers_weighted, s.servers),
                look.numbers.count(s.active_sessions),
            ];
            cells.extend(traffic_cells(&row, |s| &s.traffic));
            cells
        });
        table(&columns, rows, None)
    }
}

impl View for Servers {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        fn key(s: &Server) -> (Protocol, SocketAddr, SocketAddr) {
            (s.proto, s.vip, s.address)
        }
        let past = by_key(before.map_or(&[][..], |b| &b.servers), key);
        let mut columns =
            vec![("SERVICE", Left), ("SERVER", Left), ("WEIGHT", Right), ("ACTIVE", Right), ("MAX", Right)];
        columns.extend(traffic_columns(look.watch));
        let rows = self.servers.iter().map(|s| {
            let row = Counting { look, seconds: seconds(self, before), now: s, before: past.get(&key(s)).copied() };
            let max = if s.max_connections == 0 { "-".to_owned() } else { s.max_connections.to_string() };
            let mut cells = vec![
                s.service.clone(),
                s.address.to_string(),
                s.weight.to_string(),
                look.numbers.count(s.active_sessions),
                max,
            ];
            cells.extend(traffic_cells(&row, |s| &s.traffic));
            cells
        });
        table(&columns, rows, None)
    }
}

impl View for SessionCount {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, _before: Option<&Self>, _look: Look) -> String {
        format!("{}\n", self.count)
    }
}

impl View for Ports {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        ports(self, before, look, false)
    }
}

/// What names a line of the ports table; the worker when they are shown apart.
type PortKey = (Option<u8>, Protocol, IpAddr, SocketAddr);

/// `carom ports`: workers summed up, or apart.
pub fn ports(now: &Ports, before: Option<&Ports>, look: Look, by_worker: bool) -> String {
    let sums = |ports: &Ports| {
        let mut sums: BTreeMap<PortKey, PortUse> = BTreeMap::new();
        for p in &ports.ports {
            let key = (by_worker.then_some(p.worker), p.proto, p.local, p.server);
            sums.entry(key)
                .and_modify(|sum| {
                    sum.total += p.total;
                    sum.in_use += p.in_use;
                    sum.quarantined += p.quarantined;
                    sum.exhausted += p.exhausted;
                })
                .or_insert_with(|| p.clone());
        }
        sums
    };
    let past = before.map(sums).unwrap_or_default();
    let mut columns = if by_worker { vec![("WORKER", Right)] } else { Vec::new() };
    columns.extend(["PROTO", "LOCAL", "SERVER"].map(|h| (h, Left)));
    columns.extend(["PORTS", "IN USE", "QUARANTINE", "FREE", "USED"].map(|h| (h, Right)));
    columns.push((if look.watch { "EXHAUSTED/S" } else { "EXHAUSTED" }, Right));
    let rows = sums(now).into_iter().map(|(key, p)| {
        let row = Counting { look, seconds: seconds(now, before), now: &p, before: past.get(&key) };
        let taken = p.in_use + p.quarantined;
        let mut cells = if by_worker { vec![p.worker.to_string()] } else { Vec::new() };
        cells.extend([p.proto.to_string(), p.local.to_string(), p.server.to_string()]);
        cells.extend([p.total, p.in_use, p.quarantined, p.total.saturating_sub(taken)].map(|n| look.numbers.count(n)));
        cells.extend([percent(taken, p.total), row.show(|p| p.exhausted)]);
        cells
    });
    table(&columns, rows, None)
}

impl View for Workers {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        let past = by_key(before.map_or(&[][..], |b| &b.workers), |w| w.worker);
        let counters = if look.watch {
            ["RX PKT/S", "TX PKT/S", "RX BYTE/S", "TX BYTE/S", "HANDED/S", "TAKEN/S", "PUNT/S", "DROP/S"]
        } else {
            ["RX PKTS", "TX PKTS", "RX BYTES", "TX BYTES", "HANDED", "TAKEN", "PUNTED", "DROPPED"]
        };
        let columns: Vec<Column> =
            ["WORKER", "LOAD", "SESSIONS", "OFFLOADED"].into_iter().chain(counters).map(|h| (h, Right)).collect();
        let rows = self.workers.iter().map(|w| {
            let row = Counting { look, seconds: seconds(self, before), now: w, before: past.get(&w.worker).copied() };
            let show = |read: fn(&WorkerCounters) -> u64| row.show(|w| read(&w.counters));
            vec![
                w.worker.to_string(),
                load(&w.counters, row.before.map(|b| &b.counters)),
                look.numbers.count(w.counters.sessions()),
                look.numbers.count(w.counters.offload_sessions),
                show(|c| c.rx_packets),
                show(|c| c.tx_packets),
                show(|c| c.rx_bytes),
                show(|c| c.tx_bytes),
                show(|c| c.handed_over),
                show(|c| c.taken_over),
                show(|c| c.punted),
                show(|c| c.dropped),
            ]
        });
        table(&columns, rows, None)
    }
}

/// Share of polls that found packets: since the frame before, or since the start.
fn load(now: &WorkerCounters, before: Option<&WorkerCounters>) -> String {
    let zero = WorkerCounters::default();
    let before = before.unwrap_or(&zero);
    let busy = now.busy_polls.saturating_sub(before.busy_polls);
    let idle = now.idle_polls.saturating_sub(before.idle_polls);
    percent(busy, busy + idle)
}

impl View for Neighbors {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, _before: Option<&Self>, _look: Look) -> String {
        let columns = ["ADDRESS", "INTERFACE", "MAC", "STATE"].map(|h| (h, Left));
        let rows = self.neighbors.iter().map(|n| {
            let mac = n.mac.clone().unwrap_or_else(|| "-".to_owned());
            vec![n.address.to_string(), n.interface.clone(), mac, n.state.clone()]
        });
        table(&columns, rows, None)
    }
}

impl View for Interfaces {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        let past = by_key(before.map_or(&[][..], |b| &b.interfaces), |i| i.name.as_str());
        let counters = if look.watch {
            ["RX PKT/S", "TX PKT/S", "RX BYTE/S", "TX BYTE/S", "MISSED/S", "ERR/S", "NOBUF/S"]
        } else {
            ["RX PKTS", "TX PKTS", "RX BYTES", "TX BYTES", "MISSED", "ERRORS", "NOBUF"]
        };
        let mut columns = vec![("NAME", Left), ("LINK", Left), ("MAC", Left), ("MTU", Right)];
        columns.extend(counters.map(|h| (h, Right)));
        let rows = self.interfaces.iter().map(|i| {
            let row =
                Counting { look, seconds: seconds(self, before), now: i, before: past.get(i.name.as_str()).copied() };
            vec![
                i.name.clone(),
                if i.stats.link_up { "up" } else { "down" }.to_owned(),
                i.mac.clone(),
                i.mtu_bytes.to_string(),
                row.show(|i| i.stats.rx_packets),
                row.show(|i| i.stats.tx_packets),
                row.show(|i| i.stats.rx_bytes),
                row.show(|i| i.stats.tx_bytes),
                row.show(|i| i.stats.rx_missed),
                row.show(|i| i.stats.rx_errors + i.stats.tx_errors),
                row.show(|i| i.stats.rx_no_buffer),
            ]
        });
        table(&columns, rows, None)
    }
}
