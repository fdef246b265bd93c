//! Walking the options of a TCP header.

/// End of the option list.
pub(crate) const EOL: u8 = 0;
/// No operation: padding between options.
pub(crate) const NOP: u8 = 1;
/// Maximum segment size, on a SYN.
pub(crate) const MSS: u8 = 2;

/// One option of a list, other than NOP and EOL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opt {
    /// Offset of its kind byte in the list.
    pub at: usize,
    /// Its kind.
    pub kind: u8,
    /// Its length with kind and length byte; at least 2, and inside the list.
    pub len: usize,
}

/// Walks an option list as Linux does: NOPs are skipped, and the list ends at an EOL or at the first option whose
/// length is impossible.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// Walks the option bytes of a header.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Options { bytes, at: 0 }
    }

    /// Once the walk is over: where it ended. The length of the list when it was used up, else the offset of the EOL or
    /// of the impossible option.
    pub fn ended_at(&self) -> usize {
        self.at
    }
}

impl Iterator for Options<'_> {
    type Item = Opt;

    #[inline]
    fn next(&mut self) -> Option<Opt> {
        loop {
            match *self.bytes.get(self.at)? {
                EOL => return None,
                NOP => self.at += 1,
                kind => {
                    let len = usize::from(*self.bytes.get(self.at + 1)?);
                    if len < 2 || len > self.bytes.len() - self.at {
                        return None;
                    }
                    let at = self.at;
                    self.at += len;
                    return Some(Opt { at, kind, len });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(bytes: &[u8]) -> (Vec<u8>, usize) {
        let mut walk = Options::new(bytes);
        let kinds = walk.by_ref().map(|option| option.kind).collect();
        (kinds, walk.ended_at())
    }

    #[test]
    fn walks_what_linux_sends() {
        let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(kinds(&syn), (vec![2, 4, 8, 3], 20));
    }

    #[test]
    fn ends_at_eol_and_at_impossible_lengths() {
        assert_eq!(kinds(&[1, 1, 0, 2, 4, 5, 5, 5]), (vec![], 2));
        assert_eq!(kinds(&[4, 2, 254, 1, 0, 0, 0, 0]), (vec![4], 2));
        assert_eq!(kinds(&[4, 2, 254, 7, 0, 0, 0, 0]), (vec![4], 2));
        assert_eq!(kinds(&[1, 1, 1, 254]), (vec![], 3));
        assert_eq!(kinds(&[]), (vec![], 0));
    }

    proptest! {
        #[test]
        fn stays_inside_any_list(bytes in proptest::collection::vec(any::<u8>(), 0..=40)) {
            let mut walk = Options::new(&bytes);
            let mut behind = 0;
            for option in walk.by_ref() {
                prop_assert!(option.at >= behind && option.len >= 2);
                behind = option.at + option.len;
                prop_assert!(behind <= bytes.len());
            }
            prop_assert!(walk.ended_at() >= behind && walk.ended_at() <= bytes.len());
            prop_assert_eq!(walk.next(), None);
        }
    }
}
