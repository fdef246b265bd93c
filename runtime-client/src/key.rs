//! What makes two entries the same entry, and what it takes to bring a table to a wanted state.

use std::collections::HashMap;

use crate::proto::p4::v1::field_match::FieldMatchType;
use crate::proto::p4::v1::{FieldMatch, TableAction, TableEntry};
use crate::write::{Kind, canonical};

/// Identity of an entry: table, key fields in whatever order and form they were given, and priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey(Box<[u8]>);

impl EntryKey {
    /// The identity of an entry as read or to be written.
    pub fn of(entry: &TableEntry) -> Self {
        let mut bytes = Vec::with_capacity(16 + 24 * entry.r#match.len());
        bytes.extend(entry.table_id.to_be_bytes());
        bytes.extend(entry.priority.to_be_bytes());
        bytes.push(entry.is_default_action.into());
        if entry.r#match.is_sorted_by_key(|field| field.field_id) {
            entry.r#match.iter().for_each(|field| push_field(field, &mut bytes));
        } else {
            let mut fields: Vec<_> = entry.r#match.iter().collect();
            fields.sort_by_key(|field| field.field_id);
            fields.into_iter().for_each(|field| push_field(field, &mut bytes));
        }
        Self(bytes.into())
    }

    /// The identity of an entry of which all fields match exactly, these in the order of their ids.
    #[cfg(feature = "fake-target")]
    pub(crate) fn of_exact<'a>(table_id: u32, fields: impl Iterator<Item = (u32, &'a [u8])>) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(table_id.to_be_bytes());
        // No priority, and no default entry.
        bytes.extend([0; 5]);
        fields.for_each(|(id, value)| push_values(id, 1, &[value], 0, &mut bytes));
        Self(bytes.into())
    }
}

fn push_values(id: u32, kind: u8, values: &[&[u8]], number: i32, bytes: &mut Vec<u8>) {
    bytes.extend(id.to_be_bytes());
    bytes.push(kind);
    bytes.extend(number.to_be_bytes());
    for value in values {
        let value = canonical(value);
        bytes.extend((value.len() as u32).to_be_bytes());
        bytes.extend(value);
    }
}

fn push_field(field: &FieldMatch, bytes: &mut Vec<u8>) {
    let mut push = |kind, values: &[&[u8]], number| push_values(field.field_id, kind, values, number, bytes);
    match &field.field_match_type {
        Some(FieldMatchType::Exact(exact)) => push(1, &[&exact.value], 0),
        Some(FieldMatchType::Ternary(ternary)) => push(2, &[&ternary.value, &ternary.mask], 0),
        Some(FieldMatchType::Lpm(prefix)) => push(3, &[&prefix.value], prefix.prefix_len),
        Some(FieldMatchType::Range(range)) => push(4, &[&range.low, &range.high], 0),
        Some(FieldMatchType::Optional(optional)) => push(5, &[&optional.value], 0),
        Some(FieldMatchType::Other(any)) => push(6, &[any.type_url.as_bytes(), &any.value], 0),
        None => push(0, &[], 0),
    }
}

/// One step of [`difference`].
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Insert, modify or delete.
    pub kind: Kind,
    /// The entry; for a delete as it was read.
    pub entry: TableEntry,
}

/// What brings the entries `actual` of a target to `desired`. Entries are equal when key, action, idle timeout and
/// metadata are; counters and times do not count. Each entry is changed at most once, so order does not matter.
pub fn difference<'a>(
    desired: impl IntoIterator<Item = &'a TableEntry>,
    actual: impl IntoIterator<Item = &'a TableEntry>,
) -> Vec<Change> {
    let mut actual: HashMap<EntryKey, &TableEntry> =
        actual.into_iter().map(|entry| (EntryKey::of(entry), entry)).collect();
    let mut changes = Vec::new();
    for wanted in desired {
        match actual.remove(&EntryKey::of(wanted)) {
            None => changes.push(Change { kind: Kind::Insert, entry: wanted.clone() }),
            Some(there) if same_state(there, wanted) => {}
            Some(_) => changes.push(Change { kind: Kind::Modify, entry: wanted.clone() }),
        }
    }
    changes.extend(actual.into_values().map(|entry| Change { kind: Kind::Delete, entry: entry.clone() }));
    changes
}

