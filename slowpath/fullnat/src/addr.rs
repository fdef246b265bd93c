//! The two address families behind one trait, so that a session, a table or a rewrite is written once.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hash::FlowHash;

/// An IP address of one family. Implemented by [`Ipv4Addr`] and [`Ipv6Addr`] only.
pub trait Addr: Copy + Eq + Ord + Hash + Debug + Display + Send + Sync + Into<IpAddr> + 'static {
    /// A flow key of this family as words: see [`FlowKey::words`](crate::flow::FlowKey::words).
    type KeyWords: Copy + Default;

    /// Length on the wire in bytes.
    const LEN: usize;
    /// True for IPv6.
    const IS_V6: bool;
    /// The address 0.0.0.0 or ::.
    const UNSPECIFIED: Self;

    /// Reads the address from the first [`Addr::LEN`] bytes, in network order. Shorter input is the caller's error
    /// and panics; parsers check lengths first.
    fn read(bytes: &[u8]) -> Self;
    /// Writes the address in network order to the first [`Addr::LEN`] bytes.
    fn write(self, bytes: &mut [u8]);
    /// The sum of the addresses' 16-bit words as they lie in memory, for [`Change`](crate::wire::checksum::Change): any
    /// number below 2^34 that is congruent to it modulo 65 535, and 0 only for addresses of zeros. There are two at most.
    fn memory_sum<const N: usize>(addresses: [Self; N]) -> u64;
    /// The address's bits as two 64-bit words, for hashing. IPv4 fills the low half of the second word.
    fn words(self) -> [u64; 2];
    /// Puts the words of a flow key together; `last` has the ports and the protocol in its five low bytes.
    fn key_words(src: Self, dst: Self, last: u64) -> Self::KeyWords;
    /// Whether two flow keys are the same, without a branch on each word.
    fn same_words(a: &Self::KeyWords, b: &Self::KeyWords) -> bool;
    /// The hashes of flow keys. The slices are of one length.
    fn hash_keys(hasher: &(impl FlowHash + ?Sized), keys: &[Self::KeyWords], hashes: &mut [u64]);
    /// The address when `ip` is of this family.
    fn from_ip(ip: IpAddr) -> Option<Self>;
    /// The address with all bits behind the first `len` cleared; itself when `len` is its length or more.
    fn masked(self, len: u8) -> Self;
    /// Of a list for each family, the one of this family.
    fn pick<'a>(v4: &'a [Ipv4Addr], v6: &'a [Ipv6Addr]) -> &'a [Self];
}

/// Whether the first `len` bits of both addresses are the same; false for addresses of two families.
pub fn same_prefix(a: IpAddr, b: IpAddr, len: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(len),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(len),
        _ => false,
    }
}

impl Addr for Ipv4Addr {
    type KeyWords = [u64; 2];

    const LEN: usize = 4;
    const IS_V6: bool = false;
    const UNSPECIFIED: Self = Ipv4Addr::UNSPECIFIED;

    #[inline(always)]
    fn read(bytes: &[u8]) -> Self {
        Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
    }

    #[inline(always)]
    fn write(self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.octets());
    }

    #[inline(always)]
    fn memory_sum<const N: usize>(addresses: [Self; N]) -> u64 {
        addresses.iter().map(|address| u64::from(u32::from_ne_bytes(address.octets()))).sum()
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [0, u64::from(self.to_bits())]
    }

    #[inline(always)]
    fn key_words(src: Self, dst: Self, last: u64) -> [u64; 2] {
        // Whole words as they lie in the packet, so that they are one load of it.
        let [src, dst] = [src, dst].map(|address| u64::from(u32::from_le_bytes(address.octets())));
        [src | dst << 32, last | 13 << 56]
    }

    #[inline(always)]
    fn same_words(a: &[u64; 2], b: &[u64; 2]) -> bool {
        (a[0] ^ b[0]) | (a[1] ^ b[1]) == 0
    }

    #[inline(always)]
    fn hash_keys(hasher: &(impl FlowHash + ?Sized), keys: &[[u64; 2]], hashes: &mut [u64]) {
        hasher.hash_v4(keys, hashes);
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }
    }

    fn masked(self, len: u8) -> Self {
        let host = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
        Ipv4Addr::from_bits(self.to_bits() & !host)
    }

    fn pick<'a>(v4: &'a [Ipv4Addr], _: &'a [Ipv6Addr]) -> &'a [Self] {
        v4
    }
}

impl Addr for Ipv6Addr {
    type KeyWords = [u64; 5];

    const LEN: usize = 16;
    const IS_V6: bool = true;
    const UNSPECIFIED: Self = Ipv6Addr::UNSPECIFIED;

    #[inline(always)]
    fn read(bytes: &[u8]) -> Self {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[..16]);
        Ipv6Addr::from(octets)
    }

    #[inline(always)]
    fn write(self, bytes: &mut [u8]) {
        bytes[..16].copy_from_slice(&self.octets());
    }

    #[inline(always)]
    fn memory_sum<const N: usize>(addresses: [Self; N]) -> u64 {
        // Larger words add up to a congruent sum (RFC 1071 section 2C), in fewer additions.
        let mut sum: u128 = 0;
        for address in addresses {
            let octets = address.octets();
            let (words, _) = octets.as_chunks::<8>();
            sum += words.iter().map(|word| u128::from(u64::from_ne_bytes(*word))).sum::<u128>();
        }
        let (low, carries) = (sum as u64, (sum >> 64) as u64);
        (low & 0xffff_ffff) + (low >> 32) + carries
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        let bits = self.to_bits();
        [(bits >> 64) as u64, bits as u64]
    }

    #[inline(always)]
    fn key_words(src: Self, dst: Self, last: u64) -> [u64; 5] {
        let word = |octets: [u8; 16], half: usize| {
            let (halves, _) = octets.as_chunks::<8>();
            u64::from_le_bytes(halves[half])
        };
        let (src, dst) = (src.octets(), dst.octets());
        [word(src, 0), word(src, 1), word(dst, 0), word(dst, 1), last | 37 << 56]
    }

    #[inline(always)]
    fn same_words(a: &[u64; 5], b: &[u64; 5]) -> bool {
        a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
    }

    #[inline(always)]
    fn hash_keys(hasher: &(impl FlowHash + ?Sized), keys: &[[u64; 5]], hashes: &mut [u64]) {
        hasher.hash_v6(keys, hashes);
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip),
        }
    }

    fn masked(self, len: u8) -> Self {
        let host = u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
        Ipv6Addr::from_bits(self.to_bits() & !host)
    }

    fn pick<'a>(_: &'a [Ipv4Addr], v6: &'a [Ipv6Addr]) -> &'a [Self] {
        v6
    }
}
