use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::*;
use crate::hash::FlowHasher;
use crate::offload::Ends;
use crate::ports::PortSpaceId;
use crate::testing::{Rng, session};

fn table(max: usize) -> SessionTable<Ipv4Addr, FlowHasher> {
    SessionTable::new(max, FlowHasher::new(1, 2), Time(0))
}

fn cold(n: u32) -> Cold {
    Cold::new(Time(0), PortSpaceId(n))
}

/// Both ways of the last step.
fn resolve<H: FlowHash>(
    table: &SessionTable<Ipv4Addr, H>,
    key: &FlowKey<Ipv4Addr>,
    probe: &Probe,
) -> Option<(SessionIdx, Direction)> {
    table.resolve(&key.words(), probe).or_else(|| table.resolve_anew(&key.words(), probe))
}

#[test]
fn a_session_is_found_by_both_keys_until_removed() {
    let mut t = table(2);
    let s = session(5, false);
    let idx = t.insert(s.clone(), cold(9), Time(1000)).unwrap();
    for direction in [Direction::Inbound, Direction::Outbound] {
        let key = s.key(direction);
        let hash = t.hash(&key);
        assert_eq!(t.find(&key, hash), Some((idx, direction)));
        assert_eq!(resolve(&t, &key, &t.probe(hash)), Some((idx, direction)));
        let reversed = key.reversed();
        assert_eq!(t.find(&reversed, t.hash(&reversed)), None);
    }
    assert_eq!(t.insert(s.clone(), cold(0), Time(0)), Err(InsertError::Duplicate(idx, Direction::Inbound)));
    let (_, removed) = t.remove(idx).unwrap();
    assert_eq!(removed, cold(9));
    assert!(t.remove(idx).is_none() && t.get(idx).is_none() && t.cold(idx).is_none());
    let key = s.key(Direction::Inbound);
    assert_eq!(t.find(&key, t.hash(&key)), None);
    assert!(t.is_empty());
}

#[test]
fn a_duplicate_of_either_key_is_refused() {
    let mut t = table(4);
    let first = session(1, false);
    let idx = t.insert(first.clone(), cold(0), Time(0)).unwrap();
    let (own, other) = (first.ends(), session(2, false));
    let ends = Ends { lport: own.lport, local: own.local, ..other.ends() };
    let outbound_only = Session::new(&ends, other.conn, other.service_id, other.server_id, Time(0));
    assert_eq!(t.insert(outbound_only, cold(0), Time(0)), Err(InsertError::Duplicate(idx, Direction::Outbound)));
    assert!(t.insert(session(1, true), cold(0), Time(0)).is_ok(), "UDP has ports of its own");
    assert_eq!((t.len(), t.high_water()), (2, 2));
}

#[test]
fn a_full_table_refuses_until_a_session_ends() {
    let mut t = table(100);
    let idx: Vec<SessionIdx> = (0..100).map(|n| t.insert(session(n, false), cold(n), Time(0)).unwrap()).collect();
    assert_eq!(t.insert(session(100, false), cold(0), Time(0)), Err(InsertError::Full));
    t.remove(idx[40]).unwrap();
    assert_eq!(t.insert(session(100, false), cold(0), Time(0)), Ok(idx[40]));
    assert_eq!((t.len(), t.capacity(), t.high_water()), (100, 100, 100));
}

#[test]
fn expires_by_the_deadline_there_is_then() {
    let mut t = table(10);
    let idle = |s: &Session<_>| Time(u64::from(s.last_seen)).after(1_000);
    for n in 0..10 {
        t.insert(session(n, false), cold(n), Time(1_000)).unwrap();
    }
    for n in 0..5 {
        t.get_mut(SessionIdx(n)).unwrap().touch(Direction::Inbound, Time(5_000));
    }
    let expired = |t: &mut SessionTable<_, FlowHasher>, now| {
        let mut budget = 1_000;
        let mut ports: Vec<u32> = std::iter::from_fn(|| {
            loop {
                let up = t.poll(now, &mut budget)?;
                let deadline = idle(t.get(up).unwrap());
                if deadline <= now {
                    return t.remove(up);
                }
                t.file(up, deadline);
            }
        })
        .map(|e| e.1.ports.0)
        .collect();
        ports.sort_unstable();
        ports
    };
    assert_eq!(expired(&mut t, Time(999)), []);
    assert_eq!(expired(&mut t, Time(1_300)), [5, 6, 7, 8, 9]);
    assert_eq!(expired(&mut t, Time(5_999)), []);
    // A deadline that became earlier is filed by the caller.
    t.file(SessionIdx(2), Time(6_000));
    t.get_mut(SessionIdx(2)).unwrap().last_seen = 0;
    assert_eq!(expired(&mut t, Time(6_300)), [0, 1, 2, 3, 4]);
    assert!(t.is_empty());
}

#[test]
fn a_walk_in_steps_sees_all_sessions() {
    let mut t = table(1_000);
    for n in 0..1_000 {
        t.insert(session(n, false), cold(n), Time(0)).unwrap();
    }
    for n in (0..1_000).step_by(3) {
        t.remove(SessionIdx(n)).unwrap();
    }
    let (mut seen, mut at, mut steps) = (Vec::new(), Some(0), 0);
    while let Some(from) = at {
        let (sessions, next) = t.scan(from, 64);
        seen.extend(sessions.map(|(idx, session, cold)| {
            assert_eq!(u32::from(session.ends().cport.0), cold.ports.0);
            idx.0
        }));
        (at, steps) = (next, steps + 1);
    }
    assert!(seen.into_iter().eq((0..1_000).filter(|n| n % 3 != 0)));
    assert_eq!(steps, 1_000_usize.div_ceil(64));
    let (mut beyond, next) = t.scan(5_000, 64);
    assert!(beyond.next().is_none() && next.is_none());
}

