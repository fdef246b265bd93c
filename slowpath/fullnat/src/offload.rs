//! Offload as a worker sees it: what it asks of the offload manager, and what it is told.
//!
//! ```text
//!          Install                 Installed                  Remove                  Removed
//!  none ───────────▶ installing ─────────────▶ offloaded ───────────▶ removing ───────────────▶ none
//!   ▲                    │ Refused                 │ Removed: the target lost its entries
//!   └────────────────────┴─────────────────────────┘
//!
//!               Adopt: the target has entries of an earlier life
//!  no session ─────────────────────────────────────────────────▶ offloaded ─▶ Adopted, or Declined
//! ```
//!
//! One operation is in flight per session at most, and a session that is not `none` keeps its place in the table and its
//! local port. So a [`Place`] means the same session to both sides for as long as they talk about it, and a port is given back only
//! after the target has confirmed that nothing uses it. The rules of the two rings, each of which keeps its order:
//!
//! - A worker sends `Install` from none only, `Remove` and `Check` from offloaded only. What does not fit the ring was not
//!   sent, and the state stays.
//! - The manager answers each `Install` with `Installed` or `Refused`, and each `Remove` with `Removed`, sooner or later. It may
//!   send `Removed` unasked; a `Remove` or `Check` that crosses it in the rings names a place the manager does
//!   not know any more, and is passed over without an answer.
//! - A worker answers each `Adopt` with `Adopted` or `Declined`, and takes no other verdict before the answer is in the ring. With
//!   `Adopted` the session is offloaded, or being removed if the worker says that it cannot stay.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey, Rewrite};
use crate::id::{CPort, IfaceId, LPort, NexthopId, Proto, RPort, VPort};
use crate::table::SessionIdx;

/// Where a session is with the target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum State {
    /// The slow path alone has it. The target may not have an entry of it.
    None = 0,
    /// The manager was asked to install its entries.
    Installing = 1,
    /// Both entries are acknowledged by the target.
    Offloaded = 2,
    /// The manager was asked to remove its entries.
    Removing = 3,
}

impl State {
    /// All states.
    pub const ALL: [State; 4] = [State::None, State::Installing, State::Offloaded, State::Removing];

    /// The state's name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Installing => "installing",
            State::Offloaded => "offloaded",
            State::Removing => "removing",
        }
    }
}

/// Which of a worker's sessions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// In the IPv4 table.
    V4(SessionIdx),
    /// In the IPv6 table.
    V6(SessionIdx),
}

impl Place {
    /// The place with this index in the table of family `A`.
    pub fn of<A: Addr>(idx: SessionIdx) -> Place {
        if A::IS_V6 { Place::V6(idx) } else { Place::V4(idx) }
    }
}

/// The four ends of a session and its next hops: all that its two flow entries are made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ends<A> {
    /// CIP.
    pub client: A,
    /// VIP.
    pub vip: A,
    /// RIP.
    pub server: A,
    /// LIP.
    pub local: A,
    /// Client's port.
    pub cport: CPort,
    /// Service's port.
    pub vport: VPort,
    /// Real server's port.
    pub rport: RPort,
    /// SNAT port on the local address.
    pub lport: LPort,
    /// Transport protocol.
    pub proto: Proto,
    /// Next hop towards the real server.
    pub nexthop_in: NexthopId,
    /// Next hop towards the client.
    pub nexthop_out: NexthopId,
}

impl<A: Addr> Ends<A> {
    /// From addresses in the order client, VIP, real server, local, ports likewise in host byte order, and next hops
    /// towards the real server and the client.
    pub fn new(
        [client, vip, server, local]: [A; 4],
        [cport, vport, rport, lport]: [u16; 4],
        proto: Proto,
        [nexthop_in, nexthop_out]: [NexthopId; 2],
    ) -> Self {
        Ends {
            client,
            vip,
            server,
            local,
            cport: CPort(cport),
            vport: VPort(vport),
            rport: RPort(rport),
            lport: LPort(lport),
            proto,
            nexthop_in,
            nexthop_out,
        }
    }

