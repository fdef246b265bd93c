use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::testing::Rng;

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn v4(s: &str) -> Ipv4Addr {
    s.parse().unwrap()
}

fn two_arms() -> RoutesBuilder {
    let mut b = Routes::builder();
    b.connected(IfaceId(0), ip("192.0.2.1"), 24).connected(IfaceId(1), ip("10.0.0.1"), 16).connected(
        IfaceId(1),
        ip("2001:db8::1"),
        64,
    );
    b
}

#[test]
fn longest_prefix_wins() {
    let routes = two_arms()
        .default_gateway(IfaceId(0), ip("192.0.2.254"))
        .via(ip("10.0.0.0"), 8, ip("10.0.0.7"), None)
        .via(ip("10.0.5.5"), 32, ip("10.0.0.8"), None)
        .build()
        .unwrap();
    let via = |iface, gateway: &str| Some(Route { iface: IfaceId(iface), gateway: Some(v4(gateway)) });
    assert_eq!(routes.lookup(v4("198.51.100.9")), via(0, "192.0.2.254"));
    assert_eq!(routes.lookup(v4("192.0.2.9")), Some(Route { iface: IfaceId(0), gateway: None }));
    assert_eq!(routes.lookup(v4("10.0.5.4")), Some(Route { iface: IfaceId(1), gateway: None }));
    assert_eq!(routes.lookup(v4("10.0.5.5")), via(1, "10.0.0.8"));
    assert_eq!(routes.lookup(v4("10.0.5.6")), Some(Route { iface: IfaceId(1), gateway: None }));
    assert_eq!(routes.lookup(v4("10.1.0.0")), via(1, "10.0.0.7"));
    assert_eq!(routes.lookup(v4("11.0.0.0")), via(0, "192.0.2.254"));
    assert_eq!(routes.lookup(v4("255.255.255.255")), via(0, "192.0.2.254"));
    assert_eq!(routes.lookup::<Ipv6Addr>("2001:db9::".parse().unwrap()), None);
}

#[test]
fn an_empty_table_has_no_route() {
    assert_eq!(Routes::default().lookup(v4("10.0.0.1")), None);
    assert_eq!(Routes::default().lookup_from(IfaceId(3), Ipv6Addr::LOCALHOST), None);
}

#[test]
fn the_first_of_two_default_gateways_wins_and_replies_go_back_where_they_came_from() {
    let routes = two_arms()
        .default_gateway(IfaceId(1), ip("10.0.0.254"))
        .default_gateway(IfaceId(0), ip("192.0.2.254"))
        .build()
        .unwrap();
    let client = v4("198.51.100.9");
    assert_eq!(routes.lookup(client).unwrap().gateway, Some(v4("10.0.0.254")));
    assert_eq!(routes.lookup_from(IfaceId(0), client).unwrap().gateway, Some(v4("192.0.2.254")));
    assert_eq!(routes.lookup_from(IfaceId(1), client).unwrap().gateway, Some(v4("10.0.0.254")));
    assert_eq!(routes.lookup_from(IfaceId(9), client), routes.lookup(client));
}

#[test]
fn an_interface_without_a_route_back_leaves_it_to_the_longest_match() {
    let routes = two_arms().default_gateway(IfaceId(0), ip("192.0.2.254")).build().unwrap();
    let client = v4("198.51.100.9");
    assert_eq!(routes.lookup_from(IfaceId(1), client), routes.lookup(client));
    assert_eq!(routes.lookup_from(IfaceId(0), client).unwrap().iface, IfaceId(0));
}

#[test]
fn gateways_must_be_on_the_link() {
    let error = |b: &mut RoutesBuilder| b.build().unwrap_err();
    let far = ip("172.16.0.1");
    assert_eq!(error(two_arms().default_gateway(IfaceId(0), far)), RouteError::GatewayNotOnLink(far));
    let other_arm = ip("10.0.0.7");
    assert_eq!(error(two_arms().default_gateway(IfaceId(0), other_arm)), RouteError::GatewayNotOnLink(other_arm));
    let own = ip("10.0.0.1");
    assert_eq!(error(two_arms().default_gateway(IfaceId(1), own)), RouteError::GatewayIsOwn(own));
    let ll = ip("fe80::1");
    assert_eq!(error(two_arms().via(ip("::"), 0, ll, None)), RouteError::GatewayNeedsInterface(ll));
    let routes = two_arms().default_gateway(IfaceId(0), ll).build().unwrap();
    assert_eq!(routes.lookup::<Ipv6Addr>(Ipv6Addr::LOCALHOST).unwrap().gateway, Some("fe80::1".parse().unwrap()));
    let (net, v6gw) = (ip("10.9.0.0"), ip("2001:db8::2"));
    assert_eq!(error(two_arms().via(net, 16, v6gw, None)), RouteError::Family(net, v6gw));
}

