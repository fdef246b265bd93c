//! Writes the page of what Tofino has of the program, from what its compiler said.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use crate::{fresh, p4, program, read};

/// `build/tofino/*/resources.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    tofino1: Chip,
    tofino2: Chip,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chip {
    /// Worst case, as the compiler estimates it.
    watts: f64,
    cycles: u64,
    /// Stages the chip has.
    stages: u64,
    /// Used, and there.
    parser_states: [u64; 2],
    containers: Vec<Containers>,
    stage: Vec<BTreeMap<String, u64>>,
    table: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Containers {
    kind: String,
    bits: u64,
    used: u64,
    of: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    size: u64,
    allocated: u64,
    stages: Vec<u64>,
    key: u64,
    action: u64,
    counter: u64,
    meter: u64,
}

/// `build/tofino/capacity.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Capacity {
    variant: Vec<Variant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variant {
    chip: String,
    program: String,
    /// `packets_and_bytes`, `packets` or `none`.
    counters: String,
    ageing: bool,
    /// Entries of `flow_v6`.
    flow_v6: u64,
    tried: Vec<Trial>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trial {
    /// Over IPv4; plain ones have two entries of `flow_v4`.
    connections: u64,
    fits: bool,
    /// That it took, or would; 0 where the compiler gave up.
    stages: u64,
    watts: Option<f64>,
}

impl Variant {
    /// The largest that fits, and the smallest that does not.
    fn limits(&self) -> (&Trial, &Trial) {
        let (fit, not): (Vec<_>, Vec<_>) = self.tried.iter().partition(|trial| trial.fits);
        let most = fit.into_iter().max_by_key(|trial| trial.connections).expect("one that fits");
        (most, not.into_iter().min_by_key(|trial| trial.connections).expect("one that does not"))
    }
}

fn capacity() -> Capacity {
    toml::from_str(&read(&p4().join("build/tofino/capacity.toml"))).expect("what was tried")
}

/// What a stage has of each resource, by its name in the report: how the page calls it, how many there are.
const RESOURCES: [(&str, &str, u64); 10] = [
    ("sram", "SRAM blocks", 80),
    ("tcam", "TCAM blocks", 24),
    ("map_ram", "map RAMs", 48),
    ("hash_bits", "hash bits", 416),
    ("crossbar_bytes", "crossbar bytes", 194),
    ("action_bus_bytes", "action bus bytes", 128),
    ("gateways", "gateways", 16),
    ("logical_tables", "logical tables", 16),
    ("meter_alus", "meter ALUs", 4),
    ("statistics_alus", "statistics ALUs", 4),
];

/// The programs: as the scripts call them, and as the book does.
const PROGRAMS: [(&str, &str); 2] = [("plain", "plain"), ("ids", "by ids")];

fn report(program: &str) -> Report {
    toml::from_str(&read(&p4().join(format!("build/tofino/{program}/resources.toml")))).expect("a report")
}

impl Chip {
    fn total(&self, resource: &str) -> u64 {
        self.stage.iter().map(|stage| stage[resource]).sum()
    }

    fn used_stages(&self) -> usize {
        self.stage.iter().filter(|stage| stage["logical_tables"] > 0).count()
    }
}

fn percent(used: u64, of: u64) -> String {
    format!("{used} ({:.0} %)", 100.0 * used as f64 / of as f64)
}

fn write_totals(page: &mut String, chips: &[(String, &Chip)]) {
    let names: Vec<_> = chips.iter().map(|(name, _)| name.as_str()).collect();
    writeln!(page, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len())).unwrap();
    let mut row = |what: &str, value: &dyn Fn(&Chip) -> String| {
        let values: Vec<_> = chips.iter().map(|(_, chip)| value(chip)).collect();
        writeln!(page, "| {what} | {} |", values.join(" | ")).unwrap();
    };
    row("stages used, of", &|c| format!("{}, {}", c.used_stages(), c.stages));
    row("worst-case power, as estimated by the compiler", &|c| format!("{} W", c.watts));
    row("cycles through the ingress", &|c| c.cycles.to_string());
    row("parser states, of", &|c| format!("{}, {}", c.parser_states[0], c.parser_states[1]));
    for (key, name, there) in RESOURCES {
        row(name, &|c| percent(c.total(key), there * c.stages));
    }
    for bits in [8, 16, 32] {
        row(&format!("containers of {bits} bits"), &|c| {
            let each = c.containers.iter().filter(|of| of.bits == bits);
            each.map(|of| format!("{} {} of {}", of.kind, of.used, of.of)).collect::<Vec<_>>().join(", ")
        });
    }
}

fn write_tables(page: &mut String, chip: &Chip) {
    page.push_str("| table | entries | slots | stages | SRAM: keys | action data | counters | meters |\n");
    page.push_str("|---|---|---|---|---|---|---|---|\n");
    for t in &chip.table {
        let stages = match (t.stages.first(), t.stages.last()) {
            (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
            (Some(only), _) => only.to_string(),
            _ => String::new(),
        };
        let Table { name, size, allocated, key, action, counter, meter, .. } = t;
        writeln!(page, "| `{name}` | {size} | {allocated} | {stages} | {key} | {action} | {counter} | {meter} |")
            .unwrap();
    }
}

fn write_stages(page: &mut String, chip: &Chip) {
    let names: Vec<_> = RESOURCES.iter().map(|(_, name, _)| *name).collect();
    writeln!(page, "| stage | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len())).unwrap();
    for stage in &chip.stage {
        let used: Vec<_> = RESOURCES.iter().map(|(key, ..)| stage[*key].to_string()).collect();
        writeln!(page, "| {} | {} |", stage["number"], used.join(" | ")).unwrap();
    }
}

/// Sizes with thin spaces would be hard to search for: plain ones between groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(" ")
}

fn write_capacity(page: &mut String) {
    page.push_str(
        "\n## How many connections fit\n\n\
         Found by trying (`scripts/p4-tna-capacity`): the largest number that was compiled and assembled, and the next one\n\
         that was tried and was not. Connections over IPv6 are beside them. Sizes are of tables, not of what hash ways let\n\
         them fill.\n\n\
         | chip | program | counters | ageing | over IPv4 | over IPv6 | stages | worst case | does not fit |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for variant in capacity().variant {
        let (most, not) = variant.limits();
        let over = if not.stages > 0 { format!("{} stages", not.stages) } else { "no placement".to_owned() };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} W | {}: {over} |",
            variant.chip.replace("tofino", "Tofino "),
            PROGRAMS.iter().find(|(program, _)| *program == variant.program).expect("a program").1,
            variant.counters.replace("_and_", " and "),
            if variant.ageing { "yes" } else { "no" },
            grouped(most.connections),
            grouped(variant.flow_v6 / 2),
            most.stages,
            most.watts.expect("watts of what fits"),
            grouped(not.connections),
        )
        .unwrap();
    }
}