    /// What packets of this direction carry when they arrive: the key of the flow entry.
    #[inline(always)]
    pub fn key(&self, direction: Direction) -> FlowKey<A> {
        let proto = self.proto;
        match direction {
            Direction::Inbound => {
                FlowKey { src: self.client, dst: self.vip, sport: self.cport.0, dport: self.vport.0, proto }
            }
            Direction::Outbound => {
                FlowKey { src: self.server, dst: self.local, sport: self.rport.0, dport: self.lport.0, proto }
            }
        }
    }

    /// The same with addresses of type `B`; `None` when that is another family.
    fn family<B: Addr>(&self) -> Option<Ends<B>> {
        let address = |a: A| B::from_ip(a.into());
        Some(Ends {
            client: address(self.client)?,
            vip: address(self.vip)?,
            server: address(self.server)?,
            local: address(self.local)?,
            cport: self.cport,
            vport: self.vport,
            rport: self.rport,
            lport: self.lport,
            proto: self.proto,
            nexthop_in: self.nexthop_in,
            nexthop_out: self.nexthop_out,
        })
    }

    /// What becomes of packets of this direction: the parameters of the flow entry's action.
    #[inline(always)]
    pub fn rewrite(&self, direction: Direction) -> Rewrite<A> {
        match direction {
            Direction::Inbound => Rewrite {
                src: self.local,
                dst: self.server,
                sport: self.lport.0,
                dport: self.rport.0,
                nexthop: self.nexthop_in,
            },
            Direction::Outbound => Rewrite {
                src: self.vip,
                dst: self.client,
                sport: self.vport.0,
                dport: self.cport.0,
                nexthop: self.nexthop_out,
            },
        }
    }
}

/// The ends of a session of either family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AnyEnds {
    /// IPv4.
    V4(Ends<Ipv4Addr>),
    /// IPv6.
    V6(Ends<Ipv6Addr>),
}

impl AnyEnds {
    /// The ends of a session of family `A`; `None` for no address of that family, which there is not.
    pub fn of<A: Addr>(ends: &Ends<A>) -> Option<AnyEnds> {
        if A::IS_V6 { ends.family().map(AnyEnds::V6) } else { ends.family().map(AnyEnds::V4) }
    }
}

/// What a worker asks of the manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Write both flow entries.
    Install {
        /// The session.
        place: Place,
        /// What the entries are.
        ends: AnyEnds,
        /// Milliseconds without a packet after which the session is to end.
        idle_ms: u64,
    },
    /// Delete both flow entries.
    Remove {
        /// The session.
        place: Place,
    },
    /// No packet was heard of for the session's timeout: look at its counters.
    Check {
        /// The session.
        place: Place,
    },
    /// The session of an [`Adoption`] is there.
    Adopted {
        /// Which adoption.
        ticket: u32,
        /// The session.
        place: Place,
        /// Its next hops, towards the real server and towards the client.
        nexthops: [NexthopId; 2],
        /// Milliseconds without a packet after which the session is to end.
        idle_ms: u64,
        /// Its entries may stay. If not, they are to be removed as after [`Request::Remove`], and the session goes on without.
        stays: bool,
    },
    /// There is no session for the entries of an [`Adoption`], and will be none.
    Declined {
        /// Which adoption.
        ticket: u32,
    },
}

/// A session of an earlier life, as its two entries tell of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adoption {
    /// What the manager calls it until it is answered.
    pub ticket: u32,
    /// Its ends. Not the next hops, which had other numbers in that life.
    pub ends: AnyEnds,
    /// The interface its packets leave by to the client.
    pub back: IfaceId,
    /// Packets that the target has forwarded of it, inbound and outbound.
    pub packets: [u64; 2],
}

/// Packets and bytes that the target forwarded since the manager last told, by direction: inbound, outbound. Bytes are
/// those of frames as they arrived, without FCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Packets.
    pub packets: [u64; 2],
    /// Bytes.
    pub bytes: [u64; 2],
}

