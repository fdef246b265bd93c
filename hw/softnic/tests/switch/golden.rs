//! The golden vectors: the same entries and frames as on BMv2 give the same bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use carom_p4::{FlowV4Key, FlowV6Key, Key, SwitchDrop};
use dpdk::swx::Code;
use p4runtime_proto::p4::v1::{CounterData, TableEntry};
use softnic::tables::Tables;

use crate::file::{self, Outcome, bytes, hex};
use crate::rig::{generated, info, message, switch};

/// Clients, servers, and the slow path's two workers.
const PORTS: [u32; 4] = [1, 2, 3, 4];

#[test]
fn the_interpreted_program_gives_the_same_bytes() {
    gives_the_same_bytes(&Code::Interpreted);
}

#[test]
fn generated_code_gives_the_same_bytes() {
    generated().iter().for_each(gives_the_same_bytes);
}

fn gives_the_same_bytes(code: &Code) {
    let vectors = file::read();
    let (pipeline, control, cables, pool) = switch(code, &PORTS);
    let pipeline = Arc::new(Mutex::new(pipeline));
    let runs = pipeline.clone();
    let wait = Box::new(move || _ = runs.lock().unwrap().run());
    let info = info();
    let mut tables = Tables::new(control, &info, wait).unwrap();
    for entry in &vectors.entries {
        tables.insert(&message(&info, entry)).unwrap_or_else(|error| panic!("{entry:?}: {error}"));
    }
    tables.publish().unwrap();

    let mut drops: BTreeMap<u32, u64> = BTreeMap::new();
    let mut punts = 0;
    for case in &vectors.cases {
        cables[usize::from(case.port) - 1].put(&bytes(&case.frame));
        while !pipeline.lock().unwrap().run() {}
        let mut sent: Vec<(u32, String)> = Vec::new();
        for (port, cable) in PORTS.iter().zip(&cables) {
            sent.extend(cable.take().iter().map(|frame| (*port, hex(frame))));
        }
        let expected = match &case.outcome {
            Outcome::Drop(reason) => {
                let number = SwitchDrop::ALL.iter().find(|known| known.name() == reason).map(|known| *known as u32);
                *drops.entry(number.expect("a reason")).or_default() += 1;
                None
            }
            Outcome::Punt { port, frame, .. } => {
                punts += 1;
                Some((u32::from(*port), frame.clone()))
            }
            Outcome::Forward { port, frame } | Outcome::Inject { port, frame } => {
                Some((u32::from(*port), frame.clone()))
            }
        };
        assert_eq!(sent, Vec::from_iter(expected), "{}", case.name);
    }
    let drop = |reason| tables.counter(carom_p4::ID_DROPS, reason).expect("a cell").packet_count as u64;
    let counted = (0..64).map(|reason| (reason, drop(reason))).filter(|(_, packets)| *packets > 0);
    assert_eq!(BTreeMap::from_iter(counted), drops, "drops by reason");
    let punted = (0..8).filter_map(|class| tables.counter(carom_p4::ID_PUNTS, class)).map(|data| data.packet_count);
    assert_eq!(punted.sum::<i64>(), punts, "punts");
    flows_counted(&vectors, &tables);
    assert_eq!(pool.in_use(), 0, "every frame was sent or dropped");
}

/// Flow entries counted every frame that took them, and nothing else: what was punted on a hit is not in.
fn flows_counted(vectors: &file::Vectors, tables: &Tables) {
    let mut counted = (0, 0);
    for table_id in [FlowV4Key::TABLE.id, FlowV6Key::TABLE.id] {
        let wanted = TableEntry { table_id, counter_data: Some(CounterData::default()), ..TableEntry::default() };
        let end = tables.read_from(&wanted, 0, usize::MAX, |entry| {
            let data = entry.counter_data.expect("asked for");
            counted = (counted.0 + data.packet_count, counted.1 + data.byte_count);
        });
        assert_eq!(end, None);
    }
    let took_one = |case: &&file::Case| match &case.outcome {
        Outcome::Forward { .. } => true,
        // A flow entry whose next hop has none; the slow path names such next hops too.
        Outcome::Drop(reason) => reason == "no_nexthop" && case.port <= 2,
        _ => false,
    };
    let frames: Vec<_> =
        vectors.cases.iter().filter(took_one).map(|case| counted_length(&bytes(&case.frame))).collect();
    assert_eq!(counted, (frames.len() as i64, frames.iter().sum::<i64>()), "packets, bytes");
}

/// What PNA counts of a frame: its Ethernet header and IP packet, without padding.
fn counted_length(frame: &[u8]) -> i64 {
    let word = |at: usize| i64::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    if word(12) == 0x0800 { 14 + word(16) } else { 54 + word(18) }
}
