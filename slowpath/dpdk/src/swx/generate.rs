//! Writes a program as C.
//!
//! The code takes a burst of packets to its end. Each packet runs until a lookup waits for memory, then the next one does; so
//! the memory accesses of a burst overlap, as they do when DPDK interprets the program. In between, instructions are
//! straight C: places are constants, actions stand where their table is looked into, jumps are jumps.
//!
//! Everything means what it means to SWX, down to a checksum that is never 0, so that both give the same bytes.

use std::collections::HashSet;
use std::fmt::{self, Write};

use super::program::{Argument, Layout, Program};

/// Types and arithmetic, before the program's own state.
const PRELUDE: &str = include_str!("c/prelude.c");
/// Emission of headers, behind it.
const EMIT: &str = include_str!("c/emit.c");

/// An instruction that generated code does not have, although DPDK takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotGenerated {
    /// The instruction.
    pub line: String,
}

impl fmt::Display for NotGenerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no code can be generated for {:?}", self.line)
    }
}

impl std::error::Error for NotGenerated {}

/// The C text of a program that SWX took, whose tables have these layouts.
pub(super) fn generate(program: &Program, layouts: &[Layout]) -> Result<String, NotGenerated> {
    let mut generator = Generator { program, layouts, moving: moving(program), text: String::from(PRELUDE), sites: 0 };
    generator.state();
    generator.text.push_str(EMIT);
    generator.steps()?;
    generator.text.push_str(include_str!("c/burst.c"));
    Ok(generator.text)
}

/// Headers that may lie in a packet or in a place of their own; all others have only the latter.
fn moving(program: &Program) -> HashSet<&str> {
    let all = program.actions.iter().flat_map(|action| &action.instructions).chain(&program.instructions);
    let header = |line: &'_ str| -> Option<usize> {
        let (_, op, operands) = words(line);
        let name = operands.first().filter(|_| op == "extract")?.strip_prefix("h.")?.to_owned();
        program.headers.iter().position(|(header, _)| *header == name)
    };
    all.filter_map(|line| header(line)).map(|at| program.headers[at].0.as_str()).collect()
}

/// Label, name and operands of an instruction.
fn words(line: &str) -> (Option<&str>, &str, Vec<&str>) {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let label = (words.get(1) == Some(&":")).then(|| words[0]);
    if label.is_some() {
        words.drain(..2);
    }
    let op = if words.is_empty() { "" } else { words.remove(0) };
    (label, op, words)
}

/// Where an operand is, as C: a number, or an address with a width in bytes and an order.
enum Place {
    Number(u64),
    Bytes { at: String, bytes: u32, network_order: bool },
}

impl Place {
    fn value(&self) -> String {
        match self {
            Place::Number(number) => format!("{number:#x}ull"),
            Place::Bytes { at, bytes, network_order: true } => format!("get_net({at}, {bytes})"),
            Place::Bytes { at, bytes, network_order: false } => format!("get({at}, {bytes})"),
        }
    }

    /// The bytes as they lie.
    fn raw(&self) -> String {
        match self {
            Place::Number(number) => format!("{number:#x}ull"),
            Place::Bytes { at, bytes, .. } => format!("get({at}, {bytes})"),
        }
    }
}

/// Instructions that belong together: those of the program, or of an action where a table is looked into.
struct Block<'a> {
    /// In front of its labels.
    prefix: String,
    arguments: &'a [Argument],
    /// The label behind it.
    end: String,
}

struct Generator<'a> {
    program: &'a Program,
    layouts: &'a [Layout],
    moving: HashSet<&'a str>,
    text: String,
    /// Table instructions so far.
    sites: usize,
}

