// Headers. Fields are whole bytes, and none is wider than 64 bits: some targets can neither cut a byte nor compute on
// more. An IPv6 address is therefore two halves, and version and header length are one field.

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

// An 802.1Q tag behind the MAC addresses: PCP (3 bits), DEI (1), VID (12), and the EtherType of what follows.
header tag_t {
    bit<16> tci;
    bit<16> ether_type;
}

// ARP for IPv4 over Ethernet (RFC 826).
header arp_t {
    bit<32> types;
    bit<32> lengths_operation;
    bit<48> sender_mac;
    bit<32> sender;
    bit<48> target_mac;
    bit<32> target;
}

header ipv4_t {
    bit<8>  ver_ihl;
    bit<8>  tos;
    bit<16> total_len;
    bit<16> id;
    bit<16> flags_frag;
    bit<8>  ttl;
    bit<8>  proto;
    bit<16> check;
    bit<32> src;
    bit<32> dst;
}

header ipv6_t {
    bit<8>  ver_class;
    bit<24> class_label;
    bit<16> payload_len;
    bit<8>  next_header;
    bit<8>  hop_limit;
    bit<64> src_hi;
    bit<64> src_lo;
    bit<64> dst_hi;
    bit<64> dst_lo;
}

// TCP and UDP begin alike; what follows the ports is in headers of their own.
header ports_t {
    bit<16> sport;
    bit<16> dport;
}

header tcp_t {
    bit<32> seq;
    bit<32> ack;
    bit<8>  offset;
    bit<8>  flags;
    bit<16> window;
    bit<16> check;
    bit<16> urgent;
}

header udp_t {
    bit<16> len;
    bit<16> check;
}

header icmp6_t {
    bit<8>  kind;
    bit<8>  code;
    bit<16> check;
}

// What a neighbour solicitation has behind that (RFC 4861 section 4.3).
header solicit_t {
    bit<32> reserved;
    bit<64> target_hi;
    bit<64> target_lo;
}

struct headers_t {
    ethernet_t ethernet;
    // The tag of a punt. Only ever added.
    tag_t      punt;
    // The tag a frame came with: the slow path's, or one of the network's own.
    tag_t      tag;
    arp_t      arp;
    ipv4_t     ipv4;
    ipv6_t     ipv6;
    ports_t    ports;
    tcp_t      tcp;
    udp_t      udp;
    icmp6_t    icmp6;
    solicit_t  solicit;
}

// What is known of a packet. The parser sets every field, since not every target starts with zeros.
//
// The first fields are the packet as it came: the flow key, and what a shell needs to update a checksum by the
// difference. The keys of flow_v6 and of flow_v4 each lie in one piece, which SWX wants for its fast exact match.
struct meta_t {
    bit<64> src_hi;
    bit<64> src_lo;
    bit<64> dst_hi;
    bit<64> dst_lo;
    bit<8>  proto;
    bit<16> sport;
    bit<16> dport;
    bit<32> src;
    bit<32> dst;
    bit<32> seq;
    bit<32> ack;
    bit<8>  ttl;
    // What is left of the checksums without the fields that a flow entry may change, on architectures whose parser sums.
    bit<16> ip_residual;
    bit<16> l4_residual;

    // Set by the shell before the core runs.
    bit<32> ingress_port;
    // Not 0 when the frame ended within a header.
    bit<16> truncated;
    // Bytes of the frame, on architectures whose counters want to be told.
    bit<32> length;

    // PUNT_*: what the packet is punted as, if it is.
    bit<8>  class;
    // DROP_*: why the packet is dropped, if it is.
    bit<8>  reason;
    // VERDICT_*: what becomes of it.
    bit<8>  verdict;
    // 1 when the tag in front is the slow path's.
    bit<8>  honoured;
    // 1 when its address takes only what has no ports.
    bit<8>  other_only;
    // What the meter of its service says; METER_RED is over the peak rate.
    bit<8>  color;
    // Whose port it is punted to.
    bit<8>  worker;
    bit<16> nexthop;
    // In the program by ids, whose shells begin with zeros: the connection that was found, and its half.
    bit<16> pair;
    bit<16> lport;
    bit<32> client;
    bit<16> cport;
    bit<16> service;
    bit<8>  connected;
    bit<8>  outbound;
    // The tag of a punt, in two parts: class and ingress port. The VID of an inject.
    bit<16> pcp;
    bit<16> vid;
    // What only the architecture's shell knows of.
    SHELL_META
}
