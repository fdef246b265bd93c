// Carom for Tofino 2.

#include <core.p4>
#include <t2na.p4>

#ifndef CHIP_FLOW_V4
#define CHIP_FLOW_V4 327680
#define CHIP_FLOW_V6 16384
#endif

#include "shell.p4"
