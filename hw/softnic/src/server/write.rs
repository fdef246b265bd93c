//! A batch of updates.

use std::collections::HashSet;

use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::update::Type;
use p4runtime_proto::p4::v1::{CounterEntry, DirectCounterEntry, Error, TableEntry, Update};
use runtime_client::EntryKey;
use tonic::Code;

use super::error::refusal;
use crate::tables::{EntryError, Tables};

/// Applies updates to tables.
///
/// In a batch that inserts too, entries are deleted at the end, so that no insertion has to wait until the number of a
/// deleted entry is free; but before an update of the same key, and before a table is called full. Updates of a batch have
/// no order in the standard.
pub(super) struct Batch<'a> {
    tables: &'a mut Tables,
    is_mixed: bool,
    deletions: Vec<TableEntry>,
    deleted: HashSet<EntryKey>,
}

impl<'a> Batch<'a> {
    /// For these updates, to be applied in order.
    pub(super) fn new(tables: &'a mut Tables, updates: &[Update]) -> Batch<'a> {
        let any = |kind: Type| updates.iter().any(|update| update.r#type() == kind);
        Batch {
            tables,
            is_mixed: any(Type::Insert) && any(Type::Delete),
            deletions: Vec::new(),
            deleted: HashSet::new(),
        }
    }

    /// Applies one update.
    pub(super) fn apply(&mut self, update: Update) -> Result<(), Error> {
        let kind = Type::try_from(update.r#type).unwrap_or_default();
        match update.entity.and_then(|entity| entity.entity) {
            _ if kind == Type::Unspecified => Err(refusal(Code::InvalidArgument, "an update needs a type")),
            Some(Kind::TableEntry(entry)) if entry.is_default_action => {
                Err(refusal(Code::PermissionDenied, "default actions are constant"))
            }
            Some(Kind::TableEntry(entry)) => Ok(self.entry(kind, entry)?),
            Some(Kind::DirectCounterEntry(counter)) => self.direct_counter(kind, counter),
            Some(Kind::CounterEntry(counter)) => self.counter(kind, &counter),
            _ => Err(refusal(Code::Unimplemented, "this target has tables and counters only")),
        }
    }

    fn entry(&mut self, kind: Type, entry: TableEntry) -> Result<(), EntryError> {
        if !self.deleted.is_empty() && self.deleted.contains(&EntryKey::of(&entry)) {
            self.delete_all()?;
        }
        match kind {
            Type::Delete if !self.is_mixed => self.tables.delete(&entry),
            Type::Insert => match self.tables.insert(&entry) {
                Err(EntryError::Full) if !self.deletions.is_empty() => {
                    self.delete_all()?;
                    self.tables.insert(&entry)
                }
                result => result,
            },
            Type::Modify => self.tables.modify(&entry),
            _ => {
                if !self.tables.contains(&entry)? {
                    return Err(EntryError::Missing);
                }
                self.deleted.insert(EntryKey::of(&entry));
                self.deletions.push(entry);
                Ok(())
            }
        }
    }

    fn delete_all(&mut self) -> Result<(), EntryError> {
        self.deleted.clear();
        self.deletions.drain(..).try_for_each(|entry| self.tables.delete(&entry))
    }

    fn direct_counter(&mut self, kind: Type, counter: DirectCounterEntry) -> Result<(), Error> {
        let entry = counter.table_entry.unwrap_or_default();
        match kind {
            Type::Modify => Ok(self.tables.set_direct_counter(&entry, &counter.data.unwrap_or_default())?),
            _ => Err(refusal(Code::InvalidArgument, "counters are modified")),
        }
    }

    fn counter(&mut self, kind: Type, counter: &CounterEntry) -> Result<(), Error> {
        let index = counter.index.and_then(|index| u32::try_from(index.index).ok());
        let data = counter.data.unwrap_or_default();
        match (kind, index) {
            (Type::Modify, Some(index)) if self.tables.set_counter(counter.counter_id, index, &data) => Ok(()),
            (Type::Modify, _) => Err(refusal(Code::OutOfRange, "there is no such counter")),
            _ => Err(refusal(Code::InvalidArgument, "counters are modified")),
        }
    }

    /// Makes all of it seen by packets.
    pub(super) fn finish(mut self) -> Result<(), EntryError> {
        self.delete_all()?;
        self.tables.publish()
    }
}
