//! What most tests begin with.

use std::future::Future;
use std::time::Duration;

use runtime_client::fake::{FakeConfig, FakeTarget};
use runtime_client::proto::p4::v1::TableEntry;
use runtime_client::write::{Action, Entry, Match, MatchValue, Outcome, Param, Settled, Update, WriteConfig, Writer};
use runtime_client::{Backoff, Client, Config, ElectionId, Events, Standing};

/// The sample program's tables and actions.
pub const FLOW: u32 = 0x0200_0001;
pub const NEXT: u32 = 0x0200_0002;
pub const ROUTE: u32 = 0x0200_0003;
pub const REWRITE: u32 = 0x0100_0001;
pub const FORWARD: u32 = 0x0100_0002;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Until it is so.
pub async fn until(mut holds: impl FnMut() -> bool) {
    in_time(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub fn config(target: &FakeTarget, id: u128) -> Config {
    Config {
        election_id: Some(ElectionId(id)),
        backoff: Backoff {
            first: Duration::from_millis(5),
            longest: Duration::from_millis(50),
            settled_after: Duration::from_secs(1),
        },
        ..Config::new(target.address(), 1)
    }
}

pub async fn target(config: FakeConfig) -> FakeTarget {
    FakeTarget::start(config).await.expect("a free port on loopback")
}

pub fn client(target: &FakeTarget, id: u128) -> (Client, Events) {
    Client::start(config(target, id)).expect("a good config")
}

pub async fn primary(target: &FakeTarget) -> (Client, Events) {
    let (client, events) = client(target, 1);
    in_time(client.wait_for(Standing::is_primary)).await;
    (client, events)
}

/// Key and state of an entry of table FLOW.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub key: u32,
    pub value: u32,
    pub idle: Duration,
}

impl Flow {
    pub fn new(key: u32, value: u32) -> Self {
        Self { key, value, idle: Duration::ZERO }
    }

    pub fn with<R>(&self, f: impl FnOnce(Entry<'_>) -> R) -> R {
        let [key, value] = [self.key, self.value].map(u32::to_be_bytes);
        let exact = |field_id, value| Match { field_id, value: MatchValue::Exact(value) };
        let matches =
            [exact(1, &key), exact(2, &[10, 0, 0, 1]), exact(3, &[6]), exact(4, &[0x80, 0]), exact(5, &[0, 80])];
        let param = |id, value| Param { id, value };
        let params = [
            param(1, &value[..]),
            param(2, &[10, 1, 0, 1]),
            param(3, &[4, 0]),
            param(4, &[0x1f, 0x90]),
            param(5, &[1]),
        ];
        f(Entry {
            table_id: FLOW,
            matches: &matches,
            action: Some(Action { id: REWRITE, params: &params }),
            idle_timeout_ns: self.idle.as_nanos() as i64,
            ..Entry::default()
        })
    }

    pub fn message(&self) -> TableEntry {
        self.with(|entry| entry.to_message())
    }

    pub fn insert(&self, writer: &mut Writer) {
        self.with(|entry| writer.submit(self.key.into(), &[Update::insert(entry)])).expect("room");
    }

    pub fn modify(&self, writer: &mut Writer) {
        self.with(|entry| writer.submit(self.key.into(), &[Update::modify(entry)])).expect("room");
    }

    pub fn delete(&self, writer: &mut Writer) {
        self.with(|entry| writer.submit(self.key.into(), &[Update::delete(entry)])).expect("room");
    }

    /// Key and value of an entry of the target.
    pub fn of(entry: &TableEntry) -> (u32, u32) {
        use runtime_client::proto::p4::v1::{field_match::FieldMatchType, table_action::Type};
        let number = |bytes: &[u8]| bytes.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        let Some(FieldMatchType::Exact(key)) = &entry.r#match[0].field_match_type else { panic!("not exact") };
        let Some(Type::Action(action)) = &entry.action.as_ref().expect("an action").r#type else {
            panic!("not direct")
        };
        (number(&key.value), number(&action.params[0].value))
    }
}

/// Key and value of all entries, sorted.
pub fn flows(entries: &[TableEntry]) -> Vec<(u32, u32)> {
    let mut flows: Vec<_> = entries.iter().map(Flow::of).collect();
    flows.sort_unstable();
    flows
}

/// Waits until nothing is pending.
pub async fn settle_all(writer: &mut Writer) -> Vec<Settled> {
    let mut settled = Vec::new();
    in_time(async {
        while writer.pending() > 0 {
            writer.settle(&mut settled).await;
        }
    })
    .await;
    settled
}

/// Writes one entry and returns what became of it.
pub async fn write(client: &Client, update: Update<'_>) -> Outcome {
    let mut writer = client.writer(WriteConfig::default());
    writer.submit(1, &[update]).expect("room");
    settle_all(&mut writer).await.remove(0).outcome
}

/// Inserts one flow and returns what became of it.
pub async fn insert(client: &Client, flow: Flow) -> Outcome {
    let mut writer = client.writer(WriteConfig::default());
    flow.insert(&mut writer);
    settle_all(&mut writer).await.remove(0).outcome
}
