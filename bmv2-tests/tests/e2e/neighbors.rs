//! Next hops that come, go and change under traffic.

use std::time::Duration;

use bmv2_tests::balancer::wait;
use bmv2_tests::capture::Capture;
use bmv2_tests::http::{self, Connection};
use bmv2_tests::lab::{HTTP, Lab};
use bmv2_tests::topology::{BALANCER_MACS, CLIENT, ROUTER_BACK};

/// The router is replaced by one with another MAC address, which announces itself as a router does when it takes an
/// address over: open connections go on, with the new address.
#[test]
fn a_router_with_a_new_mac_address_is_followed() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    let mut open: Vec<Connection> =
        lab.service(HTTP).into_iter().map(|service| lab.on_client(|| Connection::open(service).unwrap())).collect();
    let before: Vec<_> = open.iter_mut().map(|connection| connection.get("/").unwrap().text()).collect();
    let mac = "02:ca:00:00:02:fe";
    lab.topology.router.sysctl("ipv4.conf.lb0.arp_notify", "1").unwrap();
    lab.topology.router.sysctl("ipv6.conf.lb0.ndisc_notify", "1").unwrap();
    lab.topology.router.ip(&format!("link set lb0 address {mac}")).unwrap();
    let after: Vec<_> = open.iter_mut().map(|connection| connection.get("/").unwrap().text()).collect();
    assert_eq!(before, after);
    for ip in ROUTER_BACK.both() {
        let known = || {
            let neighbors = lab.balancer.rows("neighbors").unwrap();
            neighbors.iter().any(|row| row["address"] == ip.to_string() && row["mac"] == mac)
        };
        assert!(wait(Duration::from_secs(20), known), "{ip}: {:?}", lab.balancer.rows("neighbors"));
    }
}

/// The cable to the router is pulled and plugged in again: new connections work at once.
#[test]
fn a_link_that_was_down_is_used_again() {
    if crate::skipped() {
        return;
    }
    let lab = Lab::plain().unwrap();
    let service = lab.service(HTTP)[0];
    assert_eq!(lab.on_client(|| http::get(service, "/")).unwrap().status, 200);
    lab.topology.router.ip("link set lb0 down").unwrap();
    assert!(lab.on_client(|| std::net::TcpStream::connect_timeout(&service, Duration::from_millis(300))).is_err());
    lab.topology.router.ip("link set lb0 up").unwrap();
    let works = || lab.on_client(|| http::get(service, "/")).is_ok_and(|answer| answer.status == 200);
    assert!(wait(Duration::from_secs(20), works), "{:?}", lab.balancer.rows("neighbors"));
}

/// Every VIP and local address answers for itself with the MAC address of the right interface, and says so when the
/// balancer starts.
#[test]
fn addresses_are_announced() {
    if crate::skipped() {
        return;
    }
    use bmv2_tests::balancer::Balancer;
    use bmv2_tests::config::Config;
    use bmv2_tests::lab::http_services;
    use bmv2_tests::topology::{Arms, Topology};

    let topology = Topology::new(Arms::Two).unwrap();
    let vip = topology.vip();
    let capture = Capture::start(&topology.client, "eth0").unwrap();
    let _balancer = Balancer::start(&topology, &http_services(Config::new(&topology), vip)).unwrap();
    // A gratuitous ARP request (RFC 5227 section 1.2) has the address as sender and as target.
    let arp_for_vip = |frame: &[u8]| {
        frame.starts_with(&[0xff; 6])
            && frame.get(12..14) == Some(&[0x08, 0x06])
            && frame.get(28..32) == Some(&vip.v4.octets())
    };
    // An unsolicited neighbour advertisement to all nodes (RFC 4861 section 7.2.6) has it as target.
    let advertisement = |frame: &[u8]| {
        frame.starts_with(&[0x33, 0x33, 0, 0, 0, 1])
            && frame.get(54) == Some(&136)
            && frame.get(62..78) == Some(&vip.v6.octets())
    };
    let announced = || {
        let records = capture.records();
        records.iter().any(|it| arp_for_vip(&it.frame)) && records.iter().any(|it| advertisement(&it.frame))
    };
    assert!(wait(Duration::from_secs(20), announced), "{} frames", capture.records().len());
    let client = &topology.client;
    client.run(|| vip.both().map(|ip| bmv2_tests::icmp::ping(ip, 8, Duration::from_secs(20)).unwrap()));
    for ip in vip.both() {
        let known = client.ip(&format!("neigh show {ip}")).unwrap();
        assert!(known.contains(BALANCER_MACS[0]), "{} knows {ip} as {known}", CLIENT.v4);
    }
}
