//! A session: one connection with its two tuples, in one cache line (IPv4) or two (IPv6).
//!
//! A packet of an established session reads and writes this and one line of the index, nothing else. What only the
//! beginning, the end or an operator needs is in [`Cold`], in an array beside.

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey, Rewrite};
use crate::id::{CPort, LPort, NexthopId, Proto, RPort, ServerId, ServiceId, VPort};
use crate::ports::PortSpaceId;
use crate::tcp::{Conn, State};
use crate::time::Time;

/// The hot part of a session. 64 bytes for IPv4, 128 for IPv6.
///
/// ```text
///  inbound    CIP:cport → VIP:vport   becomes   LIP:lport → RIP:rport
///  outbound   RIP:rport → LIP:lport   becomes   VIP:vport → CIP:cport
/// ```
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Session<A> {
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
    /// Protocol, state and sequence numbers.
    pub conn: Conn,
    /// [`Time::short`] of the last packet in either direction.
    pub last_seen: u32,
    /// Packets client → real server; wraps.
    pub packets_in: u32,
    /// Packets real server → client; wraps.
    pub packets_out: u32,
    /// The service the client connected to.
    pub service_id: ServiceId,
    /// The real server that was chosen.
    pub server_id: ServerId,
    /// Next hop towards the real server.
    pub nexthop_in: NexthopId,
    /// Next hop towards the client.
    pub nexthop_out: NexthopId,
}

const _: () = assert!(size_of::<Session<std::net::Ipv4Addr>>() == 64);
const _: () = assert!(size_of::<Session<std::net::Ipv6Addr>>() == 128);

impl<A: Addr> Session<A> {
    /// The protocol.
    #[inline(always)]
    pub fn proto(&self) -> Proto {
        if self.conn.state == State::Udp { Proto::Udp } else { Proto::Tcp }
    }

    /// What packets of this direction carry when they arrive.
    #[inline(always)]
    pub fn key(&self, direction: Direction) -> FlowKey<A> {
        let proto = self.proto();
        match direction {
            Direction::Inbound => {
                FlowKey { src: self.client, dst: self.vip, sport: self.cport.0, dport: self.vport.0, proto }
            }
            Direction::Outbound => {
                FlowKey { src: self.server, dst: self.local, sport: self.rport.0, dport: self.lport.0, proto }
            }
        }
    }

    /// Whether a packet with this key is one of this session and direction.
    #[inline(always)]
    pub fn matches(&self, direction: Direction, key: &FlowKey<A>) -> bool {
        // No short circuits: the line is here, and one branch on the whole is cheaper than five.
        let own = self.key(direction);
        (own.src == key.src)
            & (own.dst == key.dst)
            & (own.sport == key.sport)
            & (own.dport == key.dport)
            & (own.proto == key.proto)
    }

    /// What becomes of packets of this direction.
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

    /// Notes a packet: its time and its direction's count. The wheel is not touched.
    #[inline(always)]
    pub fn touch(&mut self, direction: Direction, now: Time) {
        self.last_seen = now.short();
        match direction {
            Direction::Inbound => self.packets_in = self.packets_in.wrapping_add(1),
            Direction::Outbound => self.packets_out = self.packets_out.wrapping_add(1),
        }
    }

    /// When the last packet was seen. Right while timeouts stay below 24 days, as [`Time::expand`] needs.
    #[inline(always)]
    pub fn last_seen(&self, now: Time) -> Time {
        now.expand(self.last_seen)
    }

    /// Whether an inbound segment, already shown to [`Conn::on_segment`], must carry the client's address (TOA). The
    /// caller leaves out segments with SYN or RST.
    #[inline(always)]
    pub fn wants_toa(&self) -> bool {
        self.conn.wants_toa()
    }
}

/// What a session needs only at its beginning and end, and for an operator who looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cold {
    /// Seconds from the caller's origin to the session's first packet.
    pub created_s: u32,
    /// Where the local port goes back to.
    pub ports: PortSpaceId,
}

impl Cold {
    /// The cold part of a session that begins at `now` with a port of `ports`.
    pub fn new(now: Time, ports: PortSpaceId) -> Self {
        Cold { created_s: (now.0 / 1000) as u32, ports }
    }

    /// When the session began, to the second.
    pub fn created(&self) -> Time {
        Time(u64::from(self.created_s) * 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::testing::session;

    #[test]
    fn a_session_matches_its_keys_only() {
        let s = session(1, false);
        for direction in [Direction::Inbound, Direction::Outbound] {
            let key = s.key(direction);
            assert!(s.matches(direction, &key));
            let other = Ipv4Addr::new(1, 2, 3, 4);
            for wrong in [
                FlowKey { src: other, ..key },
                FlowKey { dst: other, ..key },
                FlowKey { sport: key.sport ^ 1, ..key },
                FlowKey { dport: key.dport ^ 1, ..key },
                FlowKey { proto: Proto::Udp, ..key },
                key.reversed(),
            ] {
                assert!(!s.matches(direction, &wrong), "{wrong:?}");
            }
        }
        assert!(!s.matches(Direction::Outbound, &s.key(Direction::Inbound)));
    }

    #[test]
    fn the_answer_to_a_rewritten_packet_is_the_other_directions_key() {
        let s = session(7, true);
        for (direction, other) in [(Direction::Inbound, Direction::Outbound), (Direction::Outbound, Direction::Inbound)]
        {
            let r = s.rewrite(direction);
            let sent = FlowKey { src: r.src, dst: r.dst, sport: r.sport, dport: r.dport, proto: s.proto() };
            assert_eq!(sent.reversed(), s.key(other));
        }
    }

    #[test]
    fn touching_counts_by_direction() {
        let mut s = session(3, false);
        let now = Time((1 << 40) + 77);
        s.touch(Direction::Inbound, now);
        s.touch(Direction::Outbound, now);
        s.touch(Direction::Outbound, now);
        assert_eq!((s.packets_in, s.packets_out), (1, 2));
        assert_eq!(s.last_seen(now.after(5_000)), now);
    }

    #[test]
    fn lines_are_as_laid_out() {
        assert_eq!(align_of::<Session<Ipv4Addr>>(), 64);
        assert_eq!(std::mem::offset_of!(Session<Ipv6Addr>, cport), 64, "addresses fill the first line");
    }
}
