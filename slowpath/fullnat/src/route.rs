//! Static routing: connected prefixes, static routes and default gateways.
//!
//! A lookup happens once per session and direction, not per packet: its result lives on as a next hop in the session's
//! rewrite. The prefixes of each family are cut into disjoint ranges when the table is built, so that the longest match
//! is one binary search, whatever the prefixes are: seven steps for 64 routes, fifteen for ten thousand.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use crate::addr::Addr;
use crate::id::IfaceId;

/// Where a packet leaves, and through whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route<A> {
    /// The interface it leaves by.
    pub iface: IfaceId,
    /// The router it goes to; `None` when the destination itself is on the link.
    pub gateway: Option<A>,
}

impl<A: Copy> Route<A> {
    /// The address whose MAC address a packet to `dst` needs.
    pub fn next_hop(&self, dst: A) -> A {
        self.gateway.unwrap_or(dst)
    }
}

/// The routes of the balancer. Built once per plan, immutable after.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    v4: Family,
    v6: Family,
    entries: Vec<RouteEntry>,
}

/// One route as configured, for listings and for resolving gateways ahead of traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteEntry {
    /// First address of the prefix.
    pub prefix: IpAddr,
    /// Prefix length in bits.
    pub len: u8,
    /// The interface it leaves by.
    pub iface: IfaceId,
    /// The router; `None` for what is on the link.
    pub gateway: Option<IpAddr>,
}

/// Why routes cannot be used as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteError {
    /// The prefix is longer than the address.
    PrefixLength(IpAddr, u8),
    /// Bits behind the prefix length are not zero.
    HostBits(IpAddr, u8),
    /// Prefix and gateway are of different families.
    Family(IpAddr, IpAddr),
    /// The gateway is in no connected prefix of the interface (of any interface, when none was given).
    GatewayNotOnLink(IpAddr),
    /// The gateway is an address of the balancer itself.
    GatewayIsOwn(IpAddr),
    /// A link-local gateway exists on every link: the interface must be given.
    GatewayNeedsInterface(IpAddr),
    /// A route without a gateway needs an interface.
    NeitherGatewayNorInterface(IpAddr, u8),
    /// The prefix already has another route by the same interface.
    Duplicate(IpAddr, u8),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::PrefixLength(ip, len) => write!(f, "{ip}/{len}: the prefix is longer than the address"),
            RouteError::HostBits(ip, len) => {
                write!(f, "{ip}/{len}: bits behind the prefix are set; {}/{len} is the prefix", masked(*ip, *len))
            }
            RouteError::Family(ip, gateway) => write!(f, "{ip} cannot be reached through {gateway}: other IP version"),
            RouteError::GatewayNotOnLink(gateway) => {
                write!(f, "gateway {gateway} is not inside a prefix of the interface")
            }
            RouteError::GatewayIsOwn(gateway) => write!(f, "gateway {gateway} is an address of the balancer itself"),
            RouteError::GatewayNeedsInterface(gateway) => {
                write!(f, "gateway {gateway} is link-local: say on which interface it is")
            }
            RouteError::NeitherGatewayNorInterface(ip, len) => {
                write!(f, "{ip}/{len}: a route needs a gateway or an interface")
            }
            RouteError::Duplicate(ip, len) => write!(f, "{ip}/{len}: there is already a route by this interface"),
        }
    }
}

impl std::error::Error for RouteError {}

impl Routes {
    /// Starts an empty table.
    pub fn builder() -> RoutesBuilder {
        RoutesBuilder::default()
    }

    /// The longest match for `dst`. Of equally long ones a connected prefix wins, then the one configured first.
    pub fn lookup<A: Addr>(&self, dst: A) -> Option<Route<A>> {
        typed(self.family::<A>().all.lookup(bits(dst))?)
    }

    /// The way back to `dst`, whose packets came in by `iface`: the longest match among the routes by that interface
    /// if there is one, else as [`Routes::lookup`].
    ///
    /// A balancer with a default gateway on each of two ports answers each client through the port it came by, as
    /// stateful routers on both sides expect, even though the destination has one longest match.
    pub fn lookup_from<A: Addr>(&self, iface: IfaceId, dst: A) -> Option<Route<A>> {
        let family = self.family::<A>();
        let back = family.by_iface.get(usize::from(iface.0)).and_then(|ranges| ranges.lookup(bits(dst)));
        typed(back.or_else(|| family.all.lookup(bits(dst)))?)
    }

    /// The interface and the next hop towards `dst`, by [`Routes::lookup`].
    pub fn way_to(&self, dst: IpAddr) -> Option<(IfaceId, IpAddr)> {
        fn way<A: Addr>(routes: &Routes, dst: A) -> Option<(IfaceId, IpAddr)> {
            routes.lookup(dst).map(|route| (route.iface, route.next_hop(dst).into()))
        }
        match dst {
            IpAddr::V4(dst) => way(self, dst),
            IpAddr::V6(dst) => way(self, dst),
        }
    }

