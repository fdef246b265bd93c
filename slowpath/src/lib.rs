//! The daemon `carom`: config, workers, admin API and command line around the pure core `fullnat`.

pub mod api;
pub mod assemble;
pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod logging;
pub mod offload;
pub mod run;
pub mod softnic;
mod target;
pub mod worker;
