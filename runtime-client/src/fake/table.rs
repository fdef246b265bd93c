//! Tables with entries, their counters and their times.

use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use prost::Message;

use super::chaos::{Chaos, Dice};
use super::schema::{Schema, error};
use crate::Code;
use crate::key::EntryKey;
use crate::proto::p4::v1::entity::Entity as Kind;
use crate::proto::p4::v1::table_entry::IdleTimeout;
use crate::proto::p4::v1::update::Type;
use crate::proto::p4::v1::{CounterData, DirectCounterEntry, Entity, Error, TableEntry, Update};
use crate::read::fields::fields;
use crate::read::{SeenEntry, number, table_entry};

/// An entry as it lives in the target.
#[derive(Debug)]
struct Row {
    /// Encoded, byte strings canonical: one piece of memory, and the answer to most reads.
    entry: Box<[u8]>,
    idle_timeout: i64,
    counter: CounterData,
    /// By the target's clock, nanoseconds.
    last_hit: i64,
    /// When the time to the next notice began.
    quiet_since: i64,
}

/// All tables of a program.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub schema: Schema,
    rows: HashMap<u32, HashMap<EntryKey, Row>>,
    defaults: HashMap<u32, TableEntry>,
}

impl Tables {
    pub fn new(schema: Schema) -> Self {
        Self { schema, ..Self::default() }
    }

    /// Another program with the entries of this one, if all of them fit it.
    pub fn reconcile(&mut self, schema: Schema) -> Result<(), Error> {
        for row in self.rows.values().flat_map(HashMap::values) {
            let mut entry = row.entry();
            schema.check_key(&mut entry)?;
            schema.check_state(&mut entry)?;
        }
        for (id, rows) in &self.rows {
            if rows.len() > schema.table(*id)?.size {
                return Err(error(Code::InvalidArgument, "more entries than the new table holds"));
            }
        }
        self.schema = schema;
        Ok(())
    }

    /// Applies the delete of an entry of which the key is all that is given, and all of it exact. None: the update is of another
    /// kind, or not a good one, and [`apply`](Self::apply) has the answer.
    pub fn delete_exact(&mut self, update: &[u8], dice: &mut Dice) -> Option<Result<(), Error>> {
        let (kind, entry) = update_of(update)?;
        let entry = SeenEntry::exact_only(entry).filter(|entry| entry.counter.is_none() && entry.quiet_ns.is_none())?;
        let hashed = dice.chaos.hashed.is_some_and(|(table, _)| table == entry.table_id);
        if kind != Type::Delete as u64 || hashed {
            return None;
        }
        let key = self.schema.exact_key(entry.table_id, entry.exact_fields())?;
        let share = dice.chaos.refuse;
        if dice.hits(share) {
            return Some(Err(error(dice.chaos.refuse_with, "refused by chance")));
        }
        let row = self.rows.get_mut(&entry.table_id).and_then(|rows| rows.remove(&key));
        Some(row.map(drop).ok_or_else(|| error(Code::NotFound, "not there")))
    }

