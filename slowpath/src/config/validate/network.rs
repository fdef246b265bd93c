//! Interfaces and routes.

use std::collections::HashMap;
use std::net::IpAddr;

use fullnat::id::IfaceId;
use fullnat::route::{Routes, RoutesBuilder};

use super::{Owners, Report, Role, family, host};
use crate::config::bounds;
use crate::config::decode::nearest;
use crate::config::path::KeyPath;
use crate::config::types::{File, Interface, Route};
use crate::config::value::Cidr;

/// Interfaces are numbered in a byte, of which a worker keeps the last number for "none".
const MAX_INTERFACES: usize = 255;

/// The routes found right so far, and where each stands.
#[derive(Default)]
struct Found {
    builder: RoutesBuilder,
    /// By prefix and interface.
    places: HashMap<(Cidr, usize), KeyPath>,
    /// The interfaces' own prefixes.
    connected: Vec<(Cidr, usize, KeyPath)>,
}

/// Checks interfaces and routes; gives the routes when all is right.
pub(super) fn check(file: &File, owners: &mut Owners, report: &mut Report<'_>) -> Option<Routes> {
    let (root, errors_before) = (KeyPath::root(), report.errors.len());
    if file.interface.is_empty() {
        report.error(&KeyPath::key("interface"), "there is none; add [[interface]] with name, device and addresses");
    }
    if file.interface.len() > MAX_INTERFACES {
        report
            .error(&KeyPath::key("interface"), format!("more than {MAX_INTERFACES} interfaces, the most there can be"));
        return None;
    }
    let mut names = HashMap::new();
    let mut found = Found::default();
    for (index, interface) in file.interface.iter().enumerate() {
        let path = KeyPath::key("interface").item(index);
        report.name(&path.join("name"), &interface.name, &mut names);
        check_mtu(interface, &path.join("mtu"), report);
        check_addresses(index, interface, &path, &mut found, owners, report);
    }
    for (prefix, _, at) in &found.connected {
        if prefix.len < pair(prefix.address) {
            owners.reserve(prefix.network(), Role::Subnet, at);
            // IPv6 has no broadcast.
            if prefix.address.is_ipv4() {
                owners.reserve(prefix.last(), Role::Broadcast, at);
            }
        }
    }
    for (index, interface) in file.interface.iter().enumerate() {
        let path = KeyPath::key("interface").item(index);
        check_gateways(index, interface, &path.join("gateway"), &mut found, owners, report);
        check_neighbors(interface, &path.join("neighbors"), owners, report);
    }
    for (index, route) in file.route.iter().enumerate() {
        check_route(file, route, &KeyPath::key("route").item(index), &mut found, owners, report);
    }
    if report.errors.len() > errors_before {
        return None;
    }
    // What the builder refuses was refused above, with its line.
    found.builder.build().map_err(|error| report.error(&root, error.to_string())).ok()
}

fn check_mtu(interface: &Interface, path: &KeyPath, report: &mut Report<'_>) {
    let v6 = interface.addresses.iter().any(|a| a.address.is_ipv6());
    let range = if v6 { bounds::MIN_MTU6..=*bounds::MTU.end() } else { bounds::MTU };
    if !range.contains(&interface.mtu.into()) {
        let why = if v6 { " on an interface with IPv6" } else { "" };
        let message = format!("{} is out of range: {} to {}{why}", interface.mtu, range.start(), range.end());
        report.error(path, message);
    }
}

/// The interface's own addresses, and the routes to what is on its link.
fn check_addresses(
    index: usize,
    interface: &Interface,
    path: &KeyPath,
    found: &mut Found,
    owners: &mut Owners,
    report: &mut Report<'_>,
) {
    if interface.addresses.is_empty() {
        report.error(&path.join("addresses"), "no address; the interface needs one to ask its neighbours from");
    }
    for (i, &cidr) in interface.addresses.iter().enumerate() {
        let at = path.join("addresses").item(i);
        if !host(cidr.address, &at, report) {
            continue;
        }
        if cidr.len == 0 {
            report
                .error(&at, format!("\"{cidr}\" would put every address on the link; write the length of its subnet"));
            continue;
        }
        let v4 = cidr.address.is_ipv4();
        if cidr.len < pair(cidr.address) && (cidr.address == cidr.network() || v4 && cidr.address == cidr.last()) {
            report.error(
                &at,
                format!("\"{cidr}\" names the subnet, not a host in it; write the interface's own address"),
            );
            continue;
        }
        owners.claim(cidr.address, Role::Interface, &at, report);
        let to = cidr.prefix();
        if let Some((other, _, first)) = found.connected.iter().find(|(p, on, _)| *on != index && p.overlaps(to)) {
            let line = report.line_of(first);
            report.error(&at, format!("{to} overlaps {other} of another interface, on line {line}"));
            continue;
        }
        found.builder.connected(IfaceId(index as u8), cidr.address, cidr.len);
        found.places.entry((to, index)).or_insert_with(|| at.clone());
        found.connected.push((to, index, at));
    }
}

