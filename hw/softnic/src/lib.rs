//! A P4 switch in software: a program that p4c-dpdk compiled, on DPDK's SWX pipeline.
//!
//! ```text
//!  .spec ──▶ spec ──▶ guard ──▶ dpdk::swx::Program ─┬─▶ Pipeline: the data thread runs it
//!  P4Info ───────────▶ names ──▶ tables ────────────┴─▶ Control: entries and counters
//! ```
//!
//! No C compiler is needed: the pipeline interprets its instructions.

pub mod guard;
pub mod names;
pub mod spec;
pub mod tables;
pub mod value;
