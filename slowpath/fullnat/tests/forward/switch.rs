//! A switch with flow tables in front of the balancer, and an offload manager that keeps the rules and nothing more: it is
//! slow, refuses, does things by halves, forgets, and its rings are short.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use fullnat::addr::Addr;
use fullnat::flow::{Direction, Rewrite};
use fullnat::id::{NexthopId, Proto};
use fullnat::neighbor::Neighbors;
use fullnat::offload::{Adoption, AnyEnds, Counted, Ends, Place, Request, Verdict};
use fullnat::plan::Plan;
use fullnat::time::Time;
use fullnat::wire::{Flow, Packet, TcpFlags, ethernet, parse, rewrite};

use crate::sim::{Sent, Sim};
use crate::world::FRONT;

/// A key of either family: protocol, source, destination.
pub type Key = (Proto, SocketAddr, SocketAddr);

/// Packets and bytes of an entry.
pub type Counts = (u64, u64);

/// A worker's session.
pub type Id = (usize, Place);

const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

/// One flow entry.
#[derive(Debug)]
struct Entry {
    owner: Id,
    ends: AnyEnds,
    direction: Direction,
    packets: u64,
    bytes: u64,
}

/// The tables.
#[derive(Default, Debug)]
pub struct Switch {
    entries: HashMap<Key, Entry>,
    /// Packets it forwarded.
    pub forwarded: u64,
}

/// The same with other next hops.
fn through(ends: AnyEnds, [nexthop_in, nexthop_out]: [NexthopId; 2]) -> AnyEnds {
    match ends {
        AnyEnds::V4(ends) => AnyEnds::V4(Ends { nexthop_in, nexthop_out, ..ends }),
        AnyEnds::V6(ends) => AnyEnds::V6(Ends { nexthop_in, nexthop_out, ..ends }),
    }
}

/// The key that packets of a direction carry.
pub fn key(ends: &AnyEnds, direction: Direction) -> Key {
    fn of<A: Addr>(ends: &Ends<A>, direction: Direction) -> Key {
        let key = ends.key(direction);
        (key.proto, SocketAddr::new(key.src.into(), key.sport), SocketAddr::new(key.dst.into(), key.dport))
    }
    match ends {
        AnyEnds::V4(ends) => of(ends, direction),
        AnyEnds::V6(ends) => of(ends, direction),
    }
}

impl Switch {
    /// What becomes of a frame that it forwards by itself; none when it hands the frame to the slow path.
    pub fn forward(&mut self, frame: &[u8], neighbors: &Neighbors, plan: &Plan) -> Option<Sent> {
        if self.entries.is_empty() {
            return None;
        }
        match parse(frame) {
            Ok(Packet::V4(flow)) => self.hit(frame, &flow, neighbors, plan, |ends, direction| match ends {
                AnyEnds::V4(ends) => Some(ends.rewrite(direction)),
                AnyEnds::V6(_) => None,
            }),
            Ok(Packet::V6(flow)) => self.hit(frame, &flow, neighbors, plan, |ends, direction| match ends {
                AnyEnds::V4(_) => None,
                AnyEnds::V6(ends) => Some(ends.rewrite(direction)),
            }),
            _ => None,
        }
    }

    fn hit<A: Addr>(
        &mut self,
        frame: &[u8],
        flow: &Flow<A>,
        neighbors: &Neighbors,
        plan: &Plan,
        rewrite_of: impl Fn(&AnyEnds, Direction) -> Option<Rewrite<A>>,
    ) -> Option<Sent> {
        const PUNTED: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0);
        if flow.ttl <= 1 || flow.flags.any(PUNTED) {
            return None;
        }
        let source = SocketAddr::new(flow.key.src.into(), flow.key.sport);
        let destination = SocketAddr::new(flow.key.dst.into(), flow.key.dport);
        let entry = self.entries.get_mut(&(flow.key.proto, source, destination))?;
        let rewrite = rewrite_of(&entry.ends, entry.direction).expect("an entry of this family");
        let hop = neighbors.hop(rewrite.nexthop).expect("a next hop that the session holds");
        entry.packets += 1;
        entry.bytes += frame.len() as u64;
        self.forwarded += 1;
        let mut bytes = frame.to_vec();
        rewrite::apply(&mut bytes, flow, &rewrite);
        let mac = hop.mac.expect("a MAC address known at install");
        ethernet::set_addresses(&mut bytes, mac, plan.interface(hop.iface).mac);
        Some(Sent { iface: hop.iface, bytes })
    }

    fn write(&mut self, owner: Id, ends: AnyEnds, direction: Direction) {
        let entry = Entry { owner, ends, direction, packets: 0, bytes: 0 };
        let before = self.entries.insert(key(&ends, direction), entry);
        assert!(before.is_none(), "an entry in place of {before:?}");
    }

    fn delete(&mut self, ends: &AnyEnds, direction: Direction) -> (u64, u64) {
        let entry = self.entries.remove(&key(ends, direction)).expect("an entry that was written");
        (entry.packets, entry.bytes)
    }

    /// Sessions of which both entries are there, and the keys of those of which one is.
    pub fn pairs(&self) -> (Vec<(AnyEnds, [Counts; 2])>, Vec<Key>) {
        let (mut pairs, mut halves) = (Vec::new(), Vec::new());
        for (at, entry) in &self.entries {
            let keys = DIRECTIONS.map(|direction| key(&entry.ends, direction));
            match keys.map(|key| self.entries.get(&key).map(|entry| (entry.packets, entry.bytes))) {
                [Some(inbound), Some(outbound)] if entry.direction == Direction::Inbound => {
                    pairs.push((entry.ends, [inbound, outbound]));
                }
                [Some(_), Some(_)] => {}
                _ => halves.push(*at),
            }
        }
        (pairs, halves)
    }

    /// The entries of these ends are another session's now, by other next hops.
    fn rename(&mut self, ends: &AnyEnds, owner: Id) {
        for direction in DIRECTIONS {
            let entry = self.entries.get_mut(&key(ends, direction)).expect("both entries");
            (entry.owner, entry.ends) = (owner, *ends);
        }
    }

    /// Whose entries there are, and what they are made of.
    pub fn entries(&self) -> impl Iterator<Item = (Id, &AnyEnds)> {
        self.entries.values().map(|entry| (entry.owner, &entry.ends))
    }

    /// Whether packets with this key are forwarded.
    pub fn has(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Installing,
    Refusing,
    Installed,
    Removing,
}

