//! Values written as text: what they mean, that they are written back as they are read, and their edges.

use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use carom::config::value::{AddressRange, Cidr, Duration, Endpoint, MacAddress, PortRange};
use proptest::prelude::*;

fn read<T: FromStr<Err = String> + Debug>(text: &str) -> T {
    text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn refused<T: FromStr<Err = String> + Debug>(text: &str) -> String {
    text.parse::<T>().expect_err(text)
}

/// What is written is read as the same.
fn survives<T: FromStr<Err = String> + Display + Debug + PartialEq>(value: T) {
    assert_eq!(read::<T>(&value.to_string()), value);
}

#[test]
fn durations() {
    for (text, us) in [
        ("0s", 0),
        ("7us", 7),
        ("250ms", 250_000),
        ("5s", 5_000_000),
        ("15m", 900_000_000),
        ("2h", 7_200_000_000),
        ("1000d", 86_400_000_000_000),
    ] {
        assert_eq!(read::<Duration>(text).as_us(), us);
    }
    assert_eq!(read::<Duration>("1us").as_ms(), 1, "not zero: that would be no time at all");
    assert_eq!(read::<Duration>("90s").to_string(), "90s");
    assert_eq!(read::<Duration>("120s").to_string(), "2m");
    for text in ["", "5", "s", "-5s", "+5s", "5 s", "1.5s", "5S", "5sec", "١s", "1001d", "99999999999999999999999s"] {
        refused::<Duration>(text);
    }
    assert!(refused::<Duration>("900").contains("did you mean \"900s\"?"));
}

#[test]
fn prefixes() {
    let cidr: Cidr = read("10.10.0.2/24");
    assert_eq!((cidr.network().to_string(), cidr.last().to_string()), ("10.10.0.0".into(), "10.10.0.255".into()));
    assert!(cidr.contains("10.10.0.255".parse().unwrap()) && !cidr.contains("10.10.1.0".parse().unwrap()));
    assert!(!read::<Cidr>("0.0.0.0/0").contains("::".parse().unwrap()), "families are apart");
    assert!(read::<Cidr>("::/0").contains("ffff::".parse().unwrap()));
    assert_eq!(read::<Cidr>("10.0.0.1/0").last().to_string(), "255.255.255.255");
    assert_eq!(read::<Cidr>("fd10::2/128").network().to_string(), "fd10::2");
    assert!(read::<Cidr>("10.0.0.0/8").overlaps(read("10.1.0.0/16")) && !cidr.overlaps(read("10.10.1.0/24")));
    for text in ["10.0.0.1", "10.0.0.1/33", "::/129", "10.0.0.1/", "10.0.0.1/-1", "/24", "10.0.0.1/24/24", "10.0.0/24"]
    {
        refused::<Cidr>(text);
    }
    assert!(refused::<Cidr>("fd10::2").contains("\"fd10::2/64\""));
}

#[test]
fn address_ranges() {
    let range: AddressRange = read("10.30.0.254-10.30.1.1");
    let all: Vec<String> = range.iter().map(|address| address.to_string()).collect();
    assert_eq!(all, ["10.30.0.254", "10.30.0.255", "10.30.1.0", "10.30.1.1"]);
    assert_eq!(read::<AddressRange>("fd30::100/126").count(), 4);
    assert_eq!(read::<AddressRange>("10.30.0.9").iter().count(), 1);
    assert_eq!(read::<AddressRange>("::/0").count(), u128::MAX, "one less than there are, which is more than enough");
    assert_eq!(read::<AddressRange>("0.0.0.0/0").count(), 1 << 32);
    for text in ["", "-", "10.0.0.2-10.0.0.1", "10.0.0.1-::1", "10.0.0.1/30", "10.0.0.1-10.0.0.2-10.0.0.3"] {
        refused::<AddressRange>(text);
    }
}

#[test]
fn endpoints_ports_and_macs() {
    assert_eq!(read::<Endpoint>("[fd10::80]:80").0.port(), 80);
    assert!(refused::<Endpoint>("fd10::80").contains("\"[fd10::80]:80\""));
    assert!(refused::<Endpoint>("[fd10::80]").contains("\"[fd10::80]:80\""));
    assert!(refused::<Endpoint>("10.0.0.1").contains("\"10.0.0.1:80\""));
    for text in ["", ":80", "10.0.0.1:", "10.0.0.1:65536", "localhost:80", "10.0.0.1:80 "] {
        refused::<Endpoint>(text);
    }
    assert_eq!(read::<PortRange>("80"), PortRange { first: 80, last: 80 });
    for text in ["", "0", "1-", "-1", "2-1", "1-65536", "1-2-3"] {
        refused::<PortRange>(text);
    }
    assert_eq!(read::<MacAddress>("02:00:00:00:00:fF").0.0, [2, 0, 0, 0, 0, 255]);
    for text in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "02-00-00-00-00-01", "+2:00:00:00:00:01"]
    {
        refused::<MacAddress>(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_as_read(us in 0..=Duration::MAX.as_us(), address: IpAddr, other: u128, len in 0..=128u8, ports: (u16, u16)) {
        survives(Duration::from_us(us));
        let len = if address.is_ipv4() { len % 33 } else { len };
        let cidr = Cidr { address, len };
        survives(cidr);
        prop_assert!(cidr.contains(cidr.network()) && cidr.contains(cidr.last()) && cidr.contains(address));
        survives(AddressRange { first: cidr.network(), last: cidr.last() });
        let other = IpAddr::V6(Ipv6Addr::from_bits(other));
        survives(AddressRange { first: other, last: other });
        survives(Endpoint((address, ports.0).into()));
        let (first, last) = (ports.0.min(ports.1).max(1), ports.0.max(ports.1).max(1));
        survives(PortRange { first, last });
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-0-9a-f.:/, smh]{0,20}") {
        let _ = text.parse::<Duration>();
        let _ = text.parse::<Cidr>();
        let _ = text.parse::<AddressRange>().map(|range| range.count());
        let _ = text.parse::<Endpoint>();
        let _ = text.parse::<PortRange>();
        let _ = text.parse::<MacAddress>();
        let _ = text.parse::<carom::config::Device>();
    }
}
