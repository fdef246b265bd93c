//! Reads `core/constants.p4`.

use crate::{p4, read};

/// A constant of the program.
pub struct Constant {
    pub name: String,
    pub bits: u32,
    pub value: u64,
    /// Its text, one sentence or a few.
    pub text: String,
}

impl Constant {
    /// The rest of the name, if it starts like this.
    pub fn after(&self, prefix: &str) -> Option<&str> {
        self.name.strip_prefix(prefix)
    }
}

/// A number of P4 or of the compiler's own making.
pub fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// All constants, in the order of the file.
pub fn all() -> Vec<Constant> {
    let mut found = Vec::new();
    let mut text: Vec<String> = Vec::new();
    for line in read(&p4().join("core/constants.p4")).lines() {
        if let Some(more) = line.strip_prefix("/// ") {
            text.push(more.to_owned());
        } else if let Some(rest) = line.strip_prefix("const bit<") {
            let (bits, rest) = rest.split_once("> ").expect("a width");
            let (name, value) = rest.trim_end_matches(';').split_once(" = ").expect("a value");
            assert!(!text.is_empty(), "{name} has no text");
            found.push(Constant {
                name: name.to_owned(),
                bits: bits.parse().unwrap(),
                value: number(value),
                text: std::mem::take(&mut text).join(" "),
            });
        } else {
            assert!(text.is_empty(), "text without a constant: {text:?}");
            assert!(line.is_empty() || line.starts_with("// "), "not understood: {line}");
        }
    }
    found
}

/// The constants whose names start like this, with the rest of the name, by value.
pub fn family(prefix: &str) -> Vec<(String, Constant)> {
    let mut family: Vec<_> =
        all().into_iter().filter_map(|c| c.after(prefix).map(str::to_owned).map(|rest| (rest, c))).collect();
    family.sort_by_key(|(_, constant)| constant.value);
    family
}

#[test]
fn numbers_are_given_once() {
    for prefix in ["DROP_", "PUNT_", "INJECT_", "VERDICT_"] {
        let family = family(prefix);
        assert!(family.len() > 1, "{prefix}");
        for pair in family.windows(2) {
            assert!(pair[0].1.value < pair[1].1.value, "{prefix}{} and {} share a number", pair[0].0, pair[1].0);
        }
    }
}

#[test]
fn reasons_fit_the_tag_and_the_counters() {
    let sizes = read(&p4().join("core/sizes.h"));
    let size = |name: &str| {
        let line = sizes.lines().find_map(|l| l.strip_prefix("#define ")?.strip_prefix(name)).expect(name);
        number(line.trim())
    };
    assert!(family("DROP_").iter().all(|(_, c)| c.value < size("SIZE_DROPS")));
    // Three bits of PCP. All eight are taken, which Rust relies on.
    assert_eq!(family("PUNT_").iter().map(|(_, c)| c.value).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert_eq!(size("SIZE_PUNTS"), 8);
    assert_eq!(size("SIZE_NEXTHOP"), 4096, "what a VID can name");
}

/// Where the switch drops for a reason the slow path has too, number and name are the same; its own are out of the way.
#[test]
fn drop_reasons_agree_with_the_slow_path() {
    use fullnat::reason::DropReason;
    for (name, constant) in family("DROP_") {
        let theirs = DropReason::ALL.iter().find(|r| **r as u64 == constant.value);
        match constant.value {
            0 => assert_eq!(name, "NONE"),
            1..48 => assert_eq!(theirs.map(|r| r.name()), Some(name.to_lowercase().as_str())),
            _ => assert!(theirs.is_none(), "{name}"),
        }
    }
    assert!(DropReason::ALL.iter().all(|r| (*r as u8) < 48), "48 and above are the switch's");
}

#[test]
fn protocols_agree_with_the_slow_path() {
    use fullnat::wire::{ethernet, ipv4, ipv6};
    let value = |name: &str| all().iter().find(|c| c.name == name).expect(name).value;
    assert_eq!(value("ETHER_IPV4"), u64::from(ethernet::IPV4));
    assert_eq!(value("ETHER_IPV6"), u64::from(ethernet::IPV6));
    assert_eq!(value("ETHER_ARP"), u64::from(ethernet::ARP));
    assert_eq!(value("PROTO_TCP"), fullnat::id::Proto::Tcp as u64);
    assert_eq!(value("PROTO_UDP"), fullnat::id::Proto::Udp as u64);
    assert_eq!(value("PROTO_ICMP"), u64::from(ipv4::ICMP));
    assert_eq!(value("PROTO_ICMP6"), u64::from(ipv6::ICMP));
}
