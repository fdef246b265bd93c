//! The vectors on BMv2: the real `simple_switch_grpc`, programmed over P4Runtime, its ports pcap files. Needs no
//! privileges and touches no network interface.

mod control;
mod ids;
mod random;
mod switch;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use carom_p4::artifacts::{
    BMV2_IDS_JSON, BMV2_IDS_P4INFO, BMV2_JSON, BMV2_P4INFO, bmv2_ids_json_with_room_for, bmv2_json_with_room_for,
};
use carom_p4::{
    ConnectionV4EvenKey, ConnectionV4OddKey, FlowV4Key, FlowV6Key, IDS_TABLES, InboundV4Key, Key, ServiceV4Key,
    SwitchDrop, TABLES, Table,
};
use fullnat::id::Proto;
use fullnat::wire::testing::{Build, flow};

use p4runtime_proto::google::rpc::Code;

use self::control::Control;
use self::switch::{PORTS, Switch};
use crate::cases::tagged;
use crate::file::{self, Case, Entry, Outcome, Vectors, bytes, hex};
use crate::setup::{CLIENTS, SERVERS, SLOWPATH};

/// A program for BMv2.
#[derive(Clone, Copy)]
pub struct Program {
    json: &'static [u8],
    with_room_for: fn(u64) -> String,
    p4info: &'static [u8],
    tables: &'static [Table],
    /// Where it has flows.
    flows: &'static [Table],
    /// What the vectors are with it.
    vectors: fn() -> Vectors,
}

/// Plain flow entries, and those by ids.
const PROGRAMS: [Program; 2] = [
    Program {
        json: BMV2_JSON,
        with_room_for: bmv2_json_with_room_for,
        p4info: BMV2_P4INFO,
        tables: &TABLES,
        flows: &[FlowV4Key::TABLE, FlowV6Key::TABLE],
        vectors: file::read,
    },
    Program {
        json: BMV2_IDS_JSON,
        with_room_for: bmv2_ids_json_with_room_for,
        p4info: BMV2_IDS_P4INFO,
        tables: &IDS_TABLES,
        flows: &[InboundV4Key::TABLE, ConnectionV4EvenKey::TABLE, ConnectionV4OddKey::TABLE, FlowV6Key::TABLE],
        vectors: || ids::by_ids(file::read()),
    },
];

/// A running switch with a program and the entries of the vectors; `None`, and a line that says so, where there is no BMv2.
async fn start(program: Program) -> Option<(Switch, Control)> {
    let (switch, mut control) = start_with(program, program.json).await?;
    control.install(&(program.vectors)().entries).await;
    Some((switch, control))
}

/// A running switch with a program, perhaps with other sizes, and no entries.
async fn start_with(program: Program, json: &[u8]) -> Option<(Switch, Control)> {
    let switch = Switch::start()?;
    let control = Control::connect(switch.address(), program, json).await;
    Some((switch, control))
}

#[tokio::test]
async fn bmv2_gives_the_same_bytes() {
    gives_the_same_bytes(PROGRAMS[0]).await;
}

#[tokio::test]
async fn bmv2_by_ids_gives_the_same_bytes() {
    gives_the_same_bytes(PROGRAMS[1]).await;
}

async fn gives_the_same_bytes(program: Program) {
    let vectors = (program.vectors)();
    let Some((mut switch, mut control)) = start(program).await else { return };
    let frames: Vec<_> = vectors.cases.iter().map(|case| (case.port, bytes(&case.frame))).collect();
    switch.receive_all(frames.iter().map(|(port, frame)| (*port, frame.as_slice())));

    let mut expected: BTreeMap<u16, Vec<(&str, &String)>> = BTreeMap::new();
    let mut drops: BTreeMap<u64, u64> = BTreeMap::new();
    let mut punts = 0;
    for case in &vectors.cases {
        let (port, frame) = match &case.outcome {
            Outcome::Drop(reason) => {
                let number = SwitchDrop::ALL.iter().find(|r| r.name() == reason).map(|r| *r as u64);
                *drops.entry(number.expect("a reason")).or_default() += 1;
                continue;
            }
            Outcome::Punt { port, frame, .. } => {
                punts += 1;
                (port, frame)
            }
            Outcome::Forward { port, frame } | Outcome::Inject { port, frame } => (port, frame),
        };
        expected.entry(*port).or_default().push((&case.name, frame));
    }
    for port in PORTS {
        let expected = expected.remove(&port).unwrap_or_default();
        let sent: Vec<_> = switch.sent(port, expected.len()).await.iter().map(|frame| hex(frame)).collect();
        for (at, (name, frame)) in expected.iter().enumerate() {
            assert_eq!(sent.get(at), Some(*frame), "port {port}, packet {at}: {name}");
        }
        assert_eq!(sent.len(), expected.len(), "port {port}: more than expected");
    }
    assert_eq!(control.counter(carom_p4::ID_DROPS).await, drops, "drops by reason");
    assert_eq!(control.counter(carom_p4::ID_PUNTS).await.values().sum::<u64>(), punts, "punts");
    flows_counted(program, &vectors, &mut control).await;
}

