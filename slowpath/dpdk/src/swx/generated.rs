//! Generated code with what it runs on: the tables of either set, and registers of its own.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use super::library::{self, BURST, Environment, Library, Line, Packet};
use super::object::Object;
use super::port::Io;
use super::program::Register;
use super::{OUTPUT_DROP, OUTPUT_SEND};
use dpdk_sys as sys;

/// The registers of one array. The program adds to them while the control side reads: each is one word.
type Words = Box<[AtomicU64]>;

/// A program as generated code.
pub(super) struct Generated {
    library: Library,
    registers: Vec<Words>,
    /// Where each array is, for the code.
    words: Box<[*mut u64]>,
    /// The objects of each set, in the order of the tables.
    tables: [Box<[*mut c_void]>; 2],
}

impl Generated {
    pub(super) fn new(library: Library, objects: &[[Object; 2]], registers: &[Register]) -> Generated {
        let array = |register: &Register| (0..register.words()).map(|_| AtomicU64::new(register.initial)).collect();
        let registers: Vec<Words> = registers.iter().map(array).collect();
        let words = registers.iter().map(|array| array.as_ptr().cast::<u64>().cast_mut()).collect();
        let tables = [0, 1].map(|set| objects.iter().map(|pair| pair[set].raw()).collect());
        Generated { library, registers, words, tables }
    }

    /// A register, if there is one with this index.
    fn register(&self, array: usize, index: u32) -> Option<&AtomicU64> {
        self.registers.get(array)?.get(index as usize)
    }

    /// Reads a register.
    pub(super) fn read(&self, array: usize, index: u32) -> Option<u64> {
        Some(self.register(array, index)?.load(Ordering::Relaxed))
    }

    /// Writes a register, and says whether there is one with this index.
    pub(super) fn write(&self, array: usize, index: u32, value: u64) -> bool {
        self.register(array, index).map(|word| word.store(value, Ordering::Relaxed)).is_some()
    }

    /// Memory for the packets of one thread.
    pub(super) fn states(&self) -> Box<[Line]> {
        self.library.states()
    }

    /// Takes a burst in, runs the program on it and sends what comes out. Says how many packets there were.
    ///
    /// # Safety
    /// Nobody changes the tables of this set meanwhile, and `states` are of this object.
    #[inline]
    pub(super) unsafe fn forward(&self, set: usize, states: &mut [Line], io: &mut Io) -> usize {
        let nothing =
            sys::rte_swx_pkt { handle: std::ptr::null_mut(), pkt: std::ptr::null_mut(), offset: 0, length: 0 };
        let mut entered = [nothing; BURST];
        let count = io.enter_all(&mut entered);
        let mut packets = [Packet { start: std::ptr::null_mut(), length: 0, output: OUTPUT_SEND }; BURST];
        for (packet, of) in packets.iter_mut().zip(&entered[..count]) {
            *packet = Packet { start: of.pkt.wrapping_add(of.offset as usize), length: of.length, output: OUTPUT_SEND };
        }
        let environment = Environment {
            tables: self.tables[set].as_ptr(),
            registers: self.words.as_ptr(),
            look_up: library::look_up(),
        };
        // SAFETY: tables and registers are those of the program; the caller promises the rest. `Io` lets packets in that
        // have the room, and they are its own until it takes them back.
        unsafe { self.library.run(&environment, states, &mut packets[..count]) };
        for (packet, of) in packets.iter().zip(&mut entered[..count]) {
            // Both are in the same buffer, of at most 65535 bytes.
            of.offset = (packet.start as usize - of.pkt as usize) as u32;
            of.length = packet.length;
            // SAFETY: entered above, and its start and end are what the program made of them.
            unsafe { io.leave(of, packet.output == OUTPUT_DROP) };
        }
        count
    }
}
