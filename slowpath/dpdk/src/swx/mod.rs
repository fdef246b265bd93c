//! DPDK's SWX pipeline: a programmable switch in software.
//!
//! | type | what it is |
//! |---|---|
//! | [`Program`] | structs, headers, actions, tables and instructions, as text of the SWX instruction set |
//! | [`Pipeline`] | the data side: runs the program on packets; belongs to one thread |
//! | [`Control`] | the control side: table entries and registers; belongs to another |
//! | [`Wire`] | where packets come from and go to |
//!
//! # Tables
//!
//! DPDK's own control library finds an entry by walking a list. This one does without: each table exists twice, as objects
//! of DPDK's exact-match table. The pipeline looks into one, [`Control`] writes to the other, and a [switch-over]
//! exchanges them. The thread of the pipeline does that itself, at a moment when no packet is under way, so it matters
//! not at all when and for how long the scheduler stops either thread; then the writes are done once more, to the
//! object that is free now.
//!
//! [switch-over]: Control::publish
//!
//! # Code
//!
//! DPDK interprets a program. Or the program is [written as C](Code::Generated), compiled by the system's compiler and loaded,
//! which is several times faster. It looks into the same tables, in the same steps, through DPDK's own functions; DPDK has
//! taken the program before, so that both refuse the same.
//!
//! # Ports
//!
//! SWX numbers input ports from zero, wants a power of two of them, and takes any output port for one that exists. Here it
//! has one input and two outputs, and the number of a [`Wire`], which may be any, travels with the packet: every packet
//! comes with eight bytes in front, in network byte order.
//!
//! | bytes | on input | on output |
//! |---|---|---|
//! | 0 to 3 | number of the wire it came by | number of the wire it goes to |
//! | 4 to 7 | length of the frame behind them | not looked at |
//!
//! A program extracts them first and emits them first. Output 0 sends, output 1 drops.
//!
//! # Trust
//!
//! SWX believes its program: there is no check that a header which is read was extracted, or that the frame is as long as
//! what is extracted. What makes a [`Program`] vouches for it.

mod build;
mod control;
mod generate;
mod generated;
mod hash;
mod library;
mod object;
mod pipeline;
mod port;
mod program;

pub use build::{BuildError, Code};
pub use control::{Control, Stalled, WriteError};
pub use generate::NotGenerated;
pub use library::{CompileError, Compiler};
pub use pipeline::Pipeline;
pub use port::{PREFIX, Wire, WireStats};
pub use program::{Action, Argument, Field, KeyField, Layout, Program, Register, Struct, Table, TableAction};

/// Output port that sends to the wire whose number is in front of the packet.
pub const OUTPUT_SEND: u32 = 0;
/// Output port that drops.
pub const OUTPUT_DROP: u32 = 1;
/// The longest name of anything, in bytes (RTE_SWX_NAME_SIZE without the terminator).
pub const NAME_MAX: usize = dpdk_sys::RTE_SWX_NAME_SIZE as usize - 1;
/// The longest instruction, in bytes (RTE_SWX_INSTRUCTION_SIZE without the terminator).
pub const INSTRUCTION_MAX: usize = dpdk_sys::RTE_SWX_INSTRUCTION_SIZE as usize - 1;
/// Instructions keep the offset of a field in one byte.
pub const STRUCT_BYTES_MAX: u32 = 256;
