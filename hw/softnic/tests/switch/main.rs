//! The program on the pipeline.

#[path = "../../../../p4/bindings/tests/vectors/file.rs"]
#[allow(dead_code)] // the file's writer is for the tests that make it
mod file;
mod golden;
mod packets;
mod rig;
mod server;
mod shell;

use std::path::{Path, PathBuf};

/// The directory `p4/`.
fn p4() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../p4")
}
