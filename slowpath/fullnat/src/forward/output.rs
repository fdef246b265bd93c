//! Where a forwarder's packets go, and the limit on those it makes itself.

use crate::id::{IfaceId, WorkerId};
use crate::offload;
use crate::time::Time;

/// The ways out of a forwarder. Each call takes the frame for good; what cannot be sent is dropped and counted there.
pub trait Output<F> {
    /// Sends a finished Ethernet frame by an interface.
    fn transmit(&mut self, iface: IfaceId, frame: F);
    /// Gives a frame, as it was received by `iface`, to the worker that owns its session.
    fn hand_over(&mut self, to: WorkerId, iface: IfaceId, frame: F);
    /// An empty frame for a packet that answers no other.
    fn alloc(&mut self) -> Option<F>;
    /// Asks something of the offload manager; an error, with nothing sent, when there is no room. By default there is no
    /// manager.
    fn offload(&mut self, request: offload::Request) -> Result<(), offload::Full> {
        let _ = request;
        Err(offload::Full)
    }
    /// Answers the offload manager, which waits for it: what there is no room for is kept and sent later.
    fn answer(&mut self, request: offload::Request) {
        let _ = request;
    }
}

/// A token bucket: `rate` replies per second, and a second's worth at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    /// Tokens per second; a token is 1000 units, so that a millisecond adds `rate` units.
    rate: u64,
    units: u64,
    filled: Time,
}

impl RateLimit {
    pub(super) fn new(rate: u32) -> Self {
        RateLimit { rate: u64::from(rate), units: u64::from(rate) * 1000, filled: Time(0) }
    }

    /// Takes a token; false when none is left.
    pub(super) fn allow(&mut self, now: Time) -> bool {
        let earned = now.since(self.filled).saturating_mul(self.rate);
        self.units = self.units.saturating_add(earned).min(self.rate * 1000);
        self.filled = now;
        match self.units.checked_sub(1000) {
            Some(left) => {
                self.units = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_lets_a_burst_and_then_the_rate_through() {
        let mut limit = RateLimit::new(10);
        let at = |limit: &mut RateLimit, ms| (0..100).filter(|_| limit.allow(Time(ms))).count();
        assert_eq!(at(&mut limit, 5_000), 10);
        assert_eq!(at(&mut limit, 5_100), 1);
        assert_eq!(at(&mut limit, 5_150), 0);
        assert_eq!(at(&mut limit, 5_200), 1);
        assert_eq!(at(&mut limit, 99_000), 10);
        assert!(!RateLimit::new(0).allow(Time(1)));
    }
}