    /// Applies one update, or says why not.
    pub fn apply(&mut self, update: Update, now: i64, dice: &mut Dice) -> Result<(), Error> {
        let kind = Type::try_from(update.r#type).unwrap_or_default();
        let entity = update.entity.and_then(|entity| entity.entity);
        let share = dice.chaos.refuse;
        if dice.hits(share) {
            return Err(error(dice.chaos.refuse_with, "refused by chance"));
        }
        match entity {
            _ if kind == Type::Unspecified => Err(error(Code::InvalidArgument, "an update needs a type")),
            Some(Kind::TableEntry(entry)) if entry.is_default_action => self.apply_default(kind, entry),
            Some(Kind::TableEntry(entry)) => self.apply_entry(kind, entry, now, &dice.chaos),
            Some(Kind::DirectCounterEntry(counter)) => self.apply_counter(kind, counter),
            _ => Err(error(Code::Unimplemented, "this target has tables only")),
        }
    }

    fn apply_entry(&mut self, kind: Type, mut entry: TableEntry, now: i64, chaos: &Chaos) -> Result<(), Error> {
        self.schema.check_key(&mut entry)?;
        if kind != Type::Delete {
            self.schema.check_state(&mut entry)?;
        }
        let size = self.schema.table(entry.table_id)?.size;
        let rows = self.rows.entry(entry.table_id).or_default();
        let full = rows.len() >= chaos.capacity.unwrap_or(size);
        let mut key = EntryKey::of(&entry);
        if let Some((_, bits)) = chaos.hashed.filter(|(table, _)| *table == entry.table_id)
            && let Some(there) = rows.keys().find(|other| hash(other, bits) == hash(&key, bits))
        {
            key = there.clone();
        }
        match (kind, rows.entry(key)) {
            (Type::Insert, Slot::Occupied(_)) => Err(error(Code::AlreadyExists, "there already")),
            (Type::Insert, Slot::Vacant(_)) if full => Err(error(Code::ResourceExhausted, "table full")),
            (Type::Insert, Slot::Vacant(free)) => {
                free.insert(Row::new(entry, now));
                Ok(())
            }
            (_, Slot::Vacant(_)) => Err(error(Code::NotFound, "not there")),
            (Type::Delete, Slot::Occupied(row)) => {
                row.remove();
                Ok(())
            }
            (_, Slot::Occupied(mut row)) => {
                let row = row.get_mut();
                row.counter = entry.counter_data.take().unwrap_or(row.counter);
                *row = Row { counter: row.counter, last_hit: row.last_hit, ..Row::new(entry, now) };
                Ok(())
            }
        }
    }

    fn apply_default(&mut self, kind: Type, mut entry: TableEntry) -> Result<(), Error> {
        self.schema.check_key(&mut entry)?;
        self.schema.check_state(&mut entry)?;
        if kind != Type::Modify {
            return Err(error(Code::InvalidArgument, "a default entry is always there"));
        }
        match entry.action {
            Some(_) => self.defaults.insert(entry.table_id, entry),
            None => self.defaults.remove(&entry.table_id),
        };
        Ok(())
    }

    fn apply_counter(&mut self, kind: Type, counter: DirectCounterEntry) -> Result<(), Error> {
        let mut key = counter.table_entry.unwrap_or_default();
        self.schema.check_key(&mut key)?;
        if kind != Type::Modify || !self.schema.table(key.table_id)?.counter {
            return Err(error(Code::InvalidArgument, "direct counters are modified, where there are any"));
        }
        let row = self.rows.get_mut(&key.table_id).and_then(|rows| rows.get_mut(&EntryKey::of(&key)));
        row.ok_or_else(|| error(Code::NotFound, "not there"))?.counter = counter.data.unwrap_or_default();
        Ok(())
    }

    /// What a pattern asks for.
    pub fn read(&self, pattern: Entity, now: i64) -> Result<Vec<Entity>, Error> {
        let (mut pattern, counters_only) = match pattern.entity {
            Some(Kind::TableEntry(pattern)) => (pattern, false),
            Some(Kind::DirectCounterEntry(counter)) => (counter.table_entry.unwrap_or_default(), true),
            _ => return Err(error(Code::Unimplemented, "this target has tables only")),
        };
        self.check_pattern(&mut pattern, counters_only)?;
        if pattern.is_default_action {
            let set = self.defaults.get(&pattern.table_id).cloned();
            return Ok(set.map(|entry| Entity { entity: Some(Kind::TableEntry(entry)) }).into_iter().collect());
        }
        if !pattern.r#match.is_empty() {
            // Of one table, looked up: controllers read many entries one by one. Of all tables there is no key.
            let row = self.rows.get(&pattern.table_id).and_then(|rows| rows.get(&EntryKey::of(&pattern)));
            return Ok(row.map(|row| row.show(&pattern, counters_only, now)).into_iter().collect());
        }
        let tables = self.rows.iter().filter(|(id, _)| pattern.table_id == 0 || **id == pattern.table_id);
        let rows = tables.flat_map(|(_, rows)| rows.values());
        Ok(rows.map(|row| row.show(&pattern, counters_only, now)).collect())
    }

    /// The answer to a pattern of one entry by its whole key, as an element of `ReadResponse.entities`. False: the pattern is of
    /// another kind, or not a good one, and [`read`](Self::read) has the answer.
    pub fn read_exact(&self, pattern: &[u8], now: i64, out: &mut Vec<u8>) -> bool {
        let Some(pattern) = SeenEntry::exact_only(pattern) else { return false };
        let Ok(table) = self.schema.table(pattern.table_id) else { return false };
        if (pattern.counter.is_some() && !table.counter) || (pattern.quiet_ns.is_some() && !table.idle_timeouts) {
            return false;
        }
        let Some(key) = self.schema.exact_key(pattern.table_id, pattern.exact_fields()) else { return false };
        if let Some(row) = self.rows.get(&pattern.table_id).and_then(|rows| rows.get(&key)) {
            row.encode(&pattern, now, out);
        }
        true
    }

