use std::sync::Arc;

use super::housekeeping::*;
use super::*;

mod pending;
mod threads;

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
const IF: IfaceId = IfaceId(1);

fn ip(n: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + n).into())
}

fn table(capacity: u16) -> Arc<Neighbors> {
    Arc::new(Neighbors::new(capacity, [7, 9]))
}

/// Runs the housekeeper every 10 ms over a span of time and notes what it asks, and when.
struct Sim {
    table: Arc<Neighbors>,
    keeper: Housekeeper,
    now: Time,
}

impl Sim {
    fn new(capacity: u16) -> Sim {
        let table = table(capacity);
        let keeper = Housekeeper::new(Arc::clone(&table)).unwrap();
        Sim { table, keeper, now: Time(1_000_000) }
    }

    fn run(&mut self, ms: u64, mut each: impl FnMut(&Neighbors, Time, &[Probe])) -> Vec<(u64, Probe)> {
        let (start, mut sent, mut out) = (self.now, Vec::new(), Probes::new());
        while self.now.since(start) <= ms {
            self.keeper.due(self.now, &mut out);
            each(&self.table, self.now, &out);
            sent.extend(out.iter().map(|&p| (self.now.since(start), p)));
            self.now = self.now.after(10);
        }
        sent
    }

    fn idle(&mut self, ms: u64) -> Vec<(u64, Probe)> {
        self.run(ms, |_, _, _| {})
    }
}

#[test]
fn the_same_next_hop_has_one_id() {
    let t = table(100);
    let a = t.acquire(IF, ip(1)).unwrap();
    assert_eq!(t.resolve(IF, ip(1)), Ok(a));
    assert_ne!(t.resolve(IfaceId(2), ip(1)), Ok(a));
    assert_ne!(t.resolve(IF, ip(2)), Ok(a));
    // ::10.0.0.1 has the same bits as 10.0.0.1 and is another next hop.
    assert_ne!(t.resolve(IF, "::a00:1".parse().unwrap()), Ok(a));
    let seen = t.get(a).unwrap();
    assert_eq!((seen.iface, seen.addr, seen.state, seen.holders), (IF, ip(1), State::Incomplete, 1));
    assert_eq!(t.iter().count(), 4);
}

#[test]
fn the_table_fills_to_the_last_entry_and_then_says_full() {
    let t = table(DEFAULT_CAPACITY);
    let ids: std::collections::HashSet<_> =
        (0..u32::from(DEFAULT_CAPACITY)).map(|n| t.resolve(IF, ip(n)).unwrap()).collect();
    assert_eq!(ids.len(), usize::from(DEFAULT_CAPACITY));
    assert!(!ids.contains(&NexthopId(0)));
    assert_eq!(t.resolve(IF, ip(1 << 20)), Err(Full));
    assert_eq!(t.room(), 0);
    assert!(t.resolve(IF, ip(5)).is_ok());
}

#[test]
fn learning_updates_known_next_hops_only() {
    let t = table(10);
    assert!(!t.learn(IF, ip(1), A, Time(5), true));
    assert_eq!(t.iter().count(), 0);
    let id = t.acquire(IF, ip(1)).unwrap();
    let version = t.version();
    assert!(t.learn(IF, ip(1), A, Time(5), true));
    assert_eq!((t.mac(id), t.state(id)), (Some(A), Some(State::Reachable)));
    assert!(t.version() > version);
    let version = t.version();
    assert!(!t.learn(IF, ip(1), A, Time(6), false));
    assert!(!t.learn(IfaceId(0), ip(1), B, Time(6), true));
    assert!(!t.learn(IF, ip(1), Mac([0xff; 6]), Time(6), true));
    assert!(!t.learn(IF, ip(1), Mac([0; 6]), Time(6), true));
    assert_eq!((t.mac(id), t.version()), (Some(A), version));
    assert!(t.learn(IF, ip(1), B, Time(6), false));
    assert_eq!((t.mac(id), t.state(id)), (Some(B), Some(State::Stale)));
    assert!(t.version() > version);
}

#[test]
fn three_probes_then_failed_then_again_with_growing_pauses_while_held() {
    let mut sim = Sim::new(10);
    let id = sim.table.acquire(IF, ip(1)).unwrap();
    let sent = sim.idle(3_500);
    let times: Vec<_> = sent.iter().map(|s| s.0).collect();
    assert!(times.len() == 3 && times[0] == 0 && times[2] < 2_400, "{times:?}");
    assert!(sent.iter().all(|(_, p)| *p == Probe { iface: IF, addr: ip(1), to: None, id }));
    assert!(sim.table.failed(id));
    // Rounds of 3 probes (3 s) with pauses of 1, 2, 4, 8, 8 … s.
    let rounds = sim.idle(60_000).len() as f64 / 3.0;
    assert!((5.0..8.5).contains(&rounds), "{rounds} rounds in a minute");
    assert!(sim.table.learn(IF, ip(1), A, sim.now, true));
    assert_eq!(sim.idle(20_000), []);
    assert_eq!(sim.table.mac(id), Some(A));
}

