//! The in-memory ports: they make packets for the worker's receive queues and look at, or only count, what it sends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use dpdk::{Burst, Mempool};
use fullnat::addr::Addr;
use fullnat::frame::Frame;
use fullnat::id::Proto;
use fullnat::wire::TcpFlags;

use super::frames::{Packet, Template, read};
use crate::worker::{BURST, Receive, Transmit};

/// The interface towards the clients; the other one is towards the real servers.
pub const CLIENTS: usize = 0;
/// Sequence numbers of two sessions are so far apart.
const SPACING: u32 = 16;
/// Initial sequence number of every real server.
const SERVER_ISN: u32 = 1_000_000;
/// Sessions that are being made at the same time.
const OPENING: u32 = 256;

/// What both ends of all sessions do.
pub struct Traffic<A> {
    pub mempool: Mempool,
    pub proto: Proto,
    pub vip: (A, u16),
    /// By side: what it sends, without and with a byte of payload.
    pub templates: [[Template; 2]; 2],
    /// Client address and port by session.
    pub client: fn(u32) -> (A, u16),
    /// Sessions to make.
    pub total: u32,
    /// Whether each session also exchanges data, after which TOA is done with.
    pub data: bool,
    /// Number of the first session: each worker has sessions of its own.
    first: u32,
    started: u32,
    /// Sessions that are made.
    pub done: u32,
    /// By side: what it sends next.
    queues: [VecDeque<(u32, Step)>; 2],
    leases: Vec<Option<Lease<A>>>,
    /// Once all sessions are made.
    steady: Option<Steady<A>>,
    /// Packets the worker sent.
    pub sent: u64,
    /// Packets of no session.
    pub strange: u64,
}

/// The translated end of a session, as the real server saw it.
#[derive(Clone, Copy)]
struct Lease<A> {
    local: (A, u16),
    server: (A, u16),
}

/// What a side sends in the life of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Open,
    SynAck,
    Ack,
    Data,
    DataAck,
    Reply,
}

/// Packets of made sessions, by side, in shuffled orders, and where each side is.
struct Steady<A> {
    packets: [Vec<Packet<A>>; 2],
    at: [usize; 2],
}

impl<A: Addr> Traffic<A> {
    /// Traffic of `total` sessions that are still to be made, the first of which is `client`'s number `first`.
    #[expect(clippy::too_many_arguments, reason = "each is one field")]
    pub fn new(
        mempool: Mempool,
        proto: Proto,
        vip: (A, u16),
        templates: [[Template; 2]; 2],
        client: fn(u32) -> (A, u16),
        first: u32,
        total: u32,
        data: bool,
    ) -> Self {
        Traffic {
            mempool,
            proto,
            vip,
            templates,
            client,
            total,
            data,
            first,
            started: 0,
            done: 0,
            queues: [VecDeque::new(), VecDeque::new()],
            leases: vec![None; total as usize],
            steady: None,
            sent: 0,
            strange: 0,
        }
    }

    /// From now on every side sends a packet of every session, again and again in an order of its own. `random` gives
    /// numbers for the shuffles.
    pub fn make_steady(&mut self, mut random: impl FnMut() -> u64) {
        let mut packets = [Vec::with_capacity(self.leases.len()), Vec::with_capacity(self.leases.len())];
        for (i, lease) in self.leases.iter().enumerate() {
            if let Some(lease) = lease {
                packets[CLIENTS].push(self.packet(i as u32, Step::DataAck, lease));
                let step = if self.proto == Proto::Tcp { Step::Data } else { Step::Reply };
                packets[1].push(self.packet(i as u32, step, lease));
            }
        }
        for side in &mut packets {
            for i in (1..side.len()).rev() {
                // A remainder is even enough for a shuffle.
                side.swap(i, (random() % (i as u64 + 1)) as usize);
            }
        }
        self.leases = Vec::new();
        self.steady = Some(Steady { packets, at: [0, 0] });
    }

