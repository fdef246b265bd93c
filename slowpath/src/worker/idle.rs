//! Backing off when there is nothing to do: first a pause, then a yield, then short sleeps.

use std::time::Duration;

/// When to slow down. Poll counts are of consecutive polls that found nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdlePolicy {
    /// Never: the worker polls at full speed for ever. For line-rate use on cores of its own.
    Busy,
    /// Step by step.
    Backoff {
        /// Empty polls after which the worker yields its core on each further one.
        yield_after: u32,
        /// Empty polls after which it sleeps.
        sleep_after: u32,
        /// How long each sleep is: what a nearly idle balancer adds to the first packet's latency. After a thousand in a
        /// row each is eight times as long.
        sleep: Duration,
    },
}

/// Sleeps in a row before they grow longer: a tenth of a second or more without a packet.
pub const SLEEPS_BEFORE_DEEP: u32 = 1000;
/// How many times as long they then are. What waking up costs, not polling, is what an idle worker spends.
pub const DEEP: u32 = 8;

impl Default for IdlePolicy {
    /// Sleeps of 50 µs, and of 400 µs in the long run, keep an idle worker at a few percent of a core; the thousand empty
    /// polls before them last about as long as the gap between packets at 10 kpps, so that a lightly loaded worker sleeps
    /// and a busy one never does.
    fn default() -> Self {
        IdlePolicy::Backoff { yield_after: 200, sleep_after: 1000, sleep: Duration::from_micros(50) }
    }
}

/// The idle state of one worker.
#[derive(Debug)]
pub struct Idle {
    policy: IdlePolicy,
    empty: u32,
}

impl Idle {
    /// A worker that has just had work.
    pub fn new(policy: IdlePolicy) -> Self {
        Idle { policy, empty: 0 }
    }

    /// Called after each poll with whether it found anything; returns when it is time for the next poll.
    #[inline]
    pub fn after_poll(&mut self, found: bool) {
        if found {
            self.empty = 0;
            return;
        }
        match self.rest() {
            Rest::Pause => std::hint::spin_loop(),
            Rest::Yield => std::thread::yield_now(),
            Rest::Sleep(length) => std::thread::sleep(length),
        }
    }

    /// Counts one more empty poll and says what to do after it.
    #[inline]
    fn rest(&mut self) -> Rest {
        self.empty = self.empty.saturating_add(1);
        match self.policy {
            IdlePolicy::Busy => Rest::Pause,
            IdlePolicy::Backoff { sleep_after, sleep, .. } if self.empty >= sleep_after => {
                let deep = self.empty - sleep_after >= SLEEPS_BEFORE_DEEP;
                Rest::Sleep(if deep { sleep * DEEP } else { sleep })
            }
            IdlePolicy::Backoff { yield_after, .. } if self.empty >= yield_after => Rest::Yield,
            IdlePolicy::Backoff { .. } => Rest::Pause,
        }
    }
}

/// What to do until the next poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    Pause,
    Yield,
    Sleep(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_longer_and_longer_until_there_is_work() {
        let sleep = Duration::from_nanos(1);
        let mut idle = Idle::new(IdlePolicy::Backoff { yield_after: 3, sleep_after: 5, sleep });
        for _ in 0..2 {
            let rests: Vec<Rest> = (0..5 + SLEEPS_BEFORE_DEEP).map(|_| idle.rest()).collect();
            assert_eq!(rests[..4], [Rest::Pause, Rest::Pause, Rest::Yield, Rest::Yield]);
            let (deep, sleeps) = rests[4..].split_last().unwrap();
            assert_eq!(sleeps.len(), SLEEPS_BEFORE_DEEP as usize);
            assert!(sleeps.iter().all(|&rest| rest == Rest::Sleep(sleep)));
            assert_eq!(*deep, Rest::Sleep(sleep * DEEP));
            idle.after_poll(true);
        }
    }

    #[test]
    fn busy_never_rests() {
        let mut idle = Idle::new(IdlePolicy::Busy);
        assert!((0..10_000).all(|_| idle.rest() == Rest::Pause));
    }
}
