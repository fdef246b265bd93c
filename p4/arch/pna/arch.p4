// What the core leaves to the architecture, for PNA as DPDK's SWX pipeline implements it.

typedef PortId_t port_t;

#define SEND_TO_PORT(port) send_to_port(port)

// The packet's checksums are to be updated, by the shell.
#define REWRITTEN_V4 meta.rewritten = 1
#define REWRITTEN_V6 meta.rewritten = 1

// A shell's own part of meta: whether the packet was rewritten, and what the compiler does not know to be 0.
#define SHELL_META \
    bit<8> rewritten; \
    bit<8> zero;

// SWX counts bytes only where the program says how many there are, and PNA does not tell a program the frame's length.
// Flows have that of their IP packet; what is dropped or punted may not be IP.
#define COUNTER(object, path, size, number) \
    @name(path) @id(number) Counter<bit<64>, bit<8>>(size, PNA_CounterType_t.PACKETS) object;
// SWX 22.11 interprets regadd at a constant index as nothing at all, so no index is one to the compiler.
#define COUNT(object, index) object.count(meta.zero | index)

#define DIRECT_COUNTER(object, path, number) \
    @name(path) @id(number) DirectCounter<bit<64>>(PNA_CounterType_t.PACKETS_AND_BYTES) object;
#define DIRECT_COUNTER_OF(object) pna_direct_counter = object;
#define DIRECT_COUNT(object) object.count(meta.length)

// No meter: p4c-dpdk has direct meters only on tables whose key lies in one piece of meta, which the flow keys need for
// their counters, and SWX meters bytes.
#define DIRECT_METER(object, path, number)
#define DIRECT_METER_OF(object)
#define METER_RED 2
#define DIRECT_METER_READ(object, color)

// SWX ages only the entries that the data plane itself learned. The P4Runtime server in front of it watches the counters.
#define IDLE_TIMEOUT

// Checksums are updated from the old values in meta: the parser has nothing to do for them.
#define PARSER_CHECKSUMS
#define PARSED_IPV4
#define PARSED_IPV6
#define PARSED_TCP
#define PARSED_UDP
