//! Ordinary traffic of all kinds, through the switch: nothing fails.

use std::time::Duration;

use bmv2_tests::blob::{self, Blob};
use bmv2_tests::control::Flow;
use bmv2_tests::http;
use bmv2_tests::lab::{ECHO, HTTP};
use bmv2_tests::udp;

use crate::{assert_empty, counts_both_as_one, lab, offloaded};

const LARGE: u64 = 100 << 20;

#[test]
fn five_hundred_requests_at_concurrency_16() {
    if crate::skipped() {
        return;
    }
    let lab = lab(|config, _| config.workers(2));
    for service in lab.service(HTTP) {
        let report = lab.on_client(|| http::load(service, 500, 16));
        assert_eq!((report.answered(), report.failures.as_slice()), (500, &[][..]));
        eprintln!("{service}: 500 requests in {:?}, the slowest {:?}", report.elapsed, report.slowest);
    }
    assert_eq!(lab.balancer.total("sessions_created").unwrap(), 1000);
    assert_empty(&lab);
}

fn large_each_way(v6: bool) {
    if crate::skipped() {
        return;
    }
    let lab = lab(|config, _| config);
    let expected = blob::sha256(Blob::new(LARGE)).unwrap().0;
    let service = lab.service(HTTP)[usize::from(v6)];
    let punted = || lab.control().unwrap().counter(carom_p4::ID_PUNTS).unwrap().values().sum::<u64>();
    let before = punted();
    let down = lab.on_client(|| http::download(service, LARGE).unwrap());
    assert_eq!((down.bytes, down.sha256.as_str()), (LARGE, expected.as_str()), "download");
    let up = lab.on_client(|| http::upload(service, LARGE).unwrap());
    assert_eq!(up.sha256, expected, "upload");
    let punted = punted() - before;
    eprintln!("{:.0} Mbit/s down, {:.0} up, {punted} punts", down.mbps(), up.mbps());
    // More than 70 000 packets each way carry the data.
    assert!(punted < 20_000, "{punted} packets took the slow path");
    assert_empty(&lab);
}

#[test]
fn a_hundred_megabytes_each_way() {
    large_each_way(false);
}

#[test]
fn a_hundred_megabytes_each_way_ipv6() {
    large_each_way(true);
}

/// One socket is one session. Once both entries are there the datagrams take them, in both directions.
#[test]
fn udp_takes_the_fast_path() {
    if crate::skipped() {
        return;
    }
    let lab = lab(|config, _| config);
    for service in lab.service(ECHO) {
        let socket = lab.on_client(|| udp::connected(service, Duration::from_secs(20)).unwrap());
        let ask = |i: usize| {
            socket.send(format!("{i:04}").as_bytes()).unwrap();
            let mut buf = [0; 200];
            let len = socket.recv(&mut buf).unwrap();
            let (seen, echoed) = std::str::from_utf8(&buf[..len]).unwrap().rsplit_once(' ').unwrap();
            assert_eq!(echoed, format!("{i:04}"));
            seen.to_owned()
        };
        let identity = ask(0);
        // The second datagram shows that the client is where it says.
        ask(0);
        let own = socket.local_addr().unwrap();
        let sessions = 1 + usize::from(service.is_ipv6());
        // A fast switch may have the entries before the second answer comes.
        let before = offloaded(&lab, sessions);
        (1..=200).for_each(|i| assert_eq!(ask(i), identity));
        let flows = lab.control().unwrap().flows().unwrap();
        let seen: std::net::SocketAddr = identity.split_once(' ').unwrap().1.parse().unwrap();
        let packets = |flows: &[Flow]| {
            let inbound = flows.iter().find(|flow| flow.ends == [(own.ip(), own.port()), (service.ip(), ECHO)]);
            let outbound = flows.iter().find(|flow| flow.ends[1] == (seen.ip(), seen.port()));
            [inbound, outbound].map(|flow| flow.unwrap().packets)
        };
        let (before, after) = (packets(&before), packets(&flows));
        let expected = if counts_both_as_one(&lab, service.is_ipv6()) { [0, 400] } else { [200, 200] };
        assert_eq!([after[0] - before[0], after[1] - before[1]], expected, "{flows:?}");
    }
}
