//! Reads as streams: the target sends no faster than the caller takes.

pub(crate) mod fields;
mod seen;

use std::marker::PhantomData;

use prost::bytes::Bytes;
use tonic::Streaming;

use crate::client::Client;
use crate::codec;
use crate::error::RequestError;
use crate::proto::p4::v1::entity::Entity as Kind;
use crate::proto::p4::v1::table_entry::IdleTimeout;
use crate::proto::p4::v1::{CounterData, DirectCounterEntry, Entity, ReadRequest, ReadResponse, TableEntry};
use crate::write::{Entry, encode_reader};

pub use fields::Malformed;
pub use seen::{Page, SeenEntry};
#[cfg(feature = "fake-target")]
pub(crate) use seen::{number, table_entry};

/// Some targets answer the read of a table in one message, which for a million entries has this order of size.
pub(crate) const LONGEST_MESSAGE: usize = 1 << 30;

/// Which entries to read, and what of them.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pattern: TableEntry,
}

impl Query {
    /// All entries of a table; of all tables for 0.
    pub fn table(table_id: u32) -> Self {
        Self { pattern: TableEntry { table_id, ..TableEntry::default() } }
    }

    /// The entry with the key of this one.
    pub fn entry(entry: &TableEntry) -> Self {
        let pattern = TableEntry {
            table_id: entry.table_id,
            r#match: entry.r#match.clone(),
            priority: entry.priority,
            is_default_action: entry.is_default_action,
            ..TableEntry::default()
        };
        Self { pattern }
    }

    /// With their direct counters.
    pub fn with_counters(mut self) -> Self {
        self.pattern.counter_data = Some(CounterData::default());
        self
    }

    /// With the time since their last hit. An error of the target in tables without idle timeouts.
    pub fn with_last_hit(mut self) -> Self {
        self.pattern.time_since_last_hit = Some(IdleTimeout::default());
        self
    }

    pub(crate) fn entity(self) -> Entity {
        Entity { entity: Some(Kind::TableEntry(self.pattern)) }
    }
}

/// Which entries to read of which the keys are known: encoded as they are named, in one request.
#[derive(Debug, Default)]
pub struct Lookup {
    body: Vec<u8>,
}

impl Lookup {
    /// The entry with the key of this one, with its direct counter and with the time since its last hit if it is to come with
    /// these.
    pub fn entry(&mut self, entry: &Entry<'_>, counters: bool, last_hit: bool) {
        entry.encode_pattern(counters, last_hit, &mut self.body);
    }

    /// What it asks for, as elements of `ReadRequest.entities`.
    pub fn encoded(&self) -> &[u8] {
        &self.body
    }
}

/// The answer to a [`Lookup`], as it comes.
pub struct Pages {
    messages: Streaming<Bytes>,
}

impl Pages {
    /// The next message's worth; none at the end. An answer that was cut short ends with an error, never with the end.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Page>, RequestError> {
        Ok(self.messages.message().await?.map(Page::from))
    }
}

/// What a stream of a read is of.
pub trait FromEntity: Sized {
    /// None if the entity is of another kind.
    fn from_entity(entity: Entity) -> Option<Self>;
}

impl FromEntity for Entity {
    fn from_entity(entity: Entity) -> Option<Self> {
        Some(entity)
    }
}

impl FromEntity for TableEntry {
    fn from_entity(entity: Entity) -> Option<Self> {
        match entity.entity {
            Some(Kind::TableEntry(entry)) => Some(entry),
            _ => None,
        }
    }
}

impl FromEntity for DirectCounterEntry {
    fn from_entity(entity: Entity) -> Option<Self> {
        match entity.entity {
            Some(Kind::DirectCounterEntry(entry)) => Some(entry),
            _ => None,
        }
    }
}

/// The answer to a read, as it comes.
pub struct Reading<T> {
    messages: Streaming<ReadResponse>,
    of: PhantomData<fn() -> T>,
}

impl<T: FromEntity> Reading<T> {
    /// The next message's worth; none at the end. An answer that was cut short ends with an error, never with the end.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, RequestError> {
        let message = self.messages.message().await?;
        Ok(message.map(|message| message.entities.into_iter().filter_map(T::from_entity).collect()))
    }

    /// Everything to the end.
    pub async fn all(mut self) -> Result<Vec<T>, RequestError> {
        let mut all = Vec::new();
        while let Some(mut some) = self.next().await? {
            all.append(&mut some);
        }
        Ok(all)
    }
}

impl Client {
    /// Reads entries of tables.
    pub async fn read(&self, query: Query) -> Result<Reading<TableEntry>, RequestError> {
        self.read_entities(vec![query.entity()]).await
    }

    /// Reads direct counters alone: of all entries of a table, or of one.
    pub async fn read_counters(&self, query: Query) -> Result<Reading<DirectCounterEntry>, RequestError> {
        let entry = DirectCounterEntry { table_entry: Some(query.pattern), data: None };
        self.read_entities(vec![Entity { entity: Some(Kind::DirectCounterEntry(entry)) }]).await
    }

    /// Reads whatever these patterns ask for.
    pub async fn read_entities<T: FromEntity>(&self, entities: Vec<Entity>) -> Result<Reading<T>, RequestError> {
        let config = &self.shared.config;
        let request = ReadRequest { device_id: config.device_id, role: config.role.name.clone(), entities };
        let messages = self.service()?.read(request).await?.into_inner();
        Ok(Reading { messages, of: PhantomData })
    }
    /// Reads the entries that these keys name; those that are not there are left out. An order is not promised.
    pub async fn look_up(&self, mut keys: Lookup) -> Result<Pages, RequestError> {
        let config = &self.shared.config;
        encode_reader(config.device_id, &config.role.name, &mut keys.body);
        let channel = self.shared.link.borrow().any()?;
        Ok(Pages { messages: codec::read(channel, keys.body.into(), LONGEST_MESSAGE).await? })
    }
}
