//! The little network of the vectors, as entries of the tables.
//!
//! Clients are behind port 1, real servers behind port 2; the slow path is at ports 3 (worker 0) and 4 (worker 1).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use carom_p4::artifacts::BMV2_P4INFO;
use carom_p4::*;
use fullnat::addr::Addr;
use fullnat::flow::FlowKey;
use fullnat::id::Proto::{self, Tcp, Udp};
use fullnat::wire::testing::flow;
use p4runtime_proto::p4::config::v1::P4Info;
use prost::Message;

use crate::file::{Entry, hex};

/// Ports of the switch.
pub const CLIENTS: u16 = 1;
pub const SERVERS: u16 = 2;
pub const SLOWPATH: [u16; 2] = [3, 4];

/// The next hop towards the servers, that towards the clients, and one without entry.
pub const TO_SERVERS: u16 = 1;
pub const TO_CLIENTS: u16 = 0xabc;
const TO_NOWHERE: u16 = 99;

/// The switch's MAC addresses by next hop, and those of the next hops.
pub const FORWARD: [(u16, [u8; 6], [u8; 6], u16); 2] = [
    (TO_SERVERS, [2, 0, 0, 0, 0, 0x22], [2, 0, 0, 0, 0x0a, 0x20], SERVERS),
    (TO_CLIENTS, [0, 0, 0, 0, 0, 0x11], [2, 0xff, 0xff, 0xff, 0xff, 0xfe], CLIENTS),
];

/// One direction of a session: its key, the key it leaves with, its next hop, and what is added to TCP's numbers.
pub struct Session<A> {
    pub key: FlowKey<A>,
    pub to: FlowKey<A>,
    pub nexthop: u16,
    pub deltas: Option<(u32, u32)>,
}

fn both_ways<A: Addr>(client: [&str; 2], server: [&str; 2], proto: Proto, deltas: Option<u32>) -> [Session<A>; 2] {
    let key: FlowKey<A> = flow(client[0], client[1], proto);
    let to: FlowKey<A> = flow(server[0], server[1], proto);
    // What was inserted towards the server is added to the client's numbers, and taken off what acknowledges them.
    let deltas = deltas.map(|added| [(added, 0), (0, added.wrapping_neg())]);
    [
        Session { key, to, nexthop: TO_SERVERS, deltas: deltas.map(|d| d[0]) },
        Session { key: to.reversed(), to: key.reversed(), nexthop: TO_CLIENTS, deltas: deltas.map(|d| d[1]) },
    ]
}

/// Sessions of one family: TCP, UDP, and TCP with sequence numbers moved; both directions of each. Last one whose next
/// hop has no entry.
pub trait Sessions: Addr {
    fn sessions() -> Vec<Session<Self>>;
}

impl Sessions for Ipv4Addr {
    fn sessions() -> Vec<Session<Self>> {
        let vip = |port: u16| format!("198.51.100.10:{port}");
        let mut all: Vec<Session<Self>> = Vec::new();
        all.extend(both_ways(["192.0.2.7:40000", &vip(80)], ["10.0.1.5:1025", "10.0.1.20:8080"], Tcp, None));
        all.extend(both_ways(["192.0.2.7:5353", &vip(53)], ["10.0.1.5:1026", "10.0.1.21:53"], Udp, None));
        all.extend(both_ways(["192.0.2.8:40001", &vip(80)], ["10.0.1.5:1027", "10.0.1.20:8080"], Tcp, Some(40)));
        let [lost, _] = both_ways(["192.0.2.9:40002", &vip(80)], ["10.0.1.5:1028", "10.0.1.20:8080"], Tcp, None);
        all.push(Session { nexthop: TO_NOWHERE, ..lost });
        all
    }
}

impl Sessions for Ipv6Addr {
    fn sessions() -> Vec<Session<Self>> {
        let vip = |port: u16| format!("[2001:db8:1::10]:{port}");
        let rip = |port: u16| format!("[fd00:1::20]:{port}");
        let mut all: Vec<Session<Self>> = Vec::new();
        all.extend(both_ways(["[2001:db8:c::7]:40000", &vip(80)], ["[fd00:1::5]:1025", &rip(8080)], Tcp, None));
        all.extend(both_ways(["[2001:db8:c::7]:5353", &vip(53)], ["[fd00:1::5]:1026", &rip(53)], Udp, None));
        all.extend(both_ways(["[2001:db8:c::8]:40001", &vip(80)], ["[fd00:1::5]:1027", &rip(80)], Tcp, Some(1)));
        let [lost, _] = both_ways(["[2001:db8:c::9]:40002", &vip(80)], ["[fd00:1::5]:1028", &rip(80)], Tcp, None);
        all.push(Session { nexthop: TO_NOWHERE, ..lost });
        all
    }
}

/// P4Info of the program.
pub fn p4info() -> P4Info {
    P4Info::decode(BMV2_P4INFO).expect("P4Info")
}

