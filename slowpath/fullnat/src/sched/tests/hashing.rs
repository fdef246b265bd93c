//! `sh` and `mh`: balance, stability, and how little moves when servers change.

use std::net::Ipv6Addr;

use super::*;

/// Slot → server id.
fn slots(plan: &Plan) -> Vec<u16> {
    let service = plan.service(ServiceId(0)).unwrap();
    let ids: Vec<_> = eligible(service, plan).map(|s| s.id.0).collect();
    plan.hash_table(ServiceId(0)).slots().iter().map(|&p| ids[usize::from(p)]).collect()
}

fn shares(slots: &[u16]) -> HashMap<u16, usize> {
    let mut shares = HashMap::new();
    slots.iter().for_each(|&s| *shares.entry(s).or_default() += 1);
    shares
}

/// Slots that changed although neither their old nor their new server was `except`.
fn moved(before: &[u16], after: &[u16], except: u16) -> usize {
    assert_eq!(before.len(), after.len());
    before.iter().zip(after).filter(|&(b, a)| b != a && *b != except && *a != except).count()
}

fn many(count: u16, weight: impl Fn(u16) -> u16) -> Vec<Spec> {
    (1..=count).map(|id| (id, weight(id), 0)).collect()
}

#[test]
fn maglev_shares_equal_weights_to_one_slot() {
    for count in [1, 2, 3, 7, 100, 1000] {
        let slots = slots(&plan("mh", &many(count, |_| 10)));
        assert_eq!(slots.len(), 65_537);
        let shares = shares(&slots);
        assert_eq!(shares.len(), usize::from(count));
        let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
        assert!(most - least <= 1, "{count} servers: {least} to {most} slots");
    }
}

#[test]
fn maglev_shares_by_weight() {
    let servers = [(1, 1, 0), (2, 2, 0), (3, 5, 0), (4, 100, 0), (5, 0, 0)];
    let shares = shares(&slots(&plan("mh", &servers)));
    for (id, weight, _) in servers {
        let expected = f64::from(weight) / 108.0 * 65_537.0;
        let got = *shares.get(&id).unwrap_or(&0) as f64;
        assert!((got - expected).abs() <= 2.0, "server {id}: {got} slots for {expected}");
    }
}

/// The paper's figure 12: with 1000 servers and a table of 65 537, taking out 1 % of them changes some 4 % of the other
/// entries at most. One of 100 is the same proportion, and has to stay well below that.
#[test]
fn maglev_moves_few_slots_of_others() {
    let servers = many(100, |_| 10);
    let before = slots(&plan("mh", &servers));
    for gone in [1, 50, 100] {
        let rest: Vec<_> = servers.iter().copied().filter(|s| s.0 != gone).collect();
        let after = slots(&plan("mh", &rest));
        let share = moved(&before, &after, gone) as f64 / before.len() as f64;
        assert!(share < 0.04, "{:.2} % moved without server {gone}", share * 100.0);
        let drained: Vec<_> = servers.iter().map(|&(id, w, m)| (id, if id == gone { 0 } else { w }, m)).collect();
        assert_eq!(slots(&plan("mh", &drained)), after, "draining and leaving are the same to the table");
    }
}

#[test]
fn tables_do_not_depend_on_the_order_of_servers_or_their_ids() {
    for kind in ["sh", "mh"] {
        let servers = many(40, |id| id % 4 + 1);
        let mut shuffled = servers.clone();
        shuffled.reverse();
        shuffled.swap(3, 29);
        assert_eq!(slots(&plan(kind, &servers)), slots(&plan(kind, &shuffled)), "{kind}");
    }
}

/// Balancers of different versions stand side by side: the tables and the clients' hashes must never change. If this
/// test fails, an upgrade one by one breaks the agreement between them.
#[test]
fn tables_and_hashes_are_the_same_in_every_version() {
    let digest = |kind| {
        let digest = |d: u64, s: &u16| (d ^ u64::from(*s)).wrapping_mul(0x0100_0000_01b3);
        slots(&plan(kind, &many(20, |id| id))).iter().fold(0xcbf2_9ce4_8422_2325, digest)
    };
    assert_eq!(digest("sh"), SH_DIGEST);
    assert_eq!(digest("mh"), MH_DIGEST);
    assert_eq!(table::client_hash(CLIENT, None), CLIENT_HASH);
    assert_eq!(table::client_hash(Ipv6Addr::LOCALHOST, Some(PORT)), CLIENT6_HASH);
}

const SH_DIGEST: u64 = 4_333_054_292_254_353_294;
const MH_DIGEST: u64 = 13_801_439_462_594_602_555;
const CLIENT_HASH: u64 = 3_917_708_992_538_475_317;
const CLIENT6_HASH: u64 = 9_519_391_762_964_005_324;

