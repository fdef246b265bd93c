//! The rules for lost numbers one by one.

use super::*;
use crate::offload;

/// A session that a switch forwarded since its client's next number was 101 and its server's 501.
fn lost() -> Conn {
    let mut conn = established();
    conn.on_segment(Inbound, &seg(ACK, 101, 501, 10));
    conn.on_segment(Outbound, &seg(ACK, 501, 111, 0));
    assert!(conn.may_offload());
    conn.lose_track();
    conn
}

/// Found: the client's next number is 3 000 000 000, the server's 2 000 000 000.
fn found() -> Conn {
    let mut conn = lost();
    conn.on_segment(Inbound, &seg(ACK, 3_000_000_000, 2_000_000_000, 0));
    conn.on_segment(Outbound, &seg(ACK, 2_000_000_000, 3_000_000_000, 0));
    assert!(!conn.is_lost());
    conn
}

fn closes(mut conn: Conn, client: u32, server: u32) {
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, client, server, 0)).to, State::FinWait);
    assert_eq!(conn.on_segment(Outbound, &seg(FIN | ACK, server, client + 1, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, client + 1, server + 1, 0)).to, State::TimeWait);
}

#[test]
fn a_connection_closes_by_whatever_numbers_it_has_got_to() {
    closes(lost(), 111, 501);
    closes(lost(), 5_000, 90_000);
    closes(lost(), 3_000_000_000, 2_000_000_000);
    closes(found(), 3_000_000_000, 2_000_000_000);
    // Lost again between the FINs, as while a switch has not given back yet.
    let mut conn = lost();
    assert_eq!(conn.on_segment(Outbound, &seg(FIN | ACK, 700_000_000, 900_000_000, 0)).to, State::CloseWait);
    conn.lose_track();
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, 2_900_000_000, 700_000_001, 0)).to, State::LastAck);
    conn.lose_track();
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 700_000_001, 2_900_000_000, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 700_000_001, 2_900_000_001, 0)).to, State::TimeWait);
}

#[test]
fn what_was_found_is_checked() {
    for far in [seg(FIN | ACK, 3_100_000_000, 2_000_000_000, 0), seg(FIN | ACK, 3_000_000_000, 2_100_000_000, 0)] {
        ignored(&mut found(), Inbound, far);
    }
    assert_eq!(found().on_segment(Inbound, &seg(RST, 3_000_000_001, 0, 0)).event, Event::RstIgnored);
    let outcome = found().on_segment(Inbound, &seg(RST, 3_000_000_000, 0, 0));
    assert_eq!((outcome.to, outcome.event), (State::Close, Event::RstAccepted));
}

#[test]
fn an_old_segment_that_comes_first_does_not_mislead() {
    let mut conn = lost();
    // Repeated by the server although the client has it all; then the client's FIN acknowledges what was not seen.
    conn.on_segment(Outbound, &seg(ACK, 2_000_000_000, 3_000_000_000, 1_000));
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, 3_000_000_500, 2_000_050_000, 0)).to, State::FinWait);
    assert_eq!(conn.on_segment(Outbound, &seg(FIN | ACK, 2_000_050_000, 3_000_000_501, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 3_000_000_501, 2_000_050_001, 0)).to, State::TimeWait);
}

#[test]
fn the_true_ones_put_a_forged_first_segment_right() {
    let mut conn = lost();
    conn.on_segment(Inbound, &seg(ACK, 77, 1_000_000_000, 0));
    for n in 0..3 {
        conn.on_segment(Inbound, &seg(ACK, 3_000_000_000 + n, 2_000_000_000, 1));
        conn.on_segment(Outbound, &seg(ACK, 2_000_000_000, 3_000_000_001 + n, 0));
    }
    closes(conn, 3_000_000_003, 2_000_000_000);
}

