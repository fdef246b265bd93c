//! The Prometheus text: well formed, complete, and the same numbers as everywhere else.

use std::collections::{BTreeMap, BTreeSet};

use carom::api::metrics;

use crate::fake::Fake;

/// Samples by their full name with labels; checks the text's form on the way.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut typed = BTreeSet::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().unwrap();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current, "HELP and TYPE belong together");
            assert!(typed.insert(name), "{name} is there twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next().unwrap(), current, "a sample under another metric's head");
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} is there twice");
        }
    }
    samples
}

#[test]
fn the_text_is_well_formed_and_complete() {
    let text = metrics::text(&Fake::new());
    let samples = samples(&text);
    for metric in metrics::all() {
        let known = samples.keys().any(|k| k.split('{').next() == Some(metric.name));
        assert!(known, "{} has no sample", metric.name);
    }
    let names: BTreeSet<_> = samples.keys().map(|k| k.split('{').next().unwrap()).collect();
    assert_eq!(names, metrics::all().iter().map(|m| m.name).collect());
}

#[test]
fn the_numbers_are_those_of_the_counters() {
    let samples = samples(&metrics::text(&Fake::new()));
    let expected = [
        ("carom_uptime_seconds", 273_906.0),
        ("carom_config_generation", 1.0),
        ("carom_memory_bytes{hugepages=\"true\"}", 536_870_912.0),
        ("carom_sessions{worker=\"1\",family=\"v6\"}", 16.0),
        ("carom_worker_rx_packets_total{worker=\"1\"}", 2_000_000.0),
        ("carom_dropped_packets_total{worker=\"0\",reason=\"tx_full\"}", 20.0),
        ("carom_dropped_packets_total{worker=\"0\",reason=\"fragment\"}", 0.0),
        (
            "carom_service_bytes_total{service=\"web\",vip=\"10.10.0.100:443\",proto=\"tcp\",direction=\"out\"}",
            570_000_000.0,
        ),
        (
            "carom_server_packets_total{service=\"quic\",vip=\"10.10.0.100:443\",proto=\"udp\",\
             server=\"10.20.1.10:8443\",direction=\"in\"}",
            11.0 * 904.0,
        ),
        ("carom_server_weight{service=\"web\",vip=\"10.10.0.100:443\",proto=\"tcp\",server=\"10.20.2.10:8443\"}", 0.0),
        ("carom_interface_up{interface=\"wan\"}", 1.0),
        ("carom_interface_up{interface=\"lan\"}", 0.0),
        ("carom_interface_rx_missed_total{interface=\"wan\"}", 3.0),
    ];
    for (name, value) in expected {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
}
