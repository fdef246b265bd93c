//! Nothing that stands in a config makes the checks panic, and every refusal is made of clear lines.

use carom::config::Compiler;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{files, parse, read};

/// Checks a text: it is accepted and can be compiled, or refused in lines that begin with the file's name.
fn survives(text: &str) {
    match parse(text) {
        Ok(config) => {
            let macs = vec![Default::default(); config.interface.len()];
            Compiler::new().compile(&config, &macs).unwrap();
            assert!(!config.devices().is_empty());
            config.warnings().for_each(drop);
            config.check_reload(&config).unwrap();
        }
        Err(refused) => {
            assert!(!refused.problems.is_empty());
            for line in refused.to_string().lines() {
                assert!(line.starts_with("carom.toml:"), "{line:?}");
            }
        }
    }
}

fn seeds() -> Vec<String> {
    let directories = ["slowpath/tests/configs/good", "slowpath/tests/configs/wrong", "examples"];
    directories.iter().flat_map(|directory| files(directory)).map(|path| read(&path)).collect()
}

/// Values of all kinds, right and wrong, that could stand behind any key.
fn values() -> Vec<&'static str> {
    vec![
        "0",
        "-1",
        "1",
        "65535",
        "65536",
        "4294967296",
        "9223372036854775807",
        "1.5",
        "inf",
        "true",
        "2026-01-01",
        "\"\"",
        "\"a\"",
        "\"é\\u0000\\n\"",
        "\"10.0.0.1\"",
        "\"10.10.0.2/24\"",
        "\"0.0.0.0/0\"",
        "\"::/0\"",
        "\"fd10::2/128\"",
        "\"10.0.0.1-10.0.0.9\"",
        "\"0.0.0.0-255.255.255.255\"",
        "\"::-ffff::\"",
        "\"10.10.0.80:80\"",
        "\"[fd10::80]:80\"",
        "\"::ffff:10.0.0.1\"",
        "\"1-65535\"",
        "\"0s\"",
        "\"99999999999999999999s\"",
        "\"5m\"",
        "\"mh\"",
        "\"pcap:,\"",
        "\"a:b,c,,\"",
        "\"0000:00:00.0,\"",
        "\"net_0\"",
        "[]",
        "[[]]",
        "[1, \"a\"]",
        "{}",
        "{ a = 1 }",
        "{ address = \"10.0.0.1:1\" }",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in ".{0,200}") {
        survives(&text);
    }

    #[test]
    fn text_of_toml_pieces(pieces in vec(select(vec!["[", "]", "[[", "]]", "interface", "service", "pool", "route", ".", "=", "\"",
        "'", "{", "}", ",", "\n", " ", "#", "name", "addresses", "\"10.0.0.1/8\"", "1", "\\", "\"\"\"", "é"]), 0..60)) {
        survives(&pieces.concat());
    }

    #[test]
    fn damaged_configs(seed in select(seeds()), damage in vec((any::<Index>(), any::<Index>(), "[ -~\n]{0,6}"), 1..5)) {
        let mut text: Vec<char> = seed.chars().collect();
        for (at, len, insert) in damage {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            let len = len.index(8).min(text.len() - at);
            text.splice(at..at + len, insert.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn other_values_behind_keys(seed in select(seeds()), changes in vec((any::<Index>(), select(values())), 1..4)) {
        let mut lines: Vec<String> = seed.lines().map(str::to_owned).collect();
        let keys: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].contains(" = ")).collect();
        if !keys.is_empty() {
            for (at, value) in changes {
                let line = &mut lines[keys[at.index(keys.len())]];
                let key = line.split(" = ").next().unwrap_or_default().to_owned();
                *line = format!("{key} = {value}");
            }
        }
        survives(&lines.join("\n"));
    }

    #[test]
    fn lines_shuffled_and_doubled(seed in select(seeds()), order in vec(any::<Index>(), 1..40)) {
        let lines: Vec<&str> = seed.lines().collect();
        if !lines.is_empty() {
            survives(&order.iter().map(|at| lines[at.index(lines.len())]).collect::<Vec<_>>().join("\n"));
        }
    }
}
