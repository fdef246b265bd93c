// Stage parse: what is this packet? Leaves in meta either a reason to drop it (reason) or what it would be punted as
// (class), and the flow key. A frame that ends in the middle of a header is the shell's to notice.
//
// No field but zeros of the first state is written twice on a way through: Tofino's parser can only add bits.
//
//  ethernet ─┬──────────┬─▶ arp ───────────────────────────────────────────────▶ neighbor
//            └─▶ tag ───┼─▶ ipv4 ─┬─▶ whole ─┬─▶ tcp ─┬─ SYN, FIN, RST ─▶ tcp_control
//                       │         │          │        └────────────────▶ flow
//                       │         │          ├─▶ udp ────────────────────▶ flow
//                       │         │          └─▶ icmp
//                       │         ├─▶ fragment
//                       │         └─▶ options
//                       └─▶ ipv6 ── likewise; solicitations ────────────▶ neighbor

parser Parse(packet_in packet, out headers_t hdr, inout meta_t meta) {
    PARSER_CHECKSUMS

    state start {
        meta.src_hi = 0;
        meta.src_lo = 0;
        meta.dst_hi = 0;
        meta.dst_lo = 0;
        meta.proto = 0;
        meta.sport = 0;
        meta.dport = 0;
        meta.src = 0;
        meta.dst = 0;
        meta.seq = 0;
        meta.ack = 0;
        meta.ttl = 0;
        meta.truncated = 0;
        meta.ip_residual = 0;
        meta.l4_residual = 0;
        meta.class = PUNT_MISS;
        meta.reason = DROP_NONE;
        meta.verdict = VERDICT_DROP;
        meta.honoured = 0;
        meta.other_only = 0;
        meta.color = 0;
        meta.worker = 0;
        meta.nexthop = 0;
        meta.pcp = 0;
        meta.vid = 0;
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            ETHER_IPV4: ipv4;
            ETHER_IPV6: ipv6;
            ETHER_ARP: arp;
            ETHER_TAG: tag;
            default: other_ether_type;
        }
    }

    state tag {
        packet.extract(hdr.tag);
        transition select(hdr.tag.ether_type) {
            ETHER_IPV4: ipv4;
            ETHER_IPV6: ipv6;
            ETHER_ARP: arp;
            default: other_ether_type;
        }
    }

    state other_ether_type {
        meta.reason = DROP_ETHER_TYPE;
        transition accept;
    }

    state arp {
        packet.extract(hdr.arp);
        meta.dst = hdr.arp.target;
        // Hardware type Ethernet, protocol type IPv4.
        transition select(hdr.arp.types) {
            0x00010800: arp_of_ipv4;
            default: bad_arp;
        }
    }

    state arp_of_ipv4 {
        // Their address lengths; request or reply.
        transition select(hdr.arp.lengths_operation) {
            0x06040001: neighbor;
            0x06040002: neighbor;
            default: bad_arp;
        }
    }

    state bad_arp {
        meta.reason = DROP_BAD_ARP;
        transition accept;
    }

    state neighbor {
        meta.class = PUNT_NEIGHBOR;
        meta.pcp = (bit<16>)PUNT_NEIGHBOR << 13;
        transition accept;
    }

    state ipv4 {
        packet.extract(hdr.ipv4);
        meta.src = hdr.ipv4.src;
        meta.dst = hdr.ipv4.dst;
        meta.proto = hdr.ipv4.proto;
        meta.ttl = hdr.ipv4.ttl;
        PARSED_IPV4
        transition select(hdr.ipv4.ver_ihl) {
            0x45: ipv4_plain;
            0x46: options;
            0x47: options;
            0x48 &&& 0xf8: options;
            default: bad_ip_header;
        }
    }

    state ipv4_plain {
        // More fragments, and the offset.
        transition select(hdr.ipv4.flags_frag) {
            0x0000 &&& 0x3fff: ipv4_whole;
            default: fragment;
        }
    }

    state ipv4_whole {
        transition select(hdr.ipv4.proto) {
            PROTO_TCP: tcp;
            PROTO_UDP: udp;
            PROTO_ICMP: icmp;
            default: other_protocol;
        }
    }

    state ipv6 {
        packet.extract(hdr.ipv6);
        meta.proto = hdr.ipv6.next_header;
        meta.ttl = hdr.ipv6.hop_limit;
        PARSED_IPV6
        transition select(hdr.ipv6.ver_class) {
            0x60 &&& 0xf0: ipv6_whole;
            default: bad_ip_header;
        }
    }

    state ipv6_whole {
        transition select(hdr.ipv6.next_header) {
            PROTO_TCP: tcp;
            PROTO_UDP: udp;
            PROTO_ICMP6: icmp6;
            44: fragment;
            // The extension headers of RFC 7045, without ESP: what follows that is encrypted, nothing to balance.
            0: options;
            43: options;
            51: options;
            60: options;
            135: options;
            139: options;
            140: options;
            default: other_protocol;
        }
    }

    state bad_ip_header {
        meta.reason = DROP_BAD_IP_HEADER;
        transition accept;
    }

    state other_protocol {
        meta.reason = DROP_PROTOCOL;
        transition accept;
    }

    state fragment {
        meta.class = PUNT_FRAGMENT;
        meta.pcp = (bit<16>)PUNT_FRAGMENT << 13;
        transition accept;
    }

    state options {
        meta.class = PUNT_OPTIONS;
        meta.pcp = (bit<16>)PUNT_OPTIONS << 13;
        transition accept;
    }

    state icmp {
        meta.class = PUNT_ICMP;
        meta.pcp = (bit<16>)PUNT_ICMP << 13;
        transition accept;
    }

    state icmp6 {
        packet.extract(hdr.icmp6);
        transition select(hdr.icmp6.kind) {
            135: solicitation;
            136: neighbor;
            default: icmp;
        }
    }

    state solicitation {
        packet.extract(hdr.solicit);
        transition neighbor;
    }

    state tcp {
        packet.extract(hdr.ports);
        packet.extract(hdr.tcp);
        meta.sport = hdr.ports.sport;
        meta.dport = hdr.ports.dport;
        meta.seq = hdr.tcp.seq;
        meta.ack = hdr.tcp.ack;
        PARSED_TCP
        transition select(hdr.tcp.flags) {
            // None of FIN, SYN and RST.
            0x00 &&& 0x07: flow;
            default: tcp_control;
        }
    }

    state tcp_control {
        meta.class = PUNT_TCP_CONTROL;
        meta.pcp = (bit<16>)PUNT_TCP_CONTROL << 13;
        transition accept;
    }

    state udp {
        packet.extract(hdr.ports);
        packet.extract(hdr.udp);
        meta.sport = hdr.ports.sport;
        meta.dport = hdr.ports.dport;
        PARSED_UDP
        transition flow;
    }

    state flow {
        transition accept;
    }
}

// The part of it that Tofino's parser has no room for: the addresses of IPv6.
control ParsedV6(inout headers_t hdr, inout meta_t meta) {
    apply {
        meta.src_hi = hdr.ipv6.src_hi;
        meta.src_lo = hdr.ipv6.src_lo;
        if (hdr.solicit.isValid()) {
            // It goes to a group that many addresses share; the address it asks for tells whether it is for us.
            meta.dst_hi = hdr.solicit.target_hi;
            meta.dst_lo = hdr.solicit.target_lo;
        } else {
            meta.dst_hi = hdr.ipv6.dst_hi;
            meta.dst_lo = hdr.ipv6.dst_lo;
        }
    }
}
