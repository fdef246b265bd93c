//! ARP and neighbour discovery: who is answered where, how next hops are found, lost and moved.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fullnat::frame::{Frame, HeapFrame};
use fullnat::id::{IfaceId, Proto};
use fullnat::reason::DropReason;
use fullnat::wire::testing::Build;
use fullnat::wire::{Mac, Packet, arp, ndp, parse};

use crate::books::{drop_of, nothing};
use crate::both_families;
use crate::sim::{Options, Sent, Sim};
use crate::talk::{Talk, from_router, outer};
use crate::world::{BACK, FRONT, GROUP, Net, ROUTER, Rs, World, our_mac, rport, server_mac};

const OTHER: Mac = Mac([2, 0, 0, 9, 9, 9]);

fn made(make: impl FnOnce(&mut HeapFrame) -> bool) -> Vec<u8> {
    let mut frame = HeapFrame::new(&[]);
    assert!(make(&mut frame));
    frame.bytes().to_vec()
}

/// The question who has `target`, to all or to one.
fn question(to: Option<Mac>, mac: Mac, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    match (sender, target) {
        (IpAddr::V4(sender), IpAddr::V4(target)) => {
            made(|f| arp::request(f, to.unwrap_or(Mac::BROADCAST), (mac, sender), target))
        }
        (IpAddr::V6(sender), IpAddr::V6(target)) => made(|f| ndp::solicit(f, to, (mac, sender), target)),
        _ => panic!("two families"),
    }
}

