//! The statements of the language.

use dpdk::swx::{self, Action, Field, Register, Struct, Table, TableAction};

use super::{Instruction, Problem, Spec, SpecError};

/// A program, and the lines its parts are on: as many of each as there are parts.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) spec: Spec,
    pub(super) structs: Vec<usize>,
    pub(super) headers: Vec<usize>,
    pub(super) registers: Vec<usize>,
    pub(super) actions: Vec<usize>,
    pub(super) tables: Vec<usize>,
    pub(super) metadata: Option<usize>,
    pub(super) apply: Option<usize>,
}

/// Parts of the language that this target does not have.
const UNSUPPORTED: &[&str] = &["extobj", "extern", "extfunc", "learner", "metarray", "mirroring", "selector", "hash"];

/// The words of the lines that have any, with the number of the line.
struct Lines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    last: usize,
}

type Line<'a> = (usize, Vec<&'a str>);

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        loop {
            let (at, text) = self.lines.next()?;
            self.last = at + 1;
            let is_comment = |word: &&str| word.starts_with(['#', ';']) || word.starts_with("//");
            let words: Vec<_> = text.split_ascii_whitespace().take_while(|word| !is_comment(word)).collect();
            if !words.is_empty() {
                return Some((self.last, words));
            }
        }
    }
}

