//! Logs through `tracing`, to standard error: one line an event, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

use crate::config::types::{Format, Level, Log};

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "CAROM_LOG=`{filter}` not understood: {source}; write a level (error, warn, info, debug, trace) or carom=debug,info"
    )]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Logging was started before in this process.
    #[error("logging was already started: {0}")]
    Twice(#[from] TryInitError),
}

/// Starts logging for the process as the config says. The environment variable `CAROM_LOG` takes the level's place when it
/// is set; it may name modules, as `carom=debug,info`.
pub fn init(log: &Log) -> Result<(), LogError> {
    let targets = match std::env::var("CAROM_LOG") {
        Ok(filter) => filter.parse().map_err(|source| LogError::Filter { filter, source })?,
        Err(_) => Targets::new().with_default(level(log.level)),
    };
    let layer = match log.format {
        Format::Text => {
            let colours = std::io::stderr().is_terminal();
            fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false).boxed()
        }
        Format::Json => fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init()?;
    Ok(())
}

fn level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    }
}
