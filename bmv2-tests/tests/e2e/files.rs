//! Packets from a file, packets to a file: the whole balancer as an unprivileged user, without huge pages, over DPDK's
//! `net_pcap`. What it answers is compared frame by frame with a reviewed file.
//!
//! After a change that is meant to change packets, `CAROM_BLESS=1 cargo test -p bmv2-tests files` writes both files
//! anew; review them (`tcpdump -nvr`) before committing.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use bmv2_tests::balancer::{self, Balancer, wait};
use bmv2_tests::config::{Attachment, Config, Interface, Protocol, SESSIONS, Service};
use bmv2_tests::netns;
use bmv2_tests::packet::{Ends, Packet, flag, proto, toa_option};
use bmv2_tests::pcap::{self, Record};
use bmv2_tests::topology::{BALANCER_BACK, Dual, RAW_CLIENT, ROUTER_BACK, SERVERS};
use nix::sys::signal::Signal;

/// The user and group that nothing belongs to.
const NOBODY: u32 = 65_534;
/// What `net_pcap` gives its first port.
const BALANCER_MAC: [u8; 6] = [0x02, b'p', b'c', b'a', b'p', 0];
const ROUTER_MAC: [u8; 6] = [0x02, 0xca, 0, 0, 1, 0xfe];
const ROUTER_MAC_TEXT: &str = "02:ca:00:00:01:fe";
const VIP: Dual =
    Dual { v4: std::net::Ipv4Addr::new(10, 20, 0, 100), v6: std::net::Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 0x100) };
const HTTP: u16 = 80;
const ECHO: u16 = 53;
const SERVERLESS: u16 = 81;

/// One arm on a pair of files; neighbours are given, since nobody answers; the seed makes hashes and ports repeatable.
fn config(dir: &Path) -> Config {
    let file = |name: &str| dir.join(name).display().to_string();
    let neighbors = ROUTER_BACK.both().map(|ip| (ip, ROUTER_MAC_TEXT.to_owned())).to_vec();
    let one_server = |name: &str, protocol, vip: IpAddr, port| Service::new(name, protocol, vip, port).weights(&[1]);
    Config {
        workers: 1,
        sessions: SESSIONS,
        switch: None,
        interfaces: vec![Interface {
            name: "files".to_owned(),
            at: Attachment::Device(format!("pcap:{},{}", file("in.pcap"), file("out.pcap"))),
            addr: BALANCER_BACK,
            gateway: Some(ROUTER_BACK),
            neighbors,
        }],
        services: vec![
            one_server("http", Protocol::Tcp, VIP.v4.into(), HTTP).with_toa(),
            one_server("http6", Protocol::Tcp, VIP.v6.into(), HTTP).with_toa(),
            one_server("echo", Protocol::Udp, VIP.v4.into(), ECHO),
            one_server("echo6", Protocol::Udp, VIP.v6.into(), ECHO),
            Service::new("serverless", Protocol::Tcp, VIP.v4.into(), SERVERLESS).weights(&[0]),
        ],
        socket: file("admin.sock"),
        file_prefix: dir.file_name().and_then(|name| name.to_str()).expect("a name of ours").to_owned(),
        seed: Some(1),
        ports: None,
        more: String::new(),
    }
}

/// What became of a file of frames.
struct Run {
    sent: Vec<Vec<u8>>,
    drops: BTreeMap<String, u64>,
}

/// Runs the balancer over the frames until it has taken all.
fn run_over(input: &[Vec<u8>]) -> Run {
    let dir = netns::work_dir(&netns::unique_prefix());
    fs::create_dir_all(&dir).unwrap();
    let records: Vec<_> = input.iter().map(|frame| Record { time: Duration::ZERO, frame: frame.clone() }).collect();
    pcap::write(&dir.join("in.pcap"), &records).unwrap();
    // The build directory may be one that only its owner can enter.
    fs::copy(balancer::binary().unwrap(), dir.join("carom")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if nix::unistd::geteuid().is_root() {
        chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]);
    }
    command.arg("--").arg(dir.join("carom"));
    let balancer = Balancer::spawn(command, &dir, &config(&dir)).unwrap();
    balancer.wait_until_ready().unwrap();
    let taken = || balancer.total("rx_packets").unwrap() == input.len() as u64;
    assert!(wait(Duration::from_secs(20), taken), "took {:?} of {}", balancer.total("rx_packets"), input.len());
    // Announcements are spread over the first milliseconds.
    let sent = || balancer.total("tx_packets").unwrap();
    let mut before = None;
    while before != Some(sent()) {
        before = Some(sent());
        thread::sleep(Duration::from_millis(500));
    }
    let drops = balancer.drops().unwrap();
    let (status, _) = balancer.stop(Signal::SIGTERM).unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    let sent = pcap::read(&dir.join("out.pcap")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    Run { sent: announcements_last(sent.into_iter().map(|record| record.frame).collect()), drops }
}

