//! Pools, services and real servers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use fullnat::route::Routes;
use fullnat::sched::{DEFAULT_TABLE_SIZE, is_prime};

use super::{Owners, Report, Role, family, host};
use crate::config::bounds;
use crate::config::decode::nearest;
use crate::config::path::KeyPath;
use crate::config::short::Persistence;
use crate::config::types::{File, HashBy, Pool, Protocol, Scheduler, Service};

/// Ids of services and servers are 16 bits.
const MAX_IDS: usize = 1 << 16;

/// Local addresses over all pools. Each is announced and has port lists, so a slip like `/64` must not pass.
const MAX_LOCAL: u128 = 1 << 16;

/// Checks the pools of local addresses.
pub(super) fn check_pools(file: &File, owners: &mut Owners, report: &mut Report<'_>) {
    let mut names = HashMap::new();
    let mut total = 0u128;
    for (index, pool) in file.pool.iter().enumerate() {
        let path = KeyPath::key("pool").item(index);
        report.name(&path.join("name"), &pool.name, &mut names);
        if pool.addresses.is_empty() {
            report.error(&path.join("addresses"), "no address: a pool needs at least one");
        }
        if pool.ports.first < 1025 {
            let message =
                format!("{} includes ports below 1025, which some real servers take for privileged", pool.ports);
            report.warn(&path.join("ports"), message);
        }
        for (i, range) in pool.addresses.iter().enumerate() {
            let at = path.join("addresses").item(i);
            total = total.saturating_add(range.count());
            if total > MAX_LOCAL {
                report.error(&at, format!("{range} makes {total} local addresses; {MAX_LOCAL} are the most"));
                return;
            }
            for address in range.iter() {
                if !host(address, &at, report) {
                    break;
                }
                let before = report.errors.len();
                owners.claim(address, Role::Local, &at, report);
                // One line for each range is enough.
                if report.errors.len() > before {
                    break;
                }
            }
        }
    }
}

