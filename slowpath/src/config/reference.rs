//! The config described for programs (JSON Schema) and for people (Markdown), both from the types.

use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::softnic::SoftnicFile;
use super::types::File;

/// The JSON Schema of the config file, as text.
pub fn schema() -> String {
    format!("{:#}\n", document::<File>())
}

/// The JSON Schema of the config file of `carom softnic`, as text.
pub fn softnic_schema() -> String {
    format!("{:#}\n", document::<SoftnicFile>())
}

/// The schema of a file as a value, in the words of TOML.
fn document<T: JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    without_null(&mut schema);
    schema
}

/// TOML has no null: a key that may be absent is only left out. And a description is text that flows.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, value| !(key == "default" && value.is_null()));
            if let Some(Value::Object(defaults)) = map.get_mut("default") {
                defaults.retain(|_, value| !value.is_null());
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    map.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(forms)) = map.get_mut("anyOf") {
                forms.retain(|form| form["type"] != "null");
                if let [Value::Object(only)] = &forms[..] {
                    let only = only.clone();
                    map.shift_remove("anyOf");
                    map.extend(only);
                }
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace("\n\n", "\u{0}").replace('\n', " ").replace('\u{0}', "\n\n");
            }
            map.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the types in slowpath/src/config. To change it, change their comments, then run
     `UPDATE_DOCS=1 cargo test -p carom --test config`. -->

