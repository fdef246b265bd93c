//! Updates straight from their parts to bytes of the wire: no message is built, nothing is allocated.

use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::proto::p4::v1 as p4;

/// A byte string in canonical form: without leading zero bytes, zero itself is one zero byte (P4Runtime, "Bytestrings").
pub fn canonical(value: &[u8]) -> &[u8] {
    match value.iter().position(|byte| *byte != 0) {
        Some(first) => &value[first..],
        None => &value[value.len().saturating_sub(1)..],
    }
}

/// What an update does to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Makes it; it must not exist.
    Insert,
    /// Gives it a new state; it must exist.
    Modify,
    /// Removes it; it must exist. Only the key counts.
    Delete,
}

/// One change of one entity.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Which change.
    pub kind: Kind,
    /// Of what.
    pub entity: Entity<'a>,
}

/// What an update is about.
#[derive(Clone, Copy, Debug)]
pub enum Entity<'a> {
    /// An entry of a table, encoded from its parts.
    Entry(Entry<'a>),
    /// Anything else, as a message.
    Message(&'a p4::Entity),
}

/// An entry of a table. Byte strings are big-endian and need not be canonical: they are made so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Id from P4Info.
    pub table_id: u32,
    /// The key; fields left out are "any", where their kind allows it.
    pub matches: &'a [Match<'a>],
    /// What it does; a delete needs none.
    pub action: Option<Action<'a>>,
    /// Higher wins; 0 exactly where keys cannot overlap.
    pub priority: i32,
    /// Without a hit for this long the target sends a notice; nanoseconds, 0 is never.
    pub idle_timeout_ns: i64,
    /// The controller's own, returned by reads.
    pub metadata: &'a [u8],
}

/// One field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// Id from P4Info, counted within the table.
    pub field_id: u32,
    /// What it has to be.
    pub value: MatchValue<'a>,
}

/// What a field of a packet has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchValue<'a> {
    /// Equal.
    Exact(&'a [u8]),
    /// Equal in the first bits; the others must be zero.
    Prefix(&'a [u8], i32),
    /// Value and mask: equal where the mask has ones; the value is zero elsewhere.
    Ternary(&'a [u8], &'a [u8]),
    /// Within these, ends included.
    Range(&'a [u8], &'a [u8]),
    /// Equal, of a field that may be left out.
    Optional(&'a [u8]),
}

/// An action and its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action<'a> {
    /// Id from P4Info.
    pub id: u32,
    /// All of its parameters.
    pub params: &'a [Param<'a>],
}

/// An argument of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Id from P4Info, counted within the action.
    pub id: u32,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Update<'a> {
    /// A new entry.
    pub fn insert(entry: Entry<'a>) -> Self {
        Self { kind: Kind::Insert, entity: Entity::Entry(entry) }
    }

    /// An entry's new state.
    pub fn modify(entry: Entry<'a>) -> Self {
        Self { kind: Kind::Modify, entity: Entity::Entry(entry) }
    }

    /// An entry's end.
    pub fn delete(entry: Entry<'a>) -> Self {
        Self { kind: Kind::Delete, entity: Entity::Entry(entry) }
    }

    /// Appends this update as an element of `WriteRequest.updates`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            Kind::Insert => p4::update::Type::Insert,
            Kind::Modify => p4::update::Type::Modify,
            Kind::Delete => p4::update::Type::Delete,
        };
        match self.entity {
            Entity::Entry(entry) => {
                let action = entry.action.map_or(0, |action| action.len());
                let entry_len = entry.len(action);
                let entity_len = nested(entry_len);
                out.reserve(nested(2 + nested(entity_len)));
                head(out, tag::UPDATES, 2 + nested(entity_len));
                scalar(out, tag::UPDATE_TYPE, kind as u64);
                head(out, tag::UPDATE_ENTITY, entity_len);
                head(out, tag::ENTITY_TABLE_ENTRY, entry_len);
                entry.write(action, out);
            }
            Entity::Message(entity) => {
                let entity_len = entity.encoded_len();
                head(out, tag::UPDATES, 2 + nested(entity_len));
                scalar(out, tag::UPDATE_TYPE, kind as u64);
                head(out, tag::UPDATE_ENTITY, entity_len);
                entity.encode_raw(out);
            }
        }
    }
}

