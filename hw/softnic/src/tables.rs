//! Entries as a controller writes and reads them, on the pipeline's tables.
//!
//! The pipeline keeps keys, actions and arguments, and numbers its entries; this keeps the same under the same numbers, so
//! that entries can be read back without asking it, and what the pipeline has no room for: idle timeouts and what the
//! controller wants remembered.
//!
//! Counters are registers, one for each number. A number goes to another entry only when no packet is under way that could
//! still count for the one before: [`Tables::insert`] sees to that, and then sets the counters to zero.

use std::fmt;
use std::time::{Duration, Instant};

use dpdk::swx::{Control, Stalled, WriteError};
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::field_match::{Exact, FieldMatchType};
use p4runtime_proto::p4::v1::table_entry::IdleTimeout;
use p4runtime_proto::p4::v1::{Action, CounterData, FieldMatch, TableAction, TableEntry, action, table_action};
use prost::bytes::Bytes;

use crate::names::{CounterNames, Names, NamesError, TableNames, Value};
use crate::value;

/// Why an entry was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryError {
    /// There is no table with this id.
    Table,
    /// The key has not exactly the fields of the table.
    Key,
    /// The table has no such action for its entries.
    Action,
    /// The action has other parameters.
    Params,
    /// A value has more bits than its field, or no bytes.
    Range,
    /// The table cannot do this: a counter or an idle timeout without packets being counted, a meter.
    State,
    /// There is such an entry.
    Exists,
    /// There is no such entry.
    Missing,
    /// The table is full.
    Full,
    /// The pipeline's thread does not run.
    Stalled,
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EntryError::Table => "there is no table with this id",
            EntryError::Key => "the key must have each field of the table once, as exact match",
            EntryError::Action => "entries of this table cannot have this action",
            EntryError::Params => "the action has other parameters",
            EntryError::Range => "a value does not fit its field",
            EntryError::State => "entries of this table have no such state",
            EntryError::Exists => "there is an entry with this key",
            EntryError::Missing => "there is no entry with this key",
            EntryError::Full => "the table is full",
            EntryError::Stalled => "the pipeline does not run",
        })
    }
}

impl std::error::Error for EntryError {}

impl From<Stalled> for EntryError {
    fn from(_: Stalled) -> EntryError {
        EntryError::Stalled
    }
}

impl From<WriteError> for EntryError {
    fn from(error: WriteError) -> EntryError {
        match error {
            WriteError::Full => EntryError::Full,
            WriteError::Exists => EntryError::Exists,
            WriteError::Missing => EntryError::Missing,
            WriteError::Pending => EntryError::Stalled,
            // The names are made from the same layout.
            WriteError::Shape => EntryError::Key,
        }
    }
}

/// How long the pipeline may keep a writer waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the pipeline does not keep of an entry.
#[derive(Clone, Default)]
struct Row {
    live: bool,
    action: u32,
    /// Packets when they were last looked at.
    packets: u64,
    /// When that had changed, nanoseconds since the start of [`Tables`].
    last_hit: i64,
    /// When the time to the next notice began.
    quiet_since: i64,
    idle_timeout: i64,
    metadata: Bytes,
}

/// Entries of one table by number, and their keys and data in one piece.
#[derive(Default)]
struct Store {
    rows: Vec<Row>,
    bytes: Vec<u8>,
}

/// All tables of a program.
pub struct Tables {
    control: Control,
    names: Names,
    stores: Vec<Store>,
    start: Instant,
    /// Called while the pipeline is waited for.
    wait: Box<dyn FnMut() + Send>,
    /// A key and behind it data.
    scratch: Vec<u8>,
}

impl Tables {
    /// The tables of a pipeline, by the names of a program's P4Info. While the pipeline is waited for, `wait` is called
    /// again and again: it lets another thread run, or runs the pipeline where there is no other thread.
    pub fn new(control: Control, info: &P4Info, wait: Box<dyn FnMut() + Send>) -> Result<Tables, NamesError> {
        let registers: Vec<(&str, u32)> =
            control.registers().map(|register| (register.name.as_str(), register.size)).collect();
        let names = Names::new(info, control.tables(), &registers)?;
        let stores = names.tables.iter().map(|_| Store::default()).collect();
        Ok(Tables { control, names, stores, start: Instant::now(), wait, scratch: Vec::new() })
    }

    /// The controller's names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Entries of a table; 0 when there is none with this id.
    pub fn count(&self, table_id: u32) -> u32 {
        self.names.by_id.get(&table_id).map_or(0, |at| self.control.count(*at))
    }

