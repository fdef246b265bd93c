//! One operation on all sessions, a bounded number of them at a time.

use std::time::{Duration, Instant};

use super::tally::Times;

/// Updates of a session's install or remove: one entry for each direction.
const UPDATES: u32 = 2;

/// What a wave does with each session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Both entries are inserted.
    Install,
    /// Both entries are deleted.
    Remove,
}

/// One operation on all sessions, in their order.
pub struct Wave {
    pub operation: Operation,
    sessions: u32,
    limit: u32,
    begun: u32,
    done: u32,
    start: Instant,
    /// By session.
    since: Vec<Instant>,
    times: Times,
}

/// What a wave came to.
pub struct Ended {
    pub operation: Operation,
    pub updates: u64,
    /// From the first request to the last answer.
    pub wall: Duration,
    pub times: Times,
}

impl Wave {
    /// Over so many sessions, at most `limit` at a time.
    pub fn new(operation: Operation, sessions: u32, limit: u32) -> Self {
        let start = Instant::now();
        let since = vec![start; sessions as usize];
        Wave { operation, sessions, limit, begun: 0, done: 0, start, since, times: Times::new() }
    }

    /// The session that is next; none: first something has to end, or all were begun.
    pub fn next(&mut self, now: Instant) -> Option<u32> {
        if self.begun == self.sessions || self.under_way() == self.limit {
            return None;
        }
        let n = self.begun;
        self.since[n as usize] = now;
        self.begun += 1;
        Some(n)
    }

    /// The operation on this session was acknowledged.
    pub fn done(&mut self, n: u32, now: Instant) {
        self.done += 1;
        self.times.record(now - self.since[n as usize]);
    }

    /// Sessions that were begun and are not done.
    pub fn under_way(&self) -> u32 {
        self.begun - self.done
    }

    /// Whether all are done.
    pub fn is_over(&self) -> bool {
        self.done == self.sessions
    }

    /// The end, now.
    pub fn end(self) -> Ended {
        let updates = u64::from(self.done * UPDATES);
        Ended { operation: self.operation, updates, wall: self.start.elapsed(), times: self.times }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn every_session_has_its_turn_and_no_more_than_the_limit_at_a_time() {
        for (sessions, limit) in [(100, 8), (3, 8), (1, 1)] {
            let (mut wave, now, mut under_way) =
                (Wave::new(Operation::Install, sessions, limit), Instant::now(), VecDeque::new());
            let mut seen = Vec::new();
            while !wave.is_over() {
                under_way.extend(std::iter::from_fn(|| wave.next(now)));
                assert_eq!(under_way.len(), wave.under_way() as usize);
                assert!((1..=limit as usize).contains(&under_way.len()));
                // Answers come in any order.
                let n = if seen.len() % 2 == 0 { under_way.pop_front() } else { under_way.pop_back() }.unwrap();
                seen.push(n);
                wave.done(n, now + Duration::from_millis(5));
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..sessions).collect::<Vec<_>>());
            let ended = wave.end();
            assert_eq!(ended.updates, u64::from(2 * sessions));
            assert!(ended.times.percentile_us(50.0).abs_diff(5_000) < 100);
        }
    }
}