/// First bytes of fields: number times 8, plus 2 for what has a length. All numbers here are below 16.
mod tag {
    const fn varint(number: u8) -> u8 {
        number << 3
    }
    const fn with_length(number: u8) -> u8 {
        number << 3 | 2
    }

    pub const UPDATES: u8 = with_length(4);
    pub const READ_ENTITIES: u8 = with_length(2);
    pub const UPDATE_TYPE: u8 = varint(1);
    pub const UPDATE_ENTITY: u8 = with_length(2);
    pub const ENTITY_TABLE_ENTRY: u8 = with_length(2);

    pub const TABLE_ID: u8 = varint(1);
    pub const MATCH: u8 = with_length(2);
    pub const ACTION: u8 = with_length(3);
    pub const PRIORITY: u8 = varint(4);
    pub const COUNTER_DATA: u8 = with_length(7);
    pub const IDLE_TIMEOUT: u8 = varint(9);
    pub const TIME_SINCE_LAST_HIT: u8 = with_length(10);
    pub const METADATA: u8 = with_length(11);

    pub const FIELD_ID: u8 = varint(1);
    pub const EXACT: u8 = with_length(2);
    pub const TERNARY: u8 = with_length(3);
    pub const PREFIX: u8 = with_length(4);
    pub const RANGE: u8 = with_length(6);
    pub const OPTIONAL: u8 = with_length(7);
    /// In all kinds of match.
    pub const FIRST_VALUE: u8 = with_length(1);
    pub const SECOND_VALUE: u8 = with_length(2);
    pub const PREFIX_LEN: u8 = varint(2);

    pub const TABLE_ACTION_ACTION: u8 = with_length(1);
    pub const ACTION_ID: u8 = varint(1);
    pub const PARAMS: u8 = with_length(4);
    pub const PARAM_ID: u8 = varint(2);
    pub const PARAM_VALUE: u8 = with_length(3);
}

/// Bytes of a field that has a length: its tag, the length, the content.
fn nested(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// Bytes of a number's field; zero is left out.
fn scalar_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

fn head(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    varint(out, len as u64);
}

fn scalar(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        varint(out, value);
    }
}

fn varint(out: &mut Vec<u8>, value: u64) {
    // Nearly every length and many ids.
    if value < 0x80 { out.push(value as u8) } else { encode_varint(value, out) }
}

fn bytes(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    head(out, tag, value.len());
    out.extend_from_slice(value);
}

