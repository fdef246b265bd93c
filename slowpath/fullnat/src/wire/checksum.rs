//! The Internet checksum: the plain sum of RFC 1071 and the incremental update of RFC 1624.
//!
//! Sums are ones' complement: numbers modulo 65 535 in which 0 and 0xffff are the same. An unfolded sum (`u32`) is any
//! number congruent to it, so that partial sums of a few words are just added. The update is equation 3 of RFC 1624,
//! `HC' = ~(~HC + ~m + m')`: it moves a checksum by exactly what the data moved, so that one that was wrong stays
//! wrong by as much.

use crate::addr::Addr;

/// The 16-bit ones' complement sum congruent to `sum`; 0 only for 0.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    // 2^32, 2^16 and 1 are congruent modulo 65 535, so halves may be added in any width.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    // What is over 16 bits now is at most 4, so the end-around carry of this addition cannot carry again.
    let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
    sum + u16::from(carry)
}

/// The RFC 1071 sum of bytes as big-endian 16-bit words, an odd last byte padded with zero. Not complemented.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(4);
    // 2^32 additions of 32-bit words fit; a frame has fewer bytes than that.
    let mut total: u64 = 0;
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    fold(total + u64::from(u32::from_be_bytes(last)))
}

/// The checksum field for data with this unfolded sum.
#[inline(always)]
pub fn finish(sum: u32) -> u16 {
    !fold(u64::from(sum))
}

/// The sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 8200 section 8.1), unfolded.
#[inline(always)]
pub fn pseudo_header<A: Addr>(src: A, dst: A, proto: u8, len: u16) -> u32 {
    let addresses = u16::from_be(fold(A::memory_sum([src, dst])));
    u32::from(addresses) + u32::from(proto) + u32::from(len)
}

/// True when the checksum of an IPv4 header without options is right. Its version must have been checked.
#[inline(always)]
pub fn ipv4_header_is_right(header: &[u8; 20]) -> bool {
    // Ones' complement addition does not care about byte order (RFC 1071 section 2B), so the words are added as they
    // lie in memory.
    let (words, _) = header.as_chunks::<4>();
    let mut total: u64 = 0;
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    // A sum that folds to 0xffff is a multiple of it. It is not 0, the other one, unless the header is all zeros; a header
    // has a version.
    total.is_multiple_of(0xffff)
}

/// The 16-bit words that one operation replaces, gathered so that each checksum over them is updated once.
///
/// What is added up are words as they lie in memory, whatever the machine's byte order: a sum of swapped words is the
/// swapped sum (RFC 1071 section 2B), so the words of a packet need no swapping on their way in and out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// New words, and the complements of the old ones.
    sum: u64,
}

impl Change {
    /// Notes that the 16-bit word `old` becomes `new`, both in host byte order.
    #[inline(always)]
    pub fn word(&mut self, old: u16, new: u16) {
        self.sums(u64::from(old.to_be()), u64::from(new.to_be()));
    }

    /// Notes that words with the unfolded sum `old` become words with the sum `new`, as [`Addr::memory_sum`] gives them:
    /// sums below 2^48.
    #[inline(always)]
    pub fn sums(&mut self, old: u64, new: u64) {
        // A multiple of 65 535, from which any sum can be taken.
        const ZERO: u64 = 0xffff << 32;
        self.sum += ZERO - old + new;
    }

    /// Notes all that another change holds.
    #[inline(always)]
    pub fn also(&mut self, other: Change) {
        self.sum += other.sum;
    }

    /// The checksum after the change, in host byte order as is `check`.
    ///
    /// Never gives 0xffff: of the two ways to write zero it takes 0x0000, as a checksum computed from scratch would be. That
    /// is right for IPv4, TCP and ICMP; UDP needs [`Change::apply_udp`].
    #[inline(always)]
    pub fn apply(self, check: u16) -> u16 {
        // Not 0 before it is folded, so not after.
        u16::from_be(!fold(self.sum + 0xffff + u64::from(!check.to_be())))
    }

    /// As [`Change::apply`] for a UDP checksum: 0 means there is none and stays, and a computed 0 is sent as 0xffff (RFC 768).
    ///
    /// Over IPv6 a zero checksum is legal for some tunnels only (RFC 6935). It stays zero as well: whoever would refuse the
    /// datagram before the change refuses it after.
    #[inline(always)]
    pub fn apply_udp(self, check: u16) -> u16 {
        if check == 0 {
            return 0;
        }
        match self.apply(check) {
            0 => 0xffff,
            check => check,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::plain_sum;
    use proptest::prelude::*;

    fn change(old: u16, new: u16) -> Change {
        let mut change = Change::default();
        change.word(old, new);
        change
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: the header whose checksum equation 2 gets wrong.
        assert_eq!(change(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn folds_every_carry() {
        for sum in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX, u64::MAX - 1, 0xffff_0000_ffff_0001] {
            let want = if sum == 0 { 0 } else { (sum - 1) % 65535 + 1 };
            assert_eq!(u64::from(fold(sum)), want, "{sum:#x}");
        }
    }

    #[test]
    fn a_udp_checksum_keeps_none_and_zero_apart() {
        assert_eq!(change(1, 2).apply_udp(0), 0);
        assert_eq!(change(0x5555, 0x3285).apply(0xdd2f), 0);
        assert_eq!(change(0x5555, 0x3285).apply_udp(0xdd2f), 0xffff);
        assert_eq!(change(7, 7).apply_udp(0xffff), 0xffff);
    }

    proptest! {
        #[test]
        fn sum_is_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), plain_sum(&bytes));
        }

        #[test]
        fn fold_is_the_remainder(sum: u64) {
            let want = if sum == 0 { 0 } else { (sum - 1) % 65535 + 1 };
            prop_assert_eq!(u64::from(fold(sum)), want);
        }

        /// Whatever the checksum was off by before, it is off by the same afterwards.
        #[test]
        fn update_moves_with_the_data(
            old in proptest::collection::vec(any::<u16>(), 1..20),
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![Just(0), Just(0xffff), any::<u16>()]), 0..20),
            check: u16,
        ) {
            let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
            let mut new = old.clone();
            let mut change = Change::default();
            for (at, value) in edits {
                let word = at.get_mut(&mut new);
                change.word(*word, value);
                *word = value;
            }
            let updated = change.apply(check);
            let error = |words: &[u16], check: u16| (u32::from(plain_sum(&bytes(words))) + u32::from(check)) % 65535;
            prop_assert_eq!(error(&old, check), error(&new, updated));
            prop_assert_ne!(updated, 0xffff);
            if check != 0 {
                let udp = change.apply_udp(check);
                prop_assert!(udp != 0);
                prop_assert_eq!(error(&old, check), error(&new, udp));
            }
        }
    }
}
