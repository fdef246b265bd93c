use super::*;
use Direction::{Inbound, Outbound};

fn seg(flags: u8, seq: u32, ack: u32, payload_len: u32) -> Segment {
    Segment { seq, ack, flags, payload_len }
}

/// A session whose client's next number is 101 and whose server's is 501.
fn established() -> Conn {
    let mut conn = Conn::tcp(&seg(SYN, 100, 0, 0), true);
    conn.on_segment(Outbound, &seg(SYN | ACK, 500, 101, 0));
    let outcome = conn.on_segment(Inbound, &seg(ACK, 101, 501, 0));
    assert_eq!((outcome.from, outcome.to, outcome.event), (State::SynRecv, State::Established, Event::Established));
    conn
}

#[test]
fn closes_in_order() {
    let mut conn = established();
    assert_eq!(conn.on_segment(Inbound, &seg(FIN | ACK, 101, 501, 10)).to, State::FinWait);
    assert_eq!(conn.on_segment(Outbound, &seg(ACK, 501, 112, 1000)).to, State::FinWait);
    assert_eq!(conn.on_segment(Outbound, &seg(FIN | ACK, 1501, 112, 0)).to, State::LastAck);
    assert_eq!(conn.on_segment(Inbound, &seg(ACK, 112, 1502, 0)).to, State::TimeWait);
}
