//! What can be wrong with a program's text.

use std::fmt;

/// Why a text is not a program, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpecError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// No statement begins like this.
    Statement(String),
    /// A part of the language that this target does not have.
    Unsupported(String),
    /// Something else should be here.
    Expected {
        /// What should be here.
        wanted: &'static str,
        /// What is.
        found: String,
    },
    /// The text ends within this.
    Unfinished(&'static str),
    /// Not a number, or none that fits.
    Number(String),
    /// A name that is longer than SWX allows.
    Name(String),
    /// A line that is longer than SWX allows.
    Length,
    /// A second thing of the same name.
    Duplicate(String),
    /// A name of nothing.
    Undefined(String),
    /// A field whose width is not 8, 16, … 64 bits.
    Width(String),
    /// A struct in which instructions cannot reach every field, or without fields.
    Size(String),
    /// No instruction is called like this.
    Instruction(String),
    /// An instruction does not take this operand, or not so many.
    Operand {
        /// The instruction.
        instruction: &'static str,
        /// The operand; none when one is missing.
        operand: Option<String>,
    },
    /// A jump back, or to itself: such a program might never be done with a packet.
    Backward(String),
    /// Instructions do not begin or end as they must.
    Frame(&'static str),
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Statement(word) => write!(f, "no statement begins with {word:?}"),
            Problem::Unsupported(what) => write!(f, "{what} is not supported"),
            Problem::Expected { wanted, found } => write!(f, "{found:?} where {wanted} should be"),
            Problem::Unfinished(what) => write!(f, "the text ends within {what}"),
            Problem::Number(word) => write!(f, "{word:?} is not a number that fits"),
            Problem::Name(name) => write!(f, "the name {name:?} is empty or too long"),
            Problem::Length => f.write_str("the line is too long"),
            Problem::Duplicate(name) => write!(f, "{name:?} is there already"),
            Problem::Undefined(name) => write!(f, "there is no {name:?}"),
            Problem::Width(name) => write!(f, "field {name:?} is not 8, 16, 24, … or 64 bits wide"),
            Problem::Size(name) => write!(f, "struct {name:?} is empty or too large"),
            Problem::Instruction(word) => write!(f, "no instruction is called {word:?}"),
            Problem::Operand { instruction, operand: Some(operand) } => {
                write!(f, "the instruction {instruction} does not take {operand:?} here")
            }
            Problem::Operand { instruction, operand: None } => {
                write!(f, "an operand of the instruction {instruction} is missing")
            }
            Problem::Backward(label) => write!(f, "a jump back, to {label:?}"),
            Problem::Frame(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for SpecError {}
