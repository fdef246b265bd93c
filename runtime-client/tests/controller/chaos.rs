//! Generated orders of events and faults: what the client was told of its updates is true, and one reconciliation after
//! the faults brings the target to what is wanted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use runtime_client::fake::{CutAt, FakeConfig, FakeTarget, Lie, sample_p4info};
use runtime_client::proto::p4::v1::TableEntry;
use runtime_client::write::{Entity, Kind, Outcome, Settled, Update, WriteConfig, Writer};
use runtime_client::{Client, Code, ElectionId, Event, Events, Query, Standing, difference};

use crate::common::{FLOW, Flow, client, flows, in_time, target};

const KEYS: u32 = 12;
const IDLE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
enum Step {
    /// Insert or modify, by whether it is wanted already.
    Put(u32, u32),
    Remove(u32),
    /// Results and notices are taken.
    Settle,
    Advance(u64),
    Hit(u32),
    Refuse(f64, bool),
    Capacity(Option<usize>),
    Cut(f64, CutAt),
    Delay(u64),
    Notices(f64, f64),
    Lie(Option<Lie>),
    Announce,
    Disconnect,
    /// All entries are lost, and all election ids.
    Restart,
    /// Another takes over and goes; nobody is primary until the client stands with a higher id.
    Rival,
    Stand,
}

fn step() -> impl Strategy<Value = Step> {
    let cut_at = prop_oneof![Just(CutAt::Before), Just(CutAt::Middle), Just(CutAt::After), Just(CutAt::Anywhere)];
    let lie = prop_oneof![
        Just(Some(Lie::AllBackup)),
        Just(Some(Lie::RefusePrimary)),
        Just(Some(Lie::AllPrimaryByOwnId)),
        Just(None),
        Just(None),
    ];
    let share = || prop_oneof![Just(0.0), 0.0..0.7];
    prop_oneof![
        30 => (0..KEYS, 0..1000u32).prop_map(|(key, value)| Step::Put(key, value)),
        12 => (0..KEYS).prop_map(Step::Remove),
        20 => Just(Step::Settle),
        4 => (1..15u64).prop_map(Step::Advance),
        3 => (0..KEYS).prop_map(Step::Hit),
        3 => (share(), any::<bool>()).prop_map(|(share, clear)| Step::Refuse(share, clear)),
        2 => proptest::option::of(0..8usize).prop_map(Step::Capacity),
        3 => (share(), cut_at).prop_map(|(share, at)| Step::Cut(share, at)),
        2 => (0..4u64).prop_map(Step::Delay),
        2 => (share(), share()).prop_map(|(lose, repeat)| Step::Notices(lose, repeat)),
        3 => lie.prop_map(Step::Lie),
        2 => Just(Step::Announce),
        3 => Just(Step::Disconnect),
        1 => Just(Step::Restart),
        1 => Just(Step::Rival),
        2 => Just(Step::Stand),
    ]
}

/// What the client knows of one key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Belief {
    There(u32),
    Absent,
    Unknown,
}

struct World {
    target: FakeTarget,
    client: Client,
    events: Events,
    writer: Writer,
    wanted: BTreeMap<u32, u32>,
    belief: HashMap<u32, Belief>,
    /// Operations under way, by key, in order.
    under_way: HashMap<u32, VecDeque<(Kind, u32)>>,
    id: u128,
    /// Idle entries are removed; not while a fixed state is aimed for.
    heeds_notices: bool,
}

impl World {
    async fn new(batch: usize, seed: u64) -> Self {
        let target = target(FakeConfig { p4info: Some(sample_p4info(10)), seed, ..FakeConfig::default() }).await;
        let (client, events) = client(&target, 1);
        in_time(client.wait_for(Standing::is_primary)).await;
        let writer = client.writer(WriteConfig { batch, in_flight: 3, ..WriteConfig::default() });
        let (belief, under_way) = (HashMap::new(), HashMap::new());
        Self { target, client, events, writer, wanted: BTreeMap::new(), belief, under_way, id: 1, heeds_notices: true }
    }

    fn submit(&mut self, key: u32, value: u32, kind: Kind) {
        let flow = Flow { idle: IDLE, ..Flow::new(key, value) };
        flow.with(|entry| self.writer.submit(key.into(), &[Update { kind, entity: Entity::Entry(entry) }]))
            .expect("there is room");
        self.under_way.entry(key).or_default().push_back((kind, value));
    }

    fn put(&mut self, key: u32, value: u32) {
        let kind = if self.wanted.insert(key, value).is_some() { Kind::Modify } else { Kind::Insert };
        self.submit(key, value, kind);
    }

    fn remove(&mut self, key: u32) {
        self.wanted.remove(&key);
        self.submit(key, 0, Kind::Delete);
    }

    fn learn(&mut self, end: &Settled) {
        let key = end.key as u32;
        let (kind, value) = self.under_way.get_mut(&key).and_then(VecDeque::pop_front).expect("it was submitted");
        let belief = self.belief.entry(key).or_insert(Belief::Absent);
        match (&end.outcome, kind) {
            (Outcome::Applied, Kind::Delete) => *belief = Belief::Absent,
            (Outcome::Applied, _) => *belief = Belief::There(value),
            (Outcome::Unknown(_), _) => *belief = Belief::Unknown,
            (Outcome::NotSent, _) => {}
            (Outcome::Refused(refusal), _) => check_refusal(refusal.code, kind, *belief),
        }
    }

