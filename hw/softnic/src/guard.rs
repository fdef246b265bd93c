//! Makes a program fit for the pipeline: what the compiler leaves to its target.
//!
//! SWX reads on past the end of a frame, and takes any number for one of its ports. So this puts instructions in:
//!
//! ```text
//! rx m.port                    rx m.port
//!                              extract h.carom_prefix            number of the wire, and bytes that are left
//!                              mov m.port h.carom_prefix.port
//!                              mov m.parser_error 0
//! extract h.ethernet           jmplt short h.carom_prefix.left 14
//!                              extract h.ethernet
//! extract h.ipv4               jmplt short h.carom_prefix.left 34
//!                              extract h.ipv4
//!  …                            …
//!                              jmp parsed
//!                       short: mov m.parser_error 1              error.PacketTooShort
//! (the parser's end)   parsed: …
//! emit h.ethernet              mov h.carom_prefix.port m.port_out
//! tx m.port_out                emit h.carom_prefix
//!                              emit h.ethernet
//!                              tx 0
//! drop                         tx 1
//! ```
//!
//! Where paths of different length meet, as with and without a VLAN tag, what the longer one took is subtracted from the
//! bytes that are left, so that a constant will do behind.
//!
//! And it leaves out what `rx` does anyway: to make all headers invalid.
//!
//! A program that does not look at `parser_error` never sees a frame that is too short: it is dropped.

use std::collections::{HashMap, HashSet};

use dpdk::swx::{Field, OUTPUT_DROP, OUTPUT_SEND, Program, Struct};

use crate::spec::{Instruction, Op, Problem, Spec, SpecError};

const PREFIX: &str = "carom_prefix";
const PREFIX_OPERAND: &str = "h.carom_prefix";
const PORT: &str = "h.carom_prefix.port";
const LEFT: &str = "h.carom_prefix.left";
/// The compiler's name for the error of PNA's main parser, and P4's number for a packet that is too short.
const PARSER_ERROR: &str = "pna_main_input_metadata_parser_error";
const PACKET_TOO_SHORT: &str = "0x1";
/// Labels; the compiler's are in capitals.
const SHORT: &str = "carom_short";
const PARSED: &str = "carom_parsed";

/// The program as the pipeline runs it.
pub fn program(spec: &Spec) -> Result<Program, SpecError> {
    let mut apply = without_first_invalidations(&spec.apply);
    let port_in = apply[0].operands[0].clone();
    outputs(&mut apply)?;
    let has_error = spec.find_struct(&spec.metadata).is_some_and(|of| of.field(PARSER_ERROR).is_some());
    let error = has_error.then(|| format!("m.{PARSER_ERROR}"));
    lengths(&mut apply, spec, error.as_deref())?;
    let mut start =
        vec![Instruction::new(Op::Extract, [PREFIX_OPERAND]), Instruction::new(Op::Mov, [port_in.as_str(), PORT])];
    start.extend(error.as_deref().map(|field| Instruction::new(Op::Mov, [field, "0x0"])));
    apply.splice(1..1, start);

    let mut structs = spec.structs.clone();
    let field = |name: &str| Field { name: name.into(), bits: 32 };
    structs.push(Struct { name: PREFIX.into(), fields: vec![field("port"), field("left")] });
    let mut headers = spec.headers.clone();
    headers.push((PREFIX.into(), PREFIX.into()));
    let mut actions = Vec::new();
    for (action, instructions) in &spec.actions {
        let instructions = instructions.iter().map(|each| discard(each.clone()).to_string()).collect();
        actions.push(dpdk::swx::Action { instructions, ..action.clone() });
    }
    Ok(Program {
        structs,
        headers,
        metadata: spec.metadata.clone(),
        registers: spec.registers.clone(),
        actions,
        tables: spec.tables.clone(),
        instructions: apply.iter().map(Instruction::to_string).collect(),
    })
}

/// The program starts by making every header invalid, which `rx` has just done.
fn without_first_invalidations(apply: &[Instruction]) -> Vec<Instruction> {
    let is_start = |each: &Instruction| matches!(each.op, Op::Rx | Op::Invalidate | Op::Mov) && each.label.is_none();
    let (start, rest) = apply.split_at(apply.iter().take_while(|each| is_start(each)).count());
    start.iter().filter(|each| each.op != Op::Invalidate).chain(rest).cloned().collect()
}

/// A drop becomes the output that drops.
fn discard(mut instruction: Instruction) -> Instruction {
    if instruction.op == Op::Drop {
        instruction.op = Op::Tx;
        instruction.operands = vec![OUTPUT_DROP.to_string()];
    }
    instruction
}

/// Puts `new` before the instruction at `at`, to which jumps to that one go now.
fn insert(apply: &mut Vec<Instruction>, at: usize, mut new: Vec<Instruction>) {
    if let (Some(old), Some(first)) = (apply.get_mut(at), new.first_mut()) {
        first.label = old.label.take();
    }
    apply.splice(at..at, new);
}

/// Where each label is.
fn labels(apply: &[Instruction]) -> HashMap<&str, usize> {
    apply.iter().enumerate().filter_map(|(at, each)| Some((each.label.as_deref()?, at))).collect()
}

/// Whether every way from before `at` to behind it goes through `at`: no jump leads across.
fn all_pass(apply: &[Instruction], at: usize) -> bool {
    let labels = labels(apply);
    apply[..at].iter().filter_map(Instruction::target).all(|target| labels.get(target).is_none_or(|to| *to <= at))
}

