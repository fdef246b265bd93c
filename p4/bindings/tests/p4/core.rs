//! What keeps `core/` neutral: no conditional compilation, no architecture's names, one signature for all controls.

use crate::{p4, read};

fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(p4().join("core"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(&path)))
        .collect();
    files.sort();
    assert!(files.len() > 5);
    files
}

/// The lines that are not comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).filter(|line| !line.trim().is_empty())
}

#[test]
fn the_core_has_no_conditional_compilation() {
    for (name, text) in files() {
        for line in code(&text).filter(|line| line.trim_start().starts_with('#')) {
            assert!(line.starts_with("#define ID_") || line.starts_with("#define SIZE_"), "{name}: {line}");
        }
    }
}

#[test]
fn the_core_names_no_architecture() {
    for (name, text) in files() {
        for line in code(&text) {
            for word in
                ["standard_metadata", "istd", "ostd", "_intr_", "mark_to_drop", "drop_packet", "hash(", "Checksum"]
            {
                assert!(!line.contains(word), "{name} is not neutral: {line}");
            }
        }
    }
}

#[test]
fn controls_take_headers_and_meta_only() {
    let mut controls = 0;
    for (name, text) in files() {
        for line in code(&text).filter(|line| line.starts_with("control ")) {
            controls += 1;
            assert!(line.ends_with("(inout headers_t hdr, inout meta_t meta) {"), "{name}: {line}");
        }
    }
    assert!(controls >= 8);
}

/// SWX cuts no bytes and computes on at most 64 bits.
#[test]
fn fields_are_whole_bytes_of_at_most_64_bits() {
    let mut fields = 0;
    for line in code(&read(&p4().join("core/headers.p4"))) {
        if let Some(width) = line.trim().strip_prefix("bit<").and_then(|rest| rest.split('>').next()) {
            let width: u32 = width.parse().unwrap();
            assert!(width.is_multiple_of(8) && width <= 64, "{line}");
            fields += 1;
        }
    }
    assert!(fields > 60);
}

#[test]
fn every_shell_includes_all_of_the_core() {
    for arch in ["v1model/carom.p4", "pna/carom.p4", "tna/shell.p4"] {
        let shell = read(&p4().join("arch").join(arch));
        for (name, _) in files() {
            assert_eq!(shell.matches(&format!("#include \"../../core/{name}\"")).count(), 1, "{arch}: {name}");
        }
    }
}
