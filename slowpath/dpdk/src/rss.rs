//! Receive-side scaling: which queue a device delivers a flow to.

use dpdk_sys as sys;

/// How a port spreads what it receives over its queues. A frame whose
/// [Toeplitz hash](toeplitz_hash) is `h` arrives on queue `reta[h % reta.len()]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RssInfo {
    /// The hash key.
    pub key: Vec<u8>,
    /// The redirection table: queue numbers.
    pub reta: Vec<u16>,
    /// The kinds of packets that are hashed, as RTE_ETH_RSS_ bits.
    pub hash_functions: u64,
}

/// What the port reports, or `None` when it reports no key or no table.
pub(crate) fn query(port: u16, info: &sys::rte_eth_dev_info) -> Option<RssInfo> {
    const GROUP: usize = sys::RTE_ETH_RETA_GROUP_SIZE as usize;
    // Drivers that do not say take the 40 bytes of the specification.
    let key_len = if info.hash_key_size == 0 { 40 } else { info.hash_key_size };
    let mut key = vec![0u8; usize::from(key_len)];
    let reta_size = usize::from(info.reta_size);
    // SAFETY: all-zero bytes are valid for both structures.
    let mut conf: sys::rte_eth_rss_conf = unsafe { std::mem::zeroed() };
    conf.rss_key = key.as_mut_ptr();
    conf.rss_key_len = key_len;
    // SAFETY: the port exists, and the key has the length given.
    if reta_size == 0 || unsafe { sys::rte_eth_dev_rss_hash_conf_get(port, &mut conf) } != 0 || conf.rss_hf == 0 {
        return None;
    }
    // A key that the driver left alone is none: with it every hash would be 0.
    if key.iter().all(|&byte| byte == 0) {
        return None;
    }
    // SAFETY: as above.
    let empty: sys::rte_eth_rss_reta_entry64 = unsafe { std::mem::zeroed() };
    let mut table = vec![empty; reta_size.div_ceil(GROUP)];
    for group in &mut table {
        group.mask = u64::MAX;
    }
    // SAFETY: the table has an entry for each of the `reta_size` places.
    if unsafe { sys::rte_eth_dev_rss_reta_query(port, table.as_mut_ptr(), info.reta_size) } != 0 {
        return None;
    }
    let reta = (0..reta_size).map(|i| table[i / GROUP].reta[i % GROUP]).collect();
    Some(RssInfo { key, reta, hash_functions: conf.rss_hf })
}

/// The Toeplitz hash as DPDK computes it (rte_softrss), over a tuple in network byte order: source address, destination
/// address, source port, destination port. `None` when the tuple is not whole 32-bit words, or the key is not at least
/// four bytes longer than it.
pub fn toeplitz_hash(key: &[u8], tuple: &[u8]) -> Option<u32> {
    if !tuple.len().is_multiple_of(4) || key.len() < tuple.len() + 4 {
        return None;
    }
    let words = |bytes: &[u8], read: fn([u8; 4]) -> u32| -> Vec<u32> {
        bytes.chunks_exact(4).map(|w| read([w[0], w[1], w[2], w[3]])).collect()
    };
    // The tuple as numbers; the key as it is in memory, in words only for their alignment.
    let mut tuple = words(tuple, u32::from_be_bytes);
    let key = words(key, u32::from_ne_bytes);
    // SAFETY: both are aligned, and the key has at least one word more than the tuple.
    Some(unsafe { sys::carom_toeplitz(tuple.as_mut_ptr(), tuple.len() as u32, key.as_ptr().cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and two of the IPv4 test values that Microsoft's "Verifying the RSS Hash Calculation" lists.
    #[test]
    fn toeplitz_agrees_with_the_published_values() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
            0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
            0xbe, 0xac, 0x01, 0xfa,
        ];
        let tuple = |src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16| {
            [src, dst].concat().into_iter().chain(sport.to_be_bytes()).chain(dport.to_be_bytes()).collect::<Vec<_>>()
        };
        let first = tuple([66, 9, 149, 187], [161, 142, 100, 80], 2794, 1766);
        let second = tuple([199, 92, 111, 2], [65, 69, 140, 83], 14230, 4739);
        assert_eq!(toeplitz_hash(&key, &first), Some(0x51cc_c178));
        assert_eq!(toeplitz_hash(&key, &second), Some(0xc626_b0ea));
        assert_eq!(toeplitz_hash(&key, &first[..8]), Some(0x323e_8fc2));
        assert_eq!(toeplitz_hash(&key[..12], &first), None);
        assert_eq!(toeplitz_hash(&key, &first[..7]), None);
    }
}
