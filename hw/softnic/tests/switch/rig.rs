//! A switch in this process, whose cables are in the test's hand.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use carom_p4::TABLES;
use carom_p4::artifacts::{PNA_P4INFO, PNA_SPEC};
use dpdk::swx::{Code, Compiler, Control, Pipeline, Wire};
use dpdk::{Burst, Eal, EalConfig, Memory, Mempool, MempoolConfig};
use fullnat::frame::Frame;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::{self as p4rt, TableEntry};
use prost::Message;
use softnic::spec::Spec;

use crate::file::{self, Entry};

/// The EAL, with ordinary memory. DPDK initialises once in a process, which under `cargo test` all tests share.
pub fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let memory = Memory::NoHuge { mb: 512 };
        Eal::init(EalConfig { memory, ..Default::default() }).expect("EAL starts with ordinary memory")
    })
}

/// A pool without caches, so that its counts are exact at once.
pub fn pool(mbufs: u32) -> Mempool {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("pool{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Mempool::new(eal(), &name, MempoolConfig { mbufs, cache: 0, ..Default::default() }).expect("a small pool fits")
}

/// Frames to one end of a cable, and those that came out of it.
#[derive(Clone, Default)]
pub struct Cable(Arc<Mutex<InAndOut>>);

/// Frames that are to come in, and those that went out.
type InAndOut = (Vec<Vec<u8>>, Vec<Vec<u8>>);

impl Cable {
    pub fn put(&self, frame: &[u8]) {
        self.0.lock().unwrap().0.push(frame.to_vec());
    }

    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }

    /// Whether the switch has taken all that was put in.
    pub fn is_taken(&self) -> bool {
        self.0.lock().unwrap().0.is_empty()
    }
}

struct End(Cable, Mempool);

impl Wire for End {
    fn receive(&mut self, burst: &mut Burst) {
        let mut cable = self.0.0.lock().unwrap();
        let count = burst.room().min(cable.0.len());
        for frame in cable.0.drain(..count) {
            // What the buffer held before must not matter.
            let mut mbuf = self.1.alloc_with(&[0xa5; 1500]).expect("an mbuf");
            assert!(mbuf.set_len(frame.len()));
            mbuf.bytes_mut().copy_from_slice(&frame);
            burst.push(mbuf).unwrap();
        }
    }

    fn send(&mut self, burst: &mut Burst) {
        let mut cable = self.0.0.lock().unwrap();
        cable.1.extend(burst.drain().map(|mbuf| mbuf.bytes().to_vec()));
    }
}

/// Wires with these numbers.
pub type Wires = Vec<(u32, Box<dyn Wire>)>;

/// Cables with these numbers, and their far ends.
pub fn cables(numbers: &[u32], pool: Mempool) -> (Vec<Cable>, Wires) {
    let cables: Vec<Cable> = numbers.iter().map(|_| Cable::default()).collect();
    let wire = |(number, cable): (&u32, &Cable)| (*number, Box::new(End(cable.clone(), pool)) as Box<dyn Wire>);
    let wires = numbers.iter().zip(&cables).map(wire).collect();
    (cables, wires)
}

/// Code that a compiler made, where there is one.
pub fn generated() -> Option<Code> {
    match Compiler::default().check() {
        Ok(()) => Some(Code::Generated(Compiler::default())),
        Err(error) => {
            // Straight to the descriptor: what goes through `println!` is hidden while a test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: generated code: {error}");
            None
        }
    }
}

/// The program, over cables with these numbers.
pub fn switch(code: &Code, numbers: &[u32]) -> (Pipeline, Control, Vec<Cable>, Mempool) {
    let spec = Spec::parse(str::from_utf8(PNA_SPEC).unwrap()).unwrap();
    let program = softnic::guard::program(&spec).unwrap();
    let pool = pool(1023);
    let (cables, wires) = cables(numbers, pool);
    let (pipeline, control) = Pipeline::build(eal(), &program, code, wires).unwrap();
    (pipeline, control, cables, pool)
}

/// The program's P4Info.
pub fn info() -> P4Info {
    P4Info::decode(PNA_P4INFO).unwrap()
}

/// An entry of the vectors as a message: names become ids.
pub fn message(info: &P4Info, entry: &Entry) -> TableEntry {
    let id = TABLES.iter().find(|table| table.name == entry.table).expect("a table").id;
    let table = info.tables.iter().find(|table| table.preamble.as_ref().unwrap().id == id).expect("the table");
    let action = info.actions.iter().find(|action| action.preamble.as_ref().unwrap().name == entry.action);
    let action = action.expect("an action");
    let bytes = |hex: &String| file::bytes(hex).into();
    let exact = |field: &p4runtime_proto::p4::config::v1::MatchField| p4rt::FieldMatch {
        field_id: field.id,
        field_match_type: Some(p4rt::field_match::FieldMatchType::Exact(p4rt::field_match::Exact {
            value: bytes(&entry.key[&field.name]),
        })),
    };
    let param = |param: &p4runtime_proto::p4::config::v1::action::Param| p4rt::action::Param {
        param_id: param.id,
        value: bytes(&entry.params[&param.name]),
    };
    let call = p4rt::Action {
        action_id: action.preamble.as_ref().unwrap().id,
        params: action.params.iter().map(param).collect(),
    };
    TableEntry {
        table_id: id,
        r#match: table.match_fields.iter().map(exact).collect(),
        action: Some(p4rt::TableAction { r#type: Some(p4rt::table_action::Type::Action(call)) }),
        ..TableEntry::default()
    }
}
