// Carom for Tofino 2; with CHIP_IDS, the program by ids.

#include <core.p4>
#include <t2na.p4>

#ifndef CHIP_FLOW_V4
#define CHIP_FLOW_V4 327680
#endif
#ifndef CHIP_CONNECTIONS
#define CHIP_CONNECTIONS 770048
#endif
#ifndef CHIP_FLOW_V6
#ifndef CHIP_IDS
#define CHIP_FLOW_V6 16384
#else
#define CHIP_FLOW_V6 4096
#endif
#endif
// A table's counters in a stage have three rows of blocks at most: with bytes, that is half a stage of connections.
#ifdef CHIP_IDS
#ifndef CHIP_COUNTS
#define CHIP_COUNTS PACKETS
#endif
#endif

#include "shell.p4"
