//! Packets between workers, and queues that are full.

use carom::worker::BURST;
use fullnat::hash::FlowHasher;
use fullnat::id::{IfaceId, WorkerId};
use fullnat::ports::LportOwners;
use fullnat::reason::DropReason;
use fullnat::spread::Spread;

use crate::rig::{Rig, VIP, answer, client, key_of, request};

#[test]
fn packets_find_the_worker_that_owns_their_session() {
    let mut rig = Rig::new(2, 1024);
    // Wherever a packet lands, requests and answers alike.
    let mut inside = Vec::new();
    for n in 0..60 {
        rig.rx[usize::from(n) % 2].borrow_mut().frames.push_back(request(n, 4000));
        rig.poll();
        rig.poll();
        let sent: Vec<_> = rig.sent().into_iter().flatten().collect();
        assert_eq!(sent.len(), 1, "request {n}");
        inside.push(sent.into_iter().next().expect("one"));
    }
    for (n, seen) in (0..).zip(&inside) {
        rig.rx[usize::from(n / 2 % 2)].borrow_mut().frames.push_back(answer(seen));
        rig.poll();
        rig.poll();
        let sent: Vec<_> = rig.sent().into_iter().flatten().collect();
        assert_eq!(sent.len(), 1, "answer {n}");
        let key = key_of(&sent[0]);
        assert_eq!((key.src, key.sport, key.dst, key.dport), (VIP, 53, client(n), 4000));
    }
    assert_eq!(rig.total(|c| c.sessions_created.get()), 60);
    let handed = rig.total(|c| c.handed_over.get());
    assert!(handed > 30, "about half of 120 packets landed at the wrong worker: {handed}");
    assert_eq!(rig.total(|c| c.taken_over.get()), handed);
    assert!(rig.workers.iter().all(|w| w.counters.sessions_created.get() > 15), "both have a fair share");
    assert_eq!(rig.mempool.in_use(), 0);
}

#[test]
fn what_a_full_queue_does_not_take_waits_for_the_next_round() {
    let mut rig = Rig::new(1, 1024);
    rig.tx[0].borrow_mut().room = 10;
    (0..40).for_each(|n| rig.rx[0].borrow_mut().frames.push_back(request(n, 4000)));
    // 32 arrive, 10 leave, 22 wait; then 8 arrive and find room beside them.
    rig.poll();
    assert_eq!(rig.sent()[0].len(), 10);
    rig.poll();
    assert_eq!(rig.total(|c| c.dropped(DropReason::TxFull)), 0);
    rig.tx[0].borrow_mut().room = usize::MAX;
    rig.poll();
    assert_eq!(rig.sent()[0].len(), 30);
    assert_eq!(rig.mempool.in_use(), 0);
}

#[test]
fn a_queue_that_stays_full_costs_counted_packets_and_no_buffer() {
    let mut rig = Rig::new(1, 1024);
    rig.tx[0].borrow_mut().room = 0;
    for round in 0..4 {
        (0..32).for_each(|n| rig.rx[0].borrow_mut().frames.push_back(request(n, 4000 + round)));
        rig.poll();
    }
    assert_eq!(rig.total(|c| c.dropped(DropReason::TxFull)), 3 * 32);
    assert_eq!(rig.mempool.in_use(), 32, "one burst waits");
    rig.tx[0].borrow_mut().room = usize::MAX;
    rig.poll();
    assert_eq!(rig.sent()[0].len(), 32);
    assert_eq!(rig.mempool.in_use(), 0);
}

#[test]
fn a_worker_keeps_up_with_two_queues_of_another() {
    let mut rig = Rig::new(2, 4096);
    let (hash, spread) = (FlowHasher::new(5, 6), Spread::Software(LportOwners::new(2)));
    let is_others = |frame: &Vec<u8>| {
        let key = key_of(frame);
        spread.inbound(WorkerId(0), IfaceId(0), &key, key.hash(&hash)) == WorkerId(1)
    };
    let mut strays = (0..64).flat_map(|n| (4000..4064).map(move |port| request(n, port))).filter(is_others);
    for round in 1..=16 {
        for _ in 0..2 {
            rig.rx[0].borrow_mut().frames.extend(strays.by_ref().take(BURST));
            rig.workers[0].poll();
        }
        rig.workers[1].poll();
        assert_eq!(rig.workers[1].counters.taken_over.get(), round * 2 * BURST as u64);
    }
    assert_eq!(rig.total(|c| c.dropped(DropReason::HandoverFull)), 0);
    assert_eq!(rig.sent()[1].len(), 16 * 2 * BURST);
    assert_eq!(rig.mempool.in_use(), 0);
}

#[test]
fn a_ring_to_a_worker_that_does_not_keep_up_drops_and_counts() {
    let mut rig = Rig::new(2, 4096);
    for round in 0..16 {
        (0..32).for_each(|n| rig.rx[0].borrow_mut().frames.push_back(request(n, 4000 + round)));
        rig.workers[0].poll();
    }
    let (handed, dropped) = (rig.total(|c| c.handed_over.get()), rig.total(|c| c.dropped(DropReason::HandoverFull)));
    // A ring of 64 holds 63 or 64.
    assert!((63..=64).contains(&handed), "{handed}");
    let own = rig.workers[0].counters.sessions_created.get();
    assert_eq!(own + handed + dropped, 16 * 32);
    // Whoever was dropped is not lost for good: the client asks again.
    for _ in 0..4 {
        rig.poll();
    }
    assert_eq!(rig.workers[1].counters.taken_over.get(), handed);
    rig.sent();
    assert_eq!(rig.mempool.in_use(), 0);
}
