//! Receive and transmit queues.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use dpdk_sys as sys;

use crate::burst::Burst;
use crate::mbuf::{Mbuf, field};
use crate::mempool::Mempool;
use crate::port::PortInner;

/// One thread at a time: a handle may move to another thread, but not be shared.
type NotSync = PhantomData<Cell<()>>;

/// A receive queue of a started port. Keeps the port alive.
pub struct RxQueue {
    port: Arc<PortInner>,
    queue: u16,
    pool: Mempool,
    refused: u64,
    _not_sync: NotSync,
}

/// A transmit queue of a started port. Keeps the port alive.
pub struct TxQueue {
    port: Arc<PortInner>,
    queue: u16,
    _not_sync: NotSync,
}

/// The functions and queues of a port, as DPDK's own inline functions find them.
#[inline(always)]
fn fast_path(port: u16) -> *const sys::rte_eth_fp_ops {
    // SAFETY: the array has an element for each port number, and ports have numbers below its length.
    unsafe { ptr::addr_of!(sys::rte_eth_fp_ops).cast::<sys::rte_eth_fp_ops>().add(usize::from(port)) }
}

impl RxQueue {
    pub(crate) fn new(port: Arc<PortInner>, queue: u16, pool: Mempool) -> RxQueue {
        RxQueue { port, queue, pool, refused: 0, _not_sync: PhantomData }
    }

    /// The queue's number.
    pub fn id(&self) -> u16 {
        self.queue
    }

    /// Receives frames to the end of the burst, as many as it has room for, and says how many. Some drivers deliver
    /// nothing when there is room for fewer than 4, or 32.
    #[inline]
    pub fn receive<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let (place, room) = burst.spare();
        // N fits 16 bits.
        let received = usize::from(self.receive_raw(place, room as u16));
        // A device's buffer becomes an Mbuf only when it is what an Mbuf promises.
        let mut good = 0;
        while good < received {
            // SAFETY: the driver filled `received` places with live buffers.
            let mbuf = unsafe { NonNull::new_unchecked(*place.add(good)) };
            // SAFETY: the offsets and types are those of the C structure.
            let (refcnt, segments): (u16, u16) =
                unsafe { (*field(mbuf, sys::CAROM_MBUF_REFCNT), *field(mbuf, sys::CAROM_MBUF_NB_SEGS)) };
            if refcnt != 1 || segments != 1 {
                break;
            }
            good += 1;
        }
        if good < received {
            // SAFETY: `place` has `received` live buffers that nobody else owns; the first `good` are in order.
            good = unsafe { self.repair(place, good, received) };
        }
        // SAFETY: `good` places hold buffers of one segment and one reference.
        unsafe { burst.add_len(good) };
        good
    }

    #[inline(always)]
    fn receive_raw(&self, place: *mut *mut sys::rte_mbuf, room: u16) -> u16 {
        let ops = fast_path(self.port.id);
        // SAFETY: the port is started (it stops when the last queue handle is gone), so that its functions are set and
        // its queues exist up to the configured number; `&mut self` in the caller makes this thread the only user.
        unsafe {
            let queue = usize::from(self.queue);
            if !(*(*ops).rxq.clbk.add(queue)).is_null() {
                // A capture is on (dpdk-pdump): let it see the frames.
                return sys::carom_rx_burst(self.port.id, self.queue, place, room);
            }
            let receive = (*ops).rx_pkt_burst.unwrap_unchecked();
            receive(*(*ops).rxq.data.add(queue), place, room)
        }
    }

    /// Makes each frame a buffer of one segment and one reference, or frees and counts it. Returns how many are left, at
    /// the front, in order.
    ///
    /// # Safety
    /// `place` holds `received` live buffers of which nobody else owns this reference.
    #[cold]
    unsafe fn repair(&mut self, place: *mut *mut sys::rte_mbuf, first: usize, received: usize) -> usize {
        let mut kept = first;
        for index in first..received {
            // SAFETY: index < received; the buffer is live.
            let mbuf = unsafe { NonNull::new_unchecked(*place.add(index)) };
            // SAFETY: the caller's promise.
            match unsafe { self.unshare(mbuf) } {
                Some(mbuf) => {
                    // SAFETY: kept <= index, whose buffer was read already.
                    unsafe { *place.add(kept) = mbuf.into_raw().as_ptr() };
                    kept += 1;
                }
                None => self.refused += 1,
            }
        }
        kept
    }

    /// # Safety
    /// As for [`RxQueue::repair`].
    unsafe fn unshare(&self, mbuf: NonNull<sys::rte_mbuf>) -> Option<Mbuf> {
        let raw = mbuf.as_ptr();
        // SAFETY: the buffer is live; the offsets and types are those of the C structure. A buffer with one reference
        // may be changed in place, any other is copied to one that is ours; the original reference is given up once.
        unsafe {
            let single = |mbuf| *field::<u16>(mbuf, sys::CAROM_MBUF_NB_SEGS) == 1;
            if *field::<u16>(mbuf, sys::CAROM_MBUF_REFCNT) == 1 && (single(mbuf) || sys::carom_mbuf_linearize(raw) == 0)
            {
                return Some(Mbuf::from_raw(mbuf));
            }
            let copy = NonNull::new(sys::rte_pktmbuf_copy(raw, self.pool.as_ptr(), 0, u32::MAX));
            sys::carom_mbuf_free(raw);
            let copy = copy?;
            if single(copy) {
                return Some(Mbuf::from_raw(copy));
            }
            sys::carom_mbuf_free(copy.as_ptr());
            None
        }
    }

    /// Frames thrown away because they came in pieces that do not fit one buffer.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl TxQueue {
    pub(crate) fn new(port: Arc<PortInner>, queue: u16) -> TxQueue {
        TxQueue { port, queue, _not_sync: PhantomData }
    }

    /// The queue's number.
    pub fn id(&self) -> u16 {
        self.queue
    }

    /// Gives frames from the front of the burst to the device and says how many it took. Those are the device's from
    /// then on; what it did not take stays in the burst, in order.
    #[inline]
    pub fn send<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        if burst.is_empty() {
            return 0;
        }
        // N fits 16 bits.
        let count = burst.len() as u16;
        let ops = fast_path(self.port.id);
        // SAFETY: as in `receive_raw`; the burst owns `count` buffers, and those that were taken are forgotten here.
        unsafe {
            let queue = usize::from(self.queue);
            let sent = if (*(*ops).txq.clbk.add(queue)).is_null() {
                let send = (*ops).tx_pkt_burst.unwrap_unchecked();
                send(*(*ops).txq.data.add(queue), burst.raw(), count)
            } else {
                sys::carom_tx_burst(self.port.id, self.queue, burst.raw(), count)
            };
            let sent = usize::from(sent);
            burst.forget_front(sent);
            sent
        }
    }
}
