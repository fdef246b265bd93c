//! The queue of packets that wait.

use super::super::pending::*;
use super::*;
use crate::frame::{Frame, HeapFrame};

/// How many may wait for one next hop in these tests.
const PER_NEXTHOP: usize = 8;

fn frame(n: u8) -> HeapFrame {
    HeapFrame::new(&[n; 60])
}

fn sent(q: &mut PendingQueue<HeapFrame>, t: &Neighbors) -> Vec<(IfaceId, Mac, u8)> {
    let mut sent = Vec::new();
    q.drain_resolved(t, |iface, mac, f| sent.push((iface, mac, f.bytes()[0])));
    sent
}

fn lost(q: &mut PendingQueue<HeapFrame>, t: &Neighbors, now: Time) -> Vec<u8> {
    let mut lost = Vec::new();
    q.drain_failed(t, now, |_, f| lost.push(f.bytes()[0]));
    lost
}

#[test]
fn packets_leave_in_order_once_the_mac_is_known() {
    let t = table(10);
    let (a, b) = (t.acquire(IF, ip(1)).unwrap(), t.acquire(IF, ip(2)).unwrap());
    let mut q = PendingQueue::new(PER_NEXTHOP);
    for (n, id) in [(1, a), (2, b), (3, a), (4, b)] {
        q.push(id, IF, Time(0), frame(n)).unwrap();
    }
    assert_eq!(sent(&mut q, &t), []);
    t.learn(IF, ip(2), B, Time(5), true);
    assert_eq!(sent(&mut q, &t), [(IF, B, 2), (IF, B, 4)]);
    assert_eq!(q.len(), 2);
    t.learn(IF, ip(1), A, Time(5), false);
    assert_eq!(sent(&mut q, &t), [(IF, A, 1), (IF, A, 3)]);
    assert!(q.is_empty());
}

#[test]
fn a_full_queue_gives_the_packet_back() {
    let mut q = PendingQueue::new(PER_NEXTHOP);
    for n in 0..PER_NEXTHOP as u8 {
        q.push(NexthopId(1), IF, Time(0), frame(n)).unwrap();
    }
    assert_eq!(q.push(NexthopId(1), IF, Time(0), frame(99)), Err(frame(99)));
    let mut id = 2;
    while q.len() < TOTAL {
        q.push(NexthopId(id), IF, Time(0), frame(0)).unwrap();
        id += 1;
    }
    assert_eq!(q.push(NexthopId(id), IF, Time(0), frame(98)), Err(frame(98)));
}

#[test]
fn packets_are_given_up_when_the_next_hop_fails_or_after_three_seconds() {
    let mut sim = Sim::new(10);
    let id = sim.table.resolve(IF, ip(1)).unwrap();
    let mut q = PendingQueue::new(PER_NEXTHOP);
    q.push(id, IF, sim.now, frame(1)).unwrap();
    assert_eq!(lost(&mut q, &sim.table, sim.now.after(WAIT_MS - 1)), []);
    assert_eq!(lost(&mut q, &sim.table, sim.now.after(WAIT_MS)), [1]);
    q.push(id, IF, sim.now.after(WAIT_MS), frame(2)).unwrap();
    sim.idle(4_000);
    assert_eq!(lost(&mut q, &sim.table, Time(0)), [2], "the next hop failed");
    // As long as a packet may wait, its id keeps its meaning.
    const { assert!(WAIT_MS < MIN_UNUSED_MS) };
}
