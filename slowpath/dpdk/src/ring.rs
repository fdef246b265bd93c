//! Bounded rings that carry packet buffers between threads (rte_ring).

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::Eal;
use crate::burst::Burst;
use crate::os;

/// Makes rings; see [`Ring::create`].
pub struct Ring;

/// How many threads put into a ring. One takes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingMode {
    /// One producer.
    Spsc,
    /// Any number of producers, each with a handle of its own. A producer that the scheduler stops in the middle delays
    /// what it and later ones put in, but never makes another producer wait (relaxed tail synchronisation).
    Mpsc,
}

/// Why a ring could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RingError {
    /// A ring of that name exists.
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name is empty or too long, or the size is 0 or not below 2³⁰.
    Invalid {
        /// The name.
        name: String,
        /// The size asked for.
        size: u32,
    },
    /// The memory given to DPDK does not suffice.
    NoMemory {
        /// The size asked for.
        size: u32,
    },
    /// Anything else DPDK says.
    Dpdk {
        /// rte_errno.
        errno: i32,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::NameTaken { name } => write!(f, "a ring named {name:?} exists already"),
            RingError::Invalid { name, size } => write!(
                f,
                "a ring's name has 1 to {} characters and its size is 1 to {}: {name:?}, {size}",
                Ring::NAME_MAX,
                Ring::SIZE_MAX
            ),
            RingError::NoMemory { size } => {
                write!(f, "a ring for {size} mbufs does not fit DPDK's memory: give DPDK more memory")
            }
            RingError::Dpdk { errno } => write!(f, "the ring could not be made: {}", os::errno_text(*errno)),
        }
    }
}

impl std::error::Error for RingError {}

/// The ring, freed with what is in it when the last handle goes.
struct Inner(NonNull<sys::rte_ring>);

// SAFETY: rte_ring is made for use from several threads; the handles see to the number of producers and consumers.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    fn dequeue<const N: usize>(&self, burst: &mut Burst<N>) -> usize {
        let (place, room) = burst.spare();
        // SAFETY: there are `room` places, which fits 32 bits; the ring holds only buffers that producers gave up.
        unsafe {
            let taken = sys::carom_ring_dequeue_burst(self.0.as_ptr(), place.cast(), room as u32) as usize;
            burst.add_len(taken);
            taken
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut rest = Burst::<32>::new();
        while self.dequeue(&mut rest) > 0 {
            rest.clear();
        }
        // SAFETY: no handle is left, so nobody uses the ring any more.
        unsafe { sys::rte_ring_free(self.0.as_ptr()) }
    }
}

impl Ring {
    /// RTE_RING_NAMESIZE less the terminator.
    const NAME_MAX: usize = 28;
    /// Slots are a power of two up to 2³⁰, and one stays free.
    const SIZE_MAX: u32 = (1 << 30) - 1;

    /// Makes a ring that holds `size` buffers. Names are unique in the process.
    pub fn create(eal: &Eal, name: &str, size: u32, mode: RingMode) -> Result<(Producer, Consumer), RingError> {
        let flags = match mode {
            RingMode::Spsc => sys::RING_F_SP_ENQ,
            RingMode::Mpsc => sys::RING_F_MP_RTS_ENQ,
        };
        let ring = raw(eal, name, size, flags | sys::RING_F_SC_DEQ)?;
        let inner = Arc::new(Inner(ring));
        let producer = Producer { ring: inner.clone(), mode, _not_sync: PhantomData };
        Ok((producer, Consumer { ring: inner, _not_sync: PhantomData }))
    }
}

