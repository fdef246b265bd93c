// Carom for Tofino 1.

#include <core.p4>
#include <tna.p4>

#ifndef CHIP_FLOW_V4
#define CHIP_FLOW_V4 180224
#define CHIP_FLOW_V6 8192
#endif

#include "shell.p4"