    async fn settle(&mut self) {
        let mut settled = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(20), self.writer.settle(&mut settled)).await;
        settled.iter().for_each(|end| self.learn(end));
        while let Some(event) = self.events.try_next() {
            let (Event::Idle(notice), true) = (event, self.heeds_notices) else { continue };
            for entry in notice.table_entry {
                let action = Flow::new(0, 0).message().action;
                let (key, _) = Flow::of(&TableEntry { action, ..entry });
                self.remove(key);
            }
        }
    }

    async fn take(&mut self, step: Step) {
        let target = &self.target;
        match step {
            Step::Put(key, value) => self.put(key, value),
            Step::Remove(key) => self.remove(key),
            Step::Settle => self.settle().await,
            Step::Advance(seconds) => target.advance(Duration::from_secs(seconds)),
            Step::Hit(key) => drop(target.hit(&Flow::new(key, 0).message(), 1, 60)),
            Step::Refuse(share, clear) => target.chaos(|chaos| {
                chaos.refuse = share;
                chaos.refuse_with = if clear { Code::Aborted } else { Code::Unknown };
            }),
            Step::Capacity(capacity) => target.chaos(|chaos| chaos.capacity = capacity),
            Step::Cut(share, at) => target.chaos(|chaos| (chaos.cut, chaos.cut_at) = (share, at)),
            Step::Delay(ms) => target.chaos(|chaos| chaos.delay = Duration::from_millis(ms)),
            Step::Notices(lose, repeat) => {
                target.chaos(|chaos| (chaos.lose_notices, chaos.repeat_notices) = (lose, repeat));
            }
            Step::Lie(lie) => target.chaos(|chaos| chaos.lie = lie),
            Step::Announce => target.announce(),
            Step::Disconnect => target.disconnect(),
            Step::Restart => self.restart().await,
            Step::Rival => self.rival().await,
            Step::Stand => self.stand().await,
        }
    }

    /// Nothing is under way when it happens, or nobody could say what was before and what after.
    async fn restart(&mut self) {
        self.drain().await;
        self.target.restart();
        self.belief.values_mut().for_each(|belief| *belief = Belief::Absent);
    }

    async fn rival(&mut self) {
        // It has to hear the truth.
        self.target.calm();
        self.id += 1;
        let (rival, _events) = client(&self.target, self.id);
        in_time(rival.wait_for(Standing::is_primary)).await;
    }

    async fn stand(&mut self) {
        self.id += 1;
        self.client.stand(Some(ElectionId(self.id))).await;
    }

    async fn drain(&mut self) {
        in_time(async {
            while self.writer.pending() > 0 {
                self.settle().await;
            }
        })
        .await;
    }

    /// What the client was told is how it is.
    fn check_beliefs(&self) {
        let there: BTreeMap<u32, u32> = flows(&self.target.entries(FLOW)).into_iter().collect();
        for key in 0..KEYS {
            match self.belief.get(&key).unwrap_or(&Belief::Absent) {
                Belief::Unknown => {}
                Belief::Absent => assert_eq!(there.get(&key), None, "key {key}"),
                Belief::There(value) => assert_eq!(there.get(&key), Some(value), "key {key}"),
            }
        }
    }

    /// All entries, read as primary; a connection that was cut may not have shown it yet.
    async fn read(&self) -> Vec<TableEntry> {
        in_time(async {
            loop {
                self.client.wait_for(Standing::is_primary).await;
                if let Ok(reading) = self.client.read(Query::table(FLOW)).await
                    && let Ok(entries) = reading.all().await
                {
                    return entries;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    async fn reconcile(&mut self) {
        self.heeds_notices = false;
        self.target.calm();
        // Whatever the target said last may have been a lie; a new id makes it say the truth.
        self.stand().await;
        let there = self.read().await;
        let wanted: Vec<_> = self
            .wanted
            .iter()
            .take(10)
            .map(|(key, value)| Flow { idle: IDLE, ..Flow::new(*key, *value) }.message())
            .collect();
        // Deletes first: the table may be full.
        let (deletes, others): (Vec<_>, Vec<_>) =
            difference(&wanted, &there).into_iter().partition(|change| change.kind == Kind::Delete);
        for changes in [deletes, others] {
            for change in &changes {
                let (key, value) = Flow::of(&change.entry);
                self.submit(key, value, change.kind);
            }
            self.drain().await;
        }
        let there = self.read().await;
        assert_eq!(difference(&wanted, &there), []);
        assert_eq!(flows(&there), flows(&wanted));
        assert_eq!(flows(&self.target.entries(FLOW)), flows(&wanted));
    }
}

/// A refusal that contradicts what is known for certain would be a wrong result.
fn check_refusal(code: Code, kind: Kind, belief: Belief) {
    match (code, kind) {
        (Code::AlreadyExists, Kind::Insert) => assert_ne!(belief, Belief::Absent),
        (Code::NotFound, Kind::Modify | Kind::Delete) => assert!(!matches!(belief, Belief::There(_)), "{belief:?}"),
        (Code::ResourceExhausted, Kind::Insert) => assert!(!matches!(belief, Belief::There(_)), "{belief:?}"),
        // By chance, and by a target that does not take the client for the primary.
        (Code::Aborted | Code::Unknown | Code::PermissionDenied, _) => {}
        other => panic!("{other:?} with {belief:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn view_and_target_agree(steps in vec(step(), 1..80), batch in 1..8usize, seed: u64) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(batch, seed).await;
            for step in steps {
                world.take(step).await;
            }
            world.drain().await;
            world.check_beliefs();
            world.reconcile().await;
            world.check_beliefs();
        });
    }
}
