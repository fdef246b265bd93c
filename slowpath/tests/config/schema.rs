//! The JSON Schema and the parser agree: what the one takes for wrong the other does too, as far as a schema can tell.

use carom::config;
use serde_json::Value;

use crate::{files, read};

/// The parts of JSON Schema that ours uses. Any other keyword fails the test, so that none is passed over.
struct Schema(Value);

impl Schema {
    fn new() -> Self {
        Schema(serde_json::from_str(&config::schema()).unwrap())
    }

    fn fits(&self, value: &Value, schema: &Value) -> bool {
        schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
            "$ref" => self.fits(value, self.0.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap()),
            "type" => has_type(value, rule.as_str().unwrap()),
            "const" => value == rule,
            "anyOf" => rule.as_array().unwrap().iter().any(|form| self.fits(value, form)),
            "oneOf" => rule.as_array().unwrap().iter().filter(|form| self.fits(value, form)).count() == 1,
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| self.fits(item, rule))),
            "properties" => value.as_object().is_none_or(|table| {
                table.iter().all(|(key, value)| rule.get(key).is_none_or(|rule| self.fits(value, rule)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|table| {
                let other = table.iter().filter(|(key, _)| schema["properties"].get(key).is_none());
                other.into_iter().all(|(_, value)| *rule != Value::Bool(false) && self.fits(value, rule))
            }),
            "required" => value.as_object().is_none_or(|table| {
                rule.as_array().unwrap().iter().all(|key| table.contains_key(key.as_str().unwrap()))
            }),
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "description" | "title" | "default" | "examples" | "format" | "$schema" | "$defs" => true,
            other => panic!("the schema uses {other}, which this test does not know"),
        })
    }

    /// Whether a config fits; `None` when it is not TOML.
    fn takes(&self, text: &str) -> Option<bool> {
        Some(self.fits(&toml::from_str(text).ok()?, &self.0))
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the schema has the type {other}, which this test does not know"),
    }
}

#[test]
fn the_schema_takes_what_the_parser_takes() {
    let schema = Schema::new();
    for path in files("slowpath/tests/configs/good").into_iter().chain(files("examples")) {
        assert_eq!(schema.takes(&read(&path)), Some(true), "{}", path.display());
    }
}

#[test]
fn the_schema_refuses_wrong_keys_types_and_numbers() {
    let schema = Schema::new();
    let seen_by_a_schema = [
        "unknown-section",
        "unknown-key",
        "unknown-key-in-server",
        "unknown-key-elsewhere",
        "missing-key",
        "wrong-type",
        "table-for-list",
        "number-too-large",
        "negative-number",
        "scheduler-unknown",
        "enum-wrong-type",
        "duration-as-number",
        "workers-zero",
        "sessions-too-many",
        "persistence-prefix-too-long",
        "target-kind-unknown",
        "target-device-id-zero",
        "target-link-without-port",
        "target-link-port-too-large",
        "target-interface-port-too-large",
        "target-policy-unknown",
        "target-policy-zero",
        "target-punt-rate-zero",
    ];
    let wrong = files("slowpath/tests/configs/wrong");
    for name in seen_by_a_schema {
        let path = wrong.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name)).unwrap();
        assert_eq!(schema.takes(&read(path)), Some(false), "{name}");
    }
}
