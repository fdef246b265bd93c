//! A P4 switch in software: a program that p4c-dpdk compiled, on DPDK's SWX pipeline.
//!
//! ```text
//!  .spec ──▶ spec ──▶ guard ──▶ dpdk::swx::Program ─┬─▶ Pipeline ◀── engine: the data thread
//!  P4Info ───────────▶ names ──▶ tables ────────────┴─▶ Control: entries and counters
//!                                  └──◀── server: P4Runtime
//! ```
//!
//! The pipeline interprets the program's instructions, or runs C that is generated of them, where there is a compiler.

pub mod engine;
pub mod guard;
pub mod names;
pub mod server;
pub mod spec;
pub mod tables;
pub mod value;
