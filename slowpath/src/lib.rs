//! The daemon `carom`: config, workers, admin API and command line around the pure core `fullnat`.

pub mod config;
pub mod control;
pub mod daemon;
