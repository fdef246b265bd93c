//! How things stand, for control.

use std::collections::BTreeMap;
use std::time::Duration;

use carom_p4::{ID_DROPS, ID_PUNTS, Key, PairIdV4Key, Punt, ServiceIdV4Key, SwitchDrop, Table};
use fullnat::offload::Threshold;
use runtime_client::proto::p4::config::v1::table::IdleTimeoutBehavior;
use runtime_client::proto::p4::config::v1::{self as p4info, P4Info};
use runtime_client::proto::p4::v1::entity::Entity as Kind;
use runtime_client::proto::p4::v1::{CounterEntry, Entity};
use runtime_client::{Client, RequestError, Standing};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Task;
use super::link::{Stage, name_of};
use crate::offload::book::{ENTRIES, Family};
use crate::offload::flows::{Flows, IdRoom};
use crate::offload::program::Form;
use crate::offload::stats::{Status, TableStatus};
use crate::offload::wire::Tells;

/// The switch's own counters are waited for this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Entries of sessions there is room for by P4Info, IPv4 and IPv6. A session has two; by ids, one in
/// `inbound_v4`, and one in either half of the other table.
pub(super) fn flow_sizes(p4info: &P4Info, form: Form) -> [u64; 2] {
    let [v4 @ .., v6] = form.flow_tables() else { return [0; 2] };
    let v4 = match v4 {
        // Of the halves, half of the sessions have an entry in each.
        [inbound, halves @ ..] if !halves.is_empty() => {
            let least = halves.iter().map(|table| size(p4info, table)).min().unwrap_or_default();
            ENTRIES * size(p4info, inbound).min(least * halves.len() as u64)
        }
        tables => tables.iter().map(|table| size(p4info, table)).sum(),
    };
    [v4, size(p4info, v6)]
}

/// The ids there are by P4Info, none without small tables.
pub(super) fn id_room(p4info: &P4Info) -> IdRoom {
    // As many as its field can name, and its table has room for.
    let ids = |table: Table, bits: u32| u16::try_from(size(p4info, &table).min(1 << bits)).unwrap_or(u16::MAX);
    IdRoom { services: ids(ServiceIdV4Key::TABLE, 10), pairs: ids(PairIdV4Key::TABLE, 14) }
}

fn size(p4info: &P4Info, table: &Table) -> u64 {
    let size = find(p4info, table).and_then(|table| u64::try_from(table.size).ok());
    size.filter(|size| *size > 0).unwrap_or(table.size)
}

/// Whether entries of the flow tables count and may have idle timeouts, by P4Info.
pub(super) fn flows_tell(p4info: &P4Info, form: Form) -> Tells {
    let watched = || form.flow_tables().iter().filter(|table| Flows::is_watched(table));
    let notifies = IdleTimeoutBehavior::NotifyControl as i32;
    let ages = |table| find(p4info, table).is_some_and(|table| table.idle_timeout_behavior == notifies);
    let counts = |table: &Table| p4info.direct_counters.iter().any(|counter| counter.direct_table_id == table.id);
    Tells { counts: watched().all(counts), ages: watched().all(ages) }
}

fn find<'a>(p4info: &'a P4Info, table: &Table) -> Option<&'a p4info::Table> {
    p4info.tables.iter().find(|of| of.preamble.as_ref().is_some_and(|preamble| preamble.id == table.id))
}

impl Task {
    /// Answers with how things stand, once the switch's counters are there or too late.
    pub(super) fn report(&self, answer: oneshot::Sender<Status>) {
        let mut status = self.status();
        // Without a program there are none, and BMv2 (1.15) ends when it is asked for one.
        let client = Some(self.client.clone()).filter(|_| self.stage.is_up());
        tokio::spawn(async move {
            if let Some(client) = client
                && let Ok(Ok((punts, drops))) = timeout(PATIENCE, switch_counters(&client)).await
            {
                (status.punts, status.drops) = (punts, drops);
            }
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(status);
        });
    }

    fn status(&self) -> Status {
        let (standing, stats) = (self.client.standing(), &self.book.stats);
        let (installs_per_second, removes_per_second) = stats.rates();
        let failure = Some(self.client.last_failure()).filter(|failure| !failure.is_empty());
        Status {
            address: self.settings.address.target.clone(),
            kind: self.settings.program.kind.name().into(),
            program: self.settings.program.form.name().into(),
            device_id: self.settings.device_id,
            role: self.settings.role.clone(),
            election_id: self.settings.election_id,
            connected: standing != Standing::Disconnected,
            standing: name_of(standing).into(),
            cookie: format!("{:016x}", self.pipeline.cookie),
            pipeline: self.brought.map(|brought| format!("{brought:?}").to_lowercase()),
            ready: self.stage == Stage::Ready,
            threshold: text_of_both(self.thresholds),
            tables: self.tables(),
            sessions: self.book.counts(),
            installs_per_second,
            removes_per_second,
            install_latency: stats.installs.latency(),
            remove_latency: stats.removes.latency(),
            totals: stats.totals,
            failures: stats.failures(),
            last_error: self.last_error.clone().or(failure),
            punts: BTreeMap::new(),
            drops: BTreeMap::new(),
        }
    }

