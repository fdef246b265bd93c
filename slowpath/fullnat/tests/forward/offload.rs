//! A worker's dealings with the offload manager, rule by rule.

use std::net::SocketAddr;

use fullnat::flow::{Direction, FlowKey};
use fullnat::id::Proto;
use fullnat::offload::{AnyEnds, Counted, Place, Request, State as With, Threshold, Verdict};
use fullnat::reason::DropReason;
use fullnat::tcp::State;
use fullnat::wire::TcpFlags;

use crate::books::{drop_of, nothing};
use crate::both_families;
use crate::sim::{Options, Sim};
use crate::talk::{Talk, segment, syn};
use crate::world::{FRONT, Net, World};

pub const ACK: TcpFlags = TcpFlags::ACK;
pub const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | ACK.0);
const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | ACK.0);
const RST: TcpFlags = TcpFlags::RST;
const COUNTED: Counted = Counted { packets: [3, 4], bytes: [500, 6000] };
pub const NOTHING: Counted = Counted { packets: [0; 2], bytes: [0; 2] };

pub fn sim_with(world: World, threshold: Threshold) -> Sim {
    Sim::quiet_with(world, Options { offload: Some(threshold), ..Options::default() })
}

pub fn sim() -> Sim {
    sim_with(World::default(), Threshold::Packets(0))
}

/// What the only worker asked since the last look.
pub fn asked(sim: &mut Sim) -> Vec<Request> {
    sim.workers[0].requests.drain(..).collect()
}

pub fn now_with(sim: &Sim) -> With {
    sim.session().offload
}

fn offloaded_sessions(sim: &Sim) -> u64 {
    sim.workers[0].counters.offload.sessions.get()
}

/// A connection that the target has, and where it is.
fn offloaded<A: Net>(sim: &mut Sim) -> (Talk<A>, Place) {
    let talk = Talk::<A>::established(sim, 1, 4000);
    let [Request::Install { place, .. }] = asked(sim)[..] else { panic!("no install") };
    sim.verdict(0, Verdict::Installed(place));
    assert_eq!((now_with(sim), offloaded_sessions(sim)), (With::Offloaded, 1));
    sim.changed();
    (talk, place)
}

/// A key without its family.
fn any<A: Net>(key: FlowKey<A>) -> (Proto, SocketAddr, SocketAddr) {
    (key.proto, SocketAddr::new(key.src.into(), key.sport), SocketAddr::new(key.dst.into(), key.dport))
}

fn installs_when_established<A: Net>() {
    let mut sim = sim();
    let (talk, _) = Talk::<A>::open(&mut sim, Proto::Tcp, 1, 4000);
    talk.down(&mut sim, segment(false, SYN_ACK, 0, 1, b""));
    assert_eq!(asked(&mut sim), []);
    sim.changed();
    let counted = talk.up(&mut sim, segment(true, ACK, 1, 1, b""));
    sim.expect(&counted.and("handshakes", 1).and("offload.asked", 1));
    let [Request::Install { place, ends, idle_ms }] = asked(&mut sim)[..] else { panic!() };
    assert_eq!((place, idle_ms), (sim.session().place, 900_000));
    let (inbound, outbound) = match ends {
        AnyEnds::V4(ends) => (any(ends.key(Direction::Inbound)), any(ends.key(Direction::Outbound))),
        AnyEnds::V6(ends) => (any(ends.key(Direction::Inbound)), any(ends.key(Direction::Outbound))),
    };
    assert_eq!((inbound, outbound), (any(talk.outer), any(talk.inner.reversed())));
    // Once only, and packets go on meanwhile.
    for n in 0..3 {
        let counted = talk.up(&mut sim, segment(true, ACK, 1 + n, 1, b"x"));
        sim.expect(&counted);
    }
    assert_eq!((asked(&mut sim), now_with(&sim), offloaded_sessions(&sim)), (vec![], With::Installing, 0));
    sim.verdict(0, Verdict::Installed(place));
    assert_eq!((now_with(&sim), offloaded_sessions(&sim)), (With::Offloaded, 1));
    sim.expect(&nothing().and("offload.installed", 1));
}

