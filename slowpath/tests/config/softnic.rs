//! The file of `carom softnic`.

use std::path::Path;
use std::process::Command;

use carom::config;

use crate::{files, read, root};

fn parse(text: &str) -> Result<config::SoftnicConfig, config::Refused> {
    config::parse_softnic(text, Path::new("softnic.toml"))
}

#[test]
fn each_wrong_file_gets_one_clear_line() {
    let mut lines = String::new();
    for path in files("slowpath/tests/configs/wrong-softnic") {
        let name = Path::new(path.file_name().unwrap());
        let refused = config::parse_softnic(&read(&path), name).map(|_| path.clone()).unwrap_err().to_string();
        assert_eq!(refused.lines().count(), 1, "{refused}");
        assert!(refused.starts_with(&format!("{}:", name.display())), "{refused}");
        lines += &refused;
        lines.push('\n');
    }
    assert!(lines.lines().count() > 10);
    insta::assert_snapshot!(lines);
}

#[test]
fn the_example_and_one_with_every_key_are_taken() {
    let example = config::load_softnic(&root().join("examples/softnic/switch.toml")).unwrap();
    assert_eq!(example.warnings().count(), 0);
    let devices: Vec<_> = example.devices().into_iter().map(|device| (device.name, device.mtu)).collect();
    assert_eq!(devices, [("port 1".to_owned(), 1500), ("port 2".to_owned(), 1500), ("port 64".to_owned(), 1500)]);
    let text = read(&root().join("slowpath/tests/configs/softnic/everything.toml"));
    let all = parse(&text).unwrap();
    assert_eq!(all.warnings().count(), 0);
    insta::assert_debug_snapshot!(*all);
    let missing: Vec<_> = all.machine_warnings();
    assert_eq!(missing.len(), 3, "the files for TLS: {missing:?}");
    let open = text.replace(", client_ca = \"/nowhere/ca.pem\"", "");
    let warnings: Vec<_> = parse(&open).unwrap().warnings().collect();
    assert!(
        matches!(&warnings[..], [one] if one.contains("p4runtime.listen: is not a loopback address")),
        "{warnings:?}"
    );
}

#[test]
fn check_and_run_refuse_alike() {
    let carom = |arguments: &[&str], path: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_carom")).args(arguments).arg("-c").arg(path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for path in files("slowpath/tests/configs/wrong-softnic") {
        let checked = carom(&["check", "--softnic"], &path);
        assert_eq!(checked, carom(&["softnic"], &path));
        assert_eq!(checked, (Some(2), config::load_softnic(&path).unwrap_err().to_string() + "\n"));
    }
    let good = carom(&["check", "--softnic"], &root().join("examples/softnic/switch.toml"));
    assert_eq!(good, (Some(0), String::new()));
}
