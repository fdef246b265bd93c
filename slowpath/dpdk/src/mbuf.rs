//! One packet buffer.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use dpdk_sys as sys;
use fullnat::frame::Frame;

use crate::prefetch::{prefetch_address, prefetch_read};

/// One packet buffer that holds one Ethernet frame in one piece. Dropping it frees the buffer.
///
/// Invariant: the buffer has one segment and no other owner, and its data lies within it. Whatever makes an `Mbuf` sees
/// to that; [`RxQueue::receive`](crate::RxQueue::receive) checks what devices deliver.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: an mbuf has one owner, and mempools take buffers back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: a shared Mbuf gives only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes ownership of a buffer.
    ///
    /// # Safety
    /// `mbuf` is a live buffer which nobody else owns, of one segment and one reference.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(mbuf: NonNull<sys::rte_mbuf>) -> Mbuf {
        Mbuf(mbuf)
    }

    /// Gives ownership away; whoever takes the pointer frees the buffer.
    #[inline(always)]
    pub(crate) fn into_raw(self) -> NonNull<sys::rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    /// A field of the mbuf.
    #[inline(always)]
    fn get<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: callers pass an offset from the C headers with the type that the field has there.
        unsafe { field::<T>(self.0, offset).read() }
    }

    #[inline(always)]
    fn set<T: Copy>(&mut self, offset: u32, value: T) {
        // SAFETY: as in `get`, and `&mut self` is the only way to the buffer.
        unsafe { field::<T>(self.0, offset).write(value) }
    }

    #[inline(always)]
    fn data_off(&self) -> u16 {
        self.get(sys::CAROM_MBUF_DATA_OFF)
    }

    #[inline(always)]
    fn buf_len(&self) -> u16 {
        self.get(sys::CAROM_MBUF_BUF_LEN)
    }

    #[inline(always)]
    fn data(&self) -> *mut u8 {
        let buffer: *mut u8 = self.get(sys::CAROM_MBUF_BUF_ADDR);
        // SAFETY: data_off lies within the buffer.
        unsafe { buffer.add(usize::from(self.data_off())) }
    }

    #[inline(always)]
    fn set_data(&mut self, offset: u16, len: u16) {
        self.set(sys::CAROM_MBUF_DATA_OFF, offset);
        self.set(sys::CAROM_MBUF_DATA_LEN, len);
        self.set(sys::CAROM_MBUF_PKT_LEN, u32::from(len));
    }

    /// Length of the frame in bytes.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty)] // no frame is empty
    pub fn len(&self) -> usize {
        usize::from(self.get::<u16>(sys::CAROM_MBUF_DATA_LEN))
    }

    /// Free bytes in front of the frame.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        usize::from(self.data_off())
    }

    /// Free bytes behind the frame.
    #[inline(always)]
    pub fn tailroom(&self) -> usize {
        usize::from(self.buf_len()) - usize::from(self.data_off()) - self.len()
    }

    /// The number of the port that received the frame; meaningless for one made here.
    #[inline(always)]
    pub fn port(&self) -> u16 {
        self.get(sys::CAROM_MBUF_PORT)
    }

    /// Says that the frame was received by this port, for frames that come from no device.
    #[inline(always)]
    pub fn set_port(&mut self, port: u16) {
        self.set(sys::CAROM_MBUF_PORT, port);
    }

    /// Asks the CPU to bring the buffer near, and its frame from where devices put it. Has no effect but on time; for
    /// buffers that another core had.
    #[inline(always)]
    pub fn prefetch_received(&self) {
        let buffer: *const u8 = self.0.as_ptr().cast();
        prefetch_address(buffer);
        // Not by the buffer's fields, which are not near yet.
        prefetch_address(buffer.wrapping_add(size_of::<sys::rte_mbuf>() + usize::from(sys::CAROM_HEADROOM)));
    }
}

/// The place of a field, by its offset in C.
///
/// # Safety
/// `mbuf` is a live buffer; `offset` is a `CAROM_MBUF_` offset and `T` that field's type.
#[inline(always)]
pub(crate) unsafe fn field<T>(mbuf: NonNull<sys::rte_mbuf>, offset: u32) -> *mut T {
    // SAFETY: the offset lies within the structure; the field is aligned there.
    unsafe { mbuf.as_ptr().cast::<u8>().add(offset as usize).cast() }
}

impl Frame for Mbuf {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the invariant: `len` bytes from `data` lie within a buffer that this Mbuf alone owns. The memory was
        // mapped zeroed, so no byte of it is uninitialised.
        unsafe { std::slice::from_raw_parts(self.data(), self.len()) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only way to the buffer.
        unsafe { std::slice::from_raw_parts_mut(self.data(), self.len()) }
    }

    #[inline(always)]
    fn grow_front(&mut self, n: usize) -> bool {
        let offset = self.data_off();
        if n > usize::from(offset) {
            return false;
        }
        // The new length is at most offset + length, which fits the buffer and so 16 bits.
        let len = (self.len() + n) as u16;
        self.set_data(offset - n as u16, len);
        true
    }

    #[inline(always)]
    fn shrink_front(&mut self, n: usize) {
        let len = self.len();
        assert!(n <= len, "cut more off a frame than it has");
        // Both fit 16 bits: n is at most the length, and the data lies within the buffer.
        let offset = self.data_off() + n as u16;
        self.set_data(offset, (len - n) as u16);
    }

    #[inline(always)]
    fn set_len(&mut self, len: usize) -> bool {
        let offset = self.data_off();
        if len > usize::from(self.buf_len() - offset) {
            return false;
        }
        self.set_data(offset, len as u16);
        true
    }

    #[inline(always)]
    fn prefetch_start(&self) {
        prefetch_address(self.data());
    }

    #[inline(always)]
    fn prefetch<T>(value: &T) {
        prefetch_read(value);
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this object owns the buffer and is gone after this.
        unsafe { sys::carom_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("len", &self.len()).field("headroom", &self.headroom()).finish_non_exhaustive()
    }
}
