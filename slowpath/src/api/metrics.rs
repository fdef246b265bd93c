//! Prometheus text (exposition format 0.0.4), written from the same counters as everything else. A scrape reads atomics, and
//! what the offload manager says; it sends no message to a worker.

mod softnic;
mod target;

use std::fmt::{Display, Write};

use carom_p4::Punt;
use fullnat::counters;
use fullnat::plan::Plan;
use fullnat::reason::DropReason;

use super::model::WorkerCounters;
use super::source::{Source, TargetState};
use super::view;
use crate::daemon::InterfaceStats;
use crate::softnic::Traffic;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows while the daemon runs.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric's name, kind and help line. All of them are in [`all`], which the documentation is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name, with unit and `_total` as Prometheus wants them.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Names of the labels.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const BUILD_INFO: Metric = gauge("carom_build_info", "version target", "Always 1; the labels tell what runs.");
const UPTIME: Metric = gauge("carom_uptime_seconds", "", "Seconds since the daemon started.");
const GENERATION: Metric = gauge("carom_config_generation", "", "Counts the configs put in force; the first is 1.");
const MEMORY: Metric = gauge("carom_memory_bytes", "hugepages", "Bytes taken for packets at the start.");
const BUFFERS: Metric =
    gauge("carom_packet_buffers", "state", "Packet buffers: free, and used by frames, rings and devices.");
const CAPACITY: Metric = gauge("carom_session_capacity", "", "Most sessions at a time, over all workers.");
const SESSIONS: Metric = gauge("carom_sessions", "worker family", "Sessions now.");
const DROPS: Metric =
    counter("carom_dropped_packets_total", "worker reason", "Packets dropped; see `carom drops` for the reasons.");

/// A counter of a worker and how to read it.
type WorkerMetric = (Metric, fn(&WorkerCounters) -> u64);

const WORKER: &[WorkerMetric] = &[
    (counter("carom_worker_rx_packets_total", "worker", "Packets received."), |c| c.rx_packets),
    (counter("carom_worker_rx_bytes_total", "worker", "Bytes received, without FCS."), |c| c.rx_bytes),
    (counter("carom_worker_tx_packets_total", "worker", "Packets sent."), |c| c.tx_packets),
    (counter("carom_worker_tx_bytes_total", "worker", "Bytes sent, without FCS."), |c| c.tx_bytes),
    (counter("carom_worker_handed_over_packets_total", "worker", "Packets handed to another worker."), |c| {
        c.handed_over
    }),
    (counter("carom_worker_taken_over_packets_total", "worker", "Packets taken from other workers."), |c| c.taken_over),
    (counter("carom_worker_busy_polls_total", "worker", "Polls that found packets."), |c| c.busy_polls),
    (counter("carom_worker_idle_polls_total", "worker", "Polls that found none."), |c| c.idle_polls),
    (gauge("carom_half_open_sessions", "worker", "Half-open sessions now."), |c| c.half_open),
    (counter("carom_half_open_evicted_total", "worker", "Half-open sessions given up for new ones."), |c| {
        c.half_open_evicted
    }),
    (counter("carom_handshakes_total", "worker", "TCP handshakes completed."), |c| c.handshakes),
    (counter("carom_sessions_created_total", "worker", "Sessions made."), |c| c.sessions_created),
    (counter("carom_sessions_ended_total", "worker", "Sessions ended, those given up included."), |c| c.sessions_ended),
    (counter("carom_sessions_reopened_total", "worker", "Sessions whose client reused its port early."), |c| {
        c.sessions_reopened
    }),
    (counter("carom_rst_ignored_total", "worker", "RST segments out of sequence, ignored (RFC 5961)."), |c| {
        c.rst_ignored
    }),
    (counter("carom_rst_sent_total", "worker", "RST segments sent to clients."), |c| c.rst_sent),
    (counter("carom_replies_limited_total", "worker", "RST and ICMP errors held back by their rate limit."), |c| {
        c.replies_limited
    }),
    (counter("carom_toa_added_total", "worker", "Segments that carried TOA to a real server."), |c| c.toa_added),
    (counter("carom_toa_stripped_total", "worker", "Client-made TOA options removed."), |c| c.toa_stripped),
    (counter("carom_toa_no_room_total", "worker", "Segments without TOA for want of option space."), |c| c.toa_no_room),
    (counter("carom_toa_over_mtu_total", "worker", "Segments without TOA for want of MTU."), |c| c.toa_over_mtu),
    (counter("carom_icmp_translated_total", "worker", "ICMP errors translated and sent on."), |c| c.icmp_translated),
    (counter("carom_icmp_sent_total", "worker", "ICMP errors of the balancer itself."), |c| c.icmp_sent),
    (counter("carom_echo_answered_total", "worker", "Echo requests answered."), |c| c.echo_answered),
    (counter("carom_neighbor_answered_total", "worker", "ARP requests and neighbour solicitations answered."), |c| {
        c.neighbor_answered
    }),
    (counter("carom_neighbor_heard_total", "worker", "ARP and neighbour discovery read, no answer needed."), |c| {
        c.neighbor_heard
    }),
    (gauge("carom_offload_sessions", "worker", "Sessions that are offloaded now."), |c| c.offload_sessions),
    (counter("carom_offload_asked_total", "worker", "Sessions the offload manager was asked to install."), |c| {
        c.offload_asked
    }),
    (counter("carom_offload_installed_total", "worker", "Sessions installed."), |c| c.offload_installed),
    (counter("carom_offload_refused_total", "worker", "Installs refused."), |c| c.offload_refused),
    (counter("carom_offload_adopted_total", "worker", "Sessions made of entries of an earlier life."), |c| {
        c.offload_adopted
    }),
    (counter("carom_offload_removed_total", "worker", "Sessions removed from the target."), |c| c.offload_removed),
    (counter("carom_offload_ring_full_total", "worker", "Requests that found the manager's ring full."), |c| {
        c.offload_ring_full
    }),
    (counter("carom_offload_ignored_total", "worker", "Answers about sessions that had gone."), |c| c.offload_ignored),
];

