//! `carom bench softnic` and `carom bench softnic-install`: the software switch between in-memory ports.
//!
//! ```text
//!            ┌────────────┐ hits                         ┌────────────┐
//!  port 1 ──▶│  pipeline  ├─────────────────────────────▶│   port 2   │  every frame is looked at
//!  frames    └──────┬─────┘                              └────────────┘
//!                   └ port 64 ══ rings ══ worker of the slow path, back, and out of port 2
//! ```

mod forward;
mod frames;
mod install;
mod ports;
mod program;

use super::BenchError;
use crate::cli::{SoftnicForward, SoftnicInstall};

/// Frames through one pipeline thread, with a share that the slow path forwards.
pub fn forward(args: &SoftnicForward) -> Result<(), BenchError> {
    forward::run(args)
}

/// Entries through the P4Runtime server, while frames pass.
pub fn install(args: &SoftnicInstall) -> Result<(), BenchError> {
    install::run(args)
}

fn failed(what: &str) -> impl Fn(&dyn std::fmt::Display) -> BenchError + '_ {
    move |error| BenchError(format!("{what}: {error}"))
}
