//! Queues of released ports: 6 bytes an entry, in chunks that all queues of a worker share, so that memory follows what
//! is in them. No queue is ever copied to grow.

/// Entries of a chunk: what fits 256 bytes.
const ENTRIES: usize = 42;
/// Chunks that are allocated at a time: 16 KiB, a few microseconds once per 2 700 released ports.
const SEGMENT: usize = 64;
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
#[repr(C)]
struct Chunk {
    next: u32,
    at: [u32; ENTRIES],
    ports: [u16; ENTRIES],
}

const _: () = assert!(size_of::<Chunk>() == 256);

/// Where the chunks are.
pub struct Chunks {
    segments: Vec<Box<[Chunk]>>,
    free: u32,
    in_use: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Chunks { segments: Vec::new(), free: NIL, in_use: 0 }
    }
}

impl Chunks {
    /// Chunks that hold entries.
    #[cfg(test)]
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    fn get(&self, chunk: u32) -> &Chunk {
        &self.segments[chunk as usize / SEGMENT][chunk as usize % SEGMENT]
    }

    fn get_mut(&mut self, chunk: u32) -> &mut Chunk {
        &mut self.segments[chunk as usize / SEGMENT][chunk as usize % SEGMENT]
    }

    fn take(&mut self) -> u32 {
        if self.free == NIL {
            let first = (self.segments.len() * SEGMENT) as u32;
            let empty = Chunk { next: NIL, at: [0; ENTRIES], ports: [0; ENTRIES] };
            let mut segment = vec![empty; SEGMENT].into_boxed_slice();
            for (chunk, next) in segment.iter_mut().take(SEGMENT - 1).zip(first + 1..) {
                chunk.next = next;
            }
            self.segments.push(segment);
            self.free = first;
        }
        let chunk = self.free;
        self.free = self.get(chunk).next;
        self.get_mut(chunk).next = NIL;
        self.in_use += 1;
        chunk
    }

    fn give(&mut self, chunk: u32) {
        self.get_mut(chunk).next = self.free;
        self.free = chunk;
        self.in_use -= 1;
    }
}

/// An entry's place: a chunk and an offset in it, up to and including one past its end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    chunk: u32,
    offset: usize,
}

impl Place {
    const NONE: Place = Place { chunk: NIL, offset: 0 };

    /// Moves from one past a chunk's end to the next chunk's begin, if there is one.
    fn settle(&mut self, chunks: &Chunks) {
        if self.offset == ENTRIES {
            let next = chunks.get(self.chunk).next;
            if next != NIL {
                *self = Place { chunk: next, offset: 0 };
            }
        }
    }
}

/// A queue of `(port, second of its release)`. The ripe entries at its head, those whose quarantine is known to be over,
/// are counted step by step.
pub struct Ring {
    head: Place,
    tail: Place,
    /// The first entry not known to be ripe.
    unripe: Place,
    len: u32,
    ripe: u32,
}

impl Default for Ring {
    fn default() -> Self {
        Ring { head: Place::NONE, tail: Place::NONE, unripe: Place::NONE, len: 0, ripe: 0 }
    }
}

impl Ring {
    /// Entries in the queue.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Entries known to be ripe.
    pub fn ripe(&self) -> u32 {
        self.ripe
    }

    /// Adds an entry behind all others.
    pub fn push(&mut self, chunks: &mut Chunks, port: u16, at: u32) {
        if self.len == 0 {
            let start = Place { chunk: chunks.take(), offset: 0 };
            (self.head, self.tail, self.unripe) = (start, start, start);
        } else if self.tail.offset == ENTRIES {
            let next = chunks.take();
            chunks.get_mut(self.tail.chunk).next = next;
            self.tail = Place { chunk: next, offset: 0 };
        }
        let chunk = chunks.get_mut(self.tail.chunk);
        chunk.ports[self.tail.offset] = port;
        chunk.at[self.tail.offset] = at;
        self.tail.offset += 1;
        self.len += 1;
    }

