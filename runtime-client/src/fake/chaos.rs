//! What a fake target does wrong, on demand and repeatably.

use std::time::Duration;

use crate::Code;

/// Faults of a fake target; by default it has none. Shares are from 0, never, to 1, always.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// Share of updates that are refused although they are good.
    pub refuse: f64,
    /// With what.
    pub refuse_with: Code,
    /// Tables are full at so many entries, whatever P4Info says.
    pub capacity: Option<usize>,
    /// Tables that keep a hash of so many bits in place of each key: the table's id, and the bits. An insert is refused with
    /// ALREADY_EXISTS where another key's hash is the same, and a delete takes whoever has it.
    pub hashed: Option<(u32, u32)>,
    /// Before each write is looked at.
    pub delay: Duration,
    /// Share of writes in which the connection is cut.
    pub cut: f64,
    /// When in a write.
    pub cut_at: CutAt,
    /// Share of reads whose connection is cut after the first message.
    pub cut_read: f64,
    /// Share of idle entries that are not told of.
    pub lose_notices: f64,
    /// Share of idle entries that are told of twice.
    pub repeat_notices: f64,
    /// What it says of arbitration.
    pub lie: Option<Lie>,
}

/// Where in a write the connection is cut; the client hears of nothing in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutAt {
    /// Nothing was applied.
    Before,
    /// The first half was applied.
    Middle,
    /// All was applied.
    After,
    /// One of these, by chance.
    Anywhere,
}

/// An untruth about who is primary. Only messages are false: writes are still taken from the true primary alone, but for
/// `RefusePrimary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Everybody is told to be primary, with the id of the true one.
    AllPrimary,
    /// Everybody is told to be primary, each with its own id.
    AllPrimaryByOwnId,
    /// The primary is told that another is.
    AllBackup,
    /// The primary is told the truth, and refused as if it were not.
    RefusePrimary,
}

impl Default for Chaos {
    fn default() -> Self {
        Self {
            refuse: 0.0,
            refuse_with: Code::Unavailable,
            capacity: None,
            hashed: None,
            delay: Duration::ZERO,
            cut: 0.0,
            cut_at: CutAt::Anywhere,
            cut_read: 0.0,
            lose_notices: 0.0,
            repeat_notices: 0.0,
            lie: None,
        }
    }
}

/// The faults and the chance that decides on each.
#[derive(Debug)]
pub(super) struct Dice {
    pub chaos: Chaos,
    state: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { chaos: Chaos::default(), state: seed }
    }

    /// True in that share of calls. A share of 0 leaves the order of the others as it was.
    pub fn hits(&mut self, share: f64) -> bool {
        share > 0.0 && ((self.next() >> 11) as f64) < share * (1u64 << 53) as f64
    }

    /// Whether and where this write is cut.
    pub fn cut(&mut self) -> Option<CutAt> {
        if !self.hits(self.chaos.cut) {
            return None;
        }
        Some(match self.chaos.cut_at {
            CutAt::Anywhere => [CutAt::Before, CutAt::Middle, CutAt::After][(self.next() % 3) as usize],
            fixed => fixed,
        })
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_seeds_repeat() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..10_000).map(|_| dice.hits(0.3)).collect::<Vec<_>>()
        };
        let hits = rolls(1).into_iter().filter(|hit| *hit).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert_eq!(rolls(5), rolls(5));
        assert_ne!(rolls(5), rolls(6));
        let mut dice = Dice::new(1);
        assert!((0..1000).all(|_| dice.hits(1.0) && !dice.hits(0.0)));
    }
}
