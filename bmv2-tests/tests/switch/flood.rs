//! Nothing unestablished is installed.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use bmv2_tests::balancer::wait;
use bmv2_tests::capture::Capture;
use bmv2_tests::config::{Protocol, Service};
use bmv2_tests::http::{self, Connection, HttpServer};
use bmv2_tests::lab::{self, HTTP, Lab};
use bmv2_tests::packet::{Ends, flag};
use bmv2_tests::raw::RawHost;
use bmv2_tests::topology::{RAW_CLIENT, ROUTER_BACK};

use crate::offloaded;

/// SYNs that reach the balancer.
const SYNS: u64 = 50_000;
/// SYNs sent at a time. Each makes the switch work four times: punt and inject of the SYN, and of its answer. More than it
/// can would be lost in its queues, good traffic's packets among them.
const BATCH: u32 = 200;
/// Port of the service that is flooded. It has a real server of its own, since what a flood does to a server that
/// listens is not the balancer's concern.
const FLOODED: u16 = 81;
/// MAC address of the raw host.
const RAW_MAC: &str = "02:ca:00:00:00:66";

/// The addresses that the SYNs claim to come from, behind the clients' gateway. None comes twice.
fn spoofed(i: u32) -> (IpAddr, u16) {
    let net = Ipv4Addr::new(198, 18, 0, 0).to_bits();
    (Ipv4Addr::from_bits(net + i).into(), 1024 + (i % 60_000) as u16)
}

/// The good service on `rs1`, the flooded one on `rs2`.
fn lab() -> Lab {
    crate::lab(|mut config, vip| {
        config.sessions = 4 * SYNS as u32;
        // The raw host is the gateway to everywhere, and swallows all answers.
        config.interfaces[0].gateway = Some(RAW_CLIENT);
        config.interfaces[0].neighbors = RAW_CLIENT.both().map(|ip| (ip, RAW_MAC.to_owned())).to_vec();
        config.more += &format!("\n[[route]]\nto = \"10.20.0.0/16\"\nvia = \"{}\"\n", ROUTER_BACK.v4);
        *config.service_mut("http") = lab::http("http", vip.v4.into()).weights(&[1]);
        config.workers(2).service(Service::new("flooded", Protocol::Tcp, vip.v4.into(), FLOODED).weights(&[0, 1]))
    })
}

/// Sends SYNs, as fast as they are taken, until the balancer has made so many sessions.
fn flood(lab: &Lab, host: &RawHost, until: u64) {
    let to = (lab.topology.vip().v4.into(), FLOODED);
    let created = || lab.balancer.total("sessions_created").unwrap();
    let (mut next, mut before) = (0, created());
    while before < until {
        for i in next..next + BATCH {
            let ends = Ends { src: spoofed(i), ..host.ends(0, to) };
            host.send(&ends.tcp(i, 0, flag::SYN, &[], &[])).unwrap();
        }
        next += BATCH;
        // If some were lost, others take their places.
        wait(Duration::from_secs(1), || created() >= before + u64::from(BATCH));
        before = created();
    }
}

#[test]
fn a_syn_flood_writes_no_entry_and_does_not_stop_good_traffic() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let rs2 = &lab.topology.servers[1];
    let _flooded = HttpServer::start(rs2, "rs2", FLOODED).unwrap();
    rs2.sysctl("ipv4.tcp_synack_retries", "0").unwrap();
    let service = lab.service(HTTP)[0];
    let mut open: Vec<Connection> = lab.on_client(|| (0..10).map(|_| Connection::open(service).unwrap()).collect());
    let before: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    offloaded(&lab, open.len());

    let host = RawHost::start(&lab.topology.client).unwrap();
    let capture = Capture::start(rs2, "eth0").unwrap();
    let created = lab.balancer.total("sessions_created").unwrap();
    let mut requests = 0;
    let start = Instant::now();
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&lab, &host, created + SYNS));
        let control = lab.control().unwrap();
        while !flooding.is_finished() {
            let report = lab.on_client(|| http::load(service, 20, 4));
            assert_eq!(report.failures, Vec::<String>::new());
            requests += report.answered();
            for flow in control.flows().unwrap() {
                assert!(flow.ends.iter().all(|end| end.1 != FLOODED), "an entry for a spoofed SYN: {flow:?}");
            }
        }
        flooding.join().unwrap();
    });
    let syns = capture.packets(|p| p.dport() == FLOODED && p.tcp().is_some_and(|tcp| tcp.flags() == flag::SYN)).len();
    eprintln!("{syns} SYNs, and {requests} requests answered meanwhile, in {:?}", start.elapsed());
    assert!(syns as u64 + requests > SYNS * 9 / 10, "the flood went on to the real server: {syns} SYNs");
    let after: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    assert_eq!(before, after);
    // Only those that had their handshake are there; the requests' own entries went with them.
    offloaded(&lab, open.len());
    let target = lab.balancer.target().unwrap();
    let installed = target["totals"]["installed"].as_u64().unwrap();
    assert!(installed <= open.len() as u64 + requests, "{installed} installs for {requests} requests");
}
