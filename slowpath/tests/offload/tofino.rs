//! A manager of kind `tofino`: its program from files with the true P4Info and a made-up compiled program, which the fake
//! target takes without looking into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use carom::offload::{self, Chip, Form, Kind, Program, Settings};
use carom_p4::artifacts::{BMV2_IDS_P4INFO, TOFINO1_IDS_P4INFO, TOFINO1_P4INFO, TOFINO2_IDS_P4INFO, TOFINO2_P4INFO};
use carom_p4::{
    ConnectionV4EvenKey, ConnectionV4OddKey, FlowV4Key, InboundV4Key, Key, NexthopKey, PairIdV4Key, PairV4Key,
    ServiceAddrV4Key, ServiceIdV4Key,
};
use fullnat::neighbor::Neighbors;
use fullnat::offload::{Counted, Verdict};
use prost::Message;
use runtime_client::Address;
use runtime_client::fake::FakeTarget;
use runtime_client::pipeline::{DeviceConfig, Tofino, TofinoForm};
use runtime_client::proto::p4::config::v1::P4Info;
use runtime_client::proto::p4::config::v1::p4_ids::Prefix;
use tempfile::TempDir;

use crate::rig::{FORMS, Rig, VIP, counted, flows, place, plan, settings, target, until};

const BINARY: &[u8] = b"\0\0\0Hmade up";
const BFRT: &[u8] = br#"{"schema_version": "1.0.0", "tables": []}"#;

