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
        assert!(result["packets"].as_u64().unwrap() > 1000, "{result}");
        assert!(result["mpps_per_cpu_second"].as_f64().unwrap() > 0.0);
        assert!(result["io_ns_per_packet"].as_f64().unwrap() < result["ns_per_packet"].as_f64().unwrap(), "{result}");
    }
}

#[test]
fn new_sessions_are_measured() {
    let result = bench(&["connect", "--sessions", "2000"]);
    assert_eq!(result["sessions"], 2000);
    assert!(result["sessions_per_cpu_second"].as_f64().unwrap() > 0.0);
}
