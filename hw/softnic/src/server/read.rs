//! Reads: what is asked for is taken up a piece at a time, so that a long read keeps no writer waiting.

use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::{CounterEntry, DirectCounterEntry, Entity, Index, TableEntry};
use tonic::Status;

use super::error::status;
use crate::tables::{EntryError, Tables};

/// A table or counter, and how far the read of it has come.
enum Place {
    /// Entries of a table, from this number on.
    Entries { wanted: Box<TableEntry>, counters_only: bool, from: u32 },
    /// Cells of a counter, from this index on.
    Cells { id: u32, from: u32 },
    /// What was read at once.
    Found(Vec<Entity>),
}

/// What a request asks for and has not been given.
pub(super) struct Cursor(Vec<Place>);

impl Cursor {
    /// Looks at what is asked for.
    pub(super) fn new(entities: Vec<Entity>, tables: &mut Tables) -> Result<Cursor, Status> {
        let mut places = Vec::new();
        for entity in entities {
            match entity.entity {
                Some(Kind::TableEntry(wanted)) => entries(&mut places, tables, wanted, false)?,
                Some(Kind::DirectCounterEntry(counter)) => {
                    entries(&mut places, tables, counter.table_entry.unwrap_or_default(), true)?;
                }
                Some(Kind::CounterEntry(counter)) => cells(&mut places, tables, &counter)?,
                _ => return Err(Status::unimplemented("this target has tables and counters only")),
            }
        }
        places.reverse();
        Ok(Cursor(places))
    }

    /// The next ones, about so many; none at the end.
    pub(super) fn next(&mut self, tables: &Tables, most: usize) -> Vec<Entity> {
        let mut found = Vec::new();
        while let Some(place) = self.0.last_mut().filter(|_| found.len() < most) {
            let next = match place {
                Place::Found(entities) => {
                    found.append(entities);
                    None
                }
                Place::Entries { wanted, counters_only, from } => {
                    let show = |entry| found.push(entity(entry, *counters_only));
                    tables.read_from(wanted, *from, most, show).map(|next| *from = next)
                }
                Place::Cells { id, from } => {
                    let data = tables.counter(*id, *from);
                    found.extend(data.map(|data| cell(*id, *from, data)));
                    data.map(|_| *from += 1)
                }
            };
            if next.is_none() {
                self.0.pop();
            }
        }
        found
    }
}

fn entity(entry: TableEntry, counters_only: bool) -> Entity {
    if !counters_only {
        return Entity { entity: Some(Kind::TableEntry(entry)) };
    }
    let data = entry.counter_data;
    let table_entry = Some(TableEntry { action: None, counter_data: None, idle_timeout_ns: 0, ..entry });
    Entity { entity: Some(Kind::DirectCounterEntry(DirectCounterEntry { table_entry, data })) }
}

fn cell(counter_id: u32, index: u32, data: p4runtime_proto::p4::v1::CounterData) -> Entity {
    let index = Some(Index { index: i64::from(index) });
    Entity { entity: Some(Kind::CounterEntry(CounterEntry { counter_id, index, data: Some(data) })) }
}

fn entries(
    places: &mut Vec<Place>,
    tables: &mut Tables,
    mut wanted: TableEntry,
    counters_only: bool,
) -> Result<(), Status> {
    if counters_only {
        wanted.counter_data.get_or_insert_default();
    }
    if wanted.is_default_action {
        let default = tables.default_entry(wanted.table_id).map_err(status)?;
        places.push(Place::Found(default.map(|entry| entity(entry, false)).into_iter().collect()));
        return Ok(());
    }
    let counted = |id| tables.names().tables.iter().any(|table| table.id == id && table.counter.is_some());
    let asks_for_state = wanted.counter_data.is_some() || wanted.time_since_last_hit.is_some();
    if wanted.table_id == 0 {
        let all = tables.names().tables.iter().filter(|table| !counters_only || table.counter.is_some());
        for table_id in all.map(|table| table.id) {
            let wanted = Box::new(TableEntry { table_id, ..wanted.clone() });
            places.push(Place::Entries { wanted, counters_only, from: 0 });
        }
        return Ok(());
    }
    if !tables.names().by_id.contains_key(&wanted.table_id) {
        return Err(status(EntryError::Table));
    }
    if asks_for_state && !counted(wanted.table_id) {
        return Err(status(EntryError::State));
    }
    places.push(if wanted.r#match.is_empty() {
        Place::Entries { wanted: Box::new(wanted), counters_only, from: 0 }
    } else {
        let found = tables.read_one(&wanted).map_err(status)?;
        Place::Found(found.map(|entry| entity(entry, counters_only)).into_iter().collect())
    });
    Ok(())
}

fn cells(places: &mut Vec<Place>, tables: &Tables, wanted: &CounterEntry) -> Result<(), Status> {
    let unknown = || Status::invalid_argument("there is no such counter");
    match (wanted.counter_id, wanted.index) {
        (0, _) => places.extend(tables.names().counters.iter().map(|counter| Place::Cells { id: counter.id, from: 0 })),
        (id, None) => {
            tables.counter(id, 0).ok_or_else(unknown)?;
            places.push(Place::Cells { id, from: 0 });
        }
        (id, Some(index)) => {
            tables.counter(id, 0).ok_or_else(unknown)?;
            let index = u32::try_from(index.index).map_err(|_| Status::out_of_range("there is no such cell"))?;
            let data = tables.counter(id, index).ok_or_else(|| Status::out_of_range("there is no such cell"))?;
            places.push(Place::Found(vec![cell(id, index, data)]));
        }
    }
    Ok(())
}
