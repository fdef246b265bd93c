//! Whether a program that was read makes sense: names, widths, jumps.

use std::collections::HashMap;

use dpdk::swx::{self, Struct, Table};

use super::instruction::Kind;
use super::parse::{Parsed, parse_number};
use super::{Instruction, Op, Problem, Spec, SpecError};

/// Headers are bits of a word, and this target needs two of its own.
const HEADERS_MAX: usize = 62;

type Checked = Result<(), SpecError>;

fn error<T>(line: usize, problem: Problem) -> Result<T, SpecError> {
    Err(SpecError { line, problem })
}

pub(super) fn check(parsed: &Parsed) -> Checked {
    let spec = &parsed.spec;
    names(spec.structs.iter().map(|each| &each.name), &parsed.structs)?;
    names(spec.headers.iter().map(|(name, _)| name), &parsed.headers)?;
    names(spec.registers.iter().map(|each| &each.name), &parsed.registers)?;
    names(spec.actions.iter().map(|(each, _)| &each.name), &parsed.actions)?;
    names(spec.tables.iter().map(|each| &each.name), &parsed.tables)?;
    for (each, line) in spec.structs.iter().zip(&parsed.structs) {
        structure(each, *line)?;
    }
    for ((_, of), line) in spec.headers.iter().zip(&parsed.headers) {
        defined(spec.find_struct(of).is_some(), *line, of)?;
    }
    if let Some(line) = parsed.headers.get(HEADERS_MAX) {
        return error(*line, Problem::Unsupported(format!("more than {HEADERS_MAX} headers")));
    }
    // There is such a line: the parser saw to it.
    defined(spec.find_struct(&spec.metadata).is_some(), parsed.metadata.unwrap_or(0), &spec.metadata)?;
    for (register, line) in spec.registers.iter().zip(&parsed.registers) {
        if register.size == 0 || register.size > 1 << 30 {
            return error(*line, Problem::Number(register.size.to_string()));
        }
    }
    for ((action, instructions), line) in spec.actions.iter().zip(&parsed.actions) {
        if let Some(of) = &action.arguments {
            defined(spec.find_struct(of).is_some(), *line, of)?;
        }
        let arguments = action.arguments.as_deref().and_then(|of| spec.find_struct(of));
        Block { spec, arguments, is_action: true }.check(instructions, *line)?;
    }
    for (each, line) in spec.tables.iter().zip(&parsed.tables) {
        table(spec, each, *line)?;
    }
    Block { spec, arguments: None, is_action: false }.check(&spec.apply, parsed.apply.unwrap_or(0))
}

/// Names are different and short enough.
fn names<'a>(all: impl Iterator<Item = &'a String>, lines: &[usize]) -> Checked {
    let mut seen = std::collections::HashSet::new();
    for (name, line) in all.zip(lines) {
        if name.is_empty() || name.len() > swx::NAME_MAX {
            return error(*line, Problem::Name(name.clone()));
        }
        if !seen.insert(name) {
            return error(*line, Problem::Duplicate(name.clone()));
        }
    }
    Ok(())
}

fn defined(is: bool, line: usize, name: &str) -> Checked {
    if is { Ok(()) } else { error(line, Problem::Undefined(name.to_owned())) }
}

fn structure(of: &Struct, line: usize) -> Checked {
    if of.fields.is_empty() || of.bytes() > swx::STRUCT_BYTES_MAX {
        return error(line, Problem::Size(of.name.clone()));
    }
    Ok(())
}

fn table(spec: &Spec, table: &Table, line: usize) -> Checked {
    for field in &table.key {
        defined(place(spec, field).is_some(), line, field)?;
    }
    for action in &table.actions {
        defined(spec.actions.iter().any(|(known, _)| known.name == action.name), line, &action.name)?;
    }
    let default = table.actions.iter().find(|action| action.name == table.default_action && action.for_default);
    defined(default.is_some(), line, &table.default_action)?;
    let default = spec.actions.iter().find(|(action, _)| action.name == table.default_action);
    match default {
        Some((action, _)) if action.arguments.is_some() => {
            error(line, Problem::Unsupported("a default action with arguments".into()))
        }
        _ => Ok(()),
    }
}

/// The width of `h.header.field` or `m.field`, in bits.
fn place(spec: &Spec, operand: &str) -> Option<u32> {
    let (of, field) = match operand.strip_prefix("m.") {
        Some(field) => (spec.find_struct(&spec.metadata)?, field),
        None => {
            let (header, field) = operand.strip_prefix("h.")?.split_once('.')?;
            (spec.header(header)?, field)
        }
    };
    of.field(field).map(|(field, _)| field.bits)
}