#[test]
fn an_established_connection_is_installed_once() {
    both_families!(installs_when_established);
}

fn closes<A: Net>() {
    for reset in [false, true] {
        let mut sim = sim();
        let (talk, place) = offloaded::<A>(&mut sim);
        // Far from what was seen: the target has forwarded the rest.
        if reset {
            talk.down(&mut sim, segment(false, RST, 700_000_000, 0, b""));
        } else {
            talk.up(&mut sim, segment(true, FIN_ACK, 900_000_000, 700_000_000, b""));
        }
        assert_eq!((asked(&mut sim), now_with(&sim)), (vec![Request::Remove { place }], With::Removing));
        assert_eq!(offloaded_sessions(&sim), 0);
        // However long it takes: the port is not free before, and nothing is asked again.
        sim.skip(1_000_000);
        assert_eq!((sim.sessions().len(), sim.ports_used(), asked(&mut sim)), (1, (1, 0), vec![]));
        sim.changed();
        sim.verdict(0, Verdict::Removed(place, NOTHING));
        sim.expect(&nothing().and("offload.removed", 1));
        sim.advance(256);
        assert_eq!((sim.sessions(), sim.ports_used()), (vec![], (0, 1)));
    }
}

#[test]
fn a_session_that_closes_is_removed_and_stays_until_it_is() {
    both_families!(closes);
}

fn last_ack_passes_by<A: Net>() {
    let mut sim = sim();
    let (talk, place) = offloaded::<A>(&mut sim);
    talk.up(&mut sim, segment(true, FIN_ACK, 900_000_000, 700_000_000, b""));
    talk.down(&mut sim, segment(false, FIN_ACK, 700_000_000, 900_000_001, b""));
    // The client's last acknowledgment has no flag that would bring it here.
    assert_eq!((sim.session().state, now_with(&sim)), (State::LastAck, With::Removing));
    sim.verdict(0, Verdict::Removed(place, NOTHING));
    assert_eq!((sim.session().state, now_with(&sim)), (State::TimeWait, With::None));
    sim.skip(10_500);
    assert_eq!((sim.sessions(), sim.ports_used()), (vec![], (0, 1)));
}

#[test]
fn the_last_acknowledgment_is_not_waited_for_where_the_target_may_have_taken_it() {
    both_families!(last_ack_passes_by);
}

fn removed_at_once<A: Net>() {
    let mut sim = sim();
    let talk = Talk::<A>::established(&mut sim, 1, 4000);
    let place = sim.session().place;
    talk.up(&mut sim, segment(true, FIN_ACK, 1, 1, b""));
    talk.down(&mut sim, segment(false, FIN_ACK, 1, 2, b""));
    talk.up(&mut sim, segment(true, ACK, 2, 2, b""));
    assert_eq!((sim.session().state, asked(&mut sim).len()), (State::TimeWait, 1));
    sim.skip(20_000);
    assert_eq!(sim.sessions().len(), 1);
    sim.verdict(0, Verdict::Installed(place));
    assert_eq!((asked(&mut sim), now_with(&sim)), (vec![Request::Remove { place }], With::Removing));
    sim.verdict(0, Verdict::Removed(place, NOTHING));
    sim.advance(256);
    assert_eq!(sim.sessions(), []);
}

#[test]
fn a_connection_that_closed_before_it_was_installed_is_removed_at_once() {
    both_families!(removed_at_once);
}

