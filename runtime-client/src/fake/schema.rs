//! What P4Info allows in a table.

use std::collections::HashMap;

use crate::Code;
use crate::key::EntryKey;
use crate::proto::p4::config::v1::match_field::{Match, MatchType};
use crate::proto::p4::config::v1::table::IdleTimeoutBehavior;
use crate::proto::p4::config::v1::{P4Info, Table, action_ref::Scope};
use crate::proto::p4::v1::field_match::FieldMatchType;
use crate::proto::p4::v1::{Action, Error, FieldMatch, TableEntry, table_action};
use crate::write::canonical;

/// Entries of a table whose size P4Info leaves open, as P4 compilers assume it.
const DEFAULT_SIZE: usize = 1024;

/// Ids below the tables' own, to widths in bits.
type Widths = Vec<(u32, u32)>;

#[derive(Debug)]
struct Field {
    id: u32,
    bits: u32,
    kind: MatchType,
}

/// One table.
#[derive(Debug)]
pub(super) struct TableSchema {
    pub size: usize,
    pub idle_timeouts: bool,
    pub counter: bool,
    fixed: bool,
    const_default: bool,
    fields: Vec<Field>,
    /// Ids to whether it may be in entries, and whether it may be the default.
    actions: HashMap<u32, (bool, bool)>,
}

/// All tables and actions of a program.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub tables: HashMap<u32, TableSchema>,
    actions: HashMap<u32, Widths>,
}

pub(super) fn error(code: Code, message: impl Into<String>) -> Error {
    Error { canonical_code: code as i32, message: message.into(), ..Error::default() }
}

fn invalid(message: impl Into<String>) -> Error {
    error(Code::InvalidArgument, message)
}

impl Schema {
    pub fn of(info: &P4Info) -> Self {
        let counted: Vec<u32> = info.direct_counters.iter().map(|counter| counter.direct_table_id).collect();
        let id = |preamble: &Option<crate::proto::p4::config::v1::Preamble>| preamble.as_ref().map_or(0, |it| it.id);
        let tables = info.tables.iter().map(|table| {
            let id = id(&table.preamble);
            (id, TableSchema::of(table, counted.contains(&id)))
        });
        let actions = info.actions.iter().map(|action| {
            (id(&action.preamble), action.params.iter().map(|param| (param.id, param.bitwidth as u32)).collect())
        });
        Self { tables: tables.collect(), actions: actions.collect() }
    }

    pub fn table(&self, id: u32) -> Result<&TableSchema, Error> {
        self.tables.get(&id).ok_or_else(|| invalid(format!("no table {id:#x}")))
    }

    /// Checks the key of an entry, and makes its byte strings canonical.
    pub fn check_key(&self, entry: &mut TableEntry) -> Result<(), Error> {
        let table = self.table(entry.table_id)?;
        if entry.is_default_action {
            let plain = entry.r#match.is_empty() && entry.priority == 0 && entry.idle_timeout_ns == 0;
            return if plain { Ok(()) } else { Err(invalid("a default entry has no key and no idle timeout")) };
        }
        if table.fixed {
            return Err(error(Code::PermissionDenied, "the table is fixed"));
        }
        for (place, field) in entry.r#match.iter().enumerate() {
            if entry.r#match[..place].iter().any(|before| before.field_id == field.field_id) {
                return Err(invalid(format!("field {} twice", field.field_id)));
            }
        }
        for field in &mut entry.r#match {
            let known = table.fields.iter().find(|known| known.id == field.field_id);
            known.ok_or_else(|| invalid(format!("no field {}", field.field_id)))?.check(field)?;
        }
        let given = |id| entry.r#match.iter().any(|field| field.field_id == id);
        if let Some(missing) = table.fields.iter().find(|field| field.kind == MatchType::Exact && !given(field.id)) {
            return Err(invalid(format!("field {} is missing", missing.id)));
        }
        let overlapping = table.fields.iter().any(|field| !matches!(field.kind, MatchType::Exact | MatchType::Lpm));
        if overlapping != (entry.priority > 0) || entry.priority < 0 {
            return Err(invalid("a priority exactly where keys can overlap"));
        }
        Ok(())
    }

    /// The key of an entry with these fields, all of them exact, if it is a good one; [`check_key`](Self::check_key) says what
    /// is wrong with another.
    pub fn exact_key<'a, F>(&self, table_id: u32, fields: F) -> Option<EntryKey>
    where
        F: Iterator<Item = (u32, &'a [u8])> + Clone,
    {
        let table = self.tables.get(&table_id).filter(|table| !table.fixed)?;
        let mut given = fields.clone();
        // In the order of P4Info, which is that of controllers.
        let good = table.fields.iter().all(|field| {
            given.next().is_some_and(|(id, value)| {
                (id, field.kind) == (field.id, MatchType::Exact) && used(value).is_some_and(|used| used <= field.bits)
            })
        });
        let ordered = table.fields.is_sorted_by_key(|field| field.id);
        (good && ordered && given.next().is_none()).then(|| EntryKey::of_exact(table_id, fields))
    }

    /// Checks what is not the key, and makes its byte strings canonical.
    pub fn check_state(&self, entry: &mut TableEntry) -> Result<(), Error> {
        let table = self.table(entry.table_id)?;
        if entry.idle_timeout_ns < 0 || (entry.idle_timeout_ns != 0 && !table.idle_timeouts) {
            return Err(invalid("no such idle timeout in this table"));
        }
        if entry.time_since_last_hit.is_some() || (entry.counter_data.is_some() && !table.counter) {
            return Err(invalid("no such state in this table"));
        }
        if entry.is_default_action && table.const_default {
            return Err(error(Code::PermissionDenied, "the default action is fixed"));
        }
        let reset = entry.is_default_action && entry.action.is_none();
        match entry.action.as_mut().and_then(|action| action.r#type.as_mut()) {
            None if reset => Ok(()),
            Some(table_action::Type::Action(action)) => {
                let (in_entries, as_default) = table.actions.get(&action.action_id).copied().unwrap_or_default();
                if !(if entry.is_default_action { as_default } else { in_entries }) {
                    return Err(invalid(format!("no action {:#x} in this table", action.action_id)));
                }
                self.check_params(action)
            }
            _ => Err(invalid("an entry needs an action")),
        }
    }

    fn check_params(&self, action: &mut Action) -> Result<(), Error> {
        let known = self.actions.get(&action.action_id).ok_or_else(|| invalid("an action P4Info does not describe"))?;
        if known.len() != action.params.len() {
            return Err(invalid(format!("{} arguments for {} parameters", action.params.len(), known.len())));
        }
        for (id, bits) in known {
            let param = action.params.iter_mut().find(|param| param.param_id == *id);
            fit(&mut param.ok_or_else(|| invalid(format!("parameter {id} is missing")))?.value, *bits)?;
        }
        Ok(())
    }
}

