//! Writes the page of tables in the book.

use std::fmt::Write;

use p4runtime_proto::p4::config::v1::P4Info;

use crate::program::{self, bmv2, entry_actions, id, ids_alone, name, pna};
use crate::{constants, fresh, p4};

/// What a table is for.
fn purpose(table: &str) -> &'static str {
    match table {
        "flow_v4" | "flow_v6" => "One direction of one session.",
        "service_id_v4" => "What a service is called, and whose its strays are.",
        "pair_id_v4" => "What a real server is called, as one local address reaches it.",
        "inbound_v4" => "Which connection a client's packets are of.",
        "connection_v4_even" => "One session with an even `lport`, for both of its directions.",
        "connection_v4_odd" => "One session with an odd `lport`, likewise.",
        "pair_v4" => "Where inbound packets go on: the pair in the lower 14 bits, one of its next hops in the others.",
        "service_addr_v4" => {
            "Where outbound packets go on: the service in the lower 10 bits, one of its next hops in the others."
        }
        "nexthop" => "Where a packet goes next: MAC addresses and port.",
        "service_v4" | "service_v6" => "Services. What is for one and has no flow entry is punted.",
        "local_v4" | "local_v6" => {
            "Our own addresses. `punt_all` is for those of interfaces and for local addresses (LIP): everything is \
             punted. `punt_other` is for those of services (VIP): ARP, neighbour discovery, ICMP, fragments and packets \
             with options are punted; TCP and UDP to a port without service are dropped."
        }
        "slowpath" => "Where punts go.",
        "inject" => "Ports whose tags are the slow path's. A tag from any other port is a VLAN tag.",
        "port" => "The target's ports by the numbers that inject tags have for them.",
        _ => panic!("{table} has no text"),
    }
}

/// What an action does.
fn effect(action: &str) -> &'static str {
    match action {
        "rewrite_v4" | "rewrite_v6" => "New addresses and ports, TTL or hop limit less one, checksums updated.",
        "rewrite_seq_v4" | "rewrite_seq_v6" => "The same, and the deltas added to TCP's numbers, modulo 2^32.",
        "is_service" | "is_pair" => "Remembers the id.",
        "to_connection" => "Names it.",
        "connection_even" | "connection_odd" => {
            "Remembers the client and its service. A packet from the client must be of both, or is punted."
        }
        "to_pair" => {
            "New addresses and ports: those of the pair, and for the source port the connection's `lport`. TTL less one, \
             checksums updated."
        }
        "from_service" => {
            "New addresses and ports: those of the service, and the connection's client. TTL less one, checksums updated."
        }
        "forward" => "Sets the MAC addresses and sends.",
        "punt_service_v4" | "punt_service_v6" => "Punts to the worker, unless the entry's meter is red.",
        "punt_all" => "Punts to the worker.",
        "punt_other" => "Punts to the worker what has no ports.",
        "to_port" => "Puts the tag in front and sends.",
        "honour" => "Takes the tag as the slow path's word.",
        "out_of" => "Sends.",
        _ => panic!("{action} has no text"),
    }
}

fn names<'a>(fields: impl Iterator<Item = (&'a str, i32)>) -> String {
    fields.map(|(name, bits)| format!("`{name}` {bits}")).collect::<Vec<_>>().join(", ")
}

fn write_tables(page: &mut String, info: &P4Info) {
    page.push_str("| table | id | key, bits | entries | actions | what for |\n|---|---|---|---|---|---|\n");
    for table in &info.tables {
        let key = names(table.match_fields.iter().map(|f| (f.name.as_str(), f.bitwidth)));
        let actions: Vec<_> = entry_actions(info, table).iter().map(|a| format!("`{}`", name(&a.preamble))).collect();
        let (name, id) = (name(&table.preamble), id(&table.preamble));
        let (size, actions, purpose) = (table.size, actions.join(", "), purpose(name));
        writeln!(page, "| `{name}` | `{id:#010x}` | {key} | {size} | {actions} | {purpose} |").unwrap();
    }
    page.push_str("\n| action | id | parameters, bits | what it does |\n|---|---|---|---|\n");
    for action in info.actions.iter().filter(|a| name(&a.preamble) != "NoAction") {
        let params = names(action.params.iter().map(|p| (p.name.as_str(), p.bitwidth)));
        let (name, id) = (name(&action.preamble), id(&action.preamble));
        writeln!(page, "| `{name}` | `{id:#010x}` | {params} | {} |", effect(name)).unwrap();
    }
}