/// Checks services and servers; gives the index of each service's pool.
pub(super) fn check(file: &File, routes: Option<&Routes>, owners: &mut Owners, report: &mut Report<'_>) -> Vec<usize> {
    let key = KeyPath::key("service");
    if file.service.len() > MAX_IDS {
        report.error(&key, format!("{} services; {MAX_IDS} are the most", file.service.len()));
    }
    let servers: usize = file.service.iter().map(|s| s.servers.len()).sum();
    if servers > MAX_IDS {
        report.error(&key, format!("{servers} servers over all services; {MAX_IDS} are the most"));
    }
    let mut names = HashMap::new();
    let mut listeners: HashMap<(SocketAddr, &str), KeyPath> = HashMap::new();
    for (index, service) in file.service.iter().enumerate() {
        let path = key.item(index);
        report.name(&path.join("name"), &service.name, &mut names);
        check_listen(service, &path.join("listen"), &mut listeners, owners, report);
        check_choice(service, &path, report);
        check_toa(service, &path, report);
        if let Some(rule) = &service.persistence {
            check_persistence(rule, &path.join("persistence"), report);
        }
        let timeouts = service.timeouts.entries();
        for &(key, protocol, _) in timeouts.iter().filter(|&&(_, protocol, _)| protocol != service.protocol) {
            let (is, not) = (protocol_name(service.protocol), protocol_name(protocol));
            report.error(&path.join("timeouts").join(key), format!("is for {not}, but the service is {is}; remove it"));
        }
        super::settings::check_timeouts(&timeouts, &path.join("timeouts"), report);
    }
    // All virtual addresses are known only now, and a server may be none of them.
    for (index, service) in file.service.iter().enumerate() {
        check_servers(service, &key.item(index), routes, owners, report);
    }
    file.service.iter().enumerate().map(|(i, s)| pool(&file.pool, s, &key.item(i), report).unwrap_or(0)).collect()
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn check_listen(
    service: &Service,
    path: &KeyPath,
    seen: &mut HashMap<(SocketAddr, &'static str), KeyPath>,
    owners: &mut Owners,
    report: &mut Report<'_>,
) {
    let listen = service.listen.0;
    if listen.port() == 0 {
        report.error(path, format!("\"{listen}\" has port 0; write the port clients connect to, 1 to 65535"));
    }
    if !host(listen.ip(), path, report) {
        return;
    }
    owners.claim(listen.ip(), Role::Virtual, path, report);
    let protocol = protocol_name(service.protocol);
    if let Some(first) = seen.get(&(listen, protocol)) {
        let line = report.line_of(first);
        report.error(path, format!("{listen}/{protocol} is another service's, on line {line}; change one of them"));
    } else {
        seen.insert((listen, protocol), path.clone());
    }
}

/// Scheduler and what belongs to it.
fn check_choice(service: &Service, path: &KeyPath, report: &mut Report<'_>) {
    let hashing = matches!(service.scheduler, Scheduler::Sh | Scheduler::Mh);
    if service.hash.is_some() && !hashing {
        report.error(&path.join("hash"), "only the schedulers sh and mh hash; remove it, or set scheduler = \"mh\"");
    }
    if service.table_size.is_some() && service.scheduler != Scheduler::Mh {
        report
            .error(&path.join("table_size"), "only the scheduler mh has a table; remove it, or set scheduler = \"mh\"");
    }
    if service.scheduler == Scheduler::Mh {
        let size = service.table_size.unwrap_or(DEFAULT_TABLE_SIZE);
        check_table(size, service.servers.len(), &path.join("table_size"), report);
    }
    if service.persistence.is_some() && service.hash == Some(HashBy::SourcePort) {
        report.warn(
            &path.join("hash"),
            "persistence keeps a client on one server, so hashing its port has little effect",
        );
    }
    if matches!(service.scheduler, Scheduler::Rr | Scheduler::Lc) && service.servers.iter().any(|s| s.weight > 1) {
        let rr = service.scheduler == Scheduler::Rr;
        let (name, other) = if rr { ("rr", "wrr") } else { ("lc", "wlc") };
        let message = format!("{name} takes every weight above 0 for the same; use {other} for weights to count");
        report.warn(&path.join("scheduler"), message);
    }
}

fn check_table(size: u32, servers: usize, path: &KeyPath, report: &mut Report<'_>) {
    if size > *bounds::TABLE_SIZE.end() {
        report.error(path, format!("{size} is too large: {} is the most", bounds::TABLE_SIZE.end()));
    } else if !is_prime(size) {
        let near = (2..=size).rev().find(|&n| is_prime(n)).into_iter().chain((size..).find(|&n| is_prime(n)));
        let near: Vec<String> = near.map(|prime| prime.to_string()).collect();
        report.error(path, format!("{size} is not a prime, which Maglev hashing needs; use {}", near.join(" or ")));
    } else if (size as usize) < servers {
        report.error(
            path,
            format!("{size} slots are fewer than the {servers} servers; use a prime of 100 times as many"),
        );
    } else if (size as usize) < servers * 100 {
        report.warn(
            path,
            format!("{size} slots for {servers} servers spread unevenly; a prime of 100 times as many is better"),
        );
    }
}

fn check_toa(service: &Service, path: &KeyPath, report: &mut Report<'_>) {
    if service.protocol == Protocol::Udp && service.toa == Some(true) {
        report.error(&path.join("toa"), "the client's address travels in a TCP option; remove toa from a UDP service");
    }
}

fn check_persistence(rule: &Persistence, path: &KeyPath, report: &mut Report<'_>) {
    if rule.timeout.is_zero() {
        report.error(&path.join("timeout"), "0 keeps nobody; remove persistence, or write for example \"5m\"");
    }
    for (key, len, range) in [("prefix4", rule.prefix4, bounds::PREFIX4), ("prefix6", rule.prefix6, bounds::PREFIX6)] {
        if !range.contains(&len.into()) {
            report.error(&path.join(key), format!("{len} is longer than an address: 0 to {}", range.end()));
        } else if len == 0 {
            report.warn(&path.join(key), "0 makes all clients one network, so all go to one server");
        }
    }
}

fn check_servers(service: &Service, path: &KeyPath, routes: Option<&Routes>, owners: &Owners, report: &mut Report<'_>) {
    let mut seen: HashMap<SocketAddr, KeyPath> = HashMap::new();
    let path = path.join("servers");
    if service.servers.is_empty() {
        report.warn(&path, "no servers: every connection to the service is refused");
    } else if service.servers.iter().all(|s| s.weight == 0) {
        report.warn(&path, "every server has weight 0: no new connection is accepted");
    }
    for (i, server) in service.servers.iter().enumerate() {
        let (at, address) = (path.item(i), server.address.0);
        let (rip, vip) = (address.ip(), service.listen.0.ip());
        if address.port() == 0 {
            report.error(&at, format!("\"{address}\" has port 0; write the port the server listens at, 1 to 65535"));
        }
        if !host(rip, &at, report) || owners.refuse(rip, &at, "a server", report) {
            continue;
        }
        if rip.is_ipv4() != vip.is_ipv4() {
            report.error(&at, format!("{rip} is {}, but the service listens at {}", family(rip), family(vip)));
            continue;
        }
        // When the routes are wrong that is said already.
        let reachable = routes.is_none_or(|routes| match rip {
            IpAddr::V4(rip) => routes.lookup(rip).is_some(),
            IpAddr::V6(rip) => routes.lookup(rip).is_some(),
        });
        if !reachable {
            report.error(&at, format!("{rip} cannot be reached: no interface, route or gateway leads there"));
            continue;
        }
        if let Some(first) = seen.get(&address) {
            let line = report.line_of(first);
            report.error(
                &at,
                format!("{address} is in this service already, on line {line}; give it more weight instead"),
            );
        } else {
            seen.insert(address, at);
        }
    }
}

/// The pool a service uses: the one it names, or the only one of its family.
fn pool(pools: &[Pool], service: &Service, path: &KeyPath, report: &mut Report<'_>) -> Option<usize> {
    let vip = service.listen.0.ip();
    let fits = |pool: &Pool| pool.addresses.iter().any(|range| same_family(range.first, vip));
    let at = path.join("pool");
    let Some(name) = &service.pool else {
        let mut fitting = pools.iter().enumerate().filter(|(_, pool)| fits(pool));
        let (first, second) = (fitting.next(), fitting.next());
        match (first, second) {
            (Some((index, _)), None) => return Some(index),
            (None, _) => report.error(&at, format!("no pool has {} addresses; add [[pool]] with some", family(vip))),
            (Some((_, a)), Some((_, b))) => {
                let message = format!(
                    "several pools have {} addresses; write pool = \"{}\" or \"{}\"",
                    family(vip),
                    a.name,
                    b.name
                );
                report.error(&at, message);
            }
        }
        return None;
    };
    let Some(index) = pools.iter().position(|pool| pool.name == *name) else {
        let near = nearest(name, pools.iter().map(|pool| pool.name.as_str()));
        let mend = match (near, pools.is_empty()) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, true) => "there is none; add [[pool]]".into(),
            (None, false) => {
                let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
                format!("there are {}", names.join(", "))
            }
        };
        report.error(&at, format!("no pool is named \"{name}\"; {mend}"));
        return None;
    };
    if !fits(&pools[index]) {
        let family = family(vip);
        report.error(
            &at,
            format!("the service listens at {family}, but pool \"{name}\" has no {family} address; add one to it"),
        );
        return None;
    }
    Some(index)
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}
