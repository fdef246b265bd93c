//! Workers, housekeeper and mirror at once.

use std::collections::HashMap;
use std::sync::Barrier;

use super::*;
use crate::testing::Rng;

/// The MAC address that belongs to an address, so that a mix-up shows.
fn mac_for(addr: IpAddr) -> Mac {
    let IpAddr::V4(ip) = addr else { panic!("the tests use IPv4") };
    let [a, b, c, d] = ip.octets();
    Mac([2, 0, a, b, c, d])
}

/// Workers meet at a barrier and make the same next hops at the same moment: each gets one id for each, and nobody
/// else's. Duplicates would be harmless, but here no slot is freed, and so there must be none.
#[test]
fn workers_that_make_the_same_next_hop_share_it() {
    for round in 0..200 {
        let t = table(64);
        let barrier = Barrier::new(4);
        let ids: Vec<Vec<NexthopId>> = std::thread::scope(|scope| {
            let work = || {
                barrier.wait();
                (0..16).map(|n| t.acquire(IF, ip(n + round)).unwrap()).collect()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for (n, &id) in (0..).zip(&ids[0]) {
            let seen = t.get(id).unwrap();
            assert_eq!((seen.addr, seen.holders), (ip(n + round), 4), "{ids:?}");
        }
        assert!(ids.iter().all(|i| *i == ids[0]));
        assert_eq!(t.room(), 64 - 16);
    }
}

/// Four workers hold, use and release next hops of a table that is too small, the housekeeper takes back what is
/// unused and asks, replies come, and somebody lists. A held id is always the next hop it was acquired for, and its MAC
/// address nobody else's.
#[test]
fn a_held_id_never_changes_its_meaning() {
    // The smaller the table, the sooner an id is used again.
    for capacity in [3, 48] {
        held_ids_keep_their_meaning(capacity);
    }
}

fn held_ids_keep_their_meaning(capacity: u16) {
    let t = table(capacity);
    let mut keeper = Housekeeper::new(Arc::clone(&t)).unwrap();
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&enough);
        for worker in 0..4 {
            let (t, enough) = (&t, &enough);
            scope.spawn(move || churn(t, worker, 2 * u32::from(capacity), enough));
        }
        let mut out = Probes::new();
        let mut now = Time(0);
        let mut evicted = 0;
        while evicted < 5_000 {
            // Time flies, so that entries are taken back all the time.
            now = now.after(MIN_UNUSED_MS);
            let before = t.room();
            keeper.due(now, &mut out);
            evicted += t.room().saturating_sub(before);
            for p in out.iter() {
                t.learn(p.iface, p.addr, mac_for(p.addr), now, true);
            }
            for n in t.iter() {
                assert!(n.mac.is_none_or(|mac| mac == mac_for(n.addr)), "{n:?}");
            }
        }
    });
    assert!(t.iter().all(|n| n.holders == 0));
    let mut out = Probes::new();
    for _ in 0..100 {
        keeper.due(Time(u64::MAX / 2), &mut out);
    }
    keeper.due(Time(u64::MAX / 2 + 10 * UNUSED_MS), &mut out);
    assert_eq!(t.iter().count(), 0);
    assert_eq!(t.room(), usize::from(capacity));
    let all: std::collections::HashSet<_> = (0..u32::from(capacity)).map(|n| t.acquire(IF, ip(n)).unwrap()).collect();
    assert_eq!(all.len(), usize::from(capacity), "every id is free once");
}

/// Ends the workers when the test's own thread is done, or fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One worker's life: it holds some next hops at a time, of twice as many as the table has room for.
fn churn(t: &Neighbors, worker: u64, addresses: u32, enough: &AtomicBool) {
    let most = addresses as usize / 12 + 1;
    let mut rng = Rng::new(worker);
    let mut held: Vec<(NexthopId, IpAddr)> = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        if held.len() == most || !held.is_empty() && rng.chance(1, 2) {
            let (id, addr) = held.swap_remove(rng.below(held.len()));
            assert_eq!(t.get(id).unwrap().addr, addr);
            t.release(id);
            continue;
        }
        let addr = ip(rng.below(addresses as usize) as u32);
        if let Ok(id) = t.acquire(IF, addr) {
            assert_eq!(t.get(id).unwrap().addr, addr);
            assert!(t.mac(id).is_none_or(|mac| mac == mac_for(addr)));
            held.push((id, addr));
        }
        if let Ok(id) = t.resolve(IF, ip(rng.below(addresses as usize) as u32)) {
            t.want(id);
        }
    }
    held.iter().for_each(|h| t.release(h.0));
}

/// A mirror that reads the entries only when the version has moved ends up with what the table has.
#[test]
fn a_mirror_that_follows_the_version_is_complete() {
    let t = table(64);
    let ids: Vec<_> = (0..32).map(|n| t.acquire(IF, ip(n)).unwrap()).collect();
    let running = AtomicU32::new(2);
    let mut mirror = HashMap::new();
    std::thread::scope(|scope| {
        for worker in 0..2u64 {
            let (t, running) = (&t, &running);
            scope.spawn(move || {
                let mut rng = Rng::new(worker);
                for n in 0..50_000u32 {
                    let mac = Mac([2, worker as u8, 0, 0, (n >> 8) as u8, n as u8]);
                    t.learn(IF, ip(rng.below(32) as u32), mac, Time(1), rng.chance(1, 2));
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        let mut seen = 0;
        loop {
            let last = running.load(Ordering::Acquire) == 0;
            let version = t.version();
            if version != seen {
                mirror = t.iter().map(|n| (n.id, n.mac)).collect();
                seen = version;
            }
            if last {
                break;
            }
        }
    });
    assert!(ids.iter().all(|&id| mirror[&id] == t.mac(id)));
}
