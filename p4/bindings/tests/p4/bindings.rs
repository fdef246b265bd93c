//! Writes `src/generated.rs` from P4Info and the constants.

use std::fmt::Write;

use p4runtime_proto::p4::config::v1::P4Info;

use crate::program::{self, bmv2, bmv2_ids, id, ids_alone, name};
use crate::{constants, fresh, p4};

/// A field of the program, or two halves of one, as Rust has it.
struct Field {
    name: String,
    rust: &'static str,
    ids: Vec<u32>,
}

/// The Rust fields for fields of the program, given as id, name and width. Neighbours `x_hi` and `x_lo` are one `x`.
fn fields<'a>(fields: impl IntoIterator<Item = (u32, &'a str, i32)>) -> Vec<Field> {
    let mut made: Vec<Field> = Vec::new();
    let mut fields = fields.into_iter();
    while let Some((id, name, width)) = fields.next() {
        made.push(if let Some(half) = name.strip_suffix("_hi") {
            let low = fields.next().expect("a lower half");
            assert_eq!((width, low.1, low.2), (64, format!("{half}_lo").as_str(), 64));
            Field { name: half.to_owned(), rust: "u128", ids: vec![id, low.0] }
        } else {
            let rust = match width {
                8 => "u8",
                // Ids, of which nobody makes more than these can name.
                10 | 14 | 16 => "u16",
                32 => "u32",
                48 => "[u8; 6]",
                _ => panic!("{name}: no Rust type for {width} bits"),
            };
            Field { name: name.to_owned(), rust, ids: vec![id] }
        });
    }
    made
}

/// `flow_v4` is `FlowV4`.
fn camel(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..].to_lowercase();
    name.split('_').map(capital).collect()
}

fn write_list(out: &mut String, indent: &str, fields: &[Field]) {
    for Field { name, rust, ids } in fields {
        writeln!(out, "{indent}{name}: {rust} = {ids:?},").unwrap();
    }
}

fn write_tables(out: &mut String, info: &P4Info) {
    for table in &info.tables {
        let (id, name) = (id(&table.preamble), name(&table.preamble));
        let camel = camel(name);
        let key = fields(table.match_fields.iter().map(|f| (f.id, f.name.as_str(), f.bitwidth)));
        writeln!(out, "table! {{").unwrap();
        writeln!(out, "    /// Key of the table `{name}`.").unwrap();
        writeln!(out, "    {camel}Key -> {camel}Action, {id:#010x}, {name:?}, {}, {{", table.size).unwrap();
        write_list(out, "        ", &key);
        writeln!(out, "    }}\n}}\n").unwrap();

        writeln!(out, "actions! {{").unwrap();
        writeln!(out, "    /// What an entry of the table `{name}` does.").unwrap();
        writeln!(out, "    {camel}Action {{").unwrap();
        for action in program::entry_actions(info, table) {
            let params = fields(action.params.iter().map(|p| (p.id, p.name.as_str(), p.bitwidth)));
            let variant = crate::bindings::camel(program::name(&action.preamble));
            writeln!(out, "        {variant} = {:#010x} {{", program::id(&action.preamble)).unwrap();
            write_list(out, "            ", &params);
            writeln!(out, "        }}").unwrap();
        }
        writeln!(out, "    }}\n}}\n").unwrap();
    }
}

fn write_list_of_tables(out: &mut String, what: &str, constant: &str, info: &P4Info) {
    writeln!(
        out,
        "/// All tables of the program{what}, by id.\npub const {constant}: [Table; {}] = [",
        info.tables.len()
    )
    .unwrap();
    for table in &info.tables {
        writeln!(out, "    <{}Key as Key>::TABLE,", camel(name(&table.preamble))).unwrap();
    }
    writeln!(out, "];\n").unwrap();
}

fn write_resources(out: &mut String, info: &P4Info) {
    let mut put = |name: &str, what: &str, id: u32| {
        writeln!(out, "/// P4Runtime id of the {what} `{name}`.").unwrap();
        writeln!(out, "pub const ID_{}: u32 = {id:#010x};", name.to_uppercase()).unwrap();
    };
    for c in &info.counters {
        put(name(&c.preamble), "counter", id(&c.preamble));
    }
    for c in &info.direct_counters {
        put(name(&c.preamble), "direct counter", id(&c.preamble));
    }
    for m in &info.direct_meters {
        put(name(&m.preamble), "direct meter", id(&m.preamble));
    }
}

fn write_constants(out: &mut String) {
    for constant in constants::all() {
        if ["ETHER_", "PROTO_"].iter().any(|prefix| constant.after(prefix).is_some()) {
            let (name, bits) = (&constant.name, constant.bits);
            writeln!(out, "/// {}\npub const {name}: u{bits} = {:#x};", constant.text, constant.value).unwrap();
        }
    }
    for (prefix, rust, doc) in [
        ("DROP_", "SwitchDrop", "Why the switch drops a packet: the index of its counter `drops`."),
        ("PUNT_", "Punt", "Why the switch punts a packet: the PCP of the tag, and the index of its counter `punts`."),
        ("INJECT_", "Inject", "What the slow path wants with a frame it sends: the PCP of the tag."),
    ] {
        writeln!(out, "\nnumbers! {{\n    /// {doc}\n    {rust} {{").unwrap();
        for (name, constant) in constants::family(prefix) {
            if name == "NONE" {
                continue;
            }
            let (variant, label) = (camel(&name), name.to_lowercase());
            writeln!(out, "        {} {variant} {label:?} {:?};", constant.value, constant.text).unwrap();
        }
        writeln!(out, "    }}\n}}").unwrap();
    }
}

#[test]
fn bindings_are_fresh() {
    let mut out = String::from(
        "//! Tables, actions, ids and numbers of the P4 program.\n\
         //!\n\
         //! Generated from P4Info and `p4/core/constants.p4`: `UPDATE_P4=1 cargo test -p carom-p4`.\n\
         //!\n\
         //! A table is its key, its P4Runtime id, its name and its size; after each field come the ids of the match fields\n\
         //! or parameters that carry it.\n\n\
         use crate::table::{Key, Table, actions, numbers, table};\n\n",
    );
    let (plain, alone) = (bmv2(), ids_alone());
    [&plain, &alone].iter().for_each(|info| write_tables(&mut out, info));
    write_list_of_tables(&mut out, "", "TABLES", &plain);
    write_list_of_tables(&mut out, " by ids", "IDS_TABLES", &bmv2_ids());
    [&plain, &alone].iter().for_each(|info| write_resources(&mut out, info));
    out.push('\n');
    write_constants(&mut out);
    fresh(&p4().join("bindings/src/generated.rs"), &out);
}
