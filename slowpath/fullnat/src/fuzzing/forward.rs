//! The packet's way under any sequence of frames, answers and pauses, at any worker.
//!
//! An input is a sequence of records. The first byte of each says what it is and where it happens:
//!
//! ```text
//!  bit  0     interface: front, back         bits 1, 2   worker, modulo the number of workers
//!  bits 3, 4  0: a frame, two bytes of length and its bytes     1: an ICMP error     2: an answer     3: a pause
//!  bit  5     frames: leave the destination MAC address as it is, else it becomes the interface's
//!  bit  6     frames: leave the IPv4 header checksum as it is, else it is put right
//! ```
//!
//! An answer turns the last frame that left by the interface around and gives it the TCP flags in the next byte, as the
//! host that received it would: so an input need not know which local port a session got. An ICMP error is about that
//! frame, of the type and code in the next two bytes. A pause has two bytes, in units of 16 ms; bits 5 and 6 tell what the
//! offload manager says meanwhile: all it was asked for is done, installs are refused, nothing, or the target lost all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::addr::Addr;
use crate::counters::Counters;
use crate::forward::{Forwarder, Output, Setup};
use crate::frame::{Frame, HeapFrame};
use crate::id::{IfaceId, Proto, WorkerId};
use crate::neighbor::Neighbors;
use crate::offload::{Counted, Full, Gate, Place, Request, Threshold, Verdict};
use crate::persistence::Persistence;
use crate::plan::{Interface, LocalPool, PersistenceRule, Plan, Server, Service, testing};
use crate::ports::LportOwners;
use crate::reason::DropReason;
use crate::route::Routes;
use crate::sched::SchedulerKind;
use crate::spread::Spread;
use crate::time::Time;
use crate::wire::testing::{icmp, plain_sum};
use crate::wire::{Flow, Mac, Packet, ethernet, parse, tcp};

/// Workers of the balancer.
const WORKERS: u8 = 3;

const PEER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const ROUTER: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(192, 0, 2, 9), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9));
const LIP: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 0, 0, 9), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9));
/// The VIPs; services are at port 80.
pub const VIP: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1));
/// The real servers, the second one's for UDP only. The MAC address of the first is known; the second must be asked for.
pub const SERVERS: [(Ipv4Addr, Ipv6Addr); 2] = [
    (Ipv4Addr::new(10, 0, 0, 11), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 11)),
    (Ipv4Addr::new(10, 0, 0, 12), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 12)),
];

/// Any records: nothing panics, nothing is handed over twice, and every frame has exactly one end.
pub fn forward(mut data: &[u8]) {
    let mut bench = Bench::new();
    while let Some((&what, rest)) = data.split_first() {
        data = rest;
        let (iface, worker) = (usize::from(what & 1), usize::from((what >> 1 & 3) % WORKERS));
        match what >> 3 & 3 {
            0 => {
                let Some((len, rest)) = data.split_first_chunk() else { break };
                let (frame, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
                data = rest;
                bench.receive(worker, iface, mended(frame, iface, what));
            }
            1 => {
                let Some((&kind, rest)) = data.split_first_chunk() else { break };
                data = rest;
                if let Some(error) = bench.last[iface].as_deref().and_then(|sent| error(sent, kind, our_mac(iface))) {
                    bench.receive(worker, iface, error);
                }
            }
            2 => {
                let Some((&flags, rest)) = data.split_first() else { break };
                data = rest;
                if let Some(answer) = bench.last[iface].as_deref().and_then(|sent| answer(sent, flags)) {
                    bench.receive(worker, iface, answer);
                }
            }
            _ => {
                let Some((time, rest)) = data.split_first_chunk() else { break };
                data = rest;
                bench.judge(what >> 5 & 3);
                bench.pause(u64::from(u16::from_be_bytes(*time)) * 16);
            }
        }
        bench.assert_balanced();
    }
}

fn our_mac(iface: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, iface as u8])
}

