//! Packets in and out: what SWX takes for ports, over wires of our own.
//!
//! Not DPDK's own ports: its ring reader frees packets a second time that it gave out, and their numbers would have to be
//! those of the program. They also could not tell when no packet is under way.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use dpdk_sys as sys;
use fullnat::frame::Frame;

use super::build::BuildError;
use crate::burst::Burst;
use crate::mbuf::{Mbuf, field};
use crate::queue::{RxQueue, TxQueue};
use crate::ring::{Consumer, Producer};

/// Bytes in front of every packet, for the program: the number of a wire and a length, both 32 bits in network order.
pub const PREFIX: usize = 8;
/// Packets taken from, or given to, a wire at once.
const BURST: usize = 32;
/// Wires have numbers below this, which is what an inject tag can name.
const NUMBERS: usize = 4096;

/// Something packets come from and go to.
pub trait Wire: Send {
    /// Adds what has come, as far as there is room.
    fn receive(&mut self, burst: &mut Burst<BURST>);

    /// Sends from the front of the burst. What stays is dropped.
    fn send(&mut self, burst: &mut Burst<BURST>);
}

/// A device.
impl Wire for (RxQueue, TxQueue) {
    fn receive(&mut self, burst: &mut Burst<BURST>) {
        self.0.receive(burst);
    }

    fn send(&mut self, burst: &mut Burst<BURST>) {
        self.1.send(burst);
    }
}

/// Rings of another thread.
impl Wire for (Consumer, Producer) {
    fn receive(&mut self, burst: &mut Burst<BURST>) {
        self.0.dequeue_burst(burst);
    }

    fn send(&mut self, burst: &mut Burst<BURST>) {
        self.1.enqueue_burst(burst);
    }
}

/// What passed a wire.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WireStats {
    /// Packets that came.
    pub received: u64,
    /// Packets that came and were dropped: no room in front of them for what the program may add.
    pub refused: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that should have been sent and the wire did not take.
    pub lost: u64,
}

struct Link {
    number: u32,
    wire: Box<dyn Wire>,
    out: Burst<BURST>,
    stats: WireStats,
}

/// All wires, and the packets between them and the program.
pub(super) struct Io {
    links: Vec<Link>,
    /// Index of a wire by number, plus one.
    by_number: Box<[u16; NUMBERS]>,
    /// Packets of the wire that was looked at last, in reverse.
    ready: Burst<BURST>,
    /// That wire.
    current: usize,
    /// Nothing is let in.
    closed: bool,
    /// Packets that the program has.
    inside: usize,
    /// Packets sent to a number that no wire has.
    nowhere: u64,
    /// Bytes a packet needs in front: the prefix, and what the program may add.
    headroom: usize,
    /// Bytes that the program may look at.
    reach: usize,
}

impl Io {
    /// Over these wires, for a program that makes a packet longer by at most `growth` bytes and whose headers, all
    /// together, have `headers` bytes.
    pub(super) fn new(wires: Vec<(u32, Box<dyn Wire>)>, growth: usize, headers: usize) -> Result<Box<Io>, BuildError> {
        let mut by_number = Box::new([0; NUMBERS]);
        let mut links = Vec::new();
        for (number, wire) in wires {
            let place = by_number.get_mut(number as usize).filter(|place| **place == 0);
            // There are fewer wires than numbers, so an index fits.
            *place.ok_or(BuildError::Wire { number })? = links.len() as u16 + 1;
            links.push(Link { number, wire, out: Burst::new(), stats: WireStats::default() });
        }
        Ok(Box::new(Io {
            links,
            by_number,
            ready: Burst::new(),
            current: 0,
            closed: false,
            inside: 0,
            nowhere: 0,
            headroom: PREFIX + growth,
            // Fields are read and written as eight bytes.
            reach: headers + 8,
        }))
    }

    /// Lets nothing in, or everything again.
    pub(super) fn close(&mut self, closed: bool) {
        self.closed = closed;
    }

    /// Packets that came and have not left.
    pub(super) fn inside(&self) -> usize {
        self.inside
    }

    /// Whether nothing waits to be let in, as far as was looked.
    pub(super) fn is_dry(&self) -> bool {
        self.ready.is_empty()
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        for link in &mut self.links {
            link.flush();
        }
    }

