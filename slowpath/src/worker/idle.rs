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
        /// How long each sleep is: what an idle balancer adds to the first packet's latency.
        sleep: Duration,
    },
}

impl Default for IdlePolicy {
    /// Sleeps of 50 µs keep an idle worker at a few percent of a core; the thousand empty polls before them last about as
    /// long as the gap between packets at 10 kpps, so that a lightly loaded worker sleeps and a busy one never does.
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
        self.empty = self.empty.saturating_add(1);
        match self.policy {
            IdlePolicy::Busy => std::hint::spin_loop(),
            IdlePolicy::Backoff { yield_after, sleep_after, sleep } => {
                if self.empty >= sleep_after {
                    std::thread::sleep(sleep);
                } else if self.empty >= yield_after {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    }
}