fn tuple_again<A: Net>() {
    let mut sim = sim();
    let (talk, place) = offloaded::<A>(&mut sim);
    sim.workers[0].room = 0;
    talk.down(&mut sim, segment(false, RST, 1, 0, b""));
    assert_eq!((sim.session().state, now_with(&sim)), (State::Close, With::Offloaded));
    // The RST was exact, so the connection is over for good. Its entries are not.
    sim.workers[0].room = usize::MAX;
    sim.changed();
    let again = talk.client_sends(&syn).bytes();
    assert_eq!(sim.rx(FRONT, &again), []);
    sim.expect(&drop_of(DropReason::OffloadRemoving));
    assert_eq!(asked(&mut sim), [Request::Remove { place }]);
    assert_eq!(sim.rx(FRONT, &again), []);
    sim.expect(&drop_of(DropReason::OffloadRemoving));
    assert_eq!(asked(&mut sim), []);
    sim.verdict(0, Verdict::Removed(place, NOTHING));
    sim.changed();
    let (new, opened) = Talk::<A>::open(&mut sim, Proto::Tcp, 1, 4000);
    sim.expect(&opened.and("sessions_reopened", 1).and("sessions_ended", 1));
    assert_ne!((talk.inner.src, talk.inner.sport, talk.server), (new.inner.src, new.inner.sport, new.server));
}

#[test]
fn a_tuple_is_not_used_again_while_the_target_has_it() {
    both_families!(tuple_again);
}

fn server_forgot<A: Net>() {
    let mut sim = sim();
    let (talk, place) = offloaded::<A>(&mut sim);
    talk.up(&mut sim, |b| syn(b).seq(70_000));
    assert_eq!(asked(&mut sim), []);
    sim.changed();
    let syn_ack = |b: fullnat::wire::testing::Build<A>| b.flags(SYN_ACK).seq(0x1000_0000).ack(70_001);
    let bytes = talk.server_sends(&sim, &syn_ack).bytes();
    assert_eq!(sim.rx(sim.world.back(), &bytes), []);
    sim.expect(&drop_of(DropReason::OffloadRemoving));
    assert_eq!((asked(&mut sim), sim.session().state), (vec![Request::Remove { place }], State::Established));
    sim.verdict(0, Verdict::Removed(place, COUNTED));
    sim.advance(2_000);
    talk.down(&mut sim, syn_ack);
    assert_eq!(sim.session().state, State::SynRecv);
    talk.up(&mut sim, |b| b.flags(ACK).seq(70_001).ack(0x1000_0001));
    assert_eq!(sim.session().state, State::Established);
    assert_eq!(asked(&mut sim).len(), 1, "installed again");
}

#[test]
fn a_new_connection_of_a_server_that_forgot_waits_for_the_removal() {
    both_families!(server_forgot);
}

fn idle<A: Net>() {
    let mut sim = sim();
    let (_, place) = offloaded::<A>(&mut sim);
    // Its own deadline: the worker asks first, and again until there is an answer.
    sim.advance(899_999);
    assert_eq!(asked(&mut sim), []);
    sim.advance(1_000);
    assert_eq!((asked(&mut sim), now_with(&sim)), (vec![Request::Check { place }], With::Offloaded));
    sim.advance(2_000);
    assert_eq!(asked(&mut sim), [Request::Check { place }]);
    sim.changed();
    sim.verdict(0, Verdict::Active(place, COUNTED));
    let books = sim.changed();
    for (of, way, n) in [("packets", "in", 3), ("packets", "out", 4), ("bytes", "in", 500), ("bytes", "out", 6000)] {
        for counter in ["offload", "service", "server"] {
            assert_eq!(books[&format!("{counter}.{of}_{way}")], n);
        }
    }
    let session = sim.session();
    assert_eq!((session.packets_in, session.packets_out, session.idle_ms), (2 + 3, 1 + 4, 0));
    sim.advance(890_000);
    assert_eq!(asked(&mut sim), []);
    // Too early for it to be true of both ways a packet can take.
    sim.verdict(0, Verdict::Idle(place, NOTHING));
    assert_eq!(asked(&mut sim), []);
    sim.advance(10_500);
    assert_eq!(asked(&mut sim), [Request::Check { place }]);
    sim.verdict(0, Verdict::Idle(place, NOTHING));
    assert_eq!(asked(&mut sim), [Request::Remove { place }]);
    sim.skip(10_000);
    assert_eq!(sim.sessions().len(), 1);
    sim.verdict(0, Verdict::Removed(place, NOTHING));
    sim.advance(256);
    assert_eq!((sim.sessions(), sim.ports_used()), (vec![], (0, 1)));
}