fn raw(eal: &Eal, name: &str, size: u32, flags: u32) -> Result<NonNull<sys::rte_ring>, RingError> {
    if name.is_empty() || name.len() > Ring::NAME_MAX || size == 0 || size > Ring::SIZE_MAX {
        return Err(RingError::Invalid { name: name.into(), size });
    }
    let c_name = os::c_string(name);
    let _control = eal.control();
    // SAFETY: EAL is initialised; the name ends with a zero byte and is copied. -1 is SOCKET_ID_ANY.
    let ring = unsafe { sys::rte_ring_create(c_name.as_ptr(), size, -1, flags | sys::RING_F_EXACT_SZ) };
    NonNull::new(ring).ok_or_else(|| match os::rte_errno() {
        libc::EEXIST => RingError::NameTaken { name: name.into() },
        libc::EINVAL | libc::ENAMETOOLONG => RingError::Invalid { name: name.into(), size },
        libc::ENOMEM => RingError::NoMemory { size },
        errno => RingError::Dpdk { errno },
    })
}

/// The putting end of a ring.
pub struct Producer {
    ring: Arc<Inner>,
    mode: RingMode,
    _not_sync: PhantomData<Cell<()>>,
}

impl Producer {
    /// Puts frames from the front of the burst into the ring and says how many. What does not fit stays in the burst, in
    /// order.
    #[inline]
    pub fn enqueue_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        if burst.is_empty() {
            return 0;
        }
        let count = burst.len() as u32;
        // SAFETY: the burst owns `count` buffers; those in the ring are forgotten here. This handle is the only
        // producer, or the ring is made for many.
        unsafe {
            let put = sys::carom_ring_enqueue_burst(self.ring.0.as_ptr(), burst.raw().cast(), count) as usize;
            burst.forget_front(put);
            put
        }
    }

    /// Another producer of the same ring; `None` when the ring was made for one ([`RingMode::Spsc`]).
    pub fn try_clone(&self) -> Option<Producer> {
        (self.mode == RingMode::Mpsc).then(|| Producer {
            ring: self.ring.clone(),
            mode: self.mode,
            _not_sync: PhantomData,
        })
    }

    /// Frames in the ring, about: the other end may be at work.
    pub fn len(&self) -> usize {
        // SAFETY: the ring lives as long as this handle.
        unsafe { sys::carom_ring_count(self.ring.0.as_ptr()) as usize }
    }

    /// Whether the ring has nothing in it, about.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The taking end of a ring.
pub struct Consumer {
    ring: Arc<Inner>,
    _not_sync: PhantomData<Cell<()>>,
}

impl Consumer {
    /// Takes frames to the end of the burst, as many as it has room for, and says how many.
    #[inline]
    pub fn dequeue_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        self.ring.dequeue(burst)
    }

    /// Frames in the ring, about: the other end may be at work.
    pub fn len(&self) -> usize {
        // SAFETY: the ring lives as long as this handle.
        unsafe { sys::carom_ring_count(self.ring.0.as_ptr()) as usize }
    }

    /// Whether the ring has nothing in it, about.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes two ports of the net_ring driver, each of which receives what the other sends, and returns their names for
/// [`Port::open`](crate::Port::open). For tests: one queue each, `size` frames in flight. The rings live as long as the
/// process.
pub fn port_pair(eal: &Eal, name: &str, size: u32) -> Result<(String, String), RingError> {
    let flags = sys::RING_F_SP_ENQ | sys::RING_F_SC_DEQ;
    let mut there = raw(eal, &format!("{name}-ab"), size, flags)?.as_ptr();
    let mut back = raw(eal, &format!("{name}-ba"), size, flags)?.as_ptr();
    let port = |name: String, rx: *mut *mut sys::rte_ring, tx: *mut *mut sys::rte_ring| {
        let c_name = os::c_string(&name);
        let _control = eal.control();
        // SAFETY: one valid ring each way; they are never freed, so the device cannot outlive them.
        let id = unsafe { sys::rte_eth_from_rings(c_name.as_ptr(), rx, 1, tx, 1, 0) };
        if id < 0 { Err(RingError::Dpdk { errno: os::rte_errno() }) } else { Ok(format!("net_ring_{name}")) }
    };
    let a = port(format!("{name}-a"), &mut back, &mut there)?;
    let b = port(format!("{name}-b"), &mut there, &mut back)?;
    Ok((a, b))
}
