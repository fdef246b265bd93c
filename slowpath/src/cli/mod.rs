//! The command line: what may be asked, and the way to whoever answers.

mod args;
mod format;
mod show;
pub(crate) mod table;
mod view;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::run::RunError;
use crate::{bench, config, run, softnic};

pub use args::{
    Arguments, Bench, Code, Command, Connect, Forward, Install, Ip, MemoryOptions, Proto, SoftnicForward,
    SoftnicInstall, Synflood,
};

/// Why a command failed, with the exit code that tells it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the config is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Anything else: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Nobody reads the output any more, as after `| head`: no failure.
    #[error("output closed")]
    OutputClosed,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Reads the command line, does what it says, and tells how it went: 0 well, 1 failed, 2 wrong usage or config.
pub fn main() -> ExitCode {
    match dispatch(&Arguments::parse()) {
        Ok(code) => code,
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            // When not even standard error takes the line, the exit code still tells.
            let _ = writeln!(io::stderr(), "carom: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Run(file) => return ended(run::run(&file.config)),
        Command::Softnic(file) => return ended(softnic::run_alone(&file.config)),
        Command::Check(check) if check.softnic => return Ok(config::check_softnic_command(&check.file.config)),
        Command::Check(check) => return Ok(config::check_command(&check.file.config)),
        Command::Schema(schema) if schema.softnic => show::print(&config::softnic_schema())?,
        Command::Schema(_) => show::print(&config::schema())?,
        Command::Bench { bench } => bench::run(bench).map_err(|e| Failure::Failed(e.to_string()))?,
        Command::Show(show) => show::run(show)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How a command went that ran until it was told to stop.
fn ended(outcome: Result<(), RunError>) -> Result<ExitCode, Failure> {
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Its lines begin with the file's name, as those of `carom check` do.
        Err(RunError::Config(refused)) => {
            let _ = writeln!(io::stderr(), "{refused}");
            Ok(ExitCode::from(config::EXIT_REFUSED))
        }
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}
