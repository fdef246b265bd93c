//! Many short connections: none fails, and they are spread by weight.

use std::net::SocketAddr;

use bmv2_tests::http;
use bmv2_tests::lab::{HTTP, Lab, http_services};
use bmv2_tests::topology::{Arms, Load};

/// Requests of one load, and how many at a time.
const REQUESTS: u64 = 2000;
const CONCURRENCY: usize = 64;

/// 2 000 requests over a service with weights 1 and 3.
fn spreads_by_weight(arms: Arms, workers: u16, v6: bool) {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(arms, Load::Light, |config, vip| {
        let mut config = http_services(config.workers(workers), vip);
        config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[1, 3]));
        config
    })
    .unwrap();

    let report = lab.on_client(|| http::load(lab.service(HTTP)[usize::from(v6)], REQUESTS, CONCURRENCY));

    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(report.answered(), REQUESTS);
    for (server, expected) in [("rs1", 0.25), ("rs2", 0.75)] {
        let share = report.share(server) / expected;
        assert!((0.95..=1.05).contains(&share), "{server} got {share:.3} of its share: {report:?}");
    }
    assert_eq!(lab.balancer.total("sessions_created").unwrap(), REQUESTS);
    let accepted = lab.http.iter().map(|server| server.accepted()).sum::<u64>();
    assert_eq!(accepted, REQUESTS, "each session is one connection of a real server");
}

#[test]
fn two_arms_one_worker() {
    spreads_by_weight(Arms::Two, 1, false);
}

#[test]
fn two_arms_two_workers() {
    spreads_by_weight(Arms::Two, 2, false);
}

#[test]
fn two_arms_two_workers_ipv6() {
    spreads_by_weight(Arms::Two, 2, true);
}

#[test]
fn one_arm_one_worker_ipv6() {
    spreads_by_weight(Arms::One, 1, true);
}

#[test]
fn one_arm_two_workers() {
    spreads_by_weight(Arms::One, 2, false);
}

/// Every scheduler serves, and the two that hash the client keep it on one server.
#[test]
fn every_scheduler_serves() {
    if crate::skipped() {
        return;
    }
    let schedulers = ["rr", "wrr", "lc", "wlc", "sh", "mh"];
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| {
        schedulers.iter().zip(8000..).fold(config, |config, (scheduler, port)| {
            let mut service = bmv2_tests::lab::http(scheduler, vip.v4.into()).scheduler(scheduler);
            service.listen.set_port(port);
            config.service(service)
        })
    })
    .unwrap();
    for (scheduler, port) in schedulers.into_iter().zip(8000..) {
        let to = SocketAddr::new(lab.topology.vip().v4.into(), port);
        let report = lab.on_client(|| http::load(to, 100, 4));
        assert_eq!((report.answered(), report.failures.as_slice()), (100, &[][..]), "{scheduler}");
        let servers = if matches!(scheduler, "sh" | "mh") { 1 } else { 2 };
        assert_eq!(report.by_server.len(), servers, "{scheduler}: {:?}", report.by_server);
    }
}

/// A real client, with its own idea of TCP and HTTP.
#[test]
fn curl_is_answered_by_both_servers() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    for service in lab.service(HTTP) {
        let url = format!("http://{service}/");
        let answers: Vec<String> = (0..4)
            .map(|_| lab.topology.client.exec(&["curl", "--silent", "--max-time", "30", "--globoff", &url]).unwrap())
            .collect();
        for server in ["rs1", "rs2"] {
            assert_eq!(answers.iter().filter(|answer| answer.starts_with(server)).count(), 2, "{answers:?}");
        }
    }
}
