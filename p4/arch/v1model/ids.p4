// Carom for v1model, the program by ids.

#include <core.p4>
#include <v1model.p4>

#include "arch.p4"
#include "../../core/ids.h"
#include "../../core/sizes.h"
#include "../../core/constants.p4"
#include "../../core/headers.p4"
#include "../../core/parse.p4"
#include "../../core/flow_v4_ids.p4"
#include "shell.p4"
