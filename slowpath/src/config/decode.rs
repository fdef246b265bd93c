//! Reads the types from a parsed document, with errors that know their key and place.
//!
//! `toml`'s own deserializer gives an error's place, but not its key, and flattens "unknown field" to a text. This one
//! keeps the parts, so that the message can be written for the operator.

use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::path::KeyPath;

/// Why a document is not a config.
#[derive(Debug)]
pub(super) struct DecodeError {
    /// The key it is about.
    pub path: KeyPath,
    /// Its place in the text, when it is not simply that of the key's value.
    pub span: Option<Range<usize>>,
    /// What is wrong and the mend.
    pub message: String,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        DecodeError { path: KeyPath::root(), span: None, message: message.to_string() }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        if unexpected == Unexpected::Map && expected.to_string() == "a sequence" {
            return Self::custom("is one table, but there can be several; write its header with double brackets [[ ]]");
        }
        Self::custom(format!("is {}, but must be {}", found(unexpected), wanted(expected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format!("is {}, but must be {}", found(unexpected), wanted(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mean = nearest(variant, expected.iter().copied())
            .map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
        Self::custom(format!("\"{variant}\" is not one of {}{mean}", expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(match nearest(field, expected.iter().copied()) {
            Some(near) => format!("unknown key, did you mean \"{near}\"?"),
            None => format!("unknown key; the keys here are {}", expected.join(", ")),
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("needs the key \"{field}\"; add it"))
    }
}

/// The known word nearest to `word`, when one is near.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|k| (strsim::jaro_winkler(k, &word.to_lowercase()), k)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (near.0 > 0.8).then_some(near.1)
}

/// What stands in the file.
fn found(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Str(text) => format!("the text \"{text}\""),
        Unexpected::Bool(value) => format!("{value}"),
        Unexpected::Unsigned(value) => format!("{value}"),
        Unexpected::Signed(value) => format!("{value}"),
        Unexpected::Float(value) => format!("{value}"),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a table".into(),
        Unexpected::Other(text) => text.into(),
        other => other.to_string(),
    }
}

/// What serde expects, in the operator's words.
fn wanted(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let max: u64 = match text.as_str() {
        "u8" => u8::MAX.into(),
        "u16" => u16::MAX.into(),
        "u32" => u32::MAX.into(),
        "u64" => i64::MAX as u64,
        "a string" | "path string" => return "text in quotes".into(),
        "a boolean" => return "true or false".into(),
        "a sequence" => return "a list [ … ]".into(),
        other if other.starts_with("struct ") => return "a table".into(),
        other if other.ends_with(" as text") => {
            return format!("text in quotes: {}", other.trim_end_matches(" as text"));
        }
        _ => return text,
    };
    format!("a whole number from 0 to {max}")
}

/// A value of the document as serde reads it.
pub(super) struct Value<'a, 'i>(pub &'a Spanned<DeValue<'i>>);

impl<'de> serde::Deserializer<'de> for Value<'_, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let span = self.0.span();
        match self.0.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(number) => integer(number, visitor),
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(DecodeError::custom("is a number out of range")),
            },
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Datetime(_) => Err(DecodeError::invalid_type(Unexpected::Other("a date or time"), &visitor)),
            DeValue::Array(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            DeValue::Table(table) => visitor.visit_map(Entries::new(table)),
        }
        .map_err(|mut error| {
            error.span.get_or_insert(span);
            error
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let error = match self.0.get_ref() {
            DeValue::String(text) => match visitor.visit_enum(Name(text)) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
            other => {
                DecodeError::custom(format!("is {}, but must be one of {}", type_name(other), variants.join(", ")))
            }
        };
        Err(DecodeError { span: Some(self.0.span()), ..error })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The whole document as serde reads it.
pub(super) struct Table<'a, 'i>(pub &'a DeTable<'i>);

impl<'de> serde::Deserializer<'de> for Table<'_, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_map(Entries::new(self.0))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What kind of value it is, with its article.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// TOML's integers are 64 bits with a sign.
fn integer<'de, V: Visitor<'de>>(number: &DeInteger<'_>, visitor: V) -> Result<V::Value, DecodeError> {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => visitor.visit_i64(number),
        Err(_) => Err(DecodeError::custom(format!("{number} is too large for a number"))),
    }
}

/// The items of a list.
struct Items<'a, 'i> {
    items: std::slice::Iter<'a, Spanned<DeValue<'i>>>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Value(item)).map(Some).map_err(|mut error| {
            error.path.prepend_index(index);
            error
        })
    }
}

/// The entries of a table.
struct Entries<'a, 'i> {
    entries: toml::map::Iter<'a, Spanned<std::borrow::Cow<'i, str>>, Spanned<DeValue<'i>>>,
    value: Option<(&'a str, &'a Spanned<DeValue<'i>>)>,
}

impl<'a, 'i> Entries<'a, 'i> {
    fn new(table: &'a DeTable<'i>) -> Self {
        Entries { entries: table.iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let name: &str = key.get_ref();
        self.value = Some((name, value));
        let deserializer: StrDeserializer<'_, DecodeError> = name.into_deserializer();
        seed.deserialize(deserializer).map(Some).map_err(|mut error| {
            error.path.prepend_key(name);
            error.span = Some(key.span());
            error
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let Some((name, value)) = self.value.take() else {
            return Err(DecodeError::custom("value asked for before its key"));
        };
        seed.deserialize(Value(value)).map_err(|mut error| {
            error.span.get_or_insert_with(|| value.span());
            error.path.prepend_key(name);
            error
        })
    }
}

/// The name of an enum's variant.
struct Name<'a>(&'a str);

impl<'de> EnumAccess<'de> for Name<'_> {
    type Error = DecodeError;
    type Variant = UnitOnly;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, UnitOnly), DecodeError> {
        let deserializer: StrDeserializer<'_, DecodeError> = self.0.into_deserializer();
        Ok((seed.deserialize(deserializer)?, UnitOnly))
    }
}

/// A variant without content: the only kind the config has.
struct UnitOnly;

impl<'de> VariantAccess<'de> for UnitOnly {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, DecodeError> {
        Err(DecodeError::custom("must be a name alone"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("must be a name alone"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("must be a name alone"))
    }
}