#[test]
fn a_rst_that_cannot_be_checked_ends_nothing_that_lives() {
    let in_state = |state| {
        let mut conn = lost();
        match state {
            State::FinWait => drop(conn.on_segment(Inbound, &seg(FIN | ACK, 9_000, 80_000, 0)).changed()),
            State::CloseWait => drop(conn.on_segment(Outbound, &seg(FIN | ACK, 80_000, 9_000, 0)).changed()),
            _ => {}
        }
        conn.lose_track();
        assert_eq!(conn.state, state);
        conn
    };
    for state in [State::Established, State::FinWait, State::CloseWait] {
        for (direction, sign) in [(Inbound, Outbound), (Outbound, Inbound), (Inbound, Inbound), (Outbound, Outbound)] {
            let mut conn = in_state(state);
            let outcome = conn.on_segment(direction, &seg(RST, 4_242, 0, 0));
            assert_eq!((outcome.to, outcome.event), (State::Close, Event::RstAccepted));
            assert!(!conn.may_offload() && !conn.keeps_offload());
            conn.lose_track();
            assert_eq!(conn.on_segment(direction, &seg(RST | ACK, 4_243, 7, 0)).event, Event::RstIgnored);
            let outcome = conn.on_segment(sign, &seg(ACK, 8_000, 7_000, 0));
            assert_eq!((outcome.from, outcome.to, outcome.event), (State::Close, state, Event::None));
            // The other direction is still lost, and its next RST as little to be believed.
            assert_eq!(conn.on_segment(sign, &seg(RST, 4_242, 0, 0)).event, Event::RstIgnored);
        }
    }
}

#[test]
fn a_true_rst_ends_the_connection_although_segments_cross_it() {
    let mut conn = lost();
    conn.on_segment(Inbound, &seg(RST, 3_000_000_000, 0, 0));
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 2_000_000_000, 2_999_999_000, 1_400)).to, State::Established);
    // The client's answer to that, RFC 9293, section 3.10.7.1.
    assert_eq!(conn.on_segment(Inbound, &seg(RST, 2_999_999_000, 0, 0)).to, State::Close);
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 2_000_001_400, 2_999_999_000, 1_400)).to, State::Close, "for good");
    assert_eq!(conn.on_segment(Inbound, &seg(SYN, 1, 0, 0)).event, Event::Reopen);
}

#[test]
fn a_syn_behind_a_rst_goes_to_the_same_server_which_decides() {
    let mut conn = lost();
    conn.on_segment(Inbound, &seg(RST, 3_000_000_000, 0, 0));
    let outcome = conn.on_segment(Inbound, &seg(SYN, 70_000, 0, 0));
    assert_eq!((outcome.to, outcome.event), (State::Established, Event::None));
    assert!(!conn.may_offload(), "a new connection may be about to begin");
    let mut lives = conn;
    lives.on_segment(Outbound, &seg(ACK, 2_000_000_000, 3_000_000_000, 0));
    assert_eq!(lives.state, State::Established);
    let syn_ack = seg(SYN | ACK, 0x7000_0000, 70_001, 0);
    assert!(conn.begins_anew(Outbound, &syn_ack) && !conn.begins_anew(Inbound, &syn_ack));
    assert!(!conn.begins_anew(Outbound, &seg(SYN | ACK, 0x7000_0000, 70_002, 0)));
    assert_eq!(conn.on_segment(Outbound, &syn_ack).to, State::SynRecv);
    ignored(&mut conn, Inbound, seg(ACK, 70_001, 0x7000_0002, 0));
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 70_001, 0x7000_0001, 0)).event, Event::Established);
    assert!(conn.wants_toa() && !conn.is_lost());
    conn.on_segment(Inbound, &seg(ACK, 70_001, 0x7000_0001, 10));
    conn.on_segment(Outbound, &seg(ACK, 0x7000_0001, 70_011, 0));
    assert!(conn.wants_toa(), "the SYN may have carried data");
    conn.on_segment(Outbound, &seg(ACK, 0x7000_0001, 70_011, 10));
    conn.on_segment(Inbound, &seg(ACK, 70_011, 0x7000_000b, 0));
    assert!(conn.may_offload());
}

#[test]
fn a_late_rst_does_not_hide_that_a_new_connection_begins() {
    let mut conn = lost();
    conn.on_segment(Inbound, &seg(RST, 3_000_000_000, 0, 0));
    conn.on_segment(Inbound, &seg(SYN, 70_000, 0, 0));
    // The client's answer to what crossed its first RST.
    assert_eq!(conn.on_segment(Inbound, &seg(RST, 2_999_000_000, 0, 0)).to, State::Close);
    let syn_ack = seg(SYN | ACK, 0x7000_0000, 70_001, 0);
    assert!(conn.begins_anew(Outbound, &syn_ack));
    assert_eq!(conn.on_segment(Outbound, &syn_ack).to, State::SynRecv);
}