/// What the manager tells a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Both entries are in force.
    Installed(Place),
    /// There is no entry, and no use in asking again before so many milliseconds.
    Refused(Place, u64),
    /// The target forwarded packets since the session was last heard of.
    Active(Place, Counted),
    /// The target forwarded none for the session's timeout.
    Idle(Place, Counted),
    /// There is no entry any more.
    Removed(Place, Counted),
    /// There are entries of a session that nobody has.
    Adopt(Adoption),
}

impl Verdict {
    /// Which session it is about; none: one that is not there yet.
    pub fn place(&self) -> Option<Place> {
        match *self {
            Verdict::Installed(place)
            | Verdict::Refused(place, _)
            | Verdict::Active(place, _)
            | Verdict::Idle(place, _)
            | Verdict::Removed(place, _) => Some(place),
            Verdict::Adopt(_) => None,
        }
    }
}

impl Request {
    /// Which session it is about; none: one that will not be.
    pub fn place(&self) -> Option<Place> {
        match *self {
            Request::Install { place, .. }
            | Request::Remove { place }
            | Request::Check { place }
            | Request::Adopted { place, .. } => Some(place),
            Request::Declined { .. } => None,
        }
    }
}

/// The ring to the manager has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// From when on a session is worth its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threshold {
    /// Never: the policy says so, or there is no target, or it has no room.
    Never,
    /// After so many packets of both directions; 0: at once when it may.
    Packets(u32),
    /// After so many bytes of both directions.
    Bytes(u32),
    /// Once it has had so many packets within a second.
    PacketsPerSecond(u16),
}

/// The thresholds in force, one for each family: the manager sets them, workers read one with one relaxed load. And whether
/// new sessions have to wait.
#[derive(Debug)]
pub struct Gate {
    /// IPv4, IPv6.
    thresholds: [AtomicU64; 2],
    held: AtomicBool,
}

impl Gate {
    /// A gate with this threshold for both families.
    pub fn new(threshold: Threshold) -> Self {
        Gate { thresholds: [(); 2].map(|()| AtomicU64::new(pack(threshold))), held: AtomicBool::new(false) }
    }

    /// The threshold of a family now.
    #[inline(always)]
    pub fn threshold<A: Addr>(&self) -> Threshold {
        let word = self.thresholds[usize::from(A::IS_V6)].load(Ordering::Relaxed);
        match word >> 32 {
            1 => Threshold::Packets(word as u32),
            2 => Threshold::Bytes(word as u32),
            3 => Threshold::PacketsPerSecond(word as u16),
            _ => Threshold::Never,
        }
    }

    /// Changes the thresholds, of IPv4 and of IPv6.
    pub fn set(&self, thresholds: [Threshold; 2]) {
        for (word, threshold) in self.thresholds.iter().zip(thresholds) {
            word.store(pack(threshold), Ordering::Relaxed);
        }
    }

    /// Whether no session may begin for now: the target may have entries of its tuple, or of its local port.
    #[inline(always)]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Has new sessions wait, or not any longer.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}

fn pack(threshold: Threshold) -> u64 {
    match threshold {
        Threshold::Never => 0,
        Threshold::Packets(n) => 1 << 32 | u64::from(n),
        Threshold::Bytes(n) => 2 << 32 | u64::from(n),
        Threshold::PacketsPerSecond(n) => 3 << 32 | u64::from(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_gives_what_was_set() {
        let gate = Gate::new(Threshold::Never);
        for threshold in [
            Threshold::Never,
            Threshold::Packets(0),
            Threshold::Packets(u32::MAX),
            Threshold::Bytes(u32::MAX),
            Threshold::PacketsPerSecond(u16::MAX),
            Threshold::Never,
        ] {
            gate.set([threshold, Threshold::Bytes(1)]);
            assert_eq!((gate.threshold::<Ipv4Addr>(), gate.threshold::<Ipv6Addr>()), (threshold, Threshold::Bytes(1)));
        }
    }
}
