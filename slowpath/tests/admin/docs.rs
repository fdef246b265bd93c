//! Pages of the book that are generated from the program, and names in it that must exist.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use carom::api::metrics::{self, Kind};
use carom::cli::Arguments;
use clap::CommandFactory;
use fullnat::reason::DropReason;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a committed page with what is generated now; with UPDATE_DOCS=1 writes it instead.
fn fresh(file: &str, generated: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).is_ok_and(|committed| committed == generated),
        "{file} is stale; run: UPDATE_DOCS=1 cargo test -p carom --test admin"
    );
}

const GENERATED: &str = "<!-- Generated from the program: UPDATE_DOCS=1 cargo test -p carom --test admin -->";

#[test]
fn the_page_of_drop_reasons_is_fresh() {
    let mut page = format!(
        "# Drop reasons\n\n{GENERATED}\n\n\
         Every packet that is not sent on, answered or handed over is counted with one of these, by worker. The numbers and\n\
         names never change. `carom drops` shows those that happened, `carom drops --all` all of them; the metric is\n\
         `carom_dropped_packets_total`.\n\n| number | name | what happened |\n|---|---|---|\n"
    );
    for &reason in DropReason::ALL {
        writeln!(page, "| {} | `{}` | {} |", reason as u8, reason.name(), reason.text()).unwrap();
    }
    fresh("docs/src/drops.md", &page);
}

#[test]
fn the_page_of_metrics_is_fresh() {
    let mut page = format!(
        "# Metrics\n\n{GENERATED}\n\n\
         Prometheus text at `http://ADDRESS/metrics` when `metrics.listen` gives an address, and always on the admin socket. A\n\
         scrape reads counters and asks no worker. Bytes include the Ethernet header and exclude the FCS.\n\n\
         | metric | labels | what it says |\n|---|---|---|\n"
    );
    for metric in metrics::all() {
        let labels: Vec<_> = metric.labels.split_whitespace().map(|l| format!("`{l}`")).collect();
        let kind = if metric.kind == Kind::Gauge { " (gauge)" } else { "" };
        writeln!(page, "| `{}`{kind} | {} | {} |", metric.name, labels.join(", "), metric.help).unwrap();
    }
    fresh("docs/src/metrics.md", &page);
}

#[test]
fn every_command_and_option_is_described() {
    let page = std::fs::read_to_string(root().join("docs/src/commands.md")).unwrap();
    for command in Arguments::command().get_subcommands() {
        let name = command.get_name();
        assert!(page.contains(&format!("`carom {name}")), "carom {name} is not in commands.md");
        if name == "sessions" {
            for option in command.get_arguments().filter_map(|a| a.get_long()) {
                assert!(page.contains(&format!("--{option}")), "carom sessions --{option} is not in commands.md");
            }
        }
    }
}

/// Names in backquotes on the page that look like drop reasons or metrics must be some.
#[test]
fn names_in_the_book_exist() {
    let metrics: Vec<_> = metrics::all().iter().map(|m| m.name).collect();
    for page in ["operations.md", "troubleshooting.md", "commands.md", "decisions/client-address.md"] {
        let text = std::fs::read_to_string(root().join("docs/src").join(page)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            if word.starts_with("carom_") {
                assert!(metrics.contains(&word), "{page}: no metric {word}");
            }
        }
    }
    let text = std::fs::read_to_string(root().join("docs/src/troubleshooting.md")).unwrap();
    for &name in &["no_service", "no_local_port", "session_table_full", "servers_full", "handover_full", "fragment"] {
        assert!(DropReason::ALL.iter().any(|r| r.name() == name) && text.contains(name), "{name}");
    }
}

#[test]
fn the_config_of_the_readme_is_the_example() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let config = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let example = std::fs::read_to_string(root().join("examples/carom.toml")).unwrap();
    let example: Vec<_> = example.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(config.lines().collect::<Vec<_>>(), example);
}