#[test]
fn a_failed_next_hop_that_nobody_holds_is_asked_only_when_wanted() {
    let mut sim = Sim::new(10);
    let id = sim.table.resolve(IF, ip(1)).unwrap();
    sim.idle(4_000);
    assert!(sim.table.failed(id));
    assert_eq!(sim.idle(5_000), []);
    sim.table.want(id);
    assert_eq!(sim.idle(100).len(), 1);
}

#[test]
fn a_used_next_hop_is_confirmed_by_unicast_and_its_mac_stays_in_use() {
    let mut sim = Sim::new(10);
    let id = sim.table.acquire(IF, ip(1)).unwrap();
    sim.table.learn(IF, ip(1), A, sim.now, true);
    let sent = sim.run(120_000, |t, now, probes| {
        assert_eq!(t.mac(id), Some(A));
        for p in probes {
            t.learn(p.iface, p.addr, A, now, true);
        }
    });
    assert!((3..=4).contains(&sent.len()), "{sent:?}");
    assert!(sent.iter().all(|(_, p)| p.to == Some(A)));
}

#[test]
fn a_silent_next_hop_is_asked_by_unicast_then_by_broadcast_and_then_forgotten() {
    let mut sim = Sim::new(10);
    let id = sim.table.acquire(IF, ip(1)).unwrap();
    sim.table.learn(IF, ip(1), A, sim.now, true);
    let mut forgotten = None;
    let start = sim.now;
    let sent = sim.run(42_000, |t, now, _| {
        if t.mac(id).is_none() {
            forgotten.get_or_insert(now.since(start));
        }
    });
    let to: Vec<_> = sent.iter().take(6).map(|(_, p)| p.to).collect();
    assert_eq!(to, [Some(A), Some(A), Some(A), None, None, None]);
    assert!(forgotten.unwrap() >= sent[5].0 + 1000);
}

#[test]
fn a_mac_announced_without_being_asked_is_used_at_once_and_then_confirmed() {
    let mut sim = Sim::new(10);
    let id = sim.table.acquire(IF, ip(1)).unwrap();
    sim.table.learn(IF, ip(1), A, sim.now, true);
    assert_eq!(sim.idle(5_000), []);
    assert!(sim.table.learn(IF, ip(1), B, sim.now, false));
    assert_eq!(sim.table.mac(id), Some(B));
    let sent = sim.run(100, |t, now, probes| {
        for p in probes {
            t.learn(p.iface, p.addr, B, now, true);
        }
    });
    assert_eq!(sent, [(0, Probe { iface: IF, addr: ip(1), to: Some(B), id })]);
    assert_eq!(sim.table.state(id), Some(State::Reachable));
}

#[test]
fn static_entries_are_neither_asked_nor_learned() {
    let mut sim = Sim::new(10);
    let id = sim.table.acquire_static(IF, ip(1), A).unwrap();
    sim.table.release(id);
    let kept = sim.table.acquire_static(IF, ip(2), A).unwrap();
    assert!(!sim.table.learn(IF, ip(2), B, sim.now, true));
    assert_eq!(sim.idle(2 * UNUSED_MS), []);
    assert_eq!((sim.table.mac(kept), sim.table.state(kept)), (Some(A), Some(State::Static)));
    assert_eq!(sim.table.get(id), None, "nobody held it");
    sim.table.make_dynamic(kept);
    assert_eq!(sim.table.mac(kept), None);
    assert_eq!(sim.idle(100).len(), 1);
}

#[test]
fn unused_entries_go_and_held_ones_stay() {
    let mut sim = Sim::new(100);
    let held = sim.table.acquire(IF, ip(1)).unwrap();
    let used = sim.table.resolve(IF, ip(2)).unwrap();
    let unused = sim.table.resolve(IF, ip(3)).unwrap();
    for id in [1, 2, 3] {
        sim.table.learn(IF, ip(id), A, sim.now, true);
    }
    let version = sim.table.version();
    for _ in 0..4 {
        sim.idle(UNUSED_MS / 2);
        assert_eq!(sim.table.resolve(IF, ip(2)), Ok(used));
    }
    assert_eq!((sim.table.get(unused), sim.table.mac(unused)), (None, None));
    assert!(sim.table.get(held).is_some() && sim.table.get(used).is_some());
    assert!(sim.table.version() > version);
    assert_eq!(sim.table.room(), 98);
    sim.table.release(held);
    sim.idle(UNUSED_MS - 1000);
    assert!(sim.table.get(held).is_some(), "the time unused runs from the release");
    sim.idle(2_000);
    assert!(sim.table.get(held).is_none());
}