/// The frame with its destination and IPv4 header checksum put right, as `what` wants it.
fn mended(frame: &[u8], iface: usize, what: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if what & 1 << 5 == 0 && frame.len() >= 6 {
        frame[..6].copy_from_slice(&our_mac(iface).0);
    }
    if what & 1 << 6 == 0 && frame.len() >= 34 && frame[12..15] == [8, 0, 0x45] {
        frame[24..26].fill(0);
        let sum = !plain_sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

/// What the receiver of a TCP or UDP frame may send back.
fn answer(sent: &[u8], flags: u8) -> Option<Vec<u8>> {
    match parse(sent) {
        Ok(Packet::V4(flow)) => Some(turned(sent, &flow, flags)),
        Ok(Packet::V6(flow)) => Some(turned(sent, &flow, flags)),
        _ => None,
    }
}

/// The ICMP error of a router about a frame of ours.
fn error(sent: &[u8], [kind, code]: [u8; 2], to: Mac) -> Option<Vec<u8>> {
    let quoted = &sent[14..];
    let mut error = match parse(sent) {
        Ok(Packet::V4(flow)) => icmp(flow.key.dst, flow.key.src, 64, (kind, code), [0, 0, 5, 0], quoted),
        Ok(Packet::V6(flow)) => icmp(flow.key.dst, flow.key.src, 64, (kind, code), [0, 0, 5, 0], quoted),
        _ => return None,
    };
    ethernet::set_addresses(&mut error, to, PEER);
    Some(error)
}

/// Sums do not change when two ends trade places, and nobody looks at those of TCP.
fn turned<A: Addr>(sent: &[u8], flow: &Flow<A>, flags: u8) -> Vec<u8> {
    let mut frame = sent.to_vec();
    let l4 = usize::from(flow.l4());
    frame[..12].rotate_left(6);
    frame[l4 - 2 * A::LEN..l4].rotate_left(A::LEN);
    frame[l4..l4 + 4].rotate_left(2);
    if flow.key.proto == Proto::Tcp {
        frame.copy_within(l4 + 8..l4 + 12, l4 + 4);
        frame[l4 + 8..l4 + 12].copy_from_slice(&tcp::segment(sent, flow).seq_end().to_be_bytes());
        frame[l4 + 13] = flags;
    }
    frame
}

/// Where frames go.
#[derive(Default)]
struct Wires {
    sent: Vec<(IfaceId, Vec<u8>)>,
    handed: Vec<(WorkerId, IfaceId, HeapFrame)>,
    made: u64,
    /// Of the worker that was last at work.
    requests: Vec<Request>,
}

impl Output<HeapFrame> for Wires {
    fn transmit(&mut self, iface: IfaceId, frame: HeapFrame) {
        self.sent.push((iface, frame.bytes().to_vec()));
    }

    fn hand_over(&mut self, to: WorkerId, iface: IfaceId, frame: HeapFrame) {
        self.handed.push((to, iface, frame));
    }

    fn alloc(&mut self) -> Option<HeapFrame> {
        self.made += 1;
        Some(HeapFrame::new(&[]))
    }

    fn offload(&mut self, request: Request) -> Result<(), Full> {
        self.requests.push(request);
        Ok(())
    }
}

/// Forwarders with a clock.
struct Bench {
    now: Time,
    /// What the offload manager was asked, and what the target has.
    asked: Vec<(usize, Request)>,
    installed: Vec<(usize, Place)>,
    workers: Vec<(Forwarder<HeapFrame>, Arc<Counters>)>,
    wires: Wires,
    /// The last frame that left by each interface.
    last: [Option<Vec<u8>>; 2],
    received: u64,
    transmitted: u64,
}

impl Bench {
    fn new() -> Self {
        let now = Time(1_000_000);
        let plan = Arc::new(plan());
        let neighbors = Arc::new(Neighbors::new(64, [1, 2]));
        for (iface, (v4, v6)) in [(0, ROUTER), (1, SERVERS[0])] {
            assert!(neighbors.acquire_static(IfaceId(iface), v4.into(), PEER).is_ok());
            assert!(neighbors.acquire_static(IfaceId(iface), v6.into(), PEER).is_ok());
        }
        let persistence = Arc::new(Persistence::new(16, [3, 4]));
        let worker = |n| {
            let counters = Arc::new(Counters::new(4, 8));
            let setup = Setup {
                worker: WorkerId(n),
                spread: Spread::Software(LportOwners::new(WORKERS)),
                sessions_v4: 6,
                sessions_v6: 6,
                hash: Arc::new(crate::hash::FlowHasher::new(5, 6)),
                seed: 7 + u64::from(n),
                icmp_per_second: 4,
                resets_per_second: 4,
                pending_per_nexthop: 3,
                neighbors: Arc::clone(&neighbors),
                persistence: Arc::clone(&persistence),
                counters: Arc::clone(&counters),
                plan: Arc::clone(&plan),
                offload: Some(Arc::new(Gate::new(Threshold::Packets(0)))),
                now,
            };
            (Forwarder::new(setup), counters)
        };
        let workers = (0..WORKERS).map(worker).collect();
        let (wires, last) = (Wires::default(), [None, None]);
        let (asked, installed) = (Vec::new(), Vec::new());
        let mut bench = Bench { now, asked, installed, workers, wires, last, received: 0, transmitted: 0 };
        // Past the announcements.
        (0..4).for_each(|_| bench.pause(1));
        bench.last = [None, None];
        bench
    }

    fn receive(&mut self, worker: usize, iface: usize, frame: Vec<u8>) {
        self.received += 1;
        let frame = [HeapFrame::new(&frame)];
        self.workers[worker].0.receive(self.now, IfaceId(iface as u8), frame, &mut self.wires);
        self.note_asked(worker);
        for (to, iface, frame) in std::mem::take(&mut self.wires.handed) {
            self.workers[usize::from(to.0)].0.receive(self.now, iface, [frame], &mut self.wires);
            self.note_asked(to.0.into());
        }
        assert!(self.wires.handed.is_empty(), "handed over twice");
        self.note_sent();
    }

    fn pause(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        for worker in 0..self.workers.len() {
            self.workers[worker].0.tick(self.now, &mut self.wires);
            self.note_asked(worker);
        }
        self.note_sent();
    }

    fn note_asked(&mut self, worker: usize) {
        self.asked.extend(self.wires.requests.drain(..).map(|request| (worker, request)));
    }

    /// The offload manager answers, as [`forward`] tells.
    fn judge(&mut self, how: u8) {
        let counted = Counted { packets: [1, 0], bytes: [60, 0] };
        if how == 3 {
            for (worker, place) in std::mem::take(&mut self.installed) {
                self.tell(worker, Verdict::Removed(place, Counted::default()));
            }
        }
        if how > 1 {
            return;
        }
        for (worker, request) in std::mem::take(&mut self.asked) {
            let known = self.installed.iter().position(|&(of, at)| of == worker && Some(at) == request.place());
            match (request, known) {
                (Request::Install { place, .. }, _) if how == 1 => self.tell(worker, Verdict::Refused(place, 100)),
                (Request::Install { place, .. }, _) => {
                    self.installed.push((worker, place));
                    self.tell(worker, Verdict::Installed(place));
                }
                (Request::Remove { place }, Some(at)) => {
                    self.installed.remove(at);
                    self.tell(worker, Verdict::Removed(place, counted));
                }
                (Request::Check { place }, Some(_)) if how == 1 => self.tell(worker, Verdict::Active(place, counted)),
                (Request::Check { place }, Some(_)) => self.tell(worker, Verdict::Idle(place, Counted::default())),
                // Nothing is adopted here.
                (Request::Adopted { .. } | Request::Declined { .. }, _) | (_, None) => {}
            }
        }
    }

    fn tell(&mut self, worker: usize, verdict: Verdict) {
        let (forwarder, counters) = &mut self.workers[worker];
        forwarder.verdict(self.now, verdict, &mut self.wires);
        assert_eq!(counters.offload.ignored.get(), 0, "{verdict:?}");
        self.note_asked(worker);
    }

    fn note_sent(&mut self) {
        for (iface, frame) in self.wires.sent.drain(..) {
            self.transmitted += 1;
            self.last[usize::from(iface.0)] = Some(frame);
        }
    }

    /// Every frame left, waits, was heard, or is one drop; answers to drops come on top, and so do frames of our own.
    fn assert_balanced(&self) {
        let sum = |of: &dyn Fn(&Counters) -> u64| self.workers.iter().map(|(_, c)| of(c)).sum::<u64>();
        let drops = sum(&|c| DropReason::ALL.iter().map(|&reason| c.dropped(reason)).sum());
        let heard = sum(&|c| c.neighbor_heard.get());
        let extra = sum(&|c| c.rst_sent.get() + c.icmp_sent.get()) + self.wires.made;
        let waiting: u64 = self.workers.iter().map(|(f, _)| f.waiting() as u64).sum();
        assert_eq!(self.received + extra, self.transmitted + waiting + heard + drops);
        let mut sessions = 0;
        for (forwarder, _) in &self.workers {
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                cursor = forwarder.scan_sessions(self.now, at, 64, |_| sessions += 1);
            }
        }
        assert_eq!(sessions, sum(&|c| c.sessions_created.get()) - sum(&|c| c.sessions_ended.get()));
    }
}

fn plan() -> Plan {
    let ends = |a: Ipv4Addr, b: Ipv6Addr| vec![(IpAddr::V4(a), 24), (IpAddr::V6(b), 64)];
    let addresses = [
        ends(Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
        ends(Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    ];
    let mut routes = Routes::builder();
    for (iface, addresses) in (0..).zip(&addresses) {
        for &(address, len) in addresses {
            routes.connected(IfaceId(iface), address, len);
        }
    }
    routes.default_gateway(IfaceId(0), ROUTER.0.into()).default_gateway(IfaceId(0), ROUTER.1.into());
    let interface = |(n, addresses)| Interface { name: String::new(), mac: our_mac(n), mtu: 1400, addresses };
    let interfaces = addresses.into_iter().enumerate().map(interface).collect();
    let pool = LocalPool { name: String::new(), v4: vec![LIP.0], v6: vec![LIP.1], ports: 2000..=2011 };
    let (mut services, mut servers) = (Vec::new(), Vec::new());
    for (n, (v6, proto)) in
        (0..).zip([(false, Proto::Tcp), (false, Proto::Udp), (true, Proto::Tcp), (true, Proto::Udp)])
    {
        let ip = |(v4, six): (Ipv4Addr, Ipv6Addr)| if v6 { IpAddr::V6(six) } else { IpAddr::V4(v4) };
        let ids: Vec<_> = (2 * n..).take(if proto == Proto::Tcp { 1 } else { 2 }).collect();
        servers.extend(
            ids.iter()
                .zip(SERVERS)
                .map(|(&id, rip)| Server { max_connections: 5, ..testing::server(id, n, ip(rip), 8080) }),
        );
        services.push(Service {
            scheduler: SchedulerKind::WeightedRoundRobin,
            toa: true,
            persistence: v6.then_some(PersistenceRule { timeout_ms: 60_000, prefix_v4: 32, prefix_v6: 64 }),
            ..testing::service(n, ip(VIP), 80, proto, &ids)
        });
    }
    Plan::new(1, interfaces, routes.build().unwrap_or_default(), vec![pool], 5_000, services, servers)
}
