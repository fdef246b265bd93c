//! Connections from SYN to end: bytes, counters, states, ports.

use fullnat::id::Proto;
use fullnat::reason::DropReason;
use fullnat::tcp::{State, Timeouts};
use fullnat::wire::TcpFlags;

use crate::books::{drop_of, nothing};
use crate::both_families;
use crate::sim::Sim;
use crate::talk::{Talk, segment, syn};
use crate::world::{FRONT, Net, World};

const ACK: TcpFlags = TcpFlags::ACK;
const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | ACK.0);
const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | ACK.0);
const RST: TcpFlags = TcpFlags::RST;

/// One segment: who sends it, what it is, and what it must do.
struct Step {
    client: bool,
    flags: TcpFlags,
    at: u32,
    acked: u32,
    data: &'static [u8],
    state: State,
    also: &'static [(&'static str, u64)],
}

fn up(flags: TcpFlags, at: u32, acked: u32, data: &'static [u8], state: State) -> Step {
    Step { client: true, flags, at, acked, data, state, also: &[] }
}

fn down(flags: TcpFlags, at: u32, acked: u32, data: &'static [u8], state: State) -> Step {
    Step { client: false, ..up(flags, at, acked, data, state) }
}

impl Step {
    fn also(self, also: &'static [(&'static str, u64)]) -> Self {
        Step { also, ..self }
    }
}

/// Opens a connection and plays the steps, asserting bytes, counters, state, ports and server load after each.
fn play<A: Net>(sim: &mut Sim, steps: &[Step]) -> Talk<A> {
    let (talk, opened) = Talk::<A>::open(sim, Proto::Tcp, 1, 4000);
    sim.expect(&opened);
    assert_eq!(sim.session().state, State::SynSent);
    let (mut packets_in, mut packets_out) = (1, 0);
    for (i, step) in steps.iter().enumerate() {
        sim.advance(10);
        let shape = segment(step.client, step.flags, step.at, step.acked, step.data);
        let counted = if step.client { talk.up(sim, shape) } else { talk.down(sim, shape) };
        let expected = step.also.iter().fold(counted, |e, (name, n)| e.and(name, *n));
        assert_eq!(&sim.changed(), expected.books(), "step {i}");
        *if step.client { &mut packets_in } else { &mut packets_out } += 1;
        let session = sim.session();
        assert_eq!(session.state, step.state, "step {i}");
        assert_eq!((session.packets_in, session.packets_out), (packets_in, packets_out));
        assert_eq!((session.idle_ms, sim.ports_used()), (0, (1, 0)));
        assert_eq!((sim.world.active::<A>(Proto::Tcp, talk.server), sim.holds()), (1, 2));
    }
    talk
}

/// Asserts that the session lives for `timeout` and ends then, and that its port rests for the quarantine.
fn ends_after<A: Net>(sim: &mut Sim, talk: &Talk<A>, timeout: u32) {
    assert_eq!(sim.session().expires_ms, u64::from(timeout));
    sim.skip(u64::from(timeout) - 1);
    assert_eq!(sim.sessions().len(), 1);
    sim.expect(&nothing());
    sim.skip(1 + 256);
    assert_eq!(sim.sessions(), []);
    sim.expect(&nothing().and("sessions_ended", 1));
    assert_eq!((sim.world.active_in_all(), sim.holds()), (0, 0));
    assert_eq!(sim.ports_used(), (0, 1));
    let late = talk.server_sends(sim, &segment(false, ACK, 1, 1, b"late")).bytes();
    assert_eq!(sim.rx(sim.world.back(), &late), []);
    sim.expect(&drop_of(DropReason::NoSession));
    sim.skip(sim.world.quarantine_ms + 2000);
    assert_eq!(sim.ports_used(), (0, 0));
}

fn handshake() -> [Step; 2] {
    [down(SYN_ACK, 0, 1, b"", State::SynRecv), up(ACK, 1, 1, b"", State::Established).also(&[("handshakes", 1)])]
}

