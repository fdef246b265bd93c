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

/// Of the two ways to keep the flows of IPv4, a program has one.
#[test]
fn every_program_includes_all_of_the_core() {
    let flows = ["flow_v4.p4", "flow_v4_ids.p4"];
    for (sources, of_flows) in [
        (&["v1model/carom.p4", "v1model/shell.p4"][..], [1, 0]),
        (&["v1model/ids.p4", "v1model/shell.p4"], [0, 1]),
        (&["pna/carom.p4"], [1, 0]),
        // It is chosen when the program is compiled.
        (&["tna/shell.p4"], [1, 1]),
    ] {
        let text: String = sources.iter().map(|path| read(&p4().join("arch").join(path))).collect();
        for (name, _) in files() {
            let wanted = flows.iter().position(|flow| *flow == name).map_or(1, |at| of_flows[at]);
            let found = text.matches(&format!("#include \"../../core/{name}\"")).count();
            assert_eq!(found, wanted, "{sources:?}: {name}");
        }
    }
}
