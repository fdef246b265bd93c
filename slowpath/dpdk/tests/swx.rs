//! The pipeline: tables that change under packets, numbers of entries, registers, ports, and what is refused.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{eal, pool};
use dpdk::swx::{
    Action, BuildError, Code, CompileError, Compiler, Control, Field, Pipeline, Program, Register, Stalled, Struct,
    Table, TableAction, Wire, WriteError,
};
use dpdk::{Burst, Mempool};
use fullnat::frame::Frame;

fn structure(name: &str, fields: &[(&str, u32)]) -> Struct {
    let field = |(name, bits): &(&str, u32)| Field { name: (*name).into(), bits: *bits };
    Struct { name: name.into(), fields: fields.iter().map(field).collect() }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn table(name: &str, key: &str, size: u32) -> Table {
    let action = |name: &str, entries| TableAction { name: name.into(), for_entries: entries, for_default: !entries };
    Table {
        name: name.into(),
        key: vec![key.into()],
        actions: vec![action(&format!("set_{name}"), true), action("miss", false)],
        default_action: "miss".into(),
        size,
    }
}

/// Frames are a key, and places for what the tables `first` and `second` have for it, for the number of its entry in
/// `first`, and for a stamp that is left alone. They go out where they came in.
fn program(size: u32) -> Program {
    let set = |table: &str, number: &str| Action {
        name: format!("set_{table}"),
        arguments: Some("value_t".into()),
        instructions: lines(&format!("{number}\nmov h.frame.{table} t.value\nreturn")),
    };
    let miss = Action { name: "miss".into(), arguments: None, instructions: lines("return") };
    Program {
        structs: vec![
            structure("prefix_t", &[("port", 32), ("left", 32)]),
            structure("frame_t", &[("key", 32), ("first", 32), ("second", 32), ("number", 32), ("stamp", 32)]),
            structure("value_t", &[("value", 32)]),
            structure("meta_t", &[("port", 32), ("key", 32), ("number", 32)]),
        ],
        headers: vec![("prefix".into(), "prefix_t".into()), ("frame".into(), "frame_t".into())],
        metadata: "meta_t".into(),
        registers: vec![Register { name: "hits".into(), size: 1024, initial: 0 }],
        actions: vec![
            set("first", "entryid m.number\nregadd hits m.number 1\nmov h.frame.number m.number"),
            set("second", ""),
            miss,
        ],
        tables: vec![table("first", "m.key", size), table("second", "h.frame.key", size)],
        instructions: lines(
            "rx m.port
            extract h.prefix
            extract h.frame
            mov m.key h.frame.key
            table first
            table second
            emit h.prefix
            emit h.frame
            tx 0",
        ),
    }
}

const MISS: u32 = u32::MAX;

fn frame(key: u32, stamp: u32) -> Vec<u8> {
    [key, MISS, MISS, 0, stamp].iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn words(frame: &[u8]) -> [u32; 5] {
    let (words, _) = frame.as_chunks::<4>();
    std::array::from_fn(|at| u32::from_be_bytes(words[at]))
}

/// Keys are in the order of the machine in `first`, whose key is metadata, and of the network in `second`.
fn key(table: usize, key: u32) -> [u8; 4] {
    if table == 0 { key.to_ne_bytes() } else { key.to_be_bytes() }
}

fn value(control: &Control, table: usize, value: u32) -> [u8; 4] {
    let argument = &control.tables()[table].actions[0].2[0];
    if argument.network_order { value.to_be_bytes() } else { value.to_ne_bytes() }
}

/// The action of a table's entries.
fn action(control: &Control, table: usize) -> u32 {
    control.tables()[table].actions[0].0
}

/// A wire that is given frames and asked for them by the test, in the same thread.
#[derive(Clone)]
struct Hand(Arc<Mutex<InAndOut>>, Mempool);

/// Frames that are to come in, and those that went out.
type InAndOut = (Vec<Vec<u8>>, Vec<Vec<u8>>);

impl Hand {
    fn new(pool: Mempool) -> Hand {
        Hand(Arc::default(), pool)
    }

    fn through(&self, pipeline: &mut Pipeline, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().0.push(frame);
        while !pipeline.run() {}
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

impl Wire for Hand {
    fn receive(&mut self, burst: &mut Burst) {
        for frame in self.0.lock().unwrap().0.drain(..) {
            burst.push(self.1.alloc_with(&frame).unwrap()).unwrap();
        }
    }

    fn send(&mut self, burst: &mut Burst) {
        self.0.lock().unwrap().1.extend(burst.drain().map(|mbuf| mbuf.bytes().to_vec()));
    }
}

/// Code that a compiler made, where there is one.
fn generated() -> Option<Code> {
    match Compiler::default().check() {
        Ok(()) => Some(Code::Generated(Compiler::default())),
        Err(error) => {
            // Straight to the descriptor: what goes through `println!` is hidden while a test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: generated code: {error}");
            None
        }
    }
}

fn one_wire(code: &Code, size: u32) -> (Pipeline, Control, Hand) {
    let hand = Hand::new(pool(255));
    let (pipeline, control) = Pipeline::build(eal(), &program(size), code, vec![(7, Box::new(hand.clone()))]).unwrap();
    (pipeline, control, hand)
}

/// What holds for interpreted programs and for generated code.
macro_rules! with_either_code {
    ($($test:ident)*) => {
        mod interpreted {
            $(#[test]
            fn $test() {
                super::$test(&super::Code::Interpreted);
            })*
        }

        mod generated {
            $(#[test]
            fn $test() {
                super::generated().iter().for_each(super::$test);
            })*
        }
    };
}

with_either_code! {
    entries_are_seen_once_they_are_published
    a_pipeline_that_does_not_run_stalls_writers_and_catches_up
    packets_to_nowhere_and_without_room_are_dropped_and_counted
    memory_comes_back_whether_or_not_there_was_enough
    another_program_takes_over_with_the_packets_that_wait
    no_packet_sees_a_table_that_is_being_written
}

fn entries_are_seen_once_they_are_published(code: &Code) {
    let (mut pipeline, mut control, hand) = one_wire(code, 16);
    let patience = Duration::from_secs(10);
    let look = |pipeline: &mut Pipeline| words(&hand.through(pipeline, frame(5, 0))[0]);
    assert_eq!(look(&mut pipeline), [5, MISS, MISS, 0, 0]);
    for (table, content) in [(0, 111), (1, 222)] {
        let (key, data, action) = (key(table, 5), value(&control, table, content), action(&control, table));
        assert_eq!(control.modify(table, &key, action, &data), Err(WriteError::Missing));
        let number = control.insert(table, &key, action, &data).unwrap();
        assert_eq!(control.insert(table, &key, action, &data), Err(WriteError::Exists));
        assert_eq!(control.find(table, &key), Some(number));
        assert_eq!(control.count(table), 1);
    }
    assert_eq!(look(&mut pipeline), [5, MISS, MISS, 0, 0], "not published");
    control.publish(patience, || _ = pipeline.run()).unwrap();
    assert_eq!(look(&mut pipeline), [5, 111, 222, 1, 0]);
    assert_eq!(control.read_register(0, 1), Some(1), "the entry's register");

    let (key, action) = (key(0, 5), action(&control, 0));
    let data = value(&control, 0, 333);
    control.modify(0, &key, action, &data).unwrap();
    control.publish(patience, || _ = pipeline.run()).unwrap();
    assert_eq!(look(&mut pipeline), [5, 333, 222, 1, 0]);
    control.delete(0, &key).unwrap();
    assert_eq!(control.delete(0, &key), Err(WriteError::Missing));
    assert!(control.has_unpublished_deletions(0) && !control.has_unpublished_deletions(1));
    control.publish(patience, || _ = pipeline.run()).unwrap();
    assert_eq!(look(&mut pipeline), [5, MISS, 222, 0, 0]);
    assert!(
        control.write_register(0, 1, 77) && !control.write_register(0, 1024, 0) && !control.write_register(1, 0, 0)
    );
    assert_eq!((control.read_register(0, 1), control.read_register(0, 1024)), (Some(77), None));
}

#[test]
fn entries_of_another_shape_are_refused_and_a_full_table_keeps_what_it_has() {
    let (mut pipeline, mut control, _hand) = one_wire(&Code::Interpreted, 3);
    let (set_first, set_second) = (action(&control, 0), action(&control, 1));
    assert_eq!(control.insert(0, &[0; 3], set_first, &[0; 4]), Err(WriteError::Shape));
    assert_eq!(control.insert(0, &[0; 4], set_first, &[0; 5]), Err(WriteError::Shape));
    assert_eq!(control.insert(0, &[0; 4], set_second, &[0; 4]), Err(WriteError::Shape), "an action of another table");
    assert_eq!(control.insert(2, &[0; 4], set_first, &[0; 4]), Err(WriteError::Shape));
    for k in 0..3 {
        control.insert(0, &key(0, k), set_first, &[0; 4]).unwrap();
    }
    assert_eq!(control.insert(0, &key(0, 3), set_first, &[0; 4]), Err(WriteError::Full));
    assert_eq!(control.count(0), 3);
    control.publish(Duration::from_secs(10), || _ = pipeline.run()).unwrap();
    control.delete(0, &key(0, 1)).unwrap();
    control.insert(0, &key(0, 3), set_first, &[0; 4]).unwrap();
    assert_eq!(control.insert(0, &key(0, 1), set_first, &[0; 4]), Err(WriteError::Full));
}

fn a_pipeline_that_does_not_run_stalls_writers_and_catches_up(code: &Code) {
    let (mut pipeline, mut control, hand) = one_wire(code, 16);
    let (set, data) = (action(&control, 0), value(&control, 0, 9));
    control.insert(0, &key(0, 1), set, &data).unwrap();
    assert_eq!(control.publish(Duration::from_millis(5), std::thread::yield_now), Err(Stalled));
    assert_eq!(control.insert(0, &key(0, 2), set, &data), Err(WriteError::Pending));
    assert_eq!(control.delete(0, &key(0, 1)), Err(WriteError::Pending));
    assert_eq!(control.find(0, &key(0, 1)), Some(0), "still known");
    assert_eq!(words(&hand.through(&mut pipeline, frame(1, 0))[0]), [1, 9, MISS, 1, 0]);
    control.publish(Duration::ZERO, || unreachable!("it is done already")).unwrap();
    control.insert(0, &key(0, 2), set, &data).unwrap();
    // Without a data side there is nobody to wait for.
    drop(pipeline);
    control.publish(Duration::ZERO, || unreachable!("nobody looks into the tables")).unwrap();
    assert_eq!(control.find(0, &key(0, 2)), Some(1));
}

fn packets_to_nowhere_and_without_room_are_dropped_and_counted(code: &Code) {
    let mut nowhere = program(4);
    nowhere.instructions.insert(6, "mov h.prefix.port 8".into());
    let pool = pool(255);
    let hand = Hand::new(pool);
    let (mut pipeline, _control) = Pipeline::build(eal(), &nowhere, code, vec![(7, Box::new(hand.clone()))]).unwrap();
    assert!(hand.through(&mut pipeline, frame(1, 0)).is_empty());
    assert_eq!(pipeline.sent_nowhere(), 1);
    // A buffer whose headroom is used up.
    struct Tight(Mempool, bool);
    impl Wire for Tight {
        fn receive(&mut self, burst: &mut Burst) {
            if !std::mem::replace(&mut self.1, true) {
                let mut mbuf = self.0.alloc_with(&frame(1, 0)).unwrap();
                assert!(mbuf.grow_front(mbuf.headroom() - 7));
                burst.push(mbuf).unwrap();
            }
        }
        fn send(&mut self, burst: &mut Burst) {
            panic!("{} packets", burst.len());
        }
    }
    let (mut pipeline, _control) =
        Pipeline::build(eal(), &program(4), code, vec![(7, Box::new(Tight(pool, false)))]).unwrap();
    while !pipeline.run() {}
    let stats = pipeline.wires()[0].1;
    assert_eq!((stats.received, stats.refused, stats.sent), (1, 1, 0));
    assert_eq!(pool.in_use(), 0);
}

fn memory_comes_back_whether_or_not_there_was_enough(code: &Code) {
    let build = |size| Pipeline::build(eal(), &program(size), code, vec![]).map(drop);
    // What DPDK keeps for itself once, it has after these.
    build(4).unwrap();
    let mut second_too_large = program(1 << 16);
    second_too_large.tables[1].size = 1 << 30;
    let refused = || Pipeline::build(eal(), &second_too_large, code, vec![]).map(drop).unwrap_err();
    assert_eq!(refused(), BuildError::NoMemory { table: "second".into(), size: 1 << 30 });
    let free = eal().memory().free;
    for _ in 0..5 {
        refused();
        build(1 << 16).unwrap();
    }
    // Other tests may be in this process and need some; what one refused program might leave is as much already.
    let lost = free.saturating_sub(eal().memory().free);
    assert!(lost < 16 << 20, "{lost} bytes");
}

fn another_program_takes_over_with_the_packets_that_wait(code: &Code) {
    let (mut pipeline, control, hand) = one_wire(code, 4);
    let pool = hand.1;
    // The other one counts what it has seen in the stamp.
    let mut other = program(4);
    other.instructions.insert(4, "add h.frame.stamp 1".into());
    hand.0.lock().unwrap().0 = vec![frame(1, 0); 5];
    let (other, _other_control) = Pipeline::build(eal(), &other, code, vec![]).unwrap();
    pipeline.replace(other);
    drop(control);
    hand.0.lock().unwrap().0.extend(vec![frame(2, 0); 5]);
    while !pipeline.run() {}
    let sent = std::mem::take(&mut hand.0.lock().unwrap().1);
    assert_eq!(sent.len(), 10);
    assert!(sent.iter().all(|frame| words(frame)[4] == 1));
    assert_eq!(pipeline.wires().iter().map(|(number, stats)| (*number, stats.sent)).collect::<Vec<_>>(), [(7, 10)]);
    drop(pipeline);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_is_no_program_is_refused_by_name() {
    let build = |change: &dyn Fn(&mut Program)| {
        let mut program = program(4);
        change(&mut program);
        let wires: Vec<(u32, Box<dyn Wire>)> = vec![(7, Box::new(Hand::new(pool(7))))];
        Pipeline::build(eal(), &program, &Code::Interpreted, wires).map(drop).unwrap_err()
    };
    let unknown = |by: &str, name: &str| BuildError::Unknown { by: by.into(), name: name.into() };
    let refused = |what: &str| BuildError::Refused { what: what.into(), errno: 22 };
    assert_eq!(build(&|p| p.metadata = "nothing".into()), unknown("table first", "m.key"));
    assert_eq!(build(&|p| p.tables[0].key = vec!["m.nothing".into()]), unknown("table first", "m.nothing"));
    assert_eq!(build(&|p| p.tables[0].default_action = "none".into()), unknown("table first", "none"));
    let gap = vec!["m.port".into(), "m.number".into()];
    assert_eq!(build(&|p| p.tables[0].key = gap.clone()), BuildError::Key { table: "first".into() });
    assert_eq!(build(&|p| p.actions[2].instructions[0] = "retreat".into()), refused("action miss"));
    assert_eq!(build(&|p| p.instructions[8] = "emit h.frame".into()), refused("the instructions"));
    assert!(matches!(build(&|p| p.tables[0].size = 1 << 30), BuildError::NoMemory { .. }));
    let wires = |numbers: &[u32]| -> Vec<(u32, Box<dyn Wire>)> {
        numbers.iter().map(|number| (*number, Box::new(Hand::new(pool(7))) as Box<dyn Wire>)).collect()
    };
    let error = |numbers: &[u32]| {
        Pipeline::build(eal(), &program(4), &Code::Interpreted, wires(numbers)).map(drop).unwrap_err()
    };
    assert_eq!(error(&[3, 3]), BuildError::Wire { number: 3 });
    assert_eq!(error(&[4096]), BuildError::Wire { number: 4096 });
}

#[test]
fn a_compiler_that_does_not_do_is_told_of() {
    let build = |compiler: &str| {
        let code = Code::Generated(Compiler { program: compiler.into() });
        Pipeline::build(eal(), &program(4), &code, vec![]).map(drop).unwrap_err()
    };
    let missing = build("/nothing/cc");
    assert!(matches!(&missing, BuildError::Compile(CompileError::NoCompiler { .. })), "{missing}");
    assert!(missing.to_string().contains("/nothing/cc does not run (No such file"), "{missing}");
    assert!(matches!(build("false"), BuildError::Compile(CompileError::Failed { .. })));
    assert!(matches!(build("true"), BuildError::Compile(CompileError::Load { .. })), "nothing was made");
}

/// Keys that the churn is about. Both tables have all of them, or miss them, as the version says.
const KEYS: u32 = 64;

/// What both tables have for a key in a version of the tables.
fn content(key: u32, version: u32) -> u32 {
    if version == 0 || (key + version).is_multiple_of(3) { MISS } else { version }
}

/// What the threads of the churn tell each other.
#[derive(Default)]
struct Churn {
    /// The version that all packets which come in now must see, at least.
    published: AtomicU32,
    /// The version that packets may see at most.
    asked: AtomicU32,
    checked: AtomicU32,
    stop: AtomicBool,
}

/// A wire that makes packets, checks them, and now and then keeps the thread from running, with packets half done.
struct Checker {
    churn: Arc<Churn>,
    pool: Mempool,
    seed: u64,
}

impl Checker {
    fn random(&mut self) -> u32 {
        // Xorshift; any nonzero seed.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 32) as u32
    }

    fn pause(&mut self) {
        match self.random() % 1024 {
            0 => std::thread::sleep(Duration::from_millis(1)),
            1..8 => std::thread::sleep(Duration::from_micros(20)),
            8..64 => std::thread::yield_now(),
            _ => {}
        }
    }
}

impl Wire for Checker {
    fn receive(&mut self, burst: &mut Burst) {
        self.pause();
        // Few at once, so that the pipeline is entered often.
        for _ in 0..1 + self.random() % 4 {
            let stamp = self.churn.published.load(Ordering::SeqCst);
            let key = self.random() % KEYS;
            burst.push(self.pool.alloc_with(&frame(key, stamp)).unwrap()).unwrap();
        }
        self.pause();
    }

    fn send(&mut self, burst: &mut Burst) {
        let asked = self.churn.asked.load(Ordering::SeqCst);
        for mbuf in burst.drain() {
            let [key, first, second, number, stamp] = words(mbuf.bytes());
            assert_eq!(first, second, "key {key}: both tables are of one version");
            let possible = (stamp..=asked).any(|version| content(key, version) == first);
            assert!(possible, "key {key}: {first} is of none of the versions {stamp} to {asked}");
            assert_eq!(first == MISS, number == 0);
            self.churn.checked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Brings the tables to a version.
fn write_version(control: &mut Control, version: u32) {
    for k in 0..KEYS {
        for table in 0..2 {
            let (key, set) = (key(table, k), action(control, table));
            let (before, now) = (content(k, version - 1), content(k, version));
            let data = value(control, table, now);
            match (before == MISS, now == MISS) {
                (true, false) => _ = control.insert(table, &key, set, &data).unwrap(),
                (false, false) => _ = control.modify(table, &key, set, &data).unwrap(),
                (false, true) => _ = control.delete(table, &key).unwrap(),
                (true, true) => {}
            }
        }
    }
}

/// The thread of the pipeline is stopped at random, with packets between two instructions of a lookup, while entries
/// come, change and go. Each packet must see tables of one version, and of one that was there while it was under way. An
/// entry that is written while a packet reads it, or a number that differs between the two sets, shows as well.
fn no_packet_sees_a_table_that_is_being_written(code: &Code) {
    let churn = Arc::new(Churn::default());
    let pool = pool(1023);
    let wire = |seed| Checker { churn: churn.clone(), pool, seed };
    let wires: Vec<(u32, Box<dyn Wire>)> = vec![(1, Box::new(wire(0x9e37_79b9))), (2, Box::new(wire(0x1234_5678)))];
    let (mut pipeline, mut control) = Pipeline::build(eal(), &program(KEYS), code, wires).unwrap();
    // Before the first version there is nothing.
    churn.asked.store(1, Ordering::SeqCst);
    for k in (0..KEYS).filter(|k| content(*k, 1) != MISS) {
        for table in 0..2 {
            let (set, data) = (action(&control, table), value(&control, table, 1));
            control.insert(table, &key(table, k), set, &data).unwrap();
        }
    }
    let state = churn.clone();
    let data_side = std::thread::spawn(move || {
        while !state.stop.load(Ordering::Relaxed) {
            pipeline.run();
        }
        pipeline
    });
    control.publish(Duration::from_secs(20), std::thread::yield_now).unwrap();
    churn.published.store(1, Ordering::SeqCst);
    let start = Instant::now();
    let mut version = 1;
    let enough = |version, length: Duration| match length.as_secs() {
        0..4 => false,
        // A machine that has other things to do takes longer.
        4..120 => version > 200 && churn.checked.load(Ordering::Relaxed) > 10_000,
        _ => true,
    };
    while !enough(version, start.elapsed()) && !data_side.is_finished() {
        version += 1;
        write_version(&mut control, version);
        churn.asked.store(version, Ordering::SeqCst);
        control.publish(Duration::from_secs(20), std::thread::yield_now).unwrap();
        churn.published.store(version, Ordering::SeqCst);
    }
    churn.stop.store(true, Ordering::Relaxed);
    drop(data_side.join().expect("no packet was wrong"));
    let checked = churn.checked.load(Ordering::Relaxed);
    assert!(version > 200 && checked > 10_000, "{version} versions, {checked} packets");
    assert_eq!(pool.in_use(), 0);
    // Both sets give the same numbers, and each number is given once.
    let mut numbers: Vec<u32> = (0..KEYS).filter_map(|k| control.find(0, &key(0, k))).collect();
    control.insert(1, &key(1, KEYS), action(&control, 1), &[0; 4]).unwrap();
    control.publish(Duration::ZERO, || unreachable!()).unwrap();
    assert_eq!(numbers, (0..KEYS).filter_map(|k| control.find(0, &key(0, k))).collect::<Vec<_>>());
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), control.count(0) as usize);
}