    /// The first entry.
    pub fn front(&self, chunks: &Chunks) -> Option<(u16, u32)> {
        if self.len == 0 {
            return None;
        }
        let chunk = chunks.get(self.head.chunk);
        Some((chunk.ports[self.head.offset], chunk.at[self.head.offset]))
    }

    /// Takes the first entry out.
    pub fn pop(&mut self, chunks: &mut Chunks) -> Option<(u16, u32)> {
        let front = self.front(chunks)?;
        let chunk = self.head.chunk;
        self.len -= 1;
        self.head.offset += 1;
        self.head.settle(chunks);
        if self.ripe > 0 {
            self.ripe -= 1;
            self.unripe.settle(chunks);
        } else {
            self.unripe = self.head;
        }
        if self.len == 0 {
            *self = Ring::default();
            chunks.give(chunk);
        } else if self.head.chunk != chunk {
            chunks.give(chunk);
        }
        Some(front)
    }

    /// Counts up to `n` more entries as ripe, those at most `last` seconds old in their release.
    pub fn ripen(&mut self, chunks: &Chunks, last: u32, n: usize) {
        for _ in 0..n {
            if self.ripe == self.len {
                return;
            }
            self.unripe.settle(chunks);
            if chunks.get(self.unripe.chunk).at[self.unripe.offset] > last {
                return;
            }
            self.unripe.offset += 1;
            self.ripe += 1;
        }
    }

    /// Takes all entries out.
    pub fn clear(&mut self, chunks: &mut Chunks) {
        let mut chunk = if self.len == 0 { NIL } else { self.head.chunk };
        while chunk != NIL {
            let next = chunks.get(chunk).next;
            chunks.give(chunk);
            chunk = next;
        }
        *self = Ring::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::testing::Rng;

    #[test]
    fn counting_goes_on_after_a_chunk_of_ripe_entries_is_gone() {
        let (mut chunks, mut ring) = (Chunks::default(), Ring::default());
        for n in 0..ENTRIES + 8 {
            ring.push(&mut chunks, n as u16, u32::from(n >= ENTRIES));
        }
        ring.ripen(&chunks, 0, usize::MAX);
        for n in 0..ENTRIES {
            assert_eq!(ring.pop(&mut chunks), Some((n as u16, 0)));
        }
        assert_eq!((ring.ripe(), chunks.in_use()), (0, 1));
        ring.ripen(&chunks, 1, usize::MAX);
        assert_eq!(ring.ripe(), 8);
    }

    #[test]
    fn agrees_with_a_deque_and_returns_every_chunk() {
        let mut rng = Rng::new(9);
        let mut chunks = Chunks::default();
        let mut rings: Vec<(Ring, VecDeque<(u16, u32)>)> = Default::default();
        rings.resize_with(3, Default::default);
        let mut now = 0;
        for step in 0..200_000 {
            now += u32::from(rng.chance(1, 10));
            // Grows for a while, then shrinks.
            let grow = if step / 20_000 % 2 == 0 { 6 } else { 4 };
            let (ring, oracle) = &mut rings[rng.below(3)];
            if rng.chance(grow, 10) {
                let port = rng.u16();
                ring.push(&mut chunks, port, now);
                oracle.push_back((port, now));
            } else {
                assert_eq!(ring.pop(&mut chunks), oracle.pop_front());
            }
            assert_eq!(ring.front(&chunks), oracle.front().copied());
            assert_eq!(ring.len() as usize, oracle.len());
            if rng.chance(1, 3) {
                let (last, n, before) = (now.saturating_sub(100), rng.below(30), ring.ripe());
                ring.ripen(&chunks, last, n);
                let all = oracle.iter().take_while(|&&(_, at)| at <= last).count() as u32;
                assert_eq!(ring.ripe(), all.min(before + n as u32));
            }
            if rng.chance(1, 20_000) {
                ring.clear(&mut chunks);
                oracle.clear();
            }
            assert!(ring.ripe() <= ring.len());
        }
        for (ring, _) in &mut rings {
            ring.clear(&mut chunks);
        }
        assert_eq!(chunks.in_use(), 0);
    }
}