Carom reads one [TOML](https://toml.io) file. This is a whole one; everything else has a default:

```toml
";

const AFTER_EXAMPLE: &str = "```

`carom check -c carom.toml` checks a file without starting anything. It prints one line for each problem, with line, column,
key and the mend, and exits with 2; the same checks run at start and at every reload. Unknown keys are errors. What is allowed
but probably not meant is a warning, and changes no exit code. `carom schema` prints the [JSON Schema](config.schema.json) of
the file, which editors with TOML support complete and check against.

On SIGHUP Carom reads the file again. Services, servers, pools, routes, interface addresses, timeouts, the quarantine and the
offload policy change in place and break no connection that is still served. What says *needs a restart* below is refused
with the name of the key, and then nothing at all changes.

";

const SOFTNIC_INTRODUCTION: &str = "\
# Configuration of carom softnic

<!-- Generated from the types in slowpath/src/config. To change it, change their comments, then run
     `UPDATE_DOCS=1 cargo test -p carom --test config`. -->

The config file of [a software switch in a process of its own](softnic.md#as-a-process-of-its-own):

```toml
";

const SOFTNIC_AFTER_EXAMPLE: &str = "```

`carom check --softnic -c FILE` checks a file without starting anything; `carom schema --softnic` prints the
[JSON Schema](softnic.schema.json). Changes need a restart.

";

/// The configuration reference: `docs/src/configuration.md`.
pub fn reference_markdown() -> String {
    page(&document::<File>(), &[INTRODUCTION, include_str!("../../../examples/carom.toml"), AFTER_EXAMPLE])
}

/// The reference of the file of `carom softnic`: `docs/src/softnic-configuration.md`.
pub fn softnic_reference_markdown() -> String {
    let example = include_str!("../../../examples/softnic/switch.toml");
    page(&document::<SoftnicFile>(), &[SOFTNIC_INTRODUCTION, example, SOFTNIC_AFTER_EXAMPLE])
}

/// The page of a schema, which begins with these texts.
fn page(schema: &Value, beginning: &[&str]) -> String {
    let mut page = Page { schema, text: beginning.concat() };
    page.values();
    for (key, property) in properties(schema) {
        page.section(key, property);
    }
    // One newline at the end of the file.
    page.text.trim_end().to_owned() + "\n"
}

/// The page as it is written.
struct Page<'a> {
    schema: &'a Value,
    text: String,
}

impl<'a> Page<'a> {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// The values that are written as text.
    fn values(&mut self) {
        self.line("## Values\n\nBesides TOML's own numbers, texts and lists:\n");
        self.line("| Value | Written as text | Examples |\n|---|---|---|");
        let definitions = self.schema["$defs"].as_object().into_iter().flatten();
        for (name, definition) in definitions.filter(|(_, d)| d["type"] == "string" && d["examples"].is_array()) {
            let examples = definition["examples"].as_array().into_iter().flatten();
            let examples: Vec<String> = examples.map(|e| format!("`{e}`")).collect();
            let row = format!("| {} | {} | {} |", words(name), description(definition), examples.join(", "));
            self.line(&row);
        }
        self.line("");
    }

    /// One key of the file, with the tables below it.
    fn section(&mut self, key: &str, property: &'a Value) {
        let many = property["type"] == "array";
        let table = self.resolve(if many { &property["items"] } else { property });
        let heading = if many { format!("[[{key}]]") } else { format!("[{key}]") };
        let _ = writeln!(self.text, "## `{heading}`\n\n{}\n", description(property));
        if many {
            let _ = writeln!(self.text, "{}\n", description(table));
        }
        self.table(table);
        for (below, property) in properties(table) {
            self.subsection(key, many, below, property);
        }
    }

    /// A table inside a section.
    fn subsection(&mut self, section: &str, many: bool, key: &str, property: &'a Value) {
        let Some(table) = self.table_of(property) else { return };
        let heading = if many { format!("`{key}` of `[[{section}]]`") } else { format!("`[{section}.{key}]`") };
        let _ = writeln!(self.text, "### {heading}\n\n{}\n", description(table));
        let same = self.resolve(&self.schema["properties"][key]);
        if properties(table).map(|(k, _)| k).eq(properties(same).map(|(k, _)| k)) {
            let _ = writeln!(self.text, "The keys are those of `[{key}]`.\n");
            return;
        }
        self.table(table);
    }

    /// The keys of a table.
    fn table(&mut self, table: &'a Value) {
        self.line("| Key | Value | Default | Meaning |\n|---|---|---|---|");
        let required: Vec<&str> =
            table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, property) in properties(table) {
            let default = match &property["default"] {
                _ if required.contains(&key) => "*needed*".to_owned(),
                Value::Null | Value::Object(_) => String::new(),
                Value::Array(items) if items.is_empty() => String::new(),
                value => format!("`{value}`"),
            };
            let (kind, meaning) = (self.kind(property), self.meaning(property));
            let row = format!("| `{key}` | {} | {default} | {} |", cell(&kind), cell(&meaning));
            self.line(&row);
        }
        self.line("");
    }

    /// The description, with that of each name where a value is one of several.
    fn meaning(&self, property: &'a Value) -> String {
        let mut text = description(property).to_owned();
        for choice in self.resolve(property)["oneOf"].as_array().into_iter().flatten() {
            let _ = write!(text, "<br>`{}`: {}", choice["const"], description(choice));
        }
        text
    }

    /// What kind of value a key has.
    fn kind(&self, schema: &'a Value) -> String {
        if let Some(forms) = schema["anyOf"].as_array() {
            return forms.iter().map(|form| self.kind(form)).collect::<Vec<_>>().join(", or ");
        }
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap_or(name);
            let target = self.resolve(schema);
            return match () {
                () if target["anyOf"].is_array() => self.kind(target),
                () if target["oneOf"].is_array() => "a name".into(),
                () if target["type"] == "object" => "a table".into(),
                () => format!("[{}](#values)", words(name)),
            };
        }
        match schema["type"].as_str() {
            Some("array") => format!("list: {}", self.kind(&schema["items"])),
            Some("object") => format!("table: address = {}", self.kind(&schema["additionalProperties"])),
            Some("boolean") => "true or false".into(),
            Some("integer") => match (&schema["minimum"], &schema["maximum"]) {
                (min, Value::Number(max)) => format!("number, {min} to {max}"),
                _ => "number".into(),
            },
            _ => "text".into(),
        }
    }

    /// The table a value is, or can be, or is a list of.
    fn table_of(&self, schema: &'a Value) -> Option<&'a Value> {
        let schema = if schema["type"] == "array" { &schema["items"] } else { schema };
        let target = self.resolve(schema);
        let forms = target["anyOf"].as_array().into_iter().flatten().map(|form| self.resolve(form));
        std::iter::once(target).chain(forms).find(|form| form["properties"].is_object())
    }

    /// What a `$ref` stands for.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => self.schema.pointer(pointer).unwrap_or(schema),
            None => schema,
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema["properties"].as_object().into_iter().flat_map(Map::iter).map(|(key, property)| (key.as_str(), property))
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// A type's name as words: `AddressRange` is "address range".
fn words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

/// Text inside a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