/// The whole life of a connection: handshake and then these steps, until it ends by itself.
fn life<A: Net>(two_arm: bool, steps: Vec<Step>, timeout: impl Fn(&Timeouts) -> u32) {
    let mut sim = Sim::quiet(World { two_arm, ..World::default() });
    sim.expect(&nothing());
    let steps: Vec<_> = handshake().into_iter().chain(steps).collect();
    let talk = play::<A>(&mut sim, &steps);
    ends_after(&mut sim, &talk, timeout(&Timeouts::default()));
}

fn client_closes<A: Net>() {
    for two_arm in [true, false] {
        let steps = vec![
            up(ACK, 1, 1, b"GET / HTTP/1.1\r\n\r\n", State::Established),
            down(ACK, 1, 19, b"", State::Established),
            down(ACK, 1, 19, b"HTTP/1.1 200 OK\r\n\r\n", State::Established),
            up(ACK, 19, 20, b"", State::Established),
            up(FIN_ACK, 19, 20, b"", State::FinWait),
            down(ACK, 20, 20, b"", State::FinWait),
            down(ACK, 20, 20, b"the rest, after half of it is closed", State::FinWait),
            up(ACK, 20, 56, b"", State::FinWait),
            down(FIN_ACK, 56, 20, b"", State::LastAck),
            up(ACK, 20, 57, b"", State::TimeWait),
            // Both FINs once more, and their acknowledgments.
            down(FIN_ACK, 56, 20, b"", State::TimeWait),
            up(ACK, 20, 57, b"", State::TimeWait),
        ];
        life::<A>(two_arm, steps, |t| t.time_wait);
    }
}

#[test]
fn client_closes_first_and_still_gets_the_answer() {
    both_families!(client_closes);
}

fn server_closes<A: Net>() {
    let steps = vec![
        down(ACK, 1, 1, b"hello", State::Established),
        down(FIN_ACK, 6, 1, b"", State::CloseWait),
        up(ACK, 1, 7, b"", State::CloseWait),
        up(ACK, 1, 7, b"an upload that goes on", State::CloseWait),
        down(ACK, 7, 23, b"", State::CloseWait),
        up(FIN_ACK, 23, 7, b"", State::LastAck),
        down(ACK, 7, 24, b"", State::TimeWait),
    ];
    life::<A>(true, steps, |t| t.time_wait);
}

#[test]
fn server_closes_first_and_still_takes_the_upload() {
    both_families!(server_closes);
}

fn both_close<A: Net>() {
    let steps = vec![
        up(FIN_ACK, 1, 1, b"", State::FinWait),
        down(FIN_ACK, 1, 1, b"", State::LastAck),
        up(ACK, 2, 2, b"", State::LastAck),
        down(ACK, 2, 2, b"", State::TimeWait),
    ];
    life::<A>(true, steps, |t| t.time_wait);
}

#[test]
fn both_close_at_the_same_moment() {
    both_families!(both_close);
}

fn resets<A: Net>() {
    life::<A>(true, vec![up(RST, 1, 0, b"", State::Close)], |t| t.close);
    life::<A>(true, vec![down(RST, 1, 0, b"", State::Close)], |t| t.close);
    let after_fin = || up(FIN_ACK, 1, 1, b"", State::FinWait);
    life::<A>(true, vec![after_fin(), down(RST, 1, 0, b"", State::Close)], |t| t.close);
    life::<A>(true, vec![after_fin(), up(RST, 2, 0, b"", State::Close)], |t| t.close);
}

#[test]
fn either_side_resets() {
    both_families!(resets);
}

fn refused_by_server<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let talk = play::<A>(&mut sim, &[down(TcpFlags(RST.0 | ACK.0), 0, 1, b"", State::Close)]);
    ends_after(&mut sim, &talk, Timeouts::default().close);
}

#[test]
fn server_refuses_the_connection() {
    both_families!(refused_by_server);
}

fn blind_resets<A: Net>() {
    let ignored: &[(&str, u64)] = &[("rst_ignored", 1)];
    let steps = vec![
        up(RST, 2, 0, b"", State::Established).also(ignored),
        up(RST, 0, 0, b"", State::Established).also(ignored),
        down(RST, 1000, 0, b"", State::Established).also(ignored),
        down(RST, 0x4000_0000, 0, b"", State::Established).also(ignored),
        // Challenge ACK, and what the true owner of the connection does then: nothing changed for it.
        down(ACK, 1, 1, b"", State::Established),
        up(ACK, 1, 1, b"still here", State::Established),
        down(ACK, 1, 11, b"", State::Established),
    ];
    life::<A>(true, steps, |t| t.established);
}

