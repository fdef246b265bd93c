//! Servers in turn, by weight: `rr` and `wrr`.
//!
//! A server with weight w owns w tickets of a row of W, the sum of all (weights reduced by their greatest common
//! divisor). Turns step through the row by a fixed stride that is coprime to W, so that W turns use every ticket exactly
//! once: shares are exact over a cycle. A stride near W/φ spreads any stretch of tickets most evenly over the turns
//! (three-distance theorem), so heavy servers do not get bursts. Nothing is stored per ticket, and a turn costs one
//! binary search.

use super::{Candidate, Loads, first_with_room};
use crate::id::{ServiceId, WorkerId};

/// 2⁶⁴/φ.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// Where each server's tickets end.
    ends: Box<[u64]>,
    total: u64,
    stride: u64,
    /// The ticket whose turn it is.
    at: u64,
}

impl Turns {
    /// One ticket each, taken in order.
    pub(super) fn even(servers: usize, service: ServiceId, worker: WorkerId) -> Self {
        let total = servers as u64;
        Turns { ends: (1..=total).collect(), total, stride: 1, at: start(total, service, worker) }
    }

    /// Tickets by weight, interleaved. Weights are above 0.
    pub(super) fn weighted(weights: impl Iterator<Item = u16> + Clone, service: ServiceId, worker: WorkerId) -> Self {
        let divisor = weights.clone().fold(0, |d, w| gcd(d, u64::from(w))).max(1);
        let mut total = 0;
        let ends: Box<[u64]> = weights
            .map(|w| {
                total += u64::from(w) / divisor;
                total
            })
            .collect();
        let golden = scale(GOLDEN, total).max(1);
        // total - 1 is coprime to total, so the search ends.
        let stride = (golden..total).find(|&s| gcd(s, total) == 1).unwrap_or(1);
        Turns { ends, total, stride, at: start(total, service, worker) }
    }

    /// Where these turns go on from `old`; `before` and `after` are the servers of both, in order.
    pub(super) fn continued(&self, old: &Turns, before: &[Candidate], after: &[Candidate]) -> u64 {
        let same = before.len() == after.len() && before.iter().zip(after).all(|(b, a)| b.id == a.id);
        if same && old.ends == self.ends {
            return old.at;
        }
        let place = if before.is_empty() { 0 } else { old.server() };
        let (first, last) = before.split_at(place);
        match last.iter().chain(first).find_map(|b| after.iter().position(|a| a.id == b.id)) {
            None => self.at,
            Some(0) => 0,
            Some(kept) => self.ends[kept - 1],
        }
    }

    pub(super) fn go_to(&mut self, ticket: u64) {
        self.at = ticket;
    }

    /// The position of the server whose turn it is; the turn passes on.
    pub(super) fn next(&mut self) -> usize {
        let server = self.server();
        self.at += self.stride;
        if self.at >= self.total {
            self.at -= self.total;
        }
        server
    }

    /// The next server in turn that has room, its session counted. Full servers lose their turn.
    pub(super) fn pick<'a>(&mut self, candidates: &'a [Candidate], loads: &mut Loads) -> Option<&'a Candidate> {
        let mut server = 0;
        // By turns as long as that is likely to find one, so that what full servers cannot take is spread by weight.
        for _ in 0..2 * candidates.len() {
            server = self.next();
            if let Some(chosen) = candidates.get(server).filter(|c| c.begin(loads)) {
                return Some(chosen);
            }
        }
        first_with_room(candidates, server, loads)
    }

    #[inline]
    fn server(&self) -> usize {
        if self.total == self.ends.len() as u64 {
            return self.at as usize; // One ticket each.
        }
        self.ends.partition_point(|&end| end <= self.at)
    }
}

/// Where a worker begins: workers 0, 1, 2, 3 … at 0, 1/2, 1/4, 3/4 … of the row, shifted by service, so that neither
/// workers nor services all begin with the same server.
fn start(total: u64, service: ServiceId, worker: WorkerId) -> u64 {
    let by_worker = u64::from(worker.0.reverse_bits()) << 56;
    let by_service = GOLDEN.wrapping_mul(u64::from(service.0));
    scale(by_worker.wrapping_add(by_service), total)
}

/// `fraction`/2⁶⁴ of `total`, rounded down.
fn scale(fraction: u64, total: u64) -> u64 {
    ((u128::from(fraction) * u128::from(total)) >> 64) as u64
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
