//! A small safe wrapper of DPDK.
//!
//! | type | what it is |
//! |---|---|
//! | [`Eal`] | proof that DPDK is initialised; once per process and never undone |
//! | [`Mempool`], [`Mbuf`], [`Burst`] | packet buffers: a pool, one owned frame, a fixed array of them |
//! | [`Port`], [`RxQueue`], [`TxQueue`] | a network device and its queues |
//! | [`Ring`](ring) | a bounded queue of mbufs between workers |
//! | [`swx`] | a programmable pipeline: a switch in software |
//! | [`flow_hash`], [`prefetch_read`] | what the CPU gives, for the core, which has no unsafe code |
//! | [`LargePages`] | an allocator that puts large tables on huge pages |
//! | [`LcoreThread`] | a thread DPDK knows, with its own mempool caches |
//!
//! Ownership: an [`Mbuf`] frees its buffer when dropped and cannot be cloned. [`TxQueue::send`] takes what the device
//! accepted and leaves the rest in the burst. Queue handles take `&mut self`, so one thread at a time uses a queue, and
//! they keep their port alive. The memory behind all of it lives as long as the process, so nothing can outlive it.
//!
//! Errors name what is wrong and what mends it; DPDK's own messages are captured and quoted in them.
#![allow(unsafe_code)]

mod burst;
mod device;
mod eal;
mod hash;
mod log;
mod mbuf;
mod mempool;
mod os;
mod pages;
mod port;
mod prefetch;
mod queue;
pub mod ring;
mod rss;
mod setup;
pub mod swx;
mod thread;

pub use burst::{Burst, Drain};
pub use device::{Device, DeviceError};
pub use eal::{Eal, EalConfig, EalError, Memory, MemoryReport};
pub use hash::flow_hash;
pub use log::{LogLevel, LogSink};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolConfig, MempoolError};
pub use pages::{LargePages, PagesReport, TouchedPages};
pub use port::{Link, Port, PortConfig, PortError, PortInfo, PortStats};
pub use prefetch::prefetch_read;
pub use queue::{RxQueue, TxQueue};
pub use ring::{Consumer, Producer, Ring, RingError, RingMode};
pub use rss::{RssInfo, toeplitz_hash};
pub use thread::{LcoreThread, ThreadError, register_thread};

/// DPDK's release, such as `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: no preconditions; the string is static.
    unsafe { os::text(dpdk_sys::rte_version()) }
}
