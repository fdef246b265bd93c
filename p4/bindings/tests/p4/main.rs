//! The P4 program against everything that must agree with it: artifacts with sources, ids with those ever given,
//! architectures with each other, bindings and pages of the book with the program, and what it shares with the slow path.

mod artifacts;
mod bindings;
mod constants;
mod core;
mod docs;
mod ids;
mod program;
mod tofino;

use std::path::{Path, PathBuf};

/// The directory `p4/`.
fn p4() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether generated files are to be written anew.
fn updating() -> bool {
    std::env::var_os("UPDATE_P4").is_some()
}

/// Compares a committed file with what is generated now; with UPDATE_P4=1 writes it instead.
fn fresh(path: &Path, generated: &str) {
    if updating() {
        std::fs::write(path, generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).is_ok_and(|committed| committed == generated),
        "{} is stale; run: UPDATE_P4=1 cargo test -p carom-p4",
        path.display()
    );
}
