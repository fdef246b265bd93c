//! A session: one connection with its two tuples, in one cache line (IPv4) or two (IPv6).
//!
//! A packet of an established session reads and writes this and one line of the index, nothing else. What only the
//! beginning, the end or an operator needs is in [`Cold`], in an array beside.

use crate::addr::Addr;
use crate::flow::{Direction, FlowKey, Rewrite};
use crate::hash;
use crate::id::{LPort, NexthopId, Proto, ServerId, ServiceId};
use crate::offload::{self, Ends};
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
    /// By direction, the addresses that packets arrive with: CIP and VIP, RIP and LIP.
    addrs: [[A; 2]; 2],
    /// By direction, the ports that packets arrive with, in network byte order: cport and vport, rport and lport.
    ports: [[u16; 2]; 2],
    /// Protocol, state and sequence numbers, and where the session is with the target.
    pub conn: Conn,
    /// [`Time::short`] of the last packet in either direction.
    pub last_seen: u32,
    /// By direction, packets; they wrap.
    pub packets: [u32; 2],
    /// The service the client connected to.
    pub service_id: ServiceId,
    /// The real server that was chosen.
    pub server_id: ServerId,
    /// By direction, where packets go next: towards the real server, towards the client.
    pub nexthops: [NexthopId; 2],
}

const _: () = assert!(size_of::<Session<std::net::Ipv4Addr>>() == 64);
const _: () = assert!(size_of::<Session<std::net::Ipv6Addr>>() == 128);

impl<A: Addr> Session<A> {
    /// A session that begins at `now`. The protocol is that of `conn`.
    #[inline(always)]
    pub fn new(ends: &Ends<A>, conn: Conn, service_id: ServiceId, server_id: ServerId, now: Time) -> Self {
        let [inbound, outbound] = [[ends.cport.0, ends.vport.0], [ends.rport.0, ends.lport.0]];
        Session {
            addrs: [[ends.client, ends.vip], [ends.server, ends.local]],
            ports: [inbound.map(u16::to_be), outbound.map(u16::to_be)],
            conn,
            last_seen: now.short(),
            packets: [0; 2],
            service_id,
            server_id,
            nexthops: [ends.nexthop_in, ends.nexthop_out],
        }
    }

    /// What is in a place that no session ever had.
    pub fn nothing() -> Self {
        let mut conn = Conn::udp();
        conn.state = State::Free;
        Session {
            addrs: [[A::UNSPECIFIED; 2]; 2],
            ports: [[0; 2]; 2],
            conn,
            last_seen: 0,
            packets: [0; 2],
            service_id: ServiceId(0),
            server_id: ServerId(0),
            nexthops: [NexthopId(0); 2],
        }
    }

    /// The protocol.
    #[inline(always)]
    pub fn proto(&self) -> Proto {
        if self.conn.state == State::Udp { Proto::Udp } else { Proto::Tcp }
    }

    /// What packets of this direction carry when they arrive.
    #[inline(always)]
    pub fn key(&self, direction: Direction) -> FlowKey<A> {
        let ([src, dst], [sport, dport]) = self.end(direction);
        FlowKey { src, dst, sport, dport, proto: self.proto() }
    }

    /// Whether a packet with this key, in the form of [`FlowKey::words`], is one of this session and direction.
    #[inline(always)]
    pub fn matches(&self, direction: Direction, words: &A::KeyWords) -> bool {
        let (addrs, ports) = (self.addrs[direction as usize], self.ports[direction as usize]);
        A::same_words(&hash::words(addrs, ports, self.proto()), words)
    }

    /// What becomes of packets of this direction: they leave as the answers of the other direction arrive, turned round.
    #[inline(always)]
    pub fn rewrite(&self, direction: Direction) -> Rewrite<A> {
        let ([dst, src], [dport, sport]) = self.end(direction.other());
        Rewrite { src, dst, sport, dport, nexthop: self.nexthops[direction as usize] }
    }

    #[inline(always)]
    fn end(&self, direction: Direction) -> ([A; 2], [u16; 2]) {
        (self.addrs[direction as usize], self.ports[direction as usize].map(u16::from_be))
    }

    /// The local port.
    #[inline(always)]
    pub fn lport(&self) -> LPort {
        LPort(u16::from_be(self.ports[Direction::Outbound as usize][1]))
    }

    /// Notes a packet: its time and its direction's count. The wheel is not touched.
    #[inline(always)]
    pub fn touch(&mut self, direction: Direction, now: Time) {
        self.last_seen = now.short();
        let packets = &mut self.packets[direction as usize];
        *packets = packets.wrapping_add(1);
    }

    /// When the last packet was seen. Right while timeouts stay below 24 days, as [`Time::expand`] needs.
    #[inline(always)]
    pub fn last_seen(&self, now: Time) -> Time {
        now.expand(self.last_seen)
    }

    /// Where the session is with the target.
    #[inline(always)]
    pub fn offload(&self) -> offload::State {
        self.conn.offload()
    }

    /// What the session's flow entries are made of.
    pub fn ends(&self) -> Ends<A> {
        let [([client, vip], [cport, vport]), ([server, local], [rport, lport])] =
            [Direction::Inbound, Direction::Outbound].map(|direction| self.end(direction));
        Ends::new([client, vip, server, local], [cport, vport, rport, lport], self.proto(), self.nexthops)
    }