/// The number of the wire is emitted before everything else.
fn outputs(apply: &mut Vec<Instruction>) -> Result<(), SpecError> {
    for instruction in apply.iter_mut() {
        *instruction = discard(std::mem::replace(instruction, Instruction::new(Op::Drop, [])));
    }
    let is_send = |each: &&Instruction| each.op == Op::Tx && each.operands[0].starts_with("m.");
    let mut sends = apply.iter().filter(is_send);
    let (first, second) = (sends.next(), sends.next());
    let refuse = |line, what: &str| Err(SpecError { line, problem: Problem::Unsupported(what.into()) });
    let Some(send) = first else { return refuse(0, "a program that sends nothing") };
    if let Some(second) = second {
        return refuse(second.line, "a second tx");
    }
    let (line, port) = (send.line, send.operands[0].clone());
    let is_output = |each: &Instruction| each.op == Op::Emit || each.line == line;
    let output = apply.iter().position(is_output).unwrap_or(apply.len() - 1);
    let Some(at) = (1..=output).rev().find(|at| all_pass(apply, *at)) else {
        return refuse(line, "output on several ways");
    };
    for each in apply.iter_mut().filter(|each| each.line == line) {
        each.operands = vec![OUTPUT_SEND.to_string()];
    }
    let prefix = vec![Instruction::new(Op::Mov, [PORT, &port]), Instruction::new(Op::Emit, [PREFIX_OPERAND])];
    insert(apply, at, prefix);
    Ok(())
}

/// No header is extracted that is not there.
fn lengths(apply: &mut Vec<Instruction>, spec: &Spec, error: Option<&str>) -> Result<(), SpecError> {
    let Some(last) = apply.iter().rposition(|each| each.op == Op::Extract) else { return Ok(()) };
    let size = |each: &Instruction| each.header().and_then(|name| spec.header(name)).map_or(0, Struct::bytes);
    let mut subtracted = HashSet::new();
    let taken = loop {
        match taken(&apply[..=last], &size, &subtracted) {
            Ok(taken) => break taken,
            Err(extract) => subtracted.insert(extract),
        };
    };
    short_frames(apply, last, error);
    for (at, taken) in taken.into_iter().enumerate().rev() {
        if apply[at].op != Op::Extract {
            continue;
        }
        let size = size(&apply[at]);
        if subtracted.contains(&at) {
            insert_behind(apply, at, Instruction::new(Op::Sub, [LEFT, &size.to_string()]));
        }
        let needed = (taken + size).to_string();
        insert(apply, at, vec![Instruction::new(Op::JmpLt, [SHORT, LEFT, &needed])]);
    }
    Ok(())
}

fn insert_behind(apply: &mut Vec<Instruction>, at: usize, new: Instruction) {
    apply.insert(at + 1, new);
}

/// Bytes taken so far when an instruction begins, less those that were subtracted. Or, when two ways meet that took
/// different numbers of bytes, the last extraction on the longer one.
fn taken(
    apply: &[Instruction],
    size: &impl Fn(&Instruction) -> u32,
    subtracted: &HashSet<usize>,
) -> Result<Vec<u32>, usize> {
    let labels = labels(apply);
    let next = |at: usize| {
        let each = &apply[at];
        let target = each.target().and_then(|target| labels.get(target).copied());
        let next = each.falls_through().then_some(at + 1);
        [next, target].into_iter().flatten().filter(|to| *to < apply.len())
    };
    // Where nothing more is extracted, it does not matter what was.
    let mut more = vec![false; apply.len()];
    for at in (0..apply.len()).rev() {
        more[at] = apply[at].op == Op::Extract || next(at).any(|to| more[to]);
    }
    // The extractions before each instruction that were not subtracted. Unreachable ones have none.
    let mut before: Vec<Option<Vec<usize>>> = vec![None; apply.len()];
    before[0] = Some(Vec::new());
    let sum = |extracts: &[usize]| extracts.iter().map(|at| size(&apply[*at])).sum::<u32>();
    for (at, each) in apply.iter().enumerate() {
        let Some(mut after) = before[at].clone() else { continue };
        if each.op == Op::Extract && !subtracted.contains(&at) {
            after.push(at);
        }
        for to in next(at).filter(|to| more[*to]) {
            match &before[to] {
                Some(known) if sum(known) != sum(&after) => {
                    let longer = if sum(known) > sum(&after) { known } else { &after };
                    // A longer way has taken something.
                    return Err(*longer.last().unwrap_or(&to));
                }
                Some(_) => {}
                None => before[to] = Some(after.clone()),
            }
        }
    }
    Ok(before.iter().map(|extracts| extracts.as_deref().map_or(0, sum)).collect())
}

/// What becomes of frames that are too short: the program is told at the end of its parser, which is where all ways meet
/// behind the last extraction. Or they are dropped.
fn short_frames(apply: &mut Vec<Instruction>, last: usize, error: Option<&str>) {
    let labelled = |mut instruction: Instruction| {
        instruction.label = Some(SHORT.to_owned());
        instruction
    };
    let end = (last + 1..apply.len()).find(|at| all_pass(apply, *at));
    let (Some(error), Some(end)) = (error, end) else {
        apply.push(labelled(Instruction::new(Op::Tx, [OUTPUT_DROP.to_string().as_str()])));
        return;
    };
    let label = apply[end].label.get_or_insert_with(|| PARSED.to_owned()).clone();
    let mut new = Vec::new();
    if apply[end - 1].falls_through() {
        new.push(Instruction::new(Op::Jmp, [label.as_str()]));
    }
    new.push(labelled(Instruction::new(Op::Mov, [error, PACKET_TOO_SHORT])));
    apply.splice(end..end, new);
}
