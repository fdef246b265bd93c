//! The in-memory ports: they make packets for the worker's receive queues and look at, or only count, what it sends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dpdk::{Burst, Mempool};
use fullnat::addr::Addr;
use fullnat::counters::Counters;
use fullnat::frame::Frame;
use fullnat::id::Proto;
use fullnat::wire::TcpFlags;

use super::frames::{Packet, Template, read};
use crate::worker::{BURST, Receive, Transmit};

/// The interface towards the clients; the other one is towards the real servers.
pub const CLIENTS: usize = 0;
/// Sequence numbers of two sessions are so far apart.
const SPACING: u32 = 16;
/// Sessions of a run at most: their sequence numbers fit 32 bits.
const MOST: u32 = u32::MAX / SPACING;
/// Sequence numbers of spoofed SYNs, by that.
const SPOOFED: u32 = SPACING / 2;
/// Initial sequence number of every real server.
const SERVER_ISN: u32 = 1_000_000;
/// Sessions that are being made at the same time.
pub const OPENING: u32 = 256;

/// What the hosts do.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Protocol of all sessions.
    pub proto: Proto,
    /// Sessions to make; with `close`, so many are open at a time.
    pub sessions: u32,
    /// Whether each session also exchanges data, after which TOA is done with.
    pub data: bool,
    /// Whether for each session that opens the oldest one closes.
    pub close: bool,
    /// With it, sessions begin whether or not earlier ones could be made, and with each packet of a client so many spoofed
    /// SYNs arrive.
    pub flood: Option<u32>,
    /// How long after a packet left for a client its answer arrives: the way there and back.
    pub rtt: Duration,
}

impl Script {
    /// So many sessions that are made and stay.
    pub fn lasting(proto: Proto, sessions: u32) -> Self {
        Script { proto, sessions, data: false, close: false, flood: None, rtt: Duration::ZERO }
    }
}

/// What both ends of all sessions do.
pub struct Traffic<A> {
    mempool: Mempool,
    script: Script,
    vip: (A, u16),
    /// By side: what it sends, without and with a byte of payload.
    templates: [[Template; 2]; 2],
    hosts: Hosts<A>,
    /// Sessions begun.
    pub started: u32,
    /// Sessions whose handshake the real server has seen complete.
    pub open: u32,
    /// Sessions that have done all they had to.
    pub done: u32,
    /// By side: what it sends next.
    queues: [VecDeque<(u32, Step)>; 2],
    /// What clients send when it is time, the earliest first.
    on_the_way: VecDeque<(Instant, u32, Step)>,
    /// Sessions that are open and shall close, the oldest first.
    opened: VecDeque<u32>,
    /// By session; when they close, the places are used again.
    leases: Vec<Option<Lease<A>>>,
    /// The spoofed SYNs.
    pub flood: Flood<A>,
    /// What limits how many sessions are begun.
    room: Option<Room>,
    /// Once all sessions are made.
    steady: Option<Steady<A>>,
    /// Packets the worker sent.
    pub sent: u64,
    /// Packets of no session.
    pub strange: u64,
}

/// Who talks to the service.
pub struct Hosts<A> {
    /// Address and port of a client by its number.
    pub client: fn(u32) -> (A, u16),
    /// The client of each session; when there are none here, it has the session's number.
    pub clients: Vec<u32>,
    /// Addresses of nobody, by number.
    pub spoof: fn(u32) -> A,
}

/// What nobody wants.
pub struct Flood<A> {
    /// Spoofed SYNs that are due.
    due: u32,
    /// Those that were sent.
    pub sent: u64,
    /// SYN-ACKs of real servers, which take them for real.
    answers: VecDeque<Packet<A>>,
}

/// The balancer's session table, which also holds closed sessions for a while.
struct Room {
    counters: Arc<Counters>,
    capacity: u64,
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
    Fin,
    ServerFin,
    LastAck,
    Reply,
}

/// Packets of made sessions, by side, in shuffled orders, and where each side is.
struct Steady<A> {
    packets: [Vec<Packet<A>>; 2],
    at: [usize; 2],
}

impl<A: Addr> Traffic<A> {
    /// Sessions that are still to be made.
    pub fn new(
        mempool: Mempool,
        script: Script,
        vip: (A, u16),
        templates: [[Template; 2]; 2],
        hosts: Hosts<A>,
    ) -> Self {
        let places = match script {
            // Others begin in vain while a session is open.
            Script { flood: Some(_), .. } => (64 * script.sessions).next_power_of_two().max(1 << 22),
            Script { close: true, .. } => (script.sessions + 2 * OPENING).next_power_of_two(),
            _ => script.sessions,
        };
        Traffic {
            mempool,
            script,
            vip,
            templates,
            hosts,
            started: 0,
            open: 0,
            done: 0,
            queues: [VecDeque::new(), VecDeque::new()],
            on_the_way: VecDeque::new(),
            opened: VecDeque::new(),
            leases: vec![None; places as usize],
            flood: Flood { due: 0, sent: 0, answers: VecDeque::new() },
            room: None,
            steady: None,
            sent: 0,
            strange: 0,
        }
    }

