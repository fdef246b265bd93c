//! The machine's rules one by one. Generated conversations are in [`simulation`].

use super::*;
use Direction::{Inbound, Outbound};

mod lost;
mod simulation;

const FIN: TcpFlags = TcpFlags::FIN;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;
const ACK: TcpFlags = TcpFlags::ACK;

fn seg(flags: TcpFlags, seq: u32, ack: u32, payload_len: u16) -> Segment {
    Segment { seq, ack, window: 0, flags, payload_len }
}

fn opened() -> Conn {
    Conn::tcp(&seg(SYN, 100, 0, 0), true)
}

/// A session whose client's next number is 101 and whose server's is 501.
fn established() -> Conn {
    let mut conn = opened();
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    let outcome = conn.on_segment(Inbound, &seg(ACK, 101, 501, 0));
    assert_eq!((outcome.from, outcome.to, outcome.event), (State::SynRecv, State::Established, Event::Established));
    conn
}

/// Both FINs seen, the client's at 101, the server's at 501; none acknowledged.
fn last_ack() -> Conn {
    let mut conn = established();
    conn.on_segment(Inbound, &seg(FIN | ACK, 101, 501, 0));
    let outcome = conn.on_segment(Outbound, &seg(FIN | ACK, 501, 101, 0));
    assert_eq!(outcome.to, State::LastAck);
    conn
}

fn time_wait() -> Conn {
    let mut conn = last_ack();
    conn.on_segment(Inbound, &seg(ACK, 102, 502, 0));
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 502, 102, 0)).to, State::TimeWait);
    conn
}

fn closed() -> Conn {
    let mut conn = established();
    let outcome = conn.on_segment(Inbound, &seg(RST, 101, 0, 0));
    assert_eq!((outcome.to, outcome.event), (State::Close, Event::RstAccepted));
    conn
}

/// The segment changes nothing, not even the tracked numbers. (That there was a SYN may be remembered.)
#[track_caller]
fn ignored(conn: &mut Conn, direction: Direction, segment: Segment) {
    let before = *conn;
    let outcome = conn.on_segment(direction, &segment);
    let known = |c: &Conn| (c.end, c.ack, c.state, c.wants_toa());
    assert_eq!(known(conn), known(&before), "{segment:?}");
    assert!(!outcome.changed());
    assert!(matches!(outcome.event, Event::None | Event::RstIgnored));
}

#[test]
fn closes_in_order() {
    let mut conn = established();
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, 101, 501, 10)).to, State::FinWait);
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 501, 112, 1000)).to, State::FinWait);
    assert_eq!(conn.on_segment(Outbound, &seg(FIN | ACK, 1501, 112, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 112, 1502, 0)).to, State::TimeWait);
}

#[test]
fn the_server_may_close_first_and_the_client_go_on_sending() {
    let mut conn = established();
    assert_eq!(conn.on_segment(Outbound, &seg(FIN | ACK, 501, 101, 0)).to, State::CloseWait);
    for n in 0..100 {
        assert_eq!(conn.on_segment(Inbound, &seg(ACK, 101 + 1000 * n, 502, 1000)).to, State::CloseWait);
    }
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, 100_101, 502, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 502, 100_101, 0)).to, State::LastAck, "all but the FIN");
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 502, 100_102, 0)).to, State::TimeWait);
}

#[test]
fn simultaneous_close_ends_when_both_are_acknowledged() {
    let mut conn = last_ack();
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 102, 502, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, 101, 502, 0)).to, State::LastAck, "repeated FIN");
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 502, 102, 0)).to, State::TimeWait);
}

#[test]
fn a_fin_that_overtakes_data_counts_and_is_acknowledged_only_with_it() {
    let mut conn = established();
    conn.on_segment(Inbound, &seg(FIN | ACK, 3101, 501, 0));
    conn.on_segment(Outbound, &seg(FIN | ACK, 501, 101, 0));
    conn.on_segment(Inbound, &seg(ACK, 101, 502, 3000));
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 502, 3101, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 502, 3102, 0)).to, State::TimeWait);
}

#[test]
fn the_handshake_is_complete_only_by_the_servers_number() {
    let mut conn = opened();
    ignored(&mut conn, Inbound, seg(ACK, 101, 501, 0));
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    for ack in [0, 499, 500, 502, 0x8000_0000] {
        ignored(&mut conn, Inbound, seg(ACK, 101, ack, 0));
    }
    ignored(&mut conn, Inbound, seg(TcpFlags::NONE, 101, 501, 5));
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, 101, 501, 5)).event, Event::Established);
    assert_eq!(conn.state, State::FinWait, "the first acknowledgment may come with data and FIN");
}

