//! Nothing unestablished is installed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bmv2_tests::http::{self, Connection};
use bmv2_tests::lab::HTTP;
use bmv2_tests::packet::{Ends, flag};
use bmv2_tests::raw::RawHost;
use bmv2_tests::topology::CLIENT;

use crate::{lab, offloaded};

const SYNS: u32 = 50_000;
/// SYNs per second. Each makes the switch work four times: punt and inject of the SYN, and of its answer.
const RATE: f64 = 4_000.0;

/// The addresses that the SYNs claim to come from: of the clients' net, owned by nobody.
fn spoofed(i: u32) -> (IpAddr, u16) {
    let host = 110 + (i % 100) as u8;
    (Ipv4Addr::new(10, 10, 0, host).into(), 1024 + (i / 100) as u16)
}

#[test]
fn a_syn_flood_writes_no_entry_and_does_not_stop_good_traffic() {
    if crate::skipped() {
        return;
    }
    let lab = lab(|mut config, _| {
        config.sessions = 2 * SYNS;
        config.workers(2)
    });
    let service = lab.service(HTTP)[0];
    let mut open: Vec<Connection> = lab.on_client(|| (0..10).map(|_| Connection::open(service).unwrap()).collect());
    let before: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    offloaded(&lab, open.len());
    let created = lab.balancer.total("sessions_created").unwrap();

    let host = RawHost::start(&lab.topology.client).unwrap();
    let done = AtomicBool::new(false);
    let mut requests = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            for i in 0..SYNS {
                let due = start + Duration::from_secs_f64(f64::from(i) / RATE);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let ends = Ends { src: spoofed(i), ..host.ends(0, (service.ip(), HTTP)) };
                host.send(&ends.tcp(i, 0, flag::SYN, &[], &[])).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let control = lab.control().unwrap();
        while !done.load(Ordering::Relaxed) {
            let report = lab.on_client(|| http::load(service, 20, 4));
            assert_eq!(report.failures, Vec::<String>::new());
            requests += report.answered();
            for flow in control.flows().unwrap() {
                // Towards the service from the client, or from a real server.
                let source = flow.ends[0].0;
                let expected = if flow.ends[1].0 == service.ip() { source == CLIENT.v4 } else { source != CLIENT.v4 };
                assert!(expected, "an entry for a spoofed SYN: {flow:?}");
            }
        }
    });
    let created = lab.balancer.total("sessions_created").unwrap() - created;
    eprintln!("{requests} requests answered meanwhile, {created} sessions made");
    assert!(created > u64::from(SYNS) * 9 / 10 + requests, "the flood reached the balancer: {created} sessions");
    let after: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    assert_eq!(before, after);
    // Only those that had their handshake are there; the requests' own entries went with them.
    offloaded(&lab, open.len());
    let target = lab.balancer.target().unwrap();
    assert_eq!(
        target["totals"]["installed"].as_u64().unwrap(),
        open.len() as u64 + requests,
        "installs: of established connections and nothing else"
    );
}
