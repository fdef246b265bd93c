//! The test network without a balancer: what fails here is the harness's fault, what fails elsewhere is not.

use std::net::SocketAddr;
use std::time::Duration;

use bmv2_tests::capture::Capture;
use bmv2_tests::http::{self, HttpServer};
use bmv2_tests::netns::Netns;
use bmv2_tests::packet::flag;
use bmv2_tests::raw::RawHost;
use bmv2_tests::target::Target;
use bmv2_tests::topology::{
    Arms, BALANCER_BACK, BALANCER_FRONT, CLIENT, Dual, Load, ROUTER_BACK, SERVERS, Topology, add_address,
};
use bmv2_tests::udp::{self, UdpEcho};
use bmv2_tests::{blob, icmp};

/// Whatever the target: there is no balancer here.
fn plain_topology() -> Topology {
    Topology::with_target(Arms::Two, Load::Light, Target::None).unwrap()
}

/// The kernel of the balancer's namespace as a plain router.
fn route_plainly(topology: &Topology) {
    let ns: &Netns = &topology.balancer;
    for (key, value) in [
        ("ipv6.conf.p0.accept_dad", "0"),
        ("ipv6.conf.p1.accept_dad", "0"),
        ("ipv6.conf.all.disable_ipv6", "0"),
        ("ipv6.conf.p0.disable_ipv6", "0"),
        ("ipv6.conf.p1.disable_ipv6", "0"),
        ("ipv4.ip_forward", "1"),
        ("ipv6.conf.all.forwarding", "1"),
    ] {
        ns.sysctl(key, value).unwrap();
    }
    add_address(ns, "p0", BALANCER_FRONT).unwrap();
    add_address(ns, "p1", BALANCER_BACK).unwrap();
    let route = |ns: &Netns, v4: &str, v6: &str, via: Dual| {
        ns.ip(&format!("route add {v4} via {}", via.v4)).unwrap();
        ns.ip(&format!("-6 route add {v6} via {}", via.v6)).unwrap();
    };
    route(ns, "10.20.0.0/16", "fd20::/16", ROUTER_BACK);
    route(&topology.router, "10.10.0.0/24", "fd10::/64", BALANCER_BACK);
}

#[test]
fn carries_traffic_by_itself() {
    if crate::skipped() {
        return;
    }
    let topology = plain_topology();
    route_plainly(&topology);
    let [rs1, rs2] = &topology.servers;
    let servers = [HttpServer::start(rs1, "rs1", 80).unwrap(), HttpServer::start(rs2, "rs2", 80).unwrap()];
    let _echo = UdpEcho::start(rs2, "rs2", 53).unwrap();
    let capture = Capture::start(rs1, "eth0").unwrap();

    topology.client.run(|| {
        for (server, name) in SERVERS.iter().zip(["rs1", "rs2"]) {
            for (ip, own) in server.both().into_iter().zip(CLIENT.both()) {
                let to = SocketAddr::new(ip, 80);
                let text = http::get(to, "/").unwrap().text();
                let seen: SocketAddr = text.strip_prefix(name).unwrap().trim().parse().unwrap();
                assert_eq!(seen.ip(), own);
                assert!(icmp::ping(ip, 56, Duration::from_secs(20)).unwrap(), "ping {ip}");
                let report = http::load(to, 100, 8);
                assert_eq!((report.answered(), report.failures.as_slice()), (100, &[][..]));
            }
        }
        let from = SocketAddr::new(SERVERS[0].v4.into(), 80);
        let expected = blob::sha256(blob::Blob::new(5_000_001)).unwrap();
        let down = http::download(from, 5_000_001).unwrap();
        assert_eq!((down.sha256, down.bytes), expected);
        assert_eq!(http::upload(from, 5_000_001).unwrap().sha256, expected.0);
        let answer = udp::ask(SocketAddr::new(SERVERS[1].v6.into(), 53), b"hello").unwrap();
        assert!(answer.starts_with(b"rs2 [fd10::2]:") && answer.ends_with(b" hello"), "{answer:?}");
    });

    assert_eq!(servers[0].accepted(), 204);
    capture.settle();
    let syns = capture.packets(|p| p.tcp().is_some_and(|tcp| tcp.flags() == flag::SYN));
    assert_eq!(syns.len(), 204);
    let all = capture.packets(|_| true);
    assert!(all.iter().all(|p| p.ip_checksum_ok() && p.l4_checksum_ok()), "offloads leave wrong checksums");
    assert!(all.iter().all(|p| p.ip_len() <= 1500), "offloads leave oversized packets");
}

/// The host that writes its own packets can talk to a kernel, answers its neighbour requests, and sees real checksums.
#[test]
fn raw_host_speaks_tcp() {
    if crate::skipped() {
        return;
    }
    let topology = plain_topology();
    route_plainly(&topology);
    let _server = HttpServer::start(&topology.servers[0], "rs1", 80).unwrap();
    let host = RawHost::start(&topology.client).unwrap();
    for server in SERVERS[0].both() {
        let mut connection = host.connect(4000, (server, 80), &[2, 4, 0x02, 0x18], &[]).unwrap();
        assert_eq!(connection.syn_ack.ttl(), 62, "two hops away");
        connection.send_data(&[], b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let answer = connection.receive_data().unwrap();
        assert!(answer.ip_checksum_ok() && answer.l4_checksum_ok(), "{answer:?}");
        let text = String::from_utf8_lossy(answer.tcp().unwrap().payload()).into_owned();
        assert!(text.ends_with(&format!("rs1 {}\n", SocketAddr::new(connection.ends.src.0, 4000))), "{text}");
    }
}

/// The narrow path of the path MTU tests, without a balancer: the kernels discover it by themselves.
#[test]
fn narrow_routes_are_narrow() {
    if crate::skipped() {
        return;
    }
    let topology = plain_topology();
    route_plainly(&topology);
    topology.narrow_route("10.20.1.0/24", "rs1", 1400).unwrap();
    topology.narrow_route("fd20:1::/64", "rs1", 1400).unwrap();
    let _server = HttpServer::start(&topology.servers[0], "rs1", 80).unwrap();
    for (ip, too_big) in SERVERS[0].both().into_iter().zip([(3, 4), (2, 0)]) {
        let capture = Capture::start(&topology.client, "eth0").unwrap();
        topology.client.run(|| http::upload(SocketAddr::new(ip, 80), 1_000_000)).unwrap();
        capture.settle();
        let messages = capture.packets(|p| p.icmp() == Some(too_big));
        assert!((1..20).contains(&messages.len()), "{ip}: {messages:?}");
        assert_eq!(messages[0].quoted().unwrap().dst, ip);
    }
}
