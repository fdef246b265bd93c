//! The `.spec` text that p4c-dpdk writes: a program for SWX.
//!
//! [`Spec::parse`] takes what the compiler writes for programs with headers, metadata, exact-match tables, actions and
//! register arrays, and refuses the rest of the language by name: wildcard and learner tables, selectors, meters, externs,
//! mirroring, recirculation, headers of variable size. What it returns is whole: every name in it is defined, every jump
//! goes forward, every instruction is one of SWX with operands it takes.

mod check;
mod error;
mod instruction;
mod parse;

use dpdk::swx::{Action, Register, Struct, Table};

pub use error::{Problem, SpecError};
pub use instruction::{Instruction, Op};

/// A program.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Spec {
    /// Layouts of headers, metadata and arguments.
    pub structs: Vec<Struct>,
    /// Headers: name, and name of the struct.
    pub headers: Vec<(String, String)>,
    /// The struct of the metadata.
    pub metadata: String,
    /// Register arrays.
    pub registers: Vec<Register>,
    /// Actions, without their instructions, and these.
    pub actions: Vec<(Action, Vec<Instruction>)>,
    /// Tables.
    pub tables: Vec<Table>,
    /// What is done with every packet.
    pub apply: Vec<Instruction>,
}

impl Spec {
    /// Reads a program.
    pub fn parse(text: &str) -> Result<Spec, SpecError> {
        let parsed = parse::parse(text)?;
        check::check(&parsed)?;
        Ok(parsed.spec)
    }

    /// The struct of that name.
    pub fn find_struct(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|each| each.name == name)
    }

    /// The struct of a header.
    pub fn header(&self, name: &str) -> Option<&Struct> {
        let (_, of) = self.headers.iter().find(|(header, _)| header == name)?;
        self.find_struct(of)
    }

    /// Gives a table room for so many entries, and the registers that its actions have for each entry likewise. Says
    /// whether there is such a table.
    pub fn resize(&mut self, table: &str, size: u32) -> bool {
        let Some(table) = self.tables.iter_mut().find(|known| known.name == table) else { return false };
        table.size = size;
        let is_its_own = |name: &str| table.actions.iter().any(|action| action.name == name);
        for (_, instructions) in self.actions.iter().filter(|(action, _)| is_its_own(&action.name)) {
            let numbers = instructions.iter().filter(|each| each.op == Op::EntryId).map(|each| &each.operands[0]);
            for number in numbers {
                let by_number = instructions.iter().filter(|each| matches!(each.op, Op::RegAdd | Op::RegWrite));
                for each in by_number.filter(|each| each.operands[1] == *number) {
                    let array = self.registers.iter_mut().find(|register| register.name == each.operands[0]);
                    // Number 0 is a miss.
                    array.into_iter().for_each(|register| register.size = size.saturating_add(1));
                }
            }
        }
        true
    }
}
