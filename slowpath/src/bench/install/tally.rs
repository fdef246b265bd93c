//! What runs come to: rates, and the time from decision to acknowledgement.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::median;
use super::wave::{Ended, Operation};

/// Longest time that is told apart, microseconds: a minute.
const LONGEST_US: u64 = 60_000_000;

/// Times of one kind of operation.
pub struct Times(Histogram<u64>);

impl Times {
    pub fn new() -> Self {
        match Histogram::new_with_bounds(1, LONGEST_US, 2) {
            Ok(histogram) => Times(histogram),
            Err(_) => unreachable!("the bounds are constants that fit"),
        }
    }

    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    /// So many of a hundred took at most so many microseconds.
    pub fn percentile_us(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    fn add(&mut self, more: &Times) {
        match self.0.add(&more.0) {
            Ok(()) => {}
            Err(_) => unreachable!("both have the same bounds"),
        }
    }
}

/// Sums over the waves of a run, of one operation.
struct Sum {
    updates: u64,
    wall: Duration,
    spent: Spent,
    times: Times,
}

/// CPU time, by who used it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// The measured thread.
    pub thread: Duration,
    /// What of it went into encoding and gathering batches, where that is measured apart.
    pub encoding: Duration,
    /// The target's threads, where they can be seen.
    pub target: Duration,
}

impl Spent {
    fn add(&mut self, more: Spent) {
        self.thread += more.thread;
        self.encoding += more.encoding;
        self.target += more.target;
    }
}

impl Sum {
    fn new() -> Self {
        Sum { updates: 0, wall: Duration::ZERO, spent: Spent::default(), times: Times::new() }
    }

    fn rate(&self) -> Rate {
        // A clock that ticks coarsely may not have moved.
        let per = |time: Duration| self.updates as f64 / time.as_secs_f64().max(1e-9);
        Rate {
            updates_per_second: per(self.wall),
            updates_per_cpu_second: per(self.spent.thread),
            p50_us: self.times.percentile_us(50.0),
            p90_us: self.times.percentile_us(90.0),
            p99_us: self.times.percentile_us(99.0),
            p999_us: self.times.percentile_us(99.9),
            max_us: self.times.percentile_us(100.0),
            ns_per_update: ns(self.spent.thread, self.updates),
            encoding_ns_per_update: ns(self.spent.encoding, self.updates),
            target_ns_per_update: ns(self.spent.target, self.updates),
        }
    }
}

/// Nanoseconds of CPU time for each update.
fn ns(cpu: Duration, updates: u64) -> f64 {
    cpu.as_secs_f64() * 1e9 / updates.max(1) as f64
}

/// A run as it grows.
pub struct Tally {
    install: Sum,
    remove: Sum,
}

impl Tally {
    pub fn new() -> Self {
        Tally { install: Sum::new(), remove: Sum::new() }
    }

    /// A wave, and the CPU time meanwhile.
    pub fn add(&mut self, wave: &Ended, spent: Spent) {
        let sum = match wave.operation {
            Operation::Install => &mut self.install,
            Operation::Remove => &mut self.remove,
        };
        sum.updates += wave.updates;
        sum.wall += wave.wall;
        sum.spent.add(spent);
        sum.times.add(&wave.times);
    }

    /// Time that was measured so far.
    pub fn wall(&self) -> Duration {
        self.install.wall + self.remove.wall
    }

    pub fn measured(&self) -> Measured {
        let updates = (self.install.updates + self.remove.updates) as f64;
        let cpu = self.install.spent.thread + self.remove.spent.thread;
        Measured {
            updates_per_second: updates / self.wall().as_secs_f64().max(1e-9),
            updates_per_cpu_second: updates / cpu.as_secs_f64().max(1e-9),
            install: self.install.rate(),
            remove: self.remove.rate(),
        }
    }
}

/// What came out of a run, or the medians of several.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Of both operations together.
    pub updates_per_second: f64,
    pub updates_per_cpu_second: f64,
    pub install: Rate,
    pub remove: Rate,
}

/// One operation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    pub updates_per_second: f64,
    /// Of CPU time of the measured thread.
    pub updates_per_cpu_second: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// CPU time of the measured thread, and what of it was encoding and gathering batches, where that is measured apart.
    pub ns_per_update: f64,
    pub encoding_ns_per_update: f64,
    /// CPU time of the target, where it can be seen.
    pub target_ns_per_update: f64,
}

/// The median of each figure.
pub fn medians(runs: &[Measured]) -> Measured {
    let over = |read: &dyn Fn(&Measured) -> f64| median(runs.iter().map(read));
    let rate = |of: fn(&Measured) -> &Rate| Rate {
        updates_per_second: over(&|m| of(m).updates_per_second),
        updates_per_cpu_second: over(&|m| of(m).updates_per_cpu_second),
        p50_us: over(&|m| of(m).p50_us as f64) as u64,
        p90_us: over(&|m| of(m).p90_us as f64) as u64,
        p99_us: over(&|m| of(m).p99_us as f64) as u64,
        p999_us: over(&|m| of(m).p999_us as f64) as u64,
        max_us: over(&|m| of(m).max_us as f64) as u64,
        ns_per_update: over(&|m| of(m).ns_per_update),
        encoding_ns_per_update: over(&|m| of(m).encoding_ns_per_update),
        target_ns_per_update: over(&|m| of(m).target_ns_per_update),
    };
    Measured {
        updates_per_second: over(&|m| m.updates_per_second),
        updates_per_cpu_second: over(&|m| m.updates_per_cpu_second),
        install: rate(|m| &m.install),
        remove: rate(|m| &m.remove),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_the_sum_of_its_waves() {
        let ms = Duration::from_millis;
        let wave = |operation, updates, wall, time| {
            let mut times = Times::new();
            times.record(ms(time));
            Ended { operation, updates, wall: ms(wall), times }
        };
        let mut tally = Tally::new();
        let spent = |thread, target| Spent { thread: ms(thread), target: ms(target), ..Spent::default() };
        tally.add(&wave(Operation::Install, 1_000, 100, 3), spent(10, 1));
        tally.add(&wave(Operation::Remove, 1_000, 50, 9), spent(40, 0));
        tally.add(&wave(Operation::Install, 1_000, 100, 30), spent(10, 3));
        assert_eq!(tally.wall(), ms(250));
        let m = tally.measured();
        assert_eq!((m.updates_per_second, m.updates_per_cpu_second), (12_000.0, 50_000.0));
        assert_eq!((m.install.updates_per_second, m.install.updates_per_cpu_second), (10_000.0, 100_000.0));
        assert_eq!((m.remove.updates_per_second, m.remove.updates_per_cpu_second), (20_000.0, 25_000.0));
        assert_eq!((m.install.ns_per_update, m.install.target_ns_per_update), (10_000.0, 2_000.0));
        let close = |us: u64, to: u64| us.abs_diff(to) <= to / 50;
        assert!(
            close(m.install.p50_us, 3_000) && close(m.install.p99_us, 30_000) && close(m.remove.p99_us, 9_000),
            "{m:?}"
        );
        let twice = medians(&[m, Measured { updates_per_second: 10_000.0, ..m }]);
        assert_eq!((twice.updates_per_second, twice.install.p50_us), (11_000.0, m.install.p50_us));
    }
}
