//! The table of `sh`: each slot goes to the server with the highest random weight for it (D. G. Thaler and C. V.
//! Ravishankar, IEEE/ACM ToN 6(1), 1998; weights by the logarithm of a uniform draw, after J. Schindelhauer and
//! G. Schomaker, SPAA 2005).
//!
//! A slot's choice between two servers does not depend on the others. So a server that drains or leaves gives its slots
//! to the others by weight, and no other slot moves; when it comes back it gets the same slots. Maglev has more even
//! shares, and moves a few more slots.

use super::table::{Bucket, mix};

/// Slots for up to 16 servers, and for more: a server's share is off by about 1/√(its slots).
const SLOTS: (usize, usize) = (4096, 16_384);

/// A little less than log₂ e, to be safe from rounding.
const LOG2_E_BELOW: f64 = std::f64::consts::LOG2_E * 0.999_99;

/// Builds the table: for each slot the position of its server in `servers`. Empty without servers.
pub(super) fn table(servers: &[Bucket]) -> Vec<u16> {
    if servers.is_empty() {
        return Vec::new();
    }
    let seeds: Vec<_> = servers.iter().map(|s| (s.hash(3), 1.0 / f64::from(s.weight), s.name)).collect();
    let slots = if servers.len() <= 16 { SLOTS.0 } else { SLOTS.1 };
    (0..slots as u64).map(|slot| winner(&seeds, slot)).collect()
}

/// The server whose exponentially distributed draw, of rate weight, is the smallest: each wins with a probability
/// proportional to its weight. Equal draws (hash collisions) go by name.
fn winner(seeds: &[(u64, f64, (u128, u16))], slot: u64) -> u16 {
    let mut best = (f64::INFINITY, (u128::MAX, u16::MAX), 0);
    for (position, &(seed, per_weight, name)) in seeds.iter().enumerate() {
        let hash = mix(seed, slot);
        // -ln u ≥ 1 - u saves most logarithms. It cannot change a choice: `minus_log2` errs upwards only.
        let at_least = (!hash) as f64 / 2f64.powi(64) * LOG2_E_BELOW * per_weight;
        if at_least > best.0 {
            continue;
        }
        let draw = minus_log2(hash) * per_weight;
        if draw < best.0 || (draw == best.0 && name < best.1) {
            best = (draw, name, position as u16);
        }
    }
    best.2
}

/// -log₂(hash/2⁶⁴), too large by up to 2e-9: the series is cut where all its terms are positive. Only IEEE basic operations, which give the same bits everywhere, unlike the
/// logarithms of maths libraries: all balancers must build the same table.
fn minus_log2(hash: u64) -> f64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    // The hash is m × 2^(63 - zeros) with 1 ≤ m < 2.
    let m = ((hash << zeros) >> 11) as f64 / (1u64 << 52) as f64;
    let t = (m - 1.0) / (m + 1.0);
    let (t2, mut power, mut sum) = (t * t, t, 0.0);
    // ln m = 2 artanh t = 2 (t + t³/3 + t⁵/5 + …), with t < 1/3.
    for odd in [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0] {
        sum += power / odd;
        power *= t2;
    }
    f64::from(zeros) + 1.0 - 2.0 * sum * std::f64::consts::LOG2_E
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for hash in [1, 3, 1 << 32 | 5, u64::MAX / 3, u64::MAX / 2, u64::MAX / 2 + 2, u64::MAX] {
            let exact = -(hash as f64 / 2f64.powi(64)).log2();
            assert!((minus_log2(hash) - exact).abs() < 2e-9, "{hash:x}: {} for {exact}", minus_log2(hash));
            assert!(minus_log2(hash) >= (!(hash | 1)) as f64 / 2f64.powi(64) * LOG2_E_BELOW);
            assert!(minus_log2(hash) > 0.0);
        }
    }
}