#[test]
fn an_idle_session_is_checked_then_removed_then_ended() {
    both_families!(idle);
}

fn given_back<A: Net>() {
    // Of a session that was refused one entry may have been in force; of one that was lost both were.
    for refused in [true, false] {
        let mut sim = sim();
        let talk = Talk::<A>::established(&mut sim, 1, 4000);
        let place = sim.session().place;
        sim.advance(800_000);
        if refused {
            sim.verdict(0, Verdict::Refused(place, 100));
        } else {
            sim.verdict(0, Verdict::Installed(place));
            sim.verdict(0, Verdict::Removed(place, NOTHING));
        }
        assert_eq!((now_with(&sim), sim.session().idle_ms), (With::None, 0));
        talk.up(&mut sim, segment(true, FIN_ACK, 900_000_000, 700_000_000, b""));
        assert_eq!(sim.session().state, State::FinWait);
    }
}

#[test]
fn of_a_session_given_back_nobody_knows_the_last_packet() {
    both_families!(given_back);
}

fn punted_between<A: Net>() {
    let mut sim = sim();
    let (talk, _) = offloaded::<A>(&mut sim);
    // Both directions show a segment here, then the target forwards much more.
    talk.up(&mut sim, segment(true, ACK, 9_000, 7_000, b""));
    talk.down(&mut sim, segment(false, ACK, 7_000, 9_000, b""));
    talk.up(&mut sim, segment(true, FIN_ACK, 900_000_000, 700_000_000, b""));
    assert_eq!(sim.session().state, State::FinWait);
}

#[test]
fn numbers_seen_while_the_target_forwards_are_not_held_to() {
    both_families!(punted_between);
}

fn slow_install<A: Net>() {
    let mut sim = sim();
    Talk::<A>::established(&mut sim, 1, 4000);
    let place = sim.session().place;
    asked(&mut sim);
    sim.advance(1_000_000);
    assert_eq!((sim.sessions().len(), asked(&mut sim)), (1, vec![]));
    sim.verdict(0, Verdict::Installed(place));
    sim.advance(1_000);
    assert_eq!(asked(&mut sim), [Request::Check { place }]);
}

#[test]
fn a_session_past_its_deadline_waits_for_the_verdict_and_is_looked_at_then() {
    both_families!(slow_install);
}

fn resumed<A: Net>() {
    let mut sim = sim();
    let (talk, place) = offloaded::<A>(&mut sim);
    sim.advance(900_500);
    sim.verdict(0, Verdict::Idle(place, NOTHING));
    assert_eq!(asked(&mut sim).last(), Some(&Request::Remove { place }));
    // Packets came after all, and the target forwarded them before it let go.
    sim.verdict(0, Verdict::Removed(place, COUNTED));
    sim.advance(5_000);
    assert_eq!((now_with(&sim), sim.session().idle_ms), (With::None, 5_000));
    talk.up(&mut sim, segment(true, ACK, 9_000, 90_000, b"and here comes more"));
}

#[test]
fn a_session_whose_packets_come_again_while_it_is_removed_lives_on() {
    both_families!(resumed);
}

fn unknown_next_hop<A: Net>() {
    let mut sim = sim_with(World::default(), Threshold::Never);
    let talk = Talk::<A>::established(&mut sim, 1, 4000);
    let address = A::server(talk.server).into();
    let hop = sim.neighbors.iter().find(|hop| hop.addr == address).expect("a next hop");
    sim.neighbors.make_dynamic(hop.id);
    sim.gate.as_ref().expect("a target").set([Threshold::Packets(0); 2]);
    let bytes = talk.client_sends(&segment(true, ACK, 1, 1, b"waits")).bytes();
    assert_eq!((sim.rx(FRONT, &bytes), sim.waiting()), (vec![], 1));
    talk.down(&mut sim, segment(false, ACK, 1, 1, b"goes"));
    assert_eq!(asked(&mut sim), []);
    sim.neighbors.learn(hop.iface, address, hop.mac.expect("known before"), sim.now, true);
    assert_eq!((sim.tick().len(), sim.waiting()), (1, 0));
    talk.down(&mut sim, segment(false, ACK, 1, 1, b"goes"));
    assert_eq!(asked(&mut sim).len(), 1);
}