/// The name of the binary, and the context.
fn compiled(chip: Chip) -> (&'static str, &'static [u8]) {
    match chip {
        Chip::Tofino1 => ("tofino.bin", br#"{"target": "tofino", "tables": []}"#),
        Chip::Tofino2 => ("tofino2.bin", br#"{"target": "tofino2", "tables": []}"#),
    }
}

/// A directory as the compiler's script leaves it.
fn files(form: Form, chip: Chip) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (binary, context) = compiled(chip);
    let p4info = match (form, chip) {
        (Form::Plain, Chip::Tofino1) => TOFINO1_P4INFO,
        (Form::Plain, Chip::Tofino2) => TOFINO2_P4INFO,
        (Form::Ids, Chip::Tofino1) => TOFINO1_IDS_P4INFO,
        (Form::Ids, Chip::Tofino2) => TOFINO2_IDS_P4INFO,
    };
    for (name, bytes) in [(binary, BINARY), ("context.json", context), ("bfrt.json", BFRT), ("p4info.bin", p4info)] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// What the switch's server is to get.
fn packed(chip: Chip, pipes: Option<u32>) -> Vec<u8> {
    let form = match pipes {
        None => TofinoForm::Lengths,
        Some(pipes) => TofinoForm::Stratum { bfrt: BFRT.into(), pipeline: "pipe".into(), pipes: (0..pipes).collect() },
    };
    let program = Tofino { name: "carom".into(), binary: BINARY.into(), context: compiled(chip).1.into(), form };
    program.pack().unwrap().to_vec()
}

/// How many entries of IPv4 flows and of the tables by ids a target has.
fn entries(target: &FakeTarget, form: Form) -> Vec<usize> {
    let tables = match form {
        Form::Plain => vec![FlowV4Key::TABLE],
        Form::Ids => vec![
            InboundV4Key::TABLE,
            ConnectionV4EvenKey::TABLE,
            ConnectionV4OddKey::TABLE,
            PairIdV4Key::TABLE,
            PairV4Key::TABLE,
            ServiceIdV4Key::TABLE,
            ServiceAddrV4Key::TABLE,
        ],
    };
    tables.iter().map(|table| target.entries(table.id).len()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_in_and_come_back_with_each_program_on_each_chip() {
    for form in FORMS {
        for (chip, pipes) in [(Chip::Tofino1, Some(2)), (Chip::Tofino1, None), (Chip::Tofino2, Some(4))] {
            a_session(form, chip, pipes).await;
        }
    }
}

async fn a_session(form: Form, chip: Chip, pipes: Option<u32>) {
    let dir = files(form, chip);
    let program = Program::tofino(form, chip, dir.path(), pipes).unwrap();
    assert_eq!((program.kind, program.form), (Kind::Tofino, form));
    let target = target().await;
    let settings = Settings { program, ..settings(target.address(), form) };
    let mut rig = Rig::ready(settings.clone()).await;
    assert_eq!(target.device_config().unwrap(), packed(chip, pipes));
    until(|| target.entries(NexthopKey::TABLE.id).len() == 2).await;

    for n in [7, 8] {
        rig.install(1, n);
        assert_eq!(rig.verdict(1).await, Verdict::Installed(place(n)));
    }
    // Two sessions of one service with one real server.
    let installed = match form {
        Form::Plain => vec![4],
        Form::Ids => vec![2, 1, 1, 1, 1, 1, 1],
    };
    assert_eq!(entries(&target, form), installed, "{form:?} {chip:?}");
    for entry in flows(&target) {
        assert!(target.hit(&entry, 5, 500));
    }
    for n in [7, 8] {
        rig.remove(1, n);
        assert_eq!(rig.verdict(1).await, Verdict::Removed(place(n), counted(form, 5, 500)));
    }
    assert_eq!(flows(&target).len(), 0);
    let status = rig.status().await;
    assert_eq!((status.totals.installed, status.totals.removed, status.sessions.offloaded), (2, 2, 0));
    assert_eq!((status.failures.len(), status.last_error), (0, None));

    // The next life of the daemon finds its program running, with two entries that are nobody's.
    rig.install(0, 9);
    assert_eq!(rig.verdict(0).await, Verdict::Installed(place(9)));
    rig.handle.stop().await;
    drop(rig);
    let mut next = Rig::ready(settings).await;
    let status = next.status().await;
    assert_eq!((status.pipeline.as_deref(), status.totals.orphans, flows(&target).len()), (Some("kept"), 2, 0));
    assert_eq!(target.stats().pipelines, 1);
    next.install(0, 9);
    assert_eq!(next.verdict(0).await, Verdict::Installed(place(9)));
    next.remove(0, 9);
    assert_eq!(next.verdict(0).await, Verdict::Removed(place(9), Counted::default()));
}

/// A program that counts nothing, as it can be compiled for more connections.
fn without_counters(form: Form) -> Program {
    let dir = files(form, Chip::Tofino2);
    let path = dir.path().join("p4info.bin");
    let mut p4info = P4Info::decode(&*std::fs::read(&path).unwrap()).unwrap();
    p4info.direct_counters.clear();
    let is_counter = |id: &u32| id >> 24 == Prefix::DirectCounter as u32;
    p4info.tables.iter_mut().for_each(|table| table.direct_resource_ids.retain(|id| !is_counter(id)));
    std::fs::write(&path, p4info.encode_to_vec()).unwrap();
    Program::tofino(form, Chip::Tofino2, dir.path(), Some(2)).unwrap()
}

/// How long an entry was not hit is all there is then.
#[tokio::test(flavor = "multi_thread")]
async fn without_counters_sessions_are_idle_by_their_last_hit() {
    for form in FORMS {
        let target = target().await;
        let settings = Settings { program: without_counters(form), ..settings(target.address(), form) };
        let mut rig = Rig::ready(settings).await;
        rig.install(0, 7);
        assert_eq!(rig.verdict(0).await, Verdict::Installed(place(7)));
        rig.check(0, 7);
        assert_eq!(rig.verdict(0).await, Verdict::Active(place(7), Counted::default()));
        target.advance(Duration::from_secs(11));
        assert_eq!(rig.verdict(0).await, Verdict::Idle(place(7), Counted::default()));
        rig.remove(0, 7);
        assert_eq!(rig.verdict(0).await, Verdict::Removed(place(7), Counted::default()));
        assert_eq!(rig.status().await.last_error, None);
    }
}

#[test]
fn without_counters_and_idle_timeouts_nothing_starts() {
    for form in FORMS {
        let settings = settings(Address::tcp("127.0.0.1:1".to_owned()), form);
        let settings = Settings { program: without_counters(form), idle_timeouts: false, ..settings };
        let (rings, _workers) = offload::rings(1);
        let error = offload::start(settings, plan(1, VIP), Arc::new(Neighbors::new(10, [1, 2])), rings).unwrap_err();
        assert!(error.to_string().contains("set target.tofino.idle_timeouts where the server takes them"), "{error}");
    }
}

/// What is said of a directory in which this has been done.
fn refusal(form: Form, chip: Chip, spoil: impl FnOnce(&Path)) -> (PathBuf, String) {
    let dir = files(Form::Ids, Chip::Tofino1);
    spoil(dir.path());
    let error = Program::tofino(form, chip, dir.path(), Some(2)).expect_err("a spoilt program");
    (dir.path().into(), error.to_string())
}

#[test]
fn files_that_are_missing_or_empty_are_named() {
    for name in ["p4info.bin", "context.json", "bfrt.json", "tofino.bin"] {
        let (dir, said) = refusal(Form::Ids, Chip::Tofino1, |dir| std::fs::remove_file(dir.join(name)).unwrap());
        let path = dir.join(name).display().to_string();
        assert!(said.starts_with(&format!("target.tofino.files: {path}: No such file")), "{said}");
        assert!(said.contains("`make p4 ARCH=tna` with CAROM_TOFINO_OUT writes it"), "{said}");
        let (dir, said) = refusal(Form::Ids, Chip::Tofino1, |dir| std::fs::write(dir.join(name), "").unwrap());
        let path = dir.join(name).display().to_string();
        assert!(said.starts_with(&format!("target.tofino.files: {path}: it is empty; `make")), "{said}");
    }
    // Servers on PI have no use for it.
    let dir = files(Form::Ids, Chip::Tofino1);
    std::fs::remove_file(dir.path().join("bfrt.json")).unwrap();
    assert!(Program::tofino(Form::Ids, Chip::Tofino1, dir.path(), None).is_ok());
}

#[test]
fn files_with_something_else_in_them_are_named() {
    for (name, kind) in [
        ("p4info.bin", "it is no P4Info"),
        ("context.json", "a context of Tofino (context.json): not JSON"),
        ("bfrt.json", "a BfRt schema (bfrt.json): not JSON"),
        ("tofino.bin", "a binary for Tofino (tofino.bin, tofino2.bin)"),
    ] {
        let (dir, said) = refusal(Form::Ids, Chip::Tofino1, |dir| std::fs::write(dir.join(name), "strange").unwrap());
        assert!(said.starts_with(&format!("target.tofino.files: {}", dir.display())), "{said}");
        assert!(said.contains(name) && said.contains(kind), "{said}");
        assert!(said.contains("`make p4 ARCH=tna` with CAROM_TOFINO_OUT writes it"), "{said}");
    }
}

#[test]
fn a_program_of_another_form_or_chip_is_told_with_the_mend() {
    let (dir, said) = refusal(Form::Plain, Chip::Tofino1, |_| {});
    let expected = format!(
        "target.tofino.files: {}: not of the program \"plain\", it has no table flow_v4; change target.program, or name \
         the directory of that program",
        dir.join("p4info.bin").display()
    );
    assert_eq!(said, expected);
    // The other way round, the first table by ids is missing.
    let (_, said) = refusal(Form::Ids, Chip::Tofino1, |dir| {
        std::fs::write(dir.join("p4info.bin"), TOFINO1_P4INFO).unwrap();
    });
    assert!(said.contains("\"ids\", it has no table service_id_v4; change target.program"), "{said}");
    let another_chip = |dir: PathBuf, name: &str| {
        format!(
            "target.tofino.files: {}: for tofino1, not for tofino2; change target.tofino.chip, or name the directory of that \
             chip",
            dir.join(name).display()
        )
    };
    let (dir, said) = refusal(Form::Ids, Chip::Tofino2, |_| {});
    assert_eq!(said, another_chip(dir, "p4info.bin"));
    // Files of both, mixed.
    let (dir, said) = refusal(Form::Ids, Chip::Tofino2, |dir| {
        std::fs::write(dir.join("p4info.bin"), TOFINO2_IDS_P4INFO).unwrap();
    });
    assert_eq!(said, another_chip(dir, "context.json"));
    let (_, said) = refusal(Form::Ids, Chip::Tofino1, |dir| {
        std::fs::write(dir.join("p4info.bin"), BMV2_IDS_P4INFO).unwrap();
    });
    assert!(said.contains("p4info.bin: for v1model, not for tofino1;"), "{said}");
}
