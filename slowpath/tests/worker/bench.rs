//! The benchmarks run the same worker; small ones run to their end.

use std::process::Command;

fn bench(args: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_carom")).arg("bench").args(args).arg("--json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().expect("a line of JSON")).unwrap()
}

#[test]
fn forwarding_is_measured_for_every_family_and_protocol() {
    for (proto, ipv, workers) in [("tcp", "4", "1"), ("udp", "4", "2"), ("tcp", "6", "2"), ("udp", "6", "1")] {
        let args =
            ["forward", "--sessions", "500", "--proto", proto, "--ipv", ipv, "--workers", workers, "--seconds", "0.1"];
        let result = bench(&args);
        assert!(result["packets"].as_u64().unwrap() > 0, "{result}");
        assert!(result["mpps_per_cpu_second"].as_f64().unwrap() > 0.0);
        for cost in ["ns_per_packet", "io_ns_per_packet"] {
            assert!(result[cost].as_f64().unwrap() > 0.0, "{result}");
        }
    }
}

#[test]
fn a_share_of_the_packets_is_handed_over() {
    let args = ["forward", "--sessions", "3000", "--workers", "3", "--handover", "0.5", "--seconds", "0.3"];
    let result = bench(&args);
    // A worker that has no CPU takes none of what is handed over.
    let [handed, lost] = ["handed_over_share", "handover_dropped_share"].map(|key| result[key].as_f64().unwrap());
    assert!(handed + lost > 0.1, "{result}");
    assert_eq!(result["each_mpps_per_cpu_second"].as_array().unwrap().len(), 3);
    let args = ["forward", "--sessions", "3000", "--workers", "2", "--seconds", "0.1", "--ipv", "6"];
    assert_eq!(bench(&args)["handed_over_share"], 0.0);
}

#[test]
fn a_flood_is_measured() {
    for ipv in ["4", "6"] {
        let args = ["synflood", "--sessions", "100", "--table", "200000", "--seconds", "0.3", "--ipv", ipv];
        let result = bench(&args);
        assert!(result["spoofed_syns"].as_u64().unwrap() > 100, "{result}");
        assert!(result["ns_per_spoofed_syn"].as_f64().unwrap() > 0.0, "{result}");
        assert!((0.0..=1.0).contains(&result["good_kept_share"].as_f64().unwrap()), "{result}");
        assert!(result["filled"] == false || result["half_open_evicted"].as_u64().unwrap() > 0, "{result}");
    }
}

#[test]
fn new_sessions_are_measured() {
    for (ipv, sessions, teardown) in [(4, 2000, false), (6, 300, false), (4, 1000, true), (6, 10, true)] {
        let (ipv_arg, sessions_arg) = (ipv.to_string(), sessions.to_string());
        let mut args =
            vec!["connect", "--sessions", &sessions_arg, "--ipv", &ipv_arg, "--runs", "2", "--seconds", "0.2"];
        args.extend(teardown.then_some("--teardown"));
        let result = bench(&args);
        assert_eq!((&result["sessions"], &result["ipv"]), (&sessions.into(), &ipv.into()));
        assert_eq!((&result["teardown"], &result["runs"]), (&teardown.into(), &2.into()));
        assert_eq!(result["packets_per_session"], if teardown { 6 } else { 3 });
        assert!(result["sessions_per_cpu_second"].as_f64().unwrap() > 0.0, "{result}");
        assert!(result["io_ns_per_session"].as_f64().unwrap() < result["ns_per_session"].as_f64().unwrap(), "{result}");
        assert!((0.0..1.0).contains(&result["idle_share"].as_f64().unwrap()), "{result}");
        assert_eq!(result["each_ns_per_session"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn memory_of_a_session_is_measured() {
    for (ipv, least) in [("4", 64.0), ("6", 128.0)] {
        let result = bench(&["memory", "--sessions", "100000", "--ipv", ipv]);
        let bytes = result["bytes_per_session"].as_f64().unwrap();
        // Far more would be a leak.
        assert!((least..10.0 * least).contains(&bytes), "{result}");
        let [before, empty, full] =
            ["before_bytes", "empty_bytes", "full_bytes"].map(|key| result[key].as_u64().unwrap());
        assert!(before < empty && empty < full, "{result}");
    }
}

#[test]
fn installs_are_measured_against_a_fake_target() {
    for ipv in ["4", "6"] {
        let args = ["install", "--sessions", "500", "--outstanding", "64", "--batch", "32", "--ipv", ipv];
        let result = bench(&[&args[..], &["--runs", "2", "--seconds", "0.1"]].concat());
        assert_eq!((&result["target"], &result["runs"]), (&"fake".into(), &2.into()));
        for whole in [&result, &result["bare"], &result["each_managed"][1], &result["each_bare"][1]] {
            for part in [whole, &whole["install"], &whole["remove"]] {
                let [wall, cpu] =
                    ["updates_per_second", "updates_per_cpu_second"].map(|key| part[key].as_f64().unwrap());
                assert!(0.0 < wall && 0.0 < cpu, "{part}");
            }
            for operation in ["install", "remove"] {
                let [p50, p99] = ["p50_us", "p99_us"].map(|key| whole[operation][key].as_u64().unwrap());
                assert!(0 < p50 && p50 <= p99, "{whole}");
            }
        }
        assert!(result["install_ratio"].as_f64().unwrap() > 0.0 && result["remove_ratio"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_target_that_is_not_there_is_told() {
    let nobody = runtime_client::fake::Nobody::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    command.args(["bench", "install", "--patience", "1", "--target", &nobody.address().unwrap()]);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("takes no installs after 1 s (disconnected)"), "{error}");
}