/// The balancer announces its addresses when it starts, in no particular order and at its leisure: each announcement
/// once, sorted, behind everything else.
fn announcements_last(frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let all_nodes = [0x33, 0x33, 0, 0, 0, 1];
    let is_announcement = |frame: &Vec<u8>| frame.starts_with(&[0xff; 6]) || frame.starts_with(&all_nodes);
    let (mut announcements, mut frames): (Vec<_>, Vec<_>) = frames.into_iter().partition(is_announcement);
    announcements.sort();
    announcements.dedup();
    frames.extend(announcements);
    frames
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn answers_are_those_of_the_golden_file() {
    if !Path::new("/usr/bin/setpriv").exists() {
        bmv2_tests::target::skip("setpriv (util-linux) is not installed");
        return;
    }
    let (input, output) = (golden("slowpath-in.pcap"), golden("slowpath-out.pcap"));
    if std::env::var_os("CAROM_BLESS").is_some() {
        bless(&input, &output);
    }
    let frames = |path: &Path| -> Vec<Vec<u8>> { pcap::read(path).unwrap().into_iter().map(|it| it.frame).collect() };
    let Run { sent, drops } = run_over(&frames(&input));
    let expected = frames(&output);
    for (i, (sent, expected)) in sent.iter().zip(&expected).enumerate() {
        let decoded = (Packet::parse(sent), Packet::parse(expected));
        assert_eq!(sent, expected, "frame {}: sent and expected: {decoded:#?}", i + 1);
    }
    assert_eq!(sent.len(), expected.len());
    for packet in sent.iter().filter_map(|frame| Packet::parse(frame)) {
        assert!(packet.ip_checksum_ok() && packet.l4_checksum_ok(), "{packet:?}");
        assert!(packet.quoted().is_none_or(|quoted| quoted.ip_checksum_ok), "{packet:?}");
    }
    let expected = [
        ("bad_ip_checksum", 1),
        ("bad_ip_header", 1),
        ("fragment", 2),
        ("ip_options", 1),
        ("no_server", 1),
        ("no_service", 2),
        ("no_session", 2),
        ("not_our_mac", 1),
        ("truncated", 1),
        ("ttl_exceeded", 2),
    ];
    assert_eq!(drops, expected.map(|(reason, count)| (reason.to_owned(), count)).into());
}

/// Writes both golden files.
fn bless(input: &Path, output: &Path) {
    // What opens sessions comes first, alone: the balancer's choice of local ports is known only afterwards.
    let opened = run_over(&script(None)).sent;
    let frames = script(Some(&Chosen::from(&opened)));
    let sent = run_over(&frames).sent;
    let record = |(i, frame): (usize, Vec<u8>)| Record { time: Duration::from_millis(i as u64), frame };
    pcap::write(input, &frames.into_iter().enumerate().map(record).collect::<Vec<_>>()).unwrap();
    pcap::write(output, &sent.into_iter().enumerate().map(record).collect::<Vec<_>>()).unwrap();
}

/// Which local address and port the balancer chose for each opening packet, in the order of [`openers`].
struct Chosen(Vec<SocketAddr>);

impl Chosen {
    /// Reads the choices from what the balancer made of the opening packets. Their order holds within a family only.
    fn from(sent: &[Vec<u8>]) -> Self {
        let to_server = |p: &Packet| SERVERS.iter().any(|server| server.both().contains(&p.dst()));
        let mut sent: Vec<_> = sent.iter().filter_map(|frame| Packet::parse(frame)).filter(to_server).collect();
        let mut take = |opener: Packet| {
            let same_kind = |p: &Packet| (p.is_v4(), p.protocol()) == (opener.is_v4(), opener.protocol());
            let found = sent.remove(sent.iter().position(same_kind).expect("each opening packet goes on"));
            SocketAddr::new(found.src(), found.sport())
        };
        Chosen(openers().into_iter().map(&mut take).collect())
    }
}

/// A flow as seen behind the router, in either direction.
fn ends(src: (IpAddr, u16), dst: (IpAddr, u16)) -> Ends {
    Ends { macs: (ROUTER_MAC, BALANCER_MAC), src, dst, ttl: 60 }
}

fn from_client(family: usize, cport: u16, vport: u16) -> Ends {
    ends((RAW_CLIENT.both()[family], cport), (VIP.both()[family], vport))
}

fn from_server(chosen: SocketAddr, rport: u16) -> Ends {
    ends((SERVERS[0].both()[usize::from(chosen.is_ipv6())], rport), (chosen.ip(), chosen.port()))
}

/// Sequence numbers of client and server before their SYN.
const CLIENT_ISN: u32 = 0xffff_fff0;
const SERVER_ISN: u32 = 0x7000_0000;
const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];

