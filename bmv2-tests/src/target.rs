//! Which data plane the suite runs against.

use std::fmt;

use anyhow::{Result, bail};

/// A data plane under test, from the environment variable `CAROM_TARGET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The slow path alone (the default).
    None,
}

impl Target {
    /// The target the environment asks for.
    pub fn from_env() -> Result<Self> {
        match std::env::var("CAROM_TARGET").as_deref() {
            Err(_) | Ok("" | "none") => Ok(Target::None),
            Ok(other) => bail!("CAROM_TARGET={other}: no such target; known: none"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::None => "none",
        })
    }
}
