// Entries each table has room for. A target may have room for more; a controller counts on these.

// One entry per direction of a session. Here a chip may have less, and says how much in its P4Info.
#define SIZE_FLOW_V4   131072
#define SIZE_FLOW_V6   65536
// In the program by ids: connections, which have an entry in inbound_v4, and one in either half of connection_v4; what 10 and 14 bits can name; services by
// next hop.
#define SIZE_CONNECTIONS_V4 65536
#define SIZE_SERVICE_ID 1024
#define SIZE_PAIR_ID   16384
#define SIZE_SERVICE_ADDR 4096
// As many as an inject tag can name.
#define SIZE_NEXTHOP   4096
#define SIZE_SERVICE   4096
#define SIZE_LOCAL     4096
#define SIZE_SLOWPATH  64
#define SIZE_INJECT    64
#define SIZE_PORT      512
// Slots of the counters, one per number.
#define SIZE_DROPS     64
#define SIZE_PUNTS     8
