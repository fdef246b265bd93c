//! UDP services.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bmv2_tests::capture::Capture;
use bmv2_tests::config::{Protocol, Service};
use bmv2_tests::lab::{ECHO, Lab, all_services};
use bmv2_tests::topology::{Arms, Load};
use bmv2_tests::udp;

fn requests_are_answered(arms: Arms, workers: u16) {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(arms, Load::Light, |config, vip| all_services(config.workers(workers), vip)).unwrap();
    for service in lab.service(ECHO) {
        let mut by_server = BTreeMap::<String, usize>::new();
        for i in 0..100 {
            let question = format!("question {i}");
            let answer = lab.on_client(|| udp::ask(service, question.as_bytes()).unwrap());
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.ends_with(&question), "{answer}");
            *by_server.entry(answer[..3].to_owned()).or_default() += 1;
        }
        assert!(by_server["rs1"].abs_diff(50) <= 2 && by_server["rs2"].abs_diff(50) <= 2, "{by_server:?}");
    }
}

#[test]
fn two_arms() {
    requests_are_answered(Arms::Two, 2);
}

#[test]
fn one_arm() {
    requests_are_answered(Arms::One, 1);
}

/// One client socket is one session: same server, same local port, in order.
#[test]
fn a_client_stays_with_its_server() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    for service in lab.service(ECHO) {
        let socket = lab.on_client(|| udp::connected(service, Duration::from_secs(20)).unwrap());
        let mut identity = None;
        for i in 0..50 {
            socket.send(format!("{i:03}").as_bytes()).unwrap();
            let mut buf = [0; 200];
            let len = socket.recv(&mut buf).unwrap();
            let (seen, echoed) = std::str::from_utf8(&buf[..len]).unwrap().rsplit_once(' ').unwrap();
            assert_eq!(echoed, format!("{i:03}"));
            assert_eq!(identity.get_or_insert(seen.to_owned()), seen);
        }
    }
    assert_eq!(lab.balancer.total("sessions_created").unwrap(), 2);
}

/// Nobody listens on the real server: the client gets its ICMP message, as if it had come from the VIP.
#[test]
fn a_closed_port_is_reported_by_the_vip() {
    if crate::skipped() {
        return;
    }
    let closed = 54;
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| {
        vip.both()
            .into_iter()
            .zip(["closed", "closed6"])
            .fold(config, |config, (vip, name)| config.service(Service::new(name, Protocol::Udp, vip, closed)))
    })
    .unwrap();
    for service in lab.service(closed) {
        let capture = Capture::start(&lab.topology.client, "eth0").unwrap();
        let (own, outcome) = lab.on_client(|| {
            let socket = udp::connected(service, Duration::from_secs(20)).unwrap();
            socket.send(b"anybody there?").unwrap();
            (socket.local_addr().unwrap(), socket.recv(&mut [0; 100]))
        });
        // The kernel hands the error to the socket only when the quoted packet is one the socket sent.
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let unreachable = if service.is_ipv4() { (3, 3) } else { (1, 4) };
        let seen = capture.wait_for(1, |p| p.icmp() == Some(unreachable));
        assert_eq!(seen.len(), 1);
        let quoted = seen[0].quoted().unwrap();
        assert_eq!(seen[0].src(), service.ip());
        assert_eq!(
            (SocketAddr::new(quoted.src, quoted.sport), SocketAddr::new(quoted.dst, quoted.dport)),
            (own, service)
        );
        assert!(seen[0].l4_checksum_ok() && seen[0].ip_checksum_ok() && quoted.ip_checksum_ok, "{:?}", seen[0]);
    }
}
