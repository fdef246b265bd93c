//! What p4c's p4testgen found the program for Tofino to do, by symbolic execution (`scripts/p4-testgen`), on the model of its
//! engines: each packet with the flow entry and the next hop that were found for it.
//!
//! The lines are those of p4c's STF: `add TABLE FIELD:VALUE .. ACTION(PARAMETER:VALUE,..)`, `packet PORT BYTES`, and
//! `expect PORT BYTES$`, where a star is half a byte that p4testgen does not know: it computes no checksums.

use std::collections::BTreeMap;

use crate::file::{Entry, Vectors, bytes, hex};
use crate::tna::Model;

/// Entries, a packet, and what is expected of it.
#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    packet: String,
    expected: String,
}

/// `name:0xVALUE` with separators between.
fn values<'a>(pairs: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once(":0x").expect("a name and a value");
        (name.to_owned(), value.to_lowercase())
    };
    pairs.map(pair).collect()
}

fn entry(line: &str) -> Entry {
    let (key, params) = line.strip_suffix(')').and_then(|line| line.split_once('(')).expect("parameters");
    let mut key: Vec<_> = key.split_whitespace().collect();
    let action = key.pop().expect("an action").to_owned();
    let table = key.remove(0).to_owned();
    Entry { table, key: values(key.into_iter()), action, params: values(params.split(',')) }
}

fn read() -> Vec<Found> {
    let text = std::fs::read_to_string(crate::p4().join("vectors/testgen.stf")).expect("p4/vectors/testgen.stf");
    let mut all = Vec::new();
    let mut found = Found::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("add", rest)) => found.entries.push(entry(rest)),
            Some(("packet", rest)) => found.packet = rest.split_once(' ').expect("a port").1.to_lowercase(),
            Some(("expect", rest)) => {
                found.expected = rest.split_once(' ').expect("a port").1.trim_end_matches('$').to_lowercase();
                all.push(std::mem::take(&mut found));
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    all
}

#[test]
fn tofino_does_what_p4testgen_found() {
    let model = Model::new();
    let found = read();
    let mut unknown = 0;
    let mut actions = BTreeMap::new();
    for Found { entries, packet, expected } in found {
        *actions.entry(entries[0].action.clone()).or_insert(0) += 1;
        let vectors = Vectors { entries, cases: Vec::new() };
        let out = hex(&model.forward(&vectors, bytes(&packet)));
        assert_eq!(out.len(), expected.len(), "{packet}");
        // Half bytes that p4testgen knows; the checksums are compared with RFC 1624 elsewhere.
        let known: String = out.chars().zip(expected.chars()).map(|(out, x)| if x == '*' { x } else { out }).collect();
        assert_eq!(known, expected, "{packet}");
        unknown += expected.matches("****").count();
    }
    assert_eq!(actions.keys().collect::<Vec<_>>(), ["rewrite_seq_v4", "rewrite_seq_v6", "rewrite_v4", "rewrite_v6"]);
    assert!(unknown > 0 && actions.values().sum::<usize>() >= 10, "{actions:?}");
}