/// A hash that knows only a few values, as if an attacker had found keys that collide.
struct Few(u64);

impl Few {
    fn crowd(&self, hashes: &mut [u64]) {
        hashes.iter_mut().for_each(|hash| *hash = *hash % self.0 * (u64::MAX / self.0));
    }
}

impl FlowHash for Few {
    fn hash_v4(&self, keys: &[[u64; 2]], hashes: &mut [u64]) {
        FlowHasher::new(3, 4).hash_v4(keys, hashes);
        self.crowd(hashes);
    }

    fn hash_v6(&self, keys: &[[u64; 5]], hashes: &mut [u64]) {
        FlowHasher::new(3, 4).hash_v6(keys, hashes);
        self.crowd(hashes);
    }
}

/// Generated operations against a map from keys, with burst lookups whose probes are outdated by what happens between.
fn agrees_with_a_map<H: FlowHash>(hasher: H, max: usize, steps: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut now = Time(1 << 33);
    let mut t = SessionTable::new(max, hasher, now);
    let mut oracle: HashMap<FlowKey<Ipv4Addr>, (SessionIdx, Direction)> = HashMap::new();
    let mut deadlines: HashMap<SessionIdx, Time> = HashMap::new();
    // About twice as many tuples as places, so that inserts meet duplicates and a full table.
    let numbers = 2 * max;
    let any = |rng: &mut Rng| session(rng.below(numbers) as u32 * 7, rng.chance(1, 4));
    let forget = |oracle: &mut HashMap<_, _>, s: &Session<Ipv4Addr>| {
        assert!(oracle.remove(&s.key(Direction::Inbound)).is_some());
        assert!(oracle.remove(&s.key(Direction::Outbound)).is_some());
    };
    for step in 0..steps {
        let looked_up: Vec<FlowKey<Ipv4Addr>> =
            (0..4).map(|_| any(&mut rng).key(*rng.pick(&[Direction::Inbound, Direction::Outbound]))).collect();
        let probe = |key| {
            let mut probe = t.probe(t.hash(key));
            t.probe_behind(&mut probe);
            probe
        };
        let probes: Vec<Probe> = looked_up.iter().map(probe).collect();
        match rng.below(8) {
            0..4 => {
                let s = any(&mut rng);
                let deadline = now.after(rng.below(20_000) as u64);
                let taken = oracle.get(&s.key(Direction::Inbound)).copied();
                match t.insert(s.clone(), cold(step as u32), deadline) {
                    Ok(idx) => {
                        assert!(taken.is_none() && deadlines.insert(idx, deadline).is_none());
                        oracle.insert(s.key(Direction::Inbound), (idx, Direction::Inbound));
                        oracle.insert(s.key(Direction::Outbound), (idx, Direction::Outbound));
                    }
                    Err(InsertError::Full) => assert_eq!(deadlines.len(), max),
                    Err(InsertError::Duplicate(idx, direction)) => assert_eq!(taken, Some((idx, direction))),
                }
            }
            4..6 => {
                let idx = SessionIdx(rng.below(max) as u32);
                let removed = t.remove(idx);
                assert_eq!(removed.is_some(), deadlines.remove(&idx).is_some());
                if let Some((s, _)) = removed {
                    forget(&mut oracle, &s);
                }
            }
            6 => {
                let idx = SessionIdx(rng.below(max) as u32);
                if let Some(deadline) = deadlines.get_mut(&idx) {
                    let before = std::mem::replace(deadline, now.after(rng.below(30_000) as u64));
                    // Only an earlier one has to be filed.
                    if *deadline < before || rng.chance(1, 4) {
                        t.file(idx, *deadline);
                    }
                }
            }
            _ => {
                now = now.after(rng.below(500) as u64);
                let mut budget = 50;
                while let Some(idx) = t.poll(now, &mut budget) {
                    if deadlines[&idx] > now {
                        t.file(idx, deadlines[&idx]);
                        continue;
                    }
                    if rng.chance(1, 4) {
                        deadlines.insert(idx, now.after(700));
                        t.file(idx, now.after(700));
                        continue;
                    }
                    let (s, _) = t.remove(idx).unwrap();
                    assert!(deadlines.remove(&idx).unwrap() <= now, "expired too early");
                    forget(&mut oracle, &s);
                }
            }
        }
        for (key, probe) in looked_up.iter().zip(&probes) {
            let _ = t.candidate(probe);
            assert_eq!(resolve(&t, key, probe), oracle.get(key).copied(), "seed {seed} step {step}");
            assert_eq!(t.find(key, t.hash(key)), oracle.get(key).copied());
        }
        assert_eq!((t.len(), t.wheel.len(), t.index.len()), (deadlines.len(), deadlines.len(), oracle.len()));
    }
    assert!(oracle.iter().all(|(key, &found)| t.find(key, t.hash(key)) == Some(found)));
    assert_eq!(t.scan(0, usize::MAX).0.count(), deadlines.len());
}

#[test]
fn agrees_with_a_map_of_keys() {
    agrees_with_a_map(FlowHasher::new(5, 6), 300, 60_000, 1);
    agrees_with_a_map(FlowHasher::new(7, 8), 7, 20_000, 2);
    agrees_with_a_map(FlowHasher::new(9, 10), 1, 2_000, 3);
}

#[test]
fn agrees_with_a_map_of_keys_when_hashes_collide() {
    agrees_with_a_map(Few(1), 60, 30_000, 4);
    agrees_with_a_map(Few(3), 200, 30_000, 5);
}