    fn now(&self) -> i64 {
        // 292 years.
        self.start.elapsed().as_nanos() as i64
    }

    fn place(&self, table_id: u32) -> Result<usize, EntryError> {
        self.names.by_id.get(&table_id).copied().ok_or(EntryError::Table)
    }

    /// Adds an entry. The program sees it after [`Tables::publish`].
    pub fn insert(&mut self, entry: &TableEntry) -> Result<(), EntryError> {
        let at = self.place(entry.table_id)?;
        let action = self.encode(at, entry)?;
        let counted = self.names.tables[at].counter;
        if counted.is_some() && self.control.has_unpublished_deletions(at) {
            self.publish()?;
        }
        let (key, data) = self.scratch.split_at(self.control.tables()[at].key_bytes as usize);
        let number = self.control.insert(at, key, action, data)?;
        if let Some(counter) = counted {
            let data = entry.counter_data.unwrap_or_default();
            self.set_registers(counter, number + 1, &data);
        }
        let (now, packets) = (self.now(), entry.counter_data.map_or(0, |data| data.packet_count as u64));
        self.keep(at, number, Row { packets, last_hit: now, ..Row::of(entry, action, now) });
        Ok(())
    }

    /// Gives an entry another action. Its counters stay, its idle time begins anew.
    pub fn modify(&mut self, entry: &TableEntry) -> Result<(), EntryError> {
        let at = self.place(entry.table_id)?;
        let action = self.encode(at, entry)?;
        let (key, data) = self.scratch.split_at(self.control.tables()[at].key_bytes as usize);
        let number = self.control.modify(at, key, action, data)?;
        if let (Some(counter), Some(data)) = (self.names.tables[at].counter, &entry.counter_data) {
            self.set_registers(counter, number + 1, data);
        }
        let now = self.now();
        let Row { packets, last_hit, .. } = self.stores[at].rows[number as usize].clone();
        self.keep(at, number, Row { packets, last_hit, ..Row::of(entry, action, now) });
        Ok(())
    }

    /// Deletes the entry with this key; nothing else of `entry` is looked at.
    pub fn delete(&mut self, entry: &TableEntry) -> Result<(), EntryError> {
        let at = self.place(entry.table_id)?;
        self.encode_key(at, entry)?;
        let number = self.control.delete(at, &self.scratch)?;
        self.stores[at].rows[number as usize] = Row::default();
        Ok(())
    }

    /// Makes all writes seen by the program, at once.
    pub fn publish(&mut self) -> Result<(), EntryError> {
        self.publish_within(PATIENCE)
    }

    /// The same with another patience; with none this asks the pipeline, and says whether it is done already.
    pub fn publish_within(&mut self, patience: Duration) -> Result<(), EntryError> {
        Ok(self.control.publish(patience, &mut self.wait)?)
    }

    fn set_registers(&mut self, counter: CounterNames, index: u32, data: &CounterData) {
        self.control.write_register(counter.packets, index, data.packet_count as u64);
        if let Some(bytes) = counter.bytes {
            self.control.write_register(bytes, index, data.byte_count as u64);
        }
    }

    fn get_counter(&self, counter: CounterNames, index: u32) -> CounterData {
        let read = |array| self.control.read_register(array, index).unwrap_or(0) as i64;
        CounterData { packet_count: read(counter.packets), byte_count: counter.bytes.map_or(0, read) }
    }

    /// A cell of a counter that is not a table's; `None` when there is no such counter or cell.
    pub fn counter(&self, id: u32, index: u32) -> Option<CounterData> {
        let counter = self.names.counters.iter().find(|counter| counter.id == id && index < counter.size)?;
        Some(self.get_counter(*counter, index))
    }

    /// Sets a cell of a counter that is not a table's, and says whether there is such a one.
    pub fn set_counter(&mut self, id: u32, index: u32, data: &CounterData) -> bool {
        let counter = self.names.counters.iter().find(|counter| counter.id == id && index < counter.size).copied();
        counter.inspect(|counter| self.set_registers(*counter, index, data)).is_some()
    }

    /// Sets the counter of the entry with this key.
    pub fn set_direct_counter(&mut self, entry: &TableEntry, data: &CounterData) -> Result<(), EntryError> {
        let at = self.place(entry.table_id)?;
        self.encode_key(at, entry)?;
        let counter = self.names.tables[at].counter.ok_or(EntryError::State)?;
        let number = self.control.find(at, &self.scratch).ok_or(EntryError::Missing)?;
        self.set_registers(counter, number + 1, data);
        Ok(())
    }

