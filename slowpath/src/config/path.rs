//! Paths of keys, and where in the text they are.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The path of a key, e.g. `service[0].servers[1].address`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct KeyPath(Vec<Step>);

/// One step of a path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The whole file.
    pub fn root() -> Self {
        KeyPath::default()
    }

    /// A key of the file.
    pub fn key(name: &str) -> Self {
        KeyPath::root().join(name)
    }

    /// The key `name` below this one.
    pub fn join(&self, name: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(name.to_owned()));
        path
    }

    /// The item `index` of the list at this path.
    pub fn item(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// The same path below the key `name`.
    pub fn prepend_key(&mut self, name: &str) {
        self.0.insert(0, Step::Key(name.to_owned()));
    }

    /// The same path below the item `index`.
    pub fn prepend_index(&mut self, index: usize) {
        self.0.insert(0, Step::Index(index));
    }
}

/// Where everything stands in a config file.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// By path: the value's place in the text. Of a table it is its header.
    spans: HashMap<KeyPath, Range<usize>>,
    /// By path: the `name` that stands in the table there.
    names: HashMap<KeyPath, String>,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Places {
    /// The places of a document that parsed.
    pub fn of(text: &str, document: &DeTable<'_>) -> Self {
        let mut places = Places::of_text(text);
        places.walk_table(&KeyPath::root(), document);
        places
    }

    /// Only the lines of a text that may not parse.
    pub fn of_text(text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Places { lines, ..Places::default() }
    }

    fn walk_table(&mut self, path: &KeyPath, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let below = path.join(key.get_ref());
            if let ("name", Some(name)) = (key.get_ref().as_ref(), value.get_ref().as_str()) {
                self.names.insert(path.clone(), name.to_owned());
            }
            self.walk(below, value);
        }
    }

    fn walk(&mut self, path: KeyPath, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.walk_table(&path, table),
            DeValue::Array(items) => items.iter().enumerate().for_each(|(i, item)| self.walk(path.item(i), item)),
            _ => {}
        }
        self.spans.insert(path, value.span());
    }

    /// Line and column, from 1, of a place in the text. Columns count characters.
    pub fn line(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        (line, text.get(start..offset).map_or(0, |before| before.chars().count()) + 1)
    }

    /// The place of the value at `path`, or of the nearest table it is missing from.
    pub fn span(&self, path: &KeyPath) -> usize {
        let mut path = path.clone();
        loop {
            if let Some(span) = self.spans.get(&path) {
                return span.start;
            }
            if path.0.pop().is_none() {
                return 0;
            }
        }
    }

    /// The path with the operator's names instead of numbers: `service[web].listen`.
    pub fn name(&self, path: &KeyPath) -> String {
        let mut text = String::new();
        for (i, step) in path.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => text.push_str(key),
                Step::Key(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Step::Index(index) => {
                    let here = KeyPath(path.0[..=i].to_vec());
                    text.push('[');
                    match self.names.get(&here) {
                        Some(name) => text.push_str(name),
                        None => text.push_str(&index.to_string()),
                    }
                    text.push(']');
                }
            }
        }
        text
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Places::default().name(self))
    }
}
