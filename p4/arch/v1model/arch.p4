// What the core leaves to the architecture, for v1model.

typedef bit<32> port_t;

// The packet goes out of this port. Told to the traffic manager by the shell.
#define SEND_TO_PORT(port) meta.egress_port = port

// The packet's checksums are to be updated, by the shell.
#define REWRITTEN_V4 meta.rewritten = 1
#define REWRITTEN_V6 meta.rewritten = 1

// A shell's own part of meta: whether the packet was rewritten, and where it goes.
#define SHELL_META \
    bit<8>  rewritten; \
    bit<32> egress_port;

#define COUNTER(object, path, size, number) \
    @name(path) @id(number) counter(size, CounterType.packets_and_bytes) object;
#define COUNT(object, index) object.count((bit<32>)index)

#define DIRECT_COUNTER(object, path, number) \
    @name(path) @id(number) direct_counter(CounterType.packets_and_bytes) object;
#define DIRECT_COUNTER_OF(object) counters = object;
#define DIRECT_COUNT(object) object.count()

#define DIRECT_METER(object, path, number) \
    @name(path) @id(number) direct_meter<bit<8>>(MeterType.packets) object;
#define DIRECT_METER_OF(object) meters = object;
#define METER_RED 2
#define DIRECT_METER_READ(object, color) object.read(color)

#define IDLE_TIMEOUT support_timeout = true;

// Checksums are updated from the old values in meta: the parser has nothing to do for them.
#define PARSER_CHECKSUMS
#define PARSED_IPV4
#define PARSED_IPV6
#define PARSED_TCP
#define PARSED_UDP

// Entries are laid out as the compiler likes.
#define INBOUND_V4_LAYOUT
#define CONNECTION_V4_LAYOUT
