//! The checks of the config of `carom softnic`.

use std::collections::HashMap;

use super::settings::{check_dpdk, check_metrics, within};
use super::target::{MAX_DEVICES, check_port_number};
use super::{Problem, Report, Source};
use crate::config::bounds;
use crate::config::path::KeyPath;
use crate::config::softnic::SoftnicFile;

/// Gives errors and warnings, in no order.
pub(in crate::config) fn validate(file: &SoftnicFile, source: &Source) -> (Vec<Problem>, Vec<Problem>) {
    let mut report = Report { source, errors: Vec::new(), warnings: Vec::new() };
    check_ports(file, &mut report);
    check_p4runtime(file, &mut report);
    check_packet_port(file, &mut report);
    let mut names = HashMap::new();
    for (index, table) in file.table.iter().enumerate() {
        let path = KeyPath::key("table").item(index);
        report.name(&path.join("name"), &table.name, &mut names);
        within(&path.join("size"), table.size, &bounds::ENTRIES, &mut report);
    }
    if let Some(cpu) = file.engine.cpu {
        within(&KeyPath::key("engine").join("cpu"), cpu.into(), &bounds::CPU, &mut report);
    }
    check_dpdk(&file.dpdk, &mut report);
    check_metrics(&file.metrics, &mut report);
    (report.errors, report.warnings)
}

fn check_ports(file: &SoftnicFile, report: &mut Report<'_>) {
    let all = KeyPath::key("port");
    if file.port.is_empty() {
        report.error(&KeyPath::root(), "needs at least one [[port]], each with number and device");
    } else if file.port.len() > MAX_DEVICES {
        report.error(&all, format!("{} ports; {MAX_DEVICES} devices are the most DPDK takes", file.port.len()));
    }
    let mut numbers: HashMap<u16, KeyPath> = HashMap::new();
    let mut devices: HashMap<String, KeyPath> = HashMap::new();
    for (index, port) in file.port.iter().enumerate() {
        let path = all.item(index);
        let at = path.join("number");
        check_port_number(port.number, &at, report);
        match numbers.get(&port.number) {
            Some(first) => {
                let line = report.line_of(first);
                report.error(&at, format!("{} is the number of another port, on line {line}", port.number));
            }
            None => _ = numbers.insert(port.number, at),
        }
        within(&path.join("mtu"), port.mtu.into(), &bounds::MTU, report);
        let Some(device) = port.device.exclusive() else { continue };
        let at = path.join("device");
        match devices.get(&device) {
            Some(first) => {
                let line = report.line_of(first);
                report.error(&at, format!("\"{device}\" is the device of another port, on line {line}"));
            }
            None => _ = devices.insert(device, at),
        }
    }
}

/// The port of controllers is none of the others.
fn check_packet_port(file: &SoftnicFile, report: &mut Report<'_>) {
    let Some(number) = file.p4runtime.packet_port else { return };
    let at = KeyPath::key("p4runtime").join("packet_port");
    check_port_number(number, &at, report);
    if let Some(index) = file.port.iter().position(|port| port.number == number) {
        let line = report.line_of(&KeyPath::key("port").item(index).join("number"));
        report.error(&at, format!("{number} is the number of a port with a device, on line {line}"));
    }
}

fn check_p4runtime(file: &SoftnicFile, report: &mut Report<'_>) {
    let (p4runtime, path) = (&file.p4runtime, KeyPath::key("p4runtime"));
    let at = path.join("listen");
    let address = p4runtime.listen.0;
    if address.port() == 0 {
        report.error(&at, "port 0; write the port to serve P4Runtime at, for example 9559");
    }
    let asks_who = p4runtime.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if !address.ip().is_loopback() && !asks_who {
        report.warn(&at, "is not a loopback address: whoever reaches it can say what is forwarded; set tls.client_ca");
    }
    if !bounds::DEVICE_ID.contains(&p4runtime.device_id) {
        report.error(&path.join("device_id"), format!("{} is no id; write 1 or more", p4runtime.device_id));
    }
    within(&path.join("controllers"), p4runtime.controllers, &bounds::CONTROLLERS, report);
}
