//! The in-memory ports: one that frames come by, and one that they leave by, where each is compared with what it should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use dpdk::swx::Wire;
use dpdk::{Burst, Mempool};
use fullnat::frame::Frame;
use fullnat::wire::ethernet;

use super::frames::{self, Bytes};
use crate::worker::BURST;

/// What passed, told to whoever measures.
#[derive(Debug, Default)]
pub struct Passed {
    /// Frames that came in.
    pub offered: AtomicU64,
    /// Frames that left.
    pub arrived: AtomicU64,
    /// Those of them that are not byte for byte what they should be, or left by the wrong port.
    pub wrong: AtomicU64,
    /// No more frames come.
    pub stopped: AtomicBool,
}

impl Passed {
    /// Frames that came and have not left, nor will, if nothing is under way.
    pub fn missing(&self) -> u64 {
        self.offered.load(Relaxed).saturating_sub(self.arrived.load(Relaxed))
    }
}

/// Frames of some flows, in turn, again and again.
pub struct Incoming {
    mempool: Mempool,
    frames: Vec<Bytes>,
    next: usize,
    passed: Arc<Passed>,
}

impl Incoming {
    /// Of these flows.
    pub fn new(mempool: Mempool, flows: impl Iterator<Item = u32>, passed: &Arc<Passed>) -> Self {
        Incoming { mempool, frames: flows.map(frames::before).collect(), next: 0, passed: Arc::clone(passed) }
    }
}

impl Wire for Incoming {
    fn receive(&mut self, burst: &mut Burst<BURST>) {
        let before = burst.len();
        if self.passed.stopped.load(Relaxed) || before > 0 {
            return;
        }
        self.mempool.alloc_burst(burst, BURST);
        for frame in burst.as_mut_slice() {
            // Every buffer is larger.
            let _ = frame.set_len(frames::LENGTH);
            frame.bytes_mut().copy_from_slice(&self.frames[self.next]);
            self.next = if self.next + 1 < self.frames.len() { self.next + 1 } else { 0 };
        }
        self.passed.offered.fetch_add(burst.len() as u64, Relaxed);
    }

    fn send(&mut self, burst: &mut Burst<BURST>) {
        let strays = burst.iter().filter(|frame| is_ours(frame.bytes())).count() as u64;
        self.passed.arrived.fetch_add(strays, Relaxed);
        self.passed.wrong.fetch_add(strays, Relaxed);
        burst.clear();
    }
}

/// Whether it is a frame of a flow, not an announcement of the slow path.
fn is_ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ethernet::IPV4.to_be_bytes())
}

/// What the other side gets.
pub struct Outgoing {
    /// By flow what its frame should be; from `first` on.
    right: Vec<Bytes>,
    first: u32,
    passed: Arc<Passed>,
}

impl Outgoing {
    /// Compares frames of these flows. Those of others, whose ports the slow path chooses, are only counted.
    pub fn new(flows: std::ops::Range<u32>, passed: &Arc<Passed>) -> Self {
        let first = flows.start;
        Outgoing { right: flows.map(frames::after).collect(), first, passed: Arc::clone(passed) }
    }
}

impl Wire for Outgoing {
    fn receive(&mut self, _: &mut Burst<BURST>) {}

    fn send(&mut self, burst: &mut Burst<BURST>) {
        let is_wrong = |frame: &[u8]| {
            let Some(flow) = frames::number(frame) else { return true };
            let right = flow.checked_sub(self.first).and_then(|place| self.right.get(place as usize));
            frame.len() != frames::LENGTH || right.is_some_and(|right| frame != right)
        };
        let (mut ours, mut wrong) = (0, 0);
        for frame in burst.iter().map(|frame| frame.bytes()).filter(|frame| is_ours(frame)) {
            ours += 1;
            wrong += u64::from(is_wrong(frame));
        }
        self.passed.arrived.fetch_add(ours, Relaxed);
        self.passed.wrong.fetch_add(wrong, Relaxed);
        burst.clear();
    }
}