/// Instructions that belong together, and what they may refer to.
struct Block<'a> {
    spec: &'a Spec,
    arguments: Option<&'a Struct>,
    is_action: bool,
}

impl Block<'_> {
    fn check(&self, instructions: &[Instruction], start: usize) -> Checked {
        let mut labels = HashMap::new();
        for (at, instruction) in instructions.iter().enumerate() {
            let Some(label) = &instruction.label else { continue };
            if label.is_empty() || label.len() > swx::NAME_MAX {
                return error(instruction.line, Problem::Name(label.clone()));
            }
            if labels.insert(label.as_str(), at).is_some() {
                return error(instruction.line, Problem::Duplicate(label.clone()));
            }
        }
        for (at, instruction) in instructions.iter().enumerate() {
            self.instruction(instruction)?;
            let Some(target) = instruction.target() else { continue };
            match labels.get(target) {
                None => return error(instruction.line, Problem::Undefined(target.to_owned())),
                Some(to) if *to <= at => return error(instruction.line, Problem::Backward(target.to_owned())),
                Some(_) => {}
            }
        }
        if instructions.last().is_none_or(Instruction::falls_through) {
            return error(start, Problem::Frame("the instructions do not end with tx, drop, return or jmp"));
        }
        let first_is_rx = instructions.first().is_some_and(|first| first.op == Op::Rx && first.label.is_none());
        if !self.is_action && !first_is_rx {
            return error(start, Problem::Frame("the first instruction of the apply block is not rx"));
        }
        match instructions.iter().skip(1).find(|instruction| instruction.op == Op::Rx) {
            Some(second) => error(second.line, Problem::Frame("a second rx")),
            None => Ok(()),
        }
    }

    fn instruction(&self, instruction: &Instruction) -> Checked {
        let line = instruction.line;
        let misplaced = match instruction.op {
            Op::Rx | Op::Tx | Op::Extract | Op::Emit | Op::Table => self.is_action,
            Op::Return => !self.is_action,
            _ => false,
        };
        if misplaced {
            return error(line, Problem::Frame("an instruction that is not for this block"));
        }
        if instruction.to_string().len() > swx::INSTRUCTION_MAX {
            return error(line, Problem::Length);
        }
        let kinds = instruction.op.operands();
        let refuse = |operand| error(line, Problem::Operand { instruction: instruction.op.name(), operand });
        if instruction.operands.len() > kinds.len() {
            return refuse(instruction.operands.get(kinds.len()).cloned());
        }
        for (at, kind) in kinds.iter().enumerate() {
            let Some(operand) = instruction.operands.get(at) else { return refuse(None) };
            if !self.takes(*kind, operand) {
                return refuse(Some(operand.clone()));
            }
        }
        self.checksum(instruction)
    }

    /// Checksums are of headers: 16 bits, over fields of headers or whole ones.
    fn checksum(&self, instruction: &Instruction) -> Checked {
        let (Op::CkAdd | Op::CkSub) = instruction.op else { return Ok(()) };
        for (at, operand) in instruction.operands.iter().enumerate() {
            let width = place(self.spec, operand);
            if !operand.starts_with("h.") || (at == 0 && width != Some(16)) {
                let problem = Problem::Operand { instruction: instruction.op.name(), operand: Some(operand.clone()) };
                return error(instruction.line, problem);
            }
        }
        Ok(())
    }

    fn takes(&self, kind: Kind, operand: &str) -> bool {
        let argument = |operand: &str| {
            operand.strip_prefix("t.").is_some_and(|name| self.arguments.is_some_and(|of| of.field(name).is_some()))
        };
        let spec = self.spec;
        match kind {
            Kind::Header => operand.strip_prefix("h.").is_some_and(|name| spec.header(name).is_some()),
            Kind::Meta => operand.starts_with("m.") && place(spec, operand).is_some(),
            Kind::Place => place(spec, operand).is_some(),
            Kind::Field => place(spec, operand).is_some() || argument(operand),
            Kind::Value => self.takes(Kind::Field, operand) || parse_number(operand).is_some(),
            Kind::Register => spec.registers.iter().any(|each| each.name == operand),
            Kind::Table => spec.tables.iter().any(|each| each.name == operand),
            Kind::Action => spec.actions.iter().any(|(each, _)| each.name == operand),
            // Looked at with the jumps.
            Kind::Label => true,
        }
    }
}
