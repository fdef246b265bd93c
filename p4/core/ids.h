// P4Runtime ids. Each is given once and never again, not even after its object is gone: a controller may still hold it.
// The top byte is the kind of object (P4Runtime specification, section 6.4.2), so an id says what it is.
// Those of the program by ids alone begin at 0x101. p4/ids.txt lists all that were ever given; a test compares.

// Tables, 0x02.
#define ID_FLOW_V4        0x02000001
#define ID_FLOW_V6        0x02000002
#define ID_NEXTHOP        0x02000003
#define ID_SERVICE_V4     0x02000004
#define ID_SERVICE_V6     0x02000005
#define ID_LOCAL_V4       0x02000006
#define ID_LOCAL_V6       0x02000007
#define ID_SLOWPATH       0x02000008
#define ID_INJECT         0x02000009
#define ID_PORT           0x0200000a
#define ID_SERVICE_ID_V4  0x02000101
#define ID_PAIR_ID_V4     0x02000102
#define ID_PAIR_V4        0x02000105
#define ID_SERVICE_ADDR_V4 0x02000106
#define ID_INBOUND_V4     0x02000107
#define ID_CONNECTION_V4_EVEN 0x02000109
#define ID_CONNECTION_V4_ODD 0x0200010a

// Actions, 0x01.
#define ID_REWRITE_V4     0x01000001
#define ID_REWRITE_V6     0x01000002
#define ID_REWRITE_SEQ_V4 0x01000003
#define ID_REWRITE_SEQ_V6 0x01000004
#define ID_FORWARD        0x01000005
#define ID_PUNT_SERVICE_V4 0x01000006
#define ID_PUNT_SERVICE_V6 0x01000007
#define ID_PUNT_ALL       0x01000008
#define ID_PUNT_OTHER     0x01000009
#define ID_TO_PORT        0x0100000a
#define ID_HONOUR         0x0100000b
#define ID_OUT_OF         0x0100000c
#define ID_IS_SERVICE     0x01000101
#define ID_IS_PAIR        0x01000102
#define ID_TO_PAIR        0x01000105
#define ID_FROM_SERVICE   0x01000106
#define ID_TO_CONNECTION  0x01000107
#define ID_CONNECTION_EVEN 0x01000109
#define ID_CONNECTION_ODD 0x0100010a

// Counters, 0x12.
#define ID_DROPS          0x12000001
#define ID_PUNTS          0x12000002

// Direct counters, 0x13.
#define ID_FLOW_V4_COUNT  0x13000001
#define ID_FLOW_V6_COUNT  0x13000002
#define ID_CONNECTION_V4_EVEN_COUNT 0x13000103
#define ID_CONNECTION_V4_ODD_COUNT 0x13000104

// Direct meters, 0x15.
#define ID_SERVICE_V4_METER 0x15000001
#define ID_SERVICE_V6_METER 0x15000002
