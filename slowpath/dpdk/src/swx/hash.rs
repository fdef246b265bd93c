//! The hash of long keys.

use std::ffi::c_void;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use fullnat::hash::FlowHasher;

/// Keys above this many bytes are hashed by [`keyed`]. Shorter ones name things of our own, next hops or ports; DPDK's CRC
/// does for them.
pub(super) const LONG: u32 = 8;

/// A hash with a key of this process, as DPDK's tables call it: SipHash-1-3.
///
/// Clients choose much of the keys of flows. With a CRC they could compute which fall together, and make of every lookup
/// a walk.
///
/// # Safety
/// `key` has `length` bytes.
pub(super) unsafe extern "C" fn keyed(key: *const c_void, length: u32, _seed: u32) -> u32 {
    static KEY: OnceLock<FlowHasher> = OnceLock::new();
    // SAFETY: the caller's promise.
    let key = unsafe { std::slice::from_raw_parts(key.cast::<u8>(), length as usize) };
    // The standard library has random keys and gives away only hashes by them, which are as random.
    let half = |half: u8| RandomState::new().hash_one(half);
    let hash = sip(KEY.get_or_init(|| FlowHasher::new(half(0), half(1))), key);
    // The low bits choose the bucket, the high ones tell its entries apart.
    (hash ^ hash >> 32) as u32
}

/// SipHash-1-3. Tables hash a key at once, which the standard library's hasher, made for pieces, takes twice as long for.
#[inline]
fn sip(secret: &FlowHasher, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let rest = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    // The last word has the length in its first byte.
    let last = rest | (bytes.len() as u64) << 56;
    secret.words(words.iter().map(|word| u64::from_le_bytes(*word)).chain([last]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: &[u8]) -> u32 {
        // SAFETY: the length is that of the key.
        unsafe { keyed(key.as_ptr().cast(), key.len() as u32, 0) }
    }

    #[test]
    fn agrees_with_an_independent_siphash() {
        use std::hash::Hasher;

        let bytes: Vec<u8> = (0..40u8).map(|byte| byte.wrapping_mul(37)).collect();
        for length in 0..=bytes.len() {
            let (k0, k1) = (0x0706_0504_0302_0100 + length as u64, 0x0f0e_0d0c_0b0a_0908);
            let mut other = siphasher::sip::SipHasher13::new_with_keys(k0, k1);
            other.write(&bytes[..length]);
            assert_eq!(sip(&FlowHasher::new(k0, k1), &bytes[..length]), other.finish(), "{length} bytes");
        }
    }

    #[test]
    fn keys_spread_and_stay_where_they_are() {
        const BUCKETS: usize = 1024;
        let mut buckets = vec![0; BUCKETS];
        for port in 0..16 * BUCKETS as u32 {
            // Flows of one client: a few bits differ.
            let mut key = [0x5a; 13];
            key[9..13].copy_from_slice(&port.to_le_bytes());
            assert_eq!(hash(&key), hash(&key.clone()));
            buckets[hash(&key) as usize % BUCKETS] += 1;
        }
        // 16 on the average; six standard deviations to each side.
        assert!(buckets.iter().all(|count| *count < 16 + 6 * 4), "{:?}", buckets.iter().max());
        assert!(buckets.iter().filter(|count| **count == 0).count() < 3);
    }

    #[test]
    fn keys_that_a_crc_takes_for_one_are_two() {
        // CRC is linear: the polynomial itself (Castagnoli's, in the order of bits that CRC-32C has them), added anywhere
        // to a key, changes nothing.
        let mut other = [7; 16];
        let polynomial = 0x1_05ec_76f1u64 << 3;
        for (byte, bits) in other.iter_mut().zip(polynomial.to_le_bytes()) {
            *byte ^= bits;
        }
        assert_eq!(crc32c(&[7; 16]), crc32c(&other), "the pair is what it should be");
        assert_ne!(hash(&[7; 16]), hash(&other));
    }

    /// CRC-32C without its complements, which is what DPDK's function computes for a seed of 0.
    fn crc32c(bytes: &[u8]) -> u32 {
        let mut crc = 0u32;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        crc
    }
}
