//! The target, and what the interfaces are: devices of this machine, or ports of the switch.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::{Owners, Report, room};
use crate::config::bounds;
use crate::config::path::KeyPath;
use crate::config::switch::{LINK, Place, PuntLimit, Switch, SwitchPort, TlsFiles};
use crate::config::target::{
    Link, Policy, Target, TargetCode, TargetKind, TargetProgram, Tls, TofinoChip, TofinoServer,
};
use crate::config::types::{File, Interface};
use crate::config::value::Duration;
use crate::offload::Kind;

/// Debian's DPDK has room for 32 ports (`RTE_MAX_ETHPORTS`).
pub(super) const MAX_DEVICES: usize = 32;

/// Waits and sweeps beyond this are slips of the pen.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The number softnic has for its way to the slow path: above those of all devices.
const INSIDE_LINK: u16 = 64;

/// How a switch is connected.
struct Connection {
    place: Place,
    address: String,
    link_port: u16,
    ports: Vec<SwitchPort>,
}

/// Checks the target and the interfaces' devices or ports; gives the switch when there is one and all is right.
/// `pools`: the index of each service's pool.
pub(super) fn check(file: &File, pools: &[usize], owners: &Owners, report: &mut Report<'_>) -> Option<Switch> {
    let (target, path) = (&file.target, KeyPath::key("target"));
    let settings_fine = check_settings(target, &path, report);
    let Some(kind) = target.kind.program() else {
        check_devices(
            &file.interface,
            "there is no target whose port it could be; add [target], or write a device instead",
            report,
        );
        if target.link.is_some() || target.address.is_some() {
            report.warn(&path, "there is an address or a link, but kind is \"none\": nothing of it is used");
        }
        return None;
    };
    room::check(file, pools, owners, report);
    let program_fine = check_program(target, kind, &path, report);
    warn_of_mtus(&file.interface, report);
    let connection = match kind {
        Kind::Softnic if target.link.is_none() => check_inside(file, &path, report),
        Kind::Bmv2 | Kind::Softnic | Kind::Tofino => check_outside(file, &path, report),
    };
    let (Some(Connection { place, address, link_port, ports }), true) = (connection, settings_fine && program_fine)
    else {
        return None;
    };
    Some(Switch {
        kind,
        form: target.program.form(),
        tofino: target.tofino.clone(),
        address,
        device_id: target.device_id,
        election_id: target.election_id,
        role: target.role.clone(),
        tls: target.tls.clone().map(|Tls { ca, cert, key, name }| TlsFiles {
            authority: ca,
            identity: cert.zip(key),
            server_name: name,
        }),
        place,
        link_port,
        ports,
        policy: target.policy,
        retry: target.retry,
        sweep: target.sweep,
        punt_limit: target
            .punt_rate
            .map(|rate| PuntLimit { rate, burst: target.punt_burst.unwrap_or_else(|| rate.div_ceil(10)) }),
    })
}

/// Which program it is to run, and what is Tofino's own.
fn check_program(target: &Target, kind: Kind, path: &KeyPath, report: &mut Report<'_>) -> bool {
    let errors_before = report.errors.len();
    if kind == Kind::Softnic && target.program == TargetProgram::Ids {
        report.error(&path.join("program"), "\"ids\" is not for softnic, which has memory enough: remove program");
    }
    match (kind, &target.tofino) {
        (Kind::Tofino, Some(tofino)) => {
            let at = path.join("tofino");
            super::settings::within(&at.join("pipes"), tofino.pipes, &bounds::PIPES, report);
            if tofino.server == TofinoServer::Pi && tofino.chip == TofinoChip::Tofino2 {
                report.error(&at.join("server"), "servers on PI are for Tofino 1 alone; write \"stratum\"");
            }
        }
        (Kind::Tofino, None) => {
            let example = "[target.tofino] with chip = \"tofino1\" and files = \"/usr/share/carom/ids/tofino1\"";
            report.error(path, format!("needs the table \"tofino\"; add for example {example}"));
        }
        (_, Some(_)) => {
            report.error(&path.join("tofino"), "is for kind = \"tofino\": remove it, or change kind");
        }
        (_, None) => {}
    }
    report.errors.len() == errors_before
}

