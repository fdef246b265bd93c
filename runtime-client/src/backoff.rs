//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Waits that double from `first` to `longest`, each shortened by up to a quarter so that many clients of one restarted
/// target do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Wait after the first failure.
    pub first: Duration,
    /// No wait is longer.
    pub longest: Duration,
    /// A connection that lasted this long was a good one: after it, waits start again at `first`.
    pub settled_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(5),
            settled_after: Duration::from_secs(10),
        }
    }
}

/// The waits of one client.
#[derive(Debug)]
pub(crate) struct Waits {
    config: Backoff,
    failures: u32,
    random: u64,
}

impl Waits {
    /// `seed` is where the spread between clients comes from.
    pub(crate) fn new(config: Backoff, seed: u64) -> Self {
        Self { config, failures: 0, random: seed }
    }

    /// The wait after a connection that lasted for `lasted`; zero if there was none.
    pub(crate) fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= self.config.settled_after {
            self.failures = 0;
        }
        let doubled = self.config.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(self.config.longest);
        wait - wait.mul_f64(self.spread() / 4.0)
    }

    /// From 0 to 1. Quality does not matter here; no two clients in step does.
    fn spread(&mut self) -> f64 {
        // Knuth's constants for a 64-bit linear congruential generator; the high bits are the good ones.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 40) as f64 / (1u64 << 24) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits() -> Waits {
        let config = Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(2),
            settled_after: Duration::from_secs(10),
        };
        Waits::new(config, 7)
    }

    #[test]
    fn doubles_up_to_the_longest() {
        let mut waits = waits();
        for doubled in [100, 200, 400, 800, 1600, 2000, 2000, 2000] {
            let wait = waits.after(Duration::ZERO);
            let most = Duration::from_millis(doubled);
            assert!(wait <= most && wait >= most * 3 / 4, "{wait:?} for {most:?}");
        }
        for _ in 0..100 {
            assert!(waits.after(Duration::ZERO) <= Duration::from_secs(2));
        }
    }

    #[test]
    fn starts_again_after_a_good_connection_only() {
        let mut waits = waits();
        for _ in 0..5 {
            waits.after(Duration::ZERO);
        }
        assert!(waits.after(Duration::from_secs(9)) > Duration::from_secs(1));
        assert!(waits.after(Duration::from_secs(10)) <= Duration::from_millis(100));
    }

    #[test]
    fn clients_do_not_wait_in_step() {
        let [mut one, mut other] = [1, 2].map(|seed| Waits::new(Backoff::default(), seed));
        assert_ne!(one.after(Duration::ZERO), other.after(Duration::ZERO));
    }
}