/// An entry by the names P4Info has for its parts.
fn entry<K: Key>(info: &P4Info, key: K, action: K::Action) -> Entry {
    let table = info.tables.iter().find(|t| t.preamble.as_ref().unwrap().id == K::TABLE.id).expect("the table");
    let does = info.actions.iter().find(|a| a.preamble.as_ref().unwrap().id == action.id()).expect("the action");
    let mut made = Entry {
        table: K::TABLE.name.to_owned(),
        key: BTreeMap::new(),
        action: does.preamble.as_ref().unwrap().name.clone(),
        params: BTreeMap::new(),
    };
    for (id, value) in key.fields().iter() {
        let field = table.match_fields.iter().find(|f| f.id == *id).expect("the field");
        made.key.insert(field.name.clone(), hex(value.as_ref()));
    }
    for (id, value) in action.params().iter() {
        let param = does.params.iter().find(|p| p.id == *id).expect("the parameter");
        made.params.insert(param.name.clone(), hex(value.as_ref()));
    }
    made
}

/// All entries.
pub fn entries() -> Vec<Entry> {
    let info = p4info();
    let mut all = Vec::new();
    for Session { key, to, nexthop, deltas } in Ipv4Addr::sessions() {
        let (src, dst, sport, dport) = (to.src.to_bits(), to.dst.to_bits(), to.sport, to.dport);
        let action = match deltas {
            None => FlowV4Action::RewriteV4 { src, dst, sport, dport, nexthop },
            Some((seq_delta, ack_delta)) => {
                FlowV4Action::RewriteSeqV4 { src, dst, sport, dport, nexthop, seq_delta, ack_delta }
            }
        };
        let (src, dst, proto) = (key.src.to_bits(), key.dst.to_bits(), key.proto as u8);
        all.push(entry(&info, FlowV4Key { src, dst, proto, sport: key.sport, dport: key.dport }, action));
    }
    for Session { key, to, nexthop, deltas } in Ipv6Addr::sessions() {
        let (src, dst, sport, dport) = (to.src.to_bits(), to.dst.to_bits(), to.sport, to.dport);
        let action = match deltas {
            None => FlowV6Action::RewriteV6 { src, dst, sport, dport, nexthop },
            Some((seq_delta, ack_delta)) => {
                FlowV6Action::RewriteSeqV6 { src, dst, sport, dport, nexthop, seq_delta, ack_delta }
            }
        };
        let (src, dst, proto) = (key.src.to_bits(), key.dst.to_bits(), key.proto as u8);
        all.push(entry(&info, FlowV6Key { src, dst, proto, sport: key.sport, dport: key.dport }, action));
    }
    for (nexthop, smac, dmac, port) in FORWARD {
        let action = NexthopAction::Forward { smac, dmac, port: u32::from(port) };
        all.push(entry(&info, NexthopKey { nexthop }, action));
    }
    ours(&info, &mut all);
    for (worker, port) in (0..).zip(SLOWPATH) {
        all.push(entry(&info, SlowpathKey { worker }, SlowpathAction::ToPort { port: port.into() }));
        all.push(entry(&info, InjectKey { port: port.into() }, InjectAction::Honour {}));
    }
    for port in [CLIENTS, SERVERS] {
        all.push(entry(&info, PortKey { vid: port }, PortAction::OutOf { port: port.into() }));
    }
    all
}

/// Services, and addresses of ours. UDP services are worker 1's; worker 7 has no entry.
fn ours(info: &P4Info, all: &mut Vec<Entry>) {
    let v4 = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_bits();
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
    for (proto, dport, worker) in [(6, 80, 0), (17, 53, 1), (17, 9, 7)] {
        let dst = v4("198.51.100.10");
        all.push(entry(info, ServiceV4Key { dst, proto, dport }, ServiceV4Action::PuntServiceV4 { worker }));
        let dst = v6("2001:db8:1::10");
        all.push(entry(info, ServiceV6Key { dst, proto, dport }, ServiceV6Action::PuntServiceV6 { worker }));
    }
    all.push(entry(info, LocalV4Key { dst: v4("198.51.100.10") }, LocalV4Action::PuntOther { worker: 0 }));
    all.push(entry(info, LocalV4Key { dst: v4("10.0.1.5") }, LocalV4Action::PuntAll { worker: 0 }));
    all.push(entry(info, LocalV4Key { dst: v4("10.0.1.1") }, LocalV4Action::PuntAll { worker: 1 }));
    all.push(entry(info, LocalV6Key { dst: v6("2001:db8:1::10") }, LocalV6Action::PuntOther { worker: 0 }));
    all.push(entry(info, LocalV6Key { dst: v6("fd00:1::5") }, LocalV6Action::PuntAll { worker: 0 }));
    all.push(entry(info, LocalV6Key { dst: v6("fd00:1::1") }, LocalV6Action::PuntAll { worker: 1 }));
}
