//! `carom check`, the binary itself.

use std::path::Path;
use std::process::{Command, Output};

use carom::config;

use crate::{files, root};

fn check(path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_carom")).arg("check").arg("-c").arg(path).output().unwrap()
}

#[test]
fn wrong_configs_exit_with_2_and_say_why() {
    for path in files("slowpath/tests/configs/wrong") {
        let output = check(&path);
        assert_eq!(output.status.code(), Some(2), "{}", path.display());
        assert_eq!(output.stdout, b"", "{}", path.display());
        let expected = config::load(&path).unwrap_err().to_string() + "\n";
        assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    }
}

#[test]
fn good_configs_exit_with_0() {
    for path in files("slowpath/tests/configs/good").into_iter().chain(files("examples")) {
        let output = check(&path);
        assert_eq!(output.status.code(), Some(0), "{}", path.display());
        assert!(String::from_utf8(output.stdout).unwrap().contains(": ok: "));
    }
}

#[test]
fn no_config_exits_with_2() {
    let output = check(&root().join("nowhere.toml"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no such file"));
}

/// The warnings about a text that is accepted.
fn warnings(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("carom.toml");
    std::fs::write(&path, text).unwrap();
    let output = check(&path);
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn files_for_tls_that_are_not_there_are_warnings() {
    let good = std::fs::read_to_string(root().join("examples/switch.toml")).unwrap();
    let here = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
    let tls = format!("[target]\ntls = {{ ca = \"{here}\", cert = \"/nowhere/c.pem\", key = \"/nowhere/k.pem\" }}");
    let warnings = warnings(&good.replace("[target]", &tls));
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
    assert!(
        warnings.contains("warning: target.tls.cert: there is no file /nowhere/c.pem on this machine"),
        "{warnings}"
    );
}

#[test]
fn what_the_machine_lacks_is_a_warning() {
    let warnings = warnings(&crate::with("[workers]\ncpus = [0, 1023]\n"));
    assert!(warnings.contains("warning: workers.cpus[1]: CPU 1023 is not online"), "{warnings}");
    assert_eq!(warnings.lines().count(), 1, "{warnings}");
}