#[test]
fn strangers_cannot_fill_the_table_for_good() {
    let mut sim = Sim::new(200);
    let gateway = sim.table.acquire(IF, ip(1)).unwrap();
    sim.table.learn(IF, ip(1), A, sim.now, true);
    // A flood of sessions from spoofed on-link addresses; each lasts three seconds.
    let mut held = std::collections::VecDeque::new();
    let (mut refused, mut served) = (0, 0);
    for n in 0..6_000u32 {
        match sim.table.acquire(IF, ip(1000 + n)) {
            Ok(id) => held.push_back((sim.now.after(3_000), id)),
            Err(Full) => refused += 1,
        }
        while held.front().is_some_and(|h| h.0 <= sim.now) {
            sim.table.release(held.pop_front().unwrap().1);
        }
        sim.run(0, |_, _, _| {});
        // A gateway stays known, and a true client finds a place again and again.
        assert_eq!(sim.table.get(gateway).unwrap().addr, ip(1));
        served += u32::from(n % 50 == 0 && sim.table.resolve(IF, ip(2)).is_ok());
    }
    assert!(refused > 0 && served > 20, "{refused} refused, {served} of 120 served");
    held.drain(..).for_each(|(_, id)| sim.table.release(id));
    sim.idle(UNUSED_MS + 5_000);
    assert_eq!(sim.table.iter().map(|n| n.addr).collect::<Vec<_>>(), [ip(1)]);
    assert_eq!(sim.table.room(), 199);
}

#[test]
fn a_burst_of_new_next_hops_is_asked_in_portions_and_none_is_forgotten() {
    let mut sim = Sim::new(1000);
    for n in 0..1000 {
        sim.table.acquire(IF, ip(n)).unwrap();
    }
    let mut out = Probes::new();
    let mut asked = std::collections::HashSet::new();
    for _ in 0..1000usize.div_ceil(PROBES_PER_CALL) {
        sim.keeper.due(sim.now, &mut out);
        assert!(out.len() <= PROBES_PER_CALL);
        asked.extend(out.iter().map(|p| p.id));
    }
    assert_eq!(asked.len(), 1000);
}

#[test]
fn probes_of_many_next_hops_do_not_come_in_herds() {
    let mut sim = Sim::new(1000);
    for n in 0..1000 {
        sim.table.acquire(IF, ip(n)).unwrap();
        sim.table.learn(IF, ip(n), A, sim.now, true);
    }
    let sent = sim.run(REACHABLE_MS + REACHABLE_MS / 3, |t, now, probes| {
        for p in probes {
            t.learn(p.iface, p.addr, A, now, true);
        }
    });
    for second in 26..34 {
        let count = sent.iter().filter(|s| s.0 / 1000 == second).count();
        assert!((60..140).contains(&count), "{count} probes in second {second}");
    }
}

#[test]
fn a_table_has_one_housekeeper() {
    let t = table(4);
    let first = Housekeeper::new(Arc::clone(&t));
    assert!(first.is_some() && Housekeeper::new(Arc::clone(&t)).is_none());
    drop(first);
    assert!(Housekeeper::new(t).is_some());
}

#[test]
fn pins_follow_the_plan() {
    let mut sim = Sim::new(3);
    let (mut pins, t) = (Pins::default(), Arc::clone(&sim.table));
    let find = |n| t.iter().find(|e| e.addr == ip(n));
    pins.update(&t, [(IF, ip(1), None), (IF, ip(2), Some(A)), (IF, ip(2), None)]).unwrap();
    let (one, two) = (find(1).unwrap().id, find(2).unwrap().id);
    assert_eq!((t.mac(two), find(2).unwrap().holders), (Some(A), 2));
    t.learn(IF, ip(1), B, sim.now, true);
    pins.update(&t, [(IF, ip(1), None), (IF, ip(2), None)]).unwrap();
    assert_eq!((t.mac(one), t.state(two)), (Some(B), Some(State::Incomplete)));
    assert_eq!(find(2).unwrap().holders, 1);
    pins.update(&t, [(IF, ip(2), Some(B))]).unwrap();
    assert_eq!((t.mac(two), find(1).unwrap().holders), (Some(B), 0));
    let too_many = [(IF, ip(2), Some(B)), (IF, ip(3), None), (IF, ip(4), None), (IF, ip(5), None)];
    assert_eq!(pins.update(&t, too_many), Err(Full));
    assert_eq!((t.mac(two), find(2).unwrap().holders), (Some(B), 1));
    sim.idle(2 * UNUSED_MS);
    assert_eq!(t.iter().map(|e| e.id).collect::<Vec<_>>(), [two]);
}
