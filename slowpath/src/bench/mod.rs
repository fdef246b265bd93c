//! `carom bench`: the shipped worker loop between in-memory ports, measured in CPU time of the worker's thread; and the
//! shipped offload manager, in `install`.
//!
//! The ports are not free: `io_ns_per_packet` is what they cost alone, and is part of `ns_per_packet`.

mod frames;
mod install;
mod setup;
mod traffic;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use dpdk::{Burst, Eal, EalConfig, Memory};
use fullnat::id;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use self::setup::{BenchAddr, BenchWorker, Shared, SharedTraffic};
use crate::cli::{Bench, Connect, Forward, Ip, Proto};
use crate::worker::{BURST, Receive, Transmit};

/// How often the clock is looked at.
const ROUNDS: u32 = 1000;
/// Megabytes of ordinary memory for packet buffers where there are no hugepages.
const MEMORY_MB: u32 = 128;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(pub String);

/// What `carom bench forward` measured.
#[derive(Debug, Serialize)]
struct Forwarded {
    bench: &'static str,
    proto: &'static str,
    ipv: u8,
    sessions: u32,
    workers: u8,
    hugepages: bool,
    packets: u64,
    mpps_per_cpu_second: f64,
    ns_per_packet: f64,
    io_ns_per_packet: f64,
}

/// What `carom bench connect` measured.
#[derive(Debug, Serialize)]
struct Connected {
    bench: &'static str,
    sessions: u32,
    workers: u8,
    hugepages: bool,
    packets_per_session: u32,
    sessions_per_cpu_second: f64,
    ns_per_session: f64,
}

/// Packets and the CPU time they took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    packets: u64,
    cpu: Duration,
}

impl Cost {
    fn ns_per_packet(self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.packets.max(1) as f64
    }
}

/// Measures, and prints what came out.
pub fn run(bench: &Bench) -> Result<(), BenchError> {
    match bench {
        Bench::Forward(args) => match args.ipv {
            Ip::V4 => forward::<Ipv4Addr>(start_dpdk()?, args),
            Ip::V6 => forward::<Ipv6Addr>(start_dpdk()?, args),
        },
        Bench::Connect(args) => connect(start_dpdk()?, args),
        Bench::Install(args) => install::run(args),
    }
}

fn start_dpdk() -> Result<Eal, BenchError> {
    let memory = Memory::Auto { mb: MEMORY_MB };
    Eal::init(EalConfig { memory, ..EalConfig::default() }).map_err(|e| BenchError(e.to_string()))
}

fn forward<A: BenchAddr>(eal: Eal, args: &Forward) -> Result<(), BenchError> {
    let proto = match args.proto {
        Proto::Tcp => id::Proto::Tcp,
        Proto::Udp => id::Proto::Udp,
    };
    let shared = Shared::new::<A>(eal, args.sessions, proto, args.workers)?;
    let length = Duration::from_secs_f64(args.seconds);
    let costs = on_each_worker(eal, args.workers, |number| {
        let (mut worker, traffic) = shared.worker::<A>(number, true)?;
        make_sessions(&mut worker, &traffic)?;
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(number);
        traffic.borrow_mut().make_steady(|| xorshift(&mut state));
        let io = measure(&traffic, length / 5, || pass_through(&mut worker));
        let forwarded = measure(&traffic, length, || {
            worker.poll();
        });
        check_steady(&worker, &traffic, io.packets + forwarded.packets)?;
        Ok((forwarded, io))
    })?;
    let sum = |part: fn(&(Cost, Cost)) -> Cost| {
        costs.iter().map(part).fold(Cost::default(), |a, b| Cost { packets: a.packets + b.packets, cpu: a.cpu + b.cpu })
    };
    let (forwarded, io) = (sum(|c| c.0), sum(|c| c.1));
    let result = Forwarded {
        bench: "forward",
        proto: if proto == id::Proto::Tcp { "tcp" } else { "udp" },
        ipv: if A::IS_V6 { 6 } else { 4 },
        sessions: args.sessions,
        workers: args.workers,
        hugepages: eal.memory().hugepages,
        packets: forwarded.packets,
        mpps_per_cpu_second: 1e3 / forwarded.ns_per_packet(),
        ns_per_packet: forwarded.ns_per_packet(),
        io_ns_per_packet: io.ns_per_packet(),
    };
    let text = format!(
        "{} sessions {} IPv{} on {} worker(s): {:.2} Mpps per CPU-second, {:.1} ns per packet, {:.1} of them for the \
         in-memory ports",
        result.sessions,
        result.proto,
        result.ipv,
        result.workers,
        result.mpps_per_cpu_second,
        result.ns_per_packet,
        result.io_ns_per_packet
    );
    print(args.json, &text, &result)
}