#[test]
fn repeated_handshake_segments_are_of_the_same_session() {
    let mut conn = opened();
    ignored(&mut conn, Inbound, seg(SYN, 100, 0, 0));
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    ignored(&mut conn, Inbound, seg(SYN, 100, 0, 0));
    ignored(&mut conn, Outbound, seg(SYN | ACK, 500, 101, 0));
    // A server that had forgotten and chose another number.
    conn.on_segment(Outbound, &seg(SYN | ACK, 900, 101, 0));
    ignored(&mut conn, Inbound, seg(ACK, 101, 501, 0));
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 101, 901, 0)).event, Event::Established);
    ignored(&mut conn, Outbound, seg(SYN | ACK, 900, 101, 0));
}

#[test]
fn of_two_syns_the_one_the_server_answers_counts() {
    for answered in [100, 7000] {
        let mut conn = opened();
        assert_eq!(conn.on_segment(Inbound, &seg(SYN, 7000, 0, 0)).event, Event::None);
        assert_eq!(conn.on_segment(Outbound, &seg(SYN | ACK, 500, answered + 1, 0)).to, State::SynRecv);
        assert_eq!(conn.on_segment(Inbound, &seg(ACK, answered + 1, 501, 0)).event, Event::Established);
        assert_eq!(conn.on_segment(Inbound, &seg(RST, answered + 1, 0, 0)).event, Event::RstAccepted);
    }
    ignored(&mut opened(), Outbound, seg(SYN | ACK, 500, 7001, 0));
}

#[test]
fn a_syn_in_a_living_connection_changes_nothing() {
    for flags in [SYN, SYN | ACK] {
        for seq in [100, 101, 5000, 0x9000_0000] {
            let mut conn = established();
            ignored(&mut conn, Inbound, seg(flags, seq, 501, 0));
            ignored(&mut conn, Outbound, seg(flags, seq, 101, 0));
            conn.on_segment(Inbound, &seg(FIN | ACK, 101, 501, 0));
            ignored(&mut conn, Inbound, seg(flags, seq, 501, 0));
        }
    }
}

#[test]
fn a_server_that_forgot_the_connection_begins_anew_on_the_clients_syn() {
    let half_closed = |direction| {
        let mut conn = established();
        conn.on_segment(Inbound, &seg(ACK, 101, 501, 10));
        conn.on_segment(Outbound, &seg(ACK, 501, 111, 10));
        conn.on_segment(Inbound, &seg(ACK, 111, 511, 0));
        assert!(!conn.wants_toa());
        match direction {
            Inbound => conn.on_segment(Inbound, &seg(FIN | ACK, 111, 511, 0)),
            Outbound => conn.on_segment(Outbound, &seg(FIN | ACK, 511, 111, 0)),
        };
        conn
    };
    for mut conn in [established(), half_closed(Inbound), half_closed(Outbound)] {
        // Not without the client's SYN, not for another, and not by the first SYN-ACK once more.
        ignored(&mut conn, Outbound, seg(SYN | ACK, 0x7000_0000, 70_001, 0));
        ignored(&mut conn, Inbound, seg(SYN, 70_000, 0, 0));
        ignored(&mut conn, Outbound, seg(SYN | ACK, 0x7000_0000, 70_002, 0));
        ignored(&mut conn, Outbound, seg(SYN | ACK, 500, 70_001, 0));
        let outcome = conn.on_segment(Outbound, &seg(SYN | ACK, 0x7000_0000, 70_001, 0));
        assert_eq!(outcome.to, State::SynRecv);
        assert!(Timeouts::default().shortened(&outcome).is_some());
        assert_eq!(conn.on_segment(Inbound, &seg(ACK, 70_001, 0x7000_0001, 0)).event, Event::Established);
        assert!(conn.wants_toa(), "the new connection's server is told again");
        assert_eq!(conn.on_segment(Inbound, &seg(RST, 70_001, 0, 0)).event, Event::RstAccepted);
    }
    let mut over = time_wait();
    over.on_segment(Inbound, &seg(SYN, 70_000, 0, 0));
    ignored(&mut over, Outbound, seg(SYN | ACK, 0x7000_0000, 70_001, 0));
}

#[test]
fn a_server_that_begins_anew_may_choose_a_number_near_its_old_one() {
    for (client, anew) in [(0x5000_0000, true), (5_000, false)] {
        let mut conn = established();
        conn.on_segment(Inbound, &seg(SYN, client, 0, 0));
        let outcome = conn.on_segment(Outbound, &seg(SYN | ACK, 9_000, client + 1, 0));
        assert_eq!(outcome.to == State::SynRecv, anew, "only both near are of the old handshake");
    }
}

