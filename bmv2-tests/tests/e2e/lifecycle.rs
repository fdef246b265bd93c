//! Start and stop, and what an idle balancer costs.

use std::path::Path;
use std::thread;
use std::time::Duration;

use bmv2_tests::http::{self, Connection};
use bmv2_tests::lab::{HTTP, Lab, all_services};
use bmv2_tests::topology::{Arms, Load};
use nix::sys::signal::Signal;

#[test]
fn stops_cleanly_on_sigterm_and_sigint() {
    if crate::skipped() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let lab = Lab::start(Arms::Two, Load::Light, |config, vip| all_services(config.workers(2), vip)).unwrap();
        let socket = lab.balancer.socket().to_owned();
        // Work in hand must not keep it.
        let _open: Vec<_> =
            lab.on_client(|| (0..10).map(|_| Connection::open(lab.service(HTTP)[0]).unwrap()).collect());
        let Lab { balancer, topology: _topology, .. } = lab;
        let (status, took) = balancer.stop(signal).unwrap();
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
        assert!(took < Duration::from_secs(15), "{signal}: {took:?}");
        assert!(!Path::new(&socket).exists(), "{socket} is left behind");
    }
}

/// A second start in the same place works: nothing of the first run is in the way, not even after a kill.
#[test]
fn starts_again_after_a_kill() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    let Lab { balancer, config, topology, http: _http, echo: _echo } = lab;
    balancer.stop(Signal::SIGKILL).unwrap();
    let _again = bmv2_tests::balancer::Balancer::start(&topology, &config).unwrap();
    let service = std::net::SocketAddr::new(topology.vip().v4.into(), HTTP);
    assert_eq!(topology.client.run(|| http::get(service, "/")).unwrap().status, 200);
}

/// Workers back off: an idle balancer leaves the machine to others.
#[test]
fn idle_costs_little() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Alone, |config, vip| all_services(config.workers(1), vip)).unwrap();
    assert_eq!(lab.on_client(|| http::get(lab.service(HTTP)[0], "/")).unwrap().status, 200);
    thread::sleep(Duration::from_secs(1));
    let (before, span) = (lab.balancer.cpu_time().unwrap(), Duration::from_secs(4));
    thread::sleep(span);
    let used = (lab.balancer.cpu_time().unwrap() - before).as_secs_f64() / span.as_secs_f64();
    eprintln!("an idle balancer uses {:.1} % of a core", used * 100.0);
    // One that polled would use all of it; what waking up costs depends on the machine.
    assert!(used < 0.30, "an idle balancer uses {:.1} % of a core", used * 100.0);
}

/// What people and programs ask a running balancer answers without disturbing it.
#[test]
fn shows_what_it_does() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| all_services(config.workers(2), vip)).unwrap();
    let service = lab.service(HTTP)[0];
    let mut open: Vec<Connection> = lab.on_client(|| (0..10).map(|_| Connection::open(service).unwrap()).collect());
    open.iter_mut().for_each(|connection| assert_eq!(connection.get("/").unwrap().status, 200));

    let sessions = lab.balancer.sessions(&["--state", "established"]).unwrap();
    assert_eq!(sessions.len(), 10);
    for connection in &open {
        let own = connection.local_addr().unwrap().to_string();
        let found =
            sessions.iter().find(|session| session["client"] == own.as_str()).expect("each connection is listed");
        assert_eq!(found["vip"], service.to_string());
        assert_eq!(found["service"], "http");
        // What a switch counted by ids is all outbound.
        let packets = ["packets_in", "packets_out"].map(|way| found[way].as_u64().unwrap());
        assert!(packets[0] >= 2 && packets[0] + packets[1] >= 5, "{found}");
    }
    for (filter, count) in
        [("10.10.0.2", 10), ("10.10.0.0/24", 10), ("10.10.0.3", 0), ("fd10::/64", 0)].map(|(c, n)| (["--client", c], n))
    {
        assert_eq!(lab.balancer.sessions(&filter).unwrap().len(), count, "{filter:?}");
    }
    assert_eq!(lab.balancer.sessions(&["--service", "http6"]).unwrap().len(), 0);
    assert_eq!(lab.balancer.sessions(&["--server", "10.20.1.10"]).unwrap().len(), 5);

    let servers = lab.balancer.rows("servers").unwrap();
    let active: Vec<_> = servers.iter().filter(|server| server["service"] == "http").collect();
    assert!(active.iter().all(|server| server["active_sessions"] == 5 && server["sessions_total"] == 5), "{active:?}");
    assert_eq!(lab.balancer.rows("services").unwrap().len(), 4);
    assert_eq!(lab.balancer.rows("workers").unwrap().len(), 2);
    let in_use: u64 = lab.balancer.rows("ports").unwrap().iter().filter_map(|row| row["in_use"].as_u64()).sum();
    assert_eq!(in_use, 10);
    for table in ["status", "services", "servers", "sessions", "ports", "drops", "workers"] {
        // Without drops there is one line that says so.
        let lines = lab.balancer.cli(&[table]).unwrap().lines().count();
        assert!(lines >= if table == "drops" { 1 } else { 2 }, "`carom {table}` shows no table");
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(lab.balancer.socket()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the socket is for its owner");
}
