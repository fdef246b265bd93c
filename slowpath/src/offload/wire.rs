//! Entries of the program's tables as the client takes and gives them.

use carom_p4::{
    Action, Bytes as CanonicalBytes, ConnectionV4EvenAction, ConnectionV4EvenKey, ConnectionV4OddAction,
    ConnectionV4OddKey, FlowV4Key, FlowV6Key, InboundV4Key, Key, Table,
};
use fullnat::flow::Direction;
use fullnat::offload::AnyEnds;
use runtime_client::proto::p4::v1::field_match::FieldMatchType;
use runtime_client::proto::p4::v1::table_action::Type;
use runtime_client::proto::p4::v1::{CounterData, TableEntry};
use runtime_client::write::{self, Entry, Match, MatchValue, Param, Update};
use runtime_client::{Lookup, SeenEntry};

use super::book::{Count, Found};
use super::flows::{ConnectionAction, ConnectionKey, FlowAction, FlowKey, Flows, Half};

/// Most fields of a key and most parameters of an action: those of `flow_v6`.
const MOST: usize = 12;

/// Hands over the entry with this key and action, built on the stack.
pub fn with_entry<K: Key, R>(
    key: &K,
    action: Option<&K::Action>,
    idle_timeout_ns: i64,
    f: impl FnOnce(Entry<'_>) -> R,
) -> R {
    let fields = key.fields();
    let mut matches = [Match { field_id: 0, value: MatchValue::Exact(&[]) }; MOST];
    let matches = fill(&mut matches, &fields, |id, value| Match { field_id: id, value: MatchValue::Exact(value) });
    let entry = Entry { table_id: K::TABLE.id, matches, idle_timeout_ns, ..Entry::default() };
    let Some(action) = action else { return f(entry) };
    let values = action.params();
    let mut params = [Param { id: 0, value: &[] }; MOST];
    let params = fill(&mut params, &values, |id, value| Param { id, value });
    f(Entry { action: Some(write::Action { id: action.id(), params }), ..entry })
}

fn fill<'s, 'a, T>(
    space: &'s mut [T],
    values: &'a [(u32, CanonicalBytes)],
    make: impl Fn(u32, &'a [u8]) -> T,
) -> &'s [T] {
    for (slot, (id, value)) in space.iter_mut().zip(values) {
        *slot = make(*id, value.as_ref());
    }
    // A test encodes the longest.
    &space[..values.len().min(space.len())]
}

/// Hands over the entry of a connection, in its half.
fn with_connection<R>(
    key: &ConnectionKey,
    action: Option<&ConnectionAction>,
    idle_timeout_ns: i64,
    f: impl FnOnce(Entry<'_>) -> R,
) -> R {
    match key.half() {
        Half::Even(key) => with_entry(&key, action.map(ConnectionAction::even).as_ref(), idle_timeout_ns, f),
        Half::Odd(key) => with_entry(&key, action.map(ConnectionAction::odd).as_ref(), idle_timeout_ns, f),
    }
}

/// Hands over the entry of a flow's key alone, as a delete or a read wants it.
pub fn with_flow_key<R>(key: &FlowKey, f: impl FnOnce(Entry<'_>) -> R) -> R {
    match key {
        FlowKey::V4(key) => with_entry(key, None, 0, f),
        FlowKey::V6(key) => with_entry(key, None, 0, f),
        FlowKey::Inbound(key) => with_entry(key, None, 0, f),
        FlowKey::Connection(key) => with_connection(key, None, 0, f),
    }
}

/// Hands over the entry of one direction of a session.
fn with_flow<R>(
    flows: &Flows,
    ends: &AnyEnds,
    direction: Direction,
    idle_ms: u64,
    f: impl FnOnce(Entry<'_>) -> R,
) -> R {
    let idle_ns = i64::try_from(idle_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    match (flows.key(ends, direction), flows.action(ends, direction)) {
        (FlowKey::V4(key), FlowAction::V4(action)) => with_entry(&key, Some(&action), idle_ns, f),
        (FlowKey::V6(key), FlowAction::V6(action)) => with_entry(&key, Some(&action), idle_ns, f),
        (FlowKey::Inbound(key), FlowAction::Inbound(action)) => with_entry(&key, Some(&action), 0, f),
        (FlowKey::Connection(key), FlowAction::Connection(action)) => with_connection(&key, Some(&action), idle_ns, f),
        _ => unreachable!("a session has all its ids or none, and key and action are made of the same ends"),
    }
}

/// Hands over the two updates that install a session.
pub fn with_inserts<R>(flows: &Flows, ends: &AnyEnds, idle_ms: u64, f: impl FnOnce(&[Update<'_>]) -> R) -> R {
    with_flow(flows, ends, Direction::Inbound, idle_ms, |inbound| {
        with_flow(flows, ends, Direction::Outbound, idle_ms, |outbound| {
            f(&[Update::insert(inbound), Update::insert(outbound)])
        })
    })
}

/// Hands over the two updates that remove a session.
pub fn with_deletes<R>(flows: &Flows, ends: &AnyEnds, f: impl FnOnce(&[Update<'_>]) -> R) -> R {
    with_flow_key(&flows.key(ends, Direction::Inbound), |inbound| {
        with_flow_key(&flows.key(ends, Direction::Outbound), |outbound| {
            f(&[Update::delete(inbound), Update::delete(outbound)])
        })
    })
}

/// The key of an entry as it was read; none: it is not of this table.
pub fn key_of<K: Key>(entry: &TableEntry) -> Option<K> {
    if entry.table_id == K::TABLE.id { K::from_fields(exact_fields(entry)).ok() } else { None }
}

fn exact_fields(entry: &TableEntry) -> impl Iterator<Item = (u32, &[u8])> {
    entry.r#match.iter().filter_map(|field| match &field.field_match_type {
        Some(FieldMatchType::Exact(exact)) => Some((field.field_id, &exact.value[..])),
        _ => None,
    })
}

/// The action of an entry as it was read; none: the table has no such action.
pub fn action_of<A: Action>(entry: &TableEntry) -> Option<A> {
    match entry.action.as_ref()?.r#type.as_ref()? {
        Type::Action(action) => {
            let params = action.params.iter().map(|param| (param.param_id, &param.value[..]));
            A::from_params(action.action_id, params).ok()
        }
        _ => None,
    }
}

/// The key of a flow entry as it was read or told of in a notice.
pub fn flow_key_of(entry: &TableEntry) -> Option<FlowKey> {
    flow_key(entry.table_id, exact_fields(entry))
}

fn flow_key<'a>(table: u32, fields: impl Iterator<Item = (u32, &'a [u8])>) -> Option<FlowKey> {
    match table {
        id if id == FlowV4Key::TABLE.id => Key::from_fields(fields).map(FlowKey::V4),
        id if id == FlowV6Key::TABLE.id => Key::from_fields(fields).map(FlowKey::V6),
        id if id == InboundV4Key::TABLE.id => Key::from_fields(fields).map(FlowKey::Inbound),
        id if id == ConnectionV4EvenKey::TABLE.id => {
            return connection_of(ConnectionV4EvenKey::from_fields(fields).ok()?, id);
        }
        id if id == ConnectionV4OddKey::TABLE.id => {
            return connection_of(ConnectionV4OddKey::from_fields(fields).ok()?, id);
        }
        _ => return None,
    }
    .ok()
}

/// None: no packet finds it in this half.
fn connection_of(key: impl Into<ConnectionKey>, table: u32) -> Option<FlowKey> {
    let key = key.into();
    (key.table().id == table).then_some(FlowKey::Connection(key))
}

/// A flow entry as it was read.
pub fn found(entry: &TableEntry) -> Option<Found> {
    let quiet_ns = entry.time_since_last_hit.map(|time| time.elapsed_ns);
    Some(found_of(flow_key_of(entry)?, entry.counter_data, quiet_ns))
}

/// A flow entry as it was looked up.
pub fn seen(entry: &SeenEntry<'_>) -> Option<Found> {
    Some(found_of(flow_key(entry.table_id, entry.exact_fields())?, entry.counter, entry.quiet_ns))
}

fn found_of(key: FlowKey, counter: Option<CounterData>, quiet_ns: Option<i64>) -> Found {
    // These are signed on the wire and never negative.
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let count = counter.map_or(Count::default(), |data| Count {
        packets: unsigned(data.packet_count),
        bytes: unsigned(data.byte_count),
    });
    Found { key, count, quiet_ms: quiet_ns.map(|ns| unsigned(ns) / 1_000_000) }
}

/// What a flow entry does, as it was read.
pub fn flow_action_of(entry: &TableEntry) -> Option<FlowAction> {
    match flow_key_of(entry)? {
        FlowKey::V4(_) => action_of(entry).map(FlowAction::V4),
        FlowKey::V6(_) => action_of(entry).map(FlowAction::V6),
        FlowKey::Inbound(_) => action_of(entry).map(FlowAction::Inbound),
        FlowKey::Connection(key) => Some(FlowAction::Connection(match key.half() {
            Half::Even(_) => action_of::<ConnectionV4EvenAction>(entry)?.into(),
            Half::Odd(_) => action_of::<ConnectionV4OddAction>(entry)?.into(),
        })),
    }
}

/// What a target can tell of flow entries. One that is asked for more answers with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tells {
    /// What they counted.
    pub counts: bool,
    /// How long they were not hit.
    pub ages: bool,
}

/// The question for these flows' entries with what the target can tell of them.
pub fn look_up(keys: &[FlowKey], tells: Tells) -> Lookup {
    let mut lookup = Lookup::default();
    for key in keys {
        let watched = Flows::is_watched(&table_of(key));
        with_flow_key(key, |entry| lookup.entry(&entry, tells.counts && watched, tells.ages && watched));
    }
    lookup
}

fn table_of(key: &FlowKey) -> Table {
    match key {
        FlowKey::V4(_) => FlowV4Key::TABLE,
        FlowKey::V6(_) => FlowV6Key::TABLE,
        FlowKey::Inbound(_) => InboundV4Key::TABLE,
        FlowKey::Connection(key) => key.table(),
    }
}

#[cfg(test)]
mod tests {
    use carom_p4::FlowV6Action;
    use prost::Message;
    use prost::bytes::Bytes;
    use runtime_client::Page;
    use runtime_client::proto::p4::v1::entity::Entity as Kind;
    use runtime_client::proto::p4::v1::table_entry::IdleTimeout;
    use runtime_client::proto::p4::v1::{Entity, ReadRequest, ReadResponse};

    use super::*;
    use crate::offload::testing::{by_ids, ends_v4, ends_v6};

    #[test]
    fn flows_come_back_as_they_were_written() {
        for (mut flows, ends) in
            [(Flows::Plain, ends_v4(7)), (Flows::Plain, ends_v6(7)), (by_ids(), ends_v4(7)), (by_ids(), ends_v6(7))]
        {
            assert!(flows.take(&ends));
            for direction in [Direction::Inbound, Direction::Outbound] {
                let entry = with_flow(&flows, &ends, direction, 30_000, |entry| entry.to_message());
                let watched = flows.watched(&ends).has(direction);
                assert_eq!(entry.idle_timeout_ns, if watched { 30_000_000_000 } else { 0 });
                assert_eq!(flow_key_of(&entry), Some(flows.key(&ends, direction)));
                assert_eq!(flow_action_of(&entry), Some(flows.action(&ends, direction)));
                let key = with_flow_key(&flows.key(&ends, direction), |entry| entry.to_message());
                assert_eq!((key.r#match, key.action), (entry.r#match, None));
            }
        }
        // The longest key and the longest action of all.
        let action = FlowV6Action::RewriteSeqV6 {
            src: u128::MAX,
            dst: 1,
            sport: 2,
            dport: 3,
            nexthop: 4,
            seq_delta: 5,
            ack_delta: 6,
        };
        let FlowKey::V6(key) = FlowKey::of(&ends_v6(1), Direction::Inbound) else { panic!("not IPv6") };
        let entry = with_entry(&key, Some(&action), 0, |entry| entry.to_message());
        assert_eq!((key_of(&entry), action_of(&entry)), (Some(key), Some(action)));
    }

    #[test]
    fn questions_are_for_the_keys_of_the_entries() {
        let mut keys: Vec<FlowKey> =
            [ends_v4(7), ends_v6(8)].iter().map(|ends| FlowKey::of(ends, Direction::Outbound)).collect();
        let mut flows = by_ids();
        assert!(flows.take(&ends_v4(9)));
        keys.extend([Direction::Inbound, Direction::Outbound].map(|direction| flows.key(&ends_v4(9), direction)));
        for (counts, ages) in [(true, true), (true, false), (false, true)] {
            let request = ReadRequest::decode(look_up(&keys, Tells { counts, ages }).encoded()).unwrap();
            assert_eq!(request.entities.len(), 4);
            for (pattern, key) in request.entities.into_iter().zip(&keys) {
                let Some(Kind::TableEntry(mut entry)) = pattern.entity else { panic!("not an entry") };
                let watched = !matches!(key, FlowKey::Inbound(_));
                assert_eq!(entry.counter_data.take(), (counts && watched).then(CounterData::default));
                assert_eq!(entry.time_since_last_hit.take().is_some(), ages && watched);
                assert_eq!(entry, with_flow_key(key, |entry| entry.to_message()));
            }
        }
    }

    #[test]
    fn counters_and_times_are_read() {
        let mut entry = with_flow(&Flows::Plain, &ends_v4(1), Direction::Inbound, 1, |entry| entry.to_message());
        assert_eq!(found(&entry).map(|found| found.quiet_ms), Some(None));
        entry.counter_data = Some(CounterData { packet_count: 3, byte_count: 180 });
        entry.time_since_last_hit = Some(IdleTimeout { elapsed_ns: 2_500_000_000 });
        let key = FlowKey::of(&ends_v4(1), Direction::Inbound);
        let count = Count { packets: 3, bytes: 180 };
        assert_eq!(found(&entry), Some(Found { key, count, quiet_ms: Some(2500) }));
        let page = |entry: &TableEntry| {
            let entity = Entity { entity: Some(Kind::TableEntry(entry.clone())) };
            Page::from(Bytes::from(ReadResponse { entities: vec![entity] }.encode_to_vec()))
        };
        let looked_up = |page: &Page| page.entries().map(|entry| seen(&entry.unwrap())).collect::<Vec<_>>();
        assert_eq!(looked_up(&page(&entry)), [found(&entry)]);
        entry.table_id += 2;
        assert_eq!((found(&entry), looked_up(&page(&entry))), (None, vec![None]));
    }
}
