//! The program as the compiler describes it for each architecture, and that both descriptions agree.

use std::collections::BTreeMap;

use p4runtime_proto::p4::config::v1::{Action, P4Info, Preamble, Table, match_field};
use prost::Message;

/// P4Info of the program for BMv2, tables and actions by id.
pub fn bmv2() -> P4Info {
    sorted(carom_p4::artifacts::BMV2_P4INFO)
}

/// P4Info of the program by ids for BMv2, likewise.
pub fn bmv2_ids() -> P4Info {
    sorted(carom_p4::artifacts::BMV2_IDS_P4INFO)
}

fn sorted(bytes: &[u8]) -> P4Info {
    let mut info = P4Info::decode(bytes).expect("P4Info");
    info.tables.sort_by_key(|table| id(&table.preamble));
    info.actions.sort_by_key(|action| id(&action.preamble));
    info
}

/// What only the program by ids has.
pub fn ids_alone() -> P4Info {
    let (plain, mut ids) = (bmv2(), bmv2_ids());
    ids.tables.retain(|table| !plain.tables.iter().any(|other| id(&other.preamble) == id(&table.preamble)));
    ids.actions.retain(|action| !plain.actions.iter().any(|other| id(&other.preamble) == id(&action.preamble)));
    ids.counters.clear();
    ids.direct_counters.retain(|c| !plain.direct_counters.iter().any(|other| id(&other.preamble) == id(&c.preamble)));
    ids.direct_meters.clear();
    ids
}

/// P4Info of the program for PNA.
pub fn pna() -> P4Info {
    P4Info::decode(carom_p4::artifacts::PNA_P4INFO).expect("P4Info")
}

/// P4Info of a program, `plain` or `ids`, for a Tofino chip, 1 or 2.
pub fn tofino(program: &str, chip: u8) -> P4Info {
    use carom_p4::artifacts::{TOFINO1_IDS_P4INFO, TOFINO1_P4INFO, TOFINO2_IDS_P4INFO, TOFINO2_P4INFO};
    let bytes = match (program, chip) {
        ("plain", 1) => TOFINO1_P4INFO,
        ("plain", 2) => TOFINO2_P4INFO,
        ("ids", 1) => TOFINO1_IDS_P4INFO,
        ("ids", 2) => TOFINO2_IDS_P4INFO,
        _ => panic!("no program {program} for Tofino {chip}"),
    };
    P4Info::decode(bytes).expect("P4Info")
}

/// Id of an object.
pub fn id(preamble: &Option<Preamble>) -> u32 {
    preamble.as_ref().expect("a preamble").id
}

/// Name of an object.
pub fn name(preamble: &Option<Preamble>) -> &str {
    &preamble.as_ref().expect("a preamble").name
}

/// The action with this id.
pub fn action(info: &P4Info, wanted: u32) -> &Action {
    info.actions.iter().find(|action| id(&action.preamble) == wanted).expect("an action of this id")
}

/// The actions an entry of a table may have: not those for the default entry only.
pub fn entry_actions<'a>(info: &'a P4Info, table: &Table) -> Vec<&'a Action> {
    use p4runtime_proto::p4::config::v1::action_ref::Scope;
    table.action_refs.iter().filter(|r| r.scope() != Scope::DefaultOnly).map(|r| action(info, r.id)).collect()
}

/// What must be the same everywhere, as text that shows where it is not.
fn essence(info: &P4Info) -> BTreeMap<u32, String> {
    let mut all = BTreeMap::new();
    for table in &info.tables {
        let keys: Vec<_> = table
            .match_fields
            .iter()
            .map(|f| {
                let exact = f.r#match == Some(match_field::Match::MatchType(match_field::MatchType::Exact as i32));
                (f.id, &f.name, f.bitwidth, exact)
            })
            .collect();
        let actions: Vec<_> = table.action_refs.iter().map(|r| (r.id, r.scope)).collect();
        let text = format!("table {} {keys:?} {actions:?} {}", name(&table.preamble), table.size);
        all.insert(id(&table.preamble), text);
    }
    for action in &info.actions {
        let params: Vec<_> = action.params.iter().map(|p| (p.id, &p.name, p.bitwidth)).collect();
        all.insert(id(&action.preamble), format!("action {} {params:?}", name(&action.preamble)));
    }
    for counter in &info.counters {
        all.insert(id(&counter.preamble), format!("counter {} {}", name(&counter.preamble), counter.size));
    }
    for counter in &info.direct_counters {
        let text = format!("direct counter {} of {:#x}", name(&counter.preamble), counter.direct_table_id);
        all.insert(id(&counter.preamble), text);
    }
    all
}

