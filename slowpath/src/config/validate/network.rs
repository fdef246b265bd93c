//! Interfaces and routes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Owners, Report, Role, family, host};
use crate::config::RouteEntry;
use crate::config::path::KeyPath;
use crate::config::types::{File, Interface};
use crate::config::value::Cidr;

/// DPDK's ports are numbered in a byte, and Debian's build has room for 32 (`RTE_MAX_ETHPORTS`).
const MAX_INTERFACES: usize = 32;

/// The smallest MTU of IPv4 that every host must take (RFC 791) and of IPv6 (RFC 8200 section 5).
const MIN_MTU: (u16, u16) = (576, 1280);

/// The largest MTU of common jumbo frames.
const MAX_MTU: u16 = 9600;

/// Checks interfaces and routes; gives all routes.
pub(super) fn check(file: &File, owners: &mut Owners, report: &mut Report<'_>) -> Vec<RouteEntry> {
    let root = KeyPath::root();
    if file.interface.is_empty() {
        let example = "[[interface]] with name, device and addresses";
        report.error(&root, format!("no interface: add {example}"));
    }
    if file.interface.len() > MAX_INTERFACES {
        report.error(&KeyPath::key("interface"), format!("more than {MAX_INTERFACES} interfaces, the most DPDK takes"));
    }
    let mut names = HashMap::new();
    let mut devices: HashMap<String, KeyPath> = HashMap::new();
    let mut routes: Vec<(RouteEntry, KeyPath)> = Vec::new();
    for (index, interface) in file.interface.iter().enumerate() {
        let path = KeyPath::key("interface").item(index);
        report.name(&path.join("name"), &interface.name, &mut names);
        check_device(interface, &path.join("device"), &mut devices, report);
        check_mtu(interface, &path.join("mtu"), report);
        check_addresses(index, interface, &path, &mut routes, owners, report);
    }
    for (index, interface) in file.interface.iter().enumerate() {
        let path = KeyPath::key("interface").item(index);
        check_gateways(index, interface, &path.join("gateway"), &mut routes, owners, report);
        for &neighbor in interface.neighbors.keys() {
            let at = path.join("neighbors").join(&neighbor.to_string());
            owners.refuse(neighbor.0, &at, "a neighbour", report);
            if !interface.addresses.iter().any(|a| a.contains(neighbor.0)) {
                report
                    .error(&at, format!("{neighbor} is not inside a prefix of the interface; {}", prefixes(interface)));
            }
        }
    }
    check_routes(file, &mut routes, owners, report);
    routes.into_iter().map(|(route, _)| route).collect()
}

fn check_device(interface: &Interface, path: &KeyPath, seen: &mut HashMap<String, KeyPath>, report: &mut Report<'_>) {
    let Some(device) = interface.device.exclusive() else { return };
    if let Some(first) = seen.get(&device) {
        let line = report.line_of(first);
        report.error(path, format!("\"{device}\" is the device of another interface on line {line}"));
    } else {
        seen.insert(device, path.clone());
    }
}

fn check_mtu(interface: &Interface, path: &KeyPath, report: &mut Report<'_>) {
    let v6 = interface.addresses.iter().any(|a| a.address.is_ipv6());
    let min = if v6 { MIN_MTU.1 } else { MIN_MTU.0 };
    if interface.mtu < min || interface.mtu > MAX_MTU {
        let why = if v6 { " on an interface with IPv6" } else { "" };
        report.error(path, format!("{} is out of range: {min} to {MAX_MTU}{why}", interface.mtu));
    }
}