#[test]
fn resets_out_of_window_end_nothing() {
    both_families!(blind_resets);
}

#[test]
fn each_state_has_its_timeout() {
    fn idle<A: Net>(steps: Vec<Step>, timeout: u32) {
        let mut sim = Sim::quiet(World::default());
        let talk = play::<A>(&mut sim, &steps);
        ends_after(&mut sim, &talk, timeout);
    }
    fn all<A: Net>() {
        let t = Timeouts::default();
        let with = |step: Step| handshake().into_iter().chain([step]).collect();
        idle::<A>(vec![], t.syn_sent);
        idle::<A>(vec![down(SYN_ACK, 0, 1, b"", State::SynRecv)], t.syn_recv);
        idle::<A>(handshake().into(), t.established);
        idle::<A>(with(up(FIN_ACK, 1, 1, b"", State::FinWait)), t.fin_wait);
        idle::<A>(with(down(FIN_ACK, 1, 1, b"", State::CloseWait)), t.close_wait);
    }
    both_families!(all);
}

#[test]
fn a_packet_starts_the_timeout_anew() {
    let mut sim = Sim::quiet(World::default());
    let talk = Talk::<std::net::Ipv4Addr>::established(&mut sim, 1, 1);
    for _ in 0..10 {
        sim.skip(899_000);
        talk.down(&mut sim, segment(false, ACK, 1, 1, b"keep-alive"));
    }
    ends_after_quietly(&mut sim);
}

/// Asserts that an established session ends when it should and not before.
fn ends_after_quietly(sim: &mut Sim) {
    sim.skip(899_999);
    assert_eq!(sim.sessions().len(), 1);
    sim.skip(1 + 256);
    assert_eq!(sim.sessions(), []);
}

fn closed_after_long<A: Net>() {
    let close = |sim: &mut Sim, talk: &Talk<A>, reset: bool| {
        if reset {
            talk.down(sim, segment(false, RST, 1, 0, b""));
        } else {
            talk.up(sim, segment(true, FIN_ACK, 1, 1, b""));
            talk.down(sim, segment(false, FIN_ACK, 1, 2, b""));
            talk.up(sim, segment(true, ACK, 2, 2, b""));
        }
        sim.changed();
    };
    for reset in [true, false] {
        let mut sim = Sim::quiet(World::default());
        let talk = Talk::<A>::established(&mut sim, 1, 1);
        // The timer is set for the end of the long timeout now, and must not wait for that.
        sim.skip(500_000);
        close(&mut sim, &talk, reset);
        ends_after(&mut sim, &talk, 10_000);
    }
}

fn acknowledged_late<A: Net>() {
    for late in [100, 9_990, 12_000, 19_900, 29_000] {
        let mut sim = Sim::quiet(World::default());
        let talk = Talk::<A>::established(&mut sim, 1, 1);
        talk.up(&mut sim, segment(true, FIN_ACK, 1, 1, b""));
        talk.down(&mut sim, segment(false, FIN_ACK, 1, 2, b""));
        for _ in 0..late / 10 {
            sim.advance(10);
        }
        talk.up(&mut sim, segment(true, ACK, 2, 2, b""));
        sim.changed();
        ends_after(&mut sim, &talk, 10_000);
    }
}

#[test]
fn the_last_acknowledgment_shortens_the_timeout_however_late() {
    both_families!(acknowledged_late);
}

#[test]
fn a_connection_closed_late_ends_as_soon_as_one_closed_early() {
    both_families!(closed_after_long);
}

fn udp<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let (talk, opened) = Talk::<A>::open(&mut sim, Proto::Udp, 1, 4000);
    sim.expect(&opened);
    let counted = talk.down(&mut sim, |build| build.payload(b"answer"));
    sim.expect(&counted);
    let counted = talk.up(&mut sim, |build| build.payload(b""));
    sim.expect(&counted);
    assert_eq!((sim.session().state, sim.ports_used()), (State::Udp, (1, 0)));
    sim.skip(299_999);
    assert_eq!(sim.sessions().len(), 1);
    sim.skip(1 + 256);
    assert_eq!((sim.sessions(), sim.ports_used()), (vec![], (0, 1)));
    sim.expect(&nothing().and("sessions_ended", 1));
}

