//! What is about packets and not in them: ARP, neighbour discovery, ICMP, TTL. The slow path's, offloaded or not.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bmv2_tests::capture::Capture;
use bmv2_tests::http::Connection;
use bmv2_tests::icmp;
use bmv2_tests::lab::{ECHO, HTTP};
use bmv2_tests::topology::{BALANCER_BACK, BALANCER_MACS, LIP_FIRST, LIP_LAST, ROUTER_BACK};
use bmv2_tests::{blob, udp};
use nix::sys::socket::{setsockopt, sockopt};

use crate::{lab_with_one_server, offloaded};

/// MTU of the narrow part of a path.
const NARROW: u16 = 1400;

/// The kernels at both ends resolve our addresses, and our addresses answer pings.
#[test]
fn our_addresses_are_found_and_answer() {
    if crate::skipped() {
        return;
    }
    let lab = lab_with_one_server();
    let front = (&lab.topology.client, lab.topology.vip().both().to_vec(), BALANCER_MACS[0]);
    let local = [LIP_FIRST, LIP_LAST, BALANCER_BACK].iter().flat_map(|dual| dual.both()).collect();
    for (host, addresses, mac) in [front, (&lab.topology.router, local, BALANCER_MACS[1])] {
        for ip in addresses {
            for len in [0, 56, 1400] {
                let answered = host.run(|| icmp::ping(ip, len, Duration::from_secs(20)).unwrap());
                assert!(answered, "ping {ip} with {len} bytes from {}", host.name());
            }
            let known = host.ip(&format!("neigh show {ip}")).unwrap();
            assert!(known.contains(mac), "{} knows {ip} as {known}", host.name());
        }
    }
}

/// Datagrams of an offloaded session whose TTL ends at the balancer or behind it: the client is told, by the right hop.
#[test]
fn traceroute_through_an_offloaded_session() {
    if crate::skipped() {
        return;
    }
    let lab = lab_with_one_server();
    for (i, service) in lab.service(ECHO).into_iter().enumerate() {
        let socket = lab.on_client(|| udp::connected(service, Duration::from_secs(20)).unwrap());
        // The second datagram shows that the client is where it says.
        for _ in 0..2 {
            socket.send(b"hello").unwrap();
            socket.recv(&mut [0; 100]).unwrap();
        }
        offloaded(&lab, 1 + i);
        let exceeded = if service.is_ipv4() { (11, 0) } else { (3, 0) };
        for ttl in [1, 2] {
            let capture = Capture::start(&lab.topology.client, "eth0").unwrap();
            send_with_ttl(&socket, service, ttl);
            let messages = capture.wait_for(1, |p| p.icmp() == Some(exceeded));
            assert_eq!(messages.len(), 1, "TTL {ttl} to {service}");
            let quoted = messages[0].quoted().unwrap();
            let own = socket.local_addr().unwrap();
            assert_eq!((quoted.src, quoted.sport), (own.ip(), own.port()), "{quoted:?}");
            assert_eq!(SocketAddr::new(quoted.dst, quoted.dport), service, "{quoted:?}");
            assert!(messages[0].ip_checksum_ok() && messages[0].l4_checksum_ok() && quoted.ip_checksum_ok);
            if ttl == 1 {
                assert_ne!(messages[0].src(), ROUTER_BACK.both()[i], "the balancer is the first hop");
            }
        }
        // The kernel may still hold the last error.
        let _ = socket.take_error();
        send_with_ttl(&socket, service, 3);
        assert!(socket.recv(&mut [0; 100]).is_ok(), "a TTL of 3 is enough");
    }
}

fn send_with_ttl(socket: &UdpSocket, to: SocketAddr, ttl: u8) {
    match to {
        SocketAddr::V4(_) => socket.set_ttl(ttl.into()).unwrap(),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6Ttl, &i32::from(ttl)).unwrap(),
    }
    socket.send(b"how far?").unwrap();
}

/// The path gets narrower behind the balancer while a connection is offloaded: the client's kernel learns it and the data
/// arrives.
#[test]
fn path_mtu_of_an_offloaded_connection_is_discovered() {
    if crate::skipped() {
        return;
    }
    let lab = lab_with_one_server();
    let len = 300_000;
    let mut open: Vec<Connection> =
        lab.service(HTTP).into_iter().map(|service| lab.on_client(|| Connection::open(service).unwrap())).collect();
    open.iter_mut().for_each(|connection| assert_eq!(connection.get("/").unwrap().status, 200));
    offloaded(&lab, open.len());
    lab.topology.narrow_route("10.20.1.0/24", "rs1", NARROW).unwrap();
    lab.topology.narrow_route("fd20:1::/64", "rs1", NARROW).unwrap();
    for (mut connection, service) in open.into_iter().zip(lab.service(HTTP)) {
        let capture = Capture::start(&lab.topology.client, "eth0").unwrap();
        let sum = connection.put(len).unwrap();
        assert_eq!(sum, blob::sha256(blob::Blob::new(len)).unwrap().0);
        capture.settle();
        let too_big = if service.is_ipv4() { (3, 4) } else { (2, 0) };
        let messages = capture.packets(|p| p.icmp() == Some(too_big));
        assert!((1..=20).contains(&messages.len()), "{} messages: the client does not learn", messages.len());
        for message in &messages {
            let quoted = message.quoted().unwrap();
            assert_eq!(SocketAddr::new(quoted.dst, quoted.dport), service, "{message:?}");
            assert_eq!(u16::from_be_bytes([message.l4()[6], message.l4()[7]]), NARROW);
            assert!(message.ip_checksum_ok() && message.l4_checksum_ok() && quoted.ip_checksum_ok, "{message:?}");
        }
    }
}
