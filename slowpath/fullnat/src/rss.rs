//! Which receive queue a NIC puts a packet on: the Toeplitz hash of receive-side scaling, as Microsoft's RSS
//! specification defines it and as NICs compute it, and the redirection table behind it.
//!
//! A worker that knows this can choose a local port whose return packets come to its own queue.

use std::fmt;

use crate::addr::Addr;
use crate::flow::FlowKey;

/// The longest input: two IPv6 addresses and two ports, bytes.
const INPUT: usize = 36;

/// Bytes of key the longest input needs: a window of 32 bits from each bit of it on.
pub const MIN_KEY: usize = INPUT + 4;

/// Why a key or a redirection table cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RssError {
    /// The key has fewer than [`MIN_KEY`] bytes.
    ShortKey,
    /// The redirection table has no entries.
    EmptyTable,
}

impl fmt::Display for RssError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RssError::ShortKey => write!(f, "the RSS key is shorter than {MIN_KEY} bytes"),
            RssError::EmptyTable => f.write_str("the RSS redirection table is empty"),
        }
    }
}

impl std::error::Error for RssError {}

/// The Toeplitz hash with one key.
///
/// The hash is the sum modulo 2, over the set bits of the input, of the 32 bits of the key from that bit on. Sums over
/// four bits are computed ahead, one table of 16 for each half byte of the input.
#[derive(Clone)]
pub struct Toeplitz {
    tables: [[u32; 16]; 2 * INPUT],
}

impl Toeplitz {
    /// Prepares a key, as a NIC reports it (40 bytes, or 52 of which the first 40 count).
    ///
    /// # Errors
    ///
    /// [`RssError::ShortKey`].
    pub fn new(key: &[u8]) -> Result<Self, RssError> {
        let key: &[u8; MIN_KEY] = key.first_chunk().ok_or(RssError::ShortKey)?;
        let mut tables = [[0; 16]; 2 * INPUT];
        for (half, table) in tables.iter_mut().enumerate() {
            for (bits, sum) in table.iter_mut().enumerate() {
                // The highest bit of a half byte comes first.
                *sum =
                    (0..4).filter(|bit| bits & (8 >> bit) != 0).fold(0, |sum, bit| sum ^ window(key, 4 * half + bit));
            }
        }
        Ok(Toeplitz { tables })
    }

    /// The hash of a packet with this key, over addresses and ports.
    #[inline]
    pub fn hash<A: Addr>(&self, key: &FlowKey<A>) -> u32 {
        let mut input = [0; INPUT];
        key.src.write(&mut input);
        key.dst.write(&mut input[A::LEN..]);
        input[2 * A::LEN..2 * A::LEN + 2].copy_from_slice(&key.sport.to_be_bytes());
        input[2 * A::LEN + 2..2 * A::LEN + 4].copy_from_slice(&key.dport.to_be_bytes());
        self.hash_bytes(&input[..2 * A::LEN + 4])
    }

    /// The hash of the input's bytes; at most 36 count.
    #[inline(always)]
    fn hash_bytes(&self, input: &[u8]) -> u32 {
        let (pairs, _) = self.tables.as_chunks::<2>();
        input
            .iter()
            .zip(pairs)
            .fold(0, |hash, (&byte, [high, low])| hash ^ high[usize::from(byte >> 4)] ^ low[usize::from(byte & 0xf)])
    }
}

/// The 32 bits of the key from bit `at` on, the highest bit of the first byte being bit 0.
fn window(key: &[u8; MIN_KEY], at: usize) -> u32 {
    let bytes = key[at / 8..].iter().chain(&[0; 5]).take(5);
    let five = bytes.fold(0, |bits, &byte| (bits << 8) | u64::from(byte));
    (five >> (8 - at % 8)) as u32
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}

/// How a port spreads packets over its receive queues.
#[derive(Clone, Debug)]
pub struct RssSpread {
    toeplitz: Toeplitz,
    reta: Box<[u16]>,
}

impl RssSpread {
    /// From the port's hash key and its redirection table, a queue for each entry (DPDK: `rte_eth_dev_rss_hash_conf_get`
    /// and `rte_eth_dev_rss_reta_query`).
    ///
    /// # Errors
    ///
    /// [`RssError`].
    pub fn new(key: &[u8], reta: &[u16]) -> Result<Self, RssError> {
        if reta.is_empty() {
            return Err(RssError::EmptyTable);
        }
        Ok(RssSpread { toeplitz: Toeplitz::new(key)?, reta: reta.into() })
    }

