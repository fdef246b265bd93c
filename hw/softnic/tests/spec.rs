//! The reader of `.spec` text: the program itself, what is wrong with broken ones, and noise.

use carom_p4::artifacts::PNA_SPEC;
use proptest::prelude::*;
use softnic::guard;
use softnic::spec::{Op, Problem, Spec, SpecError};

fn program() -> &'static str {
    str::from_utf8(PNA_SPEC).unwrap()
}

/// A small whole program, with what each test changes in it.
const SMALL: &str = "
// A comment.
struct ethernet_t {
	bit<48> dst
	bit<48> src
	bit<16> ether_type ; the type
}
struct tag_t {
	bit<16> tci
	bit<16> ether_type
}
struct meta_t {
	bit<32> port_in
	bit<32> port_out
	bit<16> pna_main_input_metadata_parser_error
}
struct go_arg_t {
	bit<32> port
}
header ethernet instanceof ethernet_t
header tag instanceof tag_t
metadata instanceof meta_t
regarray seen size 0x10 initval 0
action go args instanceof go_arg_t {
	mov m.port_out t.port
	return
}
action stay args none {
	drop
}
table out {
	key {
		h.ethernet.dst exact
	}
	actions {
		go @tableonly
		stay @defaultonly
	}
	default_action stay args none const
	size 0x40
}
apply {
	rx m.port_in
	invalidate h.ethernet
	extract h.ethernet
	jmpneq PLAIN h.ethernet.ether_type 0x8100
	extract h.tag
	PLAIN : jmpeq END m.pna_main_input_metadata_parser_error 0
	regadd seen m.port_in 1
	END : table out
	emit h.ethernet
	emit h.tag
	tx m.port_out
}
";

/// What is said of the program with one text changed for another, and the line.
fn problem(from: &str, to: &str) -> (usize, Problem) {
    assert!(SMALL.contains(from), "{from}");
    let SpecError { line, problem } = Spec::parse(&SMALL.replacen(from, to, 1)).expect_err(to);
    (line, problem)
}

fn line_of(text: &str) -> usize {
    1 + SMALL.lines().position(|line| line.contains(text)).unwrap()
}

