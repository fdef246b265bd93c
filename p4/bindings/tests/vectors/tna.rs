//! The vectors on a model of Tofino: there is no free simulator of the chip, so what the program does differently there,
//! its checksums, is carried out here by the rules of TNA's checksum engine.
//!
//! The lists of fields are read from `arch/tna`, the layout of headers from `core/headers.p4`: the model has none of its
//! own. Its rules are those of `tofino1_base.p4` and of what the compiler makes of them:
//!
//! - The parser's engine adds up the bytes that were subtracted, at even offsets as upper halves of words, and deposits
//!   the complement. Of a list, only the parity of places matters, and it must be that of the packet.
//! - The deparser's engine adds up a list, of which the first byte is an upper half, and writes the complement, zero as
//!   all ones if it is told to.

use std::collections::{BTreeMap, HashMap};

use crate::file::{self, Case, Entry, Outcome, Vectors, bytes, hex};
use crate::p4;

/// Where a field is in its header, and how long it is, in bytes.
type Layout = HashMap<String, (usize, usize)>;

/// Every field of every header, as `ipv4.src`.
fn layout() -> Layout {
    let text = std::fs::read_to_string(p4().join("core/headers.p4")).unwrap();
    let mut layout = Layout::new();
    let (mut header, mut at) = (String::new(), 0);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("header ").and_then(|rest| rest.strip_suffix("_t {")) {
            (header, at) = (name.to_owned(), 0);
        } else if line == "}" {
            header.clear();
        } else if let Some((bits, name)) = line.strip_prefix("bit<").and_then(|rest| rest.split_once('>'))
            && !header.is_empty()
        {
            let size = bits.parse::<usize>().unwrap() / 8;
            layout.insert(format!("{header}.{}", name.trim().trim_end_matches(';')), (at, size));
            at += size;
        }
    }
    layout
}

/// The list of fields of a call, without `hdr.`.
fn fields(list: &str) -> Vec<String> {
    list.split(',').map(|field| field.trim().trim_start_matches("hdr.").to_owned()).collect()
}

/// A call in the parser of a checksum object.
#[derive(Debug, PartialEq)]
enum Call {
    Subtract(String, Vec<String>),
    Deposit(String, String),
}

/// The calls in the parser's states, by the names of their macros.
fn parser_calls() -> BTreeMap<String, Vec<Call>> {
    let text = std::fs::read_to_string(p4().join("arch/tna/arch.p4")).unwrap().replace("\\\n", " ");
    let mut calls = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("#define PARSED_")) {
        let (name, body) = line.split_once(' ').expect("a body");
        let call = |call: &str| {
            let (object, rest) = call.trim().split_once('.').expect("an object");
            if let Some(list) = rest.strip_prefix("subtract({").and_then(|rest| rest.strip_suffix("})")) {
                return Call::Subtract(object.to_owned(), fields(list));
            }
            let into = rest.strip_prefix("subtract_all_and_deposit(meta.").and_then(|rest| rest.strip_suffix(')'));
            Call::Deposit(object.to_owned(), into.unwrap_or_else(|| panic!("not understood: {call}")).to_owned())
        };
        // Notes for the ingress are none of the engine's business.
        let of_engine = |part: &&str| !part.trim().is_empty() && !part.trim().starts_with("meta.");
        let made = body.split(';').filter(of_engine).map(call).collect();
        calls.insert(name.to_owned(), made);
    }
    assert_eq!(calls.keys().collect::<Vec<_>>(), ["IPV4", "IPV6", "TCP", "UDP"]);
    calls
}

/// An update in the deparser: its condition, the field it writes, what it adds up, and whether zero is written as ones.
#[derive(Debug)]
struct Update {
    condition: String,
    target: String,
    list: Vec<String>,
    zeros_as_ones: bool,
}

fn updates() -> Vec<Update> {
    let text = std::fs::read_to_string(p4().join("arch/tna/shell.p4")).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut updates = Vec::new();
    for part in text.split("if (meta.core.update_").skip(1) {
        let (condition, rest) = part.split_once(" == 1) { hdr.").expect("a condition");
        let (target, rest) = rest.split_once(" = ").expect("a field");
        let (list, rest) = rest.split_once(".update({").and_then(|(_, rest)| rest.split_once("}")).expect("a list");
        let list = fields(list).iter().map(|f| f.trim_start_matches("meta.core.").to_owned()).collect();
        let zeros_as_ones = rest.starts_with(", true);");
        assert!(zeros_as_ones || rest.starts_with(");"), "{rest:.20}");
        updates.push(Update { condition: condition.to_owned(), target: target.to_owned(), list, zeros_as_ones });
    }
    assert_eq!(updates.len(), 5);
    updates
}

/// Sum of 16 bits with end-around carry.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The program's checksum lists and the layout of headers.
pub struct Model {
    layout: Layout,
    calls: BTreeMap<String, Vec<Call>>,
    updates: Vec<Update>,
}

/// A TCP or UDP packet on its way through: its bytes, where its headers begin, and what the parser left.
struct Passing {
    frame: Vec<u8>,
    headers: BTreeMap<&'static str, usize>,
    residuals: HashMap<String, u16>,
}

