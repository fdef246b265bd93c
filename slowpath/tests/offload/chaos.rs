//! Everything at once: refusals, delays, full tables, connections cut anywhere in a batch or a read, lost and repeated
//! notices. Workers go on asking; in the end nothing is left behind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use carom::offload::{Settings, Status};
use carom_p4::{InboundV4Key, Key};
use fullnat::offload::{Place, State, Verdict};
use fullnat::table::SessionIdx;
use runtime_client::Code;
use runtime_client::fake::{Chaos, CutAt, FakeTarget, Lie};
use runtime_client::write::WriteConfig;

use crate::rig::{FORMS, Rig, flows, settings, target};

const SESSIONS: u32 = 200;

/// Where each session of each worker is, as the worker believes.
#[derive(Default)]
struct Workers {
    states: BTreeMap<(usize, u32), State>,
    /// Goes on from storm to storm.
    random: u64,
}

impl Workers {
    /// Takes verdicts, all of which must fit.
    fn hear(&mut self, rig: &mut Rig) {
        for worker in 0..2 {
            while let Some(verdict) = rig.poll(worker) {
                let Some(of) = verdict.place() else { panic!("nothing is to be adopted") };
                let Place::V4(SessionIdx(n)) = of else { panic!("not IPv4") };
                let state = self.states.entry((worker, n)).or_insert(State::None);
                *state = match (verdict, *state) {
                    (Verdict::Installed(_), State::Installing) => State::Offloaded,
                    (Verdict::Refused(..), State::Installing) => State::None,
                    (Verdict::Removed(..), State::Offloaded | State::Removing) => State::None,
                    (Verdict::Active(..) | Verdict::Idle(..), State::Offloaded | State::Removing) => *state,
                    (verdict, state) => panic!("{verdict:?} while {state:?}"),
                };
            }
        }
    }

    fn act(&mut self, rig: &mut Rig, n: u32, what: u64) {
        // A tuple is one worker's for ever.
        let worker = (n % 2) as usize;
        let state = self.states.entry((worker, n)).or_insert(State::None);
        match *state {
            State::None => {
                rig.install(worker, n);
                *state = State::Installing;
            }
            State::Offloaded if what.is_multiple_of(3) => rig.check(worker, n),
            State::Offloaded => {
                rig.remove(worker, n);
                *state = State::Removing;
            }
            State::Installing | State::Removing => {}
        }
    }

    fn offloaded(&self) -> Vec<(usize, u32)> {
        self.states.iter().filter(|(_, state)| **state == State::Offloaded).map(|(of, _)| *of).collect()
    }

    fn is_calm(&self) -> bool {
        self.states.values().all(|state| matches!(state, State::None | State::Offloaded))
    }
}

fn faults() -> Chaos {
    Chaos {
        refuse: 0.05,
        refuse_with: Code::Aborted,
        capacity: Some(80),
        hashed: Some((InboundV4Key::TABLE.id, 10)),
        delay: Duration::from_millis(1),
        cut: 0.01,
        cut_at: CutAt::Anywhere,
        cut_read: 0.01,
        lose_notices: 0.3,
        repeat_notices: 0.3,
        lie: None,
    }
}

async fn storm(rig: &mut Rig, workers: &mut Workers, target: &FakeTarget, time: Duration) {
    let (start, mut random) = (Instant::now(), workers.random);
    while start.elapsed() < time {
        for _ in 0..20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            workers.act(rig, (random >> 33) as u32 % SESSIONS, random >> 50);
        }
        // Rare enough that the manager is ready most of the time: after each it waits longer to connect again.
        match random >> 54 {
            0 => target.restart(),
            1 => target.chaos(|chaos| chaos.lie = Some(Lie::RefusePrimary)),
            2..50 => target.chaos(|chaos| chaos.lie = None),
            50..58 => target.announce(),
            58..200 => target.advance(Duration::from_secs(3)),
            _ => {}
        }
        workers.hear(rig);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    workers.random = random;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_storm_nothing_is_left_behind() {
    for form in FORMS {
        let target = target().await;
        let write = WriteConfig { batch: 16, timeout: Duration::from_millis(500), ..WriteConfig::default() };
        let sweep = Duration::from_millis(200);
        let mut rig = Rig::ready(Settings { write, sweep, ..settings(target.address(), form) }).await;
        let mut workers = Workers::default();
        target.chaos(|chaos| *chaos = faults());
        let mut seconds = 0;
        // Chance may leave something out on a slow machine: each of these has a test of its own.
        while seconds < 5 || seconds < 15 && !has_met_everything(&rig.status().await) {
            storm(&mut rig, &mut workers, &target, Duration::from_secs(1)).await;
            seconds += 1;
        }
        target.calm();
        settle(&mut rig, &mut workers).await;
        let sweeps = rig.status().await.totals.sweeps;
        rig.until_status(|status| status.totals.sweeps > sweeps + 1).await;
        settle(&mut rig, &mut workers).await;
        let offloaded = workers.offloaded();
        assert_eq!(flows(&target).len(), 2 * offloaded.len(), "{:#?}", rig.status().await);
        for (worker, n) in offloaded {
            rig.remove(worker, n);
            workers.states.insert((worker, n), State::Removing);
        }
        settle(&mut rig, &mut workers).await;
        assert_eq!((workers.offloaded().len(), flows(&target).len()), (0, 0));
        // Where nothing is on its way, all that is offloaded is lost with the target's entries.
        rig.until_open().await;
        (0..10).for_each(|n| workers.act(&mut rig, n, 0));
        settle(&mut rig, &mut workers).await;
        assert_eq!(workers.offloaded().len(), 10);
        let before = rig.status().await.totals.lost;
        target.restart();
        rig.until_status(|status| status.totals.lost == before + 10).await;
        rig.until_open().await;
        settle(&mut rig, &mut workers).await;
        assert_eq!((workers.offloaded().len(), flows(&target).len()), (0, 0));
        let status = rig.status().await;
        assert_eq!(status.sessions, Default::default());
        assert_eq!(status.totals.installed, status.totals.removed);
    }
}

fn has_met_everything(status: &Status) -> bool {
    let totals = &status.totals;
    let met = [totals.unknown, totals.refused_full, totals.refused_not_ready, totals.idle];
    met.iter().all(|count| *count > 0) && totals.removed > 100
}

/// Until no session is on its way.
async fn settle(rig: &mut Rig, workers: &mut Workers) {
    let start = Instant::now();
    loop {
        workers.hear(rig);
        if workers.is_calm() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:#?}", rig.status().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
