//! Instructions of SWX.

use std::fmt;

use super::{Problem, SpecError};

/// An instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// The line it is on, from 1; 0 when it was added later.
    pub line: usize,
    /// Its label.
    pub label: Option<String>,
    /// What it does.
    pub op: Op,
    /// With what.
    pub operands: Vec<String>,
}

/// What an operand may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `h.header`.
    Header,
    /// `m.field`.
    Meta,
    /// `h.header.field` or `m.field`.
    Place,
    /// A place, or an argument of the action: `t.field`.
    Field,
    /// A field, or a number.
    Value,
    /// The name of a register array.
    Register,
    /// The name of a table.
    Table,
    /// The name of an action.
    Action,
    /// A label of the same block.
    Label,
}

macro_rules! instructions {
    ($($op:ident $name:literal [$($kind:ident)*],)*) => {
        /// What an instruction does.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Op {
            $(#[doc = concat!("`", $name, "`")] $op,)*
        }

        impl Op {
            /// How it is written.
            pub fn name(self) -> &'static str {
                match self { $(Op::$op => $name,)* }
            }

            fn named(name: &str) -> Option<Op> {
                match name { $($name => Some(Op::$op),)* _ => None }
            }

            /// What it takes.
            pub(super) fn operands(self) -> &'static [Kind] {
                match self { $(Op::$op => &[$(Kind::$kind),*],)* }
            }
        }
    };
}

instructions! {
    Rx "rx" [Meta],
    Tx "tx" [Meta],
    Drop "drop" [],
    Extract "extract" [Header],
    Emit "emit" [Header],
    Validate "validate" [Header],
    Invalidate "invalidate" [Header],
    Mov "mov" [Place Value],
    Add "add" [Place Value],
    Sub "sub" [Place Value],
    And "and" [Place Value],
    Or "or" [Place Value],
    Xor "xor" [Place Value],
    Shl "shl" [Place Value],
    Shr "shr" [Place Value],
    CkAdd "ckadd" [Place Place],
    CkSub "cksub" [Place Place],
    RegPrefetch "regprefetch" [Register Value],
    RegRead "regrd" [Place Register Value],
    RegWrite "regwr" [Register Value Value],
    RegAdd "regadd" [Register Value Value],
    Table "table" [Table],
    EntryId "entryid" [Meta],
    Jmp "jmp" [Label],
    JmpValid "jmpv" [Label Header],
    JmpInvalid "jmpnv" [Label Header],
    JmpHit "jmph" [Label],
    JmpMiss "jmpnh" [Label],
    JmpAction "jmpa" [Label Action],
    JmpNoAction "jmpna" [Label Action],
    JmpEq "jmpeq" [Label Field Value],
    JmpNeq "jmpneq" [Label Field Value],
    JmpLt "jmplt" [Label Field Value],
    JmpGt "jmpgt" [Label Field Value],
    Return "return" [],
}

/// Instructions of SWX that this target does not have.
const UNSUPPORTED: &[&str] = &[
    "extern",
    "forget",
    "hash",
    "learn",
    "lookahead",
    "meter",
    "metprefetch",
    "mirror",
    "rearm",
    "recircid",
    "recirculate",
];

impl Instruction {
    /// One without a line and a label.
    pub fn new<'a>(op: Op, operands: impl IntoIterator<Item = &'a str>) -> Instruction {
        Instruction { line: 0, label: None, op, operands: operands.into_iter().map(str::to_owned).collect() }
    }

    /// Reads an instruction from the words of its line, of which there is at least one.
    pub(super) fn parse(line: usize, words: &[&str]) -> Result<Instruction, SpecError> {
        let error = |problem| SpecError { line, problem };
        let (label, words) = match words {
            [label, ":", rest @ ..] => (Some((*label).to_owned()), rest),
            all => (None, all),
        };
        let Some((name, operands)) = words.split_first() else {
            return Err(error(Problem::Frame("a label without an instruction")));
        };
        let op = Op::named(name).ok_or_else(|| {
            let known = UNSUPPORTED.contains(name);
            error(if known { Problem::Unsupported(format!("the instruction {name}")) } else { unknown(name) })
        })?;
        let operands = operands.iter().map(|word| (*word).to_owned()).collect();
        Ok(Instruction { line, label, op, operands })
    }

    /// Where it may jump to.
    pub fn target(&self) -> Option<&str> {
        (self.op.operands().first() == Some(&Kind::Label)).then(|| self.operands[0].as_str())
    }

    /// Whether what follows it may be next.
    pub fn falls_through(&self) -> bool {
        !matches!(self.op, Op::Jmp | Op::Tx | Op::Drop | Op::Return)
    }

    /// The header it is about, if it is about a whole one.
    pub fn header(&self) -> Option<&str> {
        let at = self.op.operands().iter().position(|kind| *kind == Kind::Header)?;
        self.operands[at].strip_prefix("h.")
    }
}

fn unknown(name: &str) -> Problem {
    Problem::Instruction(name.to_owned())
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = &self.label {
            write!(f, "{label} : ")?;
        }
        f.write_str(self.op.name())?;
        self.operands.iter().try_for_each(|operand| write!(f, " {operand}"))
    }
}
