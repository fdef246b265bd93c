// Carom for Tofino 1; with CHIP_IDS, the program by ids.

#include <core.p4>
#include <tna.p4>

#ifndef CHIP_FLOW_V4
#define CHIP_FLOW_V4 180224
#endif
#ifndef CHIP_CONNECTIONS
#define CHIP_CONNECTIONS 380928
#endif
#ifndef CHIP_FLOW_V6
#ifndef CHIP_IDS
#define CHIP_FLOW_V6 8192
#else
#define CHIP_FLOW_V6 4096
#endif
#endif

#include "shell.p4"
