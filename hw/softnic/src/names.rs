//! What the controller's names and numbers are in the pipeline.
//!
//! P4Info has the program as it was written, the spec as p4c-dpdk took it apart: `flow_v4` became `_flow_v4_0`, its direct
//! counter two register arrays `_flow_v4_count_0_packets` and `_flow_v4_count_0_bytes`. Keys and parameters kept their
//! order. Where a name fits several things the exact one wins, and otherwise nothing is guessed.

use std::collections::HashMap;
use std::fmt;

use dpdk::swx::{KeyField, Layout};
use p4runtime_proto::p4::config::v1::{P4Info, Preamble, Table, action_ref::Scope};

/// A value of a key or of an action: its id and width for the controller, its place in the pipeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// Id of the match field or parameter.
    pub id: u32,
    /// Its width in bits.
    pub bits: u32,
    /// Where the pipeline has it.
    pub place: KeyField,
}

/// An action of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActionNames {
    /// The controller's id.
    pub id: u32,
    /// The pipeline's number.
    pub number: u32,
    /// Its parameters, in order.
    pub params: Vec<Value>,
}

/// The register arrays of a counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterNames {
    /// The controller's id.
    pub id: u32,
    /// Counts packets.
    pub packets: usize,
    /// Counts bytes, where the program does.
    pub bytes: Option<usize>,
    /// How many there are.
    pub size: u32,
}

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableNames {
    /// The controller's id.
    pub id: u32,
    /// The pipeline's number.
    pub index: usize,
    /// Its key, in order.
    pub key: Vec<Value>,
    /// The actions its entries may have.
    pub actions: Vec<ActionNames>,
    /// Its direct counter.
    pub counter: Option<CounterNames>,
    /// The controller's id of what it does on a miss, where P4Info has it.
    pub default_action: Option<u32>,
}

/// All of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// In the pipeline's order.
    pub tables: Vec<TableNames>,
    /// Place of each table in `tables`, by the controller's id.
    pub by_id: HashMap<u32, usize>,
    /// Counters that are not a table's.
    pub counters: Vec<CounterNames>,
}

/// P4Info and spec are not of the same program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamesError {
    /// P4Info names something that the spec does not have, or has more than once.
    NotFound {
        /// What it is: table, action, counter.
        what: &'static str,
        /// Its name in P4Info.
        name: String,
    },
    /// Something has other fields in the spec, or narrower ones.
    Differs {
        /// Its name in P4Info.
        name: String,
    },
    /// P4Info has a kind of object that this target does not have.
    Unsupported {
        /// What it is.
        what: &'static str,
    },
}

impl fmt::Display for NamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamesError::NotFound { what, name } => write!(f, "the spec has no one {what} for {name:?} of P4Info"),
            NamesError::Differs { name } => write!(f, "{name:?} has other fields in the spec than in P4Info"),
            NamesError::Unsupported { what } => write!(f, "this target has no {what}"),
        }
    }
}

impl std::error::Error for NamesError {}

/// Whether the compiler may have made `spec` of `p4`, and whether it could not have made it of any other.
fn fits(spec: &str, p4: &str) -> Option<bool> {
    let spec = spec.strip_prefix('_').unwrap_or(spec);
    // A name within a control loses that control's.
    let inner = p4.split_once('.').map(|(_, inner)| inner);
    for wanted in [Some(p4), inner].into_iter().flatten().map(|name| name.replace('.', "_")) {
        if spec == wanted {
            return Some(true);
        }
        let number = spec.strip_prefix(&wanted).and_then(|rest| rest.strip_prefix('_'));
        if number.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
            return Some(false);
        }
    }
    None
}

/// The one place in `specs` whose name fits.
fn find<'a>(specs: impl Iterator<Item = &'a str>, what: &'static str, p4: &str) -> Result<usize, NamesError> {
    let fitting: Vec<(usize, bool)> = specs.enumerate().filter_map(|(at, spec)| Some((at, fits(spec, p4)?))).collect();
    let exact = fitting.iter().find(|(_, exact)| *exact);
    match (exact, fitting.as_slice()) {
        (Some((at, _)), _) | (None, [(at, _)]) => Ok(*at),
        _ => Err(NamesError::NotFound { what, name: p4.to_owned() }),
    }
}

/// Which of these tables of a spec the compiler made of the table that P4Info calls so.
pub fn table<'a>(specs: impl Iterator<Item = &'a str> + Clone, p4: &str) -> Option<&'a str> {
    specs.clone().nth(find(specs, "table", p4).ok()?)
}

fn preamble(preamble: &Option<Preamble>) -> (u32, &str) {
    preamble.as_ref().map_or((0, ""), |preamble| (preamble.id, preamble.name.as_str()))
}