    /// Begins no session for which the balancer's table of so many may have no room.
    pub fn limit(&mut self, counters: Arc<Counters>, capacity: usize) {
        self.room = Some(Room { counters, capacity: capacity as u64 });
    }

    /// Whether so many sessions are open as shall be.
    pub fn is_full(&self) -> bool {
        if self.script.close { self.open >= self.script.sessions } else { self.done == self.script.sessions }
    }

    /// Sessions to make.
    pub fn total(&self) -> u32 {
        self.script.sessions
    }

    /// A packet of every session, by side, to be sent again and again once all are made.
    pub fn packets(&mut self) -> [Vec<Packet<A>>; 2] {
        let mut packets = [Vec::with_capacity(self.leases.len()), Vec::with_capacity(self.leases.len())];
        for (i, lease) in self.leases.iter().enumerate() {
            if let Some(lease) = lease {
                packets[CLIENTS].push(self.packet(i as u32, Step::DataAck, lease));
                let step = if self.script.proto == Proto::Tcp { Step::Data } else { Step::Reply };
                packets[1].push(self.packet(i as u32, step, lease));
            }
        }
        self.leases = Vec::new();
        packets
    }

    /// From now on the sides send these packets, again and again, neither being empty.
    pub fn repeat(&mut self, packets: [Vec<Packet<A>>; 2]) {
        self.steady = Some(Steady { packets, at: [0, 0] });
    }

