//! Fuzz targets: what must hold for any bytes a network can send. Each is an ordinary function that panics when
//! something does not hold, so that any engine can drive it (cargo-fuzz: `fuzz_target!(|data: &[u8]|
//! fullnat::fuzzing::rewrite(data))`). The tests below run them over the corpus in `fuzz-corpus/` and mutations of it.
//!
//! Inputs of all but [`forward`], which has a format of its own, start with a fixed number of bytes for the operation's arguments; the rest is the frame. A frame is tried as
//! it is, and with its IPv4 header checksum put right, which a fuzzer would not find.

mod forward;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use self::forward::{SERVERS, VIP, forward};

use crate::addr::Addr;
use crate::flow::{FlowKey, Rewrite};
use crate::frame::{Frame, HeapFrame};
use crate::id::{CPort, NexthopId, Proto};
use crate::wire::icmp::{self, IcmpPacket, Message};
use crate::wire::reply::{self, IcmpError};
use crate::wire::testing::{plain_sum, verify};
use crate::wire::{Flow, Mac, Packet, arp, ethernet, icmp_error, ndp, parse as parse_frame, tcp, toa};

/// A target: any bytes in, a panic when something is wrong.
pub type Target = fn(&[u8]);

/// All targets with the names of their corpus directories.
pub const TARGETS: &[(&str, Target)] = &[
    ("parse", parse),
    ("rewrite", rewrite),
    ("toa_strip_insert", toa_strip_insert),
    ("icmp_translate", icmp_translate),
    ("neighbor", neighbor),
    ("reply", reply),
    ("forward", forward),
];

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Calls `check` with a frame as it is, and with its IPv4 header checksum right.
fn both(frame: &[u8], check: impl Fn(&[u8])) {
    check(frame);
    if frame.len() >= 34 && frame[12..15] == [8, 0, 0x45] {
        let mut frame = frame.to_vec();
        frame[24..26].fill(0);
        let sum = !plain_sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        check(&frame);
    }
}

/// Arguments read from the front of an input.
struct Args<'a>(&'a [u8]);

impl<'a> Args<'a> {
    /// Splits an input; None when it is shorter than its arguments.
    fn split(data: &'a [u8], len: usize) -> Option<(Self, &'a [u8])> {
        data.split_at_checked(len).map(|(args, frame)| (Args(args), frame))
    }

    fn addr<A: Addr>(&mut self) -> A {
        let (addr, rest) = self.0.split_at(16);
        self.0 = rest;
        A::read(addr)
    }

    fn word(&mut self) -> u16 {
        let (word, rest) = self.0.split_at(2);
        self.0 = rest;
        u16::from_be_bytes([word[0], word[1]])
    }

    fn key<A: Addr>(&mut self, proto: Proto) -> FlowKey<A> {
        FlowKey { src: self.addr(), dst: self.addr(), sport: self.word(), dport: self.word(), proto }
    }
}

/// Length of a key among the arguments.
const KEY: usize = 36;

/// Any frame: offsets of a view are inside it and in order, and accessors agree with it.
pub fn parse(data: &[u8]) {
    fn check<A: Addr>(frame: &[u8], flow: &Flow<A>) {
        let header = if A::IS_V6 { 54 } else { 34 };
        assert_eq!(flow.l4(), header);
        assert!(flow.l4() < flow.payload && flow.payload <= flow.end && usize::from(flow.end) <= frame.len());
        assert_eq!(flow.payload_len(), flow.end - flow.payload);
        if flow.key.proto == Proto::Tcp {
            let segment = tcp::segment(frame, flow);
            assert_eq!(segment.seq_end().wrapping_sub(segment.seq), segment.seq_len());
            assert_eq!(tcp::option_bytes(frame, flow).len(), usize::from(flow.payload - flow.l4()) - tcp::LEN);
        }
    }
    both(data, |frame| match parse_frame(frame) {
        Ok(Packet::V4(flow)) => check(frame, &flow),
        Ok(Packet::V6(flow)) => check(frame, &flow),
        Ok(Packet::Icmp4(packet)) => assert!(usize::from(packet.end) <= frame.len() && packet.l4 + 8 <= packet.end),
        Ok(Packet::Icmp6(packet)) => assert!(usize::from(packet.end) <= frame.len() && packet.l4 + 8 <= packet.end),
        Ok(Packet::Arp(packet)) => assert!(packet.sender_mac.is_host()),
        Err(_) => {}
    });
}