impl Entry<'_> {
    /// The same as a message, byte strings canonical.
    pub fn to_message(&self) -> p4::TableEntry {
        let mut bytes = Vec::new();
        self.write(self.action.map_or(0, |action| action.len()), &mut bytes);
        p4::TableEntry::decode(&bytes[..]).expect("what `write` writes is a valid message, as its tests show")
    }

    /// Appends this entry as an element of `ReadRequest.entities` that asks for the one with its key.
    pub(crate) fn encode_pattern(&self, counters: bool, last_hit: bool, out: &mut Vec<u8>) {
        let key = Entry { table_id: self.table_id, matches: self.matches, priority: self.priority, ..Entry::default() };
        let asked = [(counters, tag::COUNTER_DATA), (last_hit, tag::TIME_SINCE_LAST_HIT)];
        let asked = asked.into_iter().filter_map(|(wanted, tag)| wanted.then_some(tag));
        let entry_len = key.len(0) + asked.clone().map(|_| nested(0)).sum::<usize>();
        let entity_len = nested(entry_len);
        out.reserve(nested(entity_len));
        head(out, tag::READ_ENTITIES, entity_len);
        head(out, tag::ENTITY_TABLE_ENTRY, entry_len);
        key.write(0, out);
        // An empty message is there, and so asks.
        asked.for_each(|tag| head(out, tag, 0));
    }

    /// Bytes of the message; `action` is the length of the action's own message.
    fn len(&self, action: usize) -> usize {
        let matches: usize = self.matches.iter().map(|field| nested(field.len())).sum();
        scalar_len(self.table_id.into())
            + matches
            + if self.action.is_some() { nested(nested(action)) } else { 0 }
            + scalar_len(self.priority as i64 as u64)
            + scalar_len(self.idle_timeout_ns as u64)
            + if self.metadata.is_empty() { 0 } else { nested(self.metadata.len()) }
    }

    fn write(&self, action_len: usize, out: &mut Vec<u8>) {
        scalar(out, tag::TABLE_ID, self.table_id.into());
        for field in self.matches {
            head(out, tag::MATCH, field.len());
            field.write(out);
        }
        if let Some(action) = self.action {
            head(out, tag::ACTION, nested(action_len));
            head(out, tag::TABLE_ACTION_ACTION, action_len);
            action.write(out);
        }
        // Negative numbers are ten bytes in protobuf: the sign goes through all of them.
        scalar(out, tag::PRIORITY, self.priority as i64 as u64);
        scalar(out, tag::IDLE_TIMEOUT, self.idle_timeout_ns as u64);
        if !self.metadata.is_empty() {
            bytes(out, tag::METADATA, self.metadata);
        }
    }
}

impl Match<'_> {
    fn len(&self) -> usize {
        scalar_len(self.field_id.into()) + nested(self.value.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        scalar(out, tag::FIELD_ID, self.field_id.into());
        let len = self.value.len();
        let mut pair = |tag, first, second| {
            head(out, tag, len);
            bytes(out, tag::FIRST_VALUE, canonical(first));
            bytes(out, tag::SECOND_VALUE, canonical(second));
        };
        match self.value {
            MatchValue::Ternary(value, mask) => pair(tag::TERNARY, value, mask),
            MatchValue::Range(low, high) => pair(tag::RANGE, low, high),
            MatchValue::Exact(value) => {
                head(out, tag::EXACT, len);
                bytes(out, tag::FIRST_VALUE, canonical(value));
            }
            MatchValue::Optional(value) => {
                head(out, tag::OPTIONAL, len);
                bytes(out, tag::FIRST_VALUE, canonical(value));
            }
            MatchValue::Prefix(value, prefix) => {
                head(out, tag::PREFIX, len);
                bytes(out, tag::FIRST_VALUE, canonical(value));
                scalar(out, tag::PREFIX_LEN, prefix as i64 as u64);
            }
        }
    }
}

impl MatchValue<'_> {
    fn len(&self) -> usize {
        match *self {
            Self::Exact(value) | Self::Optional(value) => nested(canonical(value).len()),
            Self::Prefix(value, prefix) => nested(canonical(value).len()) + scalar_len(prefix as i64 as u64),
            Self::Ternary(first, second) | Self::Range(first, second) => {
                nested(canonical(first).len()) + nested(canonical(second).len())
            }
        }
    }
}

impl Action<'_> {
    fn len(&self) -> usize {
        scalar_len(self.id.into()) + self.params.iter().map(|param| nested(param.len())).sum::<usize>()
    }

    fn write(&self, out: &mut Vec<u8>) {
        scalar(out, tag::ACTION_ID, self.id.into());
        for param in self.params {
            head(out, tag::PARAMS, param.len());
            scalar(out, tag::PARAM_ID, param.id.into());
            bytes(out, tag::PARAM_VALUE, canonical(param.value));
        }
    }
}

impl Param<'_> {
    fn len(&self) -> usize {
        scalar_len(self.id.into()) + nested(canonical(self.value).len())
    }
}

/// Appends all of a `WriteRequest` but its updates. Protobuf lets fields come in any order, so this is done when the
/// batch is sent, by the election id that holds then.
pub(crate) fn encode_sender(device_id: u64, role: &str, election_id: Option<p4::Uint128>, out: &mut Vec<u8>) {
    let rest = p4::WriteRequest { device_id, role: role.into(), election_id, ..p4::WriteRequest::default() };
    rest.encode_raw(out);
}

