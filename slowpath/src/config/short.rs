//! Keys with a short form: a lone value where a table or a list could stand.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::bounds;
use super::value::{Duration, Endpoint};

/// A real server of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Server {
    /// Its address and port.
    pub address: Endpoint,
    /// Its share of new sessions; 0 drains it.
    pub weight: u16,
    /// Most sessions at a time, over all workers; 0 means no limit.
    pub max_connections: u32,
}

/// A real server in its long form. The short form is `"10.20.1.10:8080"`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Server")]
struct ServerTable {
    /// Its address and port.
    address: Endpoint,
    /// Its share of new sessions. 0 drains it: connections go on, none begins.
    #[serde(default = "one")]
    weight: u16,
    /// Most sessions at a time, over all workers; 0 means no limit.
    #[serde(default)]
    max_connections: u32,
}

fn one() -> u16 {
    1
}

/// Keeps all connections from one client, or client network, on one real server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Persistence {
    /// How long after its last new connection a client is remembered.
    pub timeout: Duration,
    /// Prefix length that makes one client network, for IPv4.
    pub prefix4: u8,
    /// Prefix length that makes one client network, for IPv6.
    pub prefix6: u8,
}

/// Persistence in its long form. The short form is the timeout alone: `"5m"`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Persistence")]
struct PersistenceTable {
    /// How long after its last new connection a client is remembered.
    #[serde(default = "five_minutes")]
    timeout: Duration,
    /// Clients that share so many leading bits of their IPv4 address go to one server.
    #[serde(default = "host4")]
    #[schemars(range(min = *bounds::PREFIX4.start(), max = *bounds::PREFIX4.end()))]
    prefix4: u8,
    /// Clients that share so many leading bits of their IPv6 address go to one server.
    #[serde(default = "host6")]
    #[schemars(range(min = *bounds::PREFIX6.start(), max = *bounds::PREFIX6.end()))]
    prefix6: u8,
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

fn host4() -> u8 {
    32
}

fn host6() -> u8 {
    128
}

/// Reads `Short` from text and `Long` from a table.
pub(super) struct TextOrTable<Short, Long> {
    expecting: &'static str,
    or_table: &'static str,
    types: PhantomData<(Short, Long)>,
}

impl<Short, Long> TextOrTable<Short, Long> {
    /// `expecting` is what a message says when it is neither.
    pub(super) fn new(expecting: &'static str) -> Self {
        TextOrTable { expecting, or_table: "", types: PhantomData }
    }

    /// What a message about a wrong text says of the table that could stand in its place.
    pub(super) fn or_table(self, or_table: &'static str) -> Self {
        TextOrTable { or_table, ..self }
    }
}

/// Either form of a value.
pub(super) enum Form<Short, Long> {
    Short(Short),
    Long(Long),
}

impl<'de, Short: Deserialize<'de>, Long: Deserialize<'de>> Visitor<'de> for TextOrTable<Short, Long> {
    type Value = Form<Short, Long>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let short: Result<Short, E> = Short::deserialize(StrDeserializer::new(text));
        short.map(Form::Short).map_err(|error| E::custom(format_args!("{error}{}", self.or_table)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Long::deserialize(MapAccessDeserializer::new(map)).map(Form::Long)
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = TextOrTable::<Endpoint, ServerTable>::new(
            "a server: \"address:port\" or { address = \"address:port\", weight = 1 }",
        );
        Ok(match deserializer.deserialize_any(visitor)? {
            Form::Short(address) => Server { address, weight: one(), max_connections: 0 },
            Form::Long(ServerTable { address, weight, max_connections }) => Server { address, weight, max_connections },
        })
    }
}

impl<'de> Deserialize<'de> for Persistence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = TextOrTable::<Duration, PersistenceTable>::new(
            "a timeout such as \"5m\", or { timeout = \"5m\", prefix4 = 24 }",
        );
        Ok(match deserializer.deserialize_any(visitor)? {
            Form::Short(timeout) => Persistence { timeout, prefix4: host4(), prefix6: host6() },
            Form::Long(PersistenceTable { timeout, prefix4, prefix6 }) => Persistence { timeout, prefix4, prefix6 },
        })
    }
}

/// Describes a value with a short form.
pub(super) fn either<Short: JsonSchema, Long: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let (long, short) = (generator.subschema_for::<Long>(), generator.subschema_for::<Short>());
    json_schema!({ "anyOf": [short, long] })
}

impl JsonSchema for Server {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServerOrAddress".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        either::<Endpoint, ServerTable>(generator)
    }
}

impl JsonSchema for Persistence {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PersistenceOrTimeout".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        either::<Duration, PersistenceTable>(generator)
    }
}

/// A value, or a list of values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(StrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        either::<T, Vec<T>>(generator)
    }
}
