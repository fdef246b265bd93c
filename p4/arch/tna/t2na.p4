// Carom for Tofino 2; with CHIP_IDS, the program by ids.

#include <core.p4>
#include <t2na.p4>

#ifndef CHIP_FLOW_V4
#define CHIP_FLOW_V4 327680
#endif
#ifndef CHIP_CONNECTIONS
#define CHIP_CONNECTIONS 696320
#endif
#ifndef CHIP_FLOW_V6
#ifndef CHIP_IDS
#define CHIP_FLOW_V6 16384
#else
#define CHIP_FLOW_V6 4096
#endif
#endif

#include "shell.p4"
