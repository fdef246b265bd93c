use std::sync::Arc;

use super::housekeeping::*;
use super::*;

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
    let sent = sim.idle(3_200);
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
