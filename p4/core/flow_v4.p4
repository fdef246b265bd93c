// Stages flow and rewrite: a packet of a session that was offloaded gets its new addresses and ports here.
//
//  flow_v4 ─┬ hit ──▶ rewrite, rewrite_seq: addresses, ports, TTL; verdict FORWARD
//           └ miss ─▶ verdict stays, admission decides
//
// Only what may take the fast path gets here, so that the entry's counter counts what the switch forwarded and its idle
// timer runs on while the slow path handles the opening and the end of a connection.

control FlowV4(inout headers_t hdr, inout meta_t meta) {
    DIRECT_COUNTER(flow_v4_count, ".flow_v4_count", ID_FLOW_V4_COUNT)

    @name(".rewrite_v4") @id(ID_REWRITE_V4)
    action rewrite(@id(1) bit<32> src, @id(2) bit<32> dst, @id(3) bit<16> sport, @id(4) bit<16> dport,
                   @id(5) bit<16> nexthop) {
        DIRECT_COUNT(flow_v4_count);
        hdr.ipv4.src = src;
        hdr.ipv4.dst = dst;
        hdr.ports.sport = sport;
        hdr.ports.dport = dport;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        meta.nexthop = nexthop;
        REWRITTEN_V4;
        meta.verdict = VERDICT_FORWARD;
    }

    // For connections whose sequence numbers the slow path moved. The deltas are added modulo 2^32.
    @name(".rewrite_seq_v4") @id(ID_REWRITE_SEQ_V4)
    action rewrite_seq(@id(1) bit<32> src, @id(2) bit<32> dst, @id(3) bit<16> sport, @id(4) bit<16> dport,
                       @id(5) bit<16> nexthop, @id(6) bit<32> seq_delta, @id(7) bit<32> ack_delta) {
        DIRECT_COUNT(flow_v4_count);
        hdr.ipv4.src = src;
        hdr.ipv4.dst = dst;
        hdr.ports.sport = sport;
        hdr.ports.dport = dport;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        hdr.tcp.seq = hdr.tcp.seq + seq_delta;
        hdr.tcp.ack = hdr.tcp.ack + ack_delta;
        meta.nexthop = nexthop;
        REWRITTEN_V4;
        meta.verdict = VERDICT_FORWARD;
    }

    @name(".flow_v4") @id(ID_FLOW_V4)
    table flow_v4 {
        key = {
            meta.src: exact @name("src") @id(1);
            meta.dst: exact @name("dst") @id(2);
            meta.proto: exact @name("proto") @id(3);
            meta.sport: exact @name("sport") @id(4);
            meta.dport: exact @name("dport") @id(5);
        }
        actions = {
            @tableonly rewrite;
            @tableonly rewrite_seq;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_FLOW_V4;
        DIRECT_COUNTER_OF(flow_v4_count)
        IDLE_TIMEOUT
    }

    apply {
        flow_v4.apply();
    }
}

// The entry's action has done it.
control RewriteV4(inout headers_t hdr, inout meta_t meta) {
    apply { }
}