    /// Takes the wires of another one, with what waits to be let in there.
    pub(super) fn adopt(&mut self, other: &mut Io) {
        std::mem::swap(&mut self.links, &mut other.links);
        std::mem::swap(&mut self.by_number, &mut other.by_number);
        std::mem::swap(&mut self.ready, &mut other.ready);
        std::mem::swap(&mut self.current, &mut other.current);
        std::mem::swap(&mut self.nowhere, &mut other.nowhere);
    }

    /// Numbers and statistics of the wires.
    pub(super) fn stats(&self) -> impl Iterator<Item = (u32, WireStats)> {
        self.links.iter().map(|link| (link.number, link.stats))
    }

    /// Packets sent to a number that no wire has.
    pub(super) fn nowhere(&self) -> u64 {
        self.nowhere
    }

    /// The next packet, and the number of its wire. Looks at one wire.
    #[inline]
    fn next(&mut self) -> Option<(Mbuf, u32)> {
        if self.ready.is_empty() {
            if self.links.is_empty() {
                return None;
            }
            self.current = if self.current + 1 == self.links.len() { 0 } else { self.current + 1 };
            let link = &mut self.links[self.current];
            link.wire.receive(&mut self.ready);
            if self.ready.is_empty() {
                return None;
            }
            link.stats.received += self.ready.len() as u64;
            self.ready.reverse();
        }
        let mbuf = self.ready.pop()?;
        let link = &mut self.links[self.current];
        if mbuf.headroom() < self.headroom || mbuf.len() + mbuf.tailroom() < self.reach {
            link.stats.refused += 1;
            return None;
        }
        Some((mbuf, link.number))
    }

    /// Takes a packet that the program is done with: its prefix goes, its number says where to.
    #[inline]
    fn send(&mut self, mut mbuf: Mbuf) {
        let prefix = mbuf.bytes().first_chunk().copied();
        let number = prefix.map(u32::from_be_bytes).map_or(usize::MAX, |number| number as usize);
        let index = self.by_number.get(number).copied().unwrap_or(0);
        let Some(link) = usize::from(index).checked_sub(1).and_then(|index| self.links.get_mut(index)) else {
            self.nowhere += 1;
            return;
        };
        mbuf.shrink_front(PREFIX);
        if link.out.is_full() {
            link.flush();
        }
        // A flushed burst has room.
        let _ = link.out.push(mbuf);
    }
}

impl Link {
    fn flush(&mut self) {
        let count = self.out.len();
        if count == 0 {
            return;
        }
        self.wire.send(&mut self.out);
        let lost = self.out.len();
        self.stats.lost += lost as u64;
        self.stats.sent += (count - lost) as u64;
        self.out.clear();
    }
}

/// DPDK makes a port from the argument it is given; ours is made already.
unsafe extern "C" fn create(io: *mut c_void) -> *mut c_void {
    io
}

/// The owner of the ports frees them.
unsafe extern "C" fn free(_io: *mut c_void) {}

impl Io {
    /// Lets the next packet in, with its prefix. It counts as inside until [`Io::leave`].
    #[inline]
    pub(super) fn enter(&mut self) -> Option<sys::rte_swx_pkt> {
        let (mut mbuf, number) = self.next()?;
        // `next` saw to the room, and a frame has at most 65535 bytes.
        let length = mbuf.len() as u32;
        if !mbuf.grow_front(PREFIX) {
            return None;
        }
        mbuf.bytes_mut()[..4].copy_from_slice(&number.to_be_bytes());
        mbuf.bytes_mut()[4..PREFIX].copy_from_slice(&length.to_be_bytes());
        self.inside += 1;
        let mbuf = mbuf.into_raw();
        // SAFETY: the offsets and types are those of the C structure.
        let (pkt, offset) = unsafe {
            (*field(mbuf, sys::CAROM_MBUF_BUF_ADDR), u32::from(*field::<u16>(mbuf, sys::CAROM_MBUF_DATA_OFF)))
        };
        Some(sys::rte_swx_pkt { handle: mbuf.as_ptr().cast(), pkt, offset, length: length + PREFIX as u32 })
    }