impl Passing {
    fn number(&self, layout: &Layout, field: &str) -> u64 {
        let place = self.place(layout, field);
        self.frame[place].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn set(&mut self, layout: &Layout, field: &str, value: u64) {
        let place = self.place(layout, field);
        let size = place.len();
        self.frame[place].copy_from_slice(&value.to_be_bytes()[8 - size..]);
    }

    fn place(&self, layout: &Layout, field: &str) -> std::ops::Range<usize> {
        let (at, size) = *layout.get(field).unwrap_or_else(|| panic!("no field {field}"));
        let header = field.split_once('.').unwrap().0;
        let start = self.headers.get(header).unwrap_or_else(|| panic!("{field} is not in this packet")) + at;
        start..start + size
    }
}

impl Model {
    pub fn new() -> Self {
        Self { layout: layout(), calls: parser_calls(), updates: updates() }
    }

    /// The parser, for what has no tag: headers, then what the states' calls sum up.
    fn parse(&self, frame: Vec<u8>) -> Passing {
        let v6 = frame[12..14] == [0x86, 0xdd];
        let (ip, proto) = if v6 { ("ipv6", frame[20]) } else { ("ipv4", frame[23]) };
        let l4 = if v6 { 54 } else { 34 };
        let tcp = proto == 6;
        let headers =
            BTreeMap::from([("ethernet", 0), (ip, 14), ("ports", l4), (if tcp { "tcp" } else { "udp" }, l4 + 4)]);
        let mut passing = Passing { frame, headers, residuals: HashMap::new() };
        let mut sums: HashMap<&str, (u64, usize)> = HashMap::new();
        for state in [if v6 { "IPV6" } else { "IPV4" }, if tcp { "TCP" } else { "UDP" }] {
            for call in &self.calls[state] {
                match call {
                    Call::Subtract(object, list) => {
                        let (sum, place) = sums.entry(object).or_default();
                        for at in list.iter().flat_map(|field| passing.place(&self.layout, field)) {
                            assert_eq!(at % 2, *place % 2, "{state}: the engine would have to swap bytes of {list:?}");
                            *sum += u64::from(passing.frame[at]) << (8 * (1 - at % 2));
                            *place += 1;
                        }
                    }
                    // The packet has no IPv4 header if nothing was subtracted; nobody uses what is left then.
                    Call::Deposit(object, into) => {
                        let sum = sums.get(object.as_str()).map_or(0, |(sum, _)| *sum);
                        passing.residuals.insert(into.clone(), !fold(sum));
                    }
                }
            }
        }
        passing
    }

    /// What the shell says the packet has. It counts for what a flow entry rewrote.
    fn wanted(&self, passing: &Passing, condition: &str) -> bool {
        let has = |header| passing.headers.contains_key(header);
        let udp = || has("udp") && passing.number(&self.layout, "udp.check") != 0;
        match condition {
            "ip" => has("ipv4"),
            "tcp4" => has("ipv4") && has("tcp"),
            "tcp6" => has("ipv6") && has("tcp"),
            "udp4" => has("ipv4") && udp(),
            "udp6" => has("ipv6") && udp(),
            _ => panic!("update_{condition} is not known"),
        }
    }

    /// The deparser. All engines read the packet as the ingress left it.
    fn deparse(&self, passing: &mut Passing) {
        let wanted: Vec<_> = self.updates.iter().filter(|u| self.wanted(passing, &u.condition)).collect();
        let written: Vec<_> = wanted.iter().map(|update| (&update.target, self.sum(passing, update))).collect();
        for (target, check) in written {
            passing.set(&self.layout, target, check.into());
        }
    }

