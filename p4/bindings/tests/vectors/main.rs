//! Golden vectors: a packet in, the tables, the packet out. `p4/vectors/vectors.toml` is made from the cases here, whose
//! frames and checksums are built from scratch, and runs against the slow path's rewrite, against BMv2, and against a model
//! of Tofino's checksums.

mod bmv2;
mod cases;
mod corners;
mod file;
mod setup;
mod slowpath;
mod testgen;
mod tna;

use std::path::{Path, PathBuf};

/// The directory `p4/`.
fn p4() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_file_is_fresh() {
    let path = p4().join("vectors/vectors.toml");
    let generated = file::write(&setup::entries(), &cases::all());
    if std::env::var_os("UPDATE_P4").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).is_ok_and(|committed| committed == generated),
        "p4/vectors/vectors.toml is stale; run: UPDATE_P4=1 cargo test -p carom-p4"
    );
}

#[test]
fn cases_are_many_and_each_has_a_name_and_a_frame_of_its_own() {
    let vectors = file::read();
    assert!(vectors.cases.len() >= 60, "{}", vectors.cases.len());
    let mut names = std::collections::HashSet::new();
    let mut frames = std::collections::HashSet::new();
    for case in &vectors.cases {
        assert!(names.insert(&case.name), "{}", case.name);
        assert!(frames.insert((case.port, &case.frame)), "{}: a frame used before", case.name);
    }
}
