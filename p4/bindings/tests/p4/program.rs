//! The program as the compiler describes it for each architecture, and that both descriptions agree.

use std::collections::BTreeMap;

use p4runtime_proto::p4::config::v1::{Action, P4Info, Preamble, Table, match_field};
use prost::Message;

/// P4Info of the program for BMv2, tables and actions by id.
pub fn bmv2() -> P4Info {
    let mut info = P4Info::decode(carom_p4::artifacts::BMV2_P4INFO).expect("P4Info");
    info.tables.sort_by_key(|table| id(&table.preamble));
    info.actions.sort_by_key(|action| id(&action.preamble));
    info
}

/// P4Info of the program for PNA.
pub fn pna() -> P4Info {
    P4Info::decode(carom_p4::artifacts::PNA_P4INFO).expect("P4Info")
}

/// P4Info of the program for a Tofino chip, 1 or 2.
pub fn tofino(chip: u8) -> P4Info {
    let bytes = if chip == 1 { carom_p4::artifacts::TOFINO1_P4INFO } else { carom_p4::artifacts::TOFINO2_P4INFO };
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
    let mut ours = bmv2();
    for chip in [1, 2] {
        let theirs = tofino(chip);
        for table in &mut ours.tables {
            if name(&table.preamble).starts_with("flow_") {
                let there = theirs.tables.iter().find(|t| id(&t.preamble) == id(&table.preamble)).expect("the table");
                table.size = there.size;
                assert_eq!(table.idle_timeout_behavior, there.idle_timeout_behavior);
            }
        }
        let (left, right) = (essence(&ours), essence(&theirs));
        for key in left.keys().chain(right.keys()) {
            assert_eq!(left.get(key), right.get(key), "{key:#010x}: BMv2 left, Tofino {chip} right");
        }
        assert_eq!(meters(&ours), meters(&theirs));
        assert_eq!(resources(&ours), resources(&theirs));
        assert!(theirs.externs.is_empty());
    }
}

#[test]
fn keys_match_exactly_and_flows_are_counted_and_age() {
    use p4runtime_proto::p4::config::v1::table::IdleTimeoutBehavior;
    let info = bmv2();
    for table in &info.tables {
        for field in &table.match_fields {
            assert_eq!(field.r#match, Some(match_field::Match::MatchType(match_field::MatchType::Exact as i32)));
        }
        let is_flow = name(&table.preamble).starts_with("flow_");
        assert_eq!(table.idle_timeout_behavior() == IdleTimeoutBehavior::NotifyControl, is_flow);
        let counters = info.direct_counters.iter().filter(|c| c.direct_table_id == id(&table.preamble)).count();
        assert_eq!(counters, usize::from(is_flow), "{}", name(&table.preamble));
        let meters = info.direct_meters.iter().filter(|m| m.direct_table_id == id(&table.preamble)).count();
        assert_eq!(meters, usize::from(name(&table.preamble).starts_with("service_")));
    }
}