impl<'a> Lines<'a> {
    /// The next line of a block; none at the `}` of its end.
    fn in_block(&mut self, what: &'static str) -> Result<Option<Line<'a>>, SpecError> {
        match self.next() {
            Some((_, words)) if words == ["}"] => Ok(None),
            Some(line) => Ok(Some(line)),
            None => Err(SpecError { line: self.last, problem: Problem::Unfinished(what) }),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Parsed, SpecError> {
    let mut lines = Lines { lines: text.lines().enumerate(), last: 0 };
    let mut parsed = Parsed::default();
    while let Some((line, words)) = lines.next() {
        statement(&mut parsed, &mut lines, line, &words)?;
    }
    let missing = |what| SpecError { line: lines.last, problem: Problem::Frame(what) };
    parsed.metadata.ok_or_else(|| missing("there is no metadata"))?;
    parsed.apply.ok_or_else(|| missing("there is no apply block"))?;
    Ok(parsed)
}

fn statement(parsed: &mut Parsed, lines: &mut Lines, line: usize, words: &[&str]) -> Result<(), SpecError> {
    let error = |problem| Err(SpecError { line, problem });
    let spec = &mut parsed.spec;
    match words {
        ["struct", name, "{"] => {
            spec.structs.push(structure(lines, name)?);
            parsed.structs.push(line);
        }
        ["header", name, "instanceof", of] => {
            spec.headers.push(((*name).to_owned(), (*of).to_owned()));
            parsed.headers.push(line);
        }
        ["metadata", "instanceof", of] => {
            if parsed.metadata.replace(line).is_some() {
                return error(Problem::Duplicate("metadata".into()));
            }
            spec.metadata = (*of).to_owned();
        }
        ["regarray", name, "size", size, "initval", initial] => {
            let (size, initial) = (number(line, size)?, number(line, initial)?);
            spec.registers.push(Register { name: (*name).to_owned(), size, initial });
            parsed.registers.push(line);
        }
        ["action", name, "args", "none", "{"] => {
            spec.actions.push(action(lines, name, None)?);
            parsed.actions.push(line);
        }
        ["action", name, "args", "instanceof", of, "{"] => {
            spec.actions.push(action(lines, name, Some(of))?);
            parsed.actions.push(line);
        }
        ["table", name, "{"] => {
            spec.tables.push(table(lines, line, name)?);
            parsed.tables.push(line);
        }
        ["apply", "{"] => {
            if parsed.apply.replace(line).is_some() {
                return error(Problem::Duplicate("apply".into()));
            }
            spec.apply = instructions(lines, "the apply block")?;
        }
        [word, ..] if UNSUPPORTED.contains(word) => return error(Problem::Unsupported(format!("{word:?}"))),
        [word @ ("struct" | "header" | "metadata" | "regarray" | "action" | "table" | "apply"), ..] => {
            return error(Problem::Expected { wanted: "a whole statement", found: format!("{word} …") });
        }
        [word, ..] => return error(Problem::Statement((*word).to_owned())),
        [] => {}
    }
    Ok(())
}

/// A number as C reads it, decimal or hexadecimal.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // from_str_radix would take a sign.
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok(),
        // C takes a leading zero for octal.
        None if text == "0" || text.starts_with(|c: char| ('1'..='9').contains(&c)) => text.parse().ok(),
        _ => None,
    }
}

fn number<T: TryFrom<u64>>(line: usize, text: &str) -> Result<T, SpecError> {
    let value = parse_number(text).and_then(|value| T::try_from(value).ok());
    value.ok_or_else(|| SpecError { line, problem: Problem::Number(text.to_owned()) })
}

fn structure(lines: &mut Lines, name: &str) -> Result<Struct, SpecError> {
    let mut fields: Vec<Field> = Vec::new();
    while let Some((line, words)) = lines.in_block("a struct")? {
        let error = |problem| SpecError { line, problem };
        let expected = || error(Problem::Expected { wanted: "bit<WIDTH> NAME", found: words.join(" ") });
        let [width, field] = words.as_slice() else { return Err(expected()) };
        if width.starts_with("varbit<") {
            return Err(error(Problem::Unsupported("a field of variable size".into())));
        }
        let bits = width.strip_prefix("bit<").and_then(|rest| rest.strip_suffix('>')).ok_or_else(expected)?;
        let bits: u32 = number(line, bits)?;
        if !(8..=64).contains(&bits) || !bits.is_multiple_of(8) {
            return Err(error(Problem::Width((*field).to_owned())));
        }
        if fields.iter().any(|known| known.name == *field) {
            return Err(error(Problem::Duplicate((*field).to_owned())));
        }
        if field.is_empty() || field.len() > swx::NAME_MAX {
            return Err(error(Problem::Name((*field).to_owned())));
        }
        fields.push(Field { name: (*field).to_owned(), bits });
    }
    Ok(Struct { name: name.to_owned(), fields })
}

fn action(lines: &mut Lines, name: &str, of: Option<&str>) -> Result<(Action, Vec<Instruction>), SpecError> {
    let action = Action { name: name.to_owned(), arguments: of.map(str::to_owned), instructions: Vec::new() };
    Ok((action, instructions(lines, "an action")?))
}

fn instructions(lines: &mut Lines, what: &'static str) -> Result<Vec<Instruction>, SpecError> {
    let mut all = Vec::new();
    while let Some((line, words)) = lines.in_block(what)? {
        all.push(Instruction::parse(line, &words)?);
    }
    Ok(all)
}

fn table(lines: &mut Lines, start: usize, name: &str) -> Result<Table, SpecError> {
    let mut table =
        Table { name: name.to_owned(), key: vec![], actions: vec![], default_action: String::new(), size: 0 };
    while let Some((line, words)) = lines.in_block("a table")? {
        let error = |problem| Err(SpecError { line, problem });
        match words.as_slice() {
            ["key", "{"] => key(lines, &mut table)?,
            ["actions", "{"] => table_actions(lines, &mut table)?,
            ["default_action", name, "args", "none"] | ["default_action", name, "args", "none", "const"] => {
                table.default_action = (*name).to_owned();
            }
            ["default_action", ..] => {
                return error(Problem::Unsupported("a default action with arguments".into()));
            }
            ["size", size] => table.size = number(line, size)?,
            [word @ ("hash" | "instanceof" | "pragma"), ..] => {
                return error(Problem::Unsupported(format!("{word:?} of a table")));
            }
            _ => {
                let found = words.join(" ");
                return error(Problem::Expected { wanted: "key, actions, default_action or size", found });
            }
        }
    }
    // Without these the table is not whole.
    let missing = match &table {
        Table { key, .. } if key.is_empty() => "a table without a key",
        Table { default_action, .. } if default_action.is_empty() => "a table without a default action",
        Table { size: 0 | u32::MAX, .. } => "a table without a size",
        _ => return Ok(table),
    };
    Err(SpecError { line: start, problem: Problem::Frame(missing) })
}

fn key(lines: &mut Lines, table: &mut Table) -> Result<(), SpecError> {
    while let Some((line, words)) = lines.in_block("a key")? {
        let error = |problem| Err(SpecError { line, problem });
        match words.as_slice() {
            [field, "exact"] => table.key.push((*field).to_owned()),
            [_, kind @ ("lpm" | "wildcard" | "ternary" | "range")] => {
                return error(Problem::Unsupported(format!("match of kind {kind}")));
            }
            _ => return error(Problem::Expected { wanted: "FIELD exact", found: words.join(" ") }),
        }
    }
    Ok(())
}

fn table_actions(lines: &mut Lines, table: &mut Table) -> Result<(), SpecError> {
    while let Some((line, words)) = lines.in_block("a table's actions")? {
        let (name, for_entries, for_default) = match words.as_slice() {
            [name] => (name, true, true),
            [name, "@tableonly"] => (name, true, false),
            [name, "@defaultonly"] => (name, false, true),
            _ => {
                let problem = Problem::Expected { wanted: "ACTION", found: words.join(" ") };
                return Err(SpecError { line, problem });
            }
        };
        if table.actions.iter().any(|action| action.name == **name) {
            return Err(SpecError { line, problem: Problem::Duplicate((*name).to_owned()) });
        }
        table.actions.push(TableAction { name: (*name).to_owned(), for_entries, for_default });
    }
    Ok(())
}