fn connect(eal: Eal, args: &Connect) -> Result<(), BenchError> {
    let shared = Shared::new::<Ipv4Addr>(eal, args.sessions, id::Proto::Tcp, 1)?;
    let cpu = on_each_worker(eal, 1, |number| {
        let (mut worker, traffic) = shared.worker::<Ipv4Addr>(number, false)?;
        let start = cpu_time();
        make_sessions(&mut worker, &traffic)?;
        Ok(cpu_time() - start)
    })?;
    let seconds: f64 = cpu.iter().map(Duration::as_secs_f64).sum();
    let result = Connected {
        bench: "connect",
        sessions: args.sessions,
        workers: 1,
        hugepages: eal.memory().hugepages,
        packets_per_session: 3,
        sessions_per_cpu_second: f64::from(args.sessions) / seconds,
        ns_per_session: seconds * 1e9 / f64::from(args.sessions),
    };
    let text = format!(
        "{} sessions made by SYN, SYN-ACK and ACK with TOA: {:.0} per CPU-second, {:.0} ns each",
        result.sessions, result.sessions_per_cpu_second, result.ns_per_session
    );
    print(args.json, &text, &result)
}

/// Runs `work` on a registered thread for each worker.
fn on_each_worker<T: Send>(
    eal: Eal,
    workers: u8,
    work: impl Fn(u8) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    let one = |number| {
        let lcore = dpdk::register_thread(&eal, None).map_err(|e| BenchError(e.to_string()))?;
        let done = work(number);
        drop(lcore);
        done
    };
    std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..workers).map(|number| scope.spawn(move || one(number))).collect();
        let panicked = |_| Err(BenchError("a worker panicked".to_owned()));
        spawned.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}

/// Lets all sessions be made.
fn make_sessions<A: BenchAddr>(worker: &mut BenchWorker<A>, traffic: &SharedTraffic<A>) -> Result<(), BenchError> {
    let mut last = (0, Instant::now());
    loop {
        for _ in 0..ROUNDS {
            worker.poll();
        }
        let traffic = traffic.borrow();
        if traffic.done == traffic.total {
            break;
        }
        if traffic.done != last.0 {
            last = (traffic.done, Instant::now());
        } else if last.1.elapsed() > Duration::from_secs(5) {
            return Err(BenchError(format!(
                "only {} of {} sessions could be made; dropped: {}",
                traffic.done,
                traffic.total,
                drops(worker)
            )));
        }
    }
    match (traffic.borrow().strange, drops(worker)) {
        (0, dropped) if dropped.is_empty() => Ok(()),
        (strange, dropped) => Err(BenchError(format!("{strange} packets of no session; dropped: {dropped}"))),
    }
}

/// That every packet of the steady state was forwarded: otherwise it was not forwarding that was measured.
fn check_steady<A: BenchAddr>(
    worker: &BenchWorker<A>,
    traffic: &SharedTraffic<A>,
    packets: u64,
) -> Result<(), BenchError> {
    let sessions = worker.counters.sessions_v4.get() + worker.counters.sessions_v6.get();
    let traffic = traffic.borrow();
    if drops(worker).is_empty() && sessions == u64::from(traffic.total) && packets > 0 {
        return Ok(());
    }
    Err(BenchError(format!("{sessions} of {} sessions are left; dropped: {}", traffic.total, drops(worker))))
}

fn drops<A: BenchAddr>(worker: &BenchWorker<A>) -> String {
    let counted = fullnat::reason::DropReason::ALL.iter().map(|&r| (r.name(), worker.counters.dropped(r)));
    counted.filter(|&(_, n)| n > 0).map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

/// Repeats `round` for so long, after a fifth of that to warm up, and tells what the packets it sent cost.
fn measure<A: BenchAddr>(traffic: &SharedTraffic<A>, length: Duration, mut round: impl FnMut()) -> Cost {
    let mut repeat = |length: Duration| {
        let (sent, cpu, start) = (traffic.borrow().sent, cpu_time(), Instant::now());
        while start.elapsed() < length {
            for _ in 0..ROUNDS {
                round();
            }
        }
        Cost { packets: traffic.borrow().sent - sent, cpu: cpu_time() - cpu }
    };
    repeat(length / 5);
    repeat(length)
}

/// A round of the in-memory ports alone: what each receives is sent by the other.
fn pass_through<A: BenchAddr>(worker: &mut BenchWorker<A>) {
    for (i, receive) in worker.receive.iter_mut().enumerate() {
        let mut burst: Burst<BURST> = Burst::new();
        receive.receive(&mut burst);
        if let Some(queue) = worker.outbox.queue_mut(1 - i) {
            queue.send(&mut burst);
        }
    }
}

/// CPU time this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // CPU time is not negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn print(json: bool, text: &str, result: &impl Serialize) -> Result<(), BenchError> {
    if json {
        println!("{}", serde_json::to_string(result).map_err(|e| BenchError(e.to_string()))?);
    } else {
        println!("{text}");
    }
    Ok(())
}