/// A switch at the other end of a cable.
fn check_outside(file: &File, path: &KeyPath, report: &mut Report<'_>) -> Option<Connection> {
    let target = &file.target;
    let link = check_link(target, path, report);
    let ports = check_ports(&file.interface, target.link.as_ref(), report);
    if target.cpu.is_some() {
        report.error(&path.join("cpu"), "is for a softnic in this process: remove cpu");
        return None;
    }
    if target.code != TargetCode::Interpreted {
        report.error(&path.join("code"), "is for a softnic in this process: remove code");
        return None;
    }
    let Some(address) = &target.address else {
        report.error(path, "needs the key \"address\", where P4Runtime is served; add for example \"127.0.0.1:9559\"");
        return None;
    };
    let (link, ports) = link.zip(ports)?;
    Some(Connection {
        place: Place::Outside(link.device.clone()),
        address: address.to_string(),
        link_port: link.port,
        ports,
    })
}

/// The switch in this process: its ports are the interfaces' devices, numbered from 1.
fn check_inside(file: &File, path: &KeyPath, report: &mut Report<'_>) -> Option<Connection> {
    let errors_before = report.errors.len();
    let target = &file.target;
    check_devices(
        &file.interface,
        "softnic numbers its ports itself, one for each device; write a device instead, or link in [target] for one elsewhere",
        report,
    );
    if target.tls.is_some() {
        report.error(&path.join("tls"), "softnic is in the same process, nobody is between: remove tls");
    }
    let address = match &target.address {
        None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        Some(text) => text.to_string().parse().ok(),
    };
    match address {
        None => {
            report.error(
                &path.join("address"),
                "softnic serves it, at an IP address of this host: write one, not a name",
            );
        }
        Some(address) if !address.ip().is_loopback() => {
            report
                .warn(&path.join("address"), "is not a loopback address: whoever reaches it can say what is forwarded");
        }
        Some(_) => {}
    }
    if let Some(cpu) = target.cpu.filter(|cpu| file.workers.cpus.contains(cpu)) {
        report.warn(&path.join("cpu"), format!("CPU {cpu} is a worker's too: the two take turns"));
    }
    let ports = (1..).zip(&file.interface).map(|(port, _)| SwitchPort { port, mac: None }).collect();
    (report.errors.len() == errors_before).then_some(Connection {
        place: Place::Inside { cpu: target.cpu, code: target.code },
        address: address?.to_string(),
        link_port: INSIDE_LINK,
        ports,
    })
}

/// Interfaces with devices of their own, and nothing of a port: `no_port` says why.
fn check_devices(interfaces: &[Interface], no_port: &str, report: &mut Report<'_>) {
    if interfaces.len() > MAX_DEVICES {
        let message = format!("{} interfaces with devices; {MAX_DEVICES} are the most DPDK takes", interfaces.len());
        report.error(&KeyPath::key("interface"), message);
    }
    let mut seen: HashMap<String, KeyPath> = HashMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let path = KeyPath::key("interface").item(index);
        if interface.port.is_some() {
            report.error(&path.join("port"), no_port);
            continue;
        }
        if interface.mac.is_some() {
            report
                .error(&path.join("mac"), "is for a port of a target; a device has an address of its own: remove mac");
        }
        let Some(device) = &interface.device else {
            report.error(&path, "needs the key \"device\"; add for example device = \"af_packet:eth0\"");
            continue;
        };
        let Some(device) = device.exclusive() else { continue };
        let at = path.join("device");
        if let Some(first) = seen.get(&device) {
            let line = report.line_of(first);
            report.error(&at, format!("\"{device}\" is the device of another interface, on line {line}"));
        } else {
            seen.insert(device, at);
        }
    }
}

/// Interfaces of a switch: each is a port of its own, with a MAC address.
fn check_ports(interfaces: &[Interface], link: Option<&Link>, report: &mut Report<'_>) -> Option<Vec<SwitchPort>> {
    let errors_before = report.errors.len();
    let mut ports = Vec::with_capacity(interfaces.len());
    let mut seen: HashMap<u16, KeyPath> = HashMap::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let path = KeyPath::key("interface").item(index);
        if interface.name == LINK {
            report.error(&path.join("name"), format!("\"{LINK}\" is what the link is called; choose a different one"));
        }
        if interface.device.is_some() {
            let message = "with a target interfaces are ports of the switch; write port and mac instead of device";
            report.error(&path.join("device"), message);
            continue;
        }
        let Some(port) = interface.port else {
            report.error(&path, "needs the key \"port\", the switch's port; add for example port = 1");
            continue;
        };
        let at = path.join("port");
        check_port_number(port, &at, report);
        if let Some(first) = seen.get(&port) {
            let line = report.line_of(first);
            report.error(&at, format!("{port} is the port of another interface, on line {line}"));
        } else if let Some(link) = link.filter(|link| link.port == port) {
            let line = report.line_of(&KeyPath::key("target").join("link"));
            report
                .error(&at, format!("{} is the port of the link, on line {line}; clients cannot be there", link.port));
        } else {
            seen.insert(port, at);
        }
        let Some(mac) = interface.mac else {
            report.error(&path, "needs the key \"mac\" with a port; add for example mac = \"02:00:00:00:00:01\"");
            continue;
        };
        // Group addresses are refused as they are read.
        if mac.0.0 == [0; 6] {
            report.error(&path.join("mac"), format!("\"{mac}\" is no host's MAC address; write one of your own"));
        }
        ports.push(SwitchPort { port, mac: Some(mac.0) });
    }
    (report.errors.len() == errors_before).then_some(ports)
}

