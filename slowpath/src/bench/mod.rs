//! `carom bench`: the shipped worker loop between in-memory ports, measured in CPU time of the worker's thread; and the
//! shipped offload manager, in `install`.
//!
//! The ports are not free. What they cost alone is measured beside, and is part of what the whole is said to cost.

mod connect;
mod forward;
mod frames;
mod install;
mod memory;
mod setup;
mod softnic;
mod synflood;
mod together;
mod traffic;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use dpdk::{Burst, Eal, EalConfig, LargePages, Memory};
use fullnat::reason::DropReason;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use self::setup::{BenchAddr, BenchWorker, SharedTraffic};
use crate::cli::{Bench, Ip};
use crate::worker::{BURST, Receive, Transmit};

/// How often the clock is looked at.
const ROUNDS: u32 = 1000;
/// Megabytes of memory for DPDK beside packet buffers, where there are no hugepages.
const MEMORY_MB: u32 = 64;
/// How long nothing may get on.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(pub String);

/// So many packets or sessions, and the CPU time they took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    count: u64,
    cpu: Duration,
}

impl Cost {
    /// Nanoseconds for each.
    fn ns(self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.count.max(1) as f64
    }

    /// The same, unless nothing was counted.
    fn of_some(self) -> Result<Self, BenchError> {
        if self.count == 0 { Err(BenchError("nothing got through".to_owned())) } else { Ok(self) }
    }
}

/// Measures, and prints what came out.
pub fn run(bench: &Bench) -> Result<(), BenchError> {
    match bench {
        Bench::Forward(args) => match args.ipv {
            Ip::V4 => forward::run::<Ipv4Addr>(start_dpdk(args.workers)?, args),
            Ip::V6 => forward::run::<Ipv6Addr>(start_dpdk(args.workers)?, args),
        },
        Bench::Connect(args) => match args.ipv {
            Ip::V4 => connect::run::<Ipv4Addr>(start_dpdk(1)?, args),
            Ip::V6 => connect::run::<Ipv6Addr>(start_dpdk(1)?, args),
        },
        Bench::Memory(args) => match args.ipv {
            Ip::V4 => memory::run::<Ipv4Addr>(start_dpdk(1)?, args),
            Ip::V6 => memory::run::<Ipv6Addr>(start_dpdk(1)?, args),
        },
        Bench::Synflood(args) => match args.ipv {
            Ip::V4 => synflood::run::<Ipv4Addr>(start_dpdk(1)?, args),
            Ip::V6 => synflood::run::<Ipv6Addr>(start_dpdk(1)?, args),
        },
        Bench::Install(args) => install::run(args),
        Bench::Softnic(args) => softnic::forward(args),
        Bench::SoftnicInstall(args) => softnic::install(args),
    }
}

fn start_dpdk(workers: u8) -> Result<Eal, BenchError> {
    let memory = Memory::Auto { mb: MEMORY_MB + (setup::mempool(workers).bytes() >> 20) as u32 };
    Eal::init(EalConfig { memory, ..EalConfig::default() }).map_err(|e| BenchError(e.to_string()))
}

/// What packet buffers are on.
fn packet_pages(eal: &Eal) -> &'static str {
    if eal.memory().hugepages { "hugetlb" } else { "4K" }
}

/// What the tables are on, as far as they are touched by now. They are the large allocations, with the benchmark's own tables.
fn table_pages() -> String {
    LargePages::touched().to_string()
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

/// Lets a worker make all sessions.
fn fill<A: BenchAddr>(worker: &mut BenchWorker<A>, traffic: &SharedTraffic<A>) -> Result<(), BenchError> {
    let made = make_sessions(traffic, || {
        worker.poll();
    });
    // What was dropped is why they could not.
    check(worker, traffic)?;
    made
}

/// Lets all sessions be made, by a worker or, for comparison, by ports without one.
fn make_sessions<A: BenchAddr>(traffic: &SharedTraffic<A>, mut round: impl FnMut()) -> Result<(), BenchError> {
    let mut last = (0, Instant::now());
    loop {
        // Few: those after the last session find nothing to do.
        for _ in 0..ROUNDS / 10 {
            round();
        }
        let traffic = traffic.borrow();
        if traffic.is_full() {
            return Ok(());
        }
        if traffic.sent != last.0 {
            last = (traffic.sent, Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            return Err(BenchError(format!("only {} of {} sessions could be made", traffic.open, traffic.total())));
        }
    }
}

/// That no packet was dropped: otherwise something else was measured.
fn check<A: BenchAddr>(worker: &BenchWorker<A>, traffic: &SharedTraffic<A>) -> Result<(), BenchError> {
    let drops: Vec<_> = drops(worker).map(|(name, n)| format!("{n} {name}")).collect();
    match traffic.borrow().strange {
        0 if drops.is_empty() => Ok(()),
        n => Err(BenchError(format!("{n} packets of no session; dropped: {}", drops.join(", ")))),
    }
}

/// Packets the worker dropped, by the reason's name.
fn drops<A: BenchAddr>(worker: &BenchWorker<A>) -> impl Iterator<Item = (&'static str, u64)> {
    DropReason::ALL.iter().map(|&r| (r.name(), worker.counters.dropped(r))).filter(|&(_, n)| n > 0)
}

/// Repeats `round` for so long, and tells what CPU time that took for each that `count` counted.
fn measure(length: Duration, count: impl Fn() -> u64, mut round: impl FnMut()) -> Cost {
    let (before, cpu, start) = (count(), cpu_time(), Instant::now());
    while start.elapsed() < length {
        for _ in 0..ROUNDS {
            round();
        }
    }
    Cost { count: count() - before, cpu: cpu_time() - cpu }
}

/// A round of in-memory ports alone: what each receives is sent by the other.
fn pass_through(ports: &mut [impl Receive + Transmit; 2]) {
    for i in [0, 1] {
        let mut burst: Burst<BURST> = Burst::new();
        ports[i].receive(&mut burst);
        ports[1 - i].send(&mut burst);
    }
}

/// CPU time this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // CPU time is not negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The median; of none 0.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn print(json: bool, text: &str, result: &impl Serialize) -> Result<(), BenchError> {
    if json {
        println!("{}", serde_json::to_string(result).map_err(|e| BenchError(e.to_string()))?);
    } else {
        println!("{}", text.trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
