//! New sessions by the burst: packets that open sessions side by side, several of one flow among them.

use std::collections::HashMap;

use fullnat::forward::BURST;
use fullnat::id::Proto;
use fullnat::reason::DropReason;
use fullnat::wire::TcpFlags;

use crate::both_families;
use crate::sim::{Options, Sent, Sim};
use crate::talk::{Talk, from_router, outer, segment, syn};
use crate::world::{BACK, FRONT, Net, World};

fn first_of<A: Net>(client: u16) -> Vec<u8> {
    syn(from_router(outer::<A>(Proto::Tcp, client, 7))).bytes()
}

/// Packets of ten flows, each of which sends again and again: five the same SYN, five numbered datagrams.
fn mixed<A: Net>(packets: u16) -> Vec<Vec<u8>> {
    let packet = |n: u16| match n % 10 {
        client @ 0..5 => first_of::<A>(client),
        client => from_router(outer::<A>(Proto::Udp, client, 7)).payload(&n.to_be_bytes()).bytes(),
    };
    // No flow's packets next to each other, nor far apart in all bursts.
    (0..packets).map(|n| packet(n * 3)).collect()
}

/// Protocol and source of a sent packet, and what a datagram carries.
fn read<A: Net>(sent: &Sent) -> ((u8, Vec<u8>), u16) {
    assert_eq!(sent.iface, BACK);
    let (next_header, l4) = if A::IS_V6 { (20, 54) } else { (23, 34) };
    let source = [&sent.bytes[l4 - 2 * A::LEN..l4 - A::LEN], &sent.bytes[l4..l4 + 2]].concat();
    ((sent.bytes[next_header], source), u16::from_be_bytes([sent.bytes[l4 + 8], sent.bytes[l4 + 9]]))
}

fn one_session_for_each_flow<A: Net>() {
    for packets in [2, 9, BURST as u16, 3 * BURST as u16 + 5] {
        let mut sim = Sim::quiet(World::default());
        let sent = sim.rx_at(0, FRONT, &mixed::<A>(packets));
        assert_eq!(sent.len(), usize::from(packets), "every packet goes on");
        let mut latest = HashMap::new();
        for (from, number) in sent.iter().map(read::<A>) {
            let before = latest.insert(from.clone(), number);
            assert!(from.0 != Proto::Udp as u8 || before < Some(number), "the order of a flow's packets stays");
        }
        let flows = usize::from(packets.min(10));
        assert_eq!((latest.len(), sim.sessions().len()), (flows, flows));
        assert_eq!(sim.sessions().iter().map(|s| s.packets_in).sum::<u32>(), u32::from(packets));
        assert_eq!(sim.changed().get("sessions_created"), Some(&(flows as u64)));
        assert_eq!(sim.ports_used(), (flows as u32, 0), "no port was taken for nothing");
        assert_eq!(sim.world.active_in_all() as usize, flows);
    }
}

#[test]
fn packets_of_one_flow_in_a_burst_open_one_session() {
    both_families!(one_session_for_each_flow);
}

fn as_many_as_there_is_room_for<A: Net>() {
    let mut sim = Sim::quiet_with(World::default(), Options { sessions: 10, ..Options::default() });
    let burst: Vec<_> = (0..25).map(first_of::<A>).collect();
    sim.changed();
    let sent = sim.rx_at(0, FRONT, &burst);
    let by = |iface| sent.iter().filter(|sent| sent.iface == iface).count();
    assert_eq!((by(BACK), by(FRONT)), (10, 15), "those without room are told");
    assert_eq!((sim.sessions().len(), sim.ports_used(), sim.world.active_in_all()), (10, (10, 0), 10));
    let changed = sim.changed();
    let full = format!("drop.{}", DropReason::SessionTableFull.name());
    for (name, n) in [(&*full, 15), ("rst_sent", 15), ("sessions_created", 10), ("service.refused", 15)] {
        assert_eq!(changed.get(name), Some(&n), "{name}");
    }
    sim.skip(901_000);
    assert_eq!((sim.sessions().len(), sim.ports_used().0, sim.holds(), sim.world.active_in_all()), (0, 0, 0, 0));
}

#[test]
fn a_burst_that_the_table_has_no_room_for_is_refused_in_part() {
    both_families!(as_many_as_there_is_room_for);
}

fn back_again<A: Net>() {
    let mut sim = Sim::quiet(World::default());
    let talk = Talk::<A>::established(&mut sim, 1, 7);
    talk.up(&mut sim, segment(true, TcpFlags::RST, 1, 1, b""));
    sim.changed();
    // Its session is over, but not gone.
    let sent = sim.rx_at(0, FRONT, &[0, 1, 2, 1, 0].map(first_of::<A>));
    assert_eq!(sent.iter().filter(|sent| sent.iface == BACK).count(), 5);
    let changed = sim.changed();
    assert_eq!((changed.get("sessions_created"), changed.get("sessions_reopened")), (Some(&3), Some(&1)));
    assert_eq!((sim.sessions().len(), sim.ports_used()), (3, (3, 1)));
}

#[test]
fn a_client_that_comes_back_in_a_burst_gets_one_session() {
    both_families!(back_again);
}
