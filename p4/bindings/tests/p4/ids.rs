//! Ids are given once. `p4/ids.txt` lists every id that was ever given, with what it was given to.

use std::collections::BTreeMap;

use crate::program::{bmv2, bmv2_ids, id, name, pna, tofino};
use crate::{constants, p4, read, updating};

/// Every id of a program: of objects as `0x02000001`, of their fields and parameters as `0x02000001.1`.
fn given(info: &p4runtime_proto::p4::config::v1::P4Info) -> BTreeMap<String, String> {
    let mut ids = BTreeMap::new();
    let mut give = |id: String, what: String| {
        assert_eq!(ids.insert(id.clone(), what), None, "{id} was given twice");
    };
    for table in &info.tables {
        give(format!("{:#010x}", id(&table.preamble)), format!("table {}", name(&table.preamble)));
        for field in &table.match_fields {
            give(format!("{:#010x}.{}", id(&table.preamble), field.id), format!("field {}", field.name));
        }
    }
    for action in &info.actions {
        give(format!("{:#010x}", id(&action.preamble)), format!("action {}", name(&action.preamble)));
        for param in &action.params {
            give(format!("{:#010x}.{}", id(&action.preamble), param.id), format!("parameter {}", param.name));
        }
    }
    let rest = (info.counters.iter().map(|c| ("counter", &c.preamble)))
        .chain(info.direct_counters.iter().map(|c| ("direct counter", &c.preamble)))
        .chain(info.direct_meters.iter().map(|m| ("direct meter", &m.preamble)));
    for (kind, preamble) in rest {
        give(format!("{:#010x}", id(preamble)), format!("{kind} {}", name(preamble)));
    }
    ids
}

/// New ids are added with UPDATE_P4=1; nothing makes an old one disappear or mean something else.
#[test]
fn ids_are_never_changed_nor_given_again() {
    let path = p4().join("ids.txt");
    let mut ever: BTreeMap<String, String> = read(&path)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("an id and what it was given to"))
        .map(|(id, what)| (id.to_owned(), what.to_owned()))
        .collect();
    let of_tofino = [("plain", 1), ("plain", 2), ("ids", 1), ("ids", 2)].map(|(program, chip)| tofino(program, chip));
    let programs: Vec<_> = [bmv2(), bmv2_ids(), pna()].into_iter().chain(of_tofino).collect();
    let mut added = false;
    for (id, what) in programs.iter().flat_map(given) {
        match ever.get(&id) {
            Some(was) => assert_eq!(*was, what, "{id} was given to something else; take a new one"),
            None if updating() => added |= ever.insert(id, what).is_none(),
            None => panic!("{id} ({what}) is not in p4/ids.txt; run: UPDATE_P4=1 cargo test -p carom-p4"),
        }
    }
    if added {
        let mut text = String::from("# Every P4Runtime id that was ever given. Lines are added and never changed.\n");
        ever.iter().for_each(|(id, what)| text.push_str(&format!("{id} {what}\n")));
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn the_header_of_ids_is_what_the_compiler_used() {
    let mut used = given(&bmv2());
    used.extend(given(&bmv2_ids()));
    let mut defined = 0;
    for line in read(&p4().join("core/ids.h")).lines().filter_map(|line| line.strip_prefix("#define ID_")) {
        let (what, id) = line.split_once(' ').unwrap();
        let id = format!("{:#010x}", constants::number(id.trim()));
        let object = used.get(&id).unwrap_or_else(|| panic!("ID_{what} is used by nothing"));
        assert_eq!(object.rsplit(' ').next().unwrap().to_uppercase(), what);
        defined += 1;
    }
    // All have ids of ours but NoAction, which is the language's.
    assert_eq!(defined + 1, used.keys().filter(|id| !id.contains('.')).count());
}
