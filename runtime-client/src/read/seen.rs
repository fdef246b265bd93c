//! Entries of a read's answer as they lie in its messages: nothing is built, nothing is allocated. For whoever reads the
//! counters of many entries and knows the keys.

use prost::bytes::Bytes;

use super::fields::{Malformed, Value, fields};
use crate::proto::p4::v1::CounterData;

/// Numbers of fields, by message.
pub(crate) mod number {
    pub const RESPONSE_ENTITIES: u32 = 1;
    pub const ENTITY_TABLE_ENTRY: u32 = 2;

    pub const TABLE_ID: u32 = 1;
    pub const MATCH: u32 = 2;
    pub const COUNTER_DATA: u32 = 7;
    pub const TIME_SINCE_LAST_HIT: u32 = 10;

    pub const FIELD_ID: u32 = 1;
    pub const EXACT: u32 = 2;
    pub const VALUE: u32 = 1;

    pub const BYTE_COUNT: u32 = 1;
    pub const PACKET_COUNT: u32 = 2;
    pub const ELAPSED_NS: u32 = 1;
}

/// One message of an answer.
#[derive(Clone, Debug)]
pub struct Page {
    message: Bytes,
}

/// An entry of a table.
#[derive(Clone, Copy, Debug)]
pub struct SeenEntry<'a> {
    /// Id from P4Info.
    pub table_id: u32,
    /// Its direct counter, if that was asked for.
    pub counter: Option<CounterData>,
    /// Nanoseconds since its last hit, if that was asked for.
    pub quiet_ns: Option<i64>,
    message: &'a [u8],
}

impl From<Bytes> for Page {
    /// Of an encoded `ReadResponse`.
    fn from(message: Bytes) -> Self {
        Self { message }
    }
}

impl Page {
    /// The entries of tables in it; entities of other kinds are passed over.
    pub fn entries(&self) -> impl Iterator<Item = Result<SeenEntry<'_>, Malformed>> {
        let entities = fields(&self.message).filter_map(|field| match field {
            Ok((number::RESPONSE_ENTITIES, Value::Bytes(entity))) => table_entry(entity).transpose(),
            Ok(_) => None,
            Err(malformed) => Some(Err(malformed)),
        });
        entities.map(|entry| entry.and_then(SeenEntry::new))
    }
}

/// None: the entity is of another kind.
pub(crate) fn table_entry(entity: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    for field in fields(entity) {
        if let (number::ENTITY_TABLE_ENTRY, value) = field? {
            return value.bytes().map(Some);
        }
    }
    Ok(None)
}

impl<'a> SeenEntry<'a> {
    /// Walks over all that the getters show, so that none of them can fail.
    fn new(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut entry = SeenEntry { table_id: 0, counter: None, quiet_ns: None, message };
        for field in fields(message) {
            match field? {
                (number::TABLE_ID, value) => entry.table_id = value.number()? as u32,
                (number::MATCH, value) => _ = exact(value)?,
                (number::COUNTER_DATA, value) => {
                    let [byte_count, packet_count] = numbers(value, [number::BYTE_COUNT, number::PACKET_COUNT])?;
                    entry.counter = Some(CounterData { byte_count, packet_count });
                }
                (number::TIME_SINCE_LAST_HIT, value) => {
                    let [elapsed_ns] = numbers(value, [number::ELAPSED_NS])?;
                    entry.quiet_ns = Some(elapsed_ns);
                }
                _ => {}
            }
        }
        Ok(entry)
    }

    /// An encoded entry that is a key of exact fields alone, and perhaps the wish for counter and time; none: it is not.
    #[cfg(feature = "fake-target")]
    pub(crate) fn exact_only(message: &'a [u8]) -> Option<Self> {
        let mut matches = 0;
        for field in fields(message) {
            match field.ok()?.0 {
                number::MATCH => matches += 1,
                number::TABLE_ID | number::COUNTER_DATA | number::TIME_SINCE_LAST_HIT => {}
                _ => return None,
            }
        }
        let entry = Self::new(message).ok()?;
        (matches > 0 && entry.exact_fields().count() == matches).then_some(entry)
    }

