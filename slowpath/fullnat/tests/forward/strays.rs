//! Packets that land at a worker other than their session's, alone and in bursts with others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fullnat::flow::{Direction, FlowKey};
use fullnat::forward::{BURST, SessionView};
use fullnat::plan::Own;
use fullnat::reason::DropReason;
use fullnat::wire::TcpFlags;
use fullnat::wire::testing::Build;

use crate::both_families;
use crate::sim::{Options, Sent, Sim};
use crate::talk::{Talk, segment};
use crate::world::{BACK, FRONT, Net, World, our_mac, server_mac};

const WORKERS: u8 = 3;

/// So many connections, opened wherever their packets land.
fn connections<A: Net>(sim: &mut Sim, n: u16) -> Vec<Talk<A>> {
    let open = |client: u16| {
        sim.lands_on = usize::from(client) % usize::from(WORKERS);
        Talk::established(sim, client, 7)
    };
    (0..n).map(open).collect()
}

/// A numbered segment of a connection as one side sends it, and as the other gets it.
fn data<A: Net>(sim: &Sim, talk: &Talk<A>, direction: Direction, number: u16) -> [Vec<u8>; 2] {
    let inbound = direction == Direction::Inbound;
    let payload = number.to_be_bytes();
    let shape = segment(inbound, TcpFlags::ACK, 1, 1, &payload);
    let [sent, got] = match direction {
        Direction::Inbound => [talk.client_sends(&shape), talk.server_gets(sim, &shape)],
        Direction::Outbound => [talk.server_sends(sim, &shape), talk.client_gets(&shape)],
    };
    [sent.bytes(), got.bytes()]
}

fn sorted(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort();
    frames
}

fn bursts_of_all<A: Net>() {
    let mut sim = Sim::quiet_with(World::default(), Options::software(WORKERS));
    let talks = connections::<A>(&mut sim, 40);
    let per_worker: Vec<usize> = sim.sessions_by_worker().iter().map(Vec::len).collect();
    assert!(per_worker.iter().all(|&n| n > 0), "every worker has some: {per_worker:?}");
    for (direction, iface) in [(Direction::Inbound, FRONT), (Direction::Outbound, BACK)] {
        for len in [1, 7, 8, 9, BURST, talks.len()] {
            for (worker, &its) in per_worker.iter().enumerate() {
                let frames = talks[..len].iter().map(|talk| data(&sim, talk, direction, 1));
                let (sent, got): (Vec<_>, Vec<_>) = frames.map(|[sent, got]| (sent, got)).unzip();
                let before = sim.handed;
                let left = sim.rx_at(worker, iface, &sent).into_iter().map(|sent| sent.bytes).collect();
                assert_eq!(sorted(left), sorted(got));
                let kept = len as u64 - (sim.handed - before);
                assert!(kept <= its as u64, "only what is this worker's stays here");
                if len == talks.len() {
                    assert_eq!(kept, its as u64);
                }
            }
        }
    }
    let books = sim.changed();
    assert!(books.keys().all(|name| !name.starts_with("drop.")), "{books:?}");
}

#[test]
fn every_packet_of_a_burst_finds_its_worker() {
    both_families!(bursts_of_all);
}

fn one_flow<A: Net>() {
    let mut sim = Sim::quiet_with(World::default(), Options::software(WORKERS));
    let talk = connections::<A>(&mut sim, 1).remove(0);
    for worker in 0..usize::from(WORKERS) {
        let frames = (0..50).map(|number| data(&sim, &talk, Direction::Inbound, number));
        let (sent, got): (Vec<_>, Vec<_>) = frames.map(|[sent, got]| (sent, got)).unzip();
        let left: Vec<_> = sim.rx_at(worker, FRONT, &sent).into_iter().map(|Sent { bytes, .. }| bytes).collect();
        assert_eq!(left, got);
    }
}

#[test]
fn a_flow_that_is_handed_over_keeps_its_order() {
    both_families!(one_flow);
}

fn to_nobody<A: Net>() {
    let mut sim = Sim::quiet_with(World::default(), Options::software(WORKERS));
    let talk = connections::<A>(&mut sim, 1).remove(0);
    for lport in 30_000..30_060 {
        let key = FlowKey { dport: lport, ..talk.inner.reversed() };
        let answer = Build::new(key).macs(our_mac(BACK), server_mac(talk.server)).bytes();
        assert_eq!(sim.rx_at(usize::from(lport % 3), BACK, &[answer]), []);
    }
    let name = format!("drop.{}", DropReason::NoSession.name());
    assert_eq!(sim.changed().get(&*name), Some(&60));
}

#[test]
fn an_answer_to_nobody_is_dropped_by_its_owner() {
    both_families!(to_nobody);
}

#[test]
fn sessions_over_a_removed_vip_go_on() {
    let mut sim = Sim::quiet_with(World::default(), Options::software(WORKERS));
    let talks = connections::<Ipv4Addr>(&mut sim, 12);
    sim.world.services = false;
    sim.world.lips = vec![1];
    sim.reload();
    for (n, talk) in talks.iter().enumerate() {
        sim.lands_on = n % 3;
        talk.up(&mut sim, segment(true, TcpFlags::ACK, 1, 1, b"question"));
        sim.lands_on = (n + 1) % 3;
        talk.down(&mut sim, segment(false, TcpFlags::ACK, 1, 1, b"answer"));
    }
}

/// Where the key does not tell the direction, a packet that lands at its session's worker finds it all the same.
#[test]
fn sessions_over_an_address_that_was_a_vip_go_on_where_they_are() {
    let mut sim = Sim::quiet_with(World::default(), Options::software(WORKERS));
    let talks = connections::<Ipv4Addr>(&mut sim, 12);
    let vip = IpAddr::V4(Net::vip());
    assert_eq!(sim.plan().direction_to(vip), Some(Direction::Inbound));
    assert_eq!(sim.plan().direction_to(IpAddr::V4(Net::lip(0))), Some(Direction::Outbound));
    assert_eq!(sim.plan().direction_to(IpAddr::V4(Net::own(FRONT))), None);
    let by_worker = sim.sessions_by_worker();
    sim.world.services = false;
    sim.world.vips_as_lips = true;
    sim.reload();
    assert_eq!((sim.plan().own(vip), sim.plan().direction_to(vip)), (Some(Own::Lip), None));
    for talk in &talks {
        let client = SocketAddr::from((talk.outer.src, talk.outer.sport));
        let has = |sessions: &Vec<SessionView>| sessions.iter().any(|session| session.client == client);
        sim.lands_on = by_worker.iter().position(has).expect("a worker has it");
        talk.up(&mut sim, segment(true, TcpFlags::ACK, 1, 1, b"question"));
    }
}