    fn packet(&self, session: u32, step: Step, lease: &Lease<A>) -> Packet<A> {
        let isn = session.wrapping_mul(SPACING);
        let (seq, ack, flags) = match step {
            Step::Open => (isn, 0, TcpFlags::SYN),
            Step::SynAck => (SERVER_ISN, isn.wrapping_add(1), TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0)),
            Step::Ack => (isn.wrapping_add(1), SERVER_ISN + 1, TcpFlags::ACK),
            Step::Data => (SERVER_ISN + 1, isn.wrapping_add(1), TcpFlags(TcpFlags::PSH.0 | TcpFlags::ACK.0)),
            Step::DataAck => (isn.wrapping_add(1), SERVER_ISN + 2, TcpFlags::ACK),
            Step::Reply => (isn, 0, TcpFlags::NONE),
        };
        let (src, dst) = match step {
            Step::Open | Step::Ack | Step::DataAck => ((self.client)(self.first + session), self.vip),
            Step::SynAck | Step::Data | Step::Reply => (lease.server, lease.local),
        };
        Packet { src: src.0, dst: dst.0, sport: src.1, dport: dst.1, seq, ack, flags }
    }

    /// Fills a burst with what the side sends.
    #[inline(always)]
    fn receive(&mut self, side: usize, burst: &mut Burst<BURST>) -> usize {
        if let Some(steady) = &mut self.steady {
            let packets = &steady.packets[side];
            let count = self.mempool.alloc_burst(burst, BURST);
            // Data of the real servers has a byte of payload; what clients send has none.
            let template = &self.templates[side][usize::from(side != CLIENTS)];
            for frame in burst.as_mut_slice() {
                template.fill(frame, &packets[steady.at[side]]);
                steady.at[side] += 1;
                if steady.at[side] == packets.len() {
                    steady.at[side] = 0;
                }
            }
            return count;
        }
        if side == CLIENTS {
            while self.queues[side].len() < BURST && self.started < self.total.min(self.done + OPENING) {
                self.queues[side].push_back((self.started, Step::Open));
                self.started += 1;
            }
        }
        let count = self.mempool.alloc_burst(burst, self.queues[side].len().min(BURST));
        for frame in burst.as_mut_slice() {
            let Some((session, step)) = self.queues[side].pop_front() else { break };
            let zero = Lease { local: (A::UNSPECIFIED, 0), server: (A::UNSPECIFIED, 0) };
            let lease = self.leases[session as usize].unwrap_or(zero);
            let packet = self.packet(session, step, &lease);
            self.templates[side][usize::from(step == Step::Data)].fill(frame, &packet);
        }
        count
    }

    /// Takes what the worker sent to the side.
    #[inline(always)]
    fn send(&mut self, side: usize, burst: &mut Burst<BURST>) -> usize {
        let count = burst.len();
        self.sent += count as u64;
        if self.steady.is_none() {
            for frame in burst.as_slice() {
                if let Some(packet) = read(frame.bytes(), self.proto) {
                    self.answer(side, packet);
                }
            }
        }
        burst.clear();
        count
    }

    /// Does what the side's host does with a packet.
    fn answer(&mut self, side: usize, packet: Packet<A>) {
        let syn = packet.flags.has(TcpFlags::SYN);
        if side == CLIENTS {
            let session = if self.proto == Proto::Tcp { packet.ack } else { packet.seq } / SPACING;
            match self.proto {
                Proto::Udp => self.done += 1,
                Proto::Tcp if syn => self.queues[CLIENTS].push_back((session, Step::Ack)),
                Proto::Tcp => self.queues[CLIENTS].push_back((session, Step::DataAck)),
            }
            return;
        }
        let session = packet.seq / SPACING;
        let Some(lease) = self.leases.get_mut(session as usize) else {
            self.strange += 1;
            return;
        };
        if self.proto == Proto::Udp || syn {
            *lease = Some(Lease { local: (packet.src, packet.sport), server: (packet.dst, packet.dport) });
            let step = if self.proto == Proto::Udp { Step::Reply } else { Step::SynAck };
            self.queues[1].push_back((session, step));
        } else if self.data && packet.ack == SERVER_ISN + 1 {
            self.queues[1].push_back((session, Step::Data));
        } else {
            self.done += 1;
        }
    }
}

/// One end of an in-memory port.
pub struct MemoryPort<A> {
    /// What is behind it.
    pub traffic: Rc<RefCell<Traffic<A>>>,
    /// The interface it is.
    pub side: usize,
}

impl<A: Addr> Receive for MemoryPort<A> {
    #[inline(always)]
    fn receive(&mut self, burst: &mut Burst<BURST>) -> usize {
        self.traffic.borrow_mut().receive(self.side, burst)
    }
}

impl<A: Addr> Transmit for MemoryPort<A> {
    #[inline(always)]
    fn send(&mut self, burst: &mut Burst<BURST>) -> usize {
        self.traffic.borrow_mut().send(self.side, burst)
    }
}