fn values<'a>(
    name: &str,
    given: impl ExactSizeIterator<Item = (u32, i32)>,
    places: impl ExactSizeIterator<Item = &'a KeyField>,
) -> Result<Vec<Value>, NamesError> {
    let differs = || NamesError::Differs { name: name.to_owned() };
    if given.len() != places.len() {
        return Err(differs());
    }
    let pairs = given.zip(places).map(|((id, bits), place)| {
        let bits = u32::try_from(bits).ok().filter(|bits| (1..=place.bits).contains(bits)).ok_or_else(differs)?;
        Ok(Value { id, bits, place: place.clone() })
    });
    pairs.collect()
}

impl Names {
    /// Those of a program: its P4Info, its tables, and the names of its register arrays with their sizes.
    pub fn new(info: &P4Info, layouts: &[Layout], registers: &[(&str, u32)]) -> Result<Names, NamesError> {
        let missing = [
            ("action profiles", info.action_profiles.is_empty()),
            ("meters", info.meters.is_empty() && info.direct_meters.is_empty()),
            ("digests", info.digests.is_empty()),
            ("value sets", info.value_sets.is_empty()),
        ];
        if let Some((what, _)) = missing.into_iter().find(|(_, none)| !none) {
            return Err(NamesError::Unsupported { what });
        }
        let mut tables = Vec::new();
        for (index, layout) in layouts.iter().enumerate() {
            let table = info.tables.iter().find(|table| {
                let (_, name) = preamble(&table.preamble);
                find(layouts.iter().map(|layout| layout.name.as_str()), "table", name) == Ok(index)
            });
            let unknown = || NamesError::NotFound { what: "table", name: layout.name.clone() };
            tables.push(TableNames::new(info, table.ok_or_else(unknown)?, index, layout, registers)?);
        }
        if tables.len() != info.tables.len() {
            let found = |table: &&Table| !tables.iter().any(|known| known.id == preamble(&table.preamble).0);
            let name = info.tables.iter().find(found).map_or("", |table| preamble(&table.preamble).1);
            return Err(NamesError::NotFound { what: "table", name: name.to_owned() });
        }
        let by_id = tables.iter().enumerate().map(|(at, table)| (table.id, at)).collect();
        let counters = info.counters.iter().map(|counter| {
            let (id, name) = preamble(&counter.preamble);
            CounterNames::new(id, name, registers)
        });
        Ok(Names { by_id, counters: counters.collect::<Result<_, _>>()?, tables })
    }
}

impl TableNames {
    fn new(
        info: &P4Info,
        table: &Table,
        index: usize,
        layout: &Layout,
        registers: &[(&str, u32)],
    ) -> Result<TableNames, NamesError> {
        let (id, name) = preamble(&table.preamble);
        let key = values(name, table.match_fields.iter().map(|f| (f.id, f.bitwidth)), layout.key.iter())?;
        let mut actions = Vec::new();
        for reference in table.action_refs.iter().filter(|reference| reference.scope() != Scope::DefaultOnly) {
            let action = info.actions.iter().find(|action| preamble(&action.preamble).0 == reference.id);
            let unknown = || NamesError::NotFound { what: "action", name: format!("{:#x}", reference.id) };
            let action = action.ok_or_else(unknown)?;
            let (id, name) = preamble(&action.preamble);
            let at = find(layout.actions.iter().map(|(_, name, _)| name.as_str()), "action", name)?;
            let (number, _, arguments) = &layout.actions[at];
            let params = values(name, action.params.iter().map(|p| (p.id, p.bitwidth)), arguments.iter())?;
            actions.push(ActionNames { id, number: *number, params });
        }
        let counter = info.direct_counters.iter().find(|counter| counter.direct_table_id == id);
        let counter = counter.map(|counter| {
            let (id, name) = preamble(&counter.preamble);
            CounterNames::new(id, name, registers)
        });
        let initial = table.initial_default_action.as_ref().map(|initial| initial.action_id);
        let default_action = Some(table.const_default_action_id).filter(|id| *id != 0).or(initial);
        Ok(TableNames { id, index, key, actions, counter: counter.transpose()?, default_action })
    }

    /// An action, by the controller's id.
    pub fn action(&self, id: u32) -> Option<&ActionNames> {
        self.actions.iter().find(|action| action.id == id)
    }
}

impl CounterNames {
    fn new(id: u32, name: &str, registers: &[(&str, u32)]) -> Result<CounterNames, NamesError> {
        // A counter of both is two arrays, one of packets or of bytes alone has the counter's name.
        let ending = |ending: &'static str| {
            let stem = move |(name, _): &(&'_ str, u32)| name.strip_suffix(ending).unwrap_or("").to_owned();
            let stems: Vec<String> = registers.iter().map(stem).collect();
            find(stems.iter().map(String::as_str), "counter", name)
        };
        let packets = ending("_packets").or_else(|_| find(registers.iter().map(|(name, _)| *name), "counter", name))?;
        Ok(CounterNames { id, packets, bytes: ending("_bytes").ok(), size: registers[packets].1 })
    }
}