    /// Whether there is an entry with this key.
    pub fn contains(&mut self, entry: &TableEntry) -> Result<bool, EntryError> {
        let at = self.place(entry.table_id)?;
        self.encode_key(at, entry)?;
        Ok(self.control.find(at, &self.scratch).is_some())
    }

    /// What a table does on a miss, where P4Info says it.
    pub fn default_entry(&self, table_id: u32) -> Result<Option<TableEntry>, EntryError> {
        let default = self.names.tables[self.place(table_id)?].default_action;
        Ok(default.map(|action_id| {
            let call = table_action::Type::Action(Action { action_id, params: Vec::new() });
            let action = Some(TableAction { r#type: Some(call) });
            TableEntry { table_id, action, is_default_action: true, ..TableEntry::default() }
        }))
    }

    /// The key of an entry into the scratch space.
    fn encode_key(&mut self, at: usize, entry: &TableEntry) -> Result<(), EntryError> {
        let names = &self.names.tables[at];
        self.scratch.clear();
        self.scratch.resize(self.control.tables()[at].key_bytes as usize, 0);
        if entry.r#match.len() != names.key.len() || entry.priority != 0 || entry.is_default_action {
            return Err(EntryError::Key);
        }
        for (position, known) in names.key.iter().enumerate() {
            // Nearly always in order.
            let in_place = entry.r#match.get(position).filter(|field| field.field_id == known.id);
            let field = in_place.or_else(|| entry.r#match.iter().find(|field| field.field_id == known.id));
            let Some(FieldMatchType::Exact(exact)) = field.and_then(|field| field.field_match_type.as_ref()) else {
                return Err(EntryError::Key);
            };
            value::put(&exact.value, known.bits, &known.place, &mut self.scratch).map_err(|_| EntryError::Range)?;
        }
        Ok(())
    }

    /// Key and arguments of an entry into the scratch space. Returns the pipeline's number of the action.
    fn encode(&mut self, at: usize, entry: &TableEntry) -> Result<u32, EntryError> {
        self.encode_key(at, entry)?;
        let names = &self.names.tables[at];
        let counted = names.counter.is_some();
        let timed = entry.idle_timeout_ns != 0;
        let impossible = entry.meter_config.is_some() || entry.meter_counter_data.is_some();
        let unasked = entry.time_since_last_hit.is_some() || entry.idle_timeout_ns < 0 || entry.is_const;
        if impossible || unasked || ((timed || entry.counter_data.is_some()) && !counted) {
            return Err(EntryError::State);
        }
        let Some(table_action::Type::Action(call)) = entry.action.as_ref().and_then(|action| action.r#type.as_ref())
        else {
            return Err(EntryError::Action);
        };
        let action = names.action(call.action_id).ok_or(EntryError::Action)?;
        if call.params.len() != action.params.len() {
            return Err(EntryError::Params);
        }
        let layout = &self.control.tables()[at];
        let start = layout.key_bytes as usize;
        self.scratch.resize(start + layout.data_bytes as usize, 0);
        for (position, known) in action.params.iter().enumerate() {
            let in_place = call.params.get(position).filter(|param| param.param_id == known.id);
            let param = in_place.or_else(|| call.params.iter().find(|param| param.param_id == known.id));
            let param = param.ok_or(EntryError::Params)?;
            value::put(&param.value, known.bits, &known.place, &mut self.scratch[start..])
                .map_err(|_| EntryError::Range)?;
        }
        Ok(action.number)
    }

    /// Remembers what is in the scratch space under a number.
    fn keep(&mut self, at: usize, number: u32, row: Row) {
        let store = &mut self.stores[at];
        let (number, length) = (number as usize, self.scratch.len());
        if store.rows.len() <= number {
            store.rows.resize(number + 1, Row::default());
            store.bytes.resize((number + 1) * length, 0);
        }
        store.bytes[number * length..][..length].copy_from_slice(&self.scratch);
        store.rows[number] = row;
    }

    /// The entry with the key of `wanted`, with its counter if `wanted` has one, and its time since the last hit likewise.
    pub fn read_one(&mut self, wanted: &TableEntry) -> Result<Option<TableEntry>, EntryError> {
        let at = self.place(wanted.table_id)?;
        self.encode_key(at, wanted)?;
        let number = self.control.find(at, &self.scratch);
        Ok(number.map(|number| self.show(at, number as usize, wanted)))
    }

    /// Calls `with` for entries of a table whose numbers are not below `from`, in order, at most so many. As for
    /// [`Tables::read_one`]; a table that is not there has none. Returns where to go on, none at the end.
    pub fn read_from(
        &self,
        wanted: &TableEntry,
        from: u32,
        most: usize,
        mut with: impl FnMut(TableEntry),
    ) -> Option<u32> {
        let at = self.place(wanted.table_id).ok()?;
        let rows = self.stores[at].rows.iter().enumerate().skip(from as usize);
        let mut live = rows.filter(|(_, row)| row.live).map(|(number, _)| number);
        live.by_ref().take(most).for_each(|number| with(self.show(at, number, wanted)));
        // Numbers fit.
        live.next().map(|number| number as u32)
    }

    fn show(&self, at: usize, number: usize, wanted: &TableEntry) -> TableEntry {
        let (names, row) = (&self.names.tables[at], &self.stores[at].rows[number]);
        let data = self.counter_of(at, number);
        let now = self.now();
        let last_hit =
            if data.is_some_and(|data| data.packet_count as u64 != row.packets) { now } else { row.last_hit };
        let elapsed_ns = now - last_hit;
        TableEntry {
            counter_data: data.filter(|_| wanted.counter_data.is_some()),
            time_since_last_hit: wanted.time_since_last_hit.map(|_| IdleTimeout { elapsed_ns }),
            action: Some(self.show_action(names, at, number)),
            ..self.show_key(at, number)
        }
    }

    /// Key and timeout.
    fn show_key(&self, at: usize, number: usize) -> TableEntry {
        let (names, row) = (&self.names.tables[at], &self.stores[at].rows[number]);
        let bytes = self.bytes(at, number);
        let field = |known: &Value| {
            let exact = Exact { value: value::get(&known.place, bytes) };
            FieldMatch { field_id: known.id, field_match_type: Some(FieldMatchType::Exact(exact)) }
        };
        TableEntry {
            table_id: names.id,
            r#match: names.key.iter().map(field).collect(),
            idle_timeout_ns: row.idle_timeout,
            metadata: row.metadata.clone(),
            ..TableEntry::default()
        }
    }

    fn show_action(&self, names: &TableNames, at: usize, number: usize) -> TableAction {
        let row = &self.stores[at].rows[number];
        let data = &self.bytes(at, number)[self.control.tables()[at].key_bytes as usize..];
        let action = names.actions.iter().find(|action| action.number == row.action);
        let param = |known: &Value| action::Param { param_id: known.id, value: value::get(&known.place, data) };
        let call =
            action.map(|action| Action { action_id: action.id, params: action.params.iter().map(param).collect() });
        TableAction { r#type: call.map(table_action::Type::Action) }
    }

    fn bytes(&self, at: usize, number: usize) -> &[u8] {
        let layout = &self.control.tables()[at];
        let length = (layout.key_bytes + layout.data_bytes) as usize;
        &self.stores[at].bytes[number * length..][..length]
    }

    fn counter_of(&self, at: usize, number: usize) -> Option<CounterData> {
        let counter = self.names.tables[at].counter?;
        // SWX has zero for a miss.
        Some(self.get_counter(counter, number as u32 + 1))
    }

    /// Looks which entries were hit since the last time, and calls `with` for those whose idle time is over, which then
    /// begins anew. Times are as exact as this is called often.
    pub fn sweep(&mut self, mut with: impl FnMut(TableEntry)) {
        let now = self.now();
        for at in 0..self.stores.len() {
            for number in 0..self.stores[at].rows.len() {
                if !self.stores[at].rows[number].live {
                    continue;
                }
                let Some(data) = self.counter_of(at, number) else { break };
                let row = &mut self.stores[at].rows[number];
                if row.packets != data.packet_count as u64 {
                    row.packets = data.packet_count as u64;
                    row.last_hit = now;
                    row.quiet_since = now;
                }
                if row.idle_timeout > 0 && now - row.quiet_since >= row.idle_timeout {
                    row.quiet_since = now;
                    with(self.show_key(at, number));
                }
            }
        }
    }
}

impl Row {
    /// What a controller's entry says.
    fn of(entry: &TableEntry, action: u32, now: i64) -> Row {
        Row {
            live: true,
            action,
            packets: 0,
            last_hit: 0,
            quiet_since: now,
            idle_timeout: entry.idle_timeout_ns,
            // Not a part of the message it came in, which would live as long.
            metadata: Bytes::copy_from_slice(&entry.metadata),
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("control", &self.control).finish_non_exhaustive()
    }
}