    /// All routes: connected ones first, then in configured order.
    pub fn entries(&self) -> &[RouteEntry] {
        &self.entries
    }

    /// The gateways of all routes, repeated as often as they are used.
    pub fn gateways(&self) -> impl Iterator<Item = (IfaceId, IpAddr)> {
        self.entries.iter().filter_map(|e| Some((e.iface, e.gateway?)))
    }

    fn family<A: Addr>(&self) -> &Family {
        if A::IS_V6 { &self.v6 } else { &self.v4 }
    }
}

/// Collects routes; [`RoutesBuilder::build`] checks them together, so that the order of calls matters only where two
/// routes have the same prefix.
#[derive(Clone, Debug, Default)]
pub struct RoutesBuilder {
    connected: Vec<(IfaceId, IpAddr, u8)>,
    configured: Vec<Configured>,
}

#[derive(Clone, Copy, Debug)]
struct Configured {
    prefix: IpAddr,
    len: u8,
    gateway: Option<IpAddr>,
    iface: Option<IfaceId>,
}

impl RoutesBuilder {
    /// Adds an interface's own address and prefix length: the rest of the prefix is on its link.
    pub fn connected(&mut self, iface: IfaceId, address: IpAddr, len: u8) -> &mut Self {
        self.connected.push((iface, address, len));
        self
    }

    /// Adds a route through a gateway; without `iface` by the interface whose prefix the gateway is in.
    pub fn via(&mut self, prefix: IpAddr, len: u8, gateway: IpAddr, iface: Option<IfaceId>) -> &mut Self {
        self.configured.push(Configured { prefix, len, gateway: Some(gateway), iface });
        self
    }

    /// Adds a prefix that is on the link of `iface` although the interface has no address in it.
    pub fn on_link(&mut self, prefix: IpAddr, len: u8, iface: IfaceId) -> &mut Self {
        self.configured.push(Configured { prefix, len, gateway: None, iface: Some(iface) });
        self
    }

    /// Adds the default route of the gateway's family by `iface`. Several interfaces may each have one.
    pub fn default_gateway(&mut self, iface: IfaceId, gateway: IpAddr) -> &mut Self {
        let prefix = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Addr::UNSPECIFIED),
        };
        self.via(prefix, 0, gateway, Some(iface))
    }

    /// Checks the routes and builds the table.
    pub fn build(&self) -> Result<Routes, RouteError> {
        let mut entries: Vec<RouteEntry> = Vec::with_capacity(self.connected.len() + self.configured.len());
        for &(iface, address, len) in &self.connected {
            check_len(address, len)?;
            entries.push(RouteEntry { prefix: masked(address, len), len, iface, gateway: None });
        }
        for configured in &self.configured {
            let entry = self.checked(configured)?;
            let same = |e: &&RouteEntry| (e.prefix, e.len, e.iface) == (entry.prefix, entry.len, entry.iface);
            if entries.iter().find(same).is_some_and(|e| e.gateway != entry.gateway) {
                return Err(RouteError::Duplicate(entry.prefix, entry.len));
            }
            entries.push(entry);
        }
        let (v4, v6): (Vec<_>, Vec<_>) = entries.iter().partition(|e| e.prefix.is_ipv4());
        Ok(Routes { v4: Family::new(&v4), v6: Family::new(&v6), entries })
    }

    fn checked(&self, route: &Configured) -> Result<RouteEntry, RouteError> {
        let Configured { prefix, len, gateway, iface } = *route;
        check_len(prefix, len)?;
        if masked(prefix, len) != prefix {
            return Err(RouteError::HostBits(prefix, len));
        }
        let Some(gateway) = gateway else {
            let iface = iface.ok_or(RouteError::NeitherGatewayNorInterface(prefix, len))?;
            return Ok(RouteEntry { prefix, len, iface, gateway: None });
        };
        if gateway.is_ipv4() != prefix.is_ipv4() {
            return Err(RouteError::Family(prefix, gateway));
        }
        if self.connected.iter().any(|&(_, own, _)| own == gateway) {
            return Err(RouteError::GatewayIsOwn(gateway));
        }
        let iface = self.link_of(gateway, iface)?;
        Ok(RouteEntry { prefix, len, iface, gateway: Some(gateway) })
    }

    /// The interface on whose link `gateway` is.
    fn link_of(&self, gateway: IpAddr, iface: Option<IfaceId>) -> Result<IfaceId, RouteError> {
        if matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            // Every IPv6 interface is on-link for fe80::/10, with or without a configured address (RFC 4291, 2.5.6).
            return iface.ok_or(RouteError::GatewayNeedsInterface(gateway));
        }
        let connected = self.connected.iter().map(|&(iface, address, len)| (iface, address, len));
        let on_link = self.configured.iter().filter_map(|c| match (c.gateway, c.iface) {
            (None, Some(iface)) => Some((iface, c.prefix, c.len)),
            _ => None,
        });
        connected
            .chain(on_link)
            .filter(|&(on, address, len)| iface.is_none_or(|i| i == on) && contains(address, len, gateway))
            .min_by_key(|&(_, _, len)| Reverse(len))
            .map(|(on, _, _)| on)
            .ok_or(RouteError::GatewayNotOnLink(gateway))
    }
}

