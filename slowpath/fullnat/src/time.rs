//! Time as an argument: milliseconds since an origin the caller chooses.

/// A moment, in milliseconds since the caller's origin (the daemon takes its start). Never wraps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The moment `ms` milliseconds later.
    #[inline(always)]
    pub fn after(self, ms: u64) -> Time {
        Time(self.0 + ms)
    }

    /// Milliseconds from `earlier` to this moment; 0 when `earlier` is not earlier.
    #[inline(always)]
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the origin. Wraps after 136 years.
    #[inline(always)]
    pub fn seconds(self) -> u32 {
        (self.0 / 1000) as u32
    }

    /// The low 32 bits, for compact storage beside a packet's other state. Wraps after 49.7 days; read it back with
    /// [`Time::expand`] within 24 days.
    #[inline(always)]
    pub fn short(self) -> u32 {
        self.0 as u32
    }

    /// The moment whose [`Time::short`] is `short` and that is nearest before (or just after) this one.
    #[inline(always)]
    pub fn expand(self, short: u32) -> Time {
        let ago = (self.0 as u32).wrapping_sub(short) as i32;
        Time(self.0.saturating_add_signed(-i64::from(ago)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_expand_over_the_wrap() {
        let now = Time((1 << 32) + 5);
        assert_eq!(now.expand(now.short()), now);
        assert_eq!(now.expand(Time((1 << 32) - 10).short()), Time((1 << 32) - 10));
        assert_eq!(now.expand(Time((1 << 32) + 9).short()), Time((1 << 32) + 9));
        assert_eq!(Time(3).expand(3), Time(3));
    }
}