/// The answer of `mac` to a question.
fn answer(question: &[u8], mac: Mac) -> Vec<u8> {
    let mut frame = HeapFrame::new(question);
    match parse(question) {
        Ok(Packet::Arp(request)) => assert!(arp::reply(&mut frame, &request, mac)),
        Ok(Packet::Icmp6(packet)) => match ndp::parse(question, &packet) {
            Ok(ndp::Neighbor::Solicitation { from, target, .. }) => assert!(ndp::reply(&mut frame, from, target, mac)),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    frame.bytes().to_vec()
}

/// The announcement that `address` is at `mac`.
fn announcement(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => made(|f| arp::announce(f, mac, address)),
        IpAddr::V6(address) => made(|f| ndp::announce(f, mac, address)),
    }
}

/// All addresses of ours, and on which interfaces somebody may ask for them.
fn ours<A: Net>(two_arm: bool) -> Vec<(IpAddr, Vec<IfaceId>)> {
    let on = |address: A, ifaces: &[IfaceId]| (address.into(), if two_arm { ifaces.to_vec() } else { vec![FRONT] });
    vec![
        on(A::own(FRONT), &[FRONT]),
        on(A::own(BACK), &[BACK]),
        on(A::lip(0), &[BACK]),
        on(A::lip(1), &[BACK]),
        // On no link of ours: it is routed to us, or believed to be on the link it is asked for on.
        on(A::vip(), &[FRONT, BACK]),
    ]
}

#[test]
fn addresses_are_announced_once_at_start_by_one_worker() {
    for two_arm in [true, false] {
        let mut sim = Sim::with(World { two_arm, ..World::default() }, Options::software(3));
        let sent: Vec<_> = sim.announce(40).into_iter().map(|s| (s.iface, s.bytes)).collect();
        let all = ours::<Ipv4Addr>(two_arm).into_iter().chain(ours::<Ipv6Addr>(two_arm));
        let expected: BTreeSet<_> =
            all.flat_map(|(ip, ifaces)| ifaces.into_iter().map(move |i| (i, announcement(our_mac(i), ip)))).collect();
        assert_eq!((sent.len(), sent.into_iter().collect()), (expected.len(), expected));
        sim.expect(&nothing());
    }
}

fn answered<A: Net>() {
    for two_arm in [true, false] {
        let mut sim = Sim::quiet(World { two_arm, ..World::default() });
        for (address, ifaces) in ours::<A>(two_arm) {
            for iface in if two_arm { vec![FRONT, BACK] } else { vec![FRONT] } {
                let asker = if iface == FRONT { A::router() } else { A::server(5) };
                for to in [None, Some(our_mac(iface))] {
                    let ask = question(to, OTHER, asker.into(), address);
                    let sent = sim.rx(iface, &ask);
                    if ifaces.contains(&iface) {
                        assert_eq!(sent, [Sent { iface, bytes: answer(&ask, our_mac(iface)) }], "{address} {iface}");
                        sim.expect(&nothing().and("neighbor_answered", 1));
                    } else {
                        assert_eq!(sent, [], "{address} on {iface}");
                        sim.expect(&nothing().and("neighbor_heard", 1));
                    }
                }
            }
        }
        // What is not ours is not answered for.
        let ask = question(None, OTHER, A::router().into(), A::client(3).into());
        assert_eq!(sim.rx(FRONT, &ask), []);
        sim.expect(&nothing().and("neighbor_heard", 1));
    }
}

#[test]
fn addresses_are_answered_for_on_the_right_link_only() {
    both_families!(answered);
}

#[test]
fn a_host_that_checks_for_duplicates_hears_of_us_and_teaches_nothing() {
    let mut sim = Sim::quiet(World::default());
    let probe = question(None, OTHER, Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::lip(0).into());
    let sent = sim.rx_one(BACK, &probe);
    assert_eq!(sent.bytes, answer(&probe, our_mac(BACK)));
    // A solicitation from nowhere has no link-layer option: cut it off and put length and checksum right.
    let mut probe = question(None, OTHER, Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::lip(0).into());
    probe.truncate(78);
    probe[19] = 24;
    let message = fullnat::wire::testing::icmp(
        Ipv6Addr::UNSPECIFIED,
        solicited_node(&probe),
        255,
        (135, 0),
        [0; 4],
        &probe[62..],
    );
    probe[14..].copy_from_slice(&message[14..]);
    let sent = sim.rx_one(BACK, &probe);
    assert_eq!(sent.bytes[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(sent.bytes, answer(&probe, our_mac(BACK)));
    sim.expect(&nothing().and("neighbor_answered", 2));
}

fn solicited_node(frame: &[u8]) -> Ipv6Addr {
    fullnat::addr::Addr::read(&frame[38..])
}

/// A network whose next hops must be asked for; one server.
fn unknown(limit: usize) -> Sim {
    unknown_with(Options { pinned: false, pending_per_nexthop: limit, ..Options::default() })
}

fn unknown_with(options: Options) -> Sim {
    let servers = vec![Rs { weight: 1, max_connections: 0, removed: false }];
    Sim::quiet_with(World { servers, ..World::default() }, options)
}

/// A datagram of one client, with its number in it.
fn datagram<A: Net>(n: u8) -> Vec<u8> {
    from_router(outer::<A>(Proto::Udp, 1, 1)).payload(&[n]).bytes()
}

/// The numbers in datagrams that reached the server, and to which MAC address.
fn arrived<A: Net>(sent: &[Sent]) -> Vec<(Mac, u8)> {
    let is = |s: &&Sent| A::key(&s.bytes).is_some_and(|key| key.dst == A::server(0) && key.dport == rport(Proto::Udp));
    let of = |s: &Sent| (fullnat::wire::ethernet::destination(&s.bytes), s.bytes[s.bytes.len() - 1]);
    sent.iter().filter(is).map(of).collect()
}

/// The questions the balancer asks: for the server by the back, for the router by the front.
fn questions<A: Net>(to: [Option<Mac>; 2]) -> BTreeSet<(IfaceId, Vec<u8>)> {
    let about = |iface, to, target: A| (iface, question(to, our_mac(iface), A::own(iface).into(), target.into()));
    [about(BACK, to[0], A::server(0)), about(FRONT, to[1], A::router())].into()
}

fn set(sent: Vec<Sent>) -> BTreeSet<(IfaceId, Vec<u8>)> {
    sent.into_iter().map(|s| (s.iface, s.bytes)).collect()
}

/// The server answers the balancer's question.
fn server_answer<A: Net>(mac: Mac) -> Vec<u8> {
    answer(&question(None, our_mac(BACK), A::own(BACK).into(), A::server(0).into()), mac)
}

fn waits_in_order<A: Net>() {
    let mut sim = unknown(5);
    for n in 0..8 {
        assert_eq!(sim.rx(FRONT, &datagram::<A>(n)), []);
    }
    let change = sim.changed();
    assert_eq!((change.get("sessions_created"), change.get("drop.neighbor_queue_full")), (Some(&1), Some(&3)));
    assert_eq!(crate::books::drops(&change), 3);
    assert_eq!(set(sim.tick()), questions::<A>([None, None]));
    assert_eq!(sim.tick(), []);
    // More datagrams come with the answer: they must not overtake those that wait.
    let burst = [server_answer::<A>(server_mac(0))];
    let mut sent = sim.rx_at(0, BACK, &burst);
    sent.extend(sim.rx_at(0, FRONT, &[datagram::<A>(8), datagram::<A>(9)]));
    sent.extend(sim.tick());
    assert_eq!(arrived::<A>(&sent), [0, 1, 2, 3, 4, 8, 9].map(|n| (server_mac(0), n)));
    assert_eq!(sent.len(), 7);
    let change = sim.changed();
    assert_eq!((change.get("neighbor_heard"), crate::books::drops(&change)), (Some(&1), 0));
}

/// The same with one link, where all of it comes in one burst.
fn waits_in_order_of_a_burst<A: Net>() {
    let mut sim = unknown(5);
    sim.world.two_arm = false;
    sim.reload();
    let answer = answer(&question(None, our_mac(FRONT), A::own(BACK).into(), A::server(0).into()), server_mac(0));
    assert_eq!(sim.rx(FRONT, &datagram::<A>(0)), []);
    let sent = sim.rx_at(0, FRONT, &[answer, datagram::<A>(1)]);
    assert_eq!(arrived::<A>(&sent), [(server_mac(0), 0), (server_mac(0), 1)]);
}

#[test]
fn packets_wait_for_their_next_hop_and_leave_in_order() {
    both_families!(waits_in_order);
    both_families!(waits_in_order_of_a_burst);
}

fn fails<A: Net>() {
    let mut sim = unknown(16);
    for n in 0..4 {
        sim.rx(FRONT, &datagram::<A>(n));
    }
    sim.changed();
    // Three questions, a second apart; then the packets are given up.
    let mut asked = sim.tick();
    asked.extend(sim.advance(2_900));
    assert_eq!(asked.len(), 6);
    assert_eq!(set(asked), questions::<A>([None, None]));
    sim.expect(&nothing());
    sim.advance(600);
    sim.expect(&nothing().and("drop.neighbor_failed", 4));
    sim.rx(FRONT, &datagram::<A>(4));
    assert_eq!(crate::books::drops(&sim.changed()), 1);
    // It is asked again while it is wanted, and works when it is back.
    assert!(sim.advance(10_000).len() >= 6);
    sim.rx(FRONT, &datagram::<A>(5));
    let mut sent = sim.advance(300);
    sent.extend(sim.rx(BACK, &server_answer::<A>(server_mac(0))));
    sent.extend(sim.rx(FRONT, &datagram::<A>(6)));
    assert_eq!(arrived::<A>(&sent).last(), Some(&(server_mac(0), 6)));
}

#[test]
fn a_next_hop_that_does_not_answer_costs_its_packets() {
    both_families!(fails);
}

/// The answer comes to one worker, and the packets wait at the other.
fn waits_at_another_worker<A: Net>() {
    for answered_at in 0..2 {
        let mut sim = unknown_with(Options { pinned: false, ..Options::software(2) });
        assert_eq!(sim.rx(FRONT, &datagram::<A>(0)), []);
        sim.tick();
        let mut sent = sim.rx_at(answered_at, BACK, &[server_answer::<A>(server_mac(0))]);
        sent.extend(sim.rx(FRONT, &datagram::<A>(1)));
        sent.extend(sim.tick());
        assert_eq!(arrived::<A>(&sent), [(server_mac(0), 0), (server_mac(0), 1)]);
    }
}

#[test]
fn packets_that_wait_at_another_worker_are_not_overtaken() {
    both_families!(waits_at_another_worker);
}

/// Whether a frame asks the server itself, at this MAC address, whether it is there.
fn asks(sent: &[Sent], mac: Mac) -> bool {
    sent.iter().any(|s| s.iface == BACK && fullnat::wire::ethernet::destination(&s.bytes) == mac)
}

fn moves<A: Net>() {
    let mut sim = unknown(16);
    sim.rx(FRONT, &datagram::<A>(0));
    sim.tick();
    sim.rx(BACK, &server_answer::<A>(server_mac(0)));
    sim.tick();
    let next = |sim: &mut Sim, n| arrived::<A>(&sim.rx(FRONT, &datagram::<A>(n)));
    assert_eq!(next(&mut sim, 1), [(server_mac(0), 1)]);
    assert_eq!(sim.rx(BACK, &announcement(OTHER, A::server(0).into())), []);
    assert_eq!(next(&mut sim, 2), [(OTHER, 2)]);
    // Used at once, and asked whether it is true.
    assert!(asks(&sim.tick(), OTHER));
    // Heard on the wrong link it is nobody we know.
    sim.rx(FRONT, &announcement(ROUTER, A::server(0).into()));
    assert_eq!(next(&mut sim, 3), [(OTHER, 3)]);
    // What it asks tells where it is as well.
    sim.rx(BACK, &question(None, server_mac(0), A::server(0).into(), A::lip(0).into()));
    assert_eq!(next(&mut sim, 4), [(server_mac(0), 4)]);
    assert!(asks(&sim.tick(), server_mac(0)));
}

#[test]
fn a_next_hop_that_moves_is_followed_at_once() {
    both_families!(moves);
}

fn pinned<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let talk = Talk::<A>::open(&mut sim, Proto::Udp, 1, 1).0;
    let server = A::server(talk.server).into();
    sim.rx(BACK, &announcement(OTHER, server));
    sim.rx(BACK, &answer(&question(None, our_mac(BACK), A::own(BACK).into(), server), OTHER));
    talk.up(&mut sim, |b: Build<A>| b.payload(b"x"));
}

fn taken_away<A: Net>() {
    let mut sim = Sim::quiet(World { lips: vec![0], ..World::default() });
    Talk::<A>::open(&mut sim, Proto::Udp, 1, 1);
    sim.world.lips = vec![1];
    sim.world.generation += 1;
    sim.reload();
    sim.announce(40);
    sim.changed();
    let ask = |sim: &mut Sim, lip: u16| {
        let question = question(None, OTHER, A::server(5).into(), A::lip(lip).into());
        sim.rx(BACK, &question).len()
    };
    assert_eq!((ask(&mut sim, 0), ask(&mut sim, 1)), (1, 1), "a session still uses the old one");
    sim.skip(sim.world.timeouts.udp.into());
    assert_eq!((ask(&mut sim, 0), ask(&mut sim, 1)), (0, 1), "and now none does");
}

#[test]
fn a_local_address_taken_away_is_answered_for_while_sessions_use_it() {
    both_families!(taken_away);
}

#[test]
fn a_configured_mac_address_is_not_taught() {
    both_families!(pinned);
}

#[test]
fn strangers_do_not_fill_the_table() {
    let mut sim = unknown(16);
    let before = sim.neighbors.room();
    for n in 0..GROUP {
        sim.rx(BACK, &announcement(OTHER, IpAddr::V4(Net::server(n))));
        sim.rx(BACK, &question(None, OTHER, IpAddr::V6(Net::server(n)), IpAddr::V6(Net::lip(0))));
    }
    assert_eq!(sim.neighbors.room(), before);
}

#[test]
fn probes_go_on_while_a_next_hop_is_used() {
    let mut sim = unknown(16);
    sim.rx(FRONT, &datagram::<Ipv4Addr>(0));
    sim.tick();
    sim.rx(BACK, &server_answer::<Ipv4Addr>(server_mac(0)));
    let asked = sim.advance(36_000);
    let again = question(Some(server_mac(0)), our_mac(BACK), Ipv4Addr::own(BACK).into(), Ipv4Addr::server(0).into());
    assert!(asked.contains(&Sent { iface: BACK, bytes: again }), "it is asked itself whether it is still there");
}

#[test]
fn malformed_messages_are_dropped_and_counted() {
    let mut sim = Sim::quiet(World::default());
    let mut request = question(None, OTHER, Ipv4Addr::server(5).into(), Ipv4Addr::lip(0).into());
    request[21] = 3;
    assert_eq!(sim.rx(BACK, &request), []);
    sim.expect(&drop_of(DropReason::BadArp));
    let mut solicitation = question(None, OTHER, Ipv6Addr::server(5).into(), Ipv6Addr::lip(0).into());
    solicitation[21] = 64; // It crossed a router.
    assert_eq!(sim.rx(BACK, &solicitation), []);
    sim.expect(&drop_of(DropReason::BadArp));
}
