//! Tables, actions, ids and numbers of the P4 program.
//!
//! Generated from P4Info and `p4/core/constants.p4`: `UPDATE_P4=1 cargo test -p carom-p4`.
//!
//! A table is its key, its P4Runtime id, its name and its size; after each field come the ids of the match fields
//! or parameters that carry it.

use crate::table::{Key, Table, actions, numbers, table};

table! {
    /// Key of the table `flow_v4`.
    FlowV4Key -> FlowV4Action, 0x02000001, "flow_v4", 131072, {
        src: u32 = [1],
        dst: u32 = [2],
        proto: u8 = [3],
        sport: u16 = [4],
        dport: u16 = [5],
    }
}

actions! {
    /// What an entry of the table `flow_v4` does.
    FlowV4Action {
        RewriteV4 = 0x01000001 {
            src: u32 = [1],
            dst: u32 = [2],
            sport: u16 = [3],
            dport: u16 = [4],
            nexthop: u16 = [5],
        }
        RewriteSeqV4 = 0x01000003 {
            src: u32 = [1],
            dst: u32 = [2],
            sport: u16 = [3],
            dport: u16 = [4],
            nexthop: u16 = [5],
            seq_delta: u32 = [6],
            ack_delta: u32 = [7],
        }
    }
}

table! {
    /// Key of the table `flow_v6`.
    FlowV6Key -> FlowV6Action, 0x02000002, "flow_v6", 65536, {
        src: u128 = [1, 2],
        dst: u128 = [3, 4],
        proto: u8 = [5],
        sport: u16 = [6],
        dport: u16 = [7],
    }
}

actions! {
    /// What an entry of the table `flow_v6` does.
    FlowV6Action {
        RewriteV6 = 0x01000002 {
            src: u128 = [1, 2],
            dst: u128 = [3, 4],
            sport: u16 = [5],
            dport: u16 = [6],
            nexthop: u16 = [7],
        }
        RewriteSeqV6 = 0x01000004 {
            src: u128 = [1, 2],
            dst: u128 = [3, 4],
            sport: u16 = [5],
            dport: u16 = [6],
            nexthop: u16 = [7],
            seq_delta: u32 = [8],
            ack_delta: u32 = [9],
        }
    }
}

table! {
    /// Key of the table `nexthop`.
    NexthopKey -> NexthopAction, 0x02000003, "nexthop", 4096, {
        nexthop: u16 = [1],
    }
}

actions! {
    /// What an entry of the table `nexthop` does.
    NexthopAction {
        Forward = 0x01000005 {
            smac: [u8; 6] = [1],
            dmac: [u8; 6] = [2],
            port: u32 = [3],
        }
    }
}

table! {
    /// Key of the table `service_v4`.
    ServiceV4Key -> ServiceV4Action, 0x02000004, "service_v4", 4096, {
        dst: u32 = [1],
        proto: u8 = [2],
        dport: u16 = [3],
    }
}

actions! {
    /// What an entry of the table `service_v4` does.
    ServiceV4Action {
        PuntServiceV4 = 0x01000006 {
            worker: u8 = [1],
        }
    }
}

table! {
    /// Key of the table `service_v6`.
    ServiceV6Key -> ServiceV6Action, 0x02000005, "service_v6", 4096, {
        dst: u128 = [1, 2],
        proto: u8 = [3],
        dport: u16 = [4],
    }
}

actions! {
    /// What an entry of the table `service_v6` does.
    ServiceV6Action {
        PuntServiceV6 = 0x01000007 {
            worker: u8 = [1],
        }
    }
}

table! {
    /// Key of the table `local_v4`.
    LocalV4Key -> LocalV4Action, 0x02000006, "local_v4", 4096, {
        dst: u32 = [1],
    }
}

actions! {
    /// What an entry of the table `local_v4` does.
    LocalV4Action {
        PuntAll = 0x01000008 {
            worker: u8 = [1],
        }
        PuntOther = 0x01000009 {
            worker: u8 = [1],
        }
    }
}

table! {
    /// Key of the table `local_v6`.
    LocalV6Key -> LocalV6Action, 0x02000007, "local_v6", 4096, {
        dst: u128 = [1, 2],
    }
}

actions! {
    /// What an entry of the table `local_v6` does.
    LocalV6Action {
        PuntAll = 0x01000008 {
            worker: u8 = [1],
        }
        PuntOther = 0x01000009 {
            worker: u8 = [1],
        }
    }
}

table! {
    /// Key of the table `slowpath`.
    SlowpathKey -> SlowpathAction, 0x02000008, "slowpath", 64, {
        worker: u8 = [1],
    }
}

actions! {
    /// What an entry of the table `slowpath` does.
    SlowpathAction {
        ToPort = 0x0100000a {
            port: u32 = [1],
        }
    }
}

