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
        __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_clmulepi64_si128,
        _mm_cvtsi128_si64, _mm_set_epi64x, _mm_shuffle_epi32, _mm_slli_si128, _mm_xor_si128,
    };

    use fullnat::hash::{FlowHash, GROUP};

    /// Half of the AES-128 encryption (FIPS 197) of one block: what an IPv4 key is, and what an IPv6 key is
    /// [compressed](Aes128::compress) to under a key of its own.
    ///
    /// Without the key nobody can tell the cipher from a random permutation, and so from a random function.
    pub(super) struct Aes128 {
        round_keys: [__m128i; 11],
        /// Of the compression: one for each word of the addresses.
        address_keys: [__m128i; 2],
    }

    impl Aes128 {
        /// None when the CPU has no AES instructions, or none for carry-less multiplication.
        pub(super) fn new(key: [u64; 2]) -> Option<Self> {
            if !is_x86_feature_detected!("aes") || !is_x86_feature_detected!("pclmulqdq") {
                return None;
            }
            // SAFETY: the CPU has the instructions.
            let round_keys = unsafe { expand(block(key[0], key[1])) };
            // Blocks that no IPv4 key is: those end with their length.
            let mut address_keys = [block(0, 0), block(1, 0)];
            // SAFETY: as above.
            unsafe { encrypt(&round_keys, &mut address_keys) }
            Some(Aes128 { round_keys, address_keys })
        }

        #[target_feature(enable = "aes,pclmulqdq")]
        fn all_v4(&self, keys: &[[u64; 2]], hashes: &mut [u64]) {
            self.hash_all(keys, hashes, |&[low, high]| block(low, high));
        }

        #[target_feature(enable = "aes,pclmulqdq")]
        fn all_v6(&self, keys: &[[u64; 5]], hashes: &mut [u64]) {
            self.hash_all(keys, hashes, |key| self.compress(key));
        }

        /// The hash of each input by its block. An instruction takes a few cycles and the next one of the same block has to
        /// wait for it, but not one of another block: so a group goes through each round together.
        #[target_feature(enable = "aes,pclmulqdq")]
        fn hash_all<I>(&self, inputs: &[I], hashes: &mut [u64], block: impl Fn(&I) -> __m128i) {
            let (groups, rest) = inputs.as_chunks::<GROUP>();
            let (group_hashes, rest_hashes) = hashes.as_chunks_mut::<GROUP>();
            for (group, hashes) in groups.iter().zip(group_hashes) {
                let mut blocks = group.each_ref().map(&block);
                encrypt(&self.round_keys, &mut blocks);
                *hashes = blocks.map(low);
            }
            for (input, hash) in rest.iter().zip(rest_hashes) {
                let mut blocks = [block(input)];
                encrypt(&self.round_keys, &mut blocks);
                *hash = low(blocks[0]);
            }
        }

        /// Two products of the halves of an address, each with a secret added, and the ports, all added up as polynomials
        /// over two elements: NH of "UMAC: Fast and Secure Message Authentication" (Black et al., 1999) without carries.
        ///
        /// Two keys that differ in a word of an address become the same block for at most one of the 2⁶⁴ values that the
        /// secret of its other half may have, whatever the others are: the sum of both blocks is then that secret times
        /// what is not 0, plus what does not depend on it. Those that differ in the last word alone never do.
        #[target_feature(enable = "aes,pclmulqdq")]
        fn compress(&self, &[a, b, c, d, last]: &[u64; 5]) -> __m128i {
            let [src, dst] = self.address_keys;
            let (src, dst) = (_mm_xor_si128(src, block(a, b)), _mm_xor_si128(dst, block(c, d)));
            let products =
                _mm_xor_si128(_mm_clmulepi64_si128::<0x10>(src, src), _mm_clmulepi64_si128::<0x10>(dst, dst));
            _mm_xor_si128(products, block(last, 0))
        }
    }

    impl FlowHash for Aes128 {
        fn hash_v4(&self, keys: &[[u64; 2]], hashes: &mut [u64]) {
            // SAFETY: there is an Aes128 only where the CPU has the instructions.
            unsafe { self.all_v4(keys, hashes) }
        }

        fn hash_v6(&self, keys: &[[u64; 5]], hashes: &mut [u64]) {
            // SAFETY: as above.
            unsafe { self.all_v6(keys, hashes) }
        }
    }

    #[target_feature(enable = "aes,pclmulqdq")]
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
    #[target_feature(enable = "aes,pclmulqdq")]
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
        fn an_ipv6_key_is_compressed_and_encrypted() {
            /// Of polynomials over two elements, bit by bit.
            fn product(a: u64, b: u64) -> u128 {
                (0..64).filter(|bit| b >> bit & 1 != 0).fold(0, |sum, bit| sum ^ u128::from(a) << bit)
            }
            let Some(aes) = Aes128::new([3, 4]) else { return };
            let [[k0, k1], [k2, k3]] = aes.address_keys.map(halves);
            assert_ne!([k0, k1], [k2, k3]);
            let mut rng = 0x9e37_79b9_7f4a_7c15_u64;
            let mut word = || {
                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                rng
            };
            for _ in 0..100 {
                let key: [u64; 5] = std::array::from_fn(|_| word());
                let [a, b, c, d, last] = key;
                let sum = product(a ^ k0, b ^ k1) ^ product(c ^ k2, d ^ k3) ^ u128::from(last);
                let mut block = [block(sum as u64, (sum >> 64) as u64)];
                // SAFETY: there is an Aes128 only where the CPU has the instructions.
                unsafe { encrypt(&aes.round_keys, &mut block) }
                let mut hashes = [0];
                aes.hash_v6(&[key], &mut hashes);
                assert_eq!(hashes, [low(block[0])]);
            }
        }
    }
}
