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
/// A service's other ids: one for each of its next hops, from this one down.
const LAST_VARIANT: usize = 63;

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

/// Place of a value in a list, to which it is added if it is not there.
fn place<T: PartialEq>(list: &mut Vec<T>, value: T) -> usize {
    list.iter().position(|there| *there == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    })
}

/// A real server as a local address reaches it, and by what next hop: proto, LIP, RIP, rport, nexthop.
type Pair<'a> = [&'a str; 5];

/// What the entries of flows have in common.
#[derive(Default)]
struct Shared<'a> {
    pairs: Vec<Pair<'a>>,
    /// Service and next hop.
    variants: Vec<([&'a str; 3], &'a str)>,
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
        let params = fields([("id", &format!("{:04x}", FIRST_SERVICE + at)), ("worker", &service.params["worker"])]);
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
            let pair = FIRST_PAIR + place(&mut shared.pairs, [proto, lip, rip, rport, nexthop]);
            let pair = format!("{pair:04x}");
            let key = [("src", src), ("dst", dst), ("proto", proto), ("sport", sport), ("dport", dport)];
            by_ids.push(entry("inbound_v4", key, "to_connection", [("pair", &pair), ("lport", lport)]));
            shared.connections.insert((pair, lport), (src, sport, format!("{service:04x}")));
        }
    }
    for flow in &flows {
        let [rip, rport, lip, lport, proto] = ["src", "sport", "dst", "dport", "proto"].map(|name| &*flow.key[name]);
        let [vip, vport, client, cport, nexthop] = parameters(flow);
        if service(lip, proto, lport).is_none() {
            let same = |pair: &Pair| pair[..4] == [proto, lip, rip, rport];
            let pair = FIRST_PAIR + shared.pairs.iter().position(same).expect("its inbound half");
            let pair = format!("{pair:04x}");
            let key = [("src", rip), ("dst", lip), ("proto", proto), ("sport", rport)];
            by_ids.push(entry("pair_id_v4", key, "is_pair", [("id", &pair)]));
            let variant = LAST_VARIANT - place(&mut shared.variants, ([vip, vport, proto], nexthop));
            let id = format!("{:04x}", service(vip, proto, vport).expect("a service") | variant << 10);
            let address = [("src", vip), ("sport", vport), ("nexthop", nexthop)];
            by_ids.push(entry("service_addr_v4", [("service", &id)], "from_service", address));
            let connection = shared.connections.get_mut(&(pair, lport)).expect("its inbound half");
            assert_eq!((connection.0, connection.1), (client, cport));
            connection.2 = id;
        }
    }
    for (at, [_, src, dst, dport, nexthop]) in shared.pairs.iter().enumerate() {
        let address = [("src", *src), ("dst", dst), ("dport", dport), ("nexthop", nexthop)];
        by_ids.push(entry("pair_v4", [("pair", &format!("{:04x}", FIRST_PAIR + at))], "to_pair", address));
    }
    for ((pair, lport), (client, cport, service)) in &shared.connections {
        let of = [("client", *client), ("cport", cport), ("service", service)];
        by_ids.push(entry("connection_v4", [("pair", pair), ("lport", lport)], "connection", of));
    }
    assert_eq!((flows.len(), shared.connections.len(), shared.pairs.len(), shared.variants.len()), (5, 3, 3, 2));
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