    fn sum(&self, passing: &Passing, update: &Update) -> u16 {
        let mut all = Vec::new();
        for field in &update.list {
            match passing.residuals.get(field) {
                Some(residual) => all.extend_from_slice(&residual.to_be_bytes()),
                None => all.extend_from_slice(&passing.frame[passing.place(&self.layout, field)]),
            }
        }
        assert_eq!(all.len() % 2, 0, "{update:?}");
        let check = !fold(all.chunks(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum());
        if check == 0 && update.zeros_as_ones { 0xffff } else { check }
    }

    /// What a flow entry does to a packet.
    fn rewrite(&self, passing: &mut Passing, params: &BTreeMap<String, String>) {
        let v6 = passing.headers.contains_key("ipv6");
        for (name, value) in params {
            let value = u64::from_str_radix(value, 16).unwrap();
            let moved = |field: &str| passing.number(&self.layout, field).wrapping_add(value) & 0xffff_ffff;
            let (field, value) = match name.as_str() {
                "nexthop" => continue,
                // Of a header that is not there nothing becomes.
                "seq_delta" | "ack_delta" if !passing.headers.contains_key("tcp") => continue,
                "sport" | "dport" => (format!("ports.{name}"), value),
                "seq_delta" => ("tcp.seq".to_owned(), moved("tcp.seq")),
                "ack_delta" => ("tcp.ack".to_owned(), moved("tcp.ack")),
                _ => (format!("{}.{name}", if v6 { "ipv6" } else { "ipv4" }), value),
            };
            passing.set(&self.layout, &field, value);
        }
        let ttl = if v6 { "ipv6.hop_limit" } else { "ipv4.ttl" };
        let left = passing.number(&self.layout, ttl) - 1;
        passing.set(&self.layout, ttl, left);
    }

    /// The frame of a case that a flow entry forwards, as it leaves.
    pub fn forward(&self, vectors: &Vectors, frame: Vec<u8>) -> Vec<u8> {
        let mut passing = self.parse(frame);
        let entry = vectors.entries.iter().find(|entry| self.matches(&passing, entry)).expect("a flow entry");
        self.rewrite(&mut passing, &entry.params);
        let hop = &entry.params["nexthop"];
        let hop =
            vectors.entries.iter().find(|e| e.table == "nexthop" && e.key["nexthop"] == *hop).expect("a next hop");
        for (field, param) in [("ethernet.src", "smac"), ("ethernet.dst", "dmac")] {
            let mac = u64::from_str_radix(&hop.params[param], 16).unwrap();
            passing.set(&self.layout, field, mac);
        }
        self.deparse(&mut passing);
        passing.frame
    }

    fn matches(&self, passing: &Passing, entry: &Entry) -> bool {
        let ip = if passing.headers.contains_key("ipv6") { "ipv6" } else { "ipv4" };
        let proto = if ip == "ipv6" { "ipv6.next_header" } else { "ipv4.proto" };
        entry.table.starts_with("flow_")
            && entry.table.ends_with(&ip[2..])
            && entry.key.iter().all(|(name, value)| {
                let field = match name.as_str() {
                    "proto" => proto.to_owned(),
                    "sport" | "dport" => format!("ports.{name}"),
                    _ => format!("{ip}.{name}"),
                };
                passing.number(&self.layout, &field) == u64::from_str_radix(value, 16).unwrap()
            })
    }
}

fn forwarded<'a>(vectors: &'a Vectors) -> Vec<(&'a Case, &'a String)> {
    let forward = |case: &'a Case| match &case.outcome {
        Outcome::Forward { frame, .. } => Some((case, frame)),
        _ => None,
    };
    vectors.cases.iter().filter_map(forward).collect()
}

#[test]
fn tofino_gives_the_same_bytes() {
    let (model, vectors) = (Model::new(), file::read());
    let cases = forwarded(&vectors);
    assert!(cases.len() > 30);
    for (case, expected) in cases {
        let out = model.forward(&vectors, bytes(&case.frame));
        assert_eq!(hex(&out), *expected, "{}", case.name);
    }
}

/// Whatever checksums a packet comes with, they leave as the difference makes them (RFC 1624, equation 3), and a UDP
/// checksum of zero stays.
#[test]
fn tofino_moves_every_checksum_by_the_difference() {
    let (model, vectors) = (Model::new(), file::read());
    // One of each protocol and family.
    for family in ["IPv4", "IPv6"] {
        for proto in ["TCP", "UDP"] {
            let name = format!("{proto} over {family} inbound, odd payload").to_lowercase();
            let cases = forwarded(&vectors);
            let (case, _) = cases.iter().find(|(case, _)| case.name.to_lowercase() == name).expect(&name);
            every_checksum(&model, &vectors, &bytes(&case.frame));
        }
    }
}

fn every_checksum(model: &Model, vectors: &Vectors, frame: &[u8]) {
    let v6 = frame[12] == 0x86;
    let l4 = if v6 { 54 } else { 34 };
    let udp = frame[if v6 { 20 } else { 23 }] == 17;
    let check = l4 + if udp { 6 } else { 16 };
    let places = if v6 { vec![(check, true)] } else { vec![(24, false), (check, true)] };
    let words = |frame: &[u8], from: usize, to: usize| -> u64 {
        frame[from..to].chunks(2).map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum()
    };
    for (at, of_l4) in places {
        for given in 0..=u16::MAX {
            let mut frame = frame.to_vec();
            frame[at..at + 2].copy_from_slice(&given.to_be_bytes());
            let out = model.forward(vectors, frame.clone());
            let written = u16::from_be_bytes([out[at], out[at + 1]]);
            if udp && of_l4 && given == 0 {
                assert_eq!(written, 0);
                continue;
            }
            // The words the sum goes over, before and after: header, or addresses, ports and numbers.
            let (from, to) = if of_l4 { (if v6 { 22 } else { 26 }, l4 + if udp { 4 } else { 12 }) } else { (14, 34) };
            let mut plain = frame.clone();
            let mut moved = out.clone();
            plain[at..at + 2].fill(0);
            moved[at..at + 2].fill(0);
            let (old, new) = (fold(words(&plain, from, to)), fold(words(&moved, from, to)));
            let equation3 = !fold(u64::from(!given) + u64::from(!old) + u64::from(new));
            let expected = if equation3 == 0 && udp && of_l4 { 0xffff } else { equation3 };
            assert_eq!(written, expected, "{given:#06x} at {at}");
        }
    }
}