    fn check_pattern(&self, pattern: &mut TableEntry, counters_only: bool) -> Result<(), Error> {
        if pattern.table_id == 0 {
            return Ok(());
        }
        if !pattern.r#match.is_empty() {
            self.schema.check_key(pattern)?;
        }
        let table = self.schema.table(pattern.table_id)?;
        let wants_counters = counters_only || pattern.counter_data.is_some();
        if (wants_counters && !table.counter) || (pattern.time_since_last_hit.is_some() && !table.idle_timeouts) {
            return Err(error(Code::InvalidArgument, "no such state in this table"));
        }
        Ok(())
    }

    /// Entries of a table as they were written.
    pub fn entries(&self, table: u32) -> Vec<TableEntry> {
        self.rows.get(&table).into_iter().flat_map(|rows| rows.values()).map(Row::entry).collect()
    }

    /// Packets hit an entry. False: there is none.
    pub fn hit(&mut self, entry: &TableEntry, packets: i64, bytes: i64, now: i64) -> bool {
        let row = self.rows.get_mut(&entry.table_id).and_then(|rows| rows.get_mut(&EntryKey::of(entry)));
        let Some(row) = row else { return false };
        row.counter.packet_count += packets;
        row.counter.byte_count += bytes;
        (row.last_hit, row.quiet_since) = (now, now);
        true
    }

    /// Entries whose time is over, by table; their time begins anew.
    pub fn idle(&mut self, now: i64) -> Vec<Vec<TableEntry>> {
        let tables = self.rows.values_mut().map(|rows| {
            let due = rows.values_mut().filter(|row| row.idle_timeout > 0 && now - row.quiet_since >= row.idle_timeout);
            due.map(|row| {
                row.quiet_since = now;
                TableEntry { action: None, ..row.entry() }
            })
            .collect::<Vec<_>>()
        });
        tables.filter(|idle| !idle.is_empty()).collect()
    }
}

/// So many bits of a hash that is the same in every run.
fn hash(key: &EntryKey, bits: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() & ((1 << bits) - 1)
}

/// Whether an encoded update is the delete of a table's entry.
pub(super) fn is_delete(update: &[u8]) -> bool {
    update_of(update).is_some_and(|(kind, _)| kind == Type::Delete as u64)
}

/// Kind and table entry of an encoded update; none: it is of another entity, or none at all.
fn update_of(update: &[u8]) -> Option<(u64, &[u8])> {
    let (mut kind, mut entity) = (0, None);
    for field in fields(update) {
        match field.ok()? {
            (1, value) => kind = value.number().ok()?,
            (2, value) => entity = Some(value.bytes().ok()?),
            _ => {}
        }
    }
    Some((kind, table_entry(entity?).ok().flatten()?))
}

impl Row {
    fn new(mut entry: TableEntry, now: i64) -> Self {
        let counter = entry.counter_data.take().unwrap_or_default();
        let idle_timeout = entry.idle_timeout_ns;
        Row { entry: entry.encode_to_vec().into(), idle_timeout, counter, last_hit: now, quiet_since: now }
    }

    fn entry(&self) -> TableEntry {
        TableEntry::decode(&self.entry[..]).expect("it was encoded from an entry")
    }

    /// What [`show`](Self::show) would be, encoded: of an entry that is read by its key no message is built.
    fn encode(&self, pattern: &SeenEntry<'_>, now: i64, out: &mut Vec<u8>) {
        use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, message};
        let counter = pattern.counter.map(|_| self.counter);
        let time = pattern.quiet_ns.map(|_| IdleTimeout { elapsed_ns: now - self.last_hit });
        let entry = self.entry.len()
            + counter.map_or(0, |counter| message::encoded_len(number::COUNTER_DATA, &counter))
            + time.map_or(0, |time| message::encoded_len(number::TIME_SINCE_LAST_HIT, &time));
        encode_key(number::RESPONSE_ENTITIES, WireType::LengthDelimited, out);
        encode_varint((1 + encoded_len_varint(entry as u64) + entry) as u64, out);
        encode_key(number::ENTITY_TABLE_ENTRY, WireType::LengthDelimited, out);
        encode_varint(entry as u64, out);
        out.extend_from_slice(&self.entry);
        counter.inspect(|counter| message::encode(number::COUNTER_DATA, counter, out));
        time.inspect(|time| message::encode(number::TIME_SINCE_LAST_HIT, time, out));
    }

    fn show(&self, pattern: &TableEntry, counters_only: bool, now: i64) -> Entity {
        if counters_only {
            let table_entry = Some(TableEntry { action: None, idle_timeout_ns: 0, ..self.entry() });
            let entry = DirectCounterEntry { table_entry, data: Some(self.counter) };
            return Entity { entity: Some(Kind::DirectCounterEntry(entry)) };
        }
        let mut entry = self.entry();
        entry.counter_data = pattern.counter_data.map(|_| self.counter);
        entry.time_since_last_hit =
            pattern.time_since_last_hit.map(|_| IdleTimeout { elapsed_ns: now - self.last_hit });
        Entity { entity: Some(Kind::TableEntry(entry)) }
    }
}
