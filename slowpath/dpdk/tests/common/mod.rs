//! One EAL for all tests of a binary: DPDK initialises once in a process. Under `cargo test` the tests of a file share
//! it, under nextest each has its own; both work, since names are unique and nothing is shared beyond it.
#![allow(dead_code)] // each test binary uses a part

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk::{Burst, Eal, EalConfig, Memory, Mempool, MempoolConfig, RxQueue, TxQueue};

/// The EAL, with ordinary memory.
pub fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let memory = Memory::NoHuge { mb: 256 };
        Eal::init(EalConfig { memory, ..Default::default() }).expect("EAL starts with ordinary memory")
    })
}

/// A name nobody else in this process has.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A pool without caches, so that its counts are exact at once.
pub fn pool(mbufs: u32) -> Mempool {
    let config = MempoolConfig { mbufs, cache: 0, ..Default::default() };
    Mempool::new(eal(), &unique("pool"), config).expect("a small pool fits")
}

/// A frame of `len` bytes, all `fill`.
pub fn frame(len: usize, fill: u8) -> Vec<u8> {
    vec![fill; len]
}

/// Receives until `count` frames are there, or twenty seconds have passed.
pub fn receive_some(rx: &mut RxQueue, burst: &mut Burst, count: usize) -> usize {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while burst.len() < count && std::time::Instant::now() < end {
        if rx.receive(burst) == 0 {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
    burst.len()
}

/// The only queues of a started port.
pub fn one((mut rx, mut tx): (Vec<RxQueue>, Vec<TxQueue>)) -> (RxQueue, TxQueue) {
    assert_eq!((rx.len(), tx.len()), (1, 1));
    (rx.remove(0), tx.remove(0))
}
