//! What every scheduler promises; the hashing kinds have their own file.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::id::Proto;
use crate::plan::{ServerShared, testing};

mod hashing;

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const PORT: CPort = CPort(40_000);
const KINDS: [&str; 6] = ["rr", "wrr", "lc", "wlc", "sh", "mh"];

/// A server of the plans below: id, weight, most sessions.
type Spec = (u16, u16, u32);

/// A plan with one service, 0, over servers 10.0.0.`id`:80.
fn plan_with(kind: SchedulerKind, servers: &[Spec], shared: &HashMap<u16, Arc<ServerShared>>) -> Plan {
    let ids: Vec<u16> = servers.iter().map(|s| s.0).collect();
    let service = Service { scheduler: kind, ..testing::service(0, Ipv4Addr::new(192, 0, 2, 1), 80, Proto::Tcp, &ids) };
    let server = |&(id, weight, max_connections): &Spec| Server {
        weight,
        max_connections,
        shared: shared.get(&id).cloned().unwrap_or_default(),
        ..testing::server(id, 0, Ipv4Addr::from_bits(0x0a00_0000 + u32::from(id)), 80)
    };
    testing::plan(Vec::new(), &[], vec![service], servers.iter().map(server).collect())
}

pub(super) fn plan(kind: &str, servers: &[Spec]) -> Plan {
    plan_with(kind.parse().unwrap(), servers, &HashMap::new())
}

/// The next plan: the same servers keep their counts.
fn reload(old: &Plan, kind: &str, servers: &[Spec]) -> Plan {
    let shared = old.servers().map(|s| (s.id.0, Arc::clone(&s.shared))).collect();
    plan_with(kind.parse().unwrap(), servers, &shared)
}

/// One worker's scheduler, which publishes every choice at once.
struct Picker {
    scheduler: Scheduler,
    loads: Loads,
}

impl Picker {
    fn pick<A: Addr>(&mut self, client: A, cport: CPort) -> Result<ServerId, DropReason> {
        let picked = self.scheduler.pick(client, cport, &mut self.loads);
        self.loads.publish();
        picked
    }
}

fn scheduler(plan: &Plan, worker: u8) -> Picker {
    let scheduler = Scheduler::new(plan.service(ServiceId(0)).unwrap(), plan, WorkerId(worker));
    Picker { scheduler, loads: Loads::new(plan) }
}

/// Where `count` sessions go that never end.
fn spread(s: &mut Picker, count: u32) -> HashMap<u16, u32> {
    let mut to = HashMap::new();
    for n in 0..count {
        let client = Ipv4Addr::from_bits(0x0b00_0000 + n * 7);
        *to.entry(s.pick(client, PORT).unwrap().0).or_default() += 1;
    }
    to
}

fn sequence(s: &mut Picker, count: usize) -> Vec<u16> {
    (0..count).map(|_| s.pick(CLIENT, PORT).unwrap().0).collect()
}

#[test]
fn names_read_back() {
    for name in KINDS {
        assert_eq!(name.parse::<SchedulerKind>().unwrap().to_string(), name);
    }
    assert_eq!(
        "WRR".parse::<SchedulerKind>().unwrap_err().to_string(),
        "unknown scheduler \"WRR\": it is one of rr, wrr, lc, wlc, sh, mh"
    );
}

