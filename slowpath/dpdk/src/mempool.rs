//! Pools of packet buffers.

use std::fmt;
use std::ptr::NonNull;

use dpdk_sys as sys;

use crate::Eal;
use crate::burst::Burst;
use crate::mbuf::Mbuf;
use crate::os;
use fullnat::frame::Frame;

/// A pool of packet buffers, all of one size. A copy is another handle of the same pool.
///
/// A pool lives as long as the process: buffers, devices and rings can therefore never outlive it. Make pools when the
/// process starts and reuse them.
#[derive(Clone, Copy)]
pub struct Mempool {
    pool: NonNull<sys::rte_mempool>,
    data_room: u16,
}

// SAFETY: pools made here use DPDK's multi-producer, multi-consumer ring; caches belong to lcores, and threads without
// an lcore use none.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// How large a pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MempoolConfig {
    /// Buffers. Every receive and transmit ring of a port keeps as many as it has descriptors.
    pub mbufs: u32,
    /// Buffers each [registered thread](crate::register_thread) may keep for itself, 0 to 512, and at most two thirds
    /// of `mbufs`.
    pub cache: u32,
    /// Bytes for a frame, behind the headroom of 128 bytes.
    pub data_room: u16,
    /// NUMA node, or `None` for any.
    pub socket: Option<u32>,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        MempoolConfig { mbufs: 8191, cache: 256, data_room: 2048, socket: None }
    }
}

impl MempoolConfig {
    /// About how much memory the pool takes, in bytes.
    pub fn bytes(&self) -> u64 {
        // rte_mempool puts a header of one cache line before each buffer, rounds up to whole lines, and makes them an odd
        // number so that buffers spread over memory channels, and over the sets of a cache.
        const LINE: u64 = 64;
        let room = u64::from(sys::CAROM_HEADROOM) + u64::from(self.data_room);
        let lines = 1 + (u64::from(sys::CAROM_MBUF_SIZE) + room).div_ceil(LINE);
        u64::from(self.mbufs) * (lines | 1) * LINE
    }
}

/// Why a pool could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MempoolError {
    /// A pool of that name exists.
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name is empty or longer than DPDK allows.
    Name {
        /// The name.
        name: String,
    },
    /// A size that DPDK does not take.
    Invalid {
        /// What was asked.
        config: MempoolConfig,
    },
    /// The memory given to DPDK does not suffice.
    NoMemory {
        /// About how many bytes the pool takes.
        wanted: u64,
        /// Bytes that are free in DPDK's heaps.
        free: u64,
    },
    /// Anything else DPDK says.
    Dpdk {
        /// rte_errno.
        errno: i32,
    },
}

impl fmt::Display for MempoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MempoolError::NameTaken { name } => write!(f, "a mempool named {name:?} exists already"),
            MempoolError::Name { name } => {
                write!(f, "a mempool's name has 1 to {} characters: {name:?}", Mempool::NAME_MAX)
            }
            MempoolError::Invalid { config: c } => write!(
                f,
                "a mempool of {} mbufs with a cache of {} and a data room of {} bytes is not possible: the cache may be \
                 at most 512 and two thirds of the mbufs",
                c.mbufs, c.cache, c.data_room
            ),
            MempoolError::NoMemory { wanted, free } => write!(
                f,
                "a mempool of {} MB does not fit DPDK's memory, {} MB of which are free: give DPDK more memory (or \
                 reserve more hugepages), or use fewer or smaller mbufs",
                wanted.div_ceil(1 << 20),
                free >> 20
            ),
            MempoolError::Dpdk { errno } => write!(f, "the mempool could not be made: {}", os::errno_text(*errno)),
        }
    }
}

impl std::error::Error for MempoolError {}

impl Mempool {
    /// The longest name, in bytes (RTE_MEMPOOL_NAMESIZE less what DPDK adds).
    const NAME_MAX: usize = 25;
    /// RTE_MEMPOOL_CACHE_MAX_SIZE.
    const CACHE_MAX: u32 = 512;

