// What the core leaves to the architecture, for TNA and T2NA.

// As wide as everywhere; the chip has 9 bits of it.
typedef bit<32> port_t;

// The packet goes out of this port, and is not dropped. The shell has both fields in the place of the traffic manager's.
#define SEND_TO_PORT(port) \
    meta.egress_port = (PortId_t)port; \
    meta.drop_ctl = 0

// The deparser writes those of the packet's checksums that there are. Copied, since a condition behind the flow tables would
// be one stage more.
#define REWRITTEN_V4 \
    meta.update_ip = 1; \
    meta.update_tcp4 = meta.has_tcp; \
    meta.update_udp4 = meta.has_udp
#define REWRITTEN_V6 \
    meta.update_tcp6 = meta.has_tcp; \
    meta.update_udp6 = meta.has_udp

// A shell's own part of meta: where the packet goes, whether it has a checksum of TCP or UDP, and which checksums the deparser
// is to write.
#define SHELL_META \
    PortId_t egress_port; \
    bit<3>   drop_ctl; \
    bit<1>   has_tcp; \
    bit<1>   has_udp; \
    bit<1>   update_ip; \
    bit<1>   update_tcp4; \
    bit<1>   update_tcp6; \
    bit<1>   update_udp4; \
    bit<1>   update_udp6;

#define COUNTER(object, path, size, number) \
    @name(path) @id(number) Counter<bit<64>, bit<8>>(size, CounterType_t.PACKETS_AND_BYTES) object;
#define COUNT(object, index) object.count(index)

// 32 bits for packets and bytes together, half the RAM; the driver adds up before they wrap. Without bytes, or without
// counters, there is room for more entries.
#ifndef CHIP_NO_COUNTERS
#ifndef CHIP_COUNTS
#define CHIP_COUNTS PACKETS_AND_BYTES
#endif
#define DIRECT_COUNTER(object, path, number) \
    @name(path) @id(number) DirectCounter<bit<32>>(CounterType_t.CHIP_COUNTS) object;
#define DIRECT_COUNTER_OF(object) counters = object;
#define DIRECT_COUNT(object) object.count()
#else
#define DIRECT_COUNTER(object, path, number)
#define DIRECT_COUNTER_OF(object)
#define DIRECT_COUNT(object)
#endif

#define DIRECT_METER(object, path, number) \
    @name(path) @id(number) DirectMeter(MeterType_t.PACKETS) object;
#define DIRECT_METER_OF(object) meters = object;
#define METER_RED 3
#define DIRECT_METER_READ(object, color) color = object.execute()

#ifndef CHIP_NO_AGEING
#define IDLE_TIMEOUT idle_timeout = true;
#else
#define IDLE_TIMEOUT
#endif

// How entries of the program by ids fill blocks of SRAM best, as was found by trying: four inbound entries in a word, with 24
// bits of a hash for their keys; three connections, since the compiler thinks that counters take bits of the word, or
// five; action data in words of its own, idle state in 2 bits.
#ifndef CHIP_NO_COUNTERS
#define CONNECTIONS_IN_A_WORD 3
#else
#define CONNECTIONS_IN_A_WORD 5
#endif
#define INBOUND_V4_LAYOUT @pack(4) @immediate(0) @proxy_hash_width(24)
#define CONNECTION_V4_LAYOUT @pack(CONNECTIONS_IN_A_WORD) @immediate(0) @idletime_precision(2)

// The parser takes the fields that a flow entry may change out of the checksums, and leaves what is left, the residual.
// It is left in the last state of a packet: what is extracted after it, the engine takes out by itself.
//
// A word is summed whole, so the TTL goes with the protocol.
#define PARSER_CHECKSUMS \
    Checksum() ip; \
    Checksum() l4;
#define PARSED_IPV4 \
    ip.subtract({ hdr.ipv4.ttl, hdr.ipv4.proto, hdr.ipv4.check, hdr.ipv4.src, hdr.ipv4.dst }); \
    l4.subtract({ hdr.ipv4.src, hdr.ipv4.dst });
#define PARSED_IPV6 \
    l4.subtract({ hdr.ipv6.src_hi, hdr.ipv6.src_lo, hdr.ipv6.dst_hi, hdr.ipv6.dst_lo });
#define PARSED_TCP \
    meta.has_tcp = 1; \
    l4.subtract({ hdr.ports.sport, hdr.ports.dport, hdr.tcp.seq, hdr.tcp.ack, hdr.tcp.check }); \
    ip.subtract_all_and_deposit(meta.ip_residual); \
    l4.subtract_all_and_deposit(meta.l4_residual);
#define PARSED_UDP \
    l4.subtract({ hdr.ports.sport, hdr.ports.dport, hdr.udp.check }); \
    ip.subtract_all_and_deposit(meta.ip_residual); \
    l4.subtract_all_and_deposit(meta.l4_residual);
