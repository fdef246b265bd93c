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

/// Every source and every artifact has the hash it had when the compiler ran, and no other is there.
fn belong(list: &str, dirs: &[&str], make: &str) {
    let mut there = Vec::new();
    dirs.iter().for_each(|dir| files(dir, &mut there));
    there.retain(|path| path != list && path != CAPACITY && (!path.starts_with(TOFINO) || list.starts_with(TOFINO)));
    there.sort();
    let hashes = read(&p4().join(list));
    let mut listed = Vec::new();
    for line in hashes.lines() {
        let (expected, path) = line.split_once("  ").expect("a hash and a path");
        assert_eq!(hash(&p4().join(path)), expected, "p4/{path} changed since the artifacts were made; run: {make}");
        listed.push(path.to_owned());
    }
    listed.sort();
    assert_eq!(listed, there, "files came or went since the artifacts were made; run: {make}");
}

/// Where the artifacts for Tofino are, beside the others but made by another compiler.
const TOFINO: &str = "build/tofino/";

/// What came of many runs of that compiler, made by a script of its own.
const CAPACITY: &str = "build/tofino/capacity.toml";

#[test]
fn artifacts_belong_to_the_sources() {
    belong("build/SOURCES.sha256", &["core", "arch/pna", "arch/v1model", "build"], "make p4");
    belong("build/tofino/SOURCES.sha256", &["core", "arch/tna", "build/tofino"], "make p4 ARCH=tna");
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

/// Runs a script that compiles, into a directory of its own. False without a compiler; the script has said so.
fn compile(script: &str, out: &Path) -> bool {
    let _ = std::fs::remove_dir_all(out);
    let done = Command::new(p4().join("../scripts").join(script)).arg(out).output().expect("a shell");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    if said.starts_with("SKIPPED") {
        // To the terminal, past the test harness, which shows the output of failed tests only.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
        return false;
    }
    true
}

/// Two runs of the compiler give the same bytes, and those committed if it is the compiler that made them.
#[test]
fn the_compiler_gives_the_same_bytes_again() {
    let runs = ["first", "second"].map(|run| Path::new(env!("CARGO_TARGET_TMPDIR")).join(run));
    if !runs.iter().all(|out| compile("p4", out)) {
        return;
    }
    let mut artifacts = Vec::new();
    files("build", &mut artifacts);
    artifacts.retain(|path| !path.starts_with(TOFINO));
    let same_compiler = hash(&runs[0].join("COMPILER")) == hash(&p4().join("build/COMPILER"));
    for path in artifacts {
        let name = path.strip_prefix("build/").unwrap();
        assert_eq!(hash(&runs[0].join(name)), hash(&runs[1].join(name)), "{name} differs from run to run");
        if same_compiler {
            assert_eq!(hash(&runs[0].join(name)), hash(&p4().join(&path)), "{name} is stale; run: make p4");
        }
    }
}

/// The same for Tofino. What is committed was one run of its compiler, and minutes are long, so this is the other.
#[test]
fn the_compiler_for_tofino_gives_the_same_bytes_again() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tofino");
    if !compile("p4-tna", &out) {
        return;
    }
    let mut artifacts = Vec::new();
    files("build/tofino", &mut artifacts);
    artifacts.retain(|path| path != CAPACITY);
    if hash(&out.join("COMPILER")) == hash(&p4().join("build/tofino/COMPILER")) {
        for path in artifacts {
            let name = path.strip_prefix(TOFINO).unwrap();
            assert_eq!(hash(&out.join(name)), hash(&p4().join(&path)), "{name} is stale; run: make p4 ARCH=tna");
        }
    }
}

/// A compiler that loses what parsers select by is refused, with the name of the fault.
#[test]
fn a_compiler_that_loses_selects_is_refused() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faulty");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    // What such a compiler writes for the probe: states, and nothing matched in any.
    let faulty = "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\nmkdir -p \"$2/pipe\"\n\
                  printf 'parser ingress:\\n  states:\\n    start:\\n      *:\\n        next: end\\n\\n\
                  deparser ingress:\\n' >\"$2/pipe/probe.bfa\"\n";
    for (tool, text) in [("p4c-barefoot", faulty), ("bfas", "#!/bin/sh\nexit 0\n")] {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(tool);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut script = Command::new(p4().join("../scripts/p4-tna"));
    let done = script.arg(dir.join("out")).env("CAROM_P4C_DIR", &dir).output().expect("a shell");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("loses what parsers select by"), "{said}");
    assert!(!dir.join("out").exists());
}