table! {
    /// Key of the table `inject`.
    InjectKey -> InjectAction, 0x02000009, "inject", 64, {
        port: u32 = [1],
    }
}

actions! {
    /// What an entry of the table `inject` does.
    InjectAction {
        Honour = 0x0100000b {
        }
    }
}

table! {
    /// Key of the table `port`.
    PortKey -> PortAction, 0x0200000a, "port", 512, {
        vid: u16 = [1],
    }
}

actions! {
    /// What an entry of the table `port` does.
    PortAction {
        OutOf = 0x0100000c {
            port: u32 = [1],
        }
    }
}

table! {
    /// Key of the table `service_id_v4`.
    ServiceIdV4Key -> ServiceIdV4Action, 0x02000101, "service_id_v4", 1024, {
        dst: u32 = [1],
        proto: u8 = [2],
        dport: u16 = [3],
    }
}

actions! {
    /// What an entry of the table `service_id_v4` does.
    ServiceIdV4Action {
        IsService = 0x01000101 {
            id: u16 = [1],
            worker: u8 = [2],
        }
    }
}

table! {
    /// Key of the table `pair_id_v4`.
    PairIdV4Key -> PairIdV4Action, 0x02000102, "pair_id_v4", 16384, {
        src: u32 = [1],
        dst: u32 = [2],
        proto: u8 = [3],
        sport: u16 = [4],
    }
}

actions! {
    /// What an entry of the table `pair_id_v4` does.
    PairIdV4Action {
        IsPair = 0x01000102 {
            id: u16 = [1],
        }
    }
}

table! {
    /// Key of the table `pair_v4`.
    PairV4Key -> PairV4Action, 0x02000105, "pair_v4", 16384, {
        pair: u16 = [1],
    }
}

actions! {
    /// What an entry of the table `pair_v4` does.
    PairV4Action {
        ToPair = 0x01000105 {
            src: u32 = [1],
            dst: u32 = [2],
            dport: u16 = [3],
            nexthop: u16 = [4],
        }
    }
}

table! {
    /// Key of the table `service_addr_v4`.
    ServiceAddrV4Key -> ServiceAddrV4Action, 0x02000106, "service_addr_v4", 4096, {
        service: u16 = [1],
    }
}

actions! {
    /// What an entry of the table `service_addr_v4` does.
    ServiceAddrV4Action {
        FromService = 0x01000106 {
            src: u32 = [1],
            sport: u16 = [2],
            nexthop: u16 = [3],
        }
    }
}

table! {
    /// Key of the table `inbound_v4`.
    InboundV4Key -> InboundV4Action, 0x02000107, "inbound_v4", 65536, {
        src: u32 = [1],
        dst: u32 = [2],
        proto: u8 = [3],
        sport: u16 = [4],
        dport: u16 = [5],
    }
}

actions! {
    /// What an entry of the table `inbound_v4` does.
    InboundV4Action {
        ToConnection = 0x01000107 {
            pair: u16 = [1],
            lport: u16 = [2],
        }
    }
}

table! {
    /// Key of the table `connection_v4_even`.
    ConnectionV4EvenKey -> ConnectionV4EvenAction, 0x02000109, "connection_v4_even", 32768, {
        pair: u16 = [1],
        lport: u16 = [2],
    }
}

actions! {
    /// What an entry of the table `connection_v4_even` does.
    ConnectionV4EvenAction {
        ConnectionEven = 0x01000109 {
            client: u32 = [1],
            cport: u16 = [2],
            service: u16 = [3],
        }
    }
}

table! {
    /// Key of the table `connection_v4_odd`.
    ConnectionV4OddKey -> ConnectionV4OddAction, 0x0200010a, "connection_v4_odd", 32768, {
        pair: u16 = [1],
        lport: u16 = [2],
    }
}

actions! {
    /// What an entry of the table `connection_v4_odd` does.
    ConnectionV4OddAction {
        ConnectionOdd = 0x0100010a {
            client: u32 = [1],
            cport: u16 = [2],
            service: u16 = [3],
        }
    }
}

/// All tables of the program, by id.
pub const TABLES: [Table; 10] = [
    <FlowV4Key as Key>::TABLE,
    <FlowV6Key as Key>::TABLE,
    <NexthopKey as Key>::TABLE,
    <ServiceV4Key as Key>::TABLE,
    <ServiceV6Key as Key>::TABLE,
    <LocalV4Key as Key>::TABLE,
    <LocalV6Key as Key>::TABLE,
    <SlowpathKey as Key>::TABLE,
    <InjectKey as Key>::TABLE,
    <PortKey as Key>::TABLE,
];