#[test]
fn a_server_may_forget_a_handshake_that_is_not_complete() {
    let mut conn = opened();
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    // The client tries anew; its number and the server's are near the ones before, as those of one tuple often are.
    ignored(&mut conn, Inbound, seg(SYN, 7000, 0, 0));
    assert_eq!(conn.on_segment(Outbound, &seg(SYN | ACK, 9000, 7001, 0)).to, State::SynRecv);
    ignored(&mut conn, Inbound, seg(ACK, 7001, 501, 0));
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 7001, 9001, 0)).event, Event::Established);
}

#[test]
fn repeated_syns_and_syn_acks_of_a_living_connection_begin_nothing() {
    let mut conn = established();
    conn.on_segment(Outbound, &seg(ACK, 501, 101, 5_000));
    conn.on_segment(Inbound, &seg(ACK, 101, 5_501, 0));
    ignored(&mut conn, Inbound, seg(SYN, 100, 0, 0));
    ignored(&mut conn, Outbound, seg(SYN | ACK, 500, 101, 0));
}

#[test]
fn a_syn_reopens_what_is_over() {
    let reopens = |mut conn: Conn, direction, seq| {
        let outcome = conn.on_segment(direction, &seg(SYN, seq, 0, 0));
        assert!(!outcome.changed());
        outcome.event == Event::Reopen
    };
    for seq in [0, 100, 102, 0x9000_0000] {
        assert!(reopens(time_wait(), Inbound, seq));
        assert!(reopens(closed(), Inbound, seq));
        assert!(!reopens(time_wait(), Outbound, seq));
    }
    assert!(reopens(last_ack(), Inbound, 102));
    assert!(!reopens(last_ack(), Inbound, 100), "an old duplicate");
}

#[test]
fn only_an_exact_rst_resets() {
    let mut conn = established();
    conn.on_segment(Inbound, &seg(ACK, 101, 501, 1000));
    conn.on_segment(Outbound, &seg(ACK, 501, 601, 2000));
    for near in [100, 101, 600, 602, 1100, 1102, 0x8000_0000] {
        assert_eq!(conn.on_segment(Inbound, &seg(RST, near, 0, 0)).event, Event::RstIgnored);
        ignored(&mut conn, Inbound, seg(RST | ACK, near, 501, 0));
    }
    for near in [500, 502, 2500, 2502] {
        ignored(&mut conn, Outbound, seg(RST | ACK, near, 601, 0));
    }
    // What the receiver acknowledged last, or the end of what the sender sent.
    for (direction, seq) in [(Inbound, 601), (Inbound, 1101), (Outbound, 501), (Outbound, 2501)] {
        let outcome = conn.clone().on_segment(direction, &seg(RST, seq, 0, 0));
        assert_eq!((outcome.to, outcome.event), (State::Close, Event::RstAccepted));
    }
    ignored(&mut time_wait(), Inbound, seg(RST, 102, 0, 0));
    ignored(&mut closed(), Outbound, seg(RST, 501, 0, 0));
}

#[test]
fn a_refused_syn_closes() {
    for (direction, rst) in [(Outbound, seg(RST | ACK, 0, 101, 0)), (Inbound, seg(RST, 101, 0, 0))] {
        assert_eq!(opened().on_segment(direction, &rst).to, State::Close);
    }
    ignored(&mut opened(), Outbound, seg(RST | ACK, 0, 100, 0));
    ignored(&mut opened(), Outbound, seg(RST, 0, 0, 0));
    ignored(&mut opened(), Outbound, seg(RST, 101, 101, 0));
}

#[test]
fn what_no_end_can_have_sent_moves_nothing() {
    let mut conn = established();
    for segment in [
        seg(ACK, 101, 502, 0),                              // acknowledges what the server has not sent
        seg(ACK, 101, 501 + SLACK, 10),                     // the same, far
        seg(ACK, 101, 500_u32.wrapping_sub(2 * SLACK), 10), // long acknowledged
        seg(ACK, 102 + SLACK, 501, 0),                      // far ahead
        seg(ACK, 50_u32.wrapping_sub(2 * SLACK), 501, 10),  // far behind
        seg(FIN | ACK, 102 + SLACK, 501, 0),
        seg(FIN, 101, 501, 0),      // without ACK
        seg(FIN | ACK, 99, 501, 0), // ends before what is acknowledged
    ] {
        ignored(&mut conn, Inbound, segment);
    }
}

#[test]
fn nothing_comes_after_a_fin() {
    let mut conn = established();
    conn.on_segment(Inbound, &seg(FIN | ACK, 101, 501, 0));
    ignored(&mut conn, Inbound, seg(ACK, 102, 501, 10));
    ignored(&mut conn, Inbound, seg(FIN | ACK, 101, 501, 0));
    conn.on_segment(Outbound, &seg(FIN | ACK, 501, 102, 0));
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 102, 502, 0)).to, State::TimeWait);
}

