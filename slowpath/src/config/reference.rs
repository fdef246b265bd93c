//! The config described for programs (JSON Schema) and for people (Markdown), both from the types.

use super::types::File;

/// The JSON Schema of the config file, as text.
pub fn schema() -> String {
    let schema = schemars::schema_for!(File);
    // A schema is a JSON value already; writing one to text cannot fail.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
