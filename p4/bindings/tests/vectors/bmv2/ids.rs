//! The vectors as the program by ids has them: flows of IPv4 are written by ids, and what would have numbers moved is
//! punted. This is not the encoder that Carom has, but one of its own.

use std::collections::BTreeMap;

use carom_p4::Punt;

use crate::cases::tagged;
use crate::file::{Case, Entry, Outcome, Vectors, bytes, hex};
use crate::setup::SLOWPATH;

/// The entries of one small table: for each value the id it got.
struct Small {
    table: &'static str,
    /// Ids begin here: high, to use all their bits, and in each table elsewhere.
    first: usize,
    entries: Vec<Entry>,
}

fn fields<const N: usize>(fields: [(&str, &str); N]) -> BTreeMap<String, String> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Small {
    fn new(table: &'static str, first: usize) -> Self {
        Small { table, first, entries: Vec::new() }
    }

    /// The id of a value. `entry` makes key, action and parameters of both.
    fn id(
        &mut self,
        entry: impl Fn(&str) -> (BTreeMap<String, String>, &'static str, BTreeMap<String, String>),
    ) -> String {
        for at in 0.. {
            let id = format!("{:04x}", self.first + at);
            let (key, action, params) = entry(&id);
            let made = Entry { table: self.table.to_owned(), key, action: action.to_owned(), params };
            match self.entries.get(at) {
                Some(there) if *there == made => return id,
                Some(_) => {}
                None => {
                    self.entries.push(made);
                    return id;
                }
            }
        }
        unreachable!("the list has an end")
    }
}

/// What the program by ids is given for these vectors, and what it does then.
pub fn by_ids(Vectors { entries, cases }: Vectors) -> Vectors {
    let [mut services, mut pairs] = [Small::new("service_id_v4", 0x3e8), Small::new("pair_id_v4", 0x3f00)];
    let [mut from, mut to] = [Small::new("service_addr_v4", 0x2aa), Small::new("pair_v4", 0x1555)];
    let is_service = |dst: &str, proto: &str, dport: &str| {
        let key = fields([("dst", dst), ("proto", proto), ("dport", dport)]);
        entries.iter().any(|entry| entry.table == "service_v4" && entry.key == key)
    };
    let (mut flows, mut rest) = (Vec::new(), Vec::new());
    for Entry { table, key, action, params } in &entries {
        if table != "flow_v4" {
            rest.push(Entry { table: table.clone(), key: key.clone(), action: action.clone(), params: params.clone() });
            continue;
        }
        if action != "rewrite_v4" {
            continue;
        }
        let [src, sport, dst, dport, proto] = ["src", "sport", "dst", "dport", "proto"].map(|name| key[name].as_str());
        let [new_src, new_sport, new_dst, new_dport, nexthop] =
            ["src", "sport", "dst", "dport", "nexthop"].map(|name| params[name].as_str());
        flows.push(if is_service(dst, proto, dport) {
            let service = services.id(|id| {
                (fields([("dst", dst), ("proto", proto), ("dport", dport)]), "is_service", fields([("id", id)]))
            });
            let pair = to.id(|id| {
                let address = [("src", new_src), ("dst", new_dst), ("dport", new_dport), ("nexthop", nexthop)];
                (fields([("pair", id)]), "to_pair", fields(address))
            });
            Entry {
                table: "in_v4".to_owned(),
                key: fields([("src", src), ("sport", sport), ("service", &service)]),
                action: "inbound_v4".to_owned(),
                params: fields([("to", &pair), ("lport", new_sport)]),
            }
        } else {
            let pair = pairs.id(|id| {
                let end = [("src", src), ("dst", dst), ("proto", proto), ("sport", sport)];
                (fields(end), "is_pair", fields([("id", id)]))
            });
            let service = from.id(|id| {
                let address = [("src", new_src), ("sport", new_sport), ("nexthop", nexthop)];
                (fields([("service", id)]), "from_service", fields(address))
            });
            Entry {
                table: "out_v4".to_owned(),
                key: fields([("pair", &pair), ("lport", dport)]),
                action: "outbound_v4".to_owned(),
                params: fields([("dst", new_dst), ("dport", new_dport), ("from", &service)]),
            }
        });
    }
    let small = [services, pairs, from, to];
    assert!(small.iter().all(|table| !table.entries.is_empty()) && flows.len() == 5);
    rest.extend(small.into_iter().flat_map(|table| table.entries).chain(flows));
    Vectors { entries: rest, cases: cases.into_iter().map(punted_if_moved).collect() }
}

/// Connections whose numbers the slow path moves are its own.
fn punted_if_moved(case: Case) -> Case {
    let moved = case.name.contains("over IPv4") && case.name.contains("numbers moved");
    if !moved || !matches!(case.outcome, Outcome::Forward { .. }) {
        return case;
    }
    let [high, low] = ((Punt::Miss as u16) << 13 | case.port).to_be_bytes();
    let frame = hex(&tagged(&bytes(&case.frame), [0x81, 0, high, low]));
    let outcome = Outcome::Punt { why: Punt::Miss.name().to_owned(), port: SLOWPATH[0], frame };
    Case { outcome, ..case }
}
