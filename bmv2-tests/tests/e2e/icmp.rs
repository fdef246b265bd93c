//! ICMP: echo, path MTU discovery, and what traceroute needs.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use bmv2_tests::capture::Capture;
use bmv2_tests::http;
use bmv2_tests::icmp;
use bmv2_tests::lab::{ECHO, HTTP, Lab, all_services, http_services};
use bmv2_tests::packet::{Packet, Quoted, flag, proto};
use bmv2_tests::raw::RawHost;
use bmv2_tests::topology::{Arms, BALANCER_BACK, LIP_FIRST, LIP_LAST, Load, ROUTER_BACK, SERVERS};
use bmv2_tests::{blob, udp};
use nix::sys::socket::{setsockopt, sockopt};

/// MTU of the narrow part of a path.
const NARROW: u16 = 1400;

/// All services with one real server each, so that the path is known.
fn lab(arms: Arms) -> Lab {
    Lab::start(arms, Load::Light, |config, vip| {
        let mut config = all_services(config, vip);
        config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[1]));
        config
    })
    .unwrap()
}

#[test]
fn echo_is_answered_by_vips_and_local_addresses() {
    if crate::skipped() {
        return;
    }
    for arms in [Arms::One, Arms::Two] {
        let lab = lab(arms);
        let own = [lab.topology.vip(), LIP_FIRST, LIP_LAST, BALANCER_BACK].map(|dual| dual.both());
        for ip in own.into_iter().flatten() {
            for host in [&lab.topology.client, &lab.topology.router] {
                // The router knows no way to the clients' net of a two-armed balancer, where the VIP is.
                let is_router = host.name() == lab.topology.router.name();
                if arms == Arms::Two && is_router && lab.topology.vip().both().contains(&ip) {
                    continue;
                }
                for len in [0, 56, 1400] {
                    let answered = host.run(|| icmp::ping(ip, len, Duration::from_secs(20)).unwrap());
                    assert!(answered, "{arms:?} arms: ping {ip} with {len} bytes from {}", host.name());
                }
            }
        }
    }
}

/// The next-hop MTU in a "fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443) message.
fn too_big(packet: &Packet) -> Option<u16> {
    match (packet.is_v4(), packet.icmp()?) {
        (true, (3, 4)) => Some(u16::from_be_bytes([packet.l4()[6], packet.l4()[7]])),
        (false, (2, 0)) => Some(u16::from_be_bytes([packet.l4()[6], packet.l4()[7]])),
        _ => None,
    }
}

/// Checks the messages that reached `host`: they are about its own packets to `peer`, and their checksums are right.
fn assert_translated(messages: &[Packet], host: IpAddr, host_port: Option<u16>, peer: SocketAddr) {
    assert!(!messages.is_empty(), "no message arrived");
    for message in messages {
        assert_eq!(message.dst(), host, "{message:?}");
        assert!(message.ip_checksum_ok() && message.l4_checksum_ok(), "{message:?}");
        let Quoted { src, dst, protocol, sport, dport, ip_checksum_ok } = message.quoted().unwrap();
        assert_eq!((src, SocketAddr::new(dst, dport)), (host, peer), "{message:?}");
        assert!(host_port.is_none_or(|port| port == sport), "{message:?}");
        assert!(protocol == proto::TCP || protocol == proto::UDP, "{message:?}");
        assert!(ip_checksum_ok, "{message:?}");
    }
}

#[test]
fn path_mtu_towards_the_real_server_is_discovered() {
    if crate::skipped() {
        return;
    }
    let lab = lab(Arms::Two);
    lab.topology.narrow_route("10.20.1.0/24", "rs1", NARROW).unwrap();
    lab.topology.narrow_route("fd20:1::/64", "rs1", NARROW).unwrap();
    let len = 1_000_000;
    for service in lab.service(HTTP) {
        let capture = Capture::start(&lab.topology.client, "eth0").unwrap();
        let up = lab.on_client(|| http::upload(service, len).unwrap());
        assert_eq!(up.sha256, blob::sha256(blob::Blob::new(len)).unwrap().0);
        capture.settle();
        let messages = capture.packets(|p| too_big(p) == Some(NARROW));
        let client = lab.client_ip(service.ip());
        assert_translated(&messages, client, None, service);
        assert!(messages.len() <= 20, "{} messages: the client does not learn", messages.len());
    }
}

