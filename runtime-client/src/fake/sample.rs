//! A small program for tests and measurements, made by hand.

use crate::proto::p4::config::v1::match_field::{Match, MatchType};
use crate::proto::p4::config::v1::table::IdleTimeoutBehavior;
use crate::proto::p4::config::v1::{Action, ActionRef, DirectCounter, MatchField, P4Info, Preamble, Table, action};

/// A program with three tables:
///
/// - `0x0200_0001` of `size` entries: five exact fields as of a connection (1: 32 bits, 2: 32, 3: 8, 4: 16, 5: 16), action
///   `0x0100_0001` with five parameters (1: 32, 2: 32, 3: 16, 4: 16, 5: 16), direct counter, idle timeouts.
/// - `0x0200_0002` of 16 entries: one exact field of 9 bits, action `0x0100_0002` with one parameter of 48 bits.
/// - `0x0200_0003` of 64 entries: a prefix (1: 32 bits) and a ternary field (2: 16 bits), action `0x0100_0002`.
pub fn sample_p4info(size: usize) -> P4Info {
    let flow = Table {
        idle_timeout_behavior: IdleTimeoutBehavior::NotifyControl as i32,
        direct_resource_ids: vec![0x1300_0001],
        ..table(0x0200_0001, "flow", &[32, 32, 8, 16, 16].map(|bits| (bits, MatchType::Exact)), 0x0100_0001, size)
    };
    let next = table(0x0200_0002, "next", &[(9, MatchType::Exact)], 0x0100_0002, 16);
    let route = [(32, MatchType::Lpm), (16, MatchType::Ternary)];
    let route = table(0x0200_0003, "route", &route, 0x0100_0002, 64);
    let direct_table_id = 0x0200_0001;
    let counter =
        DirectCounter { preamble: preamble(0x1300_0001, "flow_counter"), direct_table_id, ..DirectCounter::default() };
    P4Info {
        tables: vec![flow, next, route],
        actions: vec![action(0x0100_0001, "rewrite", &[32, 32, 16, 16, 16]), action(0x0100_0002, "forward", &[48])],
        direct_counters: vec![counter],
        ..P4Info::default()
    }
}

fn preamble(id: u32, name: &str) -> Option<Preamble> {
    Some(Preamble { id, name: name.into(), alias: name.into(), ..Preamble::default() })
}

fn table(id: u32, name: &str, fields: &[(i32, MatchType)], action: u32, size: usize) -> Table {
    let fields = fields.iter().zip(1..).map(|((bitwidth, kind), id)| MatchField {
        id,
        name: format!("field{id}"),
        bitwidth: *bitwidth,
        r#match: Some(Match::MatchType(*kind as i32)),
        ..MatchField::default()
    });
    Table {
        preamble: preamble(id, name),
        match_fields: fields.collect(),
        action_refs: vec![ActionRef { id: action, ..ActionRef::default() }],
        size: size as i64,
        ..Table::default()
    }
}

fn action(id: u32, name: &str, bits: &[i32]) -> Action {
    let params = bits.iter().zip(1..).map(|(bitwidth, id)| action::Param {
        id,
        name: format!("param{id}"),
        bitwidth: *bitwidth,
        ..action::Param::default()
    });
    Action { preamble: preamble(id, name), params: params.collect() }
}
