//! TCP as a careless or hostile client speaks it, written by hand: each segment goes where it belongs or nowhere.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use bmv2_tests::balancer::wait;
use bmv2_tests::capture::Capture;
use bmv2_tests::config::Config;
use bmv2_tests::http::Connection;
use bmv2_tests::lab::{HTTP, Lab, http, http_services};
use bmv2_tests::packet::{Ends, Packet, flag};
use bmv2_tests::raw::RawHost;
use bmv2_tests::topology::{Arms, Load};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// One real server, so that one capture sees everything.
fn lab() -> Lab {
    lab_with(|config| config)
}

fn lab_with(change: impl FnOnce(Config) -> Config) -> Lab {
    Lab::start(Arms::Two, Load::Light, |config, vip| {
        let mut config = http_services(change(config), vip);
        config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[1]));
        config
    })
    .unwrap()
}

fn is_syn(packet: &Packet) -> bool {
    packet.dport() == HTTP && packet.tcp().is_some_and(|tcp| tcp.flags() == flag::SYN)
}

fn count(lab: &Lab, reason: &str) -> u64 {
    lab.balancer.drops().unwrap().get(reason).copied().unwrap_or(0)
}

/// A SYN sent again is the same session, not another.
#[test]
fn a_repeated_syn_goes_the_same_way() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let host = RawHost::start(&lab.topology.client).unwrap();
    for service in lab.service(HTTP) {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let syn = host.ends(7000, (service.ip(), HTTP)).tcp(5000, 0, flag::SYN, &[], &[]);
        for _ in 0..3 {
            host.send(&syn).unwrap();
        }
        let seen = capture.wait_for(3, is_syn);
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|p| (p.src(), p.sport()) == (seen[0].src(), seen[0].sport())), "{seen:?}");
    }
    assert_eq!(lab.balancer.total("sessions_created").unwrap(), 2);
}

/// RFC 5961 section 3: a reset that is not exactly at the expected sequence number ends nothing.
#[test]
fn a_blind_reset_is_ignored() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let host = RawHost::start(&lab.topology.client).unwrap();
    for service in lab.service(HTTP) {
        let mut connection = host.connect(7000, (service.ip(), HTTP), &[], &[]).unwrap();
        let right = connection.seq;
        for offset in [1_000, 1 << 30, 1 << 31] {
            connection.seq = right.wrapping_add(offset);
            connection.send(flag::RST, &[], &[]).unwrap();
        }
        connection.seq = right;
        thread::sleep(Duration::from_millis(100));
        let states = lab.balancer.sessions(&["--client", &connection.ends.src.0.to_string()]).unwrap();
        assert_eq!(states.len(), 1);
        assert_eq!(states[0]["state"], "established", "{states:?}");
        connection.send_data(&[], REQUEST).unwrap();
        connection.receive_data().unwrap();
    }
    assert!(lab.balancer.total("rst_ignored").unwrap() > 0);
}

/// A client that uses its port again after a close gets a connection, from a local port that the real server has not
/// in TIME_WAIT.
#[test]
fn a_port_used_again_is_a_new_connection() {
    if crate::skipped() {
        return;
    }
    // What a switch forwards, the slow path does not see: without the ACK of the last FIN it cannot know that the connection
    // is over, and a SYN goes to the same server from the same port.
    let lab = lab_with(Config::without_offload);
    let host = RawHost::start(&lab.topology.client).unwrap();
    for service in lab.service(HTTP) {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        for _ in 0..3 {
            let mut connection = host.connect(7000, (service.ip(), HTTP), &[], &[]).unwrap();
            connection.send_data(&[], REQUEST).unwrap();
            connection.receive_data().unwrap();
            // The client closes first, the server answers with its own FIN, which is acknowledged.
            connection.send(flag::FIN | flag::ACK, &[], &[]).unwrap();
            connection.seq = connection.seq.wrapping_add(1);
            let fin = |p: &Packet| p.dport() == 7000 && p.tcp().is_some_and(|tcp| tcp.flags() & flag::FIN != 0);
            host.receive(Duration::from_secs(20), fin).unwrap().expect("the server's FIN");
            connection.ack = connection.ack.wrapping_add(1);
            connection.send(flag::ACK, &[], &[]).unwrap();
            capture.settle();
        }
        let locals: Vec<SocketAddr> =
            capture.packets(is_syn).iter().map(|p| SocketAddr::new(p.src(), p.sport())).collect();
        assert_eq!(locals.len(), 3);
        assert!(locals[0] != locals[1] && locals[1] != locals[2] && locals[0] != locals[2], "{locals:?}");
    }
}

/// TTL 1 inside a connection: answered, and the connection goes on.
#[test]
fn ttl_ends_within_a_connection() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let host = RawHost::start(&lab.topology.client).unwrap();
    for service in lab.service(HTTP) {
        let mut connection = host.connect(7000, (service.ip(), HTTP), &[], &[]).unwrap();
        let near = Ends { ttl: 1, ..connection.ends };
        host.send(&near.tcp(connection.seq, connection.ack, flag::ACK, &[], REQUEST)).unwrap();
        let exceeded = if service.is_ipv4() { (11, 0) } else { (3, 0) };
        let message = host.receive(Duration::from_secs(20), |p| p.icmp() == Some(exceeded)).unwrap();
        let quoted = message.expect("an answer").quoted().unwrap();
        assert_eq!((quoted.sport, SocketAddr::new(quoted.dst, quoted.dport)), (7000, service));
        connection.send_data(&[], REQUEST).unwrap();
        connection.receive_data().unwrap();
    }
    assert_eq!(count(&lab, "ttl_exceeded"), 2);
}

/// Segments that belong to no connection reach no server and make no session.
#[test]
fn strays_are_dropped_and_counted() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let host = RawHost::start(&lab.topology.client).unwrap();
    let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
    let (syn, ack, fin, rst, psh) = (flag::SYN, flag::ACK, flag::FIN, flag::RST, flag::PSH);
    let strays = [ack, ack | psh, fin | ack, rst, syn | ack, syn | rst, 0];
    for service in lab.service(HTTP) {
        for (i, flags) in strays.into_iter().enumerate() {
            host.send(&host.ends(7000 + i as u16, (service.ip(), HTTP)).tcp(1, 1, flags, &[], &[])).unwrap();
        }
    }
    let all = 2 * strays.len() as u64;
    let counted = || count(&lab, "no_session") + count(&lab, "bad_l4_header") == all;
    assert!(wait(Duration::from_secs(20), counted), "{all} strays, drops: {:?}", lab.balancer.drops());
    assert_eq!(lab.balancer.total("sessions_created").unwrap(), 0);
    assert_eq!(capture.packets(|p| p.dport() == HTTP), []);
}

/// A server at its limit takes no more, the other still does; when both are full the client is told at once.
#[test]
fn limits_of_servers_are_kept() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| {
        let mut service = http("http", vip.v4.into());
        (service.servers[0].max_connections, service.servers[1].max_connections) = (3, 5);
        config.workers(2).service(service)
    })
    .unwrap();
    let service = lab.service(HTTP)[0];
    let mut open: Vec<Connection> = lab.on_client(|| (0..8).map(|_| Connection::open(service).unwrap()).collect());
    let servers: Vec<String> = open.iter_mut().map(|connection| connection.get("/").unwrap().server()).collect();
    let on = |name: &str| servers.iter().filter(|server| *server == name).count();
    assert_eq!((on("rs1"), on("rs2")), (3, 5));
    let refused = lab.on_client(|| Connection::open(service).unwrap_err());
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(count(&lab, "servers_full"), 1);
}