/// The length of prefixes with two addresses, which have no address of the subnet itself (RFC 3021, RFC 6164).
fn pair(address: IpAddr) -> u8 {
    if address.is_ipv4() { 31 } else { 127 }
}

/// Whether `address` is a direct neighbour: inside a prefix of the interface, or link-local (RFC 4291 section 2.5.6).
fn on_link(interface: &Interface, address: IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    let v6 = || interface.addresses.iter().any(|a| a.address.is_ipv6());
    link_local && v6() || interface.addresses.iter().any(|a| a.contains(address))
}

/// Default gateways: one of each family on an interface.
fn check_gateways(
    index: usize,
    interface: &Interface,
    path: &KeyPath,
    found: &mut Found,
    owners: &mut Owners,
    report: &mut Report<'_>,
) {
    for gateway in &interface.gateway.0 {
        let via = gateway.0;
        if owners.refuse(via, path, "a gateway", report) {
            continue;
        }
        if !on_link(interface, via) {
            report.error(path, format!("{via} is not on the link: {}", prefixes(interface)));
            continue;
        }
        let to = Cidr::all(via.is_ipv4());
        if found.places.insert((to, index), path.clone()).is_some() {
            report.error(path, format!("{via} is a second {} gateway of the interface; one is all", family(via)));
            continue;
        }
        owners.reserve(via, Role::Gateway, path);
        found.builder.default_gateway(IfaceId(index as u8), via);
    }
}

fn check_neighbors(interface: &Interface, path: &KeyPath, owners: &Owners, report: &mut Report<'_>) {
    for (address, mac) in &interface.neighbors {
        let at = path.join(&address.to_string());
        if owners.refuse(address.0, &at, "a neighbour", report) {
            continue;
        }
        if !on_link(interface, address.0) {
            report.error(&at, format!("{address} is not on the link: {}", prefixes(interface)));
        }
        if mac.0.0 == [0; 6] {
            report.error(&at, format!("\"{mac}\" is no host's MAC address"));
        }
    }
}

fn check_route(
    file: &File,
    route: &Route,
    path: &KeyPath,
    found: &mut Found,
    owners: &Owners,
    report: &mut Report<'_>,
) {
    let to = route.to;
    if to.prefix() != to {
        report.error(&path.join("to"), format!("\"{to}\" has host bits set; write \"{}\"", to.prefix()));
        return;
    }
    let Some(interface) = route_interface(file, route, path, owners, report) else { return };
    if let Some(first) = found.places.get(&(to, interface)) {
        let line = report.line_of(first);
        report.error(&path.join("to"), format!("{to} has a route by this interface already, on line {line}"));
        return;
    }
    found.places.insert((to, interface), path.join("to"));
    let iface = IfaceId(interface as u8);
    match route.via {
        Some(via) => found.builder.via(to.address, to.len, via.0, Some(iface)),
        None => found.builder.on_link(to.address, to.len, iface),
    };
}

/// The interface a route leaves by.
fn route_interface(
    file: &File,
    route: &Route,
    path: &KeyPath,
    owners: &Owners,
    report: &mut Report<'_>,
) -> Option<usize> {
    let named = match &route.interface {
        Some(name) => Some(interface_named(file, name, &path.join("interface"), report)?),
        None => None,
    };
    let Some(via) = route.via.map(|via| via.0) else {
        if named.is_none() {
            report.error(path, "a route needs a gateway (via), or an interface whose link the prefix is on");
        }
        return named;
    };
    let at = path.join("via");
    if route.to.address.is_ipv4() != via.is_ipv4() {
        report.error(&at, format!("{via} is {}, but the route is {}", family(via), family(route.to.address)));
        return None;
    }
    if owners.refuse(via, &at, "a gateway", report) {
        return None;
    }
    if let Some(index) = named {
        let interface = &file.interface[index];
        if !on_link(interface, via) {
            report.error(&at, format!("{via} is not on the link of \"{}\": {}", interface.name, prefixes(interface)));
            return None;
        }
        return named;
    }
    if matches!(via, IpAddr::V6(a) if a.is_unicast_link_local()) {
        report.error(&at, format!("{via} is link-local, it could be on any link; name the interface as well"));
        return None;
    }
    let found = file.interface.iter().position(|interface| on_link(interface, via));
    if found.is_none() {
        report.error(&at, format!("{via} is not inside a prefix of any interface, so it cannot be reached"));
    }
    found
}

fn interface_named(file: &File, name: &str, path: &KeyPath, report: &mut Report<'_>) -> Option<usize> {
    let found = file.interface.iter().position(|interface| interface.name == name);
    if found.is_none() {
        let names: Vec<&str> = file.interface.iter().map(|interface| interface.name.as_str()).collect();
        let mend = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there are {}", names.join(", ")),
        };
        report.error(path, format!("no interface is named \"{name}\"; {mend}"));
    }
    found
}

/// The interface's prefixes in words.
fn prefixes(interface: &Interface) -> String {
    let list: Vec<String> = interface.addresses.iter().map(|a| a.prefix().to_string()).collect();
    if list.is_empty() {
        "the interface has no address".into()
    } else {
        format!("the interface has {}", list.join(", "))
    }
}
