//! What is wrong with a config, in one line each.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong, or worth a warning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Line and column in the file, from 1; `None` when the file could not be read.
    pub at: Option<(usize, usize)>,
    /// Path of the key as the operator knows it, e.g. `service[web].listen`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and the mend.
    pub message: String,
}

/// A config that was refused: every problem found, in the order of the file. Prints one line for each.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Refused {
    /// The config file.
    pub file: PathBuf,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl Refused {
    /// Well, or these problems in the order of the file.
    pub(super) fn unless_empty(file: &Path, mut problems: Vec<Problem>) -> Result<(), Refused> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by_key(|problem| problem.at);
        Err(Refused { file: file.to_owned(), problems })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.write(f, &self.file, "")?;
        }
        Ok(())
    }
}

impl Problem {
    /// The problem as a line: `file:line:column: kind key: message`.
    pub(super) fn write(&self, f: &mut impl fmt::Write, file: &Path, kind: &str) -> fmt::Result {
        write!(f, "{}:", file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {kind}")?;
        if !self.key.is_empty() {
            one_line(f, &self.key)?;
            f.write_str(": ")?;
        }
        one_line(f, &self.message)
    }
}

/// Keys and values may hold anything; the line stays one line, and the terminal's state its own.
fn one_line(f: &mut impl fmt::Write, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_debug()) } else { f.write_char(c) })
}
