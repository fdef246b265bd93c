//! The fewest sessions: `lc` and `wlc`.
//!
//! LVS weighs a server's load as 256 × active + inactive connections and takes the least load (`lc`) or the least load
//! per weight (`wlc`). A FullNAT session costs the same whether it is active or closing, until its port is free again, so
//! the load here is simply the number of sessions, over all workers. Loads per weight are compared by cross-
//! multiplication, exactly.
//!
//! Where several are equal the server in turn (by weight for `wlc`) or the next one after it gets the session. So an
//! idle service, where all loads are 0, behaves like `rr` or `wrr` instead of sending everything to the
//! first server, and workers that see the same loads at the same moment do not all choose alike.

use super::turns::Turns;
use super::{Candidate, Loads, first_with_room};

/// Tries before the exact order stops mattering: each failure means that another worker filled the server between the
/// look and the count.
const TRIES: usize = 4;

pub(super) fn pick<'a>(
    turns: &mut Turns,
    weighted: bool,
    candidates: &'a [Candidate],
    loads: &mut Loads,
) -> Option<&'a Candidate> {
    let start = turns.next().min(candidates.len());
    for _ in 0..TRIES {
        let best = least(candidates, start, weighted, loads)?;
        if best.begin(loads) {
            return Some(best);
        }
    }
    first_with_room(candidates, start, loads)
}

/// The least loaded that has room, the first from `start` on of equals.
fn least<'a>(candidates: &'a [Candidate], start: usize, weighted: bool, loads: &Loads) -> Option<&'a Candidate> {
    let (before, from) = candidates.split_at(start);
    let mut best: Option<(&Candidate, u64, u64)> = None;
    for c in from.iter().chain(before) {
        let Some(load) = c.load(loads).map(u64::from) else { continue };
        let weight = if weighted { u64::from(c.weight) } else { 1 };
        // load / weight < best load / best weight; 32 × 16 bits fit.
        if best.is_none_or(|(_, best_load, best_weight)| load * best_weight < best_load * weight) {
            best = Some((c, load, weight));
        }
    }
    best.map(|(c, _, _)| c)
}
