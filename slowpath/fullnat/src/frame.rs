//! Packet buffers as the core sees them: one contiguous Ethernet frame with some room in front.

/// A packet buffer that owns one Ethernet frame. Dropping it gives the buffer back to where it came from.
///
/// DPDK mbufs implement it in the daemon; [`HeapFrame`] implements it for tests, fuzzing and file tools.
pub trait Frame: Sized {
    /// The frame, from the destination MAC address on, without FCS.
    fn bytes(&self) -> &[u8];
    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Makes the frame `n` bytes longer at its front; the new bytes hold anything. False, with nothing changed, when
    /// the headroom is too small.
    #[must_use]
    fn grow_front(&mut self, n: usize) -> bool;
    /// Cuts `n` bytes off the front. `n` must not exceed the length.
    fn shrink_front(&mut self, n: usize);
    /// Sets the length, cutting or adding bytes at the end; added bytes hold anything. False, with nothing changed,
    /// when the tailroom is too small.
    #[must_use]
    fn set_len(&mut self, len: usize) -> bool;

    /// Asks the CPU to bring the start of the frame near, which is about to be parsed. As [`Frame::prefetch`].
    #[inline(always)]
    fn prefetch_start(&self) {}

    /// Asks the CPU to bring a value near that is needed soon. Has no effect but on time; by default none at all. It is
    /// here, with what the machine gives, because safe code has no name for the instruction.
    #[inline(always)]
    fn prefetch<T>(value: &T) {
        let _ = value;
    }
}

/// A frame on the heap with 128 bytes of headroom and room for 2 KiB, like a default mbuf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeapFrame {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl HeapFrame {
    /// Bytes in front of a new frame, as RTE_PKTMBUF_HEADROOM.
    pub const HEADROOM: usize = 128;
    /// Bytes a frame can hold behind the headroom.
    pub const ROOM: usize = 2048;

    /// A frame with the given bytes, at most [`HeapFrame::ROOM`] (longer input gets a buffer of its own size).
    pub fn new(bytes: &[u8]) -> Self {
        let mut buf = vec![0; Self::HEADROOM + Self::ROOM.max(bytes.len())];
        let end = Self::HEADROOM + bytes.len();
        buf[Self::HEADROOM..end].copy_from_slice(bytes);
        HeapFrame { buf, start: Self::HEADROOM, end }
    }
}

impl Frame for HeapFrame {
    fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.end]
    }

    fn grow_front(&mut self, n: usize) -> bool {
        match self.start.checked_sub(n) {
            Some(start) => {
                self.start = start;
                true
            }
            None => false,
        }
    }

    fn shrink_front(&mut self, n: usize) {
        assert!(n <= self.end - self.start, "cut {n} bytes off a frame of {}", self.end - self.start);
        self.start += n;
    }

    fn set_len(&mut self, len: usize) -> bool {
        let end = self.start + len;
        if end > self.buf.len() {
            return false;
        }
        self.end = end;
        true
    }
}