/// What the manager knows of a session.
#[derive(Debug)]
struct Job {
    ends: AnyEnds,
    idle_ms: u64,
    phase: Phase,
    /// By direction: whether the entry is there.
    written: [bool; 2],
    /// Counted, and not told yet.
    counted: Counted,
    /// Told of so far, of entries that are there.
    told: Counted,
    active: Time,
}

/// The manager.
pub struct Manager {
    rng: u64,
    /// False: everything at once, nothing fails.
    pub chaos: bool,
    jobs: BTreeMap<Id, Job>,
    /// By worker: what is still to be told.
    verdicts: Vec<VecDeque<Verdict>>,
    pub installed: u64,
    pub refused: u64,
    pub lost: u64,
    /// Keys of outbound entries that are gone, with when.
    pub gone: Vec<Key>,
}

impl Manager {
    pub fn new(workers: usize, seed: u64) -> Self {
        let (jobs, verdicts) = (BTreeMap::new(), (0..workers).map(|_| VecDeque::new()).collect());
        Manager { rng: seed | 1, chaos: true, jobs, verdicts, installed: 0, refused: 0, lost: 0, gone: Vec::new() }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 11) % n
    }

    /// True once in `n` times while there is chaos.
    fn odd(&mut self, n: u64) -> bool {
        self.chaos && self.below(n) == 0
    }

    /// Whether it knows nothing and has nothing to say.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.verdicts.iter().all(VecDeque::is_empty)
    }

    /// Whether it knows the session, or is about to tell its worker that it does not any more.
    pub fn knows(&self, id: Id) -> bool {
        self.jobs.contains_key(&id) || self.verdicts[id.0].iter().any(|verdict| verdict.place() == Some(id.1))
    }

    /// Begins anew with the entries there are: halves go, whole ones are offered to their workers. Returns the outbound keys
    /// of those that were taken.
    pub fn restart(&mut self, sim: &mut Sim) -> Vec<Key> {
        let seed = self.below(u64::MAX);
        *self = Manager { chaos: self.chaos, ..Manager::new(sim.workers.len(), seed) };
        let (pairs, halves) = sim.switch.pairs();
        halves.iter().for_each(|key| _ = sim.switch.entries.remove(key));
        let (placement, plan) = (sim.placement(), sim.plan());
        let mut taken = Vec::new();
        for (ticket, (ends, counts)) in (0..).zip(pairs) {
            let answer = placement.home(&plan, &ends, FRONT).and_then(|worker| {
                let packets = counts.map(|(packets, _)| packets);
                let adoption = Adoption { ticket, ends, back: FRONT, packets };
                sim.verdict(worker.0.into(), Verdict::Adopt(adoption));
                Some((worker, sim.workers[usize::from(worker.0)].requests.pop_back()?))
            });
            let Some((worker, Request::Adopted { place, nexthops, idle_ms, stays, .. })) = answer else {
                DIRECTIONS.iter().for_each(|&direction| _ = sim.switch.delete(&ends, direction));
                continue;
            };
            assert!(stays);
            let id = (usize::from(worker.0), place);
            let ends = through(ends, nexthops);
            sim.switch.rename(&ends, id);
            let told = Counted { packets: counts.map(|(packets, _)| packets), bytes: counts.map(|(_, bytes)| bytes) };
            let (counted, active) = (Counted::default(), sim.now);
            self.jobs
                .insert(id, Job { ends, idle_ms, phase: Phase::Installed, written: [true; 2], counted, told, active });
            taken.push(key(&ends, Direction::Outbound));
        }
        taken
    }

    /// Does some of what there is to do. `check` is told of each install before anything is done about it.
    pub fn step(&mut self, sim: &mut Sim, mut check: impl FnMut(&AnyEnds)) {
        for worker in 0..sim.workers.len() {
            while !self.odd(3)
                && let Some(request) = sim.workers[worker].requests.pop_front()
            {
                self.take(sim, worker, request, &mut check);
            }
        }
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            for _ in 0..3 {
                if !self.odd(2) {
                    self.work(sim, id);
                }
            }
        }
        for worker in 0..sim.workers.len() {
            while !self.odd(3)
                && let Some(verdict) = self.verdicts[worker].pop_front()
            {
                sim.verdict(worker, verdict);
            }
            let room = if self.odd(4) { 0 } else { 4 };
            sim.workers[worker].room = if self.chaos { room } else { usize::MAX };
        }
    }

    fn take(&mut self, sim: &mut Sim, worker: usize, request: Request, check: &mut impl FnMut(&AnyEnds)) {
        let Some(place) = request.place() else { panic!("{request:?} to nothing asked") };
        let id = (worker, place);
        match request {
            Request::Adopted { .. } | Request::Declined { .. } => panic!("{request:?} to nothing asked"),
            Request::Install { ends, idle_ms, .. } => {
                check(&ends);
                let (phase, written) = (Phase::Installing, [false; 2]);
                let (counted, told) = (Counted::default(), Counted::default());
                let job = Job { ends, idle_ms, phase, written, counted, told, active: sim.now };
                let before = self.jobs.insert(id, job);
                assert!(before.is_none(), "an install while there is {before:?}");
            }
            Request::Remove { .. } => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    assert_ne!(job.phase, Phase::Installing, "an operation at a time");
                    job.phase = Phase::Removing;
                }
            }
            Request::Check { .. } => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.read(&mut sim.switch);
                    self.look(id, true, sim.now);
                }
            }
        }
    }

    /// Reads a session's counters and tells of them when there is something to tell, or when asked.
    fn look(&mut self, id: Id, asked: bool, now: Time) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let counted = std::mem::take(&mut job.counted);
        if counted.packets != [0; 2] {
            job.active = now;
            self.verdicts[id.0].push_back(Verdict::Active(id.1, counted));
        } else if asked || now.since(job.active) >= job.idle_ms {
            self.verdicts[id.0].push_back(Verdict::Idle(id.1, counted));
        }
    }

    /// One step of a job.
    fn work(&mut self, sim: &mut Sim, id: Id) {
        let first = self.below(2) as usize;
        let order = [first, 1 - first];
        let (refuse, lose, look) = (self.odd(12), self.odd(500), self.odd(10));
        let retry_ms = self.below(3_000);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.read(&mut sim.switch);
        match job.phase {
            Phase::Installing if refuse => job.phase = Phase::Refusing,
            Phase::Installing => match order.into_iter().find(|&side| !job.written[side]) {
                Some(side) => {
                    sim.switch.write(id, job.ends, DIRECTIONS[side]);
                    job.written[side] = true;
                }
                None => {
                    job.phase = Phase::Installed;
                    self.installed += 1;
                    self.verdicts[id.0].push_back(Verdict::Installed(id.1));
                }
            },
            Phase::Refusing | Phase::Removing => {
                let refused = job.phase == Phase::Refusing;
                match order.into_iter().find(|&side| job.written[side]) {
                    Some(side) => {
                        sim.switch.delete(&job.ends, DIRECTIONS[side]);
                        (job.written[side], job.told.packets[side], job.told.bytes[side]) = (false, 0, 0);
                        self.gone.push(key(&job.ends, DIRECTIONS[side]));
                    }
                    None => {
                        let verdict = if refused {
                            Verdict::Refused(id.1, retry_ms)
                        } else {
                            Verdict::Removed(id.1, job.counted)
                        };
                        self.refused += u64::from(refused);
                        self.verdicts[id.0].push_back(verdict);
                        self.jobs.remove(&id);
                    }
                }
            }
            Phase::Installed if lose => {
                // The target restarted: entries and counters are gone.
                for direction in DIRECTIONS {
                    sim.switch.delete(&job.ends, direction);
                    self.gone.push(key(&job.ends, direction));
                }
                self.lost += 1;
                self.verdicts[id.0].push_back(Verdict::Removed(id.1, Counted::default()));
                self.jobs.remove(&id);
            }
            Phase::Installed if look || !self.chaos => self.look(id, false, sim.now),
            Phase::Installed => {}
        }
    }
}

impl Job {
    /// Reads the counters of its entries.
    fn read(&mut self, switch: &mut Switch) {
        for side in [0, 1] {
            let Some(entry) = switch.entries.get(&key(&self.ends, DIRECTIONS[side])) else { continue };
            self.counted.packets[side] += entry.packets - self.told.packets[side];
            self.counted.bytes[side] += entry.bytes - self.told.bytes[side];
            (self.told.packets[side], self.told.bytes[side]) = (entry.packets, entry.bytes);
        }
    }
}
