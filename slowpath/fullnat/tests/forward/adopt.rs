//! Entries that the switch has from a life before: sessions made of them, and those of which none can be.

use fullnat::id::{IfaceId, Proto, RPort};
use fullnat::offload::{Adoption, AnyEnds, Place, Request, State as With, Threshold, Verdict};
use fullnat::reason::DropReason;
use fullnat::tcp::State;
use fullnat::wire::TcpFlags;
use fullnat::wire::testing::Build;

use crate::books::{drop_of, nothing};
use crate::both_families;
use crate::offload::{ACK, NOTHING, asked, now_with, sim, sim_with};
use crate::sim::{Options, Sim};
use crate::talk::{Talk, from_router, outer, segment, syn};
use crate::world::{FRONT, Net, World};

const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | ACK.0);

/// A connection that was established, and what its entries tell.
fn before<A: Net>(sim: &mut Sim, client: u16, cport: u16) -> (Talk<A>, Adoption) {
    let talk = Talk::<A>::established(sim, client, cport);
    let installs = asked(sim);
    let Some(&Request::Install { ends, .. }) = installs.last() else { panic!("no install") };
    (talk, Adoption { ticket: 7, ends, back: FRONT, packets: [40, 50] })
}

fn adopt(sim: &mut Sim, adoption: Adoption) -> Request {
    sim.verdict(0, Verdict::Adopt(adoption));
    let [answer] = asked(sim)[..] else { panic!("one answer") };
    answer
}

fn goes_on<A: Net>() {
    let mut sim = sim();
    let (talk, adoption) = before::<A>(&mut sim, 1, 4000);
    sim.restart();
    sim.changed();
    let Request::Adopted { ticket: 7, place, nexthops, idle_ms: 900_000, stays: true } = adopt(&mut sim, adoption)
    else {
        panic!("not adopted")
    };
    let session = sim.session();
    assert_eq!((session.place, session.offload, session.state), (place, With::Offloaded, State::Established));
    assert_eq!((session.packets_in, session.packets_out, session.idle_ms), (40, 50, 0));
    let [inbound, outbound] = nexthops.map(|id| sim.neighbors.get(id).expect("a next hop"));
    assert_eq!((inbound.addr, outbound.iface), (A::server(talk.server).into(), FRONT));
    assert_eq!((sim.ports_used(), sim.holds(), sim.world.active_in_all()), ((1, 0), 2, 1));
    let made = nothing().and("offload.adopted", 1).and("sessions_created", 1);
    sim.expect(&made.and("service.sessions", 1).and("server.sessions", 1));
    // The end of the connection comes, with numbers nobody could know, and from then on all of it.
    talk.up(&mut sim, segment(true, FIN_ACK, 900_000_000, 700_000_000, b""));
    assert_eq!((asked(&mut sim), now_with(&sim)), (vec![Request::Remove { place }], With::Removing));
    sim.verdict(0, Verdict::Removed(place, NOTHING));
    talk.down(&mut sim, segment(false, ACK, 700_000_000, 900_000_001, b"more"));
    talk.down(&mut sim, segment(false, FIN_ACK, 700_000_004, 900_000_001, b""));
    talk.up(&mut sim, segment(true, ACK, 900_000_001, 700_000_005, b""));
    assert_eq!(sim.session().state, State::TimeWait);
    sim.skip(11_000);
    assert_eq!((sim.sessions(), sim.ports_used(), sim.holds()), (vec![], (0, 1), 0));
    assert_eq!(sim.world.active_in_all(), 0);
}

#[test]
fn a_connection_of_a_life_before_goes_on_and_ends() {
    both_families!(goes_on);
}

fn other_ends<A: Net>(adoption: &Adoption, change: impl Fn(&mut fullnat::offload::Ends<A>)) -> Adoption {
    fn of<A: Net, B: Net>(ends: &fullnat::offload::Ends<B>) -> fullnat::offload::Ends<A> {
        let address = |b: B| A::from_ip(b.into()).expect("the family of the test");
        fullnat::offload::Ends {
            client: address(ends.client),
            vip: address(ends.vip),
            server: address(ends.server),
            local: address(ends.local),
            cport: ends.cport,
            vport: ends.vport,
            rport: ends.rport,
            lport: ends.lport,
            proto: ends.proto,
            nexthop_in: ends.nexthop_in,
            nexthop_out: ends.nexthop_out,
        }
    }
    let mut ends = match &adoption.ends {
        AnyEnds::V4(ends) => of::<A, _>(ends),
        AnyEnds::V6(ends) => of::<A, _>(ends),
    };
    change(&mut ends);
    Adoption { ends: AnyEnds::of(&ends).expect("a family"), ..*adoption }
}

fn declines<A: Net>() {
    let mut sim = sim();
    let (_, adoption) = before::<A>(&mut sim, 1, 4000);
    sim.restart();
    sim.changed();
    let other = |change: &dyn Fn(&mut fullnat::offload::Ends<A>)| other_ends::<A>(&adoption, change);
    let declined = |sim: &mut Sim, adoption: Adoption| {
        assert_eq!(adopt(sim, adoption), Request::Declined { ticket: 7 }, "{adoption:?}");
        sim.expect(&nothing().and("offload.declined", 1));
    };
    for wrong in [
        other(&|ends| ends.vip = A::client(9)),
        other(&|ends| ends.vport.0 += 1),
        other(&|ends| ends.proto = Proto::Udp),
        other(&|ends| ends.server = A::server(9)),
        other(&|ends| ends.rport = RPort(1)),
        other(&|ends| ends.local = A::lip(5)),
    ] {
        declined(&mut sim, wrong);
        assert_eq!((sim.sessions(), sim.ports_used(), sim.holds()), (vec![], (0, 0), 0));
    }
    assert!(matches!(adopt(&mut sim, adoption), Request::Adopted { .. }));
    sim.changed();
    // The same local port, or the same client's tuple, a second time.
    declined(&mut sim, adoption);
    declined(&mut sim, other(&|ends| ends.cport.0 += 1));
    declined(&mut sim, other(&|ends| ends.lport.0 ^= 1));
    assert_eq!((sim.sessions().len(), sim.ports_used().0, sim.holds(), sim.world.active_in_all()), (1, 1, 2, 1));
}

