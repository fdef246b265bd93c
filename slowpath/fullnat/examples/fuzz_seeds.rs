//! Writes the seeds of the fuzz targets to `fuzz-corpus/`: one frame of each kind that a target treats differently.
//! `cargo run -p fullnat --example fuzz_seeds --features testing`; inputs that once failed are added there by hand.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use fullnat::addr::Addr;
use fullnat::flow::FlowKey;
use fullnat::frame::{Frame, HeapFrame};
use fullnat::fuzzing;
use fullnat::id::Proto;
use fullnat::wire::testing::{self, Build};
use fullnat::wire::{Mac, TcpFlags, arp, ndp};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
const LINUX_SYN: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
const SACKS: [u8; 32] =
    [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
const FORGED_TOA: [u8; 12] = [1, 254, 8, 0, 80, 10, 0, 0, 1, 1, 2, 0];

/// Frames of one family, by name.
struct Seeds {
    flows: Vec<(&'static str, Vec<u8>)>,
    errors: Vec<(&'static str, Vec<u8>)>,
    echo: Vec<u8>,
}

fn seeds<A: Addr>(key: FlowKey<A>, types: [u8; 4]) -> Seeds {
    let tcp = |flags, options: &[u8]| Build::new(key).flags(flags).options(options).payload(b"data");
    let udp = Build::new(FlowKey { proto: Proto::Udp, ..key }).payload(b"query");
    let [echo, unreachable, too_big, exceeded] = types;
    let error = |kind: u8, code, about: &Build<A>, cut: usize| {
        let about = about.bytes();
        let ip = &about[14..];
        let header = if A::IS_V6 { 40 } else { 20 };
        testing::icmp(key.dst, key.src, 60, (kind, code), [0, 0, 5, 0xdc], &ip[..ip.len().min(header + cut)])
    };
    let plain = tcp(TcpFlags::ACK, &TIMESTAMPS);
    // "Fragmentation needed" is a code of "unreachable" in IPv4 and a type of its own in IPv6.
    let too_big_code = if A::IS_V6 { 0 } else { 4 };
    Seeds {
        flows: vec![
            ("syn", tcp(TcpFlags::SYN, &LINUX_SYN).bytes()),
            ("timestamps", plain.bytes()),
            ("sack", tcp(TcpFlags::ACK, &SACKS).bytes()),
            ("forged_toa", tcp(TcpFlags::ACK, &FORGED_TOA).bytes()),
            ("malformed_options", tcp(TcpFlags::ACK, &[3, 3, 7, 254, 99, 254, 0, 254]).bytes()),
            ("padded_options", tcp(TcpFlags::ACK, &[1; 40]).bytes()),
            ("fin_padded", tcp(TcpFlags::FIN | TcpFlags::ACK, &[]).padding(6).bytes()),
            ("corrupt", tcp(TcpFlags::ACK, &[]).checksum_error(3).bytes()),
            ("udp", udp.bytes()),
            ("udp_no_checksum", udp.clone().no_checksum().bytes()),
        ],
        errors: vec![
            ("unreachable_tcp_8", error(unreachable, 1, &plain, 8)),
            ("too_big_tcp", error(too_big, too_big_code, &plain, 100)),
            ("exceeded_udp", error(exceeded, 0, &udp, 100)),
            ("exceeded_udp_no_checksum", error(exceeded, 0, &udp.clone().no_checksum(), 8)),
            ("too_big_cut", error(too_big, too_big_code, &plain, 7)),
        ],
        echo: testing::icmp(key.src, key.dst, 64, (echo, 0), [0, 1, 0, 2], b"ping"),
    }
}

fn neighbors() -> Vec<(&'static str, Vec<u8>)> {
    let made = |make: &dyn Fn(&mut HeapFrame) -> bool| {
        let mut frame = HeapFrame::new(&[]);
        assert!(make(&mut frame), "a new buffer has room");
        frame.bytes().to_vec()
    };
    let (a4, b4) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let (a6, b6) = (Ipv6Addr::from_bits(0xfe80 << 112 | 1), Ipv6Addr::from_bits(0xfe80 << 112 | 2));
    vec![
        ("arp_request", made(&|frame| arp::request(frame, Mac::BROADCAST, (MAC, a4), b4))),
        ("arp_announcement", made(&|frame| arp::announce(frame, MAC, a4))),
        ("arp_probe", made(&|frame| arp::request(frame, Mac::BROADCAST, (MAC, Ipv4Addr::UNSPECIFIED), b4))),
        ("solicitation", made(&|frame| ndp::solicit(frame, None, (MAC, a6), b6))),
        ("solicitation_unicast", made(&|frame| ndp::solicit(frame, Some(MAC), (MAC, a6), b6))),
        ("advertisement", made(&|frame| ndp::reply(frame, a6, b6, MAC))),
        ("announcement", made(&|frame| ndp::announce(frame, MAC, a6))),
    ]
}

/// One record of the target `forward`: what it is and where, and its bytes.
fn frame_record(iface: u8, worker: u8, frame: &[u8]) -> Vec<u8> {
    [&[iface | worker << 1][..], &(frame.len() as u16).to_be_bytes(), frame].concat()
}

/// The last frame that left by the interface is answered with these flags.
fn answer_record(iface: u8, worker: u8, flags: u8) -> Vec<u8> {
    vec![2 << 3 | iface | worker << 1, flags]
}

/// A router sends an error of this type and code about the last frame that left by the interface.
fn error_record(iface: u8, worker: u8, kind: u8, code: u8) -> Vec<u8> {
    vec![1 << 3 | iface | worker << 1, kind, code]
}

/// So many units of 16 ms pass.
fn pause_record(units: u16) -> Vec<u8> {
    [&[3 << 3][..], &units.to_be_bytes()].concat()
}

/// Sequences for the target `forward`: what happens to connections in one family.
fn sequences<A: Addr>(tcp: FlowKey<A>, types: [u8; 4]) -> Vec<(&'static str, Vec<u8>)> {
    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;
    const FIN_ACK: u8 = 0x11;
    const RST_ACK: u8 = 0x14;
    let seeds = seeds(tcp, types);
    let syn = |n: u16| {
        let key = FlowKey { sport: tcp.sport + n, ..tcp };
        frame_record(0, n as u8 % 3, &Build::new(key).flags(TcpFlags::SYN).options(&LINUX_SYN).bytes())
    };
    let datagram = |n: u8| {
        let udp = Build::new(FlowKey { proto: Proto::Udp, ..tcp }).payload(&[n; 20]);
        frame_record(0, n % 3, &udp.bytes())
    };
    let handshake = [syn(0), answer_record(1, 1, SYN_ACK), answer_record(0, 2, ACK)].concat();
    let [_, unreachable, too_big, exceeded] = types;
    let about = |iface| [(unreachable, 1), (too_big, if A::IS_V6 { 0 } else { 4 }), (exceeded, 0)].map(|e| (iface, e));
    let errors =
        |iface: u8| about(iface).into_iter().flat_map(|(i, (k, c))| error_record(i, k % 3, k, c)).collect::<Vec<_>>();
    let close = [answer_record(1, 0, FIN_ACK), answer_record(0, 1, FIN_ACK), answer_record(1, 2, ACK)].concat();
    let odd = seeds.flows.iter().chain(&seeds.errors).flat_map(|(_, frame)| frame_record(0, 1, frame)).collect();
    vec![
        ("life", [handshake.clone(), close.clone(), pause_record(700), syn(0)].concat()),
        (
            "errors",
            [syn(0), errors(1), answer_record(1, 1, SYN_ACK), errors(0), answer_record(0, 2, ACK), errors(1)].concat(),
        ),
        ("reopen", [handshake.clone(), close, syn(0), answer_record(1, 0, RST_ACK), syn(0)].concat()),
        ("reset", [&handshake[..], &answer_record(1, 2, RST_ACK), &answer_record(0, 0, RST_ACK)].concat()),
        ("many", (0..24).flat_map(syn).chain(pause_record(400)).chain(syn(30)).collect()),
        ("datagrams", (0..8).flat_map(datagram).chain(pause_record(10)).chain(answer_record(1, 0, 0)).collect()),
        ("odd", odd),
        ("echo", [frame_record(0, 0, &seeds.echo), pause_record(1), frame_record(1, 2, &seeds.echo)].concat()),
    ]
}

/// A datagram waits for a server that is asked for, answers, moves, and goes.
fn next_hops() -> Vec<u8> {
    let udp = testing::flow::<Ipv4Addr>("198.51.100.1:1000", "203.0.113.1:80", Proto::Udp);
    let datagrams = (0..6u8).flat_map(|n| {
        let key = FlowKey { sport: udp.sport + u16::from(n), ..udp };
        frame_record(0, n % 3, &Build::new(key).payload(&[n]).bytes())
    });
    let mut announced = HeapFrame::new(&[]);
    assert!(arp::announce(&mut announced, MAC, fuzzing::SERVERS[1].0), "a new buffer has room");
    let announced = frame_record(1, 2, announced.bytes());
    datagrams.chain(pause_record(2)).chain(announced).chain(pause_record(4000)).collect()
}

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz-corpus");
    let write = |target: &str, name: String, args: &[u8], frame: &[u8]| {
        std::fs::create_dir_all(root.join(target))?;
        std::fs::write(root.join(target).join(name), [args, frame].concat())
    };
    let v4 = seeds(testing::flow::<Ipv4Addr>("192.0.2.1:1000", "198.51.100.1:80", Proto::Tcp), [8, 3, 3, 11]);
    let v6 = seeds(testing::flow::<Ipv6Addr>("[2001:db8::1]:1000", "[2001:db8::2]:80", Proto::Tcp), [128, 1, 2, 3]);
    // Arguments of the targets: addresses that are neither zero nor regular, ports, and where there is one an MTU.
    let addr = [0x20, 1, 0xd, 0xb8, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let key = [&addr[..], &addr, &[0x10, 1, 0x1f, 0x90]].concat();
    for (family, seeds) in [("v4", v4), ("v6", v6)] {
        for (name, frame) in &seeds.flows {
            write("parse", format!("{family}_{name}"), &[], frame)?;
            write("reply", format!("{family}_{name}"), &[], frame)?;
            write("rewrite", format!("{family}_{name}"), &key, frame)?;
            let client = [&addr[..], &[0x12, 0x34, 5, 0xdc]].concat();
            write("toa_strip_insert", format!("{family}_{name}"), &client, frame)?;
        }
        for (name, frame) in &seeds.errors {
            write("parse", format!("{family}_{name}"), &[], frame)?;
            let args = [&key[..], &addr, &addr, &[0, 8]].concat();
            write("icmp_translate", format!("{family}_{name}"), &args, frame)?;
        }
        write("reply", format!("{family}_echo"), &[], &seeds.echo)?;
    }
    assert_eq!(fuzzing::VIP.0.to_string(), "203.0.113.1", "as the keys of the sequences have it");
    let key_v4 = testing::flow::<Ipv4Addr>("198.51.100.1:1000", "203.0.113.1:80", Proto::Tcp);
    let key_v6 = testing::flow::<Ipv6Addr>("[2001:db8:2::1]:1000", "[2001:db8:3::1]:80", Proto::Tcp);
    for (name, records) in sequences(key_v4, [8, 3, 3, 11]) {
        write("forward", format!("v4_{name}"), &[], &records)?;
    }
    for (name, records) in sequences(key_v6, [128, 1, 2, 3]) {
        write("forward", format!("v6_{name}"), &[], &records)?;
    }
    write("forward", "next_hops".to_owned(), &[], &next_hops())?;
    for (name, frame) in neighbors() {
        write("parse", name.to_owned(), &[], &frame)?;
        write("neighbor", name.to_owned(), &[], &frame)?;
        write("forward", name.to_owned(), &[], &frame_record(1, 0, &frame))?;
    }
    Ok(())
}
