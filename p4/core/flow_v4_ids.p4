// Stages flow and rewrite for IPv4 in the program by ids, in place of those in flow_v4.p4: with room for more connections.
// What entries have in common is in small tables, and entries name it by ids.
//
//  inbound:   CIP:cport, VIP:vport ─▶ pair, lport ┐                              ┌ is it this client? ─▶ pair ─▶ rewrite
//                                                 ├▶ connection ─▶ client, service ┤
//  outbound:  RIP:rport, LIP ─▶ pair ─────────────┘                              └ service ─▶ rewrite
//
// A pair is a real server as one local address reaches it: (proto, RIP, rport, LIP). With the local port it names a
// connection, whose one entry has the client and counts and ages for both directions.
//
// Of an inbound key a target may keep less than all of it. What it finds is believed only if the connection has the
// packet's source and service; if not, the packet is the slow path's, as one that found nothing, but for the meter. So
// nothing is sent where it does not belong.
//
// Ids of services are of 10 bits, those of pairs of 14. Entries of flows name them in 16: by the rest they may name one of
// several that differ in the next hop. Sequence numbers are not moved: such connections stay in the slow path. An id without
// an entry leaves the next hop at 0, which has none either: the packet is dropped and counted.

control FlowV4(inout headers_t hdr, inout meta_t meta) {
    DIRECT_COUNTER(connection_v4_even_count, ".connection_v4_even_count", ID_CONNECTION_V4_EVEN_COUNT)
    DIRECT_COUNTER(connection_v4_odd_count, ".connection_v4_odd_count", ID_CONNECTION_V4_ODD_COUNT)

    @name(".is_service") @id(ID_IS_SERVICE)
    action is_service(@id(1) bit<16> id, @id(2) bit<8> worker) {
        meta.service = id;
        meta.worker = worker;
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
        meta.pair = (bit<16>)id;
        meta.lport = meta.dport;
        meta.outbound = 1;
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

    @name(".to_connection") @id(ID_TO_CONNECTION)
    action to_connection(@id(1) bit<16> pair, @id(2) bit<16> lport) {
        meta.pair = pair;
        meta.lport = lport;
        meta.client = meta.src;
        meta.cport = meta.sport;
    }

    INBOUND_V4_LAYOUT
    @name(".inbound_v4") @id(ID_INBOUND_V4)
    table inbound_v4 {
        key = {
            meta.src: exact @name("src") @id(1);
            meta.dst: exact @name("dst") @id(2);
            meta.proto: exact @name("proto") @id(3);
            meta.sport: exact @name("sport") @id(4);
            meta.dport: exact @name("dport") @id(5);
        }
        actions = {
            @tableonly to_connection;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_CONNECTIONS_V4;
    }

    // Outbound there were zeros, and this is the client; inbound it is what client and packet differ in.
    @name(".connection_even") @id(ID_CONNECTION_EVEN)
    action connection_even(@id(1) bit<32> client, @id(2) bit<16> cport, @id(3) bit<16> service) {
        DIRECT_COUNT(connection_v4_even_count);
        meta.client = meta.client ^ client;
        meta.cport = meta.cport ^ cport;
        meta.service = meta.service ^ service;
        meta.connected = 1;
        meta.verdict = VERDICT_FORWARD;
    }

    CONNECTION_V4_LAYOUT
    @name(".connection_v4_even") @id(ID_CONNECTION_V4_EVEN)
    table connection_v4_even {
        key = {
            meta.pair[13:0]: exact @name("pair") @id(1);
            meta.lport: exact @name("lport") @id(2);
        }
        actions = {
            @tableonly connection_even;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_CONNECTIONS_V4 / 2;
        DIRECT_COUNTER_OF(connection_v4_even_count)
        IDLE_TIMEOUT
    }

    @name(".connection_odd") @id(ID_CONNECTION_ODD)
    action connection_odd(@id(1) bit<32> client, @id(2) bit<16> cport, @id(3) bit<16> service) {
        DIRECT_COUNT(connection_v4_odd_count);
        meta.client = meta.client ^ client;
        meta.cport = meta.cport ^ cport;
        meta.service = meta.service ^ service;
        meta.connected = 1;
        meta.verdict = VERDICT_FORWARD;
    }

    CONNECTION_V4_LAYOUT
    @name(".connection_v4_odd") @id(ID_CONNECTION_V4_ODD)
    table connection_v4_odd {
        key = {
            meta.pair[13:0]: exact @name("pair") @id(1);
            meta.lport: exact @name("lport") @id(2);
        }
        actions = {
            @tableonly connection_odd;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_CONNECTIONS_V4 / 2;
        DIRECT_COUNTER_OF(connection_v4_odd_count)
        IDLE_TIMEOUT
    }

    apply {
        if (!pair_id_v4.apply().hit) {
            if (service_id_v4.apply().hit) {
                inbound_v4.apply();
            }
        }
        if (meta.lport[0:0] == 0) {
            connection_v4_even.apply();
        } else {
            connection_v4_odd.apply();
        }
    }
}

control RewriteV4(inout headers_t hdr, inout meta_t meta) {
    @name(".to_pair") @id(ID_TO_PAIR)
    action to_pair(@id(1) bit<32> src, @id(2) bit<32> dst, @id(3) bit<16> dport, @id(4) bit<16> nexthop) {
        hdr.ipv4.src = src;
        hdr.ipv4.dst = dst;
        hdr.ports.sport = meta.lport;
        hdr.ports.dport = dport;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        meta.nexthop = nexthop;
        REWRITTEN_V4;
    }

    @name(".pair_v4") @id(ID_PAIR_V4)
    table pair_v4 {
        key = {
            meta.pair: exact @name("pair") @id(1);
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
        hdr.ipv4.dst = meta.client;
        hdr.ports.sport = sport;
        hdr.ports.dport = meta.cport;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        meta.nexthop = nexthop;
        REWRITTEN_V4;
    }

    @name(".service_addr_v4") @id(ID_SERVICE_ADDR_V4)
    table service_addr_v4 {
        key = {
            meta.service: exact @name("service") @id(1);
        }
        actions = {
            @tableonly from_service;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_SERVICE_ADDR;
    }

    apply {
        if (meta.connected == 1) {
            if (meta.outbound == 1) {
                service_addr_v4.apply();
            } else if (meta.client != 0) {
                meta.verdict = VERDICT_PUNT;
            } else if (meta.cport != 0) {
                meta.verdict = VERDICT_PUNT;
            } else if (meta.service[9:0] != 0) {
                meta.verdict = VERDICT_PUNT;
            } else {
                pair_v4.apply();
            }
        }
    }
}