/// Sessions between interfaces of different MTUs are never installed.
fn warn_of_mtus(interfaces: &[Interface], report: &mut Report<'_>) {
    let Some(first) = interfaces.first() else { return };
    for (index, interface) in interfaces.iter().enumerate().filter(|(_, interface)| interface.mtu != first.mtu) {
        let message = format!(
            "{} here and {} on \"{}\": sessions between interfaces of different MTUs stay in the slow path",
            interface.mtu, first.mtu, first.name
        );
        report.warn(&KeyPath::key("interface").item(index).join("mtu"), message);
    }
}

pub(super) fn check_port_number(port: u16, path: &KeyPath, report: &mut Report<'_>) -> bool {
    let good = bounds::PORT.contains(&port.into());
    if !good {
        let (first, last) = (bounds::PORT.start(), bounds::PORT.end());
        report.error(path, format!("{port} is out of range: {first} to {last}, what the VLAN id of a tag can name"));
    }
    good
}

fn check_link<'a>(target: &'a Target, path: &KeyPath, report: &mut Report<'_>) -> Option<&'a Link> {
    let Some(link) = &target.link else {
        let example = "link = { device = \"af_packet:eth0\", port = 64 }";
        report.error(
            path,
            format!("needs the key \"link\", Carom's device and the switch's port; add for example {example}"),
        );
        return None;
    };
    check_port_number(link.port, &path.join("link").join("port"), report).then_some(link)
}

/// What concerns the target alone; true when all is right.
fn check_settings(target: &Target, path: &KeyPath, report: &mut Report<'_>) -> bool {
    let errors_before = report.errors.len();
    for (key, value, range) in
        [("device_id", target.device_id, bounds::DEVICE_ID), ("election_id", target.election_id, bounds::ELECTION_ID)]
    {
        if !range.contains(&value) {
            report.error(&path.join(key), format!("{value} is no id; write 1 or more"));
        }
    }
    if let Some(Tls { cert, key, .. }) = &target.tls {
        let at = path.join("tls");
        match (cert, key) {
            (Some(_), None) => report.error(&at.join("cert"), "has no key to it; add key, the file of its private key"),
            (None, Some(_)) => report.error(&at.join("key"), "has no certificate to it; add cert, its file"),
            _ => {}
        }
    }
    for (key, value) in [("retry", target.retry), ("sweep", target.sweep)] {
        if value < Duration::from_ms(10) || value > MAX_WAIT {
            report.error(&path.join(key), format!("{value} is out of range: 10ms to {MAX_WAIT}"));
        }
    }
    let range = |key: &str, value: u32, range: RangeInclusive<u32>, report: &mut Report<'_>| {
        super::settings::within(&path.join(key), value, &range, report)
    };
    match target.policy {
        Policy::Never | Policy::Established | Policy::Adaptive => true,
        Policy::Packets(packets) => range("policy", packets, bounds::ELEPHANT_PACKETS, report),
        Policy::Bytes(bytes) => range("policy", bytes, bounds::ELEPHANT_BYTES, report),
        Policy::Pps(pps) => range("policy", pps.into(), bounds::ELEPHANT_PPS, report),
    };
    for (key, value) in [("punt_rate", target.punt_rate), ("punt_burst", target.punt_burst)] {
        if let Some(value) = value {
            range(key, value, bounds::PUNT, report);
        }
    }
    if target.kind == TargetKind::Softnic && target.punt_rate.is_some() {
        report.error(&path.join("punt_rate"), "the program of softnic has no meters: remove punt_rate");
    }
    if target.punt_burst.is_some() && target.punt_rate.is_none() {
        report.error(&path.join("punt_burst"), "without punt_rate nothing is limited; add punt_rate, or remove it");
    }
    report.errors.len() == errors_before
}