#[test]
fn the_architectures_agree() {
    let (bmv2, pna) = (essence(&bmv2()), essence(&pna()));
    assert!(bmv2.len() > 20);
    for key in bmv2.keys().chain(pna.keys()) {
        assert_eq!(bmv2.get(key), pna.get(key), "{key:#010x}: BMv2 left, PNA right");
    }
}

/// The program by ids is the other one but for the flows of IPv4.
#[test]
fn by_ids_only_the_flows_of_ipv4_differ() {
    let (plain, ids) = (essence(&bmv2()), essence(&bmv2_ids()));
    let alone: Vec<u32> = essence(&ids_alone()).into_keys().collect();
    // From 0x101 on, in each kind.
    assert!(alone.len() == 16 && alone.iter().all(|id| id & 0xffff > 0x100), "{alone:x?}");
    for (key, what) in &ids {
        assert_eq!(plain.get(key).or(alone.contains(key).then_some(what)), Some(what), "{key:#010x}");
    }
    let gone: Vec<&u32> = plain.keys().filter(|key| !ids.contains_key(key)).collect();
    assert_eq!(gone, [&0x0100_0001, &0x0100_0003, &0x0200_0001, &0x1300_0001]);
}

/// Tofino has room of its own for flows, meters as BMv2 has them, and everything else as everywhere.
#[test]
fn tofino_agrees_but_for_the_room_for_flows() {
    let meters = |info: &P4Info| {
        let mut all: Vec<_> = info
            .direct_meters
            .iter()
            .map(|m| (id(&m.preamble), name(&m.preamble).to_owned(), m.direct_table_id))
            .collect();
        all.sort();
        all
    };
    let resources = |info: &P4Info| -> BTreeMap<u32, Vec<u32>> {
        info.tables.iter().map(|t| (id(&t.preamble), t.direct_resource_ids.clone())).collect()
    };
    for (program, chip) in [("plain", 1), ("plain", 2), ("ids", 1), ("ids", 2)] {
        let mut ours = if program == "plain" { bmv2() } else { bmv2_ids() };
        let theirs = tofino(program, chip);
        let of = format!("{program}, Tofino {chip}");
        for table in &mut ours.tables {
            if FLOWS.contains(&name(&table.preamble)) || name(&table.preamble) == "inbound_v4" {
                let there = theirs.tables.iter().find(|t| id(&t.preamble) == id(&table.preamble)).expect("the table");
                table.size = there.size;
                assert_eq!(table.idle_timeout_behavior, there.idle_timeout_behavior, "{of}");
            }
        }
        let (left, right) = (essence(&ours), essence(&theirs));
        for key in left.keys().chain(right.keys()) {
            assert_eq!(left.get(key), right.get(key), "{of}, {key:#010x}: BMv2 left");
        }
        assert_eq!((meters(&ours), resources(&ours)), (meters(&theirs), resources(&theirs)), "{of}");
        assert!(theirs.externs.is_empty());
    }
}

/// What this project asks of the two chips: a connection by ids has an entry in each of two tables, of which the second is in
/// two halves.
#[test]
fn by_ids_tofino_has_room_for_as_many_connections_as_it_must() {
    for (chip, least) in [(1, 300_000), (2, 600_000)] {
        let info = tofino("ids", chip);
        let size = |table: &str| info.tables.iter().find(|t| name(&t.preamble) == table).expect(table).size;
        assert!(size("inbound_v4") >= least, "Tofino {chip}");
        assert_eq!(["even", "odd"].map(|half| 2 * size(&format!("connection_v4_{half}"))), [size("inbound_v4"); 2]);
    }
}

/// Tables whose entries count and age: by ids, those of a connection's both halves in one.
const FLOWS: [&str; 4] = ["flow_v4", "flow_v6", "connection_v4_even", "connection_v4_odd"];

#[test]
fn keys_match_exactly_and_flows_are_counted_and_age() {
    use p4runtime_proto::p4::config::v1::table::IdleTimeoutBehavior;
    for info in [bmv2(), bmv2_ids()] {
        for table in &info.tables {
            for field in &table.match_fields {
                assert_eq!(field.r#match, Some(match_field::Match::MatchType(match_field::MatchType::Exact as i32)));
            }
            let is_flow = FLOWS.contains(&name(&table.preamble));
            assert_eq!(table.idle_timeout_behavior() == IdleTimeoutBehavior::NotifyControl, is_flow);
            let counters = info.direct_counters.iter().filter(|c| c.direct_table_id == id(&table.preamble)).count();
            assert_eq!(counters, usize::from(is_flow), "{}", name(&table.preamble));
            let meters = info.direct_meters.iter().filter(|m| m.direct_table_id == id(&table.preamble)).count();
            let is_service = ["service_v4", "service_v6"].contains(&name(&table.preamble));
            assert_eq!(meters, usize::from(is_service));
        }
    }
}