    /// Whether an inbound segment, already shown to [`Conn::on_segment`], must carry the client's address (TOA). The
    /// caller leaves out segments with SYN or RST.
    #[inline(always)]
    pub fn wants_toa(&self) -> bool {
        self.conn.wants_toa()
    }
}

/// What a session needs only at its beginning and end, on its way to the target, and for an operator who looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cold {
    /// [Ticks](TICK_MS) from the caller's origin to the session's first packet. Wraps after 2 years.
    created: u32,
    /// Where the local port goes back to.
    pub ports: PortSpaceId,
    /// Bytes of frames of both directions while they were counted; stays at the largest number.
    pub bytes: u32,
    /// Second, modulo 2¹⁶, in which packets are counted.
    window_s: u16,
    /// Packets of both directions in that second; stays at the largest number.
    window_packets: u16,
    /// No [`offload::Request::Install`] before this second.
    pub retry_s: u32,
}

const _: () = assert!(size_of::<Cold>() == 20);

/// Milliseconds to which it is known when a session began.
const TICK_MS: u64 = 16;

impl Cold {
    /// The cold part of a session that begins at `now` with a port of `ports`.
    pub fn new(now: Time, ports: PortSpaceId) -> Self {
        Cold { created: ticks(now), ports, bytes: 0, window_s: 0, window_packets: 0, retry_s: 0 }
    }

    /// Counts a packet of so many bytes; returns the bytes so far.
    pub fn count_bytes(&mut self, bytes: u32) -> u32 {
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes
    }

    /// Counts a packet; returns how many there were in this second.
    pub fn count_in_second(&mut self, now: Time) -> u16 {
        let second = now.seconds() as u16;
        if second != self.window_s {
            (self.window_s, self.window_packets) = (second, 0);
        }
        self.window_packets = self.window_packets.saturating_add(1);
        self.window_packets
    }

    /// Milliseconds since the session began, to a 64th of a second.
    #[inline]
    pub fn age_ms(&self, now: Time) -> u64 {
        u64::from(ticks(now).wrapping_sub(self.created)) * TICK_MS
    }
}

fn ticks(now: Time) -> u32 {
    (now.0 / TICK_MS) as u32
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
            assert!(s.matches(direction, &key.words()));
            let other = Ipv4Addr::new(1, 2, 3, 4);
            for wrong in [
                FlowKey { src: other, ..key },
                FlowKey { dst: other, ..key },
                FlowKey { sport: key.sport ^ 1, ..key },
                FlowKey { dport: key.dport ^ 1, ..key },
                FlowKey { proto: Proto::Udp, ..key },
                key.reversed(),
            ] {
                assert!(!s.matches(direction, &wrong.words()), "{wrong:?}");
            }
        }
        assert!(!s.matches(Direction::Outbound, &s.key(Direction::Inbound).words()));
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
        assert_eq!(s.packets, [1, 2]);
        assert_eq!(s.last_seen(now.after(5_000)), now);
    }

    #[test]
    fn bytes_and_packets_in_a_second_are_counted() {
        let mut cold = Cold::new(Time(5_000), PortSpaceId(1));
        assert_eq!(
            [cold.count_bytes(1_000), cold.count_bytes(500), cold.count_bytes(u32::MAX)],
            [1_000, 1_500, u32::MAX]
        );
        // The first second of all is the one that a new session's window is in.
        for (ms, packets) in [(0, 1), (999, 2), (1_000, 1), (1_999, 2), (2_000, 1), (65_536_000 + 2_500, 2)] {
            assert_eq!(cold.count_in_second(Time(ms)), packets, "{ms}");
        }
        assert!((0..70_000).all(|_| cold.count_in_second(Time(9_000)) > 0));
        assert_eq!(cold.count_in_second(Time(9_000)), u16::MAX);
    }

    #[test]
    fn the_age_is_known_over_the_wrap() {
        let begin = Time((TICK_MS << 32) - 6 * TICK_MS);
        let cold = Cold::new(begin, PortSpaceId(1));
        for (ms, age) in [(0, 0), (64, 64), (207, 192), (100_000, 100_000)] {
            assert_eq!(cold.age_ms(begin.after(ms)), age, "{ms}");
        }
    }

    #[test]
    fn ends_give_the_same_keys_and_rewrites() {
        for s in [session(7, true), session(8, false)] {
            for direction in [Direction::Inbound, Direction::Outbound] {
                assert_eq!(s.ends().key(direction), s.key(direction));
                assert_eq!(s.ends().rewrite(direction), s.rewrite(direction));
            }
        }
    }

    #[test]
    fn the_state_of_offload_disturbs_nothing_else() {
        let mut s = session(3, false);
        let before = s.conn;
        for state in offload::State::ALL.into_iter().chain([offload::State::None]) {
            s.conn.set_offload(state);
            assert_eq!((s.offload(), s.conn.state, s.conn.wants_toa()), (state, before.state, before.wants_toa()));
        }
        assert_eq!(s.conn, before);
    }

    #[test]
    fn lines_are_as_laid_out() {
        assert_eq!(align_of::<Session<Ipv4Addr>>(), 64);
        assert_eq!(std::mem::offset_of!(Session<Ipv6Addr>, ports), 64, "addresses fill the first line");
    }
}
