//! The data side of a pipeline, and what it shares with the control side.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dpdk_sys as sys;

use super::generated::Generated;
use super::library::{Library, Line};
use super::object::Object;
use super::port::{Io, WireStats};
use super::program::Register;

/// Instructions between two looks at whether there is anything to do. A packet takes some 120.
const SLICE: u32 = 256;
/// Slices in a round.
const SLICES: u32 = 16;
/// Instructions between two looks at whether the last packet has left.
const DRAIN: u32 = 32;
/// Bursts in a round of generated code.
const BURSTS: u32 = 8;

/// A pipeline with its tables. It lives as long as one of its sides.
pub(super) struct Shared {
    pipeline: NonNull<sys::rte_swx_pipeline>,
    /// What the pipeline was built with; its tables are never used.
    own: NonNull<sys::rte_swx_table_state>,
    /// What the pipeline looks into: one set of the objects, or the other.
    states: [Box<[sys::rte_swx_table_state]>; 2],
    /// What runs instead of the pipeline, if the program is not interpreted.
    generated: Option<Generated>,
    /// Number of the last switch-over that was asked for. Its lowest bit says which set it is to.
    asked: AtomicU64,
    /// Number of the last one that was done.
    done: AtomicU64,
    /// The data side is no more: nobody looks into anything.
    stopped: AtomicBool,
    /// Both objects of each table. Which of them may be touched is said by `done`.
    objects: Vec<[Object; 2]>,
}

// SAFETY: what the pointers lead to is used by one thread at a time. The data side has the pipeline and one set of objects,
// the control side has the other set and the registers, which are single words. `asked` and `done` hand a set over.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `pipeline` is built, and becomes this object's own. The objects are those of its tables, in order. The library, if
    /// there is one, is of its program, whose registers these are.
    pub(super) unsafe fn new(
        pipeline: *mut sys::rte_swx_pipeline,
        objects: Vec<[Object; 2]>,
        library: Option<Library>,
        registers: &[Register],
    ) -> Shared {
        let generated = library.map(|library| Generated::new(library, &objects, registers));
        let mut own = std::ptr::null_mut();
        // SAFETY: the pipeline is built, so it has a state for each table, and no data side yet that uses it.
        unsafe {
            sys::rte_swx_pipeline_table_state_get(pipeline, &mut own);
            let state = |set: usize| {
                let of = objects.iter().enumerate();
                let state = |(table, pair): (usize, &[Object; 2])| sys::rte_swx_table_state {
                    obj: pair[set].raw(),
                    ..*own.add(table)
                };
                of.map(state).collect::<Box<[_]>>()
            };
            let states = [state(0), state(1)];
            sys::rte_swx_pipeline_table_state_set(pipeline, states[0].as_ptr().cast_mut());
            Shared {
                pipeline: NonNull::new_unchecked(pipeline),
                own: NonNull::new_unchecked(own),
                states,
                generated,
                asked: AtomicU64::new(0),
                done: AtomicU64::new(0),
                stopped: AtomicBool::new(false),
                objects,
            }
        }
    }

    pub(super) fn raw(&self) -> *mut sys::rte_swx_pipeline {
        self.pipeline.as_ptr()
    }

    /// The generated code, if the program is not interpreted.
    pub(super) fn generated(&self) -> Option<&Generated> {
        self.generated.as_ref()
    }

    /// Asks for a switch-over to the set the pipeline does not look into. Only the control side, and only when the last
    /// one is done.
    pub(super) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Release);
    }

    /// Whether the pipeline looks into the set it was last asked for, and no packet into the other.
    pub(super) fn is_settled(&self) -> bool {
        // What the data side did before is seen after.
        self.done.load(Ordering::Acquire) == self.asked.load(Ordering::Relaxed) || self.stopped.load(Ordering::Acquire)
    }

    /// The set the pipeline does not look into. Means something only when settled.
    pub(super) fn spare(&self) -> usize {
        1 - (self.asked.load(Ordering::Relaxed) & 1) as usize
    }

    /// An object.
    pub(super) fn object(&self, table: usize, set: usize) -> &Object {
        &self.objects[table][set]
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: both sides are gone. The pipeline frees the state it was built with; the objects are ours.
        unsafe {
            sys::rte_swx_pipeline_table_state_set(self.raw(), self.own.as_ptr());
            sys::rte_swx_pipeline_free(self.raw());
            for object in self.objects.iter().flatten() {
                object.free();
            }
        }
    }
}

