//! Runs external programs and keeps what they said when they fail.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program given as words, to its end. Returns its standard output; a non-zero exit is an error that holds the
/// command line and both outputs.
pub fn run(words: &[&str]) -> Result<String> {
    let output = output(words)?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}): {}{}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program given as words, to its end, whatever its exit status.
pub fn output(words: &[&str]) -> Result<Output> {
    let (program, args) = words.split_first().context("an empty command")?;
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`: is it installed?", words.join(" ")))
}
