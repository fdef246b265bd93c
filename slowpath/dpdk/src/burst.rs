//! A fixed array of packet buffers.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr;

use dpdk_sys as sys;

use crate::mbuf::Mbuf;

/// Up to `N` packet buffers in order, without a heap. Dropping it frees what is left.
///
/// Vector drivers receive in groups: use an `N` of 32 or more, and receive into a burst with room for 32.
pub struct Burst<const N: usize = 32> {
    len: usize,
    /// The first `len` are owned; the rest hold anything.
    mbufs: [MaybeUninit<Mbuf>; N],
}

impl<const N: usize> Burst<N> {
    /// An empty burst.
    #[inline]
    pub const fn new() -> Self {
        const { assert!(N > 0 && N <= u16::MAX as usize, "a burst holds 1 to 65535 mbufs") };
        Burst { len: 0, mbufs: [const { MaybeUninit::uninit() }; N] }
    }

    /// How many it can hold.
    pub const CAPACITY: usize = N;

    /// How many more it can hold.
    #[inline(always)]
    pub fn room(&self) -> usize {
        N - self.len
    }

    /// Whether nothing more fits.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len == N
    }

    /// Adds one at the end. Gives it back when the burst is full.
    #[inline(always)]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.len == N {
            return Err(mbuf);
        }
        self.mbufs[self.len].write(mbuf);
        self.len += 1;
        Ok(())
    }

    /// Takes the last one out.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the element was owned, and the shorter length no longer counts it.
        Some(unsafe { self.mbufs[self.len].assume_init_read() })
    }

    /// Takes all out in order. What the iterator does not give out is freed with it.
    #[inline(always)]
    pub fn drain(&mut self) -> Drain<'_, N> {
        let end = self.len;
        // From here on the iterator owns them: one that is forgotten leaks buffers and frees none twice.
        self.len = 0;
        Drain { burst: self, next: 0, end }
    }

    /// Frees all.
    pub fn clear(&mut self) {
        let len = std::mem::take(&mut self.len);
        if len > 0 {
            // SAFETY: the first `len` are owned and the length no longer counts them. Mbuf is a pointer to rte_mbuf.
            // `len` fits: it is at most N, which `new` bounds.
            unsafe { sys::carom_mbuf_free_bulk(self.mbufs.as_mut_ptr().cast(), len as u32) }
        }
    }

    /// The buffers, in order.
    #[inline(always)]
    pub fn as_slice(&self) -> &[Mbuf] {
        self
    }

    /// The buffers, in order, writable.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        self
    }

    /// Where the unused places start, and how many they are.
    #[inline(always)]
    pub(crate) fn spare(&mut self) -> (*mut *mut sys::rte_mbuf, usize) {
        // SAFETY: `len` is at most N, so the result is inside or one past the end.
        (unsafe { self.mbufs.as_mut_ptr().add(self.len).cast() }, N - self.len)
    }

    /// The owned pointers, for a C function that takes some of them.
    #[inline(always)]
    pub(crate) fn raw(&mut self) -> *mut *mut sys::rte_mbuf {
        self.mbufs.as_mut_ptr().cast()
    }

    /// Counts `added` more as owned.
    ///
    /// # Safety
    /// That many places from [`Burst::spare`] on were filled with buffers as [`Mbuf::from_raw`] wants them.
    #[inline(always)]
    pub(crate) unsafe fn add_len(&mut self, added: usize) {
        debug_assert!(added <= N - self.len);
        self.len += added;
    }

    /// Forgets the first `taken`, which someone else owns now, and moves the rest to the front.
    ///
    /// # Safety
    /// Ownership of the first `taken` was given away.
    #[inline(always)]
    pub(crate) unsafe fn forget_front(&mut self, taken: usize) {
        debug_assert!(taken <= self.len);
        let rest = self.len - taken;
        if rest > 0 && taken > 0 {
            // SAFETY: both ranges lie within the array.
            unsafe { ptr::copy(self.mbufs.as_ptr().add(taken), self.mbufs.as_mut_ptr(), rest) };
        }
        self.len = rest;
    }
}

impl<const N: usize> Default for Burst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Burst<N> {
    type Target = [Mbuf];

    #[inline(always)]
    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first `len` are owned, and MaybeUninit<Mbuf> has Mbuf's layout.
        unsafe { std::slice::from_raw_parts(self.mbufs.as_ptr().cast(), self.len) }
    }
}

impl<const N: usize> DerefMut for Burst<N> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: as in `deref`, and `&mut self` is the only way to the array.
        unsafe { std::slice::from_raw_parts_mut(self.mbufs.as_mut_ptr().cast(), self.len) }
    }
}

impl<const N: usize> Drop for Burst<N> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The buffers of a burst, in order; see [`Burst::drain`].
pub struct Drain<'a, const N: usize> {
    burst: &'a mut Burst<N>,
    next: usize,
    end: usize,
}

impl<const N: usize> Iterator for Drain<'_, N> {
    type Item = Mbuf;

    #[inline(always)]
    fn next(&mut self) -> Option<Mbuf> {
        if self.next == self.end {
            return None;
        }
        // SAFETY: those between `next` and `end` are owned by this iterator; each is read once.
        let mbuf = unsafe { self.burst.mbufs[self.next].assume_init_read() };
        self.next += 1;
        Some(mbuf)
    }

    #[inline(always)]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl<const N: usize> ExactSizeIterator for Drain<'_, N> {}

impl<const N: usize> Drop for Drain<'_, N> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}
