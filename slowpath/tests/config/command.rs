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

#[test]
fn what_the_machine_lacks_is_a_warning() {
    let directory = std::env::temp_dir().join(format!("carom-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("carom.toml");
    let text = crate::with("[workers]\ncpus = [0, 1023]\n");
    std::fs::write(&path, text).unwrap();
    let output = check(&path);
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(warnings.contains("warning: workers.cpus[1]: CPU 1023 is not online"), "{warnings}");
    assert_eq!(warnings.lines().count(), 1, "{warnings}");
}