/// Appends all of a `ReadRequest` but its patterns.
pub(crate) fn encode_reader(device_id: u64, role: &str, out: &mut Vec<u8>) {
    let rest = p4::ReadRequest { device_id, role: role.into(), ..p4::ReadRequest::default() };
    rest.encode_raw(out);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::key::tests::{message_of, owned_entry};

    #[test]
    fn canonical_byte_strings_are_the_shortest() {
        let cases: [(&[u8], &[u8]); 6] = [
            (&[0x63], &[0x63]),
            (&[0, 0x63], &[0x63]),
            (&[0x30, 0x64], &[0x30, 0x64]),
            (&[0, 0], &[0]),
            (&[0], &[0]),
            (&[], &[]),
        ];
        for (given, shortest) in cases {
            assert_eq!(canonical(given), shortest);
        }
    }

    proptest! {
        /// Whatever is encoded, prost reads as the same entry, and would write in the same number of bytes.
        #[test]
        fn entries_read_back(entry in owned_entry(), kind in 0..3usize, high: u64, low: u64, role in "[a-z]{0,4}") {
            let kind = [Kind::Insert, Kind::Modify, Kind::Delete][kind];
            let mut body = Vec::new();
            entry.with(|entry| Update { kind, entity: Entity::Entry(entry) }.encode(&mut body));
            encode_sender(9, &role, Some(p4::Uint128 { high, low }), &mut body);
            let read = p4::WriteRequest::decode(&body[..]).expect("valid protobuf");
            prop_assert_eq!(read.encoded_len(), body.len());
            prop_assert_eq!((read.device_id, &read.role), (9, &role));
            prop_assert_eq!(read.election_id, Some(p4::Uint128 { high, low }));
            prop_assert_eq!(read.updates.len(), 1);
            prop_assert_eq!(read.updates[0].r#type, kind as i32 + 1);
            let Some(p4::entity::Entity::TableEntry(read)) = &read.updates[0].entity.as_ref().unwrap().entity else {
                panic!("not a table entry");
            };
            prop_assert_eq!(read, &message_of(&entry));
        }

        /// A pattern has the key and what it asks for, and nothing else of the entry.
        #[test]
        fn patterns_read_back(entry in owned_entry(), counters: bool, last_hit: bool, role in "[a-z]{0,4}") {
            let mut body = Vec::new();
            entry.with(|entry| entry.encode_pattern(counters, last_hit, &mut body));
            encode_reader(9, &role, &mut body);
            let read = p4::ReadRequest::decode(&body[..]).expect("valid protobuf");
            prop_assert_eq!(read.encoded_len(), body.len());
            prop_assert_eq!((read.device_id, &read.role), (9, &role));
            let mut query = crate::Query::entry(&message_of(&entry));
            query = if counters { query.with_counters() } else { query };
            query = if last_hit { query.with_last_hit() } else { query };
            prop_assert_eq!(read.entities, vec![query.entity()]);
        }

        /// A message goes out as it is.
        #[test]
        fn other_entities_read_back(id: u32, payload in vec(any::<u8>(), 0..300)) {
            let group = p4::MulticastGroupEntry { multicast_group_id: id, metadata: payload.into(), replicas: vec![] };
            let entry = p4::PacketReplicationEngineEntry {
                r#type: Some(p4::packet_replication_engine_entry::Type::MulticastGroupEntry(group)),
            };
            let entity = p4::Entity { entity: Some(p4::entity::Entity::PacketReplicationEngineEntry(entry)) };
            let mut body = Vec::new();
            Update { kind: Kind::Modify, entity: Entity::Message(&entity) }.encode(&mut body);
            let read = p4::WriteRequest::decode(&body[..]).expect("valid protobuf");
            prop_assert_eq!(read.updates[0].entity.as_ref(), Some(&entity));
        }
    }
}