impl Generator<'_> {
    fn line(&mut self, arguments: fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.text.write_fmt(arguments);
        self.text.push('\n');
    }

    /// What a packet has while it is under way.
    fn state(&mut self) {
        let bytes = |of: &str| self.program.find_struct(of).map_or(0, super::Struct::bytes);
        let headers: Vec<u32> = self.program.headers.iter().map(|(_, of)| bytes(of)).collect();
        let meta = bytes(&self.program.metadata);
        let emits = self.program.instructions.iter().filter(|line| words(line).1 == "emit").count();
        self.line(format_args!("\n#define DROP {}", super::OUTPUT_DROP));
        self.line(format_args!("#define HEADER_BYTES {}", headers.iter().sum::<u32>().max(1)));
        self.line(format_args!(
            "\nstruct state {{\n\tu8 meta[{meta}];\n\tu32 at;\n\tu32 pieces;\n\tu64 valid;\n\tu8 *rest;"
        ));
        for (at, bytes) in headers.iter().enumerate() {
            if self.moving.contains(self.program.headers[at].0.as_str()) {
                self.line(format_args!("\tu8 *p{at};"));
            }
            self.line(format_args!("\tu8 h{at}[{bytes}];"));
        }
        self.line(format_args!("\tstruct {{ u8 *start, *end; }} piece[{}];", emits.max(1)));
        // As large as any table wants.
        self.line(format_args!("\tu64 mailbox[8];\n}} __attribute__((aligned(64)));"));
    }

    /// The program.
    fn steps(&mut self) -> Result<(), NotGenerated> {
        self.line(format_args!(
            "\n/* Runs one packet until it leaves, and says whether it did. */\n\
             static int step(const struct environment *e, struct state *c, struct packet *p)\n{{\n\
             \tu64 action = 0;\n\tu8 *data = 0;\n\t__SIZE_TYPE__ entry = 0;\n\tint hit = 0;\n\
             \tswitch (c->at) {{"
        ));
        let sites = self.program.instructions.iter().filter(|line| words(line).1 == "table").count();
        for site in 1..=sites {
            self.line(format_args!("\tcase {site}: goto look_up_{site};"));
        }
        self.line(format_args!("\t}}"));
        let block = Block { prefix: "l_".into(), arguments: &[], end: String::new() };
        for line in &self.program.instructions {
            self.instruction(line, &block)?;
        }
        self.line(format_args!("\treturn leave(c, p, DROP);\n}}"));
        Ok(())
    }

    fn header(&self, operand: &str) -> Option<usize> {
        let name = operand.strip_prefix("h.")?;
        self.program.headers.iter().position(|(header, _)| header == name)
    }

    /// Where a header is, as C.
    fn address(&self, header: usize) -> String {
        let moves = self.moving.contains(self.program.headers[header].0.as_str());
        format!("c->{}{header}", if moves { 'p' } else { 'h' })
    }

    fn place(&self, operand: &str, block: &Block<'_>) -> Option<Place> {
        if let Some(name) = operand.strip_prefix("t.") {
            let argument = block.arguments.iter().find(|argument| argument.name == name)?;
            let at = format!("data + {}", argument.offset);
            return Some(Place::Bytes { at, bytes: argument.bits / 8, network_order: argument.network_order });
        }
        if let Some((of, network_order, name)) = self.program.resolve(operand) {
            let (field, offset) = of.field(name)?;
            let base = match operand.strip_prefix("h.").and_then(|rest| rest.split_once('.')) {
                Some((header, _)) => self.address(self.header(&format!("h.{header}"))?),
                None => "c->meta".into(),
            };
            return Some(Place::Bytes { at: format!("{base} + {offset}"), bytes: field.bits / 8, network_order });
        }
        let number = match operand.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => operand.parse(),
        };
        number.ok().map(Place::Number)
    }

    fn instruction(&mut self, line: &str, block: &Block<'_>) -> Result<(), NotGenerated> {
        let (label, op, operands) = words(line);
        if let Some(label) = label {
            self.line(format_args!("{}{label}: ;", block.prefix));
        }
        let done = match op {
            "table" => self.table(&operands)?,
            "rx" | "tx" | "extract" | "emit" | "validate" | "invalidate" => self.packet(op, &operands, block),
            "regprefetch" | "regrd" | "regwr" | "regadd" => self.register(op, &operands, block),
            "ckadd" | "cksub" => self.checksum(op, &operands, block),
            _ if op.starts_with("jmp") => self.jump(op, &operands, block),
            _ => self.assignment(op, &operands, block),
        };
        done.ok_or_else(|| NotGenerated { line: line.to_owned() })
    }

    /// Packets and headers.
    fn packet(&mut self, op: &str, operands: &[&str], block: &Block<'_>) -> Option<()> {
        let operand = operands.first()?;
        match op {
            "rx" => {
                self.line(format_args!("\tc->valid = 0;\n\tc->pieces = 0;\n\tc->rest = p->start;"));
                for (at, (header, _)) in self.program.headers.iter().enumerate() {
                    // A header that was not extracted lies in no packet.
                    if self.moving.contains(header.as_str()) {
                        self.line(format_args!("\tc->p{at} = c->h{at};"));
                    }
                }
                self.set(self.place(operand, block)?, "0".into())?;
            }
            "tx" => self.line(format_args!("\treturn leave(c, p, {});", operand.parse::<u32>().ok()?)),
            _ => {
                let header = self.header(operand)?;
                let (at, bit) = (self.address(header), format!("{:#x}ull", 1u64 << header));
                let bytes = self.program.find_struct(&self.program.headers[header].1)?.bytes();
                match op {
                    "extract" => {
                        self.line(format_args!("\t{at} = c->rest;\n\tc->valid |= {bit};\n\tc->rest += {bytes};"));
                    }
                    "emit" => self.line(format_args!("\tif (c->valid & {bit})\n\t\temit(c, {at}, {bytes});")),
                    "invalidate" => self.line(format_args!("\tc->valid &= ~{bit};")),
                    // Its own place, if it had none.
                    _ if at.starts_with("c->p") => self.line(format_args!(
                        "\tif (!(c->valid & {bit}))\n\t\t{at} = c->h{header};\n\tc->valid |= {bit};"
                    )),
                    _ => self.line(format_args!("\tc->valid |= {bit};")),
                }
            }
        }
        Some(())
    }

    fn set(&mut self, to: Place, value: String) -> Option<()> {
        let Place::Bytes { at, bytes, network_order } = to else { return None };
        let put = if network_order { "put_net" } else { "put" };
        self.line(format_args!("\t{put}({at}, {bytes}, {value});"));
        Some(())
    }

    fn assignment(&mut self, op: &str, operands: &[&str], block: &Block<'_>) -> Option<()> {
        if op == "return" {
            self.line(format_args!("\tgoto {};", block.end));
            return Some(());
        }
        let to = self.place(operands.first()?, block)?;
        if op == "entryid" {
            return self.set(to, "entry".into());
        }
        let (old, from) = (to.value(), self.place(operands.get(1)?, block)?.value());
        let value = match op {
            "mov" => from,
            "add" => format!("{old} + {from}"),
            "sub" => format!("{old} - {from}"),
            "and" => format!("{old} & {from}"),
            "or" => format!("{old} | {from}"),
            "xor" => format!("{old} ^ {from}"),
            // A shift by 64 or more has no meaning in either.
            "shl" => format!("{old} << ({from} & 63)"),
            "shr" => format!("{old} >> ({from} & 63)"),
            _ => return None,
        };
        self.set(to, value)
    }

    fn checksum(&mut self, op: &str, operands: &[&str], block: &Block<'_>) -> Option<()> {
        let [to, from] = operands else { return None };
        let Place::Bytes { at, .. } = self.place(to, block)? else { return None };
        if let Some(header) = self.header(from).filter(|_| op == "ckadd") {
            let bytes = self.program.find_struct(&self.program.headers[header].1)?.bytes();
            let from = self.address(header);
            self.line(format_args!("\tsum_add_all({at}, {from}, {bytes});"));
            return Some(());
        }
        let from = self.place(from, block)?.raw();
        let sum = if op == "ckadd" { "sum_add" } else { "sum_subtract" };
        self.line(format_args!("\t{sum}({at}, {from});"));
        Some(())
    }

    fn register(&mut self, op: &str, operands: &[&str], block: &Block<'_>) -> Option<()> {
        let (to, operands) = if op == "regrd" { (Some(*operands.first()?), &operands[1..]) } else { (None, operands) };
        let name = operands.first()?;
        let array = self.program.registers.iter().position(|register| register.name == *name)?;
        let mask = self.program.registers[array].words() - 1;
        let index = self.place(operands.get(1)?, block)?.value();
        let word = format!("&e->registers[{array}][{index} & {mask:#x}]");
        let value = operands.get(2).and_then(|operand| self.place(operand, block)).map(|place| place.value());
        match op {
            "regprefetch" => self.line(format_args!("\t__builtin_prefetch({word});")),
            "regrd" => self.set(self.place(to?, block)?, format!("reg_get({word})"))?,
            "regwr" => self.line(format_args!("\treg_put({word}, {});", value?)),
            _ => self.line(format_args!("\t{{ u64 *word = {word}; reg_put(word, reg_get(word) + {}); }}", value?)),
        }
        Some(())
    }

    fn jump(&mut self, op: &str, operands: &[&str], block: &Block<'_>) -> Option<()> {
        let label = format!("{}{}", block.prefix, operands.first()?);
        let valid = || Some(1u64 << self.header(operands.get(1)?)?);
        let action = || self.program.actions.iter().position(|action| Some(&action.name.as_str()) == operands.get(1));
        let condition = match op {
            "jmp" => "1".into(),
            "jmpv" => format!("c->valid & {:#x}ull", valid()?),
            "jmpnv" => format!("!(c->valid & {:#x}ull)", valid()?),
            "jmph" => "hit".into(),
            "jmpnh" => "!hit".into(),
            "jmpa" => format!("action == {}", action()?),
            "jmpna" => format!("action != {}", action()?),
            _ => {
                let compare = match op {
                    "jmpeq" => "==",
                    "jmpneq" => "!=",
                    "jmplt" => "<",
                    "jmpgt" => ">",
                    _ => return None,
                };
                let [_, left, right] = operands else { return None };
                format!("{} {compare} {}", self.place(left, block)?.value(), self.place(right, block)?.value())
            }
        };
        self.line(format_args!("\tif ({condition})\n\t\tgoto {label};"));
        Some(())
    }

    /// A lookup, and the actions it may lead to.
    fn table(&mut self, operands: &[&str]) -> Result<Option<()>, NotGenerated> {
        let Some(table) = self.program.tables.iter().position(|table| Some(&table.name.as_str()) == operands.first())
        else {
            return Ok(None);
        };
        self.sites += 1;
        let (program, site, layout) = (self.program, self.sites, &self.layouts[table]);
        let number = |name: &str| program.actions.iter().position(|action| action.name == name);
        let base = match program.tables[table].key.first().and_then(|key| key.strip_prefix("h.")?.split_once('.')) {
            Some((header, _)) => self.header(&format!("h.{header}")).map(|header| self.address(header)),
            None => Some("c->meta".into()),
        };
        let (Some(base), Some(default)) = (base, number(&program.tables[table].default_action)) else {
            return Ok(None);
        };
        self.line(format_args!(
            "look_up_{site}: ;\n\t{{\n\t\tu8 *key = {base};\n\
             \t\tif (!e->look_up(e->tables[{table}], c->mailbox, &key, &action, &data, &entry, &hit)) {{\n\
             \t\t\tc->at = {site};\n\t\t\treturn 0;\n\t\t}}\n\t}}\n\
             \taction = hit ? action : {default};\n\tentry = hit ? entry + 1 : 0;\n\tswitch (action) {{"
        ));
        let mut done = HashSet::new();
        let own = layout.actions.iter().map(|(number, _, arguments)| (*number as usize, arguments.as_slice()));
        for (number, arguments) in own.chain([(default, &[][..])]) {
            if !done.insert(number) {
                continue;
            }
            self.line(format_args!("\tcase {number}: ;"));
            let block = Block { prefix: format!("l_{site}_{number}_"), arguments, end: format!("looked_up_{site}") };
            for line in &program.actions[number].instructions {
                self.instruction(line, &block)?;
            }
        }
        self.line(format_args!("\t}}\nlooked_up_{site}: ;"));
        Ok(Some(()))
    }
}
