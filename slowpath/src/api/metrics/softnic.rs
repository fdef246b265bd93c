//! The metrics of softnic, in the balancer's process or in one of its own. Without it there are none of them.

use super::{Metric, Text, counter};
use crate::softnic::{PortTraffic, Traffic};

/// A count of a port and how to read it.
type PortMetric = (Metric, fn(&PortTraffic) -> u64);

const PORTS: &[PortMetric] = &[
    (counter("carom_softnic_rx_packets_total", "port", "Packets that came to softnic by a port."), |p| p.rx_packets),
    (counter("carom_softnic_tx_packets_total", "port", "Packets that softnic sent by a port."), |p| p.tx_packets),
];

const DROPPED: Metric = counter(
    "carom_softnic_dropped_packets_total",
    "port reason",
    "Packets dropped at softnic's ports: port_full, no_headroom, no_port; those of the program are apart.",
);

/// All of them, each once, in the order they are written.
pub fn all() -> Vec<Metric> {
    PORTS.iter().map(|metric| metric.0).chain([DROPPED]).collect()
}

pub(super) fn text(out: &mut Text, traffic: &Traffic) {
    for &(metric, read) in PORTS {
        out.head(metric);
        traffic.ports.iter().for_each(|port| out.sample(metric, &[("port", &port.port)], read(port)));
    }
    out.head(DROPPED);
    for drop in traffic.drops() {
        out.sample(DROPPED, &[("port", &drop.port), ("reason", &drop.reason)], drop.total);
    }
}