/// Traffic that the target forwarded: how to read it from packets or bytes, and the `direction` label.
type ForwardedMetric = (Metric, &'static str, fn(&WorkerCounters) -> u64);

const FORWARDED_PACKETS: Metric = counter(
    "carom_offload_packets_total",
    "worker direction",
    "Packets the target forwarded, as far as workers were told.",
);
const FORWARDED_BYTES: Metric = counter(
    "carom_offload_bytes_total",
    "worker direction",
    "Bytes the target forwarded, as far as workers were told.",
);

const FORWARDED: [ForwardedMetric; 4] = [
    (FORWARDED_PACKETS, "in", |c| c.offload_packets_in),
    (FORWARDED_PACKETS, "out", |c| c.offload_packets_out),
    (FORWARDED_BYTES, "in", |c| c.offload_bytes_in),
    (FORWARDED_BYTES, "out", |c| c.offload_bytes_out),
];

const PUNTED: Metric =
    counter("carom_worker_punted_packets_total", "worker reason", "Packets that came from the switch with its tag.");

/// Traffic of one direction or both, and how to read it; the second text is the `direction` label.
type TrafficMetric = (Metric, Option<&'static str>, fn(&counters::Traffic) -> u64);

const SERVICE_LABELS: &str = "service vip proto";
const SERVER_LABELS: &str = "service vip proto server";

const SERVICE: &[TrafficMetric] = &traffic_metrics(
    counter("carom_service_packets_total", "service vip proto direction", "Packets of a service by direction."),
    counter("carom_service_bytes_total", "service vip proto direction", "Bytes of a service by direction."),
    counter("carom_service_sessions_total", SERVICE_LABELS, "Sessions begun."),
    counter("carom_service_refused_total", SERVICE_LABELS, "Sessions refused: no server, no port, no room."),
    counter("carom_service_evicted_total", SERVICE_LABELS, "Half-open sessions given up for new ones."),
);

const SERVER: &[TrafficMetric] = &traffic_metrics(
    counter(
        "carom_server_packets_total",
        "service vip proto server direction",
        "Packets of a real server by direction.",
    ),
    counter("carom_server_bytes_total", "service vip proto server direction", "Bytes of a real server by direction."),
    counter("carom_server_sessions_total", SERVER_LABELS, "Sessions begun."),
    counter("carom_server_refused_total", SERVER_LABELS, "Sessions refused."),
    counter("carom_server_evicted_total", SERVER_LABELS, "Half-open sessions given up for new ones."),
);

const fn traffic_metrics(
    packets: Metric,
    bytes: Metric,
    sessions: Metric,
    refused: Metric,
    evicted: Metric,
) -> [TrafficMetric; 7] {
    [
        (packets, Some("in"), |t| t.packets_in.get()),
        (packets, Some("out"), |t| t.packets_out.get()),
        (bytes, Some("in"), |t| t.bytes_in.get()),
        (bytes, Some("out"), |t| t.bytes_out.get()),
        (sessions, None, |t| t.sessions.get()),
        (refused, None, |t| t.refused.get()),
        (evicted, None, |t| t.evicted.get()),
    ]
}

const SERVER_ACTIVE: Metric = gauge("carom_server_active_sessions", SERVER_LABELS, "Sessions now.");
const SERVER_WEIGHT: Metric = gauge("carom_server_weight", SERVER_LABELS, "Configured weight; 0 drains.");

/// A driver counter and how to read it.
type InterfaceMetric = (Metric, fn(&InterfaceStats) -> u64);

const INTERFACE: &[InterfaceMetric] = &[
    (gauge("carom_interface_up", "interface", "1 when the link is up."), |s| u64::from(s.link_up)),
    (counter("carom_interface_rx_packets_total", "interface", "Packets received."), |s| s.rx_packets),
    (counter("carom_interface_rx_bytes_total", "interface", "Bytes received."), |s| s.rx_bytes),
    (counter("carom_interface_rx_missed_total", "interface", "Packets the device had no descriptor for."), |s| {
        s.rx_missed
    }),
    (counter("carom_interface_rx_errors_total", "interface", "Packets with receive errors."), |s| s.rx_errors),
    (counter("carom_interface_rx_no_buffer_total", "interface", "Receive failures for want of a buffer."), |s| {
        s.rx_no_buffer
    }),
    (counter("carom_interface_tx_packets_total", "interface", "Packets sent."), |s| s.tx_packets),
    (counter("carom_interface_tx_bytes_total", "interface", "Bytes sent."), |s| s.tx_bytes),
    (counter("carom_interface_tx_errors_total", "interface", "Packets with transmit errors."), |s| s.tx_errors),
];

/// Every metric there is, each once, in the order it is written.
pub fn all() -> Vec<Metric> {
    let mut all = vec![BUILD_INFO, UPTIME, GENERATION, MEMORY, BUFFERS, CAPACITY, SESSIONS];
    all.extend(WORKER.iter().map(|m| m.0));
    all.extend(FORWARDED.map(|m| m.0));
    all.extend([PUNTED, DROPS]);
    all.extend(SERVICE.iter().chain(SERVER).map(|m| m.0));
    all.extend([SERVER_ACTIVE, SERVER_WEIGHT]);
    all.extend(INTERFACE.iter().map(|m| m.0));
    all.extend(target::all());
    all.extend(softnic::all());
    all.dedup_by_key(|m| m.name);
    all
}

/// The whole text, with what the target says and what passed softnic.
pub fn text(source: &impl Source, target: &TargetState, traffic: Option<&Traffic>) -> String {
    let mut out = Text::default();
    let plan = source.plan();
    let status = view::status(source, target);
    out.one(BUILD_INFO, &[("version", &status.version), ("target", &status.target)], 1);
    out.one(UPTIME, &[], source.uptime().as_secs_f64());
    out.one(GENERATION, &[], plan.generation);
    out.one(MEMORY, &[("hugepages", &status.hugepages)], status.memory_bytes);
    out.head(BUFFERS);
    out.sample(BUFFERS, &[("state", &"free")], status.buffers_free);
    out.sample(BUFFERS, &[("state", &"used")], status.buffers_used);
    out.one(CAPACITY, &[], status.session_capacity);
    workers(&mut out, source);
    services(&mut out, source, &plan);
    servers(&mut out, source, &plan);
    interfaces(&mut out, source);
    target::text(&mut out, target);
    if let Some(traffic) = traffic {
        softnic::text(&mut out, traffic);
    }
    out.0
}

/// The text of a softnic in a process of its own.
pub fn softnic_text(traffic: &Traffic) -> String {
    let mut out = Text::default();
    softnic::text(&mut out, traffic);
    out.0
}

fn workers(out: &mut Text, source: &impl Source) {
    let workers: Vec<WorkerCounters> = source.counters().iter().map(|c| view::worker_counters(c)).collect();
    out.head(SESSIONS);
    for (i, w) in workers.iter().enumerate() {
        out.sample(SESSIONS, &[("worker", &i), ("family", &"v4")], w.sessions_v4);
        out.sample(SESSIONS, &[("worker", &i), ("family", &"v6")], w.sessions_v6);
    }
    for &(metric, read) in WORKER {
        out.head(metric);
        for (i, w) in workers.iter().enumerate() {
            out.sample(metric, &[("worker", &i)], read(w));
        }
    }
    let mut last = "";
    for (metric, direction, read) in FORWARDED {
        if metric.name != last {
            out.head(metric);
            last = metric.name;
        }
        for (i, w) in workers.iter().enumerate() {
            out.sample(metric, &[("worker", &i), ("direction", &direction)], read(w));
        }
    }
    out.head(PUNTED);
    for (i, counters) in source.counters().iter().enumerate() {
        for &why in Punt::ALL {
            out.sample(PUNTED, &[("worker", &i), ("reason", &why.name())], counters.punts(why as u8));
        }
    }
    out.head(DROPS);
    for (i, counters) in source.counters().iter().enumerate() {
        for &reason in DropReason::ALL {
            out.sample(DROPS, &[("worker", &i), ("reason", &reason.name())], counters.dropped(reason));
        }
    }
}

fn services(out: &mut Text, source: &impl Source, plan: &Plan) {
    let mut last = "";
    for &(metric, direction, read) in SERVICE {
        if metric.name != last {
            out.head(metric);
            last = metric.name;
        }
        for service in plan.services() {
            let vip = view::service_address(service);
            let mut labels: Vec<(&str, &dyn Display)> =
                vec![("service", &service.name), ("vip", &vip), ("proto", &service.proto)];
            if let Some(direction) = &direction {
                labels.push(("direction", direction));
            }
            out.sample(metric, &labels, source.counters().iter().map(|c| read(c.service(service.id))).sum::<u64>());
        }
    }
}

fn servers(out: &mut Text, source: &impl Source, plan: &Plan) {
    let each = |out: &mut Text, metric, direction: Option<&str>, read: &dyn Fn(&fullnat::plan::Server) -> u64| {
        for server in plan.servers() {
            let Some(service) = plan.service(server.service) else { continue };
            let (vip, address) = (view::service_address(service), view::server_address(server));
            let mut labels: Vec<(&str, &dyn Display)> =
                vec![("service", &service.name), ("vip", &vip), ("proto", &service.proto), ("server", &address)];
            if let Some(direction) = &direction {
                labels.push(("direction", direction));
            }
            out.sample(metric, &labels, read(server));
        }
    };
    let mut last = "";
    for &(metric, direction, read) in SERVER {
        if metric.name != last {
            out.head(metric);
            last = metric.name;
        }
        each(out, metric, direction, &|s| source.counters().iter().map(|c| read(c.server(s.id))).sum());
    }
    out.head(SERVER_ACTIVE);
    each(out, SERVER_ACTIVE, None, &|s| u64::from(s.shared.active()));
    out.head(SERVER_WEIGHT);
    each(out, SERVER_WEIGHT, None, &|s| u64::from(s.weight));
}

fn interfaces(out: &mut Text, source: &impl Source) {
    let interfaces = view::interfaces(source).interfaces;
    for &(metric, read) in INTERFACE {
        out.head(metric);
        for interface in &interfaces {
            out.sample(metric, &[("interface", &interface.name)], read(&interface.stats));
        }
    }
}

/// The text as it grows. Writing to a `String` cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, metric: Metric) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.0, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
    }

    fn one(&mut self, metric: Metric, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.head(metric);
        self.sample(metric, labels, value);
    }

    fn sample(&mut self, metric: Metric, labels: &[(&str, &dyn Display)], value: impl Display) {
        debug_assert!(metric.labels.split_whitespace().eq(labels.iter().map(|l| l.0)), "{}", metric.name);
        self.0.push_str(metric.name);
        for (i, (name, value)) in labels.iter().enumerate() {
            self.0.push(if i == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{name}=\"");
            escape(&mut self.0, &value.to_string());
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// Label values escape the backslash, the quote and the line end.
fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
