//! The flow hash that suits the machine: AES where the CPU has instructions for it, else SipHash.
//!
//! Either is a pseudo-random function of a secret key, so that clients, who choose their ports and addresses, cannot
//! choose where in the session index they go; see `docs/src/decisions/session-index.md`.

use std::sync::Arc;

use fullnat::hash::{FlowHash, FlowHasher};

/// The fastest keyed flow hash there is for this machine. The key should be random and secret.
pub fn flow_hash(key: [u64; 2]) -> Arc<dyn FlowHash> {
    #[cfg(target_arch = "x86_64")]
    if let Some(aes) = aes::Aes128::new(key) {
        return Arc::new(aes);
    }
    Arc::new(FlowHasher::new(key[0], key[1]))
}

#[cfg(target_arch = "x86_64")]
mod aes {
    use std::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_cvtsi128_si64, _mm_set_epi64x,
        _mm_setzero_si128, _mm_shuffle_epi32, _mm_slli_si128, _mm_xor_si128,
    };

    use fullnat::hash::{FlowHash, GROUP};

    /// AES-128 (FIPS 197) of the one block that an IPv4 key is, and CBC-MAC over the three blocks of an IPv6 key. The hash
    /// is half of the last block.
    ///
    /// Without the key nobody can tell the cipher from a random permutation, nor the CBC-MAC over inputs of one length
    /// from a random function (Bellare, Kilian and Rogaway, "The Security of the Cipher Block Chaining Message
    /// Authentication Code").
    pub(super) struct Aes128 {
        round_keys: [__m128i; 11],
    }

    impl Aes128 {
        /// None when the CPU has no AES instructions.
        pub(super) fn new(key: [u64; 2]) -> Option<Self> {
            // SAFETY: called only where the CPU has the instructions.
            is_x86_feature_detected!("aes").then(|| Aes128 { round_keys: unsafe { expand(block(key[0], key[1])) } })
        }
    }

    impl FlowHash for Aes128 {
        fn hash_v4(&self, keys: &[[u64; 2]], hashes: &mut [u64]) {
            // SAFETY: there is an Aes128 only where the CPU has the instructions.
            unsafe { hash_all(&self.round_keys, keys, hashes) }
        }

        fn hash_v6(&self, keys: &[[u64; 5]], hashes: &mut [u64]) {
            // SAFETY: as above.
            unsafe { hash_all(&self.round_keys, keys, hashes) }
        }
    }

    /// The MAC of each input of `W` words. An instruction takes a few cycles and the next one of the same block has to wait
    /// for it, but not one of another block: so a group goes through each round together.
    #[target_feature(enable = "aes")]
    fn hash_all<const W: usize>(round_keys: &[__m128i; 11], inputs: &[[u64; W]], hashes: &mut [u64]) {
        let (groups, rest) = inputs.as_chunks::<GROUP>();
        let (group_hashes, rest_hashes) = hashes.as_chunks_mut::<GROUP>();
        for (group, hashes) in groups.iter().zip(group_hashes) {
            *hashes = mac(round_keys, group);
        }
        for (&input, hash) in rest.iter().zip(rest_hashes) {
            [*hash] = mac(round_keys, &[input]);
        }
    }

    #[target_feature(enable = "aes")]
    fn mac<const W: usize, const N: usize>(round_keys: &[__m128i; 11], inputs: &[[u64; W]; N]) -> [u64; N] {
        let mut states = [_mm_setzero_si128(); N];
        for at in (0..W).step_by(2) {
            for (state, input) in states.iter_mut().zip(inputs) {
                let high = if at + 1 < W { input[at + 1] } else { 0 };
                *state = _mm_xor_si128(*state, block(input[at], high));
            }
            encrypt(round_keys, &mut states);
        }
        states.map(low)
    }

    #[target_feature(enable = "aes")]
    fn encrypt<const N: usize>(round_keys: &[__m128i; 11], blocks: &mut [__m128i; N]) {
        let [first, middle @ .., last] = round_keys;
        for block in blocks.iter_mut() {
            *block = _mm_xor_si128(*block, *first);
        }
        for key in middle {
            for block in blocks.iter_mut() {
                *block = _mm_aesenc_si128(*block, *key);
            }
        }
        for block in blocks {
            *block = _mm_aesenclast_si128(*block, *last);
        }
    }

    /// The key schedule, FIPS 197 section 5.2.
    #[target_feature(enable = "aes")]
    fn expand(key: __m128i) -> [__m128i; 11] {
        let mut keys = [key; 11];
        let mut next = |at: usize, assisted: __m128i| {
            // Each word of the next key is the exclusive or of all words up to it and of the assisted one.
            let words = _mm_xor_si128(keys[at], _mm_slli_si128::<4>(keys[at]));
            let words = _mm_xor_si128(words, _mm_slli_si128::<8>(words));
            keys[at + 1] = _mm_xor_si128(words, _mm_shuffle_epi32::<0xff>(assisted));
            keys[at + 1]
        };
        let key = next(0, _mm_aeskeygenassist_si128::<0x01>(key));
        let key = next(1, _mm_aeskeygenassist_si128::<0x02>(key));
        let key = next(2, _mm_aeskeygenassist_si128::<0x04>(key));
        let key = next(3, _mm_aeskeygenassist_si128::<0x08>(key));
        let key = next(4, _mm_aeskeygenassist_si128::<0x10>(key));
        let key = next(5, _mm_aeskeygenassist_si128::<0x20>(key));
        let key = next(6, _mm_aeskeygenassist_si128::<0x40>(key));
        let key = next(7, _mm_aeskeygenassist_si128::<0x80>(key));
        let key = next(8, _mm_aeskeygenassist_si128::<0x1b>(key));
        next(9, _mm_aeskeygenassist_si128::<0x36>(key));
        keys
    }

    #[inline(always)]
    fn block(low: u64, high: u64) -> __m128i {
        // SAFETY: SSE2 is part of x86_64.
        unsafe { _mm_set_epi64x(high.cast_signed(), low.cast_signed()) }
    }

    #[inline(always)]
    fn low(block: __m128i) -> u64 {
        // SAFETY: SSE2 is part of x86_64.
        unsafe { _mm_cvtsi128_si64(block) }.cast_unsigned()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn halves(block: __m128i) -> [u64; 2] {
            // SAFETY: SSE2 is part of x86_64.
            [low(block), low(unsafe { _mm_shuffle_epi32::<0b01_00_11_10>(block) })]
        }

        fn words(bytes: [u8; 16]) -> [u64; 2] {
            let bits = u128::from_le_bytes(bytes);
            [bits as u64, (bits >> 64) as u64]
        }

        #[test]
        fn the_example_of_fips_197() {
            // Appendix C.1.
            let Some(aes) = Aes128::new(words(std::array::from_fn(|i| i as u8))) else { return };
            let [a, b] = words(std::array::from_fn(|i| i as u8 * 0x11));
            let mut blocks = [block(a, b); 3];
            // SAFETY: there is an Aes128 only where the CPU has the instructions.
            unsafe { encrypt(&aes.round_keys, &mut blocks) }
            let cipher = words(0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a_u128.to_be_bytes());
            assert_eq!(blocks.map(halves), [cipher; 3]);
            let mut hashes = [0; 1];
            aes.hash_v4(&[[a, b]], &mut hashes);
            assert_eq!(hashes, [cipher[0]]);
        }

        #[test]
        fn each_hash_is_that_of_its_key_alone() {
            let Some(aes) = Aes128::new([1, 2]) else { return };
            let word = |i: usize, j: usize| ((i * 31 + j + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for len in 0..3 * GROUP {
                let v4: Vec<[u64; 2]> = (0..len).map(|i| std::array::from_fn(|j| word(i, j))).collect();
                let v6: Vec<[u64; 5]> = (0..len).map(|i| std::array::from_fn(|j| word(i, j))).collect();
                let (mut hashes_v4, mut hashes_v6) = (vec![0; len], vec![0; len]);
                aes.hash_v4(&v4, &mut hashes_v4);
                aes.hash_v6(&v6, &mut hashes_v6);
                for at in 0..len {
                    let (mut alone_v4, mut alone_v6) = ([0], [0]);
                    aes.hash_v4(&v4[at..=at], &mut alone_v4);
                    aes.hash_v6(&v6[at..=at], &mut alone_v6);
                    assert_eq!(([hashes_v4[at]], [hashes_v6[at]]), (alone_v4, alone_v6));
                }
            }
        }

        #[test]
        fn a_mac_chains_the_blocks() {
            let Some(aes) = Aes128::new([3, 4]) else { return };
            let mut state = [block(0, 0)];
            for (a, b) in [(10, 11), (12, 13), (14, 0)] {
                let [low, high] = halves(state[0]);
                state = [block(low ^ a, high ^ b)];
                // SAFETY: there is an Aes128 only where the CPU has the instructions.
                unsafe { encrypt(&aes.round_keys, &mut state) }
            }
            let mut hashes = [0];
            aes.hash_v6(&[[10, 11, 12, 13, 14]], &mut hashes);
            assert_eq!(hashes, [low(state[0])]);
        }
    }
}
