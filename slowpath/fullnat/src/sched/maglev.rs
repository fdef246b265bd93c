//! Maglev hashing: D. E. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4.
//!
//! Every server has its own order of preference over the slots of a table of prime size; servers take turns to claim
//! their next free preferred slot until the table is full. Shares differ by at most one slot (for equal weights), and
//! when a server comes or goes few slots change besides its own.
//!
//! Weights: in each round a server claims a slot when its accumulated weight passes the largest weight, so the heaviest
//! claims one per round and one of half the weight one every second round.

use super::table::Bucket;

/// The default table size, the paper's small one: shares are within 1 % for up to some 600 servers.
pub const DEFAULT_TABLE_SIZE: u32 = 65_537;

const FREE: u16 = u16::MAX;

struct Claimant {
    position: u16,
    weight: u64,
    credit: u64,
    /// The slot it wants next.
    next: u64,
    skip: u64,
}

/// Builds the table: for each slot the position of its server in `servers`. Empty without servers.
pub(super) fn table(servers: &[Bucket], size: u32) -> Vec<u16> {
    if servers.is_empty() {
        return Vec::new();
    }
    let size = next_prime(size.max(servers.len() as u32));
    let mut claimants = claimants(servers, u64::from(size));
    let heaviest = claimants.iter().map(|c| c.weight).max().unwrap_or(1);
    let mut table = vec![FREE; size as usize];
    let mut free = table.len();
    loop {
        for c in &mut claimants {
            c.credit += c.weight;
            if c.credit < heaviest {
                continue;
            }
            c.credit -= heaviest;
            // The size is prime and the skip is from 1 to size - 1, so the steps reach every slot.
            while table[c.next as usize] != FREE {
                c.step(u64::from(size));
            }
            table[c.next as usize] = c.position;
            free -= 1;
            if free == 0 {
                return table;
            }
        }
    }
}

/// The servers in an order of their own, by name, so that the configured order has no influence.
fn claimants(servers: &[Bucket], size: u64) -> Vec<Claimant> {
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by_key(|&i| servers[i].name);
    order
        .into_iter()
        .map(|i| Claimant {
            position: i as u16,
            weight: u64::from(servers[i].weight),
            credit: 0,
            next: servers[i].hash(1) % size,
            skip: servers[i].hash(2) % (size - 1).max(1) + 1,
        })
        .collect()
}

impl Claimant {
    fn step(&mut self, size: u64) {
        self.next += self.skip;
        if self.next >= size {
            self.next -= size;
        }
    }
}

/// Whether `n` is prime: by trial division, for sizes read from a config.
pub fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= u64::from(n)).all(|d| !u64::from(n).is_multiple_of(d))
}

/// The smallest prime from `n` on. There is one below 2³² for every `n` up to 4 294 967 291, the largest.
fn next_prime(n: u32) -> u32 {
    (n..=u32::MAX).find(|&p| is_prime(p)).unwrap_or(4_294_967_291)
}