impl TableSchema {
    fn of(table: &Table, counter: bool) -> Self {
        let fields = table.match_fields.iter().map(|field| Field {
            id: field.id,
            bits: field.bitwidth as u32,
            kind: match field.r#match {
                Some(Match::MatchType(kind)) => MatchType::try_from(kind).unwrap_or_default(),
                _ => MatchType::Unspecified,
            },
        });
        let actions = table
            .action_refs
            .iter()
            .map(|of| (of.id, (of.scope() != Scope::DefaultOnly, of.scope() != Scope::TableOnly)));
        Self {
            size: usize::try_from(table.size).ok().filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE),
            idle_timeouts: table.idle_timeout_behavior() == IdleTimeoutBehavior::NotifyControl,
            counter,
            fixed: table.is_const_table,
            const_default: table.const_default_action_id != 0,
            fields: fields.collect(),
            actions: actions.collect(),
        }
    }
}

impl Field {
    fn check(&self, field: &mut FieldMatch) -> Result<(), Error> {
        let bits = self.bits;
        match (self.kind, field.field_match_type.as_mut()) {
            (MatchType::Exact, Some(FieldMatchType::Exact(exact))) => fit(&mut exact.value, bits),
            (MatchType::Optional, Some(FieldMatchType::Optional(optional))) => fit(&mut optional.value, bits),
            (MatchType::Lpm, Some(FieldMatchType::Lpm(prefix))) => {
                if !(1..=bits as i32).contains(&prefix.prefix_len) {
                    return Err(invalid("a prefix of no bits is left out, and none is longer than its field"));
                }
                fit(&mut prefix.value, bits)?;
                let host_bits = bits - prefix.prefix_len as u32;
                let dirty = trailing_zeros(&prefix.value).is_some_and(|zeros| zeros < host_bits);
                if dirty { Err(invalid("bits behind the prefix")) } else { Ok(()) }
            }
            (MatchType::Ternary, Some(FieldMatchType::Ternary(ternary))) => {
                fit(&mut ternary.value, bits)?;
                fit(&mut ternary.mask, bits)?;
                let masked = covers(&ternary.mask, &ternary.value);
                let any = ternary.mask.iter().all(|byte| *byte == 0);
                if masked && !any { Ok(()) } else { Err(invalid("an empty mask, or bits beside it")) }
            }
            (MatchType::Range, Some(FieldMatchType::Range(range))) => {
                fit(&mut range.low, bits)?;
                fit(&mut range.high, bits)?;
                let ordered = (range.low.len(), &range.low) <= (range.high.len(), &range.high);
                if ordered { Ok(()) } else { Err(invalid("a range that ends before it begins")) }
            }
            _ => Err(invalid(format!("field {} is of another kind", self.id))),
        }
    }
}

/// Bits of a byte string's number; none: it is empty.
fn used(value: &[u8]) -> Option<u32> {
    let short = canonical(value);
    short.first().map(|first| short.len() as u32 * 8 - first.leading_zeros())
}

/// Makes a byte string canonical if it fits so many bits (P4Runtime, "Bytestrings").
fn fit(value: &mut prost::bytes::Bytes, bits: u32) -> Result<(), Error> {
    match used(value) {
        Some(used) if used <= bits => {
            let zeros = value.len() - canonical(value).len();
            if zeros > 0 {
                *value = value.slice(zeros..);
            }
            Ok(())
        }
        _ => Err(error(Code::OutOfRange, format!("not a value of {bits} bits"))),
    }
}

/// None for zero.
fn trailing_zeros(value: &[u8]) -> Option<u32> {
    let behind = value.iter().rev().position(|byte| *byte != 0)?;
    Some(behind as u32 * 8 + value[value.len() - 1 - behind].trailing_zeros())
}

/// Whether all ones of `value` are ones of `mask`; both are numbers, so they align at their ends.
fn covers(mask: &[u8], value: &[u8]) -> bool {
    let mask = mask.iter().rev().copied().chain(std::iter::repeat(0));
    value.iter().rev().zip(mask).all(|(value, mask)| value & !mask == 0)
}
