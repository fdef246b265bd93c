//! The vectors as the program by ids has them: flows of IPv4 are written by ids, and what would have numbers moved is
//! punted. This is not the encoder that Carom has, but one of its own.

use std::collections::BTreeMap;

use carom_p4::Punt;

use crate::cases::tagged;
use crate::file::{Case, Entry, Outcome, Vectors, bytes, hex};
use crate::setup::SLOWPATH;

/// Ids begin here: high, to use all their bits.
const FIRST_SERVICE: usize = 0x3e8;
const FIRST_PAIR: usize = 0x1555;
/// What entries of flows have above these ids, for one of several next hops: from the highest down.
const LAST_OF_SERVICE: usize = 63;
const LAST_OF_PAIR: usize = 3;

fn fields<const N: usize>(fields: [(&str, &str); N]) -> BTreeMap<String, String> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn entry<const K: usize, const P: usize>(
    table: &str,
    key: [(&str, &str); K],
    action: &str,
    params: [(&str, &str); P],
) -> Entry {
    Entry { table: table.to_owned(), key: fields(key), action: action.to_owned(), params: fields(params) }
}

fn hex16(id: usize) -> String {
    format!("{id:04x}")
}

/// Place of a value in a list, to which it is added if it is not there.
fn place<T: PartialEq>(list: &mut Vec<T>, value: T) -> usize {
    list.iter().position(|there| *there == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    })
}

/// A real server as a local address reaches it: proto, LIP, RIP, rport.
type Pair<'a> = [&'a str; 4];

/// What the entries of flows have in common.
#[derive(Default)]
struct Shared<'a> {
    pairs: Vec<Pair<'a>>,
    /// Ways inbound: a pair by a next hop, which its sessions share.
    ways_in: Vec<(usize, &'a str)>,
    /// Ways outbound: a service by a next hop.
    ways_out: Vec<(usize, &'a str)>,
    /// Pair and lport; client, cport, and the service's id.
    connections: BTreeMap<(String, &'a str), (&'a str, &'a str, String)>,
}

/// What the program by ids is given for these vectors, and what it does then.
pub fn by_ids(Vectors { entries, cases }: Vectors) -> Vectors {
    let services: Vec<_> = entries.iter().filter(|entry| entry.table == "service_v4").collect();
    let service = |dst: &str, proto: &str, dport: &str| {
        let key = fields([("dst", dst), ("proto", proto), ("dport", dport)]);
        services.iter().position(|service| service.key == key).map(|at| FIRST_SERVICE + at)
    };
    let mut by_ids: Vec<_> = entries.iter().filter(|entry| entry.table != "flow_v4").cloned().collect();
    for (at, service) in services.iter().enumerate() {
        let params = fields([("id", &*hex16(FIRST_SERVICE + at)), ("worker", &service.params["worker"])]);
        let (table, action) = ("service_id_v4".to_owned(), "is_service".to_owned());
        by_ids.push(Entry { table, key: service.key.clone(), action, params });
    }
    let mut shared = Shared::default();
    let flows: Vec<_> = entries.iter().filter(|entry| entry.action == "rewrite_v4").collect();
    // Inbound halves first: they know more of a pair.
    for flow in &flows {
        let [src, sport, dst, dport, proto] = ["src", "sport", "dst", "dport", "proto"].map(|name| &*flow.key[name]);
        let [lip, lport, rip, rport, nexthop] = parameters(flow);
        if let Some(service) = service(dst, proto, dport) {
            let pair = FIRST_PAIR + place(&mut shared.pairs, [proto, lip, rip, rport]);
            let way = (LAST_OF_PAIR - place(&mut shared.ways_in, (pair, nexthop))) << 14 | pair;
            let key = [("src", src), ("dst", dst), ("proto", proto), ("sport", sport), ("dport", dport)];
            by_ids.push(entry("inbound_v4", key, "to_connection", [("pair", &hex16(way)), ("lport", lport)]));
            let address = [("src", lip), ("dst", rip), ("dport", rport), ("nexthop", nexthop)];
            by_ids.push(entry("pair_v4", [("pair", &hex16(way))], "to_pair", address));
            shared.connections.insert((hex16(pair), lport), (src, sport, hex16(service)));
        }
    }
    for flow in &flows {
        let [rip, rport, lip, lport, proto] = ["src", "sport", "dst", "dport", "proto"].map(|name| &*flow.key[name]);
        let [vip, vport, client, cport, nexthop] = parameters(flow);
        if service(lip, proto, lport).is_none() {
            let pair = shared.pairs.iter().position(|pair| *pair == [proto, lip, rip, rport]);
            let pair = hex16(FIRST_PAIR + pair.expect("its inbound half"));
            let key = [("src", rip), ("dst", lip), ("proto", proto), ("sport", rport)];
            by_ids.push(entry("pair_id_v4", key, "is_pair", [("id", &pair)]));
            let service = service(vip, proto, vport).expect("a service");
            let way = (LAST_OF_SERVICE - place(&mut shared.ways_out, (service, nexthop))) << 10 | service;
            let address = [("src", vip), ("sport", vport), ("nexthop", nexthop)];
            by_ids.push(entry("service_addr_v4", [("service", &hex16(way))], "from_service", address));
            let connection = shared.connections.get_mut(&(pair, lport)).expect("its inbound half");
            assert_eq!((connection.0, connection.1), (client, cport));
            connection.2 = hex16(way);
        }
    }
    for ((pair, lport), (client, cport, service)) in &shared.connections {
        let of = [("client", *client), ("cport", cport), ("service", service)];
        let half = if lport.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']) { "even" } else { "odd" };
        let (table, action) = (format!("connection_v4_{half}"), format!("connection_{half}"));
        by_ids.push(entry(&table, [("pair", pair), ("lport", lport)], &action, of));
    }
    let Shared { pairs, ways_in, ways_out, connections } = shared;
    assert_eq!([flows.len(), connections.len(), pairs.len(), ways_in.len(), ways_out.len()], [5, 3, 2, 3, 2]);
    Vectors { entries: by_ids, cases: cases.into_iter().map(punted_if_moved).collect() }
}

/// What a plain entry writes: source, its port, destination, its port, next hop.
fn parameters(flow: &Entry) -> [&str; 5] {
    ["src", "sport", "dst", "dport", "nexthop"].map(|name| &*flow.params[name])
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
