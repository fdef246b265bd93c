// A profile with room for more IPv4 connections, in place of flow_v4: what entries have in common is in small tables, and
// entries name it by ids. No controller of ours writes these tables; docs/src/tofino.md says what for it is here.
//
//  inbound:   (VIP, proto, vport) ─▶ service   (CIP, cport, service) ─▶ pair, lport   pair ─▶ LIP, RIP:rport, next hop
//  outbound:  (RIP, proto, rport, LIP) ─▶ pair   (pair, lport) ─▶ CIP, cport, service   service ─▶ VIP:vport, next hop
//
// A pair is a real server as one local address reaches it: of 14 bits, and services of 10, so that entries fit their
// words. Keys are whole, not digests: what hits is the connection. One counter counts a connection, its inbound half;
// both halves age. Sequence numbers are not moved: such connections stay in the slow path.
//
// Its ids are those from 0x101 on, which nothing else gets.

// PACKETS has room for more than PACKETS_AND_BYTES.
#ifndef COMPACT_COUNTS
#define COMPACT_COUNTS PACKETS_AND_BYTES
#endif

control FlowV4(inout headers_t hdr, inout meta_t meta) {
    bit<10> service = 0;
    bit<14> pair = 0;
    @name(".in_v4_count") @id(0x13000101) DirectCounter<bit<32>>(CounterType_t.COMPACT_COUNTS) in_v4_count;

    @name(".is_service") @id(0x01000101)
    action is_service(@id(1) bit<10> id) {
        service = id;
    }

    @name(".service_id_v4") @id(0x02000101)
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
        size = 1024;
    }

    @name(".is_pair") @id(0x01000102)
    action is_pair(@id(1) bit<14> id) {
        pair = id;
    }

    @name(".pair_id_v4") @id(0x02000102)
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
        size = 16384;
    }

    @name(".inbound_v4") @id(0x01000103)
    action inbound(@id(1) bit<14> to, @id(2) bit<16> lport) {
        DIRECT_COUNT(in_v4_count);
        hdr.ports.sport = lport;
        pair = to;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        meta.rewritten = 1;
        meta.verdict = VERDICT_FORWARD;
    }

    @pack(2) @immediate(0) @idletime_precision(2)
    @name(".in_v4") @id(0x02000103)
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
        size = CHIP_CONNECTIONS;
        DIRECT_COUNTER_OF(in_v4_count)
        IDLE_TIMEOUT
    }

    @name(".outbound_v4") @id(0x01000104)
    action outbound(@id(1) bit<32> dst, @id(2) bit<16> dport, @id(3) bit<10> from) {
        hdr.ipv4.dst = dst;
        hdr.ports.dport = dport;
        service = from;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        meta.rewritten = 1;
        meta.verdict = VERDICT_FORWARD;
    }

    @pack(5) @immediate(0) @idletime_precision(2)
    @name(".out_v4") @id(0x02000104)
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
        size = CHIP_CONNECTIONS;
        IDLE_TIMEOUT
    }

    @name(".to_pair") @id(0x01000105)
    action to_pair(@id(1) bit<32> src, @id(2) bit<32> dst, @id(3) bit<16> dport, @id(4) bit<16> nexthop) {
        hdr.ipv4.src = src;
        hdr.ipv4.dst = dst;
        hdr.ports.dport = dport;
        meta.nexthop = nexthop;
    }

    @name(".pair_v4") @id(0x02000105)
    table pair_v4 {
        key = {
            pair: exact @name("pair") @id(1);
        }
        actions = {
            @tableonly to_pair;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = 16384;
    }

    @name(".from_service") @id(0x01000106)
    action from_service(@id(1) bit<32> src, @id(2) bit<16> sport, @id(3) bit<16> nexthop) {
        hdr.ipv4.src = src;
        hdr.ports.sport = sport;
        meta.nexthop = nexthop;
    }

    @name(".service_addr_v4") @id(0x02000106)
    table service_addr_v4 {
        key = {
            service: exact @name("service") @id(1);
        }
        actions = {
            @tableonly from_service;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = 1024;
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
