//! What a real server learns of the client: nothing but TOA.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use bmv2_tests::capture::Capture;
use bmv2_tests::config::Config;
use bmv2_tests::http::Connection;
use bmv2_tests::lab::{HTTP, Lab, http};
use bmv2_tests::packet::{Packet, TOA_KIND, flag, toa_option};
use bmv2_tests::raw::RawHost;
use bmv2_tests::topology::{Arms, LIP_FIRST, LIP_LAST, Load, SERVERS};

/// One real server, so that one capture sees everything; TOA or not.
fn lab(toa: bool) -> Lab {
    lab_with(toa, |config| config)
}

fn lab_with(toa: bool, change: impl FnOnce(Config) -> Config) -> Lab {
    Lab::start(Arms::Two, Load::Light, |config, vip| {
        let config = change(config);
        vip.both().into_iter().zip(["http", "http6"]).fold(config, |config, (vip, name)| {
            let service = http(name, vip).weights(&[1]);
            config.service(if toa { service.with_toa() } else { service })
        })
    })
    .unwrap()
}

/// Inbound TCP to the real server, of one family.
fn inbound(capture: &Capture, v6: bool) -> Vec<Packet> {
    let server = SERVERS[0].both()[usize::from(v6)];
    capture.packets(|p| p.tcp().is_some() && p.dst() == server && p.dport() == HTTP)
}

/// The sequence number of the real server's SYN.
fn server_isn(capture: &Capture, v6: bool) -> u32 {
    let server = SERVERS[0].both()[usize::from(v6)];
    let syn_ack = flag::SYN | flag::ACK;
    let found = capture.packets(|p| p.src() == server && p.tcp().is_some_and(|tcp| tcp.flags() == syn_ack));
    found[0].tcp().unwrap().seq()
}

fn is_lip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => (LIP_FIRST.v4..=LIP_LAST.v4).contains(&ip),
        IpAddr::V6(ip) => (LIP_FIRST.v6..=LIP_LAST.v6).contains(&ip),
    }
}

/// Checks one connection as captured at the real server: TOA with the client's address on every segment that still
/// acknowledges nothing but the server's SYN, and on no other, on no SYN and on no RST.
fn assert_toa(segments: &[Packet], isn: u32, client: SocketAddr) {
    let mut with_toa = 0;
    for packet in segments {
        let tcp = packet.tcp().unwrap();
        let due = tcp.flags() & (flag::SYN | flag::RST) == 0 && tcp.ack() == isn.wrapping_add(1);
        let expected = due.then(|| (client.port(), client.ip()));
        assert_eq!(tcp.toa(), expected, "{packet:?}");
        assert_eq!(tcp.options().iter().filter(|(kind, _)| *kind == TOA_KIND).count(), usize::from(due), "{packet:?}");
        assert!(is_lip(packet.src()), "{packet:?}");
        assert!(packet.ip_checksum_ok() && packet.l4_checksum_ok(), "{packet:?}");
        with_toa += usize::from(due);
    }
    assert!(with_toa >= 2, "handshake ACK and request carry TOA: {segments:?}");
    assert!(with_toa + 2 <= segments.len(), "SYN and later segments do not: {segments:?}");
}

#[test]
fn toa_until_the_client_has_acknowledged_data() {
    if crate::skipped() {
        return;
    }
    let lab = lab(true);
    for (v6, service) in [false, true].into_iter().zip(lab.service(HTTP)) {
        let at_server = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let at_client = Capture::start(&lab.topology.client, "eth0").unwrap();
        let mut connection = lab.on_client(|| Connection::open(service).unwrap());
        let client = connection.local_addr().unwrap();
        for _ in 0..3 {
            connection.get("/").unwrap();
        }
        drop(connection);
        Capture::settle_all(&[&at_server, &at_client]);
        assert_toa(&inbound(&at_server, v6), server_isn(&at_server, v6), client);

        let syn_ack = |p: &Packet| p.tcp().is_some_and(|tcp| tcp.flags() == flag::SYN | flag::ACK);
        let mss = |capture: &Capture| capture.packets(syn_ack)[0].tcp().unwrap().mss().unwrap();
        let room = if v6 { 20 } else { 8 };
        assert_eq!(mss(&at_client), mss(&at_server) - room, "the client leaves room for TOA");
    }
}

/// A request larger than one segment: each of its segments carries TOA, and each still fits the MTU.
#[test]
fn toa_on_each_segment_of_a_long_request() {
    if crate::skipped() {
        return;
    }
    let lab = lab(true);
    for (v6, service) in [false, true].into_iter().zip(lab.service(HTTP)) {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let (client, answer) = lab.on_client(|| {
            let mut connection = Connection::open(service).unwrap();
            let long = format!("/{}", "x".repeat(8000));
            (connection.local_addr().unwrap(), connection.get(&long).unwrap())
        });
        assert_eq!(answer.status, 404);
        capture.settle();
        let segments = inbound(&capture, v6);
        assert_toa(&segments, server_isn(&capture, v6), client);
        assert!(segments.iter().filter(|p| p.ip_len() == 1500).count() >= 4, "full segments: {segments:?}");
    }
    assert_eq!(lab.balancer.total("toa_over_mtu").unwrap(), 0);
}