/// With TOA a segment grows on its way: the client must be told an MTU that leaves room for that, as long as its segments
/// carry TOA, which is until the server has acknowledged one.
#[test]
fn path_mtu_leaves_room_for_toa() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::start(Arms::Two, Load::Light, |config, vip| {
        let mut config = http_services(config, vip);
        config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[1]).with_toa());
        config
    })
    .unwrap();
    lab.topology.narrow_route("10.20.1.0/24", "rs1", NARROW).unwrap();
    lab.topology.narrow_route("fd20:1::/64", "rs1", NARROW).unwrap();
    let host = RawHost::start(&lab.topology.client).unwrap();
    let port = 7000;
    for (service, (headers, room)) in lab.service(HTTP).into_iter().zip([(40, 8), (60, 20)]) {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let connection = host.connect(port, (service.ip(), HTTP), &[], &[]).unwrap();
        let send = |mtu: u16| connection.send(flag::ACK | flag::PSH, &[], &vec![b'x'; usize::from(mtu) - headers]);
        // It would fit as it is.
        send(NARROW).unwrap();
        let message = host.receive(Duration::from_secs(20), |p| too_big(p).is_some()).unwrap().expect("a message");
        assert_eq!(too_big(&message), Some(NARROW - room));
        assert_translated(&[message], connection.ends.src.0, Some(port), service);
        send(NARROW - room).unwrap();
        let full = |p: &Packet| p.dport() == HTTP && p.ip_len() == usize::from(NARROW);
        let arrived = capture.wait_for(1, full);
        assert_eq!(arrived.len(), 1, "what was told fits");
        assert_eq!(arrived[0].tcp().unwrap().toa(), Some((port, connection.ends.src.0)));
    }
}

#[test]
fn path_mtu_towards_the_client_is_discovered() {
    if crate::skipped() {
        return;
    }
    let lab = lab(Arms::One);
    lab.topology.narrow_route("10.10.0.0/24", "cli0", NARROW).unwrap();
    lab.topology.narrow_route("fd10::/64", "cli0", NARROW).unwrap();
    let len = 1_000_000;
    for (i, service) in lab.service(HTTP).into_iter().enumerate() {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let down = lab.on_client(|| http::download(service, len).unwrap());
        assert_eq!(down.sha256, blob::sha256(blob::Blob::new(len)).unwrap().0);
        capture.settle();
        let messages = capture.packets(|p| too_big(p) == Some(NARROW));
        assert!(!messages.is_empty(), "no message reached the real server");
        let quoted = messages[0].quoted().unwrap();
        let lip_and_port = SocketAddr::new(quoted.dst, quoted.dport);
        assert!((LIP_FIRST.both()[i]..=LIP_LAST.both()[i]).contains(&quoted.dst), "{quoted:?}");
        assert_translated(&messages, SERVERS[0].both()[i], Some(HTTP), lip_and_port);
        assert!(messages.len() <= 20, "{} messages: the real server does not learn", messages.len());
    }
}

/// Sends a datagram with a small TTL.
fn send_with_ttl(to: SocketAddr, ttl: u8) -> UdpSocket {
    let socket = udp::connected(to, Duration::from_secs(20)).unwrap();
    match to {
        SocketAddr::V4(_) => socket.set_ttl(ttl.into()).unwrap(),
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &i32::from(ttl)).unwrap(),
    }
    socket.send(b"how far?").unwrap();
    socket
}

#[test]
fn exceeded_ttl_is_answered_and_translated() {
    if crate::skipped() {
        return;
    }
    let lab = lab(Arms::Two);
    for (i, service) in lab.service(ECHO).into_iter().enumerate() {
        let client = lab.client_ip(service.ip());
        let exceeded = if service.is_ipv4() { (11, 0) } else { (3, 0) };
        // The balancer is the first hop, the router the second, the real server the third.
        for ttl in [1, 2] {
            let capture = Capture::start(&lab.topology.client, "eth0").unwrap();
            let socket = lab.on_client(|| send_with_ttl(service, ttl));
            let messages = capture.wait_for(1, |p| p.icmp() == Some(exceeded));
            assert_translated(&messages, client, Some(socket.local_addr().unwrap().port()), service);
            assert_eq!(messages.len(), 1, "{messages:?}");
            if ttl == 1 {
                assert!(!SERVERS.iter().any(|server| server.both().contains(&messages[0].src())), "{:?}", messages[0]);
                assert_ne!(messages[0].src(), ROUTER_BACK.both()[i], "the balancer itself is the first hop");
            }
        }
        let socket = lab.on_client(|| send_with_ttl(service, 3));
        assert!(socket.recv(&mut [0; 100]).is_ok(), "a TTL of 3 is enough");
    }
    assert_eq!(lab.balancer.drops().unwrap().get("ttl_exceeded"), Some(&2));
}

/// An error message about a packet that no session sent goes nowhere.
#[test]
fn messages_about_no_session_are_dropped() {
    if crate::skipped() {
        return;
    }
    let lab = lab(Arms::Two);
    let host = RawHost::start(&lab.topology.client).unwrap();
    for service in lab.service(ECHO) {
        let ends = host.ends(6000, (service.ip(), ECHO));
        let ours = bmv2_tests::packet::Ends { src: ends.dst, dst: ends.src, ..ends }.udp(b"never sent");
        let (kind, protocol) = if service.is_ipv4() { (3, proto::ICMP) } else { (1, proto::ICMPV6) };
        let message = [&[kind, 1, 0, 0, 0, 0, 0, 0], &ours.bytes()[14..]].concat();
        host.send(&ends.ip(protocol, &message)).unwrap();
    }
    let counted = || lab.balancer.drops().unwrap().get("icmp_no_session") == Some(&2);
    assert!(bmv2_tests::balancer::wait(Duration::from_secs(20), counted), "{:?}", lab.balancer.drops());
}