    /// How many queues there are: one more than the highest in the table.
    pub fn queues(&self) -> u16 {
        self.reta.iter().max().map_or(1, |&queue| queue + 1)
    }

    /// The queue a packet with this key comes to, provided that the port hashes its protocol with ports.
    #[inline]
    pub fn queue<A: Addr>(&self, key: &FlowKey<A>) -> u16 {
        // Tables have powers of two as sizes on all NICs we know, of which this takes the low bits as they do.
        let slot = self.toeplitz.hash(key) as usize % self.reta.len();
        self.reta[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Proto;
    use crate::wire::testing::flow;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The key of the verification suite in Microsoft's RSS specification.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa,
    ];

    #[test]
    fn the_verification_suite_v4() {
        let toeplitz = Toeplitz::new(&KEY).unwrap();
        let suite = [
            ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178, 0x323e_8fc2),
            ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea, 0xd718_262a),
            ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a, 0xd2d0_a5de),
            ("38.27.205.30:48228", "209.142.163.6:2217", 0xafc7_327f, 0x8298_9176),
            ("153.39.163.191:44251", "202.188.127.2:1303", 0x10e8_28a2, 0x5d18_09c5),
        ];
        for (src, dst, with_ports, addresses) in suite {
            let key: FlowKey<Ipv4Addr> = flow(src, dst, Proto::Tcp);
            assert_eq!(toeplitz.hash(&key), with_ports, "{src}");
            assert_eq!(toeplitz.hash_bytes(&[key.src.octets(), key.dst.octets()].concat()), addresses, "{src}");
        }
    }

    #[test]
    fn the_verification_suite_v6() {
        let toeplitz = Toeplitz::new(&KEY).unwrap();
        let suite = [
            ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x4020_7d3d, 0x2cc1_8cd5),
            ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0xdde5_1bbf, 0x0f0c_461c),
            (
                "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
                "[fe80::200:f8ff:fe21:67cf]:38024",
                0x02d1_feef,
                0x4b61_e985,
            ),
        ];
        for (src, dst, with_ports, addresses) in suite {
            let key: FlowKey<Ipv6Addr> = flow(src, dst, Proto::Tcp);
            assert_eq!(toeplitz.hash(&key), with_ports, "{src}");
            assert_eq!(toeplitz.hash_bytes(&[key.src.octets(), key.dst.octets()].concat()), addresses, "{src}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        assert_eq!(RssSpread::new(&KEY[..39], &[0]).unwrap_err(), RssError::ShortKey);
        assert_eq!(RssSpread::new(&KEY, &[]).unwrap_err(), RssError::EmptyTable);
        assert!(RssSpread::new(&[KEY, KEY].concat(), &[0]).is_ok());
    }

    #[test]
    fn the_low_bits_choose_the_queue() {
        let reta: Vec<u16> = (0..128).map(|slot| slot / 32).collect();
        let spread = RssSpread::new(&KEY, &reta).unwrap();
        let key: FlowKey<Ipv4Addr> = flow("66.9.149.187:2794", "161.142.100.80:1766", Proto::Tcp);
        assert_eq!(spread.queue(&key), 0x78 / 32);
    }

    /// The hash as the specification writes it: bit by bit, the key shifted left each time.
    fn by_the_book(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
        let mut hash = 0;
        for at in (0..8 * input.len()).filter(|&at| bit(input, at) == 1) {
            hash ^= (0..32).fold(0, |window, n| (window << 1) | u32::from(bit(key, at + n)));
        }
        hash
    }

    proptest! {
        #[test]
        fn any_key_and_input(key in proptest::collection::vec(any::<u8>(), 40), input in proptest::collection::vec(any::<u8>(), 36)) {
            let toeplitz = Toeplitz::new(&key).unwrap();
            prop_assert_eq!(toeplitz.hash_bytes(&input), by_the_book(&key, &input));
            prop_assert_eq!(toeplitz.hash_bytes(&input[..12]), by_the_book(&key, &input[..12]));
        }
    }
}
