//! How things stand, for control.

use std::collections::BTreeMap;
use std::time::Duration;

use carom_p4::{ID_DROPS, ID_PUNTS, Punt, SwitchDrop, TABLES};
use fullnat::offload::Threshold;
use runtime_client::proto::p4::config::v1::table::IdleTimeoutBehavior;
use runtime_client::proto::p4::config::v1::{P4Info, Table};
use runtime_client::proto::p4::v1::entity::Entity as Kind;
use runtime_client::proto::p4::v1::{CounterEntry, Entity};
use runtime_client::{Client, RequestError, Standing};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Task;
use super::link::{Stage, name_of};
use crate::offload::FLOW_TABLES;
use crate::offload::book::Family;
use crate::offload::stats::{Status, TableStatus};

/// The switch's own counters are waited for this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Entries the flow tables have room for by P4Info, IPv4 and IPv6.
pub(super) fn flow_sizes(p4info: &P4Info) -> [u64; 2] {
    FLOW_TABLES.map(|table| {
        let size = find(p4info, &table).and_then(|table| u64::try_from(table.size).ok());
        size.filter(|size| *size > 0).unwrap_or(table.size)
    })
}

/// Whether entries of the flow tables may have idle timeouts, by P4Info. Where they may not, one that has is an error.
pub(super) fn flows_age(p4info: &P4Info) -> bool {
    let notifies = IdleTimeoutBehavior::NotifyControl as i32;
    FLOW_TABLES.iter().all(|table| find(p4info, table).is_some_and(|table| table.idle_timeout_behavior == notifies))
}

fn find<'a>(p4info: &'a P4Info, table: &carom_p4::Table) -> Option<&'a Table> {
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
        let family = |id| FLOW_TABLES.iter().position(|table| table.id == id);
        let table = |table: &carom_p4::Table| {
            let (size, entries) = match family(table.id) {
                Some(0) => self.book.room_of(Family::V4),
                Some(_) => self.book.room_of(Family::V6),
                None => (table.size, self.replica.entries(table.id)),
            };
            TableStatus { name: table.name.into(), size, entries }
        };
        TABLES.iter().map(table).collect()
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
    use carom_p4::artifacts::{BMV2_P4INFO, PNA_P4INFO};
    use prost::Message;

    use super::*;

    #[test]
    fn p4info_tells_room_and_ageing() {
        let [bmv2, pna] = [BMV2_P4INFO, PNA_P4INFO].map(|bytes| P4Info::decode(bytes).expect("a committed artifact"));
        assert_eq!((flow_sizes(&bmv2), flows_age(&bmv2)), ([131_072, 65_536], true));
        assert_eq!((flow_sizes(&pna), flows_age(&pna)), ([131_072, 65_536], false));
        assert_eq!((flow_sizes(&P4Info::default()), flows_age(&P4Info::default())), ([131_072, 65_536], false));
    }
}
