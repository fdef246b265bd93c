//! Two idealised ends talk through the machine over a network that loses, repeats and reorders on both sides of it,
//! while a blind attacker interferes. What the machine must say follows from which true segments passed it. In some
//! conversations a switch takes over for a while, and then most segments do not.

use super::*;
use crate::testing::Rng;

/// Far enough from true numbers never to be believed.
const FAR: u32 = 4 * SLACK;

#[derive(Clone, Copy, Debug)]
struct Packet {
    segment: Segment,
    /// Offsets from the sender's and its peer's initial numbers, which do not wrap. None for a forged packet.
    truth: Option<Truth>,
}

#[derive(Clone, Copy, Debug)]
struct Truth {
    end: u64,
    ack: u64,
}

/// One end. Offset 0 is its SYN, 1 its first byte.
#[derive(Debug)]
struct End {
    isn: u32,
    peer_isn: u32,
    next: u64,
    unacked: u64,
    /// Next offset expected of the peer; 0 before its SYN.
    received: u64,
    /// Data to send in all.
    total: u64,
    fin_end: Option<u64>,
    dead: bool,
}

impl End {
    fn new(rng: &mut Rng, isn: u32, peer_isn: u32) -> Self {
        let total = *rng.pick(&[0, 10, 5_000, 100_000]);
        End { isn, peer_isn, next: 0, unacked: 0, received: 0, total, fin_end: None, dead: false }
    }

    fn packet(&self, flags: TcpFlags, from: u64, payload_len: u64) -> Packet {
        let flags = if self.received > 0 { flags | ACK } else { flags };
        let segment = Segment {
            seq: self.isn.wrapping_add(from as u32),
            ack: if self.received > 0 { self.peer_isn.wrapping_add(self.received as u32) } else { 0 },
            window: 0,
            flags,
            payload_len: payload_len as u16,
        };
        let end = from + payload_len + u64::from(flags.has(SYN)) + u64::from(flags.has(FIN));
        Packet { segment, truth: Some(Truth { end, ack: self.received }) }
    }

    /// What it sends of its own accord: something new, something again, or an acknowledgment.
    fn act(&mut self, rng: &mut Rng, client: bool) -> Option<Packet> {
        if self.dead || (!client && self.received == 0) {
            return None;
        }
        if self.unacked == 0 {
            self.next = 1;
            return Some(self.packet(SYN, 0, 0));
        }
        if rng.chance(1, 400) {
            self.dead = true;
            return Some(self.packet(RST, self.next, 0));
        }
        let data_end = 1 + self.total;
        let len = 1 + rng.below(3_000) as u64;
        match rng.below(4) {
            0 if self.unacked < self.next => {
                let len = len.min(data_end.saturating_sub(self.unacked)).min(self.next - self.unacked);
                let fin = self.fin_end == Some(self.unacked + len + 1);
                Some(self.packet(if fin { FIN } else { TcpFlags::NONE }, self.unacked, len))
            }
            1 | 2 if self.next < data_end && self.next < self.unacked + 65_535 => {
                let len = len.min(data_end - self.next);
                self.next += len;
                Some(self.packet(TcpFlags::NONE, self.next - len, len))
            }
            1 if self.next == data_end && self.fin_end.is_none() => {
                self.next += 1;
                self.fin_end = Some(self.next);
                Some(self.packet(FIN, data_end, 0))
            }
            3 => Some(self.packet(TcpFlags::NONE, self.next, 0)),
            _ => None,
        }
    }

    fn receive(&mut self, packet: &Packet, refuses: bool) -> Option<Packet> {
        let (segment, truth) = (packet.segment, packet.truth?);
        if segment.flags.has(RST) {
            self.dead = true;
            return None;
        }
        if self.dead || refuses {
            // RFC 9293, section 3.10.7.1.
            let answer = if segment.flags.has(ACK) {
                Segment { seq: segment.ack, flags: RST, ..Segment::default() }
            } else {
                Segment { ack: segment.seq_end(), flags: RST | ACK, ..Segment::default() }
            };
            return Some(Packet { segment: answer, truth: Some(Truth { end: 0, ack: 0 }) });
        }
        if segment.flags.has(ACK) && truth.ack > self.unacked && truth.ack <= self.next {
            self.unacked = truth.ack;
        }
        let start = truth.end - u64::from(segment.seq_end().wrapping_sub(segment.seq));
        if start <= self.received && self.received < truth.end {
            self.received = truth.end;
            if self.next > 0 && self.unacked > 0 {
                return Some(self.packet(TcpFlags::NONE, self.next, 0));
            }
        }
        None
    }
}

