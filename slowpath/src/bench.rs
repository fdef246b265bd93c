//! `carom bench`: the shipped worker loop over an in-memory port, measured.

use crate::cli::Bench;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(pub String);

/// Measures, and prints what came out.
pub fn run(_bench: &Bench) -> Result<(), BenchError> {
    Err(BenchError("to be written".to_owned()))
}