/// One packet for each session, in an order that is kept. The client's sequence numbers wrap.
fn openers() -> Vec<Packet> {
    let forged = toa_option(4711, "192.0.2.1".parse().unwrap());
    vec![
        from_client(0, 4000, HTTP).tcp(CLIENT_ISN, 0, flag::SYN, &MSS, &[]),
        from_client(1, 4000, HTTP).tcp(CLIENT_ISN, 0, flag::SYN, &MSS, &[]),
        from_client(0, 4001, ECHO).udp(b"question"),
        from_client(1, 4001, ECHO).udp(b"question"),
        from_client(0, 4002, HTTP).tcp(CLIENT_ISN, 0, flag::SYN, &[&MSS[..], &forged].concat(), &[]),
    ]
}

/// All frames of the run; without the balancer's choices only the opening ones.
fn script(chosen: Option<&Chosen>) -> Vec<Vec<u8>> {
    let mut packets = openers();
    if let Some(Chosen(chosen)) = chosen {
        connection(&mut packets, chosen[0], 4000);
        connection(&mut packets, chosen[1], 4000);
        answers(&mut packets, chosen);
        refused(&mut packets);
        errors(&mut packets, chosen);
    }
    let mut frames: Vec<_> = packets.into_iter().map(|packet| packet.bytes().to_vec()).collect();
    if chosen.is_some() {
        frames.extend(asked_and_malformed());
    }
    frames
}

/// The rest of a connection after its SYN: handshake, request, answer, and both FINs.
fn connection(packets: &mut Vec<Packet>, chosen: SocketAddr, cport: u16) {
    let client = from_client(usize::from(chosen.is_ipv6()), cport, HTTP);
    let server = from_server(chosen, HTTP);
    let (request, answer) = (b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"HTTP/1.1 200 OK\r\n\r\n".as_slice());
    let (c1, s1) = (CLIENT_ISN.wrapping_add(1), SERVER_ISN + 1);
    let (c2, s2) = (c1.wrapping_add(request.len() as u32), s1 + answer.len() as u32);
    let (c3, s3) = (c2.wrapping_add(1), s2 + 1);
    let (ack, psh, fin) = (flag::ACK, flag::ACK | flag::PSH, flag::ACK | flag::FIN);
    packets.extend([
        server.tcp(SERVER_ISN, c1, flag::SYN | ack, &MSS, &[]),
        client.tcp(c1, s1, ack, &[], &[]),
        client.tcp(c1, s1, psh, &toa_option(4711, "192.0.2.1".parse().unwrap()), request),
        server.tcp(s1, c2, psh, &[], answer),
        client.tcp(c2, s2, ack, &[], &[]),
        client.tcp(c2, s2, fin, &[], &[]),
        server.tcp(s2, c3, fin, &[], &[]),
        client.tcp(c3, s3, ack, &[], &[]),
    ]);
}

/// UDP answers, and a connection that the real server refuses.
fn answers(packets: &mut Vec<Packet>, chosen: &[SocketAddr]) {
    packets.extend(chosen[2..4].iter().map(|&local| from_server(local, ECHO).udp(b"answer")));
    let reset = flag::RST | flag::ACK;
    packets.push(from_server(chosen[4], HTTP).tcp(0, CLIENT_ISN.wrapping_add(1), reset, &[], &[]));
}