/// All tables of the program by ids, by id.
pub const IDS_TABLES: [Table; 16] = [
    <FlowV6Key as Key>::TABLE,
    <NexthopKey as Key>::TABLE,
    <ServiceV4Key as Key>::TABLE,
    <ServiceV6Key as Key>::TABLE,
    <LocalV4Key as Key>::TABLE,
    <LocalV6Key as Key>::TABLE,
    <SlowpathKey as Key>::TABLE,
    <InjectKey as Key>::TABLE,
    <PortKey as Key>::TABLE,
    <ServiceIdV4Key as Key>::TABLE,
    <PairIdV4Key as Key>::TABLE,
    <PairV4Key as Key>::TABLE,
    <ServiceAddrV4Key as Key>::TABLE,
    <InboundV4Key as Key>::TABLE,
    <ConnectionV4EvenKey as Key>::TABLE,
    <ConnectionV4OddKey as Key>::TABLE,
];

/// P4Runtime id of the counter `drops`.
pub const ID_DROPS: u32 = 0x12000001;
/// P4Runtime id of the counter `punts`.
pub const ID_PUNTS: u32 = 0x12000002;
/// P4Runtime id of the direct counter `flow_v4_count`.
pub const ID_FLOW_V4_COUNT: u32 = 0x13000001;
/// P4Runtime id of the direct counter `flow_v6_count`.
pub const ID_FLOW_V6_COUNT: u32 = 0x13000002;
/// P4Runtime id of the direct meter `service_v4_meter`.
pub const ID_SERVICE_V4_METER: u32 = 0x15000001;
/// P4Runtime id of the direct meter `service_v6_meter`.
pub const ID_SERVICE_V6_METER: u32 = 0x15000002;
/// P4Runtime id of the direct counter `connection_v4_even_count`.
pub const ID_CONNECTION_V4_EVEN_COUNT: u32 = 0x13000103;
/// P4Runtime id of the direct counter `connection_v4_odd_count`.
pub const ID_CONNECTION_V4_ODD_COUNT: u32 = 0x13000104;

/// EtherType of IPv4.
pub const ETHER_IPV4: u16 = 0x800;
/// EtherType of ARP.
pub const ETHER_ARP: u16 = 0x806;
/// EtherType of an 802.1Q tag: the tag of punt and inject, and VLAN tags of the network's own.
pub const ETHER_TAG: u16 = 0x8100;
/// EtherType of IPv6.
pub const ETHER_IPV6: u16 = 0x86dd;
/// IANA protocol number of ICMP.
pub const PROTO_ICMP: u8 = 0x1;
/// IANA protocol number of TCP.
pub const PROTO_TCP: u8 = 0x6;
/// IANA protocol number of UDP.
pub const PROTO_UDP: u8 = 0x11;
/// IANA protocol number of ICMPv6.
pub const PROTO_ICMP6: u8 = 0x3a;

numbers! {
    /// Why the switch drops a packet: the index of its counter `drops`.
    SwitchDrop {
        1 Truncated "truncated" "The frame ends before a header does.";
        3 EtherType "ether_type" "Neither IPv4, IPv6 nor ARP.";
        4 BadIpHeader "bad_ip_header" "IP version or header length is impossible.";
        8 Protocol "protocol" "An IP protocol that is not balanced.";
        10 BadArp "bad_arp" "An ARP packet that is not IPv4 over Ethernet.";
        16 NoService "no_service" "No service and no local address of ours has this destination.";
        48 PuntLimited "punt_limited" "Held back by the meter of its service.";
        49 NoNexthop "no_nexthop" "Its flow entry, or the slow path, named a next hop that has no entry.";
        50 NoWorker "no_worker" "Its service or local address named a worker that has no entry in `slowpath`.";
        51 BadInject "bad_inject" "The slow path sent it with a PCP other than 0 and 1.";
        52 NoPort "no_port" "The slow path sent it to a port that has no entry in `port`.";
    }
}

numbers! {
    /// Why the switch punts a packet: the PCP of the tag, and the index of its counter `punts`.
    Punt {
        0 Miss "miss" "A TCP segment or UDP datagram that has no flow entry.";
        1 TcpControl "tcp_control" "A TCP segment with SYN, FIN or RST. The slow path owns the state of connections.";
        2 Ttl "ttl" "TTL or hop limit is 0 or 1.";
        3 Fragment "fragment" "A fragment of an IP packet.";
        4 Options "options" "IPv4 options or an IPv6 extension header.";
        5 Icmp "icmp" "ICMP or ICMPv6, without neighbour discovery.";
        6 Neighbor "neighbor" "ARP, neighbour solicitation or neighbour advertisement.";
        7 Vlan "vlan" "Came with a VLAN tag of the network's own. It is still there, behind the tag of the punt.";
    }
}

numbers! {
    /// What the slow path wants with a frame it sends: the PCP of the tag.
    Inject {
        0 Nexthop "nexthop" "The VID is a next-hop id: MAC addresses and port are that entry's.";
        1 Port "port" "The VID is an egress port: the frame goes out as it is.";
    }
}
