//! The Prometheus text: well formed, complete, and the same numbers as everywhere else.

use std::collections::{BTreeMap, BTreeSet};

use carom::api::metrics;
use carom::offload::Gone;
use carom::softnic::{PortTraffic, Traffic};

use crate::fake::{Fake, target};

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

/// A switch in the process with one port.
fn traffic() -> Traffic {
    let port =
        PortTraffic { port: "front".to_owned(), number: 1, rx_packets: 5, port_full: 2, ..PortTraffic::default() };
    Traffic { ports: vec![port], no_port: 3 }
}

#[test]
fn the_counts_of_a_softnic_are_the_same_in_its_own_process() {
    let all = samples(&metrics::text(&Fake::new(), &None, Some(&traffic())));
    let own = samples(&metrics::softnic_text(&traffic()));
    assert_eq!(own["carom_softnic_rx_packets_total{port=\"front\"}"], 5.0);
    assert_eq!(own["carom_softnic_dropped_packets_total{port=\"front\",reason=\"port_full\"}"], 2.0);
    assert_eq!(own["carom_softnic_dropped_packets_total{port=\"\",reason=\"no_port\"}"], 3.0);
    assert!(own.iter().all(|(name, value)| all.get(name) == Some(value)));
}

#[test]
fn the_text_is_well_formed_and_complete() {
    let samples = samples(&metrics::text(&Fake::new(), &Some(Ok(target())), Some(&traffic())));
    for metric in metrics::all() {
        let known = samples.keys().any(|k| k.split('{').next() == Some(metric.name));
        assert!(known, "{} has no sample", metric.name);
    }
    let names: BTreeSet<_> = samples.keys().map(|k| k.split('{').next().unwrap()).collect();
    assert_eq!(names, metrics::all().iter().map(|m| m.name).collect());
}

#[test]
fn the_numbers_are_those_of_the_counters() {
    let samples = samples(&metrics::text(&Fake::new(), &None, None));
    let expected = [
        ("carom_uptime_seconds", 273_906.0),
        ("carom_config_generation", 1.0),
        ("carom_memory_bytes{hugepages=\"true\"}", 536_870_912.0),
        ("carom_sessions{worker=\"1\",family=\"v6\"}", 16.0),
        ("carom_worker_rx_packets_total{worker=\"1\"}", 2_000_000.0),
        ("carom_dropped_packets_total{worker=\"0\",reason=\"tx_full\"}", 20.0),
        ("carom_offload_removed_total{worker=\"1\"}", 1_000.0),
        ("carom_offload_packets_total{worker=\"0\",direction=\"out\"}", 900.0),
        ("carom_offload_bytes_total{worker=\"1\",direction=\"in\"}", 2_000.0),
        ("carom_worker_punted_packets_total{worker=\"0\",reason=\"tcp_control\"}", 1.0),
        ("carom_worker_punted_packets_total{worker=\"0\",reason=\"miss\"}", 0.0),
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

#[test]
fn the_target_has_metrics_of_its_own() {
    let known = samples(&metrics::text(&Fake::new(), &Some(Ok(target())), None));
    let expected = [
        (
            "carom_target_info{kind=\"bmv2\",address=\"127.0.0.1:9559\",device_id=\"1\",role=\"\",election_id=\"3\",\
             cookie=\"0123456789abcdef\",pipeline=\"kept\"}",
            1.0,
        ),
        ("carom_target_primary", 1.0),
        ("carom_target_table_entries{table=\"flow_v4\"}", 9_006.0),
        ("carom_target_table_size{table=\"flow_v4\"}", 131_072.0),
        ("carom_target_sessions{state=\"removing\"}", 7.0),
        ("carom_target_installed_sessions_total", 20_017.0),
        ("carom_target_refused_installs_total{reason=\"table_full\"}", 21.0),
        ("carom_target_refused_installs_total{reason=\"hash\"}", 3.0),
        ("carom_target_refused_installs_total{reason=\"other\"}", 40.0 - 21.0 - 13.0 - 2.0 - 3.0),
        ("carom_target_operation_seconds{operation=\"install\",quantile=\"0.99\"}", 0.00642),
        ("carom_target_failed_updates_total{code=\"ResourceExhausted\"}", 42.0),
        ("carom_switch_punted_packets_total{reason=\"miss\"}", 123_456.0),
        ("carom_switch_dropped_packets_total{reason=\"truncated\"}", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(known.get(name), Some(&value), "{name}");
    }
    let of_target = |text: &str| -> Vec<(String, f64)> {
        let about = |name: &str| name.starts_with("carom_target") || name.starts_with("carom_switch");
        samples(text).into_iter().filter(|(name, _)| about(name)).collect()
    };
    assert_eq!(of_target(&metrics::text(&Fake::new(), &None, None)), []);
    // A manager that has ended is no target that is fine.
    let zero = ["carom_target_connected", "carom_target_primary", "carom_target_ready"].map(|n| (n.to_owned(), 0.0));
    assert_eq!(of_target(&metrics::text(&Fake::new(), &Some(Err(Gone)), None)), zero);
}

#[test]
fn the_link_to_a_switch_is_one_more_interface() {
    let link = "carom_interface_rx_packets_total{interface=\"target.link\"}";
    let samples = |fake: &Fake| samples(&metrics::text(fake, &None, None));
    assert_eq!(samples(&Fake::new()).get(link), None);
    assert_eq!(samples(&Fake::offloading()).get(link), Some(&70.0));
}
