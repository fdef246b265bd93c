// Stage nexthop, and the other ways out: the MAC addresses and the port of packets that a flow entry rewrote or the slow path
// sends; the slow path's port, with the tag in front of the frame; or the counting of what is dropped.
//
// What is dropped is counted where that is found out, by a number that is known there. A look at meta.reason behind the tables
// would be one stage more on Tofino, and one stage less for flows.

control Out(inout headers_t hdr, inout meta_t meta) {
    COUNTER(drops, ".drops", SIZE_DROPS, ID_DROPS)
    COUNTER(punts, ".punts", SIZE_PUNTS, ID_PUNTS)

    @name(".forward") @id(ID_FORWARD)
    action forward(@id(1) bit<48> smac, @id(2) bit<48> dmac, @id(3) port_t port) {
        hdr.ethernet.src = smac;
        hdr.ethernet.dst = dmac;
        SEND_TO_PORT(port);
    }

    @name(".nexthop") @id(ID_NEXTHOP)
    table nexthop {
        key = {
            meta.nexthop: exact @name("nexthop") @id(1);
        }
        actions = {
            @tableonly forward;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_NEXTHOP;
    }

    @name(".to_port") @id(ID_TO_PORT)
    action to_port(@id(1) port_t port) {
        hdr.punt.setValid();
        hdr.punt.tci = meta.pcp | meta.vid;
        hdr.punt.ether_type = hdr.ethernet.ether_type;
        hdr.ethernet.ether_type = ETHER_TAG;
        SEND_TO_PORT(port);
    }

    @name(".slowpath") @id(ID_SLOWPATH)
    table slowpath {
        key = {
            meta.worker: exact @name("worker") @id(1);
        }
        actions = {
            @tableonly to_port;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_SLOWPATH;
    }

    apply {
        if (meta.verdict == VERDICT_FORWARD) {
            if (!nexthop.apply().hit) {
                // Too late to punt: the packet is no longer the one that came.
                meta.verdict = VERDICT_DROP;
                COUNT(drops, DROP_NO_NEXTHOP);
            }
        } else if (meta.verdict == VERDICT_PUNT) {
            if (meta.color == METER_RED) {
                meta.verdict = VERDICT_DROP;
                COUNT(drops, DROP_PUNT_LIMITED);
            } else if (meta.other_only == 1 && hdr.ports.isValid()) {
                meta.verdict = VERDICT_DROP;
                COUNT(drops, DROP_NO_SERVICE);
            } else if (slowpath.apply().hit) {
                COUNT(punts, meta.class);
            } else {
                meta.verdict = VERDICT_DROP;
                COUNT(drops, DROP_NO_WORKER);
            }
        } else if (meta.verdict == VERDICT_DROP) {
            COUNT(drops, meta.reason);
        }
    }
}