/// The interface's own addresses, and the routes to what is on its link.
fn check_addresses(
    index: usize,
    interface: &Interface,
    path: &KeyPath,
    routes: &mut Vec<(RouteEntry, KeyPath)>,
    owners: &mut Owners,
    report: &mut Report<'_>,
) {
    if interface.addresses.is_empty() {
        report.error(&path.join("addresses"), "no address: the interface needs one to ask neighbours from");
    }
    for (i, &cidr) in interface.addresses.iter().enumerate() {
        let at = path.join("addresses").item(i);
        if !host(cidr.address, &at, report) {
            continue;
        }
        let whole = |len: u8| if cidr.address.is_ipv4() { len >= 31 } else { len >= 127 };
        if cidr.len == 0 {
            report
                .error(&at, format!("\"{cidr}\" would put every address on the link; write the length of its subnet"));
            continue;
        }
        if !whole(cidr.len) && (cidr.address == cidr.network() || cidr.address.is_ipv4() && cidr.address == cidr.last())
        {
            report.error(
                &at,
                format!("\"{cidr}\" names the subnet, not a host in it; write the interface's own address"),
            );
            continue;
        }
        owners.claim(cidr.address, Role::Interface, &at, report);
        let to = Cidr { address: cidr.network(), len: cidr.len };
        let other = routes.iter().find(|(r, _)| r.interface != index && r.to.overlaps(to));
        if let Some((route, first)) = other {
            let line = report.line_of(first);
            report.error(&at, format!("{to} overlaps {} of another interface on line {line}", route.to));
            continue;
        }
        if !routes.iter().any(|(r, _)| r.interface == index && r.to == to) {
            routes.push((RouteEntry { to, via: None, interface: index }, at));
        }
    }
}

/// Default gateways: one for each family, over all interfaces.
fn check_gateways(
    index: usize,
    interface: &Interface,
    path: &KeyPath,
    routes: &mut Vec<(RouteEntry, KeyPath)>,
    owners: &Owners,
    report: &mut Report<'_>,
) {
    for gateway in &interface.gateway.0 {
        let via = gateway.0;
        if owners.refuse(via, path, "a gateway", report) {
            continue;
        }
        if !interface.addresses.iter().any(|a| a.contains(via)) {
            report.error(path, format!("{via} is not on the link: {}", prefixes(interface)));
            continue;
        }
        let to = default_prefix(via);
        if let Some((_, first)) = routes.iter().find(|(r, _)| r.to == to) {
            let line = report.line_of(first);
            report.error(path, format!("there is another {} default gateway on line {line}; one is all", family(via)));
            continue;
        }
        routes.push((RouteEntry { to, via: Some(via), interface: index }, path.clone()));
    }
}

fn check_routes(file: &File, routes: &mut Vec<(RouteEntry, KeyPath)>, owners: &Owners, report: &mut Report<'_>) {
    for (index, route) in file.route.iter().enumerate() {
        let path = KeyPath::key("route").item(index);
        let (to, via) = (route.to, route.via.0);
        if to.network() != to.address {
            let mend = Cidr { address: to.network(), len: to.len };
            report.error(&path.join("to"), format!("\"{to}\" has host bits set; write \"{mend}\""));
            continue;
        }
        let at = path.join("via");
        if to.address.is_ipv4() != via.is_ipv4() {
            report.error(&at, format!("{via} is {}, but the route is {}", family(via), family(to.address)));
            continue;
        }
        if owners.refuse(via, &at, "a gateway", report) {
            continue;
        }
        let on_link = |i: &Interface| i.addresses.iter().any(|a| a.contains(via));
        let Some(interface) = file.interface.iter().position(on_link) else {
            report.error(&at, format!("{via} is not inside a prefix of any interface, so it cannot be reached"));
            continue;
        };
        if let Some((_, first)) = routes.iter().find(|(r, _)| r.to == to) {
            let line = report.line_of(first);
            report.error(&path.join("to"), format!("{to} has a route already, on line {line}"));
            continue;
        }
        routes.push((RouteEntry { to, via: Some(via), interface }, path.join("to")));
    }
}

/// 0.0.0.0/0 or ::/0.
fn default_prefix(of: IpAddr) -> Cidr {
    let address = if of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Cidr { address, len: 0 }
}

/// The interface's prefixes in words.
fn prefixes(interface: &Interface) -> String {
    let list: Vec<String> =
        interface.addresses.iter().map(|a| Cidr { address: a.network(), len: a.len }.to_string()).collect();
    if list.is_empty() { "it has no address".into() } else { format!("the interface has {}", list.join(", ")) }
}
