//! The schema and the reference are what the types say now.

use std::collections::BTreeSet;

use carom::config;
use serde_json::Value;

use crate::{read, root};

/// Compares a committed file with what is generated now; with UPDATE_DOCS=1 writes it instead.
fn fresh(file: &str, generated: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).is_ok_and(|committed| committed == generated),
        "{file} is stale; run: UPDATE_DOCS=1 cargo test -p carom --test config"
    );
}

#[test]
fn the_reference_is_fresh() {
    fresh("docs/src/configuration.md", &config::reference_markdown());
}

#[test]
fn the_schema_is_fresh() {
    fresh("docs/src/config.schema.json", &config::schema());
}

#[test]
fn the_reference_and_the_schema_of_softnic_are_fresh() {
    fresh("docs/src/softnic-configuration.md", &config::softnic_reference_markdown());
    fresh("docs/src/softnic.schema.json", &config::softnic_schema());
}

/// All keys a schema has, at any depth.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn the_configs_of_everything_have_every_key() {
    for (schema, file, most) in
        [(config::schema(), "good/everything.toml", 50), (config::softnic_schema(), "softnic/everything.toml", 15)]
    {
        let mut found = BTreeSet::new();
        keys(&serde_json::from_str(&schema).unwrap(), &mut found);
        assert!(found.len() > most);
        let text = read(&root().join("slowpath/tests/configs").join(file));
        let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let missing: Vec<_> = found.iter().filter(|key| !words.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "not in {file}: {missing:?}");
    }
}

#[test]
fn every_key_is_described() {
    fn check(at: &str, schema: &Value) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].as_str().is_some_and(|d| !d.is_empty()), "{at}.{key} has no description");
            assert!(!property["description"].as_str().unwrap().contains("[`"), "{at}.{key} has a link of rustdoc");
        }
    }
    for schema in [config::schema(), config::softnic_schema()] {
        let schema: Value = serde_json::from_str(&schema).unwrap();
        check("", &schema);
        schema["$defs"].as_object().unwrap().iter().for_each(|(name, definition)| check(name, definition));
    }
}