#[test]
fn nothing_may_wait_for_a_next_hop() {
    both_families!(unknown_next_hop);
}

fn refused<A: Net>() {
    let mut sim = sim();
    let talk = Talk::<A>::established(&mut sim, 1, 4000);
    let place = sim.session().place;
    assert_eq!(asked(&mut sim).len(), 1);
    sim.verdict(0, Verdict::Refused(place, 5_000));
    sim.expect(&nothing().and("offload.refused", 1));
    for (ms, n) in [(0, 0), (4_999, 0), (1_001, 1)] {
        sim.advance(ms);
        talk.up(&mut sim, segment(true, ACK, 1, 1, b"up"));
        assert_eq!(asked(&mut sim).len(), n, "{ms}");
    }
    // The target loses the entries by itself: the connection goes on here, and rests a little.
    sim.verdict(0, Verdict::Installed(place));
    sim.verdict(0, Verdict::Removed(place, COUNTED));
    assert_eq!((now_with(&sim), sim.session().idle_ms), (With::None, 0));
    for (ms, n) in [(0, 0), (2_000, 1)] {
        sim.advance(ms);
        talk.up(&mut sim, segment(true, ACK, 5_000, 7_000, b"up"));
        assert_eq!(asked(&mut sim).len(), n, "{ms}");
    }
}

#[test]
fn a_refused_or_lost_session_goes_on_and_is_tried_again_later() {
    both_families!(refused);
}

fn full<A: Net>() {
    let mut sim = sim();
    sim.workers[0].room = 0;
    let talk = Talk::<A>::established(&mut sim, 1, 4000);
    assert_eq!((now_with(&sim), asked(&mut sim)), (With::None, vec![]));
    let counted = talk.up(&mut sim, segment(true, ACK, 1, 1, b"up"));
    sim.expect(&counted.and("offload.full", 1));
    sim.workers[0].room = 1;
    talk.up(&mut sim, segment(true, ACK, 1, 1, b"up"));
    assert_eq!((now_with(&sim), asked(&mut sim).len()), (With::Installing, 1));
    let place = sim.session().place;
    sim.verdict(0, Verdict::Installed(place));
    sim.changed();
    let counted = talk.up(&mut sim, segment(true, FIN_ACK, 1, 1, b""));
    sim.expect(&counted.and("offload.full", 1));
    assert_eq!(now_with(&sim), With::Offloaded);
    sim.advance(1_500);
    let tries = sim.changed()["offload.full"];
    assert!((3..=6).contains(&tries), "{tries}");
    sim.workers[0].room = 1;
    sim.advance(512);
    assert_eq!((now_with(&sim), asked(&mut sim)), (With::Removing, vec![Request::Remove { place }]));
}

#[test]
fn what_finds_no_room_is_asked_again() {
    both_families!(full);
}

fn stray<A: Net>() {
    let mut sim = sim();
    let place = |n| Place::of::<A>(fullnat::table::SessionIdx(n));
    let (_, here) = offloaded::<A>(&mut sim);
    let strays = [
        Verdict::Installed(here),
        Verdict::Refused(here, 1),
        Verdict::Installed(place(7)),
        Verdict::Removed(place(9_999_999), COUNTED),
        Verdict::Active(place(1), COUNTED),
    ];
    let before = sim.session();
    for verdict in strays {
        sim.verdict(0, verdict);
        sim.expect(&nothing().and("offload.ignored", 1));
    }
    assert_eq!((sim.session(), offloaded_sessions(&sim)), (before, 1));
}

#[test]
fn verdicts_that_fit_nothing_change_nothing() {
    both_families!(stray);
}