/// Each search came to an end, and the programs have no more connections than one of them found.
#[test]
fn the_programs_are_as_large_as_was_found() {
    let capacity = capacity();
    for variant in &capacity.variant {
        let (most, not) = variant.limits();
        assert!((1..=most.connections / 16).contains(&(not.connections - most.connections)));
    }
    for (program, _) in PROGRAMS {
        for number in [1, 2] {
            let info = program::tofino(program, number);
            let size =
                |table: &str| info.tables.iter().find(|t| program::name(&t.preamble) == table).map(|t| t.size as u64);
            let connections = size("inbound_v4").or(size("flow_v4").map(|entries| entries / 2)).expect("a size");
            let found = |v: &&Variant| {
                v.ageing
                    && v.counters != "none"
                    && (v.chip.as_str(), v.program.as_str()) == (&*format!("tofino{number}"), program)
                    && Some(v.flow_v6) == size("flow_v6")
                    && v.limits().0.connections >= connections
            };
            assert!(
                capacity.variant.iter().any(|v| found(&v)),
                "{program}, Tofino {number}: {connections} connections"
            );
        }
    }
}

#[test]
fn the_page_of_tofino_is_fresh() {
    let reports = PROGRAMS.map(|(program, name)| (name, report(program)));
    let chips: Vec<_> = reports
        .iter()
        .flat_map(|(name, of)| [(format!("Tofino 1, {name}"), &of.tofino1), (format!("Tofino 2, {name}"), &of.tofino2)])
        .collect();
    let mut page = String::from(
        "# What Tofino has of the program\n\n\
         <!-- Generated from p4/build/tofino/: UPDATE_P4=1 cargo test -p carom-p4 -->\n\n\
         What p4c's Tofino back end and its assembler said of the two programs at the sizes they are compiled for\n\
         (`make p4 ARCH=tna`). No chip has run them. [What that means](tofino.md).\n\n",
    );
    write_totals(&mut page, &chips);
    write_capacity(&mut page);
    for (title, chip) in chips {
        writeln!(page, "\n## {title}\n").unwrap();
        write_tables(&mut page, chip);
        page.push_str("\nEntries are what the program asks for; slots are what the compiler gave, in SRAM blocks.\n\n");
        write_stages(&mut page, chip);
    }
    fresh(&p4().join("../docs/src/tofino-resources.md"), &page);
}

/// The report is of programs that fit, with the tables and sizes of P4Info.
#[test]
fn the_report_is_of_the_program() {
    for (program, _) in PROGRAMS {
        let report = report(program);
        for (number, chip) in [(1, &report.tofino1), (2, &report.tofino2)] {
            assert!(chip.stage.len() as u64 <= chip.stages && chip.used_stages() > 0);
            for (key, name, there) in RESOURCES {
                assert!(chip.stage.iter().all(|stage| stage[key] <= there), "more {name} than Tofino {number} has");
            }
            let info = program::tofino(program, number);
            assert_eq!(info.tables.len(), chip.table.len());
            for table in &info.tables {
                let name = program::name(&table.preamble);
                let row = chip.table.iter().find(|row| row.name == name).expect(name);
                assert_eq!((row.size as i64, row.allocated >= row.size), (table.size, true), "{name}");
            }
        }
    }
}