fn write_resources(page: &mut String, info: &P4Info, pna: &P4Info) {
    page.push_str("\n| counter or meter | id | of | BMv2, Tofino | PNA |\n|---|---|---|---|---|\n");
    let of = |table| format!("entries of `{}`", name(&table_of(info, table).preamble));
    let all =
        (info.counters.iter().map(|c| (&c.preamble, format!("{} reasons", c.size), "packets, bytes", "packets")))
            .chain(info.direct_counters.iter().map(|c| {
                (&c.preamble, of(c.direct_table_id), "packets, bytes", "packets, bytes of the IP packet and 14")
            }))
            .chain(info.direct_meters.iter().map(|m| (&m.preamble, of(m.direct_table_id), "packets", "none")));
    for (preamble, of, bmv2, there) in all {
        writeln!(page, "| `{}` | `{:#010x}` | {of} | {bmv2} | {there} |", name(preamble), id(preamble)).unwrap();
    }
    assert!(pna.direct_meters.is_empty());
}

fn table_of(info: &P4Info, wanted: u32) -> &p4runtime_proto::p4::config::v1::Table {
    info.tables.iter().find(|t| program::id(&t.preamble) == wanted).expect("a table")
}

fn write_family(page: &mut String, prefix: &str) {
    page.push_str("| number | name | what it means |\n|---|---|---|\n");
    for (name, constant) in constants::family(prefix) {
        if name != "NONE" {
            writeln!(page, "| {} | `{}` | {} |", constant.value, name.to_lowercase(), constant.text).unwrap();
        }
    }
}

#[test]
fn the_page_of_tables_is_fresh() {
    let mut page = String::from(
        "# Tables of the P4 program\n\n\
         <!-- Generated from P4Info and p4/core/constants.p4: UPDATE_P4=1 cargo test -p carom-p4 -->\n\n\
         This page describes the program in `p4/`, whose entries the [offload manager](switch.md) writes, compiled for BMv2 and for\n\
         PNA (DPDK's SWX pipeline), whose artifacts are in `p4/build/`, and for Tofino. `make p4` and `make p4 ARCH=tna`\n\
         make them again where there is a p4c.\n\n\
         All keys match exactly. Names, ids, keys, actions and parameters are the same on every architecture, and so are\n\
         sizes, but for the flow tables of Tofino: they are what the [chip has room for](tofino-resources.md). An\n\
         id is never given twice. An IPv6 address is two fields of 64 bits, the upper half first.\n\n",
    );
    let info = bmv2();
    write_tables(&mut page, &info);
    page.push_str(
        "\nFlow entries have an idle timeout where the target has one (BMv2, Tofino). Packets with SYN, FIN or RST, with a TTL or hop\n\
         limit of 0 or 1, fragments, and packets with IP options or with a VLAN tag do not reach the flow tables: they\n\
         neither count nor keep an entry alive. Checksums are updated by the difference (RFC 1624): one that was wrong stays\n\
         wrong by as much. A UDP checksum of zero stays zero. SWX does not notice frames that end within a header; `hw/softnic`\n\
         looks for it.\n\
         [Why it is so](decisions/p4-program.md).\n",
    );
    write_resources(&mut page, &info, &pna());
    page.push_str(
        "\n## The program by ids\n\n\
         For targets whose memory is short (Tofino), and for BMv2, where it is tested. In place of `flow_v4`, its actions and its\n\
         counter it has these; all else is the same. [What entries are made of](tofino.md#by-ids). Ids are the controller's.\n\n",
    );
    let alone = ids_alone();
    write_tables(&mut page, &alone);
    page.push_str(
        "\nBoth halves of `connection_v4` have an idle timeout and a direct counter, `connection_v4_even_count` (`0x13000103`) and\n\
         `connection_v4_odd_count` (`0x13000104`), of packets and bytes of both directions. A packet whose connection has no entry is punted, as a miss. If it has one, but `pair_v4` or\n\
         `service_addr_v4` lacks the id, it is dropped, as `no_nexthop`.\n",
    );
    page.push_str(
        "\n## The tag\n\n\
         A frame between switch and slow path has one 802.1Q tag behind its MAC addresses. A VLAN tag of the network's own\n\
         stays behind it.\n\n\
         Punted frames: the PCP says why, the VID is the low 12 bits of the port by which the frame came.\n\n",
    );
    write_family(&mut page, "PUNT_");
    page.push_str("\nInjected frames: the PCP says what the VID is. The switch removes the tag.\n\n");
    write_family(&mut page, "INJECT_");
    page.push_str(
        "\n## Drops\n\nThe index of the counter `drops`. Below 48 the numbers are those of the\n\
         [slow path's drop reasons](drops.md).\n\n",
    );
    write_family(&mut page, "DROP_");
    fresh(&p4().join("../docs/src/tables.md"), &page);
}