    /// The fields of its key that match exactly: id and value.
    pub fn exact_fields(&self) -> impl Iterator<Item = (u32, &'a [u8])> + Clone + use<'a> {
        fields(self.message).filter_map(|field| match field {
            Ok((number::MATCH, value)) => exact(value).ok().flatten(),
            _ => None,
        })
    }
}

/// Id and value of a field of a key; none: it does not match exactly.
fn exact(field: Value<'_>) -> Result<Option<(u32, &[u8])>, Malformed> {
    let (mut id, mut found) = (0, None);
    for field in fields(field.bytes()?) {
        match field? {
            (number::FIELD_ID, value) => id = value.number()? as u32,
            (number::EXACT, value) => {
                // Empty is what protobuf leaves out.
                let mut exact = &[][..];
                for field in fields(value.bytes()?) {
                    if let (number::VALUE, value) = field? {
                        exact = value.bytes()?;
                    }
                }
                found = Some(exact);
            }
            _ => {}
        }
    }
    Ok(found.map(|value| (id, value)))
}

/// The numbers of these fields of a message; protobuf leaves out those that are 0.
fn numbers<const N: usize>(message: Value<'_>, wanted: [u32; N]) -> Result<[i64; N], Malformed> {
    let mut numbers = [0; N];
    for field in fields(message.bytes()?) {
        let (number, value) = field?;
        if let Some(place) = wanted.iter().position(|wanted| *wanted == number) {
            numbers[place] = value.number()? as i64;
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::key::tests::{message_of, owned_entry};
    use crate::proto::p4::v1::entity::Entity as Kind;
    use crate::proto::p4::v1::field_match::FieldMatchType;
    use crate::proto::p4::v1::table_entry::IdleTimeout;
    use crate::proto::p4::v1::{CounterEntry, Entity, ReadResponse, TableEntry};

    /// What is shown of an entry.
    type Shown = (u32, Option<CounterData>, Option<i64>, Vec<(u32, Vec<u8>)>);

    fn shown(message: &[u8]) -> Result<Vec<Shown>, Malformed> {
        let page = Page::from(Bytes::copy_from_slice(message));
        let show = |entry: SeenEntry<'_>| {
            let fields = entry.exact_fields().map(|(id, value)| (id, value.to_vec()));
            (entry.table_id, entry.counter, entry.quiet_ns, fields.collect())
        };
        page.entries().map(|entry| entry.map(show)).collect()
    }

    fn expected(entry: &TableEntry) -> Shown {
        let exact = entry.r#match.iter().filter_map(|field| match &field.field_match_type {
            Some(FieldMatchType::Exact(exact)) => Some((field.field_id, exact.value.to_vec())),
            _ => None,
        });
        (entry.table_id, entry.counter_data, entry.time_since_last_hit.map(|time| time.elapsed_ns), exact.collect())
    }

    fn entry() -> impl Strategy<Value = TableEntry> {
        let counter = proptest::option::of((any::<i64>(), any::<i64>()));
        (owned_entry(), counter, proptest::option::of(any::<i64>())).prop_map(|(entry, counter, quiet)| TableEntry {
            counter_data: counter.map(|(byte_count, packet_count)| CounterData { byte_count, packet_count }),
            time_since_last_hit: quiet.map(|elapsed_ns| IdleTimeout { elapsed_ns }),
            ..message_of(&entry)
        })
    }

    fn response(entries: &[TableEntry]) -> Vec<u8> {
        let entities = entries.iter().map(|entry| Kind::TableEntry(entry.clone()));
        // What is no entry of a table is passed over.
        let other = Kind::CounterEntry(CounterEntry { counter_id: 7, ..CounterEntry::default() });
        let entities = std::iter::once(other).chain(entities).map(|kind| Entity { entity: Some(kind) });
        ReadResponse { entities: entities.collect() }.encode_to_vec()
    }

    proptest! {
        /// What prost writes is shown as it is.
        #[test]
        fn entries_are_shown_as_they_were_written(entries in vec(entry(), 0..4)) {
            prop_assert_eq!(shown(&response(&entries)), Ok(entries.iter().map(expected).collect()));
        }

        /// Whatever comes, nothing panics.
        #[test]
        fn damage_is_survived(
            entries in vec(entry(), 1..3), place: prop::sample::Index, byte: u8, end: prop::sample::Index,
        ) {
            let mut message = response(&entries);
            let (place, end) = (place.index(message.len()), end.index(message.len()));
            message[place] = byte;
            let _ = shown(&message);
            let _ = shown(&message[..end]);
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let good = response(&[]);
        assert_eq!(shown(&good), Ok(vec![]));
        let entity = |entry: &[u8]| {
            let inner = [&[0x12, entry.len() as u8][..], entry].concat();
            [&[0x0a, inner.len() as u8][..], &inner].concat()
        };
        assert_eq!(shown(&entity(&[0x08, 5])), Ok(vec![(5, None, None, vec![])]));
        for bad in [
            // Cut short; a number where a message is due; a group; field 0; a varint without end.
            &[0x0a, 5, 1][..],
            &entity(&[0x10, 5]),
            &entity(&[0x0b]),
            &entity(&[0x00, 5]),
            &entity(&[0x08, 0x80]),
            &entity(&[0x12, 2, 0x12, 9]),
            &entity(&[0x3a, 2, 0x0a, 0]),
        ] {
            assert_eq!(shown(bad), Err(Malformed), "{bad:x?}");
        }
    }
}
