// Stage nexthop: MAC addresses and the way out, for packets that a flow entry rewrote and for those the slow path sends.

control Nexthop(inout headers_t hdr, inout meta_t meta) {
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

    apply {
        if (!nexthop.apply().hit) {
            // Too late to punt: the packet is no longer the one that came.
            meta.verdict = VERDICT_DROP;
            meta.reason = DROP_NO_NEXTHOP;
        }
    }
}