#[test]
fn prefixes_are_checked() {
    let error = |b: &mut RoutesBuilder| b.build().unwrap_err();
    let bad = ip("10.9.0.1");
    let message = error(two_arms().via(bad, 16, ip("10.0.0.7"), None)).to_string();
    assert_eq!(message, "10.9.0.1/16: bits behind the prefix are set; 10.9.0.0/16 is the prefix");
    assert_eq!(error(two_arms().on_link(bad, 33, IfaceId(0))), RouteError::PrefixLength(bad, 33));
    let net = ip("10.9.0.0");
    let mut twice = two_arms();
    twice.via(net, 16, ip("10.0.0.7"), None).via(net, 16, ip("10.0.0.8"), None);
    assert_eq!(error(&mut twice), RouteError::Duplicate(net, 16));
}

#[test]
fn a_route_on_the_link_makes_its_gateways_reachable() {
    let routes = two_arms()
        .on_link(ip("203.0.113.1"), 32, IfaceId(0))
        .via(ip("0.0.0.0"), 0, ip("203.0.113.1"), None)
        .build()
        .unwrap();
    assert_eq!(routes.lookup(v4("8.8.8.8")).unwrap().next_hop(v4("8.8.8.8")), v4("203.0.113.1"));
    assert_eq!(routes.gateways().collect::<Vec<_>>(), [(IfaceId(0), ip("203.0.113.1"))]);
}

/// What the table must agree with: look at every route, keep the longest, the earlier of equals.
fn oracle(routes: &Routes, dst: IpAddr, by: Option<IfaceId>) -> Option<(IfaceId, Option<IpAddr>)> {
    let mut best: Option<&RouteEntry> = None;
    for e in routes.entries() {
        let wanted = by.is_none_or(|i| i == e.iface) && contains(e.prefix, e.len, dst);
        if wanted && best.is_none_or(|b| e.len > b.len) {
            best = Some(e);
        }
    }
    best.map(|e| (e.iface, e.gateway))
}

/// An address whose bits are mostly those of a few bases, so that prefixes nest deeply and lookups hit their edges.
fn draw(rng: &mut Rng, v6: bool) -> IpAddr {
    let base = [0u128, u128::MAX, 0x5555_5555_5555_5555_5555_5555_5555_5555][(rng.u64() % 3) as usize];
    let flip = 1u128 << (rng.u64() % 128) | 1u128 << (rng.u64() % 32);
    let bits = if rng.chance(1, 8) { u128::from(rng.u64()) << 64 | u128::from(rng.u64()) } else { base ^ flip };
    if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) }
}

#[test]
fn agrees_with_a_scan_of_all_routes() {
    let mut rng = Rng::new(1);
    for round in 0..200 {
        let count = if round < 190 { 1 + rng.u64() % 64 } else { 3000 };
        let mut b = Routes::builder();
        let mut probes = Vec::new();
        for _ in 0..count {
            let v6 = rng.chance(1, 2);
            let len = (rng.u64() % if v6 { 129 } else { 33 }) as u8;
            let prefix = masked(draw(&mut rng, v6), len);
            let iface = IfaceId((rng.u64() % 4) as u8);
            b.on_link(prefix, len, iface);
            let (low, high) = (first(prefix), last(prefix, len));
            for bits in [low, high, low.wrapping_sub(1), high.wrapping_add(1)] {
                probes.push(if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) });
            }
        }
        probes.extend((0..64).map(|i| draw(&mut rng, i % 2 == 0)));
        let routes = b.build().unwrap();
        for (i, &dst) in probes.iter().enumerate().filter(|(i, _)| count < 1000 || i % 16 == 0) {
            let iface = IfaceId((i % 5) as u8);
            let back = oracle(&routes, dst, Some(iface)).or_else(|| oracle(&routes, dst, None));
            match dst {
                IpAddr::V4(dst) => {
                    assert_eq!(plain(routes.lookup(dst)), oracle(&routes, dst.into(), None), "{dst}");
                    assert_eq!(plain(routes.lookup_from(iface, dst)), back, "{dst} by {iface}");
                }
                IpAddr::V6(dst) => {
                    assert_eq!(plain(routes.lookup(dst)), oracle(&routes, dst.into(), None), "{dst}");
                    assert_eq!(plain(routes.lookup_from(iface, dst)), back, "{dst} by {iface}");
                }
            }
        }
    }
}

fn plain<A: Addr>(route: Option<Route<A>>) -> Option<(IfaceId, Option<IpAddr>)> {
    route.map(|r| (r.iface, r.gateway.map(Into::into)))
}