#[test]
fn sh_shares_by_weight() {
    let servers = many(5, |id| id);
    let shares = shares(&slots(&plan("sh", &servers)));
    for (id, weight, _) in servers {
        let expected = f64::from(weight) / 15.0 * 4096.0;
        let got = shares[&id] as f64;
        // Four standard deviations of a binomial share.
        assert!((got - expected).abs() < 4.0 * expected.sqrt(), "server {id}: {got} slots for {expected}");
    }
}

#[test]
fn sh_moves_no_slot_of_others() {
    let servers = many(12, |id| id);
    let before = slots(&plan("sh", &servers));
    let mut drained = servers.clone();
    drained[4].1 = 0;
    let after = slots(&plan("sh", &drained));
    assert_eq!(moved(&before, &after, 5), 0);
    assert!(!after.contains(&5));
    // Its slots go to all others, not to a neighbour.
    let heirs = before.iter().zip(&after).filter(|(b, _)| **b == 5).map(|(_, a)| *a);
    assert!(heirs.collect::<std::collections::HashSet<_>>().len() >= 10);
}

#[test]
fn a_client_keeps_its_server_over_workers_and_connections() {
    for kind in ["sh", "mh"] {
        let plan = plan(kind, &many(9, |_| 1));
        let mut used = std::collections::HashSet::new();
        for n in 0..200u32 {
            let client = Ipv4Addr::from_bits(0xc633_6400 + n);
            let first = scheduler(&plan, 0).pick(client, CPort(1)).unwrap();
            let mut other = scheduler(&plan, 3);
            assert!((2..6).all(|port| other.pick(client, CPort(port)) == Ok(first)), "{kind}");
            used.insert(first);
        }
        assert_eq!(used.len(), 9, "{kind}: neighbouring clients are spread");
    }
}

#[test]
fn with_the_port_hashed_one_client_is_spread() {
    for kind in [
        SchedulerKind::SourceHash { with_port: true },
        SchedulerKind::Maglev { with_port: true, table_size: DEFAULT_TABLE_SIZE },
    ] {
        let plan = plan_with(kind, &many(4, |_| 1), &HashMap::new());
        let mut s = scheduler(&plan, 0);
        for port in 0..4000 {
            let to = s.pick(Ipv6Addr::LOCALHOST, CPort(port)).unwrap();
            assert_eq!(scheduler(&plan, 1).pick(Ipv6Addr::LOCALHOST, CPort(port)), Ok(to));
        }
        for server in plan.servers() {
            let share = server.shared.active();
            assert!((1800..2200).contains(&share), "{kind}: {share} of 8000");
        }
    }
}

#[test]
fn a_full_server_hands_its_clients_to_all_others_and_gets_them_back() {
    for kind in ["sh", "mh"] {
        let plan = plan(kind, &[(1, 1, 1), (2, 1, 0), (3, 1, 0), (4, 1, 0), (5, 1, 0)]);
        let mut s = scheduler(&plan, 0);
        let clients: Vec<_> = (0..2000).map(|n| Ipv4Addr::from_bits(0x0b00_0000 + n)).collect();
        let full = &plan.server(ServerId(1)).unwrap().shared;
        let ours: Vec<_> = clients
            .into_iter()
            .filter(|&c| {
                let id = s.pick(c, PORT).unwrap();
                plan.server(id).unwrap().shared.end();
                id == ServerId(1)
            })
            .collect();
        assert!(ours.len() > 300, "{kind}: {}", ours.len());
        assert!(full.begin(1));
        let mut to = HashMap::<_, u32>::new();
        for &client in &ours {
            let first = s.pick(client, PORT).unwrap();
            assert_eq!(s.pick(client, PORT), Ok(first), "{kind}: the substitute is the same each time");
            *to.entry(first.0).or_default() += 1;
        }
        assert!(to.len() == 4 && to.values().all(|&n| n * 8 > ours.len() as u32), "{kind}: {to:?}");
        full.end();
        assert_eq!(s.pick(ours[7], PORT), Ok(ServerId(1)), "{kind}");
    }
}

#[test]
fn table_sizes_that_are_not_prime_are_raised() {
    for (size, slots) in [(0, 3), (8, 11), (1000, 1009), (65_536, 65_537)] {
        let kind = SchedulerKind::Maglev { with_port: false, table_size: size };
        let plan = plan_with(kind, &many(3, |_| 1), &HashMap::new());
        assert_eq!(plan.hash_table(ServiceId(0)).slots().len(), slots);
    }
    assert!(is_prime(2) && is_prime(65_537) && is_prime(4_294_967_291));
    assert!(!is_prime(0) && !is_prime(1) && !is_prime(65_536) && !is_prime(u32::MAX));
}
