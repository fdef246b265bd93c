//! Threads that DPDK knows.

use std::fmt;
use std::marker::PhantomData;

use dpdk_sys as sys;

use crate::Eal;
use crate::os;

/// This thread is known to DPDK as an lcore: it has its own cache in every [`Mempool`](crate::Mempool), which makes
/// allocating and freeing several times cheaper. Dropping it takes the thread off again.
#[derive(Debug)]
pub struct LcoreThread {
    lcore: u32,
    /// Registration belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

/// Why a thread could not be registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ThreadError {
    /// This thread is an lcore already.
    AlreadyRegistered {
        /// Its lcore.
        lcore: u32,
    },
    /// The thread may not run on that CPU.
    Cpu {
        /// The CPU asked for.
        cpu: usize,
        /// CPUs it may run on, as ranges.
        allowed: String,
        /// Of sched_setaffinity.
        errno: i32,
    },
    /// DPDK has no lcore left (RTE_MAX_LCORE), or refuses.
    Dpdk {
        /// rte_errno.
        errno: i32,
    },
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThreadError::AlreadyRegistered { lcore } => {
                write!(f, "this thread is registered already, as lcore {lcore}")
            }
            ThreadError::Cpu { cpu, allowed, errno } => {
                write!(f, "no thread may be pinned to CPU {cpu} ({}): allowed are {allowed}", os::errno_text(*errno))
            }
            ThreadError::Dpdk { errno } => {
                write!(f, "DPDK takes no further thread ({}): use fewer workers", os::errno_text(*errno))
            }
        }
    }
}

impl std::error::Error for ThreadError {}

/// Makes this thread an lcore, pinned to `cpu` when one is given; otherwise it runs where it ran before.
pub fn register_thread(_eal: &Eal, cpu: Option<usize>) -> Result<LcoreThread, ThreadError> {
    // SAFETY: reads a thread-local variable.
    let now = unsafe { sys::carom_lcore_id() };
    if now != sys::CAROM_LCORE_ID_ANY {
        return Err(ThreadError::AlreadyRegistered { lcore: now });
    }
    if let Some(cpu) = cpu {
        os::pin_to(cpu).map_err(|error| ThreadError::Cpu {
            cpu,
            allowed: os::ranges(&os::allowed_cpus()),
            errno: error.raw_os_error().unwrap_or(0),
        })?;
    }
    // SAFETY: EAL is initialised and this thread is not registered.
    if unsafe { sys::rte_thread_register() } != 0 {
        return Err(ThreadError::Dpdk { errno: os::rte_errno() });
    }
    // SAFETY: reads a thread-local variable.
    Ok(LcoreThread { lcore: unsafe { sys::carom_lcore_id() }, _not_send: PhantomData })
}

impl LcoreThread {
    /// The number DPDK gave this thread.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }
}

impl Drop for LcoreThread {
    fn drop(&mut self) {
        // SAFETY: this thread registered itself, and the object cannot have left it.
        unsafe { sys::rte_thread_unregister() }
    }
}