    /// Makes a pool. Names are unique in the process.
    pub fn new(eal: &Eal, name: &str, config: MempoolConfig) -> Result<Mempool, MempoolError> {
        if name.is_empty() || name.len() > Self::NAME_MAX {
            return Err(MempoolError::Name { name: name.into() });
        }
        let room = config.data_room.checked_add(sys::CAROM_HEADROOM);
        let cache_fits = config.cache <= Self::CACHE_MAX && u64::from(config.cache) * 3 <= u64::from(config.mbufs) * 2;
        let (Some(room), true) = (room, config.mbufs > 0 && cache_fits) else {
            return Err(MempoolError::Invalid { config });
        };
        // SOCKET_ID_ANY is -1.
        let socket = config.socket.and_then(|n| i32::try_from(n).ok()).unwrap_or(-1);
        let c_name = os::c_string(name);
        let _control = eal.control();
        // The plain ring (or the platform's own pool) keeps the free buffers. The one with relaxed tails (ring_mt_rts) may
        // take a freed buffer for one too many, and rte_mempool then loses it without a word.
        // SAFETY: EAL is initialised; the name ends with a zero byte and is copied.
        let pool = unsafe { sys::carom_mbuf_pool(c_name.as_ptr(), config.mbufs, config.cache, room, socket) };
        let pool = NonNull::new(pool).map(|pool| Mempool { pool, data_room: config.data_room });
        pool.ok_or_else(|| match os::rte_errno() {
            libc::EEXIST => MempoolError::NameTaken { name: name.into() },
            libc::EINVAL => MempoolError::Invalid { config },
            libc::ENOMEM | libc::ENOBUFS => MempoolError::NoMemory { wanted: config.bytes(), free: eal.memory().free },
            errno => MempoolError::Dpdk { errno },
        })
    }

    pub(crate) fn as_ptr(self) -> *mut sys::rte_mempool {
        self.pool.as_ptr()
    }

    /// Bytes for a frame, behind the headroom.
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    /// Takes an empty frame (length 0, 128 bytes of headroom); `None` when the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as the process.
        let mbuf = unsafe { sys::carom_mbuf_alloc(self.pool.as_ptr()) };
        // SAFETY: a fresh buffer has one segment, one reference and no other owner.
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Takes a frame with these bytes; `None` when the pool is empty or its buffers are too small.
    pub fn alloc_with(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.alloc()?;
        if !mbuf.set_len(bytes.len()) {
            return None;
        }
        mbuf.bytes_mut().copy_from_slice(bytes);
        Some(mbuf)
    }

    /// Adds `count` empty frames to the burst, or as many as it has room for. Takes all of them or, when the pool has
    /// not that many, none. Says how many were added.
    #[inline]
    pub fn alloc_burst<const N: usize>(&self, burst: &mut Burst<N>, count: usize) -> usize {
        let (place, room) = burst.spare();
        let count = count.min(room);
        // SAFETY: there is room for `count` pointers, which fits 32 bits since N fits 16.
        let ret = unsafe { sys::carom_mbuf_alloc_bulk(self.pool.as_ptr(), place, count as u32) };
        if ret != 0 {
            return 0;
        }
        // SAFETY: that many were filled with fresh buffers.
        unsafe { burst.add_len(count) };
        count
    }

    /// Buffers that are out: held by frames, rings and devices. Walks the caches of all lcores; not exact while other
    /// threads use the pool.
    pub fn in_use(&self) -> usize {
        // SAFETY: the pool lives as long as the process.
        unsafe { sys::rte_mempool_in_use_count(self.pool.as_ptr()) as usize }
    }

    /// Buffers that are not, caches included. The same limits as for [`Mempool::in_use`].
    pub fn available(&self) -> usize {
        // SAFETY: the pool lives as long as the process.
        unsafe { sys::rte_mempool_avail_count(self.pool.as_ptr()) as usize }
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool").field("available", &self.available()).field("in_use", &self.in_use()).finish()
    }
}