    fn tables(&self) -> Vec<TableStatus> {
        let form = self.settings.program.form;
        let flow_tables = form.flow_tables();
        let table = |table: &Table| {
            let (size, entries) = match flow_tables.iter().position(|flows| flows.id == table.id) {
                Some(at) if at + 1 == flow_tables.len() => self.book.room_of(Family::V6),
                // A session's entries are spread evenly: by ids, half of them are in the first table.
                Some(at) => {
                    let (size, entries) = self.book.room_of(Family::V4);
                    let others = flow_tables.len() as u64 - 2;
                    let parts = if others == 0 {
                        1
                    } else if at == 0 {
                        ENTRIES
                    } else {
                        ENTRIES * others
                    };
                    (size / parts, entries / parts)
                }
                None => (table.size, self.replica.entries(table.id)),
            };
            TableStatus { name: table.name.into(), size, entries }
        };
        form.tables().iter().map(table).collect()
    }
}

fn text_of_both([v4, v6]: [Threshold; 2]) -> String {
    let (v4, v6) = (text_of(v4), text_of(v6));
    if v4 == v6 { v4 } else { format!("IPv4 {v4}, IPv6 {v6}") }
}

fn text_of(threshold: Threshold) -> String {
    match threshold {
        Threshold::Never => "never".into(),
        Threshold::Packets(0) => "at once".into(),
        Threshold::Packets(packets) => format!("{packets} packets"),
        Threshold::Bytes(bytes) => format!("{bytes} bytes"),
        Threshold::PacketsPerSecond(packets) => format!("{packets} packets/s"),
    }
}

/// Packets by name of what they were counted as.
type ByName = BTreeMap<String, u64>;

async fn switch_counters(client: &Client) -> Result<(ByName, ByName), RequestError> {
    let punts = counter(client, ID_PUNTS, |index| Punt::from_number(index).map(Punt::name)).await?;
    let drops = counter(client, ID_DROPS, |index| SwitchDrop::from_number(index).map(SwitchDrop::name)).await?;
    Ok((punts, drops))
}

async fn counter(
    client: &Client,
    counter_id: u32,
    name: impl Fn(u8) -> Option<&'static str>,
) -> Result<ByName, RequestError> {
    let all = Kind::CounterEntry(CounterEntry { counter_id, ..CounterEntry::default() });
    let cells = client.read_entities::<Entity>(vec![Entity { entity: Some(all) }]).await?.all().await?;
    let named = cells.into_iter().filter_map(|cell| {
        let Some(Kind::CounterEntry(cell)) = cell.entity else { return None };
        // The first index is left out by some, since it is zero.
        let index = u8::try_from(cell.index.map_or(0, |index| index.index)).ok()?;
        let packets = u64::try_from(cell.data?.packet_count).ok()?;
        Some((name(index)?.to_owned(), packets))
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use carom_p4::ConnectionV4EvenKey;
    use carom_p4::artifacts::{BMV2_IDS_P4INFO, BMV2_P4INFO, PNA_P4INFO, TOFINO2_IDS_P4INFO};
    use prost::Message;

    use super::*;

    #[test]
    fn p4info_tells_room_and_ageing() {
        let info = |bytes: &[u8]| P4Info::decode(bytes).expect("a committed artifact");
        let mut uncounted = info(BMV2_IDS_P4INFO);
        uncounted.direct_counters.retain(|counter| counter.direct_table_id != ConnectionV4EvenKey::TABLE.id);
        for (info, form, counts, ages) in [
            (info(BMV2_P4INFO), Form::Plain, true, true),
            (info(BMV2_IDS_P4INFO), Form::Ids, true, true),
            (info(TOFINO2_IDS_P4INFO), Form::Ids, true, true),
            (info(PNA_P4INFO), Form::Plain, true, false),
            (uncounted, Form::Ids, false, true),
            (P4Info::default(), Form::Plain, false, false),
        ] {
            assert_eq!(flows_tell(&info, form), Tells { counts, ages });
        }
        let usual = [131_072, 65_536];
        for (info, form) in [
            (info(BMV2_P4INFO), Form::Plain),
            (info(BMV2_IDS_P4INFO), Form::Ids),
            (info(PNA_P4INFO), Form::Plain),
            (P4Info::default(), Form::Plain),
        ] {
            assert_eq!(flow_sizes(&info, form), usual);
        }
        let room = IdRoom { services: 1024, pairs: 16_384 };
        assert_eq!(id_room(&info(BMV2_IDS_P4INFO)), room);
        let mut small = info(BMV2_IDS_P4INFO);
        small.tables.iter_mut().for_each(|table| table.size = table.size.min(100));
        assert_eq!(id_room(&small), IdRoom { services: 100, pairs: 100 });
        assert_eq!(flow_sizes(&small, Form::Ids), [200, 100]);
    }
}
