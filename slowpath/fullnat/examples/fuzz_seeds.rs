//! Writes the seeds of the fuzz targets to `fuzz-corpus/`: one frame of each kind that a target treats differently.
//! `cargo run -p fullnat --example fuzz_seeds --features testing`; inputs that once failed are added there by hand.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use fullnat::addr::Addr;
use fullnat::flow::FlowKey;
use fullnat::frame::{Frame, HeapFrame};
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
    for (name, frame) in neighbors() {
        write("parse", name.to_owned(), &[], &frame)?;
        write("neighbor", name.to_owned(), &[], &frame)?;
    }
    Ok(())
}
