//! The checks that look at more than one value, each with its key and mend.

mod network;
mod room;
mod service;
mod settings;
pub(super) mod softnic;
mod target;

use std::collections::HashMap;
use std::net::IpAddr;

use fullnat::route::Routes;

use super::path::KeyPath;
use super::switch::Switch;
use super::types::File;
use super::{Problem, Source};

/// What the checks worked out on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolved {
    /// Index of each service's pool.
    pub pools: Vec<usize>,
    /// All routes.
    pub routes: Routes,
    /// The switch, when there is a target.
    pub switch: Option<Switch>,
}

/// Checks a config. Gives errors and warnings, in no order.
pub(super) fn validate(file: &File, source: &Source) -> (Resolved, Vec<Problem>, Vec<Problem>) {
    let mut report = Report { source, errors: Vec::new(), warnings: Vec::new() };
    let mut owners = Owners::default();
    let routes = network::check(file, &mut owners, &mut report);
    service::check_pools(file, &mut owners, &mut report);
    let pools = service::check(file, routes.as_ref(), &mut owners, &mut report);
    let switch = target::check(file, &pools, &owners, &mut report);
    settings::check(file, &mut report);
    (Resolved { pools, routes: routes.unwrap_or_default(), switch }, report.errors, report.warnings)
}

/// Collects problems.
struct Report<'a> {
    source: &'a Source,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Report<'_> {
    fn error(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.errors.push(self.source.problem(path, None, message.into()));
    }

    fn warn(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.warnings.push(self.source.problem(path, None, message.into()));
    }

    /// The line on which the value at `path` stands, for messages that point to another place.
    fn line_of(&self, path: &KeyPath) -> usize {
        self.source.places.line(&self.source.text, self.source.places.span(path)).0
    }

    /// Checks a name, which stands in logs, metrics and addresses of the API, and that no other of its kind has it.
    fn name<'n>(&mut self, path: &KeyPath, name: &'n str, seen: &mut HashMap<&'n str, KeyPath>) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
            self.error(path, format!("\"{name}\" is no name: use 1 to 63 letters, digits, \"-\", \"_\" or \".\""));
        }
        if let Some(first) = seen.get(name) {
            let line = self.line_of(first);
            self.error(path, format!("\"{name}\" is the name of another one on line {line}; choose a different one"));
        } else {
            seen.insert(name, path.clone());
        }
    }
}

/// Who uses which address.
#[derive(Debug, Default)]
struct Owners(HashMap<IpAddr, (Role, KeyPath)>);

/// What an address is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Interface,
    Local,
    Virtual,
    /// The first address of a prefix on an interface's link, which is no host's.
    Subnet,
    /// The last one (RFC 919).
    Broadcast,
    /// Another host's, which may be a real server too.
    Gateway,
}

impl Role {
    fn text(self) -> &'static str {
        match self {
            Role::Interface => "an interface's own address",
            Role::Local => "a local address of a pool",
            Role::Virtual => "a service's address",
            Role::Subnet => "the address of an interface's subnet itself",
            Role::Broadcast => "the broadcast address of an interface's subnet",
            Role::Gateway => "a gateway's address",
        }
    }
}

impl Owners {
    /// Claims an address for one use, or says who has it. Services may share theirs.
    fn claim(&mut self, address: IpAddr, role: Role, path: &KeyPath, report: &mut Report<'_>) {
        let Some((other, at)) = self.0.get(&address) else {
            self.0.insert(address, (role, path.clone()));
            return;
        };
        if (role, *other) == (Role::Virtual, Role::Virtual) {
            return;
        }
        let line = report.line_of(at);
        report.error(path, format!("{address} is {}, on line {line}; use another address", other.text()));
    }

    /// Keeps an address that can never be ours from being claimed.
    fn reserve(&mut self, address: IpAddr, role: Role, path: &KeyPath) {
        self.0.entry(address).or_insert_with(|| (role, path.clone()));
    }

    /// How many addresses of this kind there are.
    fn count(&self, of: impl Fn(IpAddr, Role) -> bool) -> u64 {
        self.0.iter().filter(|(address, (role, _))| of(**address, *role)).count() as u64
    }

    /// Reports an address that must be another host's, but is ours or nobody's.
    fn refuse(&self, address: IpAddr, path: &KeyPath, what: &str, report: &mut Report<'_>) -> bool {
        let Some((role, at)) = self.0.get(&address).filter(|(role, _)| *role != Role::Gateway) else { return false };
        let line = report.line_of(at);
        report.error(path, format!("{address} is {} (line {line}) and cannot be {what} as well", role.text()));
        true
    }
}

/// Why no host can have this address, if so.
fn not_a_host(address: IpAddr) -> Option<&'static str> {
    let special = match address {
        IpAddr::V4(a) if a.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(a) if a.octets()[0] == 0 => Some("an address of \"this network\" (0.0.0.0/8)"),
        IpAddr::V4(a) if a.octets()[0] >= 240 => Some("a reserved address (240.0.0.0/4)"),
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 form"),
        IpAddr::V6(a) if a.is_unicast_link_local() => Some("a link-local address"),
        _ => None,
    };
    special.or(match () {
        () if address.is_unspecified() => Some("the unspecified address"),
        () if address.is_loopback() => Some("a loopback address"),
        () if address.is_multicast() => Some("a multicast address"),
        () => None,
    })
}

/// Reports an address no host can have; true when it is fine.
fn host(address: IpAddr, path: &KeyPath, report: &mut Report<'_>) -> bool {
    match not_a_host(address) {
        Some(why) => {
            report.error(path, format!("{address} is {why}; write an address of one host that others can reach"));
            false
        }
        None => true,
    }
}

/// The name of an address's family.
fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
