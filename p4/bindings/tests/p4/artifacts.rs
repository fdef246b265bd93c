//! The committed artifacts came from the committed sources, and come again from them.

use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::{p4, read};

fn hash(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files under a directory of `p4/`, as paths from there.
fn files(under: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(p4().join(under)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{under}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Every source and every artifact has the hash it had when the compiler ran.
#[test]
fn artifacts_belong_to_the_sources() {
    const LIST: &str = "build/SOURCES.sha256";
    let mut there = Vec::new();
    ["core", "arch", "build"].iter().for_each(|dir| files(dir, &mut there));
    there.retain(|path| path != LIST);
    there.sort();
    let list = read(&p4().join(LIST));
    let mut listed = Vec::new();
    for line in list.lines() {
        let (expected, path) = line.split_once("  ").expect("a hash and a path");
        assert_eq!(hash(&p4().join(path)), expected, "p4/{path} changed since the artifacts were made; run: make p4");
        listed.push(path.to_owned());
    }
    listed.sort();
    assert_eq!(listed, there, "files came or went since the artifacts were made; run: make p4");
}

/// Artifacts name no machine: no absolute paths, no time.
#[test]
fn artifacts_name_no_machine() {
    let mut artifacts = Vec::new();
    files("build", &mut artifacts);
    for path in artifacts {
        let bytes = std::fs::read(p4().join(&path)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for dir in ["/home/", "/root/", "/opt/", "/tmp/", "/usr/", env!("CARGO_MANIFEST_DIR")] {
            assert!(!text.contains(dir), "{path} has a path under {dir}");
        }
    }
}

/// Two runs of the compiler give the same bytes, and those committed if it is the compiler that made them.
#[test]
fn the_compiler_gives_the_same_bytes_again() {
    let runs = ["first", "second"].map(|run| Path::new(env!("CARGO_TARGET_TMPDIR")).join(run));
    for out in &runs {
        let _ = std::fs::remove_dir_all(out);
        let done = Command::new(p4().join("../scripts/p4")).arg(out).output().expect("a shell");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        if said.starts_with("SKIPPED") {
            // To the terminal, past the test harness, which shows the output of failed tests only.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
            return;
        }
    }
    let mut artifacts = Vec::new();
    files("build", &mut artifacts);
    let same_compiler = hash(&runs[0].join("COMPILER")) == hash(&p4().join("build/COMPILER"));
    for path in artifacts {
        let name = path.strip_prefix("build/").unwrap();
        assert_eq!(hash(&runs[0].join(name)), hash(&runs[1].join(name)), "{name} differs from run to run");
        if same_compiler {
            assert_eq!(hash(&runs[0].join(name)), hash(&p4().join(&path)), "{name} is stale; run: make p4");
        }
    }
}
