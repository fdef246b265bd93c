//! Without TOA nothing changes on the way but addresses, ports, TTL and checksums: both sides captured and compared byte
//! for byte.

use std::time::Duration;

use bmv2_tests::capture::Capture;
use bmv2_tests::http;
use bmv2_tests::lab::{ECHO, HTTP, Lab, all_services};
use bmv2_tests::packet::Packet;
use bmv2_tests::raw::RawHost;
use bmv2_tests::topology::{Arms, Load, SERVERS};
use bmv2_tests::udp;

/// Balancer and router: two hops, two off the TTL.
const HOPS: u8 = 2;

fn lab() -> Lab {
    Lab::start(Arms::Two, Load::Light, |config, vip| {
        let mut config = all_services(config, vip);
        config.services.iter_mut().for_each(|service| *service = service.clone().weights(&[1]));
        config
    })
    .unwrap()
}

/// The packets of each flow; flows in the order they began.
fn by_flow(packets: Vec<Packet>) -> Vec<Vec<Packet>> {
    let mut flows: Vec<Vec<Packet>> = Vec::new();
    let key = |p: &Packet| (p.protocol(), p.src(), p.sport(), p.dst(), p.dport());
    for packet in packets {
        match flows.iter_mut().find(|flow| key(&flow[0]) == key(&packet)) {
            Some(flow) => flow.push(packet),
            None => flows.push(vec![packet]),
        }
    }
    flows
}

/// Compares what left one side with what arrived at the other: each packet, translated as its flow is, arrives once.
/// Two packets that two CPUs of a kernel send at once may be captured in either order, so order is not compared.
fn assert_same_but_translated(sent: Vec<Packet>, arrived: Vec<Packet>, what: &str) {
    assert!(sent.len() > 80, "{what}: only {} packets", sent.len());
    assert!(sent.iter().all(|p| p.ip_checksum_ok() && p.l4_checksum_ok()), "{what}: the sender's checksums");
    let (sent, arrived) = (by_flow(sent), by_flow(arrived));
    assert_eq!(sent.len(), arrived.len(), "{what}: as many flows arrive as were sent");
    for (before, mut after) in sent.iter().zip(arrived) {
        assert_eq!(before.len(), after.len(), "{what}: as many packets arrive as were sent");
        let mut expected: Vec<_> = before.iter().map(|p| p.translated_like(&after[0], HOPS)).collect();
        expected.sort_by(|a, b| a.bytes().cmp(b.bytes()));
        after.sort_by(|a, b| a.bytes().cmp(b.bytes()));
        for (expected, after) in expected.iter().zip(&after) {
            assert_eq!(expected.bytes(), after.bytes(), "{what}: {expected:?} expected, {after:?} arrived");
        }
    }
}

#[test]
fn only_addresses_ports_ttl_and_checksums_change() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    for v6 in [false, true] {
        let at_client = Capture::start(&lab.topology.client, "eth0").unwrap();
        let at_server = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let pick = |both: [std::net::SocketAddr; 2]| both[usize::from(v6)];
        lab.on_client(|| {
            http::get(pick(lab.service(HTTP)), "/").unwrap();
            http::download(pick(lab.service(HTTP)), 100_000).unwrap();
            http::upload(pick(lab.service(HTTP)), 100_000).unwrap();
            for len in [0, 1, 2, 1001, 1400] {
                udp::ask(pick(lab.service(ECHO)), &vec![0xa5; len]).unwrap();
            }
        });
        Capture::settle_all(&[&at_client, &at_server]);
        let (vip, rip) = (lab.topology.vip().both()[usize::from(v6)], SERVERS[0].both()[usize::from(v6)]);
        // A service's packets only: neighbour discovery is each cable's own business.
        let ours = |port: u16| port == HTTP || port == ECHO;
        let (sent, arrived) = (
            at_client.packets(|p| p.dst() == vip && p.icmp().is_none() && ours(p.dport())),
            at_server.packets(|p| p.dst() == rip && p.icmp().is_none() && ours(p.dport())),
        );
        assert_same_but_translated(sent, arrived, "client to server");
        let (sent, arrived) = (
            at_server.packets(|p| p.src() == rip && p.icmp().is_none() && ours(p.sport())),
            at_client.packets(|p| p.src() == vip && p.icmp().is_none() && ours(p.sport())),
        );
        assert_same_but_translated(sent, arrived, "server to client");
    }
}

/// A checksum that was wrong arrives wrong: it is updated for what changed, never computed anew, so that the receiver
/// still notices what happened before the balancer.
#[test]
fn a_wrong_checksum_stays_wrong() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let host = RawHost::start(&lab.topology.client).unwrap();
    for service in lab.service(ECHO) {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let good = host.ends(6000, (service.ip(), ECHO)).udp(b"a payload");
        let mut bytes = good.bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 0x40;
        host.send(&Packet::parse(&bytes).unwrap()).unwrap();
        let seen = capture.wait_for(1, |p| p.udp_payload().is_some());
        assert_eq!(seen.len(), 1);
        assert!(!seen[0].l4_checksum_ok(), "the balancer repaired a broken packet: {:?}", seen[0]);
        assert_eq!(seen[0].udp_payload().unwrap(), &bytes[bytes.len() - 9..]);
    }
}

/// RFC 768: a checksum of zero says that the sender made none. It stays so.
#[test]
fn a_missing_udp_checksum_stays_missing() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let host = RawHost::start(&lab.topology.client).unwrap();
    let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
    let vip = lab.topology.vip().v4;
    let mut bytes = host.ends(6000, (vip.into(), ECHO)).udp(b"no checksum").bytes().to_vec();
    // Ethernet, IPv4 without options, and the checksum is the last field of eight bytes.
    bytes[14 + 20 + 6..14 + 20 + 8].fill(0);
    host.send(&Packet::parse(&bytes).unwrap()).unwrap();
    let seen = capture.wait_for(1, |p| p.dst() == SERVERS[0].v4 && p.udp_payload().is_some());
    assert_eq!(seen[0].l4()[6..8], [0, 0]);
    let answer = host.receive(Duration::from_secs(20), |p| p.dport() == 6000).unwrap().expect("an answer");
    assert!(answer.udp_payload().unwrap().ends_with(b"no checksum"));
}