#[test]
fn udp_question_and_answer() {
    both_families!(udp);
}

fn syn_again<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let (talk, opened) = Talk::<A>::open(&mut sim, Proto::Tcp, 1, 4000);
    sim.expect(&opened);
    for _ in 0..3 {
        sim.advance(1000);
        let counted = talk.up(&mut sim, syn);
        sim.expect(&counted);
    }
    // The client gave up and tries anew from the same port: the server will say which of the two it takes.
    let other = |build| syn(build).seq(5_000_000);
    let counted = talk.up(&mut sim, other);
    sim.expect(&counted);
    assert_eq!(sim.session().state, State::SynSent);
    talk.down(&mut sim, |b| b.flags(SYN_ACK).seq(77).ack(5_000_001));
    assert_eq!(sim.session().state, State::SynRecv);
    talk.up(&mut sim, |b| b.flags(ACK).seq(5_000_001).ack(78));
    assert_eq!(sim.session().state, State::Established);
}

#[test]
fn a_repeated_syn_goes_the_same_way() {
    both_families!(syn_again);
}

fn reopen<A: Net>() {
    let close = [
        up(FIN_ACK, 1, 1, b"", State::FinWait),
        down(FIN_ACK, 1, 2, b"", State::LastAck),
        up(ACK, 2, 2, b"", State::TimeWait),
    ];
    let reset = [down(RST, 1, 0, b"", State::Close)];
    for end in [close.into_iter().collect::<Vec<_>>(), reset.into_iter().collect()] {
        let mut sim = Sim::quiet(World::default());
        let steps: Vec<_> = handshake().into_iter().chain(end).collect();
        let old = play::<A>(&mut sim, &steps);
        let (new, opened) = Talk::<A>::open(&mut sim, Proto::Tcp, 1, 4000);
        sim.expect(&opened.and("sessions_reopened", 1).and("sessions_ended", 1));
        assert_ne!((old.inner.src, old.inner.sport, old.server), (new.inner.src, new.inner.sport, new.server));
        assert_eq!((sim.session().state, sim.ports_used()), (State::SynSent, (1, 1)));
        assert_eq!(sim.world.active_in_all(), 1);
        // What the old server still sends meets nobody.
        let late = old.server_sends(&sim, &segment(false, ACK, 1, 1, b"late")).bytes();
        assert_eq!(sim.rx(sim.world.back(), &late), []);
        sim.expect(&drop_of(DropReason::NoSession));
        let counted = new.down(&mut sim, segment(false, SYN_ACK, 0, 1, b""));
        sim.expect(&counted);
    }
}

#[test]
fn a_tuple_used_again_gets_a_new_session_and_another_port() {
    both_families!(reopen);
}

#[test]
fn a_live_connection_is_not_reopened_by_a_stray_syn() {
    fn stray<A: Net>() {
        let mut sim = Sim::quiet(World::default());
        let talk = Talk::<A>::established(&mut sim, 1, 4000);
        let counted = talk.up(&mut sim, |build| syn(build).seq(99));
        sim.expect(&counted);
        assert_eq!(sim.session().state, State::Established);
    }
    both_families!(stray);
}

#[test]
fn segments_of_no_connection_open_none() {
    fn none<A: Net>() {
        let mut sim = Sim::quiet(World::default());
        for flags in [ACK, SYN_ACK, FIN_ACK, RST, TcpFlags::NONE, TcpFlags::SYN | RST, TcpFlags::SYN | TcpFlags::FIN] {
            let bytes = crate::talk::from_router::<A>(crate::talk::outer(Proto::Tcp, 1, 4000)).flags(flags).bytes();
            assert_eq!(sim.rx(FRONT, &bytes), []);
            sim.expect(&drop_of(DropReason::NoSession));
        }
        assert_eq!(sim.sessions(), []);
    }
    both_families!(none);
}