#[test]
fn a_forged_fin_gives_way_to_the_true_one() {
    let mut conn = established();
    conn.on_segment(Inbound, &seg(FIN | ACK, 5000, 501, 0));
    conn.on_segment(Inbound, &seg(ACK, 101, 501, 100));
    conn.on_segment(Outbound, &seg(FIN | ACK, 501, 201, 0));
    conn.on_segment(Inbound, &seg(FIN | ACK, 201, 502, 0));
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 502, 202, 0)).to, State::TimeWait);
}

#[test]
fn numbers_wrap() {
    let mut conn = Conn::tcp(&seg(SYN, u32::MAX, 0, 0), true);
    conn.on_segment(Outbound, &seg(SYN | ACK, u32::MAX - 10, 0, 0));
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 0, u32::MAX - 9, 0)).event, Event::Established);
    conn.on_segment(Outbound, &seg(ACK, u32::MAX - 9, 0, 100));
    conn.on_segment(Inbound, &seg(FIN | ACK, 0, 90, 0));
    conn.on_segment(Outbound, &seg(FIN | ACK, 90, 1, 0));
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 1, 91, 0)).to, State::TimeWait);
}

#[test]
fn the_client_address_is_told_until_data_is_acknowledged() {
    let mut conn = opened();
    assert!(!conn.wants_toa());
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    for segment in [seg(ACK, 101, 501, 0), seg(ACK, 101, 501, 1400), seg(ACK, 1501, 501, 1400), seg(ACK, 101, 501, 9)] {
        conn.on_segment(Inbound, &segment);
        assert!(conn.wants_toa());
        conn.on_segment(Outbound, &seg(ACK, 501, 101, 300));
    }
    conn.on_segment(Inbound, &seg(ACK, 2901, 501 + SLACK, 0));
    assert!(conn.wants_toa(), "an impossible acknowledgment says nothing");
    conn.on_segment(Inbound, &seg(ACK, 2901, 502, 0));
    assert!(!conn.wants_toa());
    conn.on_segment(Inbound, &seg(ACK, 101, 501, 10));
    assert!(!conn.wants_toa(), "an old segment does not bring it back");

    let mut off = Conn::tcp(&seg(SYN, 100, 0, 0), false);
    off.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    off.on_segment(Inbound, &seg(ACK, 101, 501, 0));
    assert!(!off.wants_toa());
}

#[test]
fn the_client_address_was_told_too_when_the_server_acknowledges_what_came_with_it() {
    let mut conn = opened();
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    conn.on_segment(Outbound, &seg(ACK, 501, 200, 0));
    assert!(conn.wants_toa(), "it cannot have got that");
    conn.on_segment(Inbound, &seg(ACK, 101, 501, 1400));
    conn.on_segment(Outbound, &seg(ACK, 501, 101, 0));
    conn.on_segment(Outbound, &seg(ACK, 501, 1502, 0));
    assert!(conn.wants_toa(), "nothing new, or impossible");
    conn.on_segment(Outbound, &seg(ACK, 501, 102, 0));
    assert!(!conn.wants_toa());

    // With data on the SYN the server may acknowledge, and answer, before it got a segment with TOA.
    let mut fast = Conn::tcp(&seg(SYN, 100, 0, 10), true);
    fast.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    fast.on_segment(Inbound, &seg(ACK, 111, 501, 0));
    fast.on_segment(Outbound, &seg(ACK, 501, 111, 100));
    assert!(fast.wants_toa());
    fast.on_segment(Inbound, &seg(ACK, 111, 601, 0));
    assert!(!fast.wants_toa());
}

#[test]
fn data_on_syn_and_syn_ack_may_be_acknowledged_or_not() {
    for acked in [101, 105, 111] {
        let mut conn = Conn::tcp(&seg(SYN, 100, 0, 10), true);
        assert_eq!(conn.on_segment(Outbound, &seg(SYN | ACK, 500, acked, 20)).to, State::SynRecv);
        conn.on_segment(Outbound, &seg(ACK, 521, acked, 1000));
        let outcome = conn.on_segment(Inbound, &seg(ACK, 111, 1521, 0));
        assert_eq!(outcome.event, Event::Established);
        assert!(conn.wants_toa(), "it is on the handshake ACK in any case");
    }
    ignored(&mut Conn::tcp(&seg(SYN, 100, 0, 10), true), Outbound, seg(SYN | ACK, 500, 112, 0));
}

#[test]
fn udp_has_one_state() {
    let mut conn = Conn::udp();
    for flags in 0..=u8::MAX {
        ignored(&mut conn, Inbound, seg(TcpFlags(flags), 1, 2, 3));
    }
    assert!(!conn.wants_toa());
}