#[test]
fn a_connection_may_prove_to_be_over_behind_the_syn_that_follows_it() {
    let mut conn = last_ack();
    conn.lose_track();
    // By its number an old one, so it goes to the server, which is through with the connection and takes it.
    ignored(&mut conn, Inbound, seg(SYN, 0x9000_0000, 0, 0));
    conn.back_in_view();
    assert_eq!(conn.state, State::TimeWait);
    let syn_ack = seg(SYN | ACK, 0x7000_0000, 0x9000_0001, 0);
    assert!(conn.begins_anew(Outbound, &syn_ack));
    assert_eq!(conn.on_segment(Outbound, &syn_ack).to, State::SynRecv);
    assert!(conn.wants_toa());
}

#[test]
fn there_is_nothing_to_lose_before_and_after() {
    let mut udp = Conn::udp();
    let states = [opened(), last_ack(), time_wait(), closed()].map(|mut conn| {
        let before = conn;
        conn.lose_track();
        (conn.is_lost(), conn == before)
    });
    assert_eq!(states, [(false, true), (true, false), (false, true), (false, true)]);
    udp.lose_track();
    assert_eq!(udp, Conn::udp());
}

#[test]
fn only_a_complete_and_undisturbed_connection_may_be_offloaded() {
    assert!(!opened().may_offload() && !established().may_offload(), "TOA is not acknowledged");
    assert!(Conn::udp().may_offload());
    for conn in [last_ack(), time_wait(), closed()] {
        assert!(!conn.may_offload() && !conn.keeps_offload());
    }
    for state in offload::State::ALL {
        let mut conn = lost();
        conn.set_offload(state);
        assert_eq!((conn.offload(), conn.may_offload()), (state, state == offload::State::None));
        conn.on_segment(Inbound, &seg(SYN, 70_000, 0, 0));
        assert!(!conn.may_offload() && conn.keeps_offload());
    }
    // A SYN sent again because the SYN-ACK was lost disturbs nothing.
    let mut conn = opened();
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    conn.on_segment(Inbound, &seg(SYN, 100, 0, 0));
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    conn.on_segment(Inbound, &seg(ACK, 101, 501, 10));
    conn.on_segment(Outbound, &seg(ACK, 501, 111, 0));
    assert!(conn.may_offload());
}

/// A connection of an earlier life, whose numbers are nothing to go by, most of all where its own happen to be near them.
const NEAR_NONE: [u32; 4] = [0, 1, 100_000, u32::MAX - 8_000_000];

#[test]
fn a_new_connection_in_place_of_one_never_seen_is_not_taken_for_an_old_one() {
    for (client, server) in NEAR_NONE.iter().flat_map(|&c| NEAR_NONE.map(|s| (c, s))) {
        let mut conn = Conn::out_of_sight(true);
        // The server is through with it: it answers with a RST, and the client begins anew.
        assert_eq!(conn.on_segment(Outbound, &seg(RST, 1_000_000_000, 0, 0)).to, State::Close);
        assert_eq!(conn.on_segment(Inbound, &seg(SYN, client, 0, 0)).to, State::Established);
        let syn_ack = seg(SYN | ACK, server, client.wrapping_add(1), 0);
        assert!(conn.begins_anew(Outbound, &syn_ack), "{client} {server}");
        assert_eq!(conn.on_segment(Outbound, &syn_ack).to, State::SynRecv);
        let ack = seg(ACK, client.wrapping_add(1), server.wrapping_add(1), 0);
        assert_eq!(conn.on_segment(Inbound, &ack).event, Event::Established);
        assert!(conn.wants_toa());
    }
}

#[test]
fn a_rst_of_number_zero_does_not_fit_a_connection_never_seen() {
    for direction in [Inbound, Outbound] {
        let mut conn = Conn::out_of_sight(false);
        assert_eq!(conn.on_segment(direction, &seg(RST, 0, 0, 0)).to, State::Close);
        assert_eq!(conn.on_segment(direction, &seg(ACK, 5, 7, 1)).to, State::Established, "it was forged");
        // Since then there are numbers to check it by.
        assert_eq!(conn.on_segment(direction, &seg(RST, 0, 0, 0)).event, Event::RstIgnored);
    }
}

#[test]
fn a_connection_never_seen_closes_by_whatever_numbers_it_has() {
    for (client, server) in NEAR_NONE.iter().flat_map(|&c| NEAR_NONE.map(|s| (c, s))) {
        closes(Conn::out_of_sight(true), client, server);
        let mut conn = Conn::out_of_sight(true);
        conn.on_segment(Outbound, &seg(ACK, server.wrapping_sub(10), client, 10));
        closes(conn, client, server);
    }
}