/// What follows from the true segments that passed, without any arithmetic on the circle.
#[derive(Default, Debug)]
struct Oracle {
    end: [u64; 2],
    ack: [u64; 2],
    fin_end: [Option<u64>; 2],
    syn_ack: bool,
    established: bool,
    reset: Option<Reset>,
    told: bool,
    /// A switch took over at some time.
    passed_by: bool,
    /// By direction: no segment was seen since it did, or since it gave back.
    lost: [bool; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reset {
    Tentative,
    Final,
}

impl Oracle {
    fn state(&self) -> State {
        let acked = |side: usize| self.fin_end[side].is_some_and(|end| self.ack[1 - side] >= end);
        match (self.fin_end[IN].is_some(), self.fin_end[OUT].is_some()) {
            _ if self.reset.is_some() => State::Close,
            _ if !self.syn_ack => State::SynSent,
            _ if !self.established => State::SynRecv,
            (true, true) if acked(IN) && acked(OUT) => State::TimeWait,
            (true, true) => State::LastAck,
            (true, false) => State::FinWait,
            (false, true) => State::CloseWait,
            (false, false) => State::Established,
        }
    }

    fn lose_track(&mut self) {
        if matches!(self.state(), State::Established | State::FinWait | State::CloseWait | State::LastAck) {
            (self.lost, self.passed_by) = ([true; 2], true);
        }
    }

    fn pass(&mut self, side: usize, ends: &[End; 2], packet: &Packet) -> Event {
        let Some(truth) = packet.truth else { return Event::None };
        let segment = packet.segment;
        if self.reset == Some(Reset::Tentative) && !segment.flags.has(RST) {
            self.reset = None;
        }
        let state = self.state();
        if segment.flags.has(RST) {
            let at = |offset: u64| segment.seq == ends[side].isn.wrapping_add(offset as u32);
            let valid = match state {
                State::TimeWait | State::Close => false,
                State::SynSent if side == OUT => segment.flags.has(ACK) && segment.ack == ends[IN].isn.wrapping_add(1),
                State::SynSent => at(1),
                _ => at(self.end[side]) || at(self.ack[1 - side]),
            };
            let tentative = self.lost[side] && !matches!(state, State::TimeWait | State::Close);
            if !valid && !tentative {
                return Event::RstIgnored;
            }
            self.reset = Some(if valid { Reset::Final } else { Reset::Tentative });
            self.lost = [!valid; 2];
            return Event::RstAccepted;
        }
        if self.reset.is_some() {
            return if segment.flags.has(SYN) && side == IN { Event::Reopen } else { Event::None };
        }
        if segment.flags.has(SYN) {
            self.syn_ack |= side == OUT;
            self.end[side] = self.end[side].max(1);
            self.ack[OUT] = self.ack[OUT].max(u64::from(side == OUT));
            self.ack[IN] = self.ack[IN].max(u64::from(side == OUT));
            let over = state == State::TimeWait;
            return if over && side == IN { Event::Reopen } else { Event::None };
        }
        let first = side == IN && !self.established;
        self.established |= first;
        self.end[side] = self.end[side].max(truth.end);
        self.ack[side] = self.ack[side].max(truth.ack);
        self.lost[side] = false;
        if self.passed_by {
            self.end[1 - side] = self.end[1 - side].max(truth.ack);
        }
        if segment.flags.has(FIN) {
            self.fin_end[side] = Some(truth.end);
        }
        self.told |= truth.ack > 1;
        if first { Event::Established } else { Event::None }
    }
}

/// A packet of an attacker who knows the tuple, and perhaps one of the two numbers, but not both.
fn forged(rng: &mut Rng, ends: &[End; 2], oracle: &Oracle, side: usize) -> Packet {
    let far = |rng: &mut Rng, near: u32| near.wrapping_add(FAR).wrapping_add(rng.u32() % (u32::MAX - 2 * FAR));
    let flags = match rng.below(6) {
        0 => RST,
        1 => RST | ACK,
        2 => FIN | ACK,
        3 => ACK,
        // An inbound SYN may reopen what is over; an outbound one never does anything.
        4 => SYN,
        _ => TcpFlags(rng.u16() as u8 & !(RST | SYN | ACK).0),
    };
    // A forged packet may be under way for a while, but the true numbers do not move far.
    let number = |side: usize, offset: u64| ends[side].isn.wrapping_add(offset as u32);
    let (end, acked) = (number(side, oracle.end[side]), number(side, oracle.ack[1 - side]));
    let (near_seq, near_ack) = (end.wrapping_add(rng.u32() % 3), number(1 - side, oracle.end[1 - side]));
    let (seq, ack) = if flags.has(RST) {
        // Anything but exact: close, or anywhere.
        let guess = if rng.chance(1, 2) { near_seq.wrapping_add(rng.u32() % 50_000) } else { rng.u32() };
        let seq = if guess == end || guess == acked { far(rng, end) } else { guess };
        (seq, far(rng, near_ack))
    } else if rng.chance(1, 2) {
        (near_seq, far(rng, near_ack))
    } else {
        (far(rng, end), near_ack)
    };
    let payload_len = rng.below(1_500) as u16;
    Packet { segment: Segment { seq, ack, window: 0, flags, payload_len }, truth: None }
}

/// A switch that takes most segments away from the machine for a while.
#[derive(Default)]
struct Switch {
    on: bool,
    /// Segments it forwarded.
    forwarded: u32,
    jumped: bool,
}

impl Switch {
    /// It takes over or gives back, and while it forwards, gigabytes may be transferred.
    fn act(&mut self, rng: &mut Rng, conn: &mut Conn, oracle: &mut Oracle, ends: &mut [End; 2]) -> bool {
        if !rng.chance(if self.on { 1 } else { 10 }, 50) || !self.on && !conn.may_offload() {
            return false;
        }
        let over = ends.iter().any(|end| end.dead || end.fin_end.is_some());
        if self.on && !over && !self.jumped && rng.chance(1, 2) {
            // Nothing else is under way: the numbers jump, and what was seen of them is worth nothing. Once only: several
            // times round the circle they might come back to what was known.
            self.jumped = true;
            for side in [IN, OUT] {
                let by = FAR + rng.u32() % (u32::MAX - 2 * FAR);
                ends[side].isn = ends[side].isn.wrapping_add(by);
                ends[1 - side].peer_isn = ends[side].isn;
            }
            (oracle.end, oracle.ack) = ([0; 2], [0; 2]);
            return true;
        }
        self.on = !self.on;
        conn.lose_track();
        oracle.lose_track();
        false
    }

    /// Whether it forwards this segment by itself.
    fn takes(&self, rng: &mut Rng, segment: &Segment) -> bool {
        self.on && !segment.flags.any(SYN | FIN | RST) && rng.chance(19, 20)
    }
}

/// One conversation: the state it ended in, and how many segments a switch forwarded.
fn converse(seed: u64) -> (State, u32) {
    let mut rng = Rng::new(seed);
    // Half the time the numbers wrap soon.
    let isn = |rng: &mut Rng| if rng.chance(1, 2) { u32::MAX - rng.u32() % 60_000 } else { rng.u32() };
    let (client_isn, server_isn) = (isn(&mut rng), isn(&mut rng));
    let mut ends = [End::new(&mut rng, client_isn, server_isn), End::new(&mut rng, server_isn, client_isn)];
    let (loss, refuses, attacked) = (rng.below(30), rng.chance(1, 20), rng.chance(1, 2));
    let mut switch = rng.chance(1, 2).then(Switch::default);
    // By direction: packets on their way to the machine, and from it.
    let mut links: [[Vec<Packet>; 2]; 2] = Default::default();

    let syn = ends[IN].act(&mut rng, true).unwrap();
    let mut conn = Conn::tcp(&syn.segment, true);
    let mut oracle = Oracle { end: [1, 0], ..Oracle::default() };
    links[IN][1].push(syn);

    for _ in 0..1_500 {
        let side = rng.below(2);
        if rng.chance(1, 3) {
            links[side][0].extend(ends[side].act(&mut rng, side == IN));
        }
        if attacked && rng.chance(1, 10) {
            links[side][0].push(forged(&mut rng, &ends, &oracle, side));
        }
        if let Some(switch) = &mut switch
            && switch.act(&mut rng, &mut conn, &mut oracle, &mut ends)
        {
            links = Default::default();
        }
        let hop = rng.below(2);
        let link = &mut links[side][hop];
        if link.is_empty() || rng.chance(1, 3) {
            continue;
        }
        let at = if rng.chance(2, 3) { 0 } else { rng.below(link.len().min(8)) };
        let packet = if rng.chance(1, 20) { link[at] } else { link.remove(at) };
        if rng.chance(loss, 100) {
            continue;
        }
        if hop == 1 {
            let answer = ends[1 - side].receive(&packet, refuses && side == IN);
            links[1 - side][0].extend(answer);
            continue;
        }
        // While numbers are lost, a forged segment is taken as a true one is: see the tests of that.
        if packet.truth.is_none() && (conn.is_lost() || switch.as_ref().is_some_and(|switch| switch.on)) {
            continue;
        }
        if let Some(switch) = &mut switch
            && switch.on
        {
            if switch.takes(&mut rng, &packet.segment) {
                switch.forwarded += 1;
                links[side][1].push(packet);
                continue;
            }
            conn.lose_track();
            oracle.lose_track();
        }
        // What was forged a while ago may have come to be exact since.
        let exact = [conn.end[side], conn.ack[1 - side]].contains(&packet.segment.seq);
        if packet.truth.is_none() && packet.segment.flags.has(RST) && exact {
            continue;
        }
        let (before, from) = (conn, conn.state);
        let direction = if side == IN { Inbound } else { Outbound };
        let expected = oracle.pass(side, &ends, &packet);
        let outcome = conn.on_segment(direction, &packet.segment);
        assert_eq!((outcome.from, outcome.to), (from, oracle.state()), "seed {seed}: {packet:?} {oracle:?}");
        assert_eq!(outcome.to, conn.state);
        if packet.truth.is_some() {
            assert_eq!(outcome.event, expected, "seed {seed}: {packet:?} {oracle:?}");
        } else {
            let numbers = |c: &Conn| (c.end, c.ack, c.state, c.wants_toa());
            assert_eq!(numbers(&conn), numbers(&before), "seed {seed}: forged {packet:?}");
            assert!(!matches!(outcome.event, Event::Established | Event::RstAccepted));
        }
        if (State::Established..State::TimeWait).contains(&conn.state) {
            for side in [IN, OUT] {
                let is =
                    |number: u32, of: &End, offset: u64| offset == 0 || number == of.isn.wrapping_add(offset as u32);
                assert!(
                    is(conn.end[side], &ends[side], oracle.end[side]),
                    "seed {seed}: {packet:?} {oracle:?} {conn:?}"
                );
                assert!(is(conn.ack[side], &ends[1 - side], oracle.ack[side]), "seed {seed}: {packet:?} {oracle:?}");
                assert_eq!(conn.flags & LOST[side] != 0, oracle.lost[side], "seed {seed}: {packet:?} {oracle:?}");
            }
            assert_eq!(conn.wants_toa(), !oracle.told, "seed {seed}: {packet:?}");
        }
        links[side][1].push(packet);
    }
    (conn.state, switch.map_or(0, |switch| switch.forwarded))
}

#[test]
fn generated_conversations_are_followed() {
    let (mut ended, mut forwarded) = ([0; 10], 0);
    for seed in 0..30_000 {
        let (state, by_switch) = converse(seed);
        ended[state as usize] += 1;
        forwarded += by_switch;
    }
    assert!(forwarded > 100_000, "{forwarded}");
    // Conversations of every kind took place; all went beyond the handshake or were refused.
    for state in State::ALL {
        let least = match state {
            State::Udp | State::SynSent | State::SynRecv => 0,
            State::TimeWait | State::Close => 5_000,
            _ => 100,
        };
        assert!(ended[state as usize] >= least, "{ended:?} by state");
    }
}
