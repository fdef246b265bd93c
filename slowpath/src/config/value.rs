//! Values written as text in the config: durations, prefixes, ranges. Each parses with a message that tells the mend.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use fullnat::addr::same_prefix;
use fullnat::wire::Mac;

/// Makes a type a string in the config: read by `FromStr`, written by `Display`, described by a JSON Schema.
macro_rules! text_value {
    ($type:ty, $name:literal, $description:literal, [$($example:literal),+]) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!($description, " as text"))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description, "examples": [$($example),+] })
            }
        }
    };
}
pub(super) use text_value;

/// A length of time, kept in microseconds. Written `250ms`, `5s`, `15m`, `2h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Duration(u64);

text_value!(Duration, "Duration", "a length of time: a whole number and us, ms, s, m, h or d", ["250ms", "5s", "15m"]);

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        std::time::Duration::from_micros(duration.0)
    }
}

/// The units of [`Duration`], longest first, in microseconds.
const UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Duration {
    /// The longest one: 1000 days. Far from where sums of times could overflow.
    pub const MAX: Duration = Duration(1_000 * UNITS[0].1);

    /// A duration of whole milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Duration(ms * 1_000)
    }

    /// A duration of whole seconds.
    pub const fn from_secs(s: u64) -> Self {
        Duration(s * 1_000_000)
    }

    /// A duration of whole microseconds.
    pub const fn from_us(us: u64) -> Self {
        Duration(us)
    }

    /// In microseconds.
    pub const fn as_us(self) -> u64 {
        self.0
    }

    /// In milliseconds, rounded up, so that nothing but zero becomes zero.
    pub const fn as_ms(self) -> u64 {
        self.0.div_ceil(1_000)
    }

    /// True for a duration of no length.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let Some(&(_, us)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let mend =
                if unit.is_empty() && digits > 0 { format!("; did you mean \"{text}s\"?") } else { String::new() };
            return Err(format!("\"{text}\" is not a length of time: write a number and us, ms, s, m, h or d{mend}"));
        };
        if digits == 0 {
            return Err(format!("\"{text}\" has no number: write for example \"5{unit}\""));
        }
        let too_long = || format!("\"{text}\" is too long: at most 1000d");
        let value = number.parse::<u64>().ok().and_then(|n| n.checked_mul(us)).ok_or_else(too_long)?;
        if value > Self::MAX.0 { Err(too_long()) } else { Ok(Duration(value)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let (name, us) = UNITS.iter().find(|(_, us)| self.0.is_multiple_of(*us)).unwrap_or(&UNITS[5]);
        write!(f, "{}{name}", self.0 / us)
    }
}

/// An address with a prefix length, e.g. `10.10.0.2/24`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cidr {
    /// The address, host bits included.
    pub address: IpAddr,
    /// The prefix length: at most 32 or 128.
    pub len: u8,
}

text_value!(Cidr, "Cidr", "an address with its prefix length", ["10.10.0.2/24", "fd10::2/64"]);

impl Cidr {
    /// The first address of the prefix.
    pub fn network(self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & mask_v4(self.len)).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & mask_v6(self.len)).into(),
        }
    }

    /// The prefix without host bits.
    pub fn prefix(self) -> Cidr {
        Cidr { address: self.network(), ..self }
    }

    /// All addresses of a family: 0.0.0.0/0 or ::/0.
    pub fn all(v4: bool) -> Cidr {
        let address = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Cidr { address, len: 0 }
    }

    /// The last address of the prefix.
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() | !mask_v4(self.len)).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() | !mask_v6(self.len)).into(),
        }
    }

    /// Whether `address` is inside the prefix.
    pub fn contains(self, address: IpAddr) -> bool {
        same_prefix(self.address, address, self.len)
    }

    /// Whether the two prefixes share an address.
    pub fn overlaps(self, other: Cidr) -> bool {
        if self.len <= other.len { self.contains(other.address) } else { other.contains(self.address) }
    }
}

/// The netmask of an IPv4 prefix of length `len`.
fn mask_v4(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

/// The netmask of an IPv6 prefix of length `len`.
fn mask_v6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((address, len)) = text.split_once('/') else {
            let host = parse_address(text).map_or("24", |a| if a.is_ipv4() { "24" } else { "64" });
            return Err(format!("\"{text}\" has no prefix length: write for example \"{text}/{host}\""));
        };
        let address = parse_address(address)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        match len.parse::<u8>() {
            Ok(len) if len <= max => Ok(Cidr { address, len }),
            _ => Err(format!("\"{text}\" has no valid prefix length: write 0 to {max} after the slash")),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// Reads an address of either family.
fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match text.parse::<SocketAddr>() {
        Ok(socket) => format!("\"{text}\" has a port where only an address belongs: write \"{}\"", socket.ip()),
        Err(_) => not_an_address(text),
    })
}

