//! A second controller beside Carom's: reads what is in the switch's tables and counters, and writes where there is no Carom.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use carom_p4::artifacts::{BMV2_IDS_JSON, BMV2_IDS_P4INFO, BMV2_JSON, BMV2_P4INFO, PNA_P4INFO, PNA_SPEC};
use carom_p4::artifacts::{bmv2_ids_json_with_room_for, bmv2_json_with_room_for, pna_spec_with_room_for};
use carom_p4::{
    Action as _, ConnectionV4EvenKey, ConnectionV4OddKey, FlowV4Key, FlowV6Key, InboundV4Key, Key, PairIdV4Action,
    PairIdV4Key, PortKey,
};
use prost::Message;
use runtime_client::pipeline::{Bmv2Json, DeviceConfig, Entries, Pipeline, PnaSpec};
use runtime_client::proto::p4::config::v1::P4Info;
use runtime_client::proto::p4::v1::action::Param as WireParam;
use runtime_client::proto::p4::v1::entity::Entity as Kind;
use runtime_client::proto::p4::v1::field_match::FieldMatchType;
use runtime_client::proto::p4::v1::forwarding_pipeline_config::Cookie;
use runtime_client::proto::p4::v1::set_forwarding_pipeline_config_request::Action as SetAction;
use runtime_client::proto::p4::v1::table_action::Type as ActionType;
use runtime_client::proto::p4::v1::{
    CounterEntry, Entity, ForwardingPipelineConfig, SetForwardingPipelineConfigRequest, TableEntry,
};
use runtime_client::write::{Action, Entry, Match, MatchValue, Outcome, Param, Update, WriteConfig};
use runtime_client::{Address, Client, Config, ElectionId, Query, Role, Standing};
use tokio::runtime::{Builder, Runtime};

use crate::netns::Netns;
use crate::switch::ELECTION_ID;
use crate::target::Target;

/// How long the switch may take for one request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a switch's P4Runtime server, for plain code. All its sockets are in the switch's namespace.
pub struct Control<'a> {
    netns: &'a Netns,
    kind: Target,
    runtime: Runtime,
    client: Client,
}

/// An entry of a table with what its direct counter counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<K: Key> {
    /// The key.
    pub key: K,
    /// What it does.
    pub action: K::Action,
    /// Packets that hit it.
    pub packets: u64,
    /// Bytes of their frames as they arrived, without FCS.
    pub bytes: u64,
}

/// A flow entry of either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Source and destination of the packets it rewrites, as they arrive.
    pub ends: [(IpAddr, u16); 2],
    /// Packets it rewrote. By ids the outbound entry counts for both directions, and the inbound one not at all.
    pub packets: u64,
    /// Bytes of their frames as they arrived, without FCS.
    pub bytes: u64,
}

impl<'a> Control<'a> {
    /// A controller that reads. It has a lower election id than Carom, to be in nobody's way; and one of its own, since BMv2
    /// takes no two controllers with the same, not even with none.
    pub fn reader(netns: &'a Netns, address: &str, kind: Target) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(id < ELECTION_ID, "no election ids are left below Carom's");
        Self::connect(netns, address, kind, Role::default(), id, Standing::is_connected)
    }

    /// The primary controller, for tests without Carom.
    pub fn primary(netns: &'a Netns, address: &str, kind: Target) -> Result<Self> {
        Self::connect(netns, address, kind, Role::default(), ELECTION_ID, Standing::is_primary)
    }

    /// The primary controller of another role, beside Carom's: for [`Control::push_again`]. BMv2 has one role for such things.
    pub fn pusher(netns: &'a Netns, address: &str) -> Result<Self> {
        let role = Role { name: "pusher".to_owned(), ..Role::default() };
        Self::connect(netns, address, Target::Softnic, role, 1, Standing::is_primary)
    }