fn same_state(one: &TableEntry, other: &TableEntry) -> bool {
    one.idle_timeout_ns == other.idle_timeout_ns
        && one.metadata == other.metadata
        && same_action(one.action.as_ref(), other.action.as_ref())
}

/// Byte strings may have leading zeros on one side only.
fn same_action(one: Option<&TableAction>, other: Option<&TableAction>) -> bool {
    use crate::proto::p4::v1::table_action::Type::Action;
    let [one, other] = [one, other].map(|action| action.and_then(|action| action.r#type.as_ref()));
    let (Some(Action(one)), Some(Action(other))) = (one, other) else { return one == other };
    let params = |of: &crate::proto::p4::v1::Action| {
        let mut params: Vec<_> =
            of.params.iter().map(|param| (param.param_id, canonical(&param.value).to_vec())).collect();
        params.sort_unstable();
        params
    };
    one.action_id == other.action_id && params(one) == params(other)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::p4::v1 as p4;
    use crate::write::{Action, Entry, Match, MatchValue, Param};

    /// Field id, kind of match, first and second value, number.
    type Field = (u32, u8, Vec<u8>, Vec<u8>, i32);

    /// Action id, and each parameter's id and value.
    type Call = (u32, Vec<(u32, Vec<u8>)>);

    /// An entry with its parts, for generated tests.
    #[derive(Clone, Debug)]
    pub(crate) struct OwnedEntry {
        table_id: u32,
        fields: Vec<Field>,
        action: Option<Call>,
        priority: i32,
        idle_timeout_ns: i64,
        metadata: Vec<u8>,
    }

    pub(crate) fn owned_entry() -> impl Strategy<Value = OwnedEntry> {
        let value = || vec(prop_oneof![Just(0u8), any::<u8>()], 1..200);
        let field = (any::<u32>(), 0..5u8, value(), value(), any::<i32>());
        let action = proptest::option::of((any::<u32>(), vec((any::<u32>(), value()), 0..4)));
        let parts = (any::<u32>(), vec(field, 0..5), action, any::<i32>(), any::<i64>(), vec(any::<u8>(), 0..40));
        parts.prop_map(|(table_id, fields, action, priority, idle_timeout_ns, metadata)| OwnedEntry {
            table_id,
            fields,
            action,
            priority,
            idle_timeout_ns,
            metadata,
        })
    }

    impl OwnedEntry {
        pub(crate) fn with<R>(&self, f: impl FnOnce(Entry<'_>) -> R) -> R {
            let matches: Vec<Match<'_>> = self.fields.iter().map(match_of).collect();
            let params: Option<Vec<Param<'_>>> = self
                .action
                .as_ref()
                .map(|(_, params)| params.iter().map(|(id, value)| Param { id: *id, value }).collect());
            f(Entry {
                table_id: self.table_id,
                matches: &matches,
                action: params.as_ref().map(|params| Action { id: self.action.as_ref().unwrap().0, params }),
                priority: self.priority,
                idle_timeout_ns: self.idle_timeout_ns,
                metadata: &self.metadata,
            })
        }
    }

    fn match_of((field_id, kind, first, second, number): &Field) -> Match<'_> {
        let value = match kind {
            0 => MatchValue::Exact(first),
            1 => MatchValue::Prefix(first, *number),
            2 => MatchValue::Ternary(first, second),
            3 => MatchValue::Range(first, second),
            _ => MatchValue::Optional(first),
        };
        Match { field_id: *field_id, value }
    }

    /// The same entry, put together as a message by other code than the encoder's.
    pub(crate) fn message_of(entry: &OwnedEntry) -> TableEntry {
        let short = |value: &[u8]| {
            let mut value = value.to_vec();
            while value.len() > 1 && value[0] == 0 {
                value.remove(0);
            }
            value.into()
        };
        let field = |(field_id, kind, first, second, number): &Field| {
            let (value, other) = (short(first), short(second));
            let field_match_type = Some(match kind {
                0 => FieldMatchType::Exact(p4::field_match::Exact { value }),
                1 => FieldMatchType::Lpm(p4::field_match::Lpm { value, prefix_len: *number }),
                2 => FieldMatchType::Ternary(p4::field_match::Ternary { value, mask: other }),
                3 => FieldMatchType::Range(p4::field_match::Range { low: value, high: other }),
                _ => FieldMatchType::Optional(p4::field_match::Optional { value }),
            });
            FieldMatch { field_id: *field_id, field_match_type }
        };
        let action = entry.action.as_ref().map(|(action_id, params)| {
            let param =
                |(param_id, value): &(u32, Vec<u8>)| p4::action::Param { param_id: *param_id, value: short(value) };
            let action = p4::Action { action_id: *action_id, params: params.iter().map(param).collect() };
            TableAction { r#type: Some(p4::table_action::Type::Action(action)) }
        });
        TableEntry {
            table_id: entry.table_id,
            r#match: entry.fields.iter().map(field).collect(),
            action,
            priority: entry.priority,
            idle_timeout_ns: entry.idle_timeout_ns,
            metadata: entry.metadata.clone().into(),
            ..TableEntry::default()
        }
    }

    fn simple(table_id: u32, key: &[u8], argument: &[u8]) -> TableEntry {
        let matches = [Match { field_id: 1, value: MatchValue::Exact(key) }];
        let params = [Param { id: 1, value: argument }];
        Entry { table_id, matches: &matches, action: Some(Action { id: 5, params: &params }), ..Entry::default() }
            .to_message()
    }

    #[test]
    fn keys_ignore_field_order_leading_zeros_and_state() {
        let mut one = simple(1, &[0, 7], &[1]);
        let second = FieldMatch { field_id: 2, ..one.r#match[0].clone() };
        one.r#match.push(second);
        let mut other = one.clone();
        other.r#match.reverse();
        other.action = None;
        for field in &mut other.r#match {
            field.field_match_type = Some(FieldMatchType::Exact(p4::field_match::Exact { value: vec![0, 7].into() }));
        }
        assert_eq!(EntryKey::of(&one), EntryKey::of(&other));
        assert_ne!(EntryKey::of(&one), EntryKey::of(&TableEntry { table_id: 2, ..one.clone() }));
        assert_ne!(EntryKey::of(&one), EntryKey::of(&TableEntry { priority: 2, ..one.clone() }));
        assert_ne!(EntryKey::of(&simple(1, &[7], &[1])), EntryKey::of(&simple(1, &[8], &[1])));
    }

    proptest! {
        /// Applying the difference makes the tables equal, and then there is none.
        #[test]
        fn differences_lead_to_the_wanted_state(
            wanted in proptest::collection::btree_map(0..20u8, 0..3u8, 0..12),
            there in proptest::collection::btree_map(0..20u8, 0..3u8, 0..12),
        ) {
            let table = |of: &std::collections::BTreeMap<u8, u8>| -> Vec<_> {
                of.iter().map(|(key, value)| simple(1, &[*key], &[*value])).collect()
            };
            let (wanted, there) = (table(&wanted), table(&there));
            let mut state: HashMap<_, _> = there.iter().map(|entry| (EntryKey::of(entry), entry.clone())).collect();
            for change in difference(&wanted, &there) {
                let key = EntryKey::of(&change.entry);
                let was = match change.kind {
                    Kind::Delete => state.remove(&key),
                    Kind::Insert | Kind::Modify => state.insert(key, change.entry),
                };
                prop_assert_eq!(was.is_some(), change.kind != Kind::Insert);
            }
            prop_assert_eq!(difference(&wanted, state.values()), vec![]);
            prop_assert_eq!(state.len(), wanted.len());
        }
    }
}
