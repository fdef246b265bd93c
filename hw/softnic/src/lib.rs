//! A P4 switch in software: a program that p4c-dpdk compiled, on DPDK's SWX pipeline.
//!
//! ```text
//!  .spec ──▶ spec ──▶ guard ──▶ dpdk::swx::Program ─┬─▶ Pipeline ◀── engine: the data thread
//!  P4Info ───────────▶ names ──▶ tables ────────────┴─▶ Control: entries and counters
//!                                  └──◀── server: P4Runtime
//! ```
//!
//! No C compiler is needed: the pipeline interprets its instructions.

pub mod engine;
pub mod guard;
pub mod names;
pub mod server;
pub mod spec;
pub mod tables;
pub mod value;