/// What the real server and the router say about packets of the UDP sessions. ICMP is looked at before the other
/// packets of its burst, so this must come more than a burst after what opens the sessions.
fn errors(packets: &mut Vec<Packet>, chosen: &[SocketAddr]) {
    assert!(packets.len() > 32, "ICMP errors in the burst that opens the sessions");
    for &local in &chosen[2..4] {
        let server = from_server(local, ECHO);
        // The packet that the balancer sent, as the real server saw it.
        let seen = Ends { src: server.dst, dst: server.src, ttl: 58, ..server }.udp(b"question");
        let (kind, code, protocol) = if local.is_ipv4() { (3, 3, proto::ICMP) } else { (1, 4, proto::ICMPV6) };
        let unreachable = [&[kind, code, 0, 0, 0, 0, 0, 0], &seen.bytes()[14..]].concat();
        packets.push(server.ip(protocol, &unreachable));
        let (kind, code) = if local.is_ipv4() { (3, 4) } else { (2, 0) };
        let too_big = [&[kind, code, 0, 0, 0, 0, 0x05, 0x78], &seen.bytes()[14..]].concat();
        let router = (ROUTER_BACK.both()[usize::from(local.is_ipv6())], 0);
        packets.push(Ends { src: router, ..server }.ip(protocol, &too_big));
    }
}

/// Packets that get no further than the balancer, most with an answer.
fn refused(packets: &mut Vec<Packet>) {
    for family in [0, 1] {
        packets.push(Ends { ttl: 1, ..from_client(family, 4003, ECHO) }.udp(b"too far"));
        packets.push(from_client(family, 4004, 9999).udp(b"nobody"));
        packets.push(from_client(family, 4005, HTTP).tcp(1, 1, flag::ACK, &[], b"no session"));
        let (request, protocol) = if family == 0 { (8, proto::ICMP) } else { (128, proto::ICMPV6) };
        let echo = [&[request, 0, 0, 0, 0x12, 0x34, 0, 1], b"ping".as_slice()].concat();
        packets.push(from_client(family, 0, 0).ip(protocol, &echo));
    }
    packets.push(from_client(0, 4006, SERVERLESS).tcp(CLIENT_ISN, 0, flag::SYN, &MSS, &[]));
}

/// ARP and neighbour discovery for the VIP, and frames that are wrong in one way each.
fn asked_and_malformed() -> Vec<Vec<u8>> {
    let arp = |target: std::net::Ipv4Addr| {
        let head = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
        [&[0xff; 6][..], &ROUTER_MAC, &head, &ROUTER_MAC, &ROUTER_BACK.v4.octets(), &[0; 6], &target.octets()].concat()
    };
    // RFC 4291 section 2.7.1: the solicited-node group of the VIP, and its MAC address.
    let group = "ff02::1:ff00:100".parse().unwrap();
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &VIP.v6.octets(), &[1, 1], &ROUTER_MAC].concat();
    let asked = Ends {
        macs: (ROUTER_MAC, [0x33, 0x33, 0xff, 0, 0x01, 0]),
        src: (ROUTER_BACK.v6.into(), 0),
        dst: (group, 0),
        ttl: 255,
    };
    let good = from_client(0, 4007, ECHO).udp(b"question").bytes().to_vec();
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    // Changes that leave the IPv4 header checksum right. The flags are at 20, the offset at 21, and DF is set in `good`.
    let valid = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        frame[24..26].fill(0);
        let header = 14 + usize::from(frame[14] & 0xf) * 4;
        // The IPv4 header checksum is computed as the one of an ICMP message is.
        let check = Packet::icmp_v4_checksum(&frame[14..header]);
        frame[24..26].copy_from_slice(&check.to_be_bytes());
        frame
    };
    vec![
        arp(VIP.v4),
        arp(std::net::Ipv4Addr::new(10, 20, 0, 99)),
        asked.ip(proto::ICMPV6, &solicitation).bytes().to_vec(),
        // Another host's MAC address; an IP version that is none; a wrong header checksum; cut in the middle.
        changed(5, 0x77),
        changed(14, 0x55),
        changed(24, good[24] ^ 1),
        good[..30].to_vec(),
        // A first and a last fragment; an option of four NOPs, which makes five words six.
        valid(&|frame| frame[20] = 0x20),
        valid(&|frame| frame[20..22].copy_from_slice(&[0, 8])),
        valid(&|frame| {
            frame[14] = 0x46;
            frame[17] += 4;
            frame.splice(34..34, [1; 4]);
        }),
    ]
}