/// A full table refuses an entry and keeps those it has. The standard's code for that is RESOURCE_EXHAUSTED; BMv2 says
/// UNKNOWN, "Error when adding match entry to target", for whatever its table would not take.
#[tokio::test]
async fn bmv2_with_less_room_for_flows_refuses_more() {
    const ROOM: usize = 1;
    for program in PROGRAMS {
        let json = (program.with_room_for)(ROOM as u64);
        let Some((_switch, mut control)) = start_with(program, json.as_bytes()).await else { return };
        let entries = (program.vectors)().entries;
        let mut refusals = 0;
        for table in program.flows {
            let flows: Vec<_> = entries.iter().filter(|entry| entry.table == table.name).collect();
            for (at, entry) in flows.iter().enumerate() {
                let refused = control.insert(entry).await.err().map(|error| error.canonical_code);
                let expected = (at >= ROOM).then_some(Code::Unknown as i32);
                assert_eq!(refused, expected, "{}, entry {at}", table.name);
            }
            refusals += flows.len().saturating_sub(ROOM);
            if table.id != InboundV4Key::TABLE.id {
                assert_eq!(control.entry_counts(table.id).await.len(), flows.len().min(ROOM));
            }
        }
        assert!(refusals > 2);
    }
}

/// Flow entries counted every frame that took them, and nothing else: what was punted on a hit is not in.
async fn flows_counted(program: Program, vectors: &Vectors, control: &mut Control) {
    let mut counted = (0, 0);
    for table in program.flows.iter().filter(|table| table.id != InboundV4Key::TABLE.id) {
        for (packets, bytes) in control.entry_counts(table.id).await.into_values() {
            counted = (counted.0 + packets, counted.1 + bytes);
        }
    }
    let took_one = |case: &&Case| match &case.outcome {
        Outcome::Forward { .. } => true,
        // A flow entry whose next hop has none; the slow path names such next hops too.
        Outcome::Drop(reason) => reason == "no_nexthop" && !SLOWPATH.contains(&case.port),
        _ => false,
    };
    let frames: Vec<_> = vectors.cases.iter().filter(took_one).map(|case| case.frame.len() / 2).collect();
    assert_eq!(counted, (frames.len() as u64, frames.iter().sum::<usize>() as u64), "packets, bytes");
}

/// A service whose meter lets one packet a second through: of a burst the slow path sees the first few, and the rest is
/// counted.
#[tokio::test]
async fn bmv2_holds_back_punts_over_the_rate_of_their_service() {
    const BURST: u64 = 50;
    let Some((mut switch, mut control)) = start(PROGRAMS[0]).await else { return };
    let key = ServiceV4Key { dst: 0xc633_640a, proto: Proto::Tcp as u8, dport: 80 };
    control.limit(ServiceV4Key::TABLE.id, &key.fields(), 1, 2).await;
    let segment = Build::new(flow::<Ipv4Addr>("192.0.2.99:1", "198.51.100.10:80", Proto::Tcp)).bytes();
    switch.receive_all((0..BURST).map(|_| (1, segment.as_slice())));

    let start = Instant::now();
    let limited = loop {
        let drops = control.counter(carom_p4::ID_DROPS).await;
        assert!(drops.keys().all(|reason| *reason == SwitchDrop::PuntLimited as u64), "{drops:?}");
        let limited = drops.values().sum::<u64>();
        let passed = switch.sent(3, 0).await.len() as u64;
        if passed + limited == BURST {
            break limited;
        }
        assert!(start.elapsed().as_secs() < 20, "{passed} passed, {limited} held back, of {BURST}");
    };
    assert!((BURST - 5..BURST).contains(&limited), "{limited} of {BURST} held back");
}

