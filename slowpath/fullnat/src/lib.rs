//! The pure core of Carom: everything a FullNAT balancer decides, and nothing of the machine it runs on.
//!
//! No DPDK, no async runtime, no clock, no globals. Time, packet buffers and randomness are arguments, so that every
//! behaviour can be tested without an EAL, and the same code runs under the daemon, the benchmarks and the fuzzers.
//!
//! The packet's way is in [`forward`]; the words are those of the design: client, service, real server, local address.

pub mod addr;
pub mod counters;
pub mod flow;
pub mod forward;
pub mod frame;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
pub mod half_open;
pub mod hash;
pub mod id;
pub mod index;
mod memory;
pub mod neighbor;
pub mod offload;
pub mod persistence;
pub mod plan;
pub mod ports;
pub mod reason;
pub mod route;
pub mod rss;
pub mod sched;
pub mod session;
pub mod spread;
pub mod table;
pub mod tcp;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod wheel;
pub mod wire;