/// Arguments: a key. Rewriting gives a packet that parses as rewritten, with checksums as wrong as before.
pub fn rewrite(data: &[u8]) {
    fn check<A: Addr>(frame: &[u8], flow: Flow<A>, to: FlowKey<A>) {
        let mut rewritten = frame.to_vec();
        let rewrite = Rewrite { src: to.src, dst: to.dst, sport: to.sport, dport: to.dport, nexthop: NexthopId(0) };
        crate::wire::rewrite::apply(&mut rewritten, &flow, &rewrite);
        assert_eq!(verify(&rewritten), verify(frame));
        let back = Flow { key: to, ttl: flow.ttl.saturating_sub(1), ..flow };
        let rewrite =
            Rewrite { src: flow.key.src, dst: flow.key.dst, sport: flow.key.sport, dport: flow.key.dport, ..rewrite };
        crate::wire::rewrite::apply(&mut rewritten, &back, &rewrite);
        assert_eq!(verify(&rewritten), verify(frame));
        assert_eq!(rewritten[..14], frame[..14]);
        assert_eq!(rewritten[26..usize::from(flow.l4()) + 4], frame[26..usize::from(flow.l4()) + 4]);
        assert_eq!(rewritten[usize::from(flow.payload)..], frame[usize::from(flow.payload)..]);
    }
    let Some((mut args, frame)) = Args::split(data, KEY) else { return };
    let args = (args.key(Proto::Tcp), Args(&data[..KEY]).key(Proto::Tcp));
    both(frame, |frame| match parse_frame(frame) {
        Ok(Packet::V4(flow)) => check(frame, flow, FlowKey { proto: flow.key.proto, ..args.0 }),
        Ok(Packet::V6(flow)) => check(frame, flow, FlowKey { proto: flow.key.proto, ..args.1 }),
        _ => {}
    });
}

/// Arguments: an address, a port, an MTU. After stripping no reader finds the option; after inserting it finds ours;
/// checksums are as wrong as before.
pub fn toa_strip_insert(data: &[u8]) {
    fn check<A: Addr>(frame: &[u8], mut flow: Flow<A>, mut args: Args<'_>) {
        let (client, port, mtu) = (args.addr::<A>(), args.word(), args.word());
        let mut buffer = HeapFrame::new(frame);
        toa::strip(buffer.bytes_mut(), &flow);
        assert_eq!(toa::decode(tcp::option_bytes(buffer.bytes(), &flow)), None);
        assert_eq!(verify(buffer.bytes()), verify(frame));
        let (stripped, before) = (buffer.clone(), flow);
        match toa::insert(&mut buffer, &mut flow, (client, CPort(port)), mtu) {
            Ok(()) => {
                let said = toa::decode(tcp::option_bytes(buffer.bytes(), &flow));
                assert_eq!(said, Some((client.into(), port).into()));
                assert!(flow.ip_len() <= mtu);
                assert_eq!(flow.payload_len(), before.payload_len());
            }
            Err(_) => assert_eq!((&buffer, flow), (&stripped, before)),
        }
        assert_eq!(verify(buffer.bytes()), verify(frame));
        assert_eq!(buffer.bytes()[usize::from(flow.payload)..], frame[usize::from(before.payload)..]);
        tcp::lower_mss(buffer.bytes_mut(), &flow, port);
        assert_eq!(verify(buffer.bytes()), verify(frame));
    }
    let Some((Args(args), frame)) = Args::split(data, 20) else { return };
    both(frame, |frame| match parse_frame(frame) {
        Ok(Packet::V4(flow)) => check(frame, flow, Args(args)),
        Ok(Packet::V6(flow)) => check(frame, flow, Args(args)),
        _ => {}
    });
}

/// Arguments: the key inside, the addresses outside, how much to take off the MTU. The translated error is about the
/// new key, with checksums as wrong as before.
pub fn icmp_translate(data: &[u8]) {
    fn check<A: Addr>(frame: &[u8], packet: IcmpPacket<A>, mut args: Args<'_>) {
        let Ok(Message::Error(quote)) = icmp::message(frame, &packet) else { return };
        let inner: FlowKey<A> = args.key(quote.key.proto);
        let (src, dst) = (args.addr(), args.addr());
        let mut translated = frame.to_vec();
        icmp_error::translate(&mut translated, &packet, &quote, (src, dst), &inner, args.word());
        assert_eq!(verify(&translated), verify(frame));
        let packet = IcmpPacket { src, dst, ttl: packet.ttl.saturating_sub(1), ..packet };
        let Ok(Message::Error(again)) = icmp::message(&translated, &packet) else { panic!("it was one before") };
        assert_eq!((again.key, again.seq, again.l4), (inner, quote.seq, quote.l4));
        assert!(again.mtu <= quote.mtu);
    }
    let Some((Args(args), frame)) = Args::split(data, KEY + 32 + 2) else { return };
    both(frame, |frame| match parse_frame(frame) {
        Ok(Packet::Icmp4(packet)) => check(frame, packet, Args(args)),
        Ok(Packet::Icmp6(packet)) => check(frame, packet, Args(args)),
        _ => {}
    });
}

