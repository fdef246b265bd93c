//! What cannot be served is refused at once, or dropped and counted; never a stall.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bmv2_tests::balancer::wait;
use bmv2_tests::http::Connection;
use bmv2_tests::lab::{ECHO, HTTP, Lab, all_services};
use bmv2_tests::topology::{Arms, Load};
use bmv2_tests::udp;

/// A refusal that takes longer is a stall. Far more than it takes, and less than a client's patience.
const PROMPT: Duration = Duration::from_secs(5);
/// How long is waited for what must not come.
const WHILE: Duration = Duration::from_millis(500);

/// Packets dropped for this reason, by the balancer or its switch.
fn count(lab: &Lab, reason: &str) -> u64 {
    let of = |drops: BTreeMap<String, u64>| drops.get(reason).copied().unwrap_or(0);
    let by_switch = lab.config.switch.as_ref().map(|_| of(lab.balancer.switch_drops().unwrap()));
    of(lab.balancer.drops().unwrap()) + by_switch.unwrap_or(0)
}

#[test]
fn without_a_server_the_client_is_told_at_once() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| {
        let mut config = all_services(config, vip);
        config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[0, 0]));
        config
    })
    .unwrap();
    for service in lab.service(HTTP) {
        let start = Instant::now();
        let outcome = lab.on_client(|| TcpStream::connect_timeout(&service, 2 * PROMPT));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{service}");
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    }
    for service in lab.service(ECHO) {
        let outcome = lab.on_client(|| udp::ask(service, b"anybody?"));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{service}");
    }
    assert_eq!(count(&lab, "no_server"), 4);
    assert_eq!(lab.balancer.total("rst_sent").unwrap(), 2);
    assert_eq!(lab.balancer.sessions(&[]).unwrap(), Vec::<serde_json::Value>::new());
}

/// A port of a VIP without a service: dropped and counted.
#[test]
fn an_unknown_port_is_counted() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    for (i, ip) in lab.topology.vip().both().into_iter().enumerate() {
        let before = count(&lab, "no_service");
        let to = SocketAddr::new(ip, 9999);
        lab.on_client(|| udp::connected(to, WHILE).unwrap().send(b"hello").unwrap());
        // A switch counts what the kernels say to groups too.
        let counted = || count(&lab, "no_service") > before;
        assert!(wait(Duration::from_secs(20), counted), "UDP, family {i}");
        let outcome = lab.on_client(|| TcpStream::connect_timeout(&to, WHILE));
        assert!(outcome.is_err());
        let counted = || count(&lab, "no_service") >= before + 2;
        assert!(wait(Duration::from_secs(20), counted), "TCP, family {i}");
    }
}

/// The real server's own refusal reaches the client.
#[test]
fn a_closed_port_of_the_real_server_refuses() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| {
        let mut config = all_services(config, vip);
        config
            .services
            .iter_mut()
            .flat_map(|service| &mut service.servers)
            .for_each(|server| server.address.set_port(81));
        config
    })
    .unwrap();
    for service in lab.service(HTTP) {
        let start = Instant::now();
        let outcome = lab.on_client(|| TcpStream::connect_timeout(&service, 2 * PROMPT));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{service}");
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    }
}

/// More connections than local ports: the client is told at once, and once ports are free again it gets through.
#[test]
fn exhausted_local_ports_refuse_at_once_and_come_back() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| {
        let mut config = all_services(config, vip);
        config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[1]));
        // Two ports on each of four addresses.
        config.ports = Some((2000, 2001));
        // The ACK of the last FIN may pass by the switch, unheard: then it is LAST_ACK that has to end.
        config.more = "[snat]\nquarantine = \"1s\"\n\n[timeouts]\ntime_wait = \"1s\"\nlast_ack = \"1s\"\n".to_owned();
        config
    })
    .unwrap();
    for service in lab.service(HTTP) {
        let before = count(&lab, "no_local_port");
        let mut open: Vec<_> = lab.on_client(|| (0..8).map(|_| Connection::open(service).unwrap()).collect());
        open.iter_mut().for_each(|connection| assert_eq!(connection.get("/").unwrap().status, 200));
        let start = Instant::now();
        let refused = lab.on_client(|| Connection::open(service).unwrap_err());
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        assert_eq!(count(&lab, "no_local_port"), before + 1);
        // A full pool is no concern of those that are in.
        open.iter_mut().for_each(|connection| assert_eq!(connection.get("/").unwrap().status, 200));
        drop(open.pop());
        let again = wait(Duration::from_secs(20), || lab.on_client(|| Connection::open(service)).is_ok());
        assert!(again, "no port comes back: {:?}", lab.balancer.rows("ports"));
    }
    // A client of UDP is told by ICMP.
    let service = lab.service(ECHO)[0];
    for i in 0..9 {
        let outcome = lab.on_client(|| udp::ask(service, b"one more"));
        assert_eq!(
            outcome.map_err(|error| error.kind()).err(),
            (i == 8).then_some(io::ErrorKind::ConnectionRefused),
            "{i}"
        );
    }
}

/// A real server that is not there at all: the session waits, and the others are served.
#[test]
fn an_absent_server_does_not_disturb_the_other() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    // Taken off the net: the router answers for it with "host unreachable" after a while, or not at all.
    lab.topology.servers[0].ip("link set eth0 down").unwrap();
    for service in lab.service(HTTP) {
        let answered = lab.on_client(|| {
            // All at once, so that those to the absent one are waited for together.
            let connect = || TcpStream::connect_timeout(&service, Duration::from_secs(4)).is_ok();
            thread::scope(|scope| {
                let attempts: Vec<_> = (0..20).map(|_| scope.spawn(connect)).collect();
                attempts.into_iter().filter_map(|attempt| attempt.join().ok()).filter(|answered| *answered).count()
            })
        });
        assert_eq!(answered, 10, "{service}: every second connection goes to the server that is there");
    }
}
