//! Which worker a local port belongs to where no NIC steers packets by flow.

use super::{LPort, WorkerId};

/// Local ports dealt out to the workers one by one: port modulo number of workers.
///
/// Not blocks of the configured range: a reload may change the range, and a port must not change its owner while a
/// session uses it. This way each worker has its share of any range, and ownership depends on the number of workers only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LportOwners {
    workers: u32,
    /// 2³² divided by the number of workers, rounded up (and 0 for one worker): the remainder of a 16-bit number by
    /// two multiplications (Lemire, Kaser, Kurz: "Faster remainder by direct computation", 2019).
    inverse: u32,
}

impl LportOwners {
    /// Shares among `workers` workers, at least one.
    pub fn new(workers: u8) -> Self {
        let workers = u32::from(workers.max(1));
        LportOwners { workers, inverse: (u32::MAX / workers).wrapping_add(1) }
    }

    /// How many workers there are.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// The worker that owns the port.
    #[inline(always)]
    pub fn owner(&self, lport: LPort) -> WorkerId {
        let fraction = self.inverse.wrapping_mul(u32::from(lport.0));
        WorkerId(((u64::from(fraction) * u64::from(self.workers)) >> 32) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_the_remainder_for_every_port_and_number_of_workers() {
        for workers in 1..=u8::MAX {
            let owners = LportOwners::new(workers);
            for port in 0..=u16::MAX {
                assert_eq!(u16::from(owners.owner(LPort(port)).0), port % u16::from(workers), "{port} of {workers}");
            }
        }
    }
}
