use std::net::{IpAddr, Ipv4Addr};

use carom_p4::{LocalV4Action, LocalV4Key, NexthopAction, NexthopKey, ServiceV4Key};
use fullnat::id::IfaceId;
use fullnat::testing::Rng;
use fullnat::wire::Mac;

use super::*;
use crate::offload::testing::plan;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

fn ports() -> Ports {
    Ports { link: 64, interfaces: vec![7], workers: 2, punt_rate: None }
}

fn vip(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, n).into()
}

fn neighbors() -> Neighbors {
    Neighbors::new(16, [1, 2])
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

fn learn(neighbors: &Neighbors, n: u8, with: Mac) -> NexthopId {
    neighbors.acquire_static(IfaceId(0), Ipv4Addr::new(10, 0, 2, n).into(), with).expect("room")
}

/// A target that does what it is told.
#[derive(Default)]
struct Target(HashMap<RowKey, RowAction>);

impl Target {
    fn apply(&mut self, write: &Write) -> End {
        let there = self.0.contains_key(&write.key);
        match write.step {
            Step::Write(Kind::Insert) if there => return End::Refused(Code::AlreadyExists),
            Step::Write(Kind::Modify | Kind::Delete) | Step::Meter(_) if !there => return End::Refused(Code::NotFound),
            Step::Write(Kind::Delete) => drop(self.0.remove(&write.key)),
            Step::Write(_) => drop(self.0.insert(write.key, write.action.expect("an entry does something"))),
            Step::Meter(_) => {}
        }
        End::Applied
    }

    /// Does all there is to do now.
    fn follow(&mut self, replica: &mut Replica, now: Moment) -> Vec<Write> {
        let mut done = Vec::new();
        while let Some(write) = replica.next_write(now) {
            let end = self.apply(&write);
            replica.settled(write.number, end, now);
            done.push(write);
        }
        done
    }

    fn local(&self, address: Ipv4Addr) -> Option<LocalV4Action> {
        match self.0.get(&RowKey::LocalV4(LocalV4Key { dst: address.to_bits() }))? {
            RowAction::LocalV4(action) => Some(*action),
            other => panic!("{other:?}"),
        }
    }

    fn services(&self) -> usize {
        self.0.keys().filter(|key| matches!(key, RowKey::ServiceV4(_))).count()
    }
}

fn started(plan: &Plan) -> (Replica, Target) {
    let mut replica = Replica::new(ports(), plan);
    let mut target = Target::default();
    replica.look_begin(true);
    target.follow(&mut replica, Moment(0));
    replica.set_with_named(true);
    (replica, target)
}

#[test]
fn a_plan_becomes_entries() {
    let (replica, target) = started(&plan(OURS, &[vip(1), "fd00:1::1".parse().expect("an address")], &[LIP]));
    let all = LocalV4Action::PuntAll { worker: 0 };
    let IpAddr::V4(first) = vip(1) else { panic!("not IPv4") };
    assert_eq!(target.local(first), Some(LocalV4Action::PuntOther { worker: 0 }));
    assert_eq!((target.local(LIP), target.local(Ipv4Addr::new(10, 0, 0, 2))), (Some(all), Some(all)));
    // Services, VIPs, own addresses of both families, one LIP, the group of all IPv6 nodes; two workers, the link, a port.
    assert_eq!(target.0.len(), 2 + 2 + 2 + 1 + 1 + 2 + 1 + 1);
    assert!(replica.is_settled());
    assert_eq!(replica.entries(LocalV4Key { dst: 0 }.table_id()), 3);
}

/// The next write of a next hop; what comes before it is done.
fn next_nexthop(replica: &mut Replica, target: &mut Target) -> Write {
    loop {
        let write = replica.next_write(Moment(0)).expect("a next hop");
        if matches!(write.key, RowKey::Nexthop(_)) {
            return write;
        }
        let end = target.apply(&write);
        replica.settled(write.number, end, Moment(0));
    }
}

#[test]
fn next_hops_are_heard_when_they_announce_themselves() {
    let neighbors = neighbors();
    let (mut replica, mut target) = started(&plan(OURS, &[], &[LIP]));
    let id = learn(&neighbors, 1, mac(1));
    // One that is ours too stays what the plan says.
    neighbors.acquire(IfaceId(0), LIP.into()).expect("room");
    replica.follow(&neighbors);
    target.follow(&mut replica, Moment(0));
    let other = Some(LocalV4Action::PuntOther { worker: 0 });
    let address = Ipv4Addr::new(10, 0, 2, 1);
    assert_eq!((target.local(address), target.local(LIP)), (other, Some(LocalV4Action::PuntAll { worker: 0 })));
    // It becomes ours, and is so no more.
    replica.set_plan(&plan(OURS, &[], &[LIP, address]));
    replica.follow(&neighbors);
    target.follow(&mut replica, Moment(0));
    assert_eq!(target.local(address), Some(LocalV4Action::PuntAll { worker: 0 }));
    assert!(neighbors.get(id).is_some());
}

trait TableId {
    fn table_id(&self) -> u32;
}

impl<K: carom_p4::Key> TableId for K {
    fn table_id(&self) -> u32 {
        K::TABLE.id
    }
}

#[test]
fn what_former_plans_had_stays_for_their_sessions() {
    let other = Ipv4Addr::new(10, 0, 0, 101);
    let (mut replica, mut target) = started(&plan(OURS, &[vip(1)], &[LIP]));
    replica.set_plan(&plan(OURS, &[vip(2)], &[other]));
    target.follow(&mut replica, Moment(0));
    let all = Some(LocalV4Action::PuntAll { worker: 0 });
    let IpAddr::V4(first) = vip(1) else { panic!("not IPv4") };
    assert_eq!((target.local(first), target.local(LIP), target.local(other)), (all, all, all));
    assert_eq!(target.services(), 2);
    // And back.
    replica.set_plan(&plan(OURS, &[vip(1)], &[LIP]));
    target.follow(&mut replica, Moment(0));
    assert_eq!(target.local(first), Some(LocalV4Action::PuntOther { worker: 0 }));
    assert_eq!((target.local(LIP), target.services()), (all, 2));
}

#[test]
fn when_the_table_is_full_the_oldest_former_services_go() {
    let mut replica = Replica::new(ports(), &plan(OURS, &[vip(1)], &[]));
    let mut target = Target::default();
    replica.look_begin(true);
    let vips = |of: u32| -> Vec<IpAddr> {
        (0..4000).map(|n| Ipv4Addr::from_bits(0x0b00_0000 + of * 4096 + n).into()).collect()
    };
    for of in 0..3 {
        replica.set_plan(&plan(OURS, &vips(of), &[]));
        target.follow(&mut replica, Moment(0));
        let size = RowKey::ServiceV4(ServiceV4Key { dst: 0, proto: 6, dport: 80 }).table().size as usize;
        assert!(target.services() <= size);
        let there = |vip: &IpAddr| match vip {
            IpAddr::V4(vip) => {
                let key = ServiceV4Key { dst: vip.to_bits(), proto: 6, dport: 80 };
                target.0.contains_key(&RowKey::ServiceV4(key))
            }
            IpAddr::V6(_) => false,
        };
        assert!(vips(of).iter().all(there));
    }
}

#[test]
fn a_next_hop_is_ready_once_its_entry_says_what_is_known_now() {
    let neighbors = neighbors();
    let (mut replica, mut target) = started(&plan(OURS, &[vip(1)], &[]));
    let id = learn(&neighbors, 1, mac(1));
    assert_eq!(replica.label(id), id);
    assert_eq!(replica.reach(&neighbors, id), Reach::Pending, "not looked at yet");
    replica.follow(&neighbors);
    assert_eq!(replica.reach(&neighbors, id), Reach::Pending);
    let write = next_nexthop(&mut replica, &mut target);
    assert_eq!(replica.reach(&neighbors, id), Reach::Pending);
    let forward = |dmac| NexthopAction::Forward { smac: OURS, dmac, port: 7 };
    assert_eq!((write.step, write.action), (Step::Write(Kind::Insert), Some(RowAction::Nexthop(forward(mac(1).0)))));
    let before = replica.changes();
    replica.settled(write.number, target.apply(&write), Moment(0));
    assert!(replica.changes() > before);
    assert_eq!(replica.reach(&neighbors, id), Reach::Ready);
    // Another machine has the address now.
    learn(&neighbors, 1, mac(2));
    assert_eq!(replica.reach(&neighbors, id), Reach::Pending);
    replica.follow(&neighbors);
    let mut written = target.follow(&mut replica, Moment(0));
    written.retain(|write| matches!(write.key, RowKey::Nexthop(_)));
    assert_eq!(written.iter().map(|write| write.step).collect::<Vec<_>>(), [Step::Write(Kind::Modify)]);
    assert_eq!(replica.reach(&neighbors, id), Reach::Ready);
    // The interface got another MAC address.
    replica.set_plan(&plan([2, 0, 0, 0, 0, 9], &[vip(1)], &[]));
    replica.follow(&neighbors);
    assert_eq!(replica.reach(&neighbors, id), Reach::Pending);
    target.follow(&mut replica, Moment(0));
    assert_eq!(replica.reach(&neighbors, id), Reach::Ready);
    // It does not answer any more: the entry stays, new sessions do not use it.
    neighbors.make_dynamic(id);
    replica.follow(&neighbors);
    assert_eq!((target.follow(&mut replica, Moment(0)).len(), replica.reach(&neighbors, id)), (0, Reach::None));
    assert!(target.0.contains_key(&RowKey::Nexthop(NexthopKey { nexthop: id.0 })));
    assert_eq!(replica.reach(&neighbors, NexthopId(9)), Reach::None);
}

#[test]
fn a_next_hop_of_an_interface_that_is_no_port_is_none() {
    let neighbors = neighbors();
    let (mut replica, mut target) = started(&plan(OURS, &[], &[]));
    let id = neighbors.acquire_static(IfaceId(3), vip(1), mac(1)).expect("room");
    replica.follow(&neighbors);
    assert!(!target.follow(&mut replica, Moment(0)).iter().any(|write| matches!(write.key, RowKey::Nexthop(_))));
    assert_eq!(replica.reach(&neighbors, id), Reach::None);
}

#[test]
fn next_hops_wait_until_flows_of_an_earlier_life_are_gone() {
    let neighbors = neighbors();
    let mut replica = Replica::new(ports(), &plan(OURS, &[vip(1)], &[]));
    let mut target = Target::default();
    learn(&neighbors, 1, mac(1));
    replica.follow(&neighbors);
    replica.look_begin(true);
    let nexthop = |write: &Write| matches!(write.key, RowKey::Nexthop(_));
    assert!(!target.follow(&mut replica, Moment(0)).iter().any(nexthop));
    assert!(replica.is_settled());
    replica.set_with_named(true);
    replica.follow(&neighbors);
    assert!(target.follow(&mut replica, Moment(0)).iter().any(nexthop));
}

/// Two sessions of an earlier life are adopted. Their next hops had other numbers then, which are others' now.
#[test]
fn next_hops_of_an_earlier_life_go_on_under_their_names() {
    let neighbors = neighbors();
    let mut replica = Replica::new(ports(), &plan(OURS, &[vip(1)], &[]));
    let mut target = Target::default();
    let [one, two, three] = [1, 2, 3].map(|n| learn(&neighbors, n, mac(n)));
    let unknown = neighbors.acquire(IfaceId(0), Ipv4Addr::new(10, 0, 0, 99).into()).expect("room");
    let row = |n: u16| desired::nexthop(NexthopId(n));
    let there = |dmac: [u8; 6], port| RowAction::Nexthop(NexthopAction::Forward { smac: OURS, dmac, port });
    // What is one is two, what is unknown yet is three, and what is two has changed its MAC address; four is of nobody,
    // and five leads out of a port that is no interface.
    let rows = [(two.0, mac(1).0), (three.0, mac(9).0), (one.0, mac(8).0), (4, mac(7).0)];
    for (label, dmac) in rows {
        target.0.insert(row(label), there(dmac, ports().interfaces[0]));
    }
    target.0.insert(row(5), there(mac(6).0, 999));
    replica.look_begin(false);
    target.0.iter().for_each(|(key, action)| replica.look_found(*key, *action));
    replica.look_end();
    replica.follow(&neighbors);
    target.follow(&mut replica, Moment(0));
    assert_eq!((replica.iface_of(two), replica.iface_of(NexthopId(5))), (Some(IfaceId(0)), None));
    assert!(replica.claim(&neighbors, one, two) && replica.claim(&neighbors, one, two));
    assert!(replica.claim(&neighbors, unknown, three) && replica.claim(&neighbors, two, one));
    assert!(!replica.claim(&neighbors, three, one), "another has this name");
    assert!(!replica.claim(&neighbors, one, NexthopId(4)), "it has a name");
    assert!(!replica.claim(&neighbors, three, NexthopId(5)), "another interface");
    assert!(!replica.claim(&neighbors, three, NexthopId(6)), "no entry");
    replica.set_with_named(true);
    replica.follow(&neighbors);
    target.follow(&mut replica, Moment(0));
    let is = |label: u16| target.0.get(&row(label)).copied();
    let port = ports().interfaces[0];
    assert_eq!([is(two.0), is(three.0), is(one.0)], [mac(1), mac(9), mac(2)].map(|mac| Some(there(mac.0, port))));
    assert_eq!(is(5), None);
    // The third has the fourth name, its own being another's.
    assert_eq!((replica.label(three), is(4)), (NexthopId(4), Some(there(mac(3).0, port))));
    assert_eq!(
        [two, one, three].map(|label| replica.reach(&neighbors, label)),
        [Reach::Ready, Reach::Ready, Reach::None]
    );
}

#[test]
fn what_an_earlier_life_left_is_mended() {
    let neighbors = neighbors();
    let mut replica = Replica::new(ports(), &plan(OURS, &[vip(1)], &[]));
    let mut target = Target::default();
    let strange = RowKey::Nexthop(NexthopKey { nexthop: 77 });
    let wrong = RowKey::LocalV4(LocalV4Key { dst: Ipv4Addr::new(10, 0, 0, 2).to_bits() });
    target.0.insert(strange, RowAction::Nexthop(NexthopAction::Forward { smac: OURS, dmac: OURS, port: 1 }));
    target.0.insert(wrong, RowAction::LocalV4(LocalV4Action::PuntOther { worker: 3 }));
    replica.look_begin(false);
    target.0.iter().for_each(|(key, action)| replica.look_found(*key, *action));
    replica.look_end();
    replica.set_with_named(true);
    replica.follow(&neighbors);
    let written = target.follow(&mut replica, Moment(0));
    let steps: Vec<Step> =
        written.iter().filter(|write| [strange, wrong].contains(&write.key)).map(|write| write.step).collect();
    assert_eq!(steps.len(), 2);
    assert!(steps.contains(&Step::Write(Kind::Delete)) && steps.contains(&Step::Write(Kind::Modify)));
    assert!(!target.0.contains_key(&strange));
    assert_eq!(target.0[&wrong], RowAction::LocalV4(LocalV4Action::PuntAll { worker: 0 }));
}

#[test]
fn what_the_target_lost_is_written_again() {
    let (mut replica, mut target) = started(&plan(OURS, &[vip(1)], &[LIP]));
    let whole = target.0.clone();
    let lost = RowKey::LocalV4(LocalV4Key { dst: LIP.to_bits() });
    target.0.remove(&lost);
    replica.look_begin(false);
    target.0.iter().for_each(|(key, action)| replica.look_found(*key, *action));
    replica.look_end();
    let written = target.follow(&mut replica, Moment(0));
    assert_eq!(
        written.iter().map(|write| (write.key, write.step)).collect::<Vec<_>>(),
        [(lost, Step::Write(Kind::Insert))]
    );
    assert_eq!(target.0, whole);
}

#[test]
fn after_a_write_without_answer_nothing_is_taken_for_granted() {
    let neighbors = neighbors();
    let (mut replica, mut target) = started(&plan(OURS, &[], &[]));
    let id = learn(&neighbors, 1, mac(1));
    replica.follow(&neighbors);
    target.follow(&mut replica, Moment(0));
    learn(&neighbors, 1, mac(2));
    replica.follow(&neighbors);
    let write = next_nexthop(&mut replica, &mut target);
    target.apply(&write);
    replica.settled(write.number, End::Unknown, Moment(0));
    // The neighbour is where it was: the target need not have stayed there.
    learn(&neighbors, 1, mac(1));
    replica.follow(&neighbors);
    assert_ne!(replica.reach(&neighbors, id), Reach::Ready);
    target.follow(&mut replica, Moment(50_000));
    assert_eq!(replica.reach(&neighbors, id), Reach::Ready);
    let forward = NexthopAction::Forward { smac: OURS, dmac: mac(1).0, port: 7 };
    assert_eq!(target.0[&RowKey::Nexthop(NexthopKey { nexthop: id.0 })], RowAction::Nexthop(forward));
}

#[test]
fn meters_follow_their_entries_and_are_done_without_where_there_are_none() {
    let rate = PuntRate { rate: 100, burst: 10 };
    let with_meters = Ports { punt_rate: Some(rate), ..ports() };
    for refused in [None, Some(Code::Unimplemented)] {
        let mut replica = Replica::new(with_meters.clone(), &plan(OURS, &[vip(1), vip(2)], &[]));
        replica.look_begin(true);
        let mut target = Target::default();
        let mut meters = 0;
        while let Some(write) = replica.next_write(Moment(0)) {
            let end = match (write.step, refused) {
                (Step::Meter(set), _) => {
                    assert_eq!(set, rate);
                    assert!(target.0.contains_key(&write.key));
                    meters += 1;
                    refused.map_or(End::Applied, End::Refused)
                }
                _ => target.apply(&write),
            };
            replica.settled(write.number, end, Moment(0));
        }
        assert_eq!(meters, if refused.is_none() { 2 } else { 1 });
        assert!(replica.is_settled());
    }
}

#[test]
fn meters_follow_another_limit_and_none() {
    let rate = |rate| PuntRate { rate, burst: 10 };
    let mut replica = Replica::new(ports(), &plan(OURS, &[vip(1)], &[]));
    let mut target = Target::default();
    replica.look_begin(true);
    let mut set = |replica: &mut Replica| {
        let steps = target.follow(replica, Moment(0)).into_iter().map(|write| write.step);
        steps.filter(|step| matches!(step, Step::Meter(_))).collect::<Vec<_>>()
    };
    assert_eq!(set(&mut replica), []);
    replica.set_punt_rate(None);
    assert_eq!(set(&mut replica), []);
    for limit in [rate(5), rate(6)] {
        replica.set_punt_rate(Some(limit));
        assert_eq!(set(&mut replica), [Step::Meter(limit)]);
        replica.set_punt_rate(Some(limit));
        assert_eq!(set(&mut replica), []);
    }
    // What is under way is of yesterday.
    replica.set_punt_rate(Some(rate(7)));
    let write = replica.next_write(Moment(0)).expect("a meter");
    replica.set_punt_rate(None);
    replica.settled(write.number, End::Applied, Moment(0));
    assert_eq!(set(&mut replica), [Step::Meter(PuntRate::NO_LIMIT)]);
}

#[test]
fn what_fails_is_tried_again_with_longer_waits() {
    let mut replica = Replica::new(ports(), &plan(OURS, &[], &[]));
    replica.look_begin(true);
    let rows = std::iter::from_fn(|| replica.next_write(Moment(0))).collect::<Vec<_>>();
    rows.iter().for_each(|write| replica.settled(write.number, End::Refused(Code::ResourceExhausted), Moment(0)));
    let due = |replica: &mut Replica, ms: u64| {
        let writes: Vec<Write> = std::iter::from_fn(|| replica.next_write(Moment(ms * 1000))).collect();
        writes.iter().for_each(|write| replica.settled(write.number, End::NotSent, Moment(ms * 1000)));
        writes.len()
    };
    let times = [49, 50, 149, 150, 349, 350];
    assert_eq!(times.map(|ms| due(&mut replica, ms)), [0, rows.len(), 0, rows.len(), 0, rows.len()]);
}

/// Any order of plans, neighbours and outcomes: once all is calm, the target has what the last ones want.
#[test]
fn the_target_has_what_is_wanted_after_any_order_of_events() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut draw = |n: usize| rng.below(n) as u64;
        let neighbors = neighbors();
        let mut replica = Replica::new(ports(), &plan(OURS, &[vip(0)], &[]));
        let (mut target, mut flights, mut late, mut now) = (Target::default(), Vec::<Write>::new(), Vec::new(), 0);
        replica.look_begin(true);
        replica.set_with_named(true);
        let mut last = (vec![vip(0)], OURS);
        for _ in 0..200 {
            match draw(12) {
                0 => {
                    last = ((0..draw(3)).map(|n| vip(n as u8)).collect(), [2, 0, 0, 0, 0, draw(2) as u8]);
                    replica.set_plan(&plan(last.1, &last.0, &[]));
                }
                1 => drop(learn(&neighbors, draw(4) as u8, mac(draw(3) as u8 + 1))),
                2 => replica.follow(&neighbors),
                3..7 => {
                    if let Some(write) = replica.next_write(Moment(now)) {
                        assert!(!flights.iter().any(|other| other.key == write.key), "one at a time");
                        flights.push(write);
                    }
                }
                7..10 if !flights.is_empty() => {
                    let write = flights.swap_remove(draw(flights.len()) as usize);
                    let end = match draw(6) {
                        0 => End::Refused(Code::Aborted),
                        1 => End::NotSent,
                        2 => {
                            late.push(write);
                            End::Unknown
                        }
                        3 => {
                            target.apply(&write);
                            End::Unknown
                        }
                        _ => target.apply(&write),
                    };
                    replica.settled(write.number, end, Moment(now));
                }
                10 if !late.is_empty() => {
                    target.apply(&late.remove(0));
                }
                _ => now += draw(200_000),
            }
            for id in 1..=4 {
                let key = RowKey::Nexthop(NexthopKey { nexthop: id });
                // Only a write that came late can have changed what was acknowledged.
                if late.is_empty() && replica.reach(&neighbors, NexthopId(id)) == Reach::Ready && !target.0.is_empty() {
                    assert!(target.0.contains_key(&key));
                }
            }
        }
        for write in flights.drain(..) {
            let end = target.apply(&write);
            replica.settled(write.number, end, Moment(now));
        }
        replica.follow(&neighbors);
        target.follow(&mut replica, Moment(now + 10_000_000));
        // What came late is found by the next look.
        late.iter().for_each(|write| {
            target.apply(write);
        });
        replica.look_begin(false);
        target.0.iter().for_each(|(key, action)| replica.look_found(*key, *action));
        replica.look_end();
        target.follow(&mut replica, Moment(now + 20_000_000));
        let mut expected: Vec<_> = replica.rows.iter().filter_map(|(key, row)| Some((*key, row.desired?))).collect();
        let mut actual: Vec<_> = target.0.into_iter().collect();
        expected.sort_by_key(|row| format!("{row:?}"));
        actual.sort_by_key(|row| format!("{row:?}"));
        assert_eq!(actual, expected, "seed {seed}");
        let hops: usize = neighbors.iter().count();
        assert!(expected.len() >= 3 + hops + last.0.len(), "seed {seed}");
        assert!(replica.is_settled());
    }
}