#[test]
fn what_this_plan_would_not_have_is_declined() {
    both_families!(declines);
}

/// A port that was given out already since the start, and one that rests.
#[test]
fn a_port_in_use_is_declined() {
    use std::net::Ipv4Addr;
    // One server, one port.
    let narrow = || World { lips: vec![0], ports: 2000..=2000, ..World::default() };
    let mut sim = sim_with(World { servers: narrow().servers[..1].to_vec(), ..narrow() }, Threshold::Packets(0));
    let (_, adoption) = before::<Ipv4Addr>(&mut sim, 1, 4000);
    sim.restart();
    Talk::<Ipv4Addr>::established(&mut sim, 2, 5000);
    asked(&mut sim);
    assert_eq!(adopt(&mut sim, adoption), Request::Declined { ticket: 7 });
    assert_eq!(sim.sessions().len(), 1);
}

#[test]
fn without_room_in_the_table_none_is_made() {
    let options = Options { offload: Some(Threshold::Packets(0)), sessions: 1, ..Options::default() };
    let mut sim = Sim::quiet_with(World::default(), options);
    let (_, adoption) = before::<std::net::Ipv4Addr>(&mut sim, 1, 4000);
    sim.restart();
    assert!(matches!(adopt(&mut sim, adoption), Request::Adopted { place: Place::V4(_), .. }));
    let second = other_ends::<std::net::Ipv4Addr>(&adoption, |ends| (ends.cport.0, ends.lport.0) = (1, 1));
    assert_eq!(adopt(&mut sim, second), Request::Declined { ticket: 7 });
    assert_eq!((sim.ports_used().0, sim.holds()), (1, 2));
}

/// The operator changed an MTU: the session goes on, its entries must not.
#[test]
fn entries_between_links_of_two_mtus_do_not_stay() {
    let mut sim = sim();
    let (talk, adoption) = before::<std::net::Ipv4Addr>(&mut sim, 1, 4000);
    sim.world.mtu = [1500, 9000];
    sim.restart();
    let Request::Adopted { place, stays: false, .. } = adopt(&mut sim, adoption) else { panic!("it stays") };
    assert_eq!(now_with(&sim), With::Removing);
    sim.verdict(0, Verdict::Removed(place, NOTHING));
    assert_eq!(now_with(&sim), With::None);
    talk.up(&mut sim, segment(true, ACK, 5_000, 70_000, b"goes on"));
}

fn waits<A: Net>() {
    let mut sim = sim();
    sim.gate.as_ref().expect("a target").hold(true);
    sim.changed();
    let first = syn(from_router(outer::<A>(Proto::Tcp, 1, 4000))).bytes();
    let datagram = from_router(outer::<A>(Proto::Udp, 1, 4000)).payload(b"question").bytes();
    for bytes in [first, datagram] {
        assert_eq!(sim.rx(FRONT, &bytes), vec![]);
        sim.expect(&drop_of(DropReason::OffloadAdopting));
    }
    let stray = |build: Build<A>| build.flags(ACK).bytes();
    assert_eq!(sim.rx(FRONT, &stray(from_router(outer::<A>(Proto::Tcp, 1, 4000)))), vec![]);
    sim.expect(&drop_of(DropReason::NoSession));
    sim.gate.as_ref().expect("a target").hold(false);
    Talk::<A>::established(&mut sim, 1, 4000);
}

#[test]
fn no_session_begins_while_it_is_not_known_what_the_switch_has() {
    both_families!(waits);
}

/// With several workers each session is made where its packets, of both directions, will land.
#[test]
fn sessions_are_made_at_their_workers() {
    use std::net::Ipv4Addr;
    let options = Options { offload: Some(Threshold::Packets(0)), ..Options::software(3) };
    let mut sim = Sim::quiet_with(World::default(), options);
    let mut talks = Vec::new();
    for n in 0..30 {
        sim.lands_on = usize::from(n % 3);
        let talk = Talk::<Ipv4Addr>::established(&mut sim, n, 4000 + n);
        let mut asked = sim.workers.iter_mut().flat_map(|worker| worker.requests.drain(..));
        let Some(Request::Install { ends, .. }) = asked.next() else { panic!("no install") };
        talks.push((talk, Adoption { ticket: n.into(), ends, back: IfaceId(0), packets: [0; 2] }));
    }
    let by_worker = |sim: &Sim| sim.sessions_by_worker().iter().map(Vec::len).collect::<Vec<_>>();
    let before = by_worker(&sim);
    sim.restart();
    let (placement, plan) = (sim.placement(), sim.plan());
    for (_, adoption) in &talks {
        let home = placement.home(&plan, &adoption.ends, adoption.back).expect("a worker");
        sim.verdict(home.0.into(), Verdict::Adopt(*adoption));
    }
    assert_eq!(by_worker(&sim), before);
    for (n, (talk, _)) in talks.iter().enumerate() {
        sim.lands_on = n % 3;
        talk.up(&mut sim, segment(true, FIN_ACK, 1_000, 1_000, b""));
        talk.down(&mut sim, segment(false, FIN_ACK, 1_000, 1_001, b""));
    }
}
