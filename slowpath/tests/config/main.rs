//! The config file: what is accepted, what is refused and in which words, what it is compiled to, and its reference.

mod command;
mod compile;
mod docs;
mod files;
mod noise;
mod reload;
mod schema;
mod softnic;
mod values;

use std::path::{Path, PathBuf};

use carom::config::{self, Config, Refused};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All config files of a directory, in order.
fn files(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Parses a text under the name `carom.toml`.
fn parse(text: &str) -> Result<Config, Refused> {
    config::parse(text, Path::new("carom.toml"))
}

/// A config with an interface, a pool and the given rest.
fn with(rest: &str) -> String {
    format!(
        "[[interface]]\nname = \"wan\"\ndevice = \"null\"\naddresses = [\"10.10.0.2/24\", \"fd10::2/64\"]\n\
         gateway = [\"10.10.0.1\", \"fd10::1\"]\n\
         [[pool]]\nname = \"snat\"\naddresses = [\"10.10.0.100-10.10.0.103\", \"fd10::100/126\"]\n{rest}"
    )
}

/// One service with these servers.
fn service(name: &str, listen: &str, servers: &[&str]) -> String {
    format!("[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\nservers = {servers:?}\n")
}
