//! Whether the switch's tables have room for what the config has.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use carom_p4::{Key, LocalV4Key, LocalV6Key, NexthopKey, PairIdV4Key, ServiceIdV4Key, ServiceV4Key, ServiceV6Key};

use super::{Owners, Report, Role, family};
use crate::config::path::KeyPath;
use crate::config::target::TargetProgram;
use crate::config::types::File;

/// That they have. `pools`: the index of each service's pool.
pub(super) fn check(file: &File, pools: &[usize], owners: &Owners, report: &mut Report<'_>) {
    // Table sizes are far below 2³².
    let nexthops = NexthopKey::TABLE.size as u32;
    if u32::from(file.limits.nexthops) > nexthops {
        let message = format!("{} are more than the target's table has room for: {nexthops}", file.limits.nexthops);
        report.error(&KeyPath::key("limits").join("nexthops"), message);
    }
    for (example, services, locals) in [
        (IpAddr::from([0, 0, 0, 0]), ServiceV4Key::TABLE, LocalV4Key::TABLE),
        (IpAddr::from([0; 16]), ServiceV6Key::TABLE, LocalV6Key::TABLE),
    ] {
        let same = |address: IpAddr| address.is_ipv4() == example.is_ipv4();
        let count = file.service.iter().filter(|service| same(service.listen.0.ip())).count() as u64;
        if count > services.size {
            let (family, size) = (family(example), services.size);
            let message =
                format!("{count} services at {family}; the target's table {} has room for {size}", services.name);
            report.error(&KeyPath::key("service"), message);
        }
        let of = |role: Role| owners.count(|address, other| same(address) && other == role);
        let (own, local, vips) = (of(Role::Interface), of(Role::Local), of(Role::Virtual));
        if own + local + vips > locals.size {
            let (family, size) = (family(example), locals.size);
            let message = format!(
                "{local} local {family} addresses, {vips} of services and {own} of interfaces; the target's table {} has \
                 room for {size}",
                locals.name
            );
            report.error(&KeyPath::key("pool"), message);
        }
    }
    if file.target.program == TargetProgram::Ids {
        check_ids(file, pools, report);
    }
}

/// What is without an id goes on in the slow path. So these are warnings.
fn check_ids(file: &File, pools: &[usize], report: &mut Report<'_>) {
    let path = KeyPath::key("target").join("program");
    let services = || file.service.iter().zip(pools).filter(|(service, _)| service.listen.0.is_ipv4());
    let (count, room) = (services().count() as u64, ServiceIdV4Key::TABLE.size);
    if count > room {
        let message = format!(
            "\"ids\" has ids for {room} services at IPv4, and there are {count}: sessions of those that get none stay in the \
             slow path; with \"plain\" there is no such limit"
        );
        report.warn(&path, message);
    }
    let mut servers: HashMap<usize, HashSet<_>> = HashMap::new();
    for (service, pool) in services() {
        let addresses = service.servers.iter().map(|server| (server.address.0, service.protocol));
        servers.entry(*pool).or_default().extend(addresses);
    }
    let local = |pool: &usize| -> u64 {
        let ranges = file.pool.get(*pool).into_iter().flat_map(|pool| &pool.addresses);
        // There are 65 536 at most.
        ranges.filter(|range| range.first.is_ipv4()).map(|range| range.count() as u64).sum()
    };
    let pairs: u64 = servers.iter().map(|(pool, servers)| servers.len() as u64 * local(pool)).sum();
    let room = PairIdV4Key::TABLE.size;
    if pairs > room {
        let message = format!(
            "\"ids\" has ids for {room} pairs of a real server and a local address, and there are {pairs} at IPv4: sessions of \
             those that get none stay in the slow path; fewer local addresses make fewer pairs, with \"plain\" there is no such \
             limit"
        );
        report.warn(&path, message);
    }
}