/// An entry by ids that names an id without an entry: its packets are dropped, and counted.
#[tokio::test]
async fn bmv2_by_ids_drops_what_has_no_address_to_go_on_to() {
    let program = PROGRAMS[1];
    let Some((mut switch, mut control)) = start_with(program, program.json).await else { return };
    let Vectors { entries, cases } = (program.vectors)();
    let dangling = ["pair_v4", "service_addr_v4"];
    control
        .install(&entries.into_iter().filter(|entry| !dangling.contains(&entry.table.as_str())).collect::<Vec<_>>())
        .await;
    let flows: Vec<_> = cases
        .iter()
        .filter(|case| matches!(case.outcome, Outcome::Forward { .. }) && case.frame[24..28] == *"0800")
        .map(|case| (case.port, bytes(&case.frame)))
        .collect();
    assert!(flows.len() > 20 && flows.iter().any(|(port, _)| *port == SERVERS));
    switch.receive_all(flows.iter().map(|(port, frame)| (*port, frame.as_slice())));
    let start = Instant::now();
    while control.counter(carom_p4::ID_DROPS).await.values().sum::<u64>() < flows.len() as u64 {
        assert!(start.elapsed().as_secs() < 20, "{:?}", control.counter(carom_p4::ID_DROPS).await);
    }
    let drops = BTreeMap::from([(SwitchDrop::NoNexthop as u64, flows.len() as u64)]);
    assert_eq!(control.counter(carom_p4::ID_DROPS).await, drops);
}

/// An inbound entry that leads to someone else's connection, as where a target keeps hashes of keys: the packet is the slow
/// path's, as it came, whether client, port or service is another.
#[tokio::test]
async fn bmv2_by_ids_punts_what_finds_a_connection_of_someone_else() {
    let program = PROGRAMS[1];
    let Some((mut switch, mut control)) = start(program).await else { return };
    let entries = (program.vectors)().entries;
    let strays = [
        ("192.0.2.8:40000", "198.51.100.10:80", Proto::Tcp, 0),
        ("192.0.2.7:40009", "198.51.100.10:80", Proto::Tcp, 0),
        ("192.0.2.7:40000", "198.51.100.10:53", Proto::Udp, 1),
    ];
    let of = entries.iter().find(|entry| {
        let client = ("c0000207", "9c40", "06");
        entry.table == "inbound_v4" && (&*entry.key["src"], &*entry.key["sport"], &*entry.key["proto"]) == client
    });
    let of = of.expect("the connection of 192.0.2.7:40000");
    let mut frames = Vec::new();
    let mut expected = BTreeMap::from(PORTS.map(|port| (port, Vec::new())));
    for (client, service, proto, worker) in strays {
        let flow = flow::<Ipv4Addr>(client, service, proto);
        let (src, dst) = (u32::from(flow.src), u32::from(flow.dst));
        let key = InboundV4Key { src, dst, proto: proto as u8, sport: flow.sport, dport: flow.dport };
        let values = key.fields();
        let names = ["src", "dst", "proto", "sport", "dport"].map(str::to_owned);
        let key = names.into_iter().zip(values.iter().map(|(_, value)| hex(value.as_ref()))).collect();
        control.install(&[Entry { key, ..of.clone() }]).await;
        let frame = Build::new(flow).bytes();
        let [high, low] = CLIENTS.to_be_bytes();
        expected.entry(SLOWPATH[worker]).or_default().push(hex(&tagged(&frame, [0x81, 0, high, low])));
        frames.push(frame);
    }
    switch.receive_all(frames.iter().map(|frame| (CLIENTS, frame.as_slice())));
    for (port, frames) in expected {
        let sent: Vec<_> = switch.sent(port, frames.len()).await.iter().map(|frame| hex(frame)).collect();
        assert_eq!(sent, frames, "out of port {port}");
    }
}
