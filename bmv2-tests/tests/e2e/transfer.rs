//! Long connections: much data, much patience, and ends that come one side at a time.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use bmv2_tests::blob::{self, Blob};
use bmv2_tests::config::{Protocol, Service};
use bmv2_tests::http::{self, Connection};
use bmv2_tests::lab::{HTTP, Lab, http_services};
use bmv2_tests::target::Target;
use bmv2_tests::topology::{Arms, Load};

/// Bytes of a large transfer.
fn large() -> u64 {
    Target::from_env().unwrap().share_of(200 << 20)
}

/// Drop reasons that only say that a sender was faster than the machine.
const RING_FULL: [&str; 2] = ["tx_full", "handover_full"];
/// Drop reasons for what the kernels on the cables say unasked: reports of group membership, which have a hop-by-hop
/// option and, at first, no source address (RFC 3810 section 5.2.13).
const BACKGROUND: [&str; 2] = ["bad_address", "ip_options"];

fn large_transfer(arms: Arms, workers: u16, v6: bool) {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(arms, Load::Alone, |config, vip| http_services(config.workers(workers), vip)).unwrap();
    let large = large();
    let expected = blob::sha256(Blob::new(large)).unwrap().0;
    let service = lab.service(HTTP)[usize::from(v6)];
    let (down, up) = lab.on_client(|| (http::download(service, large).unwrap(), http::upload(service, large).unwrap()));
    assert_eq!((down.bytes, down.sha256.as_str()), (large, expected.as_str()), "download");
    assert_eq!(up.sha256, expected, "upload");
    eprintln!("{arms:?} arms, {workers} workers: {:.0} Mbit/s down, {:.0} up", down.mbps(), up.mbps());
}

#[test]
fn large_each_way_one_worker() {
    large_transfer(Arms::Two, 1, false);
}

#[test]
fn large_each_way_two_workers_ipv6_one_arm() {
    large_transfer(Arms::One, 2, true);
}

/// Ten seconds of iperf3: whatever is dropped is dropped because a ring was full.
#[test]
fn iperf3_loses_nothing_but_to_full_rings() {
    if crate::skipped() {
        return;
    }
    let port = 5201;
    let lab = Lab::start(Arms::Two, Load::Alone, |config, vip| {
        // Control and data connection must meet the same server: there is only one.
        config.workers(2).service(Service::new("iperf", Protocol::Tcp, vip.v4.into(), port).weights(&[1]))
    })
    .unwrap();
    let vip = lab.topology.vip().v4.to_string();
    let text = thread::scope(|scope| {
        let server = scope.spawn(|| lab.topology.servers[0].exec(&["iperf3", "-s", "-1"]));
        // The server says nothing when it listens; a refused connection is tried again.
        let client = (0..100).find_map(|_| {
            thread::sleep(Duration::from_millis(250));
            lab.topology.client.exec(&["iperf3", "-c", &vip, "-t", "10", "-P", "4", "--json"]).ok()
        });
        if client.is_some() {
            server.join().unwrap().unwrap();
        }
        client.expect("iperf3 never got through")
    });
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
    assert!(rate > 1e6, "only {rate} bit/s got through");
    let drops = lab.balancer.drops().unwrap();
    let known = |reason: &str| RING_FULL.contains(&reason) || BACKGROUND.contains(&reason);
    let unexpected: BTreeMap<_, _> = drops.iter().filter(|(reason, _)| !known(reason)).collect();
    assert!(unexpected.is_empty(), "drops: {drops:?}");
    eprintln!("iperf3: {:.0} Mbit/s, drops {drops:?}", rate / 1e6);
}

#[test]
fn idle_connections_are_usable_again() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| http_services(config.workers(2), vip)).unwrap();
    let service = lab.service(HTTP)[0];
    let mut connections: Vec<Connection> =
        lab.on_client(|| (0..300).map(|_| Connection::open(service).unwrap()).collect());
    let before: Vec<String> = connections.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    assert_eq!(lab.balancer.sessions(&["--state", "established"]).unwrap().len(), 300);
    thread::sleep(Duration::from_secs(5));
    let after: Vec<String> = connections.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    // The answer names the server and the address and port it sees: nothing may have moved.
    assert_eq!(before, after);
    assert_eq!(lab.balancer.total("sessions_created").unwrap(), 300);
}

/// Request, FIN, and only then the answer.
#[test]
fn half_closed_connection_still_answers() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    for service in lab.service(HTTP) {
        let mut connection = lab.on_client(|| Connection::open(service).unwrap());
        connection.send("/after-eof").unwrap();
        // The server waits for the end of the stream: an answer before it would prove nothing.
        thread::sleep(Duration::from_millis(500));
        connection.finish_sending().unwrap();
        let answer = connection.receive().unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.server().starts_with("rs"), "{answer:?}");
    }
}
