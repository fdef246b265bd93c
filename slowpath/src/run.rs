//! The life of the daemon, from the config file to a clean stop.

use std::path::Path;

use crate::config::{self, Refused};

/// Why the daemon did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config file is refused; its text is whole lines that name key and line.
    #[error("{0}")]
    Config(#[from] Refused),
    /// Anything else, with the mend.
    #[error("{0}")]
    Failed(String),
}

/// Runs the balancer until SIGTERM or SIGINT.
pub fn run(config: &Path) -> Result<(), RunError> {
    let _config = config::load(config)?;
    Err(RunError::Failed("to be written".to_owned()))
}