fn not_an_address(text: &str) -> String {
    let is_name = text.chars().any(|c| !c.is_ascii_hexdigit() && !matches!(c, '.' | ':'));
    let mend = if is_name {
        "names are not looked up, write the address"
    } else {
        "write four numbers up to 255 such as \"10.10.0.2\", or IPv6 such as \"fd10::2\""
    };
    format!("\"{text}\" is not an IP address: {mend}")
}

/// An IP address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address(pub IpAddr);

text_value!(Address, "Address", "an IP address", ["10.10.0.1", "fd10::1"]);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_address(text).map(Address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address and a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint(pub SocketAddr);

text_value!(Endpoint, "Endpoint", "an address and a port", ["10.10.0.80:80", "[fd10::80]:80"]);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Endpoint(socket));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            let example = SocketAddr::new(address, 80);
            return Err(format!("\"{text}\" has no port: write for example \"{example}\""));
        }
        // Most likely `fd10::80:80` or `fd10::zz`: the brackets are what people forget.
        if text.matches(':').count() > 1 && !text.starts_with('[') {
            return Err(format!(
                "\"{text}\" is not an address and a port: an IPv6 address goes in brackets, \"[fd10::80]:80\""
            ));
        }
        Err(match text.rsplit_once(':') {
            Some((host, _)) if !host.is_empty() && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() => {
                not_an_address(host)
            }
            Some((_, port)) => format!("\"{text}\" has no valid port: \"{port}\" is not a number from 1 to 65535"),
            None => format!("\"{text}\" is not an address and a port: write for example \"10.10.0.80:80\""),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Several addresses of one family: one address, `first-last`, or a prefix with all its addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address, of the same family and not before the first.
    pub last: IpAddr,
}

text_value!(
    AddressRange,
    "AddressRange",
    "an address, a range \"first-last\", or a prefix standing for all its addresses",
    ["10.30.0.9", "10.30.0.100-10.30.0.103", "fd30::100/126"]
);

impl AddressRange {
    /// How many addresses it has; `u128::MAX` for all of IPv6.
    pub fn count(self) -> u128 {
        (bits(self.last) - bits(self.first)).saturating_add(1)
    }

    /// All its addresses, in order.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        (bits(self.first)..=bits(self.last)).map(move |b| match self.first {
            // The bits of an IPv4 address come from 32 bits, so they fit again.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(b as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(b)),
        })
    }
}

/// The address as a number.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (parse_address(first.trim())?, parse_address(last.trim())?);
            if first.is_ipv4() != last.is_ipv4() {
                return Err(format!("\"{text}\" goes from one address family to the other"));
            }
            if first > last {
                return Err(format!("\"{text}\" ends before it begins: write \"{last}-{first}\""));
            }
            return Ok(AddressRange { first, last });
        }
        if !text.contains('/') {
            return parse_address(text).map(|address| AddressRange { first: address, last: address });
        }
        let prefix: Cidr = text.parse()?;
        if prefix.network() != prefix.address {
            let (network, len) = (prefix.network(), prefix.len);
            return Err(format!(
                "\"{text}\" is not the start of its prefix: write \"{network}/{len}\" for all of it, \"{}\" for the one address",
                prefix.address
            ));
        }
        Ok(AddressRange { first: prefix.network(), last: prefix.last() })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// The first port, not 0.
    pub first: u16,
    /// The last port, not before the first.
    pub last: u16,
}

text_value!(PortRange, "PortRange", "a range of ports \"first-last\"", ["1025-65535"]);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) else {
            return Err(format!("\"{text}\" is not a range of ports (1 to 65535): write for example \"1025-65535\""));
        };
        if first == 0 {
            return Err(format!("\"{text}\" has port 0, which no packet may carry: begin at 1, better at 1025"));
        }
        if first > last {
            return Err(format!("\"{text}\" has no port in it: write \"{last}-{first}\""));
        }
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacAddress(pub Mac);

text_value!(MacAddress, "MacAddress", "a MAC address", ["02:00:00:00:00:01"]);

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a MAC address: write six bytes like \"02:00:00:00:00:01\"");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            // `from_str_radix` would take a sign.
            *byte = u8::from_str_radix(part, 16).ok().filter(|_| !part.starts_with('+')).ok_or_else(wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if bytes[0] & 1 == 1 {
            return Err(format!("\"{text}\" is a group address, no host has it: the first byte must be even"));
        }
        Ok(MacAddress(Mac(bytes)))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
