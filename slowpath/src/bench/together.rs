//! Workers of a benchmark that go through its stages side by side.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{BenchError, cpu_time};

/// Where they wait for each other. A barrier that also lets everybody go when one of them has failed.
pub struct Together {
    workers: usize,
    arrived: AtomicUsize,
    failed: AtomicBool,
    /// By worker, the rounds it has done.
    rounds: Vec<Rounds>,
}

/// In a line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Rounds(AtomicU64);

/// A worker looks for the others so often, in rounds.
const LOOK: u64 = 4;
/// Rounds that a worker may be ahead of another. In each it hands over at most a burst per interface, and so much fits the
/// rings many times.
const AHEAD: u64 = 8;
/// A worker that waits looks again after so many pauses of the CPU: each look takes the line from the one that is waited for.
const PAUSES: u32 = 50;

impl Together {
    /// So many workers.
    pub fn new(workers: u8) -> Self {
        Together {
            workers: workers.into(),
            arrived: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            rounds: (0..workers).map(|_| Rounds::default()).collect(),
        }
    }

    /// Does `work`; when it fails, the others need not wait.
    pub fn with<T>(&self, work: impl FnOnce() -> Result<T, BenchError>) -> Result<T, BenchError> {
        let done = work();
        if done.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    /// This worker is at the end of stage `n`, from 1. Returns what asks whether all are, or fails when one cannot be.
    pub fn arrive(&self, n: usize) -> impl Fn() -> Result<bool, BenchError> {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        move || match self.failed.load(Ordering::Acquire) {
            true => Err(BenchError("another worker failed".to_owned())),
            false => Ok(self.arrived.load(Ordering::Acquire) >= n * self.workers),
        }
    }

    /// After each round of a worker: rests while it is far ahead of another one, as it would for want of packets where queues
    /// fill at the same rate. Without that, what a worker that the system has stopped for a while is handed would be lost.
    ///
    /// Returns the CPU time it took to wait, which is not to be counted. The thread does not sleep: it would find its caches,
    /// and the CPU its speed, as they are after a pause.
    #[inline]
    pub fn keep_pace(&self, number: u8) -> Duration {
        let Some(own) = self.rounds.get(usize::from(number)) else { return Duration::ZERO };
        let done = own.0.load(Ordering::Relaxed) + 1;
        own.0.store(done, Ordering::Relaxed);
        if !done.is_multiple_of(LOOK) || !self.is_ahead(done) {
            return Duration::ZERO;
        }
        let start = cpu_time();
        while self.is_ahead(done) && !self.failed.load(Ordering::Relaxed) {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
            // The one that is behind may need this core.
            thread::yield_now();
        }
        cpu_time() - start
    }

    fn is_ahead(&self, done: u64) -> bool {
        self.rounds.iter().any(|other| other.0.load(Ordering::Relaxed).saturating_add(AHEAD) < done)
    }

    /// Nobody needs to wait for this worker any more.
    pub fn run_free(&self, number: u8) {
        if let Some(own) = self.rounds.get(usize::from(number)) {
            own.0.store(u64::MAX / 2, Ordering::Relaxed);
        }
    }

    /// Waits at the end of stage `n` for the others.
    pub fn wait(&self, n: usize) -> Result<(), BenchError> {
        let all_here = self.arrive(n);
        while !all_here()? {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_ahead_and_nobody_waits_in_vain() {
        let (together, passed) = (Together::new(3), AtomicUsize::new(0));
        let run = |number: usize| {
            together.with(|| {
                together.wait(1)?;
                passed.fetch_add(1, Ordering::SeqCst);
                together.wait(2)?;
                assert_eq!(passed.load(Ordering::SeqCst), 3);
                if number == 1 { Err(BenchError("tired".to_owned())) } else { together.wait(3) }
            })
        };
        let ended: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|number| scope.spawn(move || run(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap_err().0).collect()
        });
        assert_eq!(ended, ["another worker failed", "tired", "another worker failed"]);
    }

    #[test]
    fn nobody_runs_away_from_a_slow_one() {
        let together = Together::new(2);
        let far = |number: usize| together.rounds[number].0.load(Ordering::SeqCst);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1000 {
                    together.keep_pace(0);
                    assert!(far(0) <= far(1) + AHEAD + LOOK);
                }
            });
            for n in 0..20 {
                thread::sleep(Duration::from_millis(1));
                assert_eq!(far(1), n);
                together.keep_pace(1);
            }
            together.run_free(1);
        });
        assert_eq!(far(0), 1000);
    }
}
