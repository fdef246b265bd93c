//! The file of vectors: entries of tables, and cases. Frames are in hexadecimal, without FCS.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

/// An entry of a table. Fields and parameters by their names in P4Info, values in hexadecimal.
#[derive(Clone, Deserialize, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub table: String,
    pub key: BTreeMap<String, String>,
    pub action: String,
    pub params: BTreeMap<String, String>,
}

/// What becomes of a packet.
#[derive(Clone, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Rewritten by a flow entry and sent to its next hop.
    Forward { port: u16, frame: String },
    /// Handed to the slow path; `frame` is the one in with the tag in front.
    Punt { why: String, port: u16, frame: String },
    /// Came from the slow path and sent on.
    Inject { port: u16, frame: String },
    /// Dropped, with the name of the reason.
    Drop(String),
}

/// A packet and what becomes of it.
#[derive(Clone, Deserialize, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// The port it comes by.
    pub port: u16,
    pub frame: String,
    pub outcome: Outcome,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vectors {
    #[serde(rename = "entry")]
    pub entries: Vec<Entry>,
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// The committed file.
pub fn read() -> Vectors {
    let path = crate::p4().join("vectors/vectors.toml");
    toml::from_str(&std::fs::read_to_string(path).expect("p4/vectors/vectors.toml")).expect("vectors")
}

fn inline(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = map.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// The file's text.
pub fn write(entries: &[Entry], cases: &[Case]) -> String {
    let mut text = String::from(
        "# Golden vectors of the P4 program: entries of its tables, and what becomes of packets then. Generated:\n\
         # UPDATE_P4=1 cargo test -p carom-p4\n\
         #\n\
         # Every case starts with these entries. A case is a frame (hexadecimal, without FCS) that comes by a port, and\n\
         # one outcome: forward, by a flow entry; punt, with its tag; inject, what the slow path sent; drop, with its reason.\n",
    );
    for Entry { table, key, action, params } in entries {
        let (key, params) = (inline(key), inline(params));
        writeln!(text, "\n[[entry]]\ntable = \"{table}\"\nkey = {key}\naction = \"{action}\"\nparams = {params}")
            .unwrap();
    }
    for Case { name, port, frame, outcome } in cases {
        writeln!(text, "\n[[case]]\nname = \"{name}\"\nport = {port}\nframe = \"{frame}\"").unwrap();
        match outcome {
            Outcome::Forward { port, frame } => {
                writeln!(text, "outcome.forward = {{ port = {port}, frame = \"{frame}\" }}")
            }
            Outcome::Punt { why, port, frame } => {
                writeln!(text, "outcome.punt = {{ why = \"{why}\", port = {port}, frame = \"{frame}\" }}")
            }
            Outcome::Inject { port, frame } => {
                writeln!(text, "outcome.inject = {{ port = {port}, frame = \"{frame}\" }}")
            }
            Outcome::Drop(reason) => writeln!(text, "outcome.drop = \"{reason}\""),
        }
        .unwrap();
    }
    text
}

/// Bytes as hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hexadecimal as bytes.
pub fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2) && hex.is_ascii(), "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}
