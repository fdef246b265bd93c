// Stages flow and rewrite for IPv4 in the program by ids, in place of those in flow_v4.p4: with room for more connections.
// What entries have in common is in small tables, and entries name it by ids.
//
//  inbound:   (VIP, proto, vport) ─▶ service   (CIP, cport, service) ─▶ pair, lport   pair ─▶ LIP, RIP:rport, next hop
//  outbound:  (RIP, proto, rport, LIP) ─▶ pair   (pair, lport) ─▶ CIP, cport, service   service ─▶ VIP:vport, next hop
//
// A pair is a real server as one local address reaches it: of 14 bits, and services of 10, so that entries fit their
// words. An id that a packet is looked up with and one that an entry names are of their own each: an entry may name one of
// several for the same service or pair that differ in the next hop.
//
// Keys are whole, not digests: what hits is the connection. One counter counts a connection, its inbound half; both halves
// age. Sequence numbers are not moved: such connections stay in the slow path. An id without an entry leaves the next hop
// at 0, which has none either: the packet is dropped and counted.

control FlowV4(inout headers_t hdr, inout meta_t meta) {
    bit<10> service = 0;
    bit<14> pair = 0;
    DIRECT_COUNTER(in_v4_count, ".in_v4_count", ID_IN_V4_COUNT)

    @name(".is_service") @id(ID_IS_SERVICE)
    action is_service(@id(1) bit<10> id) {
        service = id;
    }

    @name(".service_id_v4") @id(ID_SERVICE_ID_V4)
    table service_id_v4 {
        key = {
            meta.dst: exact @name("dst") @id(1);
            meta.proto: exact @name("proto") @id(2);
            meta.dport: exact @name("dport") @id(3);
        }
        actions = {
            @tableonly is_service;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_SERVICE_ID;
    }

    @name(".is_pair") @id(ID_IS_PAIR)
    action is_pair(@id(1) bit<14> id) {
        pair = id;
    }

    @name(".pair_id_v4") @id(ID_PAIR_ID_V4)
    table pair_id_v4 {
        key = {
            meta.src: exact @name("src") @id(1);
            meta.dst: exact @name("dst") @id(2);
            meta.proto: exact @name("proto") @id(3);
            meta.sport: exact @name("sport") @id(4);
        }
        actions = {
            @tableonly is_pair;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_PAIR_ID;
    }

    @name(".inbound_v4") @id(ID_INBOUND_V4)
    action inbound(@id(1) bit<14> to, @id(2) bit<16> lport) {
        DIRECT_COUNT(in_v4_count);
        hdr.ports.sport = lport;
        pair = to;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        meta.rewritten = 1;
        meta.verdict = VERDICT_FORWARD;
    }

    IN_V4_LAYOUT
    @name(".in_v4") @id(ID_IN_V4)
    table in_v4 {
        key = {
            meta.src: exact @name("src") @id(1);
            meta.sport: exact @name("sport") @id(2);
            service: exact @name("service") @id(3);
        }
        actions = {
            @tableonly inbound;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_CONNECTIONS_V4;
        DIRECT_COUNTER_OF(in_v4_count)
        IDLE_TIMEOUT
    }

    @name(".outbound_v4") @id(ID_OUTBOUND_V4)
    action outbound(@id(1) bit<32> dst, @id(2) bit<16> dport, @id(3) bit<10> from) {
        hdr.ipv4.dst = dst;
        hdr.ports.dport = dport;
        service = from;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        meta.rewritten = 1;
        meta.verdict = VERDICT_FORWARD;
    }

    OUT_V4_LAYOUT
    @name(".out_v4") @id(ID_OUT_V4)
    table out_v4 {
        key = {
            pair: exact @name("pair") @id(1);
            meta.dport: exact @name("lport") @id(2);
        }
        actions = {
            @tableonly outbound;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_CONNECTIONS_V4;
        IDLE_TIMEOUT
    }

    @name(".to_pair") @id(ID_TO_PAIR)
    action to_pair(@id(1) bit<32> src, @id(2) bit<32> dst, @id(3) bit<16> dport, @id(4) bit<16> nexthop) {
        hdr.ipv4.src = src;
        hdr.ipv4.dst = dst;
        hdr.ports.dport = dport;
        meta.nexthop = nexthop;
    }

    @name(".pair_v4") @id(ID_PAIR_V4)
    table pair_v4 {
        key = {
            pair: exact @name("pair") @id(1);
        }
        actions = {
            @tableonly to_pair;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_PAIR_ID;
    }

    @name(".from_service") @id(ID_FROM_SERVICE)
    action from_service(@id(1) bit<32> src, @id(2) bit<16> sport, @id(3) bit<16> nexthop) {
        hdr.ipv4.src = src;
        hdr.ports.sport = sport;
        meta.nexthop = nexthop;
    }

    @name(".service_addr_v4") @id(ID_SERVICE_ADDR_V4)
    table service_addr_v4 {
        key = {
            service: exact @name("service") @id(1);
        }
        actions = {
            @tableonly from_service;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_SERVICE_ID;
    }

    apply {
        if (service_id_v4.apply().hit) {
            if (in_v4.apply().hit) {
                pair_v4.apply();
            }
        } else if (pair_id_v4.apply().hit) {
            if (out_v4.apply().hit) {
                service_addr_v4.apply();
            }
        }
    }
}
