//! An independent controller: p4runtime-shell, from PyPI. `scripts/p4runtime-shell` installs it below the target directory,
//! and `make test` does; the Python that has it is named by CAROM_P4_SHELL_PYTHON, or is `python3`.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use softnic::server::Config;
use tokio::process::Command;

use crate::p4;
use crate::server::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4runtime_shell_gets_what_the_standard_says() {
    let python = std::env::var("CAROM_P4_SHELL_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_it = Command::new(&python).args(["-c", "import p4runtime_sh.shell"]).stderr(Stdio::null()).status().await;
    if !has_it.is_ok_and(|status| status.success()) {
        // Straight to the descriptor: what goes through `println!` is hidden while a test passes.
        let line = format!("SKIPPED: p4runtime-shell: {python} does not have it; scripts/p4runtime-shell installs it");
        let _ = writeln!(std::io::stderr(), "{line}");
        return;
    }
    let rig = Rig::start(Config::default()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell.py");
    let mut shell = Command::new(&python);
    shell.arg(script).arg(&rig.address).arg(p4().join("build/pna.p4info.txtpb")).arg(p4().join("build/pna.spec"));
    let output = shell.kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output).await.expect("it takes too long");
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 14, "{said}");
    rig.end().await;
}