/// The routes of one family, all together and by interface.
#[derive(Clone, Debug, Default)]
struct Family {
    all: Ranges,
    by_iface: Box<[Ranges]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hop {
    iface: IfaceId,
    gateway: Option<IpAddr>,
}

/// Disjoint ranges that cover all addresses: range `i` is from `starts[i]` to just before `starts[i + 1]`.
#[derive(Clone, Debug, Default)]
struct Ranges {
    starts: Box<[u128]>,
    hops: Box<[Option<Hop>]>,
}

impl Family {
    fn new(entries: &[RouteEntry]) -> Self {
        let interfaces = entries.iter().map(|e| usize::from(e.iface.0) + 1).max().unwrap_or(0);
        let of = |i: usize| entries.iter().filter(|e| usize::from(e.iface.0) == i).copied().collect::<Vec<_>>();
        Family { all: Ranges::new(entries), by_iface: (0..interfaces).map(|i| Ranges::new(&of(i))).collect() }
    }
}

impl Ranges {
    /// Prefixes nest or are apart, never half over each other. So one sweep in address order with a stack of the open
    /// prefixes finds, for each stretch of addresses, the innermost.
    fn new(entries: &[RouteEntry]) -> Self {
        let mut prefixes: Vec<_> = entries
            .iter()
            .map(|e| (first(e.prefix), e.len, last(e.prefix, e.len), Hop { iface: e.iface, gateway: e.gateway }))
            .collect();
        prefixes.sort_by_key(|&(first, len, _, _)| (first, len));
        // The sort is stable: of equal prefixes the first configured stays.
        prefixes.dedup_by_key(|&mut (first, len, _, _)| (first, len));

        let mut out = RangesBuilder { starts: vec![0], hops: vec![None], open: Vec::new() };
        for (first, _, last, hop) in prefixes {
            out.close_before(first);
            out.set(first, Some(hop));
            out.open.push((last, hop));
        }
        out.close_before(u128::MAX);
        Ranges { starts: out.starts.into(), hops: out.hops.into() }
    }

    fn lookup(&self, bits: u128) -> Option<Hop> {
        let behind = self.starts.partition_point(|&start| start <= bits);
        *self.hops.get(behind.checked_sub(1)?)?
    }
}

struct RangesBuilder {
    starts: Vec<u128>,
    hops: Vec<Option<Hop>>,
    open: Vec<(u128, Hop)>,
}

impl RangesBuilder {
    /// Ends the open prefixes whose last address is before `bits`; the one around takes over behind each.
    fn close_before(&mut self, bits: u128) {
        while let Some(&(last, _)) = self.open.last() {
            if last >= bits {
                break;
            }
            self.open.pop();
            let around = self.open.last().map(|&(_, hop)| hop);
            self.set(last + 1, around);
        }
    }

    fn set(&mut self, start: u128, hop: Option<Hop>) {
        if self.starts.last() == Some(&start) {
            self.hops.pop();
            self.hops.push(hop);
        } else {
            self.starts.push(start);
            self.hops.push(hop);
        }
    }
}

fn typed<A: Addr>(hop: Hop) -> Option<Route<A>> {
    // A table of one family holds gateways of that family only.
    Some(Route { iface: hop.iface, gateway: hop.gateway.and_then(A::from_ip) })
}

fn bits<A: Addr>(address: A) -> u128 {
    let [high, low] = address.words();
    u128::from(high) << 64 | u128::from(low)
}

fn first(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn last(prefix: IpAddr, len: u8) -> u128 {
    first(prefix) | !mask(width(prefix), len) & mask_all(width(prefix))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The top `len` of the low `width` bits. `len` is at most `width`.
fn mask(width: u8, len: u8) -> u128 {
    let host = u32::from(width - len);
    mask_all(width) & u128::MAX.checked_shl(host).unwrap_or(0)
}

fn mask_all(width: u8) -> u128 {
    u128::MAX >> (128 - u32::from(width))
}

fn masked(address: IpAddr, len: u8) -> IpAddr {
    let bits = first(address) & mask(width(address), len.min(width(address)));
    match address {
        IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

fn contains(prefix: IpAddr, len: u8, address: IpAddr) -> bool {
    prefix.is_ipv4() == address.is_ipv4() && len <= width(prefix) && masked(prefix, len) == masked(address, len)
}

fn check_len(prefix: IpAddr, len: u8) -> Result<(), RouteError> {
    if len > width(prefix) { Err(RouteError::PrefixLength(prefix, len)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
