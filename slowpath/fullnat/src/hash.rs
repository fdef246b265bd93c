//! The keyed hash of a flow key.
//!
//! Keyed, because clients choose their ports and, with IPv6, much of their address: with a hash they can compute they
//! could fill one bucket of the [index](crate::index) and turn every lookup into a walk. The key is drawn at start and never
//! leaves the process.
//!
//! Which hash it is depends on the machine, so the caller chooses. The one here runs on any: SipHash, made for such
//! inputs ("SipHash: a fast short-input PRF", Aumasson and Bernstein, 2012); the 1-3 variant keeps its margin for hash
//! tables and is what Rust's own maps use.

use crate::addr::Addr;
use crate::flow::FlowKey;
use crate::id::Proto;

/// Most keys that are hashed at once.
pub const GROUP: usize = 8;

/// A hash of flow keys with a secret of its own, of several at once: what one waits for, the others fill. All 64 bits of a
/// hash are used: high bits choose the bucket, low bits the tag.
pub trait FlowHash: Send + Sync {
    /// The hashes of IPv4 keys, in the form of [`FlowKey::words`]. The slices are of one length.
    fn hash_v4(&self, keys: &[[u64; 2]], hashes: &mut [u64]);
    /// The same for IPv6.
    fn hash_v6(&self, keys: &[[u64; 5]], hashes: &mut [u64]);
}

impl<H: FlowHash + ?Sized> FlowHash for std::sync::Arc<H> {
    #[inline]
    fn hash_v4(&self, keys: &[[u64; 2]], hashes: &mut [u64]) {
        (**self).hash_v4(keys, hashes);
    }

    #[inline]
    fn hash_v6(&self, keys: &[[u64; 5]], hashes: &mut [u64]) {
        (**self).hash_v6(keys, hashes);
    }
}

impl<A: Addr> FlowKey<A> {
    /// The key as words, for hashing and comparing: source, destination, source port, destination port, all as on the wire,
    /// and protocol as the bytes of little-endian words, and the length in the last byte. 13 bytes make two words, the 37
    /// of IPv6 five.
    #[inline(always)]
    pub fn words(&self) -> A::KeyWords {
        words([self.src, self.dst], [self.sport.to_be(), self.dport.to_be()], self.proto)
    }

    /// The hash of this key alone.
    pub fn hash(&self, hasher: &(impl FlowHash + ?Sized)) -> u64 {
        let mut hashes = [0];
        A::hash_keys(hasher, &[self.words()], &mut hashes);
        hashes[0]
    }
}

/// The words of a key whose ports are in network byte order.
#[inline(always)]
pub(crate) fn words<A: Addr>([src, dst]: [A; 2], ports: [u16; 2], proto: Proto) -> A::KeyWords {
    let [sport, dport] = ports.map(|port| u64::from(u16::from_le_bytes(port.to_ne_bytes())));
    A::key_words(src, dst, sport | dport << 16 | (proto as u64) << 32)
}

/// SipHash-1-3 of a flow key, on any machine.
///
/// The last of the [words](FlowKey::words) ends with the length as SipHash's padding does, so no byte is buffered.
#[derive(Clone, Copy, Debug)]
pub struct FlowHasher {
    k0: u64,
    k1: u64,
}

impl FlowHasher {
    /// A hasher with the 128-bit key `k0`, `k1`, which should be random and secret.
    pub fn new(k0: u64, k1: u64) -> Self {
        FlowHasher { k0, k1 }
    }

    /// SipHash-1-3 over whole words; the last word holds the length or something else that tells inputs apart.
    #[inline(always)]
    pub fn words(&self, words: impl IntoIterator<Item = u64>) -> u64 {
        // Initial constants and rounds of SipHash, section 2.1 of the paper, with c = 1 and d = 3.
        let mut state = Sip([
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ]);
        // Not a loop, which would ask a chain of two parts at each word in which of them it is.
        words.into_iter().for_each(|word| {
            state.0[3] ^= word;
            state.round();
            state.0[0] ^= word;
        });
        state.0[2] ^= 0xff;
        state.round();
        state.round();
        state.round();
        state.0[0] ^ state.0[1] ^ state.0[2] ^ state.0[3]
    }
}

impl FlowHash for FlowHasher {
    fn hash_v4(&self, keys: &[[u64; 2]], hashes: &mut [u64]) {
        for (&key, hash) in keys.iter().zip(hashes) {
            *hash = self.words(key);
        }
    }

    fn hash_v6(&self, keys: &[[u64; 5]], hashes: &mut [u64]) {
        for (&key, hash) in keys.iter().zip(hashes) {
            *hash = self.words(key);
        }
    }
}

struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::testing::Rng;

    fn reference(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
        let mut sip = siphasher::sip::SipHasher13::new_with_keys(k0, k1);
        sip.write(bytes);
        sip.finish()
    }

    fn ports_and_proto<A>(key: &FlowKey<A>, bytes: &mut Vec<u8>) {
        bytes.extend(key.sport.to_be_bytes());
        bytes.extend(key.dport.to_be_bytes());
        bytes.push(key.proto as u8);
    }

    #[test]
    fn agrees_with_an_independent_siphash() {
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            let (k0, k1) = (rng.u64(), rng.u64());
            let proto = if rng.chance(1, 2) { Proto::Tcp } else { Proto::Udp };
            let (sport, dport) = (rng.u16(), rng.u16());

            let (src, dst) = (Ipv4Addr::from_bits(rng.u32()), Ipv4Addr::from_bits(rng.u32()));
            let key = FlowKey { src, dst, sport, dport, proto };
            let mut bytes = [src.octets(), dst.octets()].concat();
            ports_and_proto(&key, &mut bytes);
            assert_eq!(bytes.len(), 13);
            assert_eq!(key.hash(&FlowHasher::new(k0, k1)), reference(k0, k1, &bytes));

            let mut v6 = || Ipv6Addr::from_bits(u128::from(rng.u64()) << 64 | u128::from(rng.u64()));
            let (src, dst) = (v6(), v6());
            let key = FlowKey { src, dst, sport, dport, proto };
            let mut bytes = [src.octets(), dst.octets()].concat();
            ports_and_proto(&key, &mut bytes);
            assert_eq!(bytes.len(), 37);
            assert_eq!(key.hash(&FlowHasher::new(k0, k1)), reference(k0, k1, &bytes));
        }
    }
}
