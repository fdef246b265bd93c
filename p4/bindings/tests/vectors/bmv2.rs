//! The vectors on BMv2: the real `simple_switch_grpc`, programmed over P4Runtime, its ports pcap files. Needs no
//! privileges and touches no network interface.

mod control;
mod random;
mod switch;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use carom_p4::artifacts::{BMV2_JSON, bmv2_json_with_room_for};
use carom_p4::{FlowV4Key, FlowV6Key, Key, ServiceV4Key, SwitchDrop};
use fullnat::id::Proto;
use fullnat::wire::testing::{Build, flow};

use p4runtime_proto::google::rpc::Code;

use self::control::Control;
use self::switch::{PORTS, Switch};
use crate::file::{self, Case, Outcome, Vectors, bytes, hex};
use crate::setup::SLOWPATH;

/// `simple_switch_grpc`, from CAROM_BMV2 or PATH.
fn simple_switch() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CAROM_BMV2") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("simple_switch_grpc")).find(|path| path.is_file())
}

/// A running switch with the program and the entries of the vectors; `None`, and a line that says so, where there is no BMv2.
async fn start(vectors: &Vectors) -> Option<(Switch, Control)> {
    let (switch, mut control) = start_with(BMV2_JSON).await?;
    control.install(&vectors.entries).await;
    Some((switch, control))
}

/// A running switch with a program and no entries.
async fn start_with(program: &[u8]) -> Option<(Switch, Control)> {
    let Some(binary) = simple_switch() else {
        // To the terminal, past the test harness, which shows the output of failed tests only.
        let line = "SKIPPED: golden vectors on BMv2: no simple_switch_grpc in CAROM_BMV2 or PATH\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return None;
    };
    let switch = Switch::start(&binary);
    let control = Control::connect(switch.grpc_port, program).await;
    Some((switch, control))
}

#[tokio::test]
async fn bmv2_gives_the_same_bytes() {
    let vectors = file::read();
    let Some((mut switch, mut control)) = start(&vectors).await else { return };
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
    flows_counted(&vectors, &mut control).await;
}

/// A full table refuses an entry and keeps those it has. The standard's code for that is RESOURCE_EXHAUSTED; BMv2 says
/// UNKNOWN, "Error when adding match entry to target", for whatever its table would not take.
#[tokio::test]
async fn bmv2_with_less_room_for_flows_refuses_more() {
    const ROOM: usize = 3;
    let program = bmv2_json_with_room_for(ROOM as u64);
    let Some((_switch, mut control)) = start_with(program.as_bytes()).await else { return };
    let entries = file::read().entries;
    for (table, id) in [("flow_v4", FlowV4Key::TABLE.id), ("flow_v6", FlowV6Key::TABLE.id)] {
        let flows: Vec<_> = entries.iter().filter(|entry| entry.table == table).collect();
        assert!(flows.len() > ROOM);
        for (at, entry) in flows.iter().enumerate() {
            let refused = control.insert(entry).await.err().map(|error| error.canonical_code);
            let expected = (at >= ROOM).then_some(Code::Unknown as i32);
            assert_eq!(refused, expected, "{table}, entry {at}");
        }
        assert_eq!(control.entry_counts(id).await.len(), ROOM);
    }
}

/// Flow entries counted every frame that took them, and nothing else: what was punted on a hit is not in.
async fn flows_counted(vectors: &Vectors, control: &mut Control) {
    let mut counted = (0, 0);
    for table in [FlowV4Key::TABLE.id, FlowV6Key::TABLE.id] {
        for (packets, bytes) in control.entry_counts(table).await.into_values() {
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
    let vectors = file::read();
    let Some((mut switch, mut control)) = start(&vectors).await else { return };
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
