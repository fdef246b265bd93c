//! What several modules' tests share.

use std::net::Ipv4Addr;

use crate::id::{CPort, LPort, NexthopId, Proto, RPort, ServerId, ServiceId, VPort};
use crate::offload::Ends;
use crate::session::Session;
use crate::tcp::{Conn, Segment};
use crate::time::Time;

/// A small deterministic generator (SplitMix64), so that a failing run is repeated by its seed.
pub struct Rng(u64);

impl Rng {
    /// The one that this seed gives.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// Any 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Any 32 bits.
    pub fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }

    /// Any 16 bits.
    pub fn u16(&mut self) -> u16 {
        (self.u64() >> 48) as u16
    }

    /// A number in `0..n`; 0 for `n` 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.u64()) * n as u128) >> 64) as usize
    }

    /// True `n` times of `of`.
    pub fn chance(&mut self, n: usize, of: usize) -> bool {
        self.below(of) < n
    }

    /// One of these, which are some.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// A session unlike any with another number below 2^32: both keys differ.
pub fn session(n: u32, udp: bool) -> Session<Ipv4Addr> {
    let conn = if udp { Conn::udp() } else { Conn::tcp(&Segment { seq: n, ..Segment::default() }, true) };
    let ends = Ends {
        client: Ipv4Addr::from_bits(0x0a00_0000 ^ (n >> 8)),
        vip: Ipv4Addr::new(192, 0, 2, 1),
        server: Ipv4Addr::new(198, 51, 100, 7),
        local: Ipv4Addr::from_bits(0xc612_0000 ^ (n >> 16)),
        cport: CPort(n as u16),
        vport: VPort(443),
        rport: RPort(8443),
        lport: LPort(n as u16),
        proto: if udp { Proto::Udp } else { Proto::Tcp },
        nexthop_in: NexthopId(3),
        nexthop_out: NexthopId(4),
    };
    Session::new(&ends, conn, ServiceId(1), ServerId(2), Time(0))
}