#[test]
fn rr_takes_each_in_turn_whatever_the_weights() {
    let plan = plan("rr", &[(1, 1, 0), (2, 9, 0), (3, 1, 0)]);
    assert_eq!(sequence(&mut scheduler(&plan, 0), 7), [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn wrr_is_exact_over_a_cycle_and_interleaved() {
    for weights in [vec![3, 1], vec![5, 1, 1], vec![1; 7], vec![100, 300, 200], vec![65_535, 1, 32_768], vec![7]] {
        let servers: Vec<_> = (1..).zip(&weights).map(|(id, &w)| (id, w, 0)).collect();
        let plan = plan("wrr", &servers);
        let divisor = if weights == [100, 300, 200] { 100 } else { 1 };
        let cycle: u32 = weights.iter().map(|&w| u32::from(w) / divisor).sum();
        let mut s = scheduler(&plan, 1);
        for round in 1..=2 {
            spread(&mut s, cycle);
            for server in plan.servers() {
                assert_eq!(server.shared.active(), round * u32::from(server.weight) / divisor, "{weights:?}");
            }
        }
    }
    // Interleaved: no server is more than two turns ahead of or behind its share at any moment.
    let weights = [50, 30, 13, 7];
    let servers: Vec<_> = (0..).zip(weights).map(|(id, w)| (id, w, 0)).collect();
    let mut turns = [0f64; 4];
    for (n, id) in (1..).zip(sequence(&mut scheduler(&plan("wrr", &servers), 0), 300)) {
        turns[usize::from(id)] += 1.0;
        for (had, weight) in turns.iter().zip(weights) {
            assert!((had - f64::from(n * i32::from(weight)) / 100.0).abs() < 2.0, "after {n}: {turns:?}");
        }
    }
}

#[test]
fn several_workers_together_spread_by_weight_within_five_percent() {
    for kind in ["rr", "wrr", "lc", "wlc"] {
        for workers in [2, 3, 4, 8] {
            let servers = [(1, 3, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0)];
            let plan = plan(kind, &servers);
            let mut schedulers: Vec<_> = (0..workers).map(|w| scheduler(&plan, w)).collect();
            // Which worker gets a connection is the NIC's hash: uneven and in no order.
            let mut x = 12_345u32;
            for _ in 0..2000 {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let worker = ((x >> 16) % (u32::from(workers) + 1)) as usize % usize::from(workers);
                schedulers[worker].pick(CLIENT, PORT).unwrap();
            }
            for &(id, weight, _) in &servers {
                let share = if kind.starts_with('w') { f64::from(weight) / 8.0 } else { 0.25 };
                let got = f64::from(plan.server(ServerId(id)).unwrap().shared.active()) / 2000.0;
                assert!((got / share - 1.0).abs() < 0.05, "{kind}, {workers} workers, server {id}: {got} for {share}");
            }
        }
    }
}

#[test]
fn workers_begin_with_different_servers() {
    for kind in ["rr", "wrr", "lc", "wlc"] {
        let servers: Vec<_> = (0..8).map(|id| (id, 1, 0)).collect();
        let firsts: std::collections::HashSet<_> =
            (0..8).map(|w| sequence(&mut scheduler(&plan(kind, &servers), w), 1)[0]).collect();
        assert_eq!(firsts.len(), 8, "{kind}");
    }
}

#[test]
fn lc_takes_the_least_loaded_and_wlc_the_least_loaded_for_its_weight() {
    let loads = [(1, 4), (2, 2), (3, 9)];
    let load = |plan: &Plan| {
        for (id, n) in loads {
            (0..n).for_each(|_| assert!(plan.server(ServerId(id)).unwrap().shared.begin(0)));
        }
    };
    let servers = [(1, 1, 0), (2, 1, 0), (3, 5, 0)];
    let even = plan("lc", &servers);
    load(&even);
    assert_eq!(sequence(&mut scheduler(&even, 0), 2), [2, 2]);
    let by_weight = plan("wlc", &servers);
    load(&by_weight);
    // Loads per weight: 4, 2, 9/5. Then 10/5 and 2 are equal, and one of them is next.
    let got = sequence(&mut scheduler(&by_weight, 0), 3);
    assert_eq!(got[0], 3);
    assert!(got[1..].contains(&2) && got[1..].contains(&3), "{got:?}");
}

#[test]
fn idle_servers_are_equals_and_take_turns() {
    for (kind, expected) in [("lc", [100, 100]), ("wlc", [150, 50])] {
        let plan = plan(kind, &[(1, 3, 0), (2, 1, 0)]);
        let mut s = scheduler(&plan, 0);
        let mut to = [0; 2];
        for _ in 0..200 {
            let id = s.pick(CLIENT, PORT).unwrap();
            plan.server(id).unwrap().shared.end();
            to[usize::from(id.0) - 1] += 1;
        }
        assert_eq!(to, expected, "{kind}");
    }
}

/// A reload: a new scheduler that goes on where the old one was.
fn renew(s: &mut Picker, plan: &Plan) {
    let mut next = scheduler(plan, 0);
    next.scheduler.continue_from(&s.scheduler);
    *s = next;
}

#[test]
fn a_drained_server_gets_nothing_and_without_servers_there_is_none() {
    for kind in KINDS {
        let plan1 = plan(kind, &[(1, 1, 0), (2, 2, 0), (3, 1, 0)]);
        let mut s = scheduler(&plan1, 0);
        assert_eq!(spread(&mut s, 500).len(), 3, "{kind}");
        let plan2 = reload(&plan1, kind, &[(1, 1, 0), (2, 0, 0), (3, 1, 0)]);
        renew(&mut s, &plan2);
        let to = spread(&mut s, 500);
        assert!(to.len() == 2 && !to.contains_key(&2), "{kind}: {to:?}");
        for servers in [&[(1, 0, 0), (2, 0, 0)][..], &[]] {
            let plan3 = reload(&plan2, kind, servers);
            renew(&mut s, &plan3);
            assert_eq!(s.pick(CLIENT, PORT), Err(DropReason::NoServer), "{kind}");
        }
        renew(&mut s, &plan1);
        assert!(spread(&mut s, 500).contains_key(&2), "{kind}");
    }
}

#[test]
fn full_servers_are_passed_over_and_all_full_is_said() {
    for kind in KINDS {
        let plan = plan(kind, &[(1, 1, 3), (2, 5, 2), (3, 1, 1)]);
        let mut s = scheduler(&plan, 0);
        assert_eq!(spread(&mut s, 6), HashMap::from([(1, 3), (2, 2), (3, 1)]), "{kind}");
        assert_eq!(s.pick(CLIENT, PORT), Err(DropReason::ServersFull), "{kind}");
        assert_eq!(plan.servers().map(|s| s.shared.active()).sum::<u32>(), 6, "{kind}: a refusal counts nothing");
        plan.server(ServerId(2)).unwrap().shared.end();
        assert_eq!(s.pick(CLIENT, PORT), Ok(ServerId(2)), "{kind}");
    }
}

#[test]
fn max_connections_is_exact_over_threads() {
    for kind in KINDS {
        let plan = plan(kind, &[(1, 1, 700), (2, 3, 500), (3, 2, 300), (4, 1, 1)]);
        let made: Vec<u32> = std::thread::scope(|scope| {
            let work = |worker| {
                let mut s = scheduler(&plan, worker);
                let mut made = 0;
                for n in 0..20_000u32 {
                    let client = Ipv4Addr::from_bits(n * 31 + u32::from(worker));
                    match s.pick(client, PORT) {
                        // Each third session ends at once.
                        Ok(id) if n % 3 == 0 => plan.server(id).unwrap().shared.end(),
                        Ok(_) => made += 1,
                        Err(reason) => assert_eq!(reason, DropReason::ServersFull),
                    }
                    for server in plan.servers() {
                        assert!(server.shared.active() <= server.max_connections);
                    }
                }
                made
            };
            let threads: Vec<_> = (0..4).map(|w| scope.spawn(move || work(w))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(made.iter().sum::<u32>(), 1501, "{kind}");
    }
}

#[test]
fn turns_go_on_after_a_reload() {
    let servers = [(1, 1, 0), (2, 1, 0), (3, 1, 0), (4, 1, 0)];
    let plan1 = plan("rr", &servers);
    let mut s = scheduler(&plan1, 0);
    assert_eq!(sequence(&mut s, 2), [1, 2]);
    renew(&mut s, &plan1);
    assert_eq!(sequence(&mut s, 1), [3], "nothing changed");
    let without_four = reload(&plan1, "rr", &servers[..3]);
    renew(&mut s, &without_four);
    assert_eq!(sequence(&mut s, 2), [1, 2], "4 was next and left");
    let new_in_front = reload(&plan1, "rr", &[(9, 1, 0), (1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    renew(&mut s, &new_in_front);
    assert_eq!(sequence(&mut s, 3), [3, 9, 1]);
    let other_kind = reload(&plan1, "sh", &servers);
    renew(&mut s, &other_kind);
    assert_eq!(sequence(&mut s, 5).windows(2).filter(|w| w[0] != w[1]).count(), 0);
}

#[test]
fn a_remembered_server_is_rejoined_only_if_it_takes_sessions() {
    let plan = plan("rr", &[(1, 1, 1), (2, 0, 0)]);
    let mut loads = Loads::new(&plan);
    let mut rejoin = |service, server| rejoin(&plan, ServiceId(service), ServerId(server), &mut loads);
    assert!(rejoin(0, 1));
    assert!(!rejoin(0, 1), "full");
    assert!(!rejoin(0, 2), "drained");
    assert!(!rejoin(0, 3), "gone");
    assert!(!rejoin(1, 1), "of another service");
    assert_eq!(plan.servers().map(|s| s.shared.active()).collect::<Vec<_>>(), [1, 0]);
}