    fn connect(
        netns: &'a Netns,
        address: &str,
        kind: Target,
        role: Role,
        id: u64,
        stands: fn(Standing) -> bool,
    ) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let config = Config {
            role,
            election_id: Some(ElectionId(id.into())),
            ..Config::new(Address::tcp(address), crate::switch::DEVICE_ID)
        };
        let client = netns.run(|| {
            let _inside = runtime.enter();
            Client::start(config)
        });
        let control = Control { netns, kind, runtime, client: client.context("a bad address")?.0 };
        control.ask(async |client| Ok(client.wait_for(stands).await)).context("cannot reach the switch's control")?;
        Ok(control)
    }

    /// Runs a question to its end. The runtime's tasks, and so its sockets, run on the thread that is in the namespace.
    fn ask<T: Send>(&self, question: impl AsyncFnOnce(&Client) -> Result<T> + Send) -> Result<T> {
        self.netns.run(|| {
            self.runtime.block_on(async {
                let answer = tokio::time::timeout(PATIENCE, question(&self.client));
                answer.await.unwrap_or_else(|_| Err(anyhow!("no answer within {PATIENCE:?}")))
            })
        })
    }

    /// Has the switch run its program, with empty tables unless it shows this cookie already; and with less room for the flow
    /// entries of each family than P4Info says, when `room` says how much.
    pub fn bring_up(&self, room: Option<u64>, cookie: u64) -> Result<()> {
        match self.kind {
            Target::Bmv2 => {
                let json = room.map_or_else(|| BMV2_JSON.into(), |flows| bmv2_json_with_room_for(flows).into());
                self.run_program(BMV2_P4INFO, Bmv2Json(json), cookie)
            }
            Target::Bmv2Ids => {
                // A session has one entry in each of two tables.
                let json =
                    room.map_or_else(|| BMV2_IDS_JSON.into(), |flows| bmv2_ids_json_with_room_for(flows / 2).into());
                self.run_program(BMV2_IDS_P4INFO, Bmv2Json(json), cookie)
            }
            Target::Softnic => {
                let spec = room.map_or_else(|| PNA_SPEC.into(), |flows| pna_spec_with_room_for(flows).into());
                self.run_program(PNA_P4INFO, PnaSpec(spec), cookie)
            }
            Target::None => bail!("the target none runs no program"),
        }
    }

    /// Has softnic take its program once more, with all entries: one of two that differ in the size of a table nobody fills, in
    /// turn, so that a pipeline is built for it and takes the place of the one that runs.
    pub fn push_again(&self, which: usize) -> Result<()> {
        let spec = std::str::from_utf8(PNA_SPEC)?;
        let size = |entries: u64| format!("\tsize {entries:#x}\n");
        let size_of = PortKey::TABLE.size;
        let other = spec.replace(&size(size_of), &size(size_of + 1 + which as u64 % 2));
        ensure!(other != spec, "the program has no table of {size_of} entries");
        self.ask(async |client| {
            let cookie = client.cookie().await?.context("the switch has no program")?;
            let request = SetForwardingPipelineConfigRequest {
                device_id: crate::switch::DEVICE_ID,
                role: "pusher".to_owned(),
                election_id: Some(ElectionId(1).into()),
                action: SetAction::ReconcileAndCommit as i32,
                config: Some(ForwardingPipelineConfig {
                    p4info: Some(P4Info::decode(PNA_P4INFO)?),
                    p4_device_config: other.clone().into(),
                    cookie: Some(Cookie { cookie }),
                }),
                ..SetForwardingPipelineConfigRequest::default()
            };
            client.service()?.set_forwarding_pipeline_config(request).await?;
            Ok(())
        })
    }

    fn run_program(&self, p4info: &[u8], device_config: impl DeviceConfig + Sync, cookie: u64) -> Result<()> {
        let pipeline = Pipeline { p4info: P4Info::decode(p4info)?, device_config, cookie };
        self.ask(async |client| Ok(client.bring_up(&pipeline, Entries::Clear).await?))?;
        Ok(())
    }

    /// The cookie of the program the switch runs; none: it has no program.
    pub fn cookie(&self) -> Result<Option<u64>> {
        self.ask(async |client| Ok(client.cookie().await?))
    }

    /// Inserts one entry.
    pub fn insert<K: Key + Sync>(&self, key: K, action: K::Action) -> Result<()>
    where
        K::Action: Sync,
    {
        self.ask(async |client| {
            let (fields, params) = (key.fields(), action.params());
            let exact = |(id, value): &(u32, carom_p4::Bytes)| (*id, value.as_ref().to_vec());
            let (fields, params): (Vec<_>, Vec<_>) =
                (fields.iter().map(exact).collect(), params.iter().map(exact).collect());
            let matches: Vec<_> =
                fields.iter().map(|(id, value)| Match { field_id: *id, value: MatchValue::Exact(value) }).collect();
            let params: Vec<_> = params.iter().map(|(id, value)| Param { id: *id, value }).collect();
            let action = Some(Action { id: action.id(), params: &params });
            let entry = Entry { table_id: K::TABLE.id, matches: &matches, action, ..Entry::default() };
            let mut writer = client.writer(WriteConfig::default());
            writer.submit(0, &[Update::insert(entry)])?;
            let mut settled = Vec::new();
            writer.settle(&mut settled).await;
            ensure!(settled.iter().all(|end| end.outcome == Outcome::Applied), "{key:?}: {settled:?}");
            Ok(())
        })
    }

    /// All entries of a table, with counters where it has them.
    pub fn rows<K: Key + Send>(&self) -> Result<Vec<Row<K>>>
    where
        K::Action: Send,
    {
        let counted = [FlowV4Key::TABLE, FlowV6Key::TABLE, ConnectionV4EvenKey::TABLE, ConnectionV4OddKey::TABLE]
            .iter()
            .any(|table| table.id == K::TABLE.id);
        let query = Query::table(K::TABLE.id);
        let query = if counted { query.with_counters() } else { query };
        self.ask(async |client| client.read(query).await?.all().await?.iter().map(row).collect())
    }

    /// All flow entries of both families.
    pub fn flows(&self) -> Result<Vec<Flow>> {
        let mut flows = if self.kind.is_by_ids() { self.flows_by_ids()? } else { self.plain_flows()? };
        let v6 = self.rows::<FlowV6Key>()?.into_iter().map(|Row { key: k, packets, bytes, .. }| Flow {
            ends: [(IpAddr::V6(k.src.into()), k.sport), (IpAddr::V6(k.dst.into()), k.dport)],
            packets,
            bytes,
        });
        flows.extend(v6);
        Ok(flows)
    }

    fn plain_flows(&self) -> Result<Vec<Flow>> {
        let rows = self.rows::<FlowV4Key>()?.into_iter();
        let flow = |Row { key: k, packets, bytes, .. }: Row<FlowV4Key>| Flow {
            ends: [(IpAddr::V4(k.src.into()), k.sport), (IpAddr::V4(k.dst.into()), k.dport)],
            packets,
            bytes,
        };
        Ok(rows.map(flow).collect())
    }

    /// An entry of a connection is looked up in the table of pairs, as a packet would be. One whose pair is not there is an error:
    /// no packet finds it.
    fn flows_by_ids(&self) -> Result<Vec<Flow>> {
        let inbound = self.rows::<InboundV4Key>()?.into_iter().map(|Row { key: k, packets, bytes, .. }| Flow {
            ends: [(IpAddr::V4(k.src.into()), k.sport), (IpAddr::V4(k.dst.into()), k.dport)],
            packets,
            bytes,
        });
        let even = self
            .rows::<ConnectionV4EvenKey>()?
            .into_iter()
            .map(|row| (row.key.pair, row.key.lport, row.packets, row.bytes));
        let odd = self
            .rows::<ConnectionV4OddKey>()?
            .into_iter()
            .map(|row| (row.key.pair, row.key.lport, row.packets, row.bytes));
        let connections: Vec<_> = even.chain(odd).collect();
        // Read after the connections: a pair is there before they are, and stays longer.
        let pairs: BTreeMap<u16, PairIdV4Key> =
            self.rows::<PairIdV4Key>()?.into_iter().map(|row| (id_of(&row), row.key)).collect();
        let outbound = connections.into_iter().map(|(pair, lport, packets, bytes)| {
            let pair = pairs.get(&pair).with_context(|| format!("a connection of no pair: {pair}, port {lport}"))?;
            let ends = [(IpAddr::V4(pair.src.into()), pair.sport), (IpAddr::V4(pair.dst.into()), lport)];
            Ok(Flow { ends, packets, bytes })
        });
        inbound.map(Ok).chain(outbound).collect()
    }

    /// The packets of a counter by index; those that are zero are left out.
    pub fn counter(&self, counter_id: u32) -> Result<BTreeMap<u64, u64>> {
        let wanted =
            Entity { entity: Some(Kind::CounterEntry(CounterEntry { counter_id, ..CounterEntry::default() })) };
        let cells = self.ask(async |client| {
            let reading = client.read_entities::<Entity>(vec![wanted]).await?;
            Ok(reading.all().await?)
        })?;
        let mut counts = BTreeMap::new();
        for cell in cells {
            let Some(Kind::CounterEntry(cell)) = cell.entity else { continue };
            let packets = cell.data.context("a counter without data")?.packet_count.cast_unsigned();
            if packets != 0 {
                counts.insert(cell.index.map_or(0, |index| index.index.cast_unsigned()), packets);
            }
        }
        Ok(counts)
    }
}

fn id_of(row: &Row<PairIdV4Key>) -> u16 {
    let PairIdV4Action::IsPair { id } = row.action;
    id
}

fn row<K: Key>(entry: &TableEntry) -> Result<Row<K>> {
    let fields = entry.r#match.iter().filter_map(|field| match &field.field_match_type {
        Some(FieldMatchType::Exact(exact)) => Some((field.field_id, &exact.value[..])),
        _ => None,
    });
    let key = K::from_fields(fields).with_context(|| format!("a key of {}: {entry:?}", K::TABLE.name))?;
    let action = entry.action.as_ref().and_then(|action| action.r#type.as_ref());
    let Some(ActionType::Action(action)) = action else { return Err(anyhow!("no action in {entry:?}")) };
    let params = action.params.iter().map(|WireParam { param_id, value }| (*param_id, &value[..]));
    let counted = entry.counter_data.unwrap_or_default();
    Ok(Row {
        key,
        action: K::Action::from_params(action.action_id, params).with_context(|| format!("an action: {entry:?}"))?,
        packets: counted.packet_count.cast_unsigned(),
        bytes: counted.byte_count.cast_unsigned(),
    })
}