#[test]
fn reads_the_program() {
    let spec = Spec::parse(program()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(spec.tables.len(), 10);
    assert_eq!(spec.header("ipv6").unwrap().bytes(), 40);
    let flow = spec.tables.iter().find(|table| table.name == "_flow_v4_0").unwrap();
    assert_eq!((flow.key.len(), flow.size, flow.default_action.as_str()), (5, 131072, "NoAction"));
    assert!(flow.actions.iter().all(|action| action.for_entries != action.for_default));
    let (rewrite, instructions) = spec.actions.iter().find(|(action, _)| action.name == "_rewrite_v4").unwrap();
    assert_eq!(rewrite.arguments.as_deref(), Some("_rewrite_v4_arg_t"));
    assert_eq!(instructions.last().unwrap().op, Op::Return);
    // Every statement is in: what is printed of the instructions is what was read.
    let printed: Vec<String> = spec.apply.iter().map(|instruction| instruction.to_string()).collect();
    let block = program().split_once("apply {").unwrap().1;
    let read = block.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let read: Vec<String> = read.filter(|line| !line.is_empty() && line != "}").collect();
    assert_eq!(printed, read);
}

#[test]
fn a_table_can_have_more_room_and_its_counters_with_it() {
    let mut spec = Spec::parse(program()).unwrap();
    assert!(spec.resize("_flow_v4_0", 1 << 18) && !spec.resize("_flow_v5_0", 1 << 18));
    let size = |name: &str| spec.registers.iter().find(|register| register.name == name).unwrap().size;
    assert_eq!(size("_flow_v4_count_0_packets"), (1 << 18) + 1);
    assert_eq!(size("_flow_v4_count_0_bytes"), (1 << 18) + 1);
    assert_eq!((size("_flow_v6_count_0_packets"), size("_drops_0")), (0x10001, 64));
}

#[test]
fn names_what_is_wrong_and_where() {
    use Problem::*;
    let undefined = |name: &str| Undefined(name.into());
    let operand = |instruction, operand: &str| Operand { instruction, operand: Some(operand.into()) };
    for (from, to, expected) in [
        ("bit<48> dst", "bit<47> dst", Width("dst".into())),
        ("bit<48> dst", "bit<128> dst", Width("dst".into())),
        ("bit<48> src", "bit<48> dst", Duplicate("dst".into())),
        ("bit<48> dst", "varbit<48> dst", Unsupported("a field of variable size".into())),
        ("header tag instanceof tag_t", "header tag instanceof tac_t", undefined("tac_t")),
        ("header tag instanceof tag_t", "header ethernet instanceof tag_t", Duplicate("ethernet".into())),
        ("header tag instanceof tag_t", "heather tag", Statement("heather".into())),
        ("regarray seen size 0x10 initval 0", "regarray seen size 0x initval 0", Number("0x".into())),
        ("regarray seen size 0x10 initval 0", "regarray seen size 0 initval 0", Number("0".into())),
        ("regarray seen size 0x10 initval 0", "metarray seen size 16", Unsupported("\"metarray\"".into())),
        ("mov m.port_out t.port", "mov m.port_out t.prt", operand("mov", "t.prt")),
        ("mov m.port_out t.port", "mov m.port_out", Operand { instruction: "mov", operand: None }),
        ("mov m.port_out t.port", "mov m.port_out t.port 1", operand("mov", "1")),
        ("mov m.port_out t.port", "extract h.tag", Frame("an instruction that is not for this block")),
        ("mov m.port_out t.port", "learn go m.port_out", Unsupported("the instruction learn".into())),
        ("mov m.port_out t.port", "move m.port_out t.port", Instruction("move".into())),
        ("h.ethernet.dst exact", "h.ethernet.dst lpm", Unsupported("match of kind lpm".into())),
        ("jmpneq PLAIN h", "jmpneq PAIN h", undefined("PAIN")),
        ("regadd seen m.port_in 1", "regadd sean m.port_in 1", operand("regadd", "sean")),
        ("regadd seen m.port_in 1", "jmp PLAIN", Backward("PLAIN".into())),
        ("regadd seen m.port_in 1", "PLAIN : regadd seen m.port_in 1", Duplicate("PLAIN".into())),
        ("regadd seen m.port_in 1", "ckadd m.port_in h.tag.tci", operand("ckadd", "m.port_in")),
        ("regadd seen m.port_in 1", "mov m.port_in 0x1ffffffffffffffff", operand("mov", "0x1ffffffffffffffff")),
        ("emit h.tag", "emit h.tac", operand("emit", "h.tac")),
    ] {
        assert_eq!(problem(from, to), (line_of(from), expected), "{to}");
    }
    // What is wrong with a whole is said where it begins.
    for (from, to, at, expected) in [
        ("rx m.port_in", "mov m.port_in 0", "apply {", Frame("the first instruction of the apply block is not rx")),
        ("\ttx m.port_out", "", "apply {", Frame("the instructions do not end with tx, drop, return or jmp")),
        ("size 0x40", "", "table out {", Frame("a table without a size")),
        ("go @tableonly", "gone @tableonly", "table out {", undefined("gone")),
        ("stay @defaultonly", "stay @tableonly", "table out {", undefined("stay")),
        ("args instanceof go_arg_t", "args instanceof go_t", "action go", undefined("go_t")),
    ] {
        assert_eq!(problem(from, to), (line_of(at), expected), "{to}");
    }
    assert!(matches!(problem("metadata instanceof meta_t", ""), (_, Frame("there is no metadata"))));
    let open = SMALL.trim_end().strip_suffix('}').unwrap();
    assert!(matches!(Spec::parse(open), Err(SpecError { problem: Unfinished("the apply block"), .. })));
}

fn guarded(text: &str) -> Result<Vec<String>, SpecError> {
    Ok(guard::program(&Spec::parse(text)?)?.instructions)
}

#[test]
fn guards_are_put_where_a_frame_may_end() {
    let expected = "\
rx m.port_in
extract h.carom_prefix
mov m.port_in h.carom_prefix.port
mov m.pna_main_input_metadata_parser_error 0x0
jmplt carom_short h.carom_prefix.left 14
extract h.ethernet
jmpneq PLAIN h.ethernet.ether_type 0x8100
jmplt carom_short h.carom_prefix.left 18
extract h.tag
jmp PLAIN
carom_short : mov m.pna_main_input_metadata_parser_error 0x1
PLAIN : jmpeq END m.pna_main_input_metadata_parser_error 0
regadd seen m.port_in 1
END : table out
mov h.carom_prefix.port m.port_out
emit h.carom_prefix
emit h.ethernet
emit h.tag
tx 0";
    assert_eq!(guarded(SMALL).unwrap().join("\n"), expected);
    let program = guard::program(&Spec::parse(SMALL).unwrap()).unwrap();
    assert_eq!(program.actions[1].instructions, ["tx 1"], "drop");
}

#[test]
fn lengths_are_right_where_ways_of_different_length_meet() {
    // One more header behind the place where both meet.
    let text = SMALL
        .replace("PLAIN : jmpeq", "PLAIN : extract h.more\n\tjmpeq")
        .replace("header tag instanceof tag_t", "header tag instanceof tag_t\nheader more instanceof tag_t");
    let instructions = guarded(&text).unwrap().join("\n");
    assert!(instructions.contains("18\nextract h.tag\nsub h.carom_prefix.left 4\n"), "{instructions}");
    assert!(
        instructions.contains("PLAIN : jmplt carom_short h.carom_prefix.left 18\nextract h.more\n"),
        "{instructions}"
    );
}

#[test]
fn a_program_that_does_not_ask_never_sees_a_short_frame() {
    let text = SMALL.replace("pna_main_input_metadata_parser_error", "something");
    let instructions = guarded(&text).unwrap();
    assert_eq!(instructions.last().unwrap(), "carom_short : tx 1");
    assert!(!instructions.iter().any(|line| line.contains("parser_error")));
}

#[test]
fn a_program_with_two_ends_is_refused() {
    let text = SMALL.replace("regadd seen m.port_in 1", "tx m.port_in");
    let error = guarded(&text).unwrap_err();
    assert_eq!(error.problem, Problem::Unsupported("a second tx".into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the text, there is an answer.
    #[test]
    fn noise_is_refused_without_a_panic(text in "\\PC{0,400}") {
        let _ = guarded(&text);
    }

    /// The program itself with lines cut, doubled, exchanged and words changed.
    #[test]
    fn damaged_programs_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5u8), 1..6),
    ) {
        let mut lines: Vec<String> = SMALL.lines().map(str::to_owned).collect();
        for (at, other, edit) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match edit {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                3 => {
                    let words: Vec<String> = lines[at].split_whitespace().map(str::to_owned).collect();
                    let new = lines[other].split_whitespace().last().unwrap_or("{").to_owned();
                    lines[at] = words.iter().take(words.len().saturating_sub(1)).cloned().chain([new]).collect::<Vec<_>>().join(" ");
                }
                _ => lines[at] = lines[at].chars().rev().collect(),
            }
            if lines.is_empty() {
                lines.push(String::new());
            }
        }
        let _ = guarded(&lines.join("\n"));
    }
}
