//! The ports of a space that were never used.

use std::ops::RangeInclusive;

/// A step of SplitMix64: spreads a seed.
pub fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A set of ports as sorted, disjoint intervals, taken from in rising order and round the end. Taking in order keeps it
/// to two or three intervals.
#[derive(Debug)]
pub struct Fresh {
    intervals: Vec<(u16, u16)>,
    cursor: u16,
    /// Likely the interval that begins with the cursor.
    near: usize,
}

impl Fresh {
    /// All ports, to be taken from `start` on.
    pub fn new(start: u16) -> Self {
        Fresh { intervals: vec![(0, u16::MAX)], cursor: start, near: 0 }
    }

    /// The first interval that reaches `port`.
    fn at(&self, port: u16) -> usize {
        self.intervals.partition_point(|&(_, last)| last < port)
    }

    /// Takes the next port of `range`.
    #[inline]
    pub fn take(&mut self, range: &RangeInclusive<u16>) -> Option<u16> {
        match self.intervals.get_mut(self.near) {
            Some((first, last)) if *first == self.cursor && *first < *last && range.contains(first) => {
                let port = *first;
                *first += 1;
                self.cursor = *first;
                Some(port)
            }
            _ => self.search(range),
        }
    }

    #[cold]
    fn search(&mut self, range: &RangeInclusive<u16>) -> Option<u16> {
        let (low, high) = (*range.start(), *range.end());
        let from = if range.contains(&self.cursor) { self.cursor } else { low };
        let port = self.first_in(from, high).or_else(|| self.first_in(low, high))?;
        self.cursor = port.wrapping_add(1);
        self.remove(port);
        self.near = self.at(self.cursor);
        Some(port)
    }

    fn first_in(&self, low: u16, high: u16) -> Option<u16> {
        let &(first, _) = self.intervals.get(self.at(low))?;
        Some(first.max(low)).filter(|&port| port <= high)
    }

    /// Removes a port; false when it is not in the set.
    pub fn remove(&mut self, port: u16) -> bool {
        let at = self.at(port);
        let Some(&(first, last)) = self.intervals.get(at) else { return false };
        if port < first {
            return false;
        }
        match (port == first, port == last) {
            (true, true) => {
                self.intervals.remove(at);
            }
            (true, false) => self.intervals[at].0 = port + 1,
            (false, true) => self.intervals[at].1 = port - 1,
            (false, false) => {
                self.intervals[at].0 = port + 1;
                self.intervals.insert(at, (first, port - 1));
            }
        }
        true
    }

    /// Ports of `range` in the set.
    pub fn count(&self, range: &RangeInclusive<u16>) -> u32 {
        let (low, high) = (*range.start(), *range.end());
        let inside =
            |&(first, last): &(u16, u16)| (u32::from(last.min(high)) + 1).saturating_sub(u32::from(first.max(low)));
        self.intervals.iter().map(inside).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::Rng;

    #[test]
    fn takes_every_port_of_the_range_once_from_the_start_on() {
        let mut fresh = Fresh::new(2_000);
        let range = 1_500..=2_500;
        let taken: Vec<u16> = std::iter::from_fn(|| fresh.take(&range)).collect();
        assert!(taken.iter().copied().eq((2_000..=2_500).chain(1_500..=1_999)));
        assert_eq!(fresh.take(&(0..=1)), Some(0));
        assert_eq!(fresh.count(&(0..=u16::MAX)), 65_536 - 1_001 - 1);
    }

    #[test]
    fn agrees_with_a_set() {
        let mut rng = Rng::new(5);
        let mut fresh = Fresh::new(rng.u16());
        let mut oracle: BTreeSet<u16> = (0..=u16::MAX).collect();
        while !oracle.is_empty() {
            let (a, b) = (rng.u16(), rng.u16());
            let range = a.min(b)..=a.max(b);
            if rng.chance(1, 2) {
                assert_eq!(fresh.remove(a), oracle.remove(&a));
            }
            for _ in 0..rng.below(100) {
                match fresh.take(&range) {
                    Some(port) => assert!(range.contains(&port) && oracle.remove(&port)),
                    None => assert_eq!(oracle.range(range.clone()).next(), None),
                }
            }
            if rng.chance(1, 20) {
                assert_eq!(fresh.count(&range) as usize, oracle.range(range).count());
            }
        }
        assert_eq!(fresh.take(&(0..=u16::MAX)), None);
    }
}
