// Stages flow and rewrite for IPv6, as those for IPv4 in flow_v4.p4.

control FlowV6(inout headers_t hdr, inout meta_t meta) {
    DIRECT_COUNTER(flow_v6_count, ".flow_v6_count", ID_FLOW_V6_COUNT)

    @name(".rewrite_v6") @id(ID_REWRITE_V6)
    action rewrite(@id(1) bit<64> src_hi, @id(2) bit<64> src_lo, @id(3) bit<64> dst_hi, @id(4) bit<64> dst_lo,
                   @id(5) bit<16> sport, @id(6) bit<16> dport, @id(7) bit<16> nexthop) {
        DIRECT_COUNT(flow_v6_count);
        hdr.ipv6.src_hi = src_hi;
        hdr.ipv6.src_lo = src_lo;
        hdr.ipv6.dst_hi = dst_hi;
        hdr.ipv6.dst_lo = dst_lo;
        hdr.ports.sport = sport;
        hdr.ports.dport = dport;
        hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
        meta.nexthop = nexthop;
        REWRITTEN_V6;
        meta.verdict = VERDICT_FORWARD;
    }

    // As rewrite_seq_v4.
    @name(".rewrite_seq_v6") @id(ID_REWRITE_SEQ_V6)
    action rewrite_seq(@id(1) bit<64> src_hi, @id(2) bit<64> src_lo, @id(3) bit<64> dst_hi, @id(4) bit<64> dst_lo,
                       @id(5) bit<16> sport, @id(6) bit<16> dport, @id(7) bit<16> nexthop,
                       @id(8) bit<32> seq_delta, @id(9) bit<32> ack_delta) {
        DIRECT_COUNT(flow_v6_count);
        hdr.ipv6.src_hi = src_hi;
        hdr.ipv6.src_lo = src_lo;
        hdr.ipv6.dst_hi = dst_hi;
        hdr.ipv6.dst_lo = dst_lo;
        hdr.ports.sport = sport;
        hdr.ports.dport = dport;
        hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
        hdr.tcp.seq = hdr.tcp.seq + seq_delta;
        hdr.tcp.ack = hdr.tcp.ack + ack_delta;
        meta.nexthop = nexthop;
        REWRITTEN_V6;
        meta.verdict = VERDICT_FORWARD;
    }

    @name(".flow_v6") @id(ID_FLOW_V6)
    table flow_v6 {
        key = {
            meta.src_hi: exact @name("src_hi") @id(1);
            meta.src_lo: exact @name("src_lo") @id(2);
            meta.dst_hi: exact @name("dst_hi") @id(3);
            meta.dst_lo: exact @name("dst_lo") @id(4);
            meta.proto: exact @name("proto") @id(5);
            meta.sport: exact @name("sport") @id(6);
            meta.dport: exact @name("dport") @id(7);
        }
        actions = {
            @tableonly rewrite;
            @tableonly rewrite_seq;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_FLOW_V6;
        DIRECT_COUNTER_OF(flow_v6_count)
        IDLE_TIMEOUT
    }

    apply {
        flow_v6.apply();
    }
}