/// ARP and neighbour discovery: whatever is accepted can be answered, and the answer is right.
pub fn neighbor(data: &[u8]) {
    let mut buffer = HeapFrame::new(data);
    match parse_frame(data) {
        Ok(Packet::Arp(request)) => {
            assert!(arp::reply(&mut buffer, &request, MAC));
            assert_eq!(ethernet::destination(buffer.bytes()), request.sender_mac);
            if let Ok(Packet::Arp(reply)) = parse_frame(buffer.bytes()) {
                assert_eq!((reply.sender, reply.sender_mac, reply.target), (request.target, MAC, request.sender));
            }
        }
        Ok(Packet::Icmp6(packet)) => {
            if let Ok(ndp::Neighbor::Solicitation { from, target, .. }) = ndp::parse(data, &packet) {
                assert!(ndp::reply(&mut buffer, from, target, MAC));
                assert_eq!(verify(buffer.bytes()), Ok(()));
            }
        }
        _ => {}
    }
}

/// Echo replies, resets and ICMP errors: right in all checksums, and back to the sender.
pub fn reply(data: &[u8]) {
    fn flow_replies<A: Addr>(frame: &[u8], flow: Flow<A>) {
        let mut buffer = HeapFrame::new(frame);
        if reply::tcp_reset(&mut buffer, &flow, MAC).is_ok() {
            assert_eq!(verify(buffer.bytes()), Ok(()));
        }
        let mut buffer = HeapFrame::new(frame);
        if reply::icmp_error(&mut buffer, IcmpError::TooBig { mtu: 1300 }, flow.key.dst, MAC).is_ok() {
            assert_eq!(verify(buffer.bytes()), Ok(()));
            assert_eq!(ethernet::destination(buffer.bytes()), ethernet::source(frame));
        }
    }
    fn echo<A: Addr>(frame: &[u8], packet: IcmpPacket<A>) {
        if icmp::message(frame, &packet) == Ok(Message::EchoRequest) && packet.code == 0 {
            let mut answer = frame.to_vec();
            reply::echo(&mut answer, &packet, MAC);
            assert_eq!(verify(&answer), verify(frame));
        }
    }
    both(data, |frame| {
        let _ = reply::icmp_error(&mut HeapFrame::new(frame), IcmpError::TimeExceeded, Ipv4Addr::LOCALHOST, MAC);
        let _ = reply::icmp_error(&mut HeapFrame::new(frame), IcmpError::TimeExceeded, Ipv6Addr::LOCALHOST, MAC);
        match parse_frame(frame) {
            Ok(Packet::V4(flow)) => flow_replies(frame, flow),
            Ok(Packet::V6(flow)) => flow_replies(frame, flow),
            Ok(Packet::Icmp4(packet)) => echo(frame, packet),
            Ok(Packet::Icmp6(packet)) => echo(frame, packet),
            _ => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;
    use std::path::Path;

    /// Flips, overwrites, cuts, repeats or inserts some bytes.
    fn mutate(rng: &mut Rng, data: &mut Vec<u8>) {
        for _ in 0..=rng.below(4) {
            let at = rng.below(data.len() + 1);
            match rng.below(6) {
                0 if at < data.len() => data[at] ^= 1 << rng.below(8),
                1 if at < data.len() => data[at] = *rng.pick(&[0, 1, 2, 8, 20, 254, 255]),
                2 if at < data.len() => data[at] = rng.below(256) as u8,
                3 => data.truncate(at),
                4 => data.insert(at, rng.below(256) as u8),
                _ => data.extend_from_within(at..),
            }
        }
        data.truncate(4096);
    }

    fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz-corpus").join(target);
        let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let mut corpus: Vec<_> = files
            .map(|file| file.unwrap().path())
            .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
            .collect();
        corpus.sort();
        assert!(!corpus.is_empty(), "no seeds for {target}");
        corpus
    }

    /// Runs a target, and names the input when it panics.
    fn run(target: Target, name: &str, data: &[u8]) {
        if let Err(panic) = std::panic::catch_unwind(|| target(data)) {
            eprintln!("{name}: {data:02x?}");
            std::panic::resume_unwind(panic);
        }
    }

    #[test]
    fn the_corpus_passes() {
        for (name, target) in TARGETS {
            for (file, data) in corpus(name) {
                run(*target, &file, &data);
            }
        }
    }

    #[test]
    fn mutations_of_the_corpus_pass() {
        let mut rng = Rng::new(0x5eed);
        for (name, target) in TARGETS {
            for (file, seed) in corpus(name) {
                for _ in 0..2000 {
                    let mut data = seed.clone();
                    mutate(&mut rng, &mut data);
                    run(*target, &file, &data);
                }
            }
        }
    }
}