    fn packet(&self, session: u32, step: Step, lease: &Lease<A>) -> Packet<A> {
        const ACK: TcpFlags = TcpFlags::ACK;
        const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | ACK.0);
        const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | ACK.0);
        const PSH_ACK: TcpFlags = TcpFlags(TcpFlags::PSH.0 | ACK.0);
        let client = session * SPACING;
        let server = SERVER_ISN;
        // Where the real server's FIN is: behind its SYN, and its byte of data if it sends any.
        let fin = server + 1 + u32::from(self.script.data);
        let (seq, ack, flags) = match step {
            Step::Open => (client, 0, TcpFlags::SYN),
            Step::SynAck => (server, client + 1, SYN_ACK),
            Step::Ack => (client + 1, server + 1, ACK),
            Step::Data => (server + 1, client + 1, PSH_ACK),
            Step::DataAck => (client + 1, server + 2, ACK),
            Step::Fin => (client + 1, fin, FIN_ACK),
            Step::ServerFin => (fin, client + 2, FIN_ACK),
            Step::LastAck => (client + 2, fin + 1, ACK),
            Step::Reply => (client, 0, TcpFlags::NONE),
        };
        let (src, dst) = match step {
            Step::Open | Step::Ack | Step::DataAck | Step::Fin | Step::LastAck => {
                let client = self.hosts.clients.get(session as usize).copied().unwrap_or(session);
                ((self.hosts.client)(client), self.vip)
            }
            Step::SynAck | Step::Data | Step::ServerFin | Step::Reply => (lease.server, lease.local),
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
                frame.set_port(side as u16);
                template.fill(frame, &packets[steady.at[side]]);
                steady.at[side] += 1;
                if steady.at[side] == packets.len() {
                    steady.at[side] = 0;
                }
            }
            return count;
        }
        if side == CLIENTS {
            self.arrive();
        }
        let good = if side == CLIENTS { self.open_more() } else { BURST };
        let good = self.queues[side].len().min(good);
        let bad = if side == CLIENTS { self.flood.due as usize } else { self.flood.answers.len() };
        let count = self.mempool.alloc_burst(burst, (good + bad).min(BURST));
        for (i, frame) in burst.as_mut_slice().iter_mut().enumerate() {
            if i >= good {
                let packet = if side == CLIENTS { self.spoofed() } else { self.flood.answers.pop_front() };
                let Some(packet) = packet else { break };
                self.templates[side][0].fill(frame, &packet);
                continue;
            }
            let Some((session, step)) = self.queues[side].pop_front() else { break };
            let zero = Lease { local: (A::UNSPECIFIED, 0), server: (A::UNSPECIFIED, 0) };
            let lease = self.leases[self.place(session)].unwrap_or(zero);
            let packet = self.packet(session, step, &lease);
            self.templates[side][usize::from(step == Step::Data)].fill(frame, &packet);
            if side == CLIENTS {
                self.flood.due += self.script.flood.unwrap_or(0);
            }
        }
        count
    }

    /// What clients sent a while ago is here.
    fn arrive(&mut self) {
        let Some(now) = (!self.on_the_way.is_empty()).then(Instant::now) else { return };
        while let Some(&(at, session, step)) = self.on_the_way.front()
            && at <= now
        {
            self.on_the_way.pop_front();
            self.queues[CLIENTS].push_back((session, step));
        }
    }

    /// A SYN of nobody.
    fn spoofed(&mut self) -> Option<Packet<A>> {
        self.flood.due -= 1;
        self.flood.sent += 1;
        // Another address and port each time, in no order.
        let n = (self.flood.sent as u32).wrapping_mul(0x9e37_79b1);
        let src = (self.hosts.spoof)(n >> 8);
        let seq = (n & !(SPACING - 1)) | SPOOFED;
        Some(Packet {
            src,
            dst: self.vip.0,
            sport: 1024 | n as u16,
            dport: self.vip.1,
            seq,
            ack: 0,
            flags: TcpFlags::SYN,
        })
    }

    /// Where a session's lease is.
    fn place(&self, session: u32) -> usize {
        if self.script.close { session as usize & (self.leases.len() - 1) } else { session as usize }
    }

    /// Begins sessions, while there are few under way. Returns how many packets the clients may send in one burst.
    fn open_more(&mut self) -> usize {
        let (mut last, burst) = match self.script {
            Script { flood: Some(spoofed), .. } => (MOST, BURST / (1 + spoofed as usize).min(BURST)),
            Script { close: true, .. } => (MOST.min(self.open + OPENING), BURST),
            Script { sessions, .. } => (sessions.min(self.done + OPENING), BURST),
        };
        if let Some(room) = &self.room {
            last = last.min((room.counters.sessions_ended.get() + room.capacity) as u32);
        }
        while self.queues[CLIENTS].len() < burst && self.started < last {
            self.queues[CLIENTS].push_back((self.started, Step::Open));
            self.started += 1;
        }
        burst
    }

    /// Takes what the worker sent to the side.
    #[inline(always)]
    fn send(&mut self, side: usize, burst: &mut Burst<BURST>) -> usize {
        let count = burst.len();
        self.sent += count as u64;
        if self.steady.is_none() {
            for frame in burst.as_slice() {
                match read(frame.bytes(), self.script.proto) {
                    Some(packet) if side == CLIENTS => self.answer_client(&packet),
                    Some(packet) => self.answer_server(&packet),
                    None => {}
                }
            }
        }
        burst.clear();
        count
    }

    /// Does what a client does with a packet.
    fn answer_client(&mut self, packet: &Packet<A>) {
        let step = match packet.flags {
            _ if self.script.proto == Proto::Udp => {
                self.done += 1;
                return;
            }
            // The host at a spoofed address is not there.
            _ if packet.ack % SPACING == SPOOFED + 1 => return,
            flags if flags.has(TcpFlags::SYN) => Step::Ack,
            flags if flags.has(TcpFlags::FIN) => Step::LastAck,
            _ => Step::DataAck,
        };
        let session = packet.ack / SPACING;
        if self.script.rtt.is_zero() {
            self.queues[CLIENTS].push_back((session, step));
        } else {
            self.on_the_way.push_back((Instant::now() + self.script.rtt, session, step));
        }
    }

    /// Does what a real server does with a packet.
    fn answer_server(&mut self, packet: &Packet<A>) {
        // Of a half-open connection that the balancer gives up.
        if packet.flags.has(TcpFlags::RST) {
            return;
        }
        if packet.seq % SPACING == SPOOFED {
            let flags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);
            let (seq, ack) = (SERVER_ISN, packet.seq + 1);
            let Packet { src, dst, sport, dport, .. } = *packet;
            let answer = Packet { src: dst, dst: src, sport: dport, dport: sport, seq, ack, flags };
            return self.flood.answers.push_back(answer);
        }
        let session = packet.seq / SPACING;
        let place = self.place(session);
        let Some(lease) = self.leases.get_mut(place) else {
            self.strange += 1;
            return;
        };
        if self.script.proto == Proto::Udp || packet.flags.has(TcpFlags::SYN) {
            *lease = Some(Lease { local: (packet.src, packet.sport), server: (packet.dst, packet.dport) });
            let step = if self.script.proto == Proto::Udp { Step::Reply } else { Step::SynAck };
            self.queues[1].push_back((session, step));
        } else if packet.flags.has(TcpFlags::FIN) {
            self.queues[1].push_back((session, Step::ServerFin));
        } else if packet.seq % SPACING == 2 {
            // The last acknowledgment.
            self.done += 1;
        } else if self.script.data && packet.ack == SERVER_ISN + 1 {
            self.queues[1].push_back((session, Step::Data));
        } else {
            self.opened(session);
        }
    }

    /// A session is open.
    fn opened(&mut self, session: u32) {
        self.open += 1;
        if !self.script.close {
            self.done += 1;
            return;
        }
        self.opened.push_back(session);
        if self.opened.len() > self.script.sessions as usize
            && let Some(oldest) = self.opened.pop_front()
        {
            self.queues[CLIENTS].push_back((oldest, Step::Fin));
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