/// FIN while the server has not sent anything yet carries TOA like data; RST never does.
#[test]
fn toa_on_an_early_fin_but_not_on_rst() {
    if crate::skipped() {
        return;
    }
    let lab = lab(true);
    let host = RawHost::start(&lab.topology.client).unwrap();
    for (i, service) in lab.service(HTTP).into_iter().enumerate() {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let port = 7000 + i as u16;
        let connection = host.connect(port, (service.ip(), HTTP), &[], &[]).unwrap();
        connection.send(flag::RST | flag::ACK, &[], &[]).unwrap();
        let rst = |p: &Packet| p.dport() == HTTP && p.tcp().is_some_and(|tcp| tcp.flags() & flag::RST != 0);
        let seen = capture.wait_for(1, rst);
        assert_eq!(seen.len(), 1, "the RST arrives");
        assert_eq!(seen[0].tcp().unwrap().options(), []);

        let connection = host.connect(port + 100, (service.ip(), HTTP), &[], &[]).unwrap();
        connection.send(flag::FIN | flag::ACK, &[], &[]).unwrap();
        let fin = |p: &Packet| p.dport() == HTTP && p.tcp().is_some_and(|tcp| tcp.flags() & flag::FIN != 0);
        let seen = capture.wait_for(1, fin);
        assert_eq!(seen[0].tcp().unwrap().toa(), Some((port + 100, connection.ends.src.0)));
    }
}

/// A client cannot tell the real server an address of its own invention, on any segment, whether TOA is on or off.
#[test]
fn forged_toa_is_removed() {
    if crate::skipped() {
        return;
    }
    for toa in [true, false] {
        // A switch removes no options. What it forwards comes after the real server has acknowledged the true address.
        let lab = lab_with(toa, Config::without_offload);
        let host = RawHost::start(&lab.topology.client).unwrap();
        let victims: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        // Either length may be forged on either family.
        for (i, (service, victim)) in
            lab.service(HTTP).into_iter().flat_map(|service| victims.map(|victim| (service, victim))).enumerate()
        {
            let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
            let forged = toa_option(4711, victim);
            let port = 7000 + i as u16;
            let mut connection = host.connect(port, (service.ip(), HTTP), &forged, &forged).unwrap();
            connection.send_data(&forged, b"GET / HTTP/1.1\r\n\r\n").unwrap();
            connection.receive_data().unwrap();
            connection.send(flag::ACK, &forged, &[]).unwrap();
            thread::sleep(Duration::from_millis(100));
            connection.send(flag::RST | flag::ACK, &forged, &[]).unwrap();
            capture.settle();
            let v6 = service.is_ipv6();
            let (segments, isn) = (inbound(&capture, v6), server_isn(&capture, v6));
            assert!(segments.len() >= 5, "SYN, ACK, request, ACK, RST arrive: {segments:?}");
            if toa {
                assert_toa(&segments, isn, SocketAddr::new(connection.ends.src.0, port));
            } else {
                for packet in &segments {
                    assert_eq!(packet.tcp().unwrap().option(TOA_KIND), None, "{packet:?}");
                    assert!(packet.ip_checksum_ok() && packet.l4_checksum_ok(), "{packet:?}");
                }
            }
        }
        assert!(lab.balancer.total("toa_stripped").unwrap() >= 4 * 5);
    }
}

/// What does not fit is left out and counted; the segment goes on as it is.
#[test]
fn toa_that_does_not_fit_is_left_out_and_counted() {
    if crate::skipped() {
        return;
    }
    let lab = lab(true);
    let host = RawHost::start(&lab.topology.client).unwrap();
    // Four SACK blocks and padding: 36 bytes of options, and no way to make room for 8 of the 40.
    let sack = [&[5, 34][..], &[0; 32], &[1, 1]].concat();
    // Padding only: it gives way.
    let padding = [1; 40];
    for (i, service) in lab.service(HTTP).into_iter().enumerate() {
        let capture = Capture::start(&lab.topology.servers[0], "eth0").unwrap();
        let port = 7000 + i as u16;
        let before = lab.balancer.total("toa_no_room").unwrap();
        let connection = host.connect(port, (service.ip(), HTTP), &[], &sack).unwrap();
        connection.send(flag::ACK, &padding, &[]).unwrap();
        // With TOA it would be longer than the MTU of 1500; without, it is as long.
        let headers = if service.is_ipv4() { 40 } else { 60 };
        connection.send(flag::ACK, &[], &vec![b'x'; 1500 - headers]).unwrap();
        capture.settle();
        let segments = inbound(&capture, service.is_ipv6());
        let [_syn, with_sack, with_padding, long] = segments.as_slice() else { panic!("{segments:?}") };
        let client = Some((port, connection.ends.src.0));
        assert_eq!(with_sack.tcp().unwrap().options(), [(5, &[0; 32][..])]);
        assert_eq!(with_padding.tcp().unwrap().toa(), client);
        assert_eq!((long.tcp().unwrap().toa(), long.ip_len()), (None, 1500));
        assert_eq!(lab.balancer.total("toa_no_room").unwrap() - before, 1);
        assert_eq!(lab.balancer.total("toa_over_mtu").unwrap(), 1 + i as u64);
        assert!(segments.iter().all(|p| p.ip_checksum_ok() && p.l4_checksum_ok()), "{segments:?}");
    }
}