    /// Lets in as many as there are and fit, and says how many. None means that no wire had any.
    #[inline]
    pub(super) fn enter_all(&mut self, packets: &mut [sys::rte_swx_pkt]) -> usize {
        let (mut count, mut empty) = (0, 0);
        while count < packets.len() && empty < self.links.len() {
            match self.enter() {
                Some(packet) => {
                    packets[count] = packet;
                    count += 1;
                }
                // A packet that was refused, or a wire without any.
                None => empty += usize::from(self.ready.is_empty()),
            }
        }
        count
    }

    /// Takes a packet that the program is done with, and sends or drops it.
    ///
    /// # Safety
    /// `packet` came from [`Io::enter`], and the program moved its start and its end as headers came and went.
    #[inline]
    pub(super) unsafe fn leave(&mut self, packet: &sys::rte_swx_pkt, drops: bool) {
        // SAFETY: the caller's promise.
        let mbuf = unsafe { take(packet) };
        self.inside -= 1;
        if drops { drop(mbuf) } else { self.send(mbuf) }
    }
}

/// The buffer of a packet that the program is done with, with the length it has now.
///
/// # Safety
/// As for [`Io::leave`].
#[inline]
unsafe fn take(packet: &sys::rte_swx_pkt) -> Mbuf {
    // SAFETY: the handle is the buffer that `enter` gave away, and is given back once. The program takes no more off
    // than there is, and adds no more than there is room for, so that both numbers fit.
    unsafe {
        let mbuf = NonNull::new_unchecked(packet.handle.cast::<sys::rte_mbuf>());
        let length = packet.length as u16;
        *field::<u16>(mbuf, sys::CAROM_MBUF_DATA_OFF) = packet.offset as u16;
        *field::<u16>(mbuf, sys::CAROM_MBUF_DATA_LEN) = length;
        *field::<u32>(mbuf, sys::CAROM_MBUF_PKT_LEN) = u32::from(length);
        Mbuf::from_raw(mbuf)
    }
}

unsafe extern "C" fn receive(io: *mut c_void, packet: *mut sys::rte_swx_pkt) -> c_int {
    // SAFETY: the port is an `Io` that outlives the pipeline, and nothing else refers to it while the pipeline runs.
    let io = unsafe { &mut *io.cast::<Io>() };
    if io.closed {
        return 0;
    }
    let Some(entered) = io.enter() else { return 0 };
    // SAFETY: SWX gives a place for a packet.
    unsafe { *packet = entered };
    1
}

unsafe extern "C" fn send(io: *mut c_void, packet: *mut sys::rte_swx_pkt) {
    // SAFETY: as in `receive`; the packet is one that it let in.
    unsafe { (*io.cast::<Io>()).leave(&*packet, false) }
}

unsafe extern "C" fn discard(io: *mut c_void, packet: *mut sys::rte_swx_pkt) {
    // SAFETY: as in `send`.
    unsafe { (*io.cast::<Io>()).leave(&*packet, true) }
}

/// Programs with mirroring are not loaded.
unsafe extern "C" fn send_clone(_io: *mut c_void, _packet: *mut sys::rte_swx_pkt) {}
unsafe extern "C" fn send_cut_clone(_io: *mut c_void, _packet: *mut sys::rte_swx_pkt, _length: u32) {}

/// The wires count for themselves.
unsafe extern "C" fn no_input_stats(_io: *mut c_void, _stats: *mut sys::rte_swx_port_in_stats) {}
unsafe extern "C" fn no_output_stats(_io: *mut c_void, _stats: *mut sys::rte_swx_port_out_stats) {}

/// What SWX calls for its input.
pub(super) fn input() -> sys::rte_swx_port_in_ops {
    sys::rte_swx_port_in_ops {
        create: Some(create),
        free: Some(free),
        pkt_rx: Some(receive),
        stats_read: Some(no_input_stats),
    }
}

/// What SWX calls for an output: one that sends, or one that drops.
pub(super) fn output(drops: bool) -> sys::rte_swx_port_out_ops {
    sys::rte_swx_port_out_ops {
        create: Some(create),
        free: Some(free),
        pkt_tx: Some(if drops { discard } else { send }),
        pkt_fast_clone_tx: Some(send_clone),
        pkt_clone_tx: Some(send_cut_clone),
        flush: None,
        stats_read: Some(no_output_stats),
    }
}
