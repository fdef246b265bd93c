//! The vectors on the slow path: its rewrite gives the switch's bytes, its parser the switch's reasons.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use carom_p4::{Punt, SwitchDrop, Tag};
use fullnat::addr::Addr;
use fullnat::flow::{FlowKey, Rewrite};
use fullnat::id::{NexthopId, Proto};
use fullnat::reason::DropReason;
use fullnat::wire::testing::plain_sum;
use fullnat::wire::{Flow, Mac, Packet, ethernet, parse, rewrite};

use crate::file::{self, Entry, Outcome, bytes, hex};

/// A number of an entry.
fn number(map: &std::collections::BTreeMap<String, String>, name: &str) -> u64 {
    u64::from_str_radix(&map[name], 16).expect("hexadecimal")
}

fn address<A: Addr>(map: &std::collections::BTreeMap<String, String>, name: &str) -> A {
    let bytes = if A::IS_V6 {
        [number(map, &format!("{name}_hi")), number(map, &format!("{name}_lo"))].map(u64::to_be_bytes).concat()
    } else {
        (number(map, name) as u32).to_be_bytes().to_vec()
    };
    A::read(&bytes)
}

/// The flow entries of one family whose action the slow path has: all but those that move sequence numbers.
fn rewrites<A: Addr + Hash>(entries: &[Entry]) -> HashMap<FlowKey<A>, Rewrite<A>> {
    let wanted = if A::IS_V6 { "rewrite_v6" } else { "rewrite_v4" };
    let rewrite = |Entry { key, params, .. }: &Entry| {
        let proto = if number(key, "proto") == 6 { Proto::Tcp } else { Proto::Udp };
        let from = FlowKey {
            src: address(key, "src"),
            dst: address(key, "dst"),
            sport: number(key, "sport") as u16,
            dport: number(key, "dport") as u16,
            proto,
        };
        let to = Rewrite {
            src: address(params, "src"),
            dst: address(params, "dst"),
            sport: number(params, "sport") as u16,
            dport: number(params, "dport") as u16,
            nexthop: NexthopId(number(params, "nexthop") as u16),
        };
        (from, to)
    };
    entries.iter().filter(|entry| entry.action == wanted).map(rewrite).collect()
}

/// MAC addresses, destination first, and port of each next hop.
fn nexthops(entries: &[Entry]) -> HashMap<NexthopId, (Mac, Mac, u64)> {
    let mac = |entry: &Entry, name| {
        let [_, _, rest @ ..] = number(&entry.params, name).to_be_bytes();
        Mac(rest)
    };
    let hop = |e: &Entry| {
        let id = NexthopId(number(&e.key, "nexthop") as u16);
        (id, (mac(e, "dmac"), mac(e, "smac"), number(&e.params, "port")))
    };
    entries.iter().filter(|entry| entry.table == "nexthop").map(hop).collect()
}

/// Parses a frame whose IPv4 header checksum may be wrong: the slow path drops such a frame before it would rewrite it.
fn view(frame: &[u8]) -> Packet {
    let mut right = frame.to_vec();
    if parse(frame) == Err(DropReason::BadIpChecksum) {
        right[24..26].fill(0);
        let sum = plain_sum(&right[14..34]);
        right[24..26].copy_from_slice(&(!sum).to_be_bytes());
    }
    parse(&right).expect("a packet of a session")
}

#[test]
fn the_slow_path_rewrites_to_the_same_bytes() {
    let vectors = file::read();
    let (v4, v6) = (rewrites::<Ipv4Addr>(&vectors.entries), rewrites::<Ipv6Addr>(&vectors.entries));
    let hops = nexthops(&vectors.entries);

    /// Applies the rewrite of the packet's session, if the slow path has one like it; its next hop.
    fn apply<A: Addr + Hash>(
        all: &HashMap<FlowKey<A>, Rewrite<A>>,
        frame: &mut [u8],
        flow: &Flow<A>,
    ) -> Option<NexthopId> {
        let found = all.get(&flow.key)?;
        rewrite::apply(frame, flow, found);
        Some(found.nexthop)
    }

    let mut compared = 0;
    for case in &vectors.cases {
        let Outcome::Forward { port, frame: expected } = &case.outcome else { continue };
        let mut frame = bytes(&case.frame);
        let nexthop = match view(&frame) {
            Packet::V4(flow) => apply(&v4, &mut frame, &flow),
            Packet::V6(flow) => apply(&v6, &mut frame, &flow),
            other => panic!("{}: {other:?}", case.name),
        };
        let Some(nexthop) = nexthop else {
            assert!(case.name.contains("numbers moved"), "{}: no session", case.name);
            continue;
        };
        let (dst, src, out) = hops[&nexthop];
        ethernet::set_addresses(&mut frame, dst, src);
        assert_eq!(hex(&frame), *expected, "{}", case.name);
        assert_eq!(out, u64::from(*port), "{}", case.name);
        compared += 1;
    }
    assert!(compared >= 60, "{compared}");
}

#[test]
fn the_slow_path_reads_the_tags_and_finds_the_frame_behind() {
    let mut seen = std::collections::HashSet::new();
    for case in file::read().cases {
        let Outcome::Punt { why, frame, .. } = case.outcome else { continue };
        let frame = bytes(&frame);
        let tag = Tag::read(&frame).expect("a tag");
        assert_eq!((tag.why.name(), tag.ingress_port), (why.as_str(), case.port), "{}", case.name);
        assert_eq!(hex(&[&frame[..12], &frame[16..]].concat()), case.frame, "{}", case.name);
        seen.insert(tag.why);
    }
    assert_eq!(seen.len(), Punt::ALL.len(), "a reason without a case");
}

#[test]
fn the_slow_path_would_drop_malformed_frames_for_the_same_reason() {
    let mut seen = std::collections::HashSet::new();
    for case in file::read().cases {
        let Outcome::Drop(reason) = case.outcome else { continue };
        let known = SwitchDrop::ALL.iter().find(|r| r.name() == reason).expect("a reason");
        seen.insert(*known);
        // From 16 on it is not the frame that is wrong.
        if (*known as u8) < 16 {
            assert_eq!(parse(&bytes(&case.frame)).map_err(|r| r.name()), Err(reason.as_str()), "{}", case.name);
        }
    }
    // The meter has its own test on BMv2, since it needs more than one packet.
    assert_eq!(seen.len() + 1, SwitchDrop::ALL.len(), "a reason without a case");
}