/// The data side of a pipeline: belongs to the thread that runs it.
pub struct Pipeline {
    shared: Arc<Shared>,
    io: NonNull<Io>,
    /// The last switch-over that was done.
    done: u64,
    /// What generated code has of its packets.
    packets: Box<[Line]>,
}

// SAFETY: it is used by the thread that has it; wires may move to another thread.
unsafe impl Send for Pipeline {}

impl Pipeline {
    pub(super) fn new(shared: Arc<Shared>, io: Box<Io>) -> Pipeline {
        let packets = shared.generated().map(Generated::states).unwrap_or_default();
        Pipeline { shared, io: NonNull::from(Box::leak(io)), done: 0, packets }
    }

    /// The ports, while the pipeline does not run.
    fn io(&self) -> &Io {
        // SAFETY: the pipeline refers to it only while it runs, for which it takes `&mut self`.
        unsafe { self.io.as_ref() }
    }

    fn io_mut(&mut self) -> &mut Io {
        // SAFETY: as above.
        unsafe { self.io.as_mut() }
    }

    fn execute(&mut self, instructions: u32) {
        // SAFETY: the pipeline is built, and this is the only thread that runs it.
        unsafe { sys::rte_swx_pipeline_run(self.shared.raw(), instructions) }
    }

    /// Works for a while: takes packets in, runs the program on them, sends them. Ends early when there are none, and
    /// says whether it did, so that an idle thread can rest.
    #[inline]
    pub fn run(&mut self) -> bool {
        let asked = self.shared.asked.load(Ordering::Acquire);
        if asked != self.done {
            self.switch_over(asked);
        }
        let idle = if self.shared.generated().is_some() { self.run_generated() } else { self.interpret() };
        self.io_mut().flush();
        idle
    }

    fn interpret(&mut self) -> bool {
        (0..SLICES).any(|_| {
            self.execute(SLICE);
            self.io().inside() == 0 && self.io().is_dry()
        })
    }

    /// Generated code leaves no packet under way.
    fn run_generated(&mut self) -> bool {
        let Some(generated) = self.shared.generated() else { return true };
        // SAFETY: as in `io_mut`; nothing else refers to it here.
        let io = unsafe { self.io.as_mut() };
        let set = (self.done & 1) as usize;
        // SAFETY: the control side leaves the set alone that was switched to last; the states are of this code.
        (0..BURSTS).any(|_| unsafe { generated.forward(set, &mut self.packets, io) } == 0)
    }

    /// Exchanges the tables. Each packet under way holds on to the tables it found when it came in, so first all of them
    /// must leave; while they do, nothing is let in.
    #[cold]
    fn switch_over(&mut self, asked: u64) {
        self.drain();
        let state = &self.shared.states[(asked & 1) as usize];
        // SAFETY: a state with the pipeline's tables, which lives as long as the pipeline. SWX does not write to it.
        unsafe { sys::rte_swx_pipeline_table_state_set(self.shared.raw(), state.as_ptr().cast_mut()) };
        self.io_mut().close(false);
        self.done = asked;
        self.shared.done.store(asked, Ordering::Release);
    }

    /// Closes the entrance and waits until all packets have left. A program only ever jumps forward, so they do.
    fn drain(&mut self) {
        self.io_mut().close(true);
        while self.io().inside() > 0 {
            self.execute(DRAIN);
        }
    }

    /// Goes on with another program: packets under way leave by this one, and all that come after by that one, over the
    /// same wires. Wires that `other` has come to this one's end.
    pub fn replace(&mut self, mut other: Pipeline) {
        self.drain();
        self.io_mut().flush();
        other.io_mut().adopt(self.io_mut());
        *self = other;
    }

    /// The wires by number, and what passed them.
    pub fn wires(&self) -> Vec<(u32, WireStats)> {
        self.io().stats().collect()
    }

    /// Packets that were sent to a number that no wire has, and so dropped.
    pub fn sent_nowhere(&self) -> u64 {
        self.io().nowhere()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.drain();
        self.io_mut().flush();
        // SAFETY: made from a box, and no packet is under way that would need it again.
        drop(unsafe { Box::from_raw(self.io.as_ptr()) });
        self.shared.stopped.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("inside", &self.io().inside()).finish_non_exhaustive()
    }
}
