// The way to the slow path and back: one 802.1Q tag in front of the frame, which NICs and tcpdump understand and which
// leaves RSS working.
//
//  punt:    PCP = why (PUNT_*), VID = ingress port
//  inject:  PCP 0: VID is a next-hop id.  PCP 1: VID is an egress port, and the frame goes out as it is.
//
// The tag of an inject is removed; what is behind it, perhaps a VLAN tag of the network's own, is not looked at.

control Inject(inout headers_t hdr, inout meta_t meta) {
    @name(".honour") @id(ID_HONOUR)
    action honour() {
        meta.honoured = 1;
    }

    // The ports whose tags are the slow path's. A tag that comes by another port is a VLAN tag like any.
    @name(".inject") @id(ID_INJECT)
    table inject {
        key = {
            meta.ingress_port: exact @name("port") @id(1);
        }
        actions = {
            @tableonly honour;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_INJECT;
    }

    apply {
        inject.apply();
    }
}

control Injected(inout headers_t hdr, inout meta_t meta) {
    @name(".out_of") @id(ID_OUT_OF)
    action out_of(@id(1) port_t port) {
        SEND_TO_PORT(port);
    }

    // The target's ports by the numbers that tags have for them. A table, since not every target can be sent a packet to
    // a port whose number was read from it.
    @name(".port") @id(ID_PORT)
    table port {
        key = {
            meta.vid: exact @name("vid") @id(1);
        }
        actions = {
            @tableonly out_of;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_PORT;
    }

    apply {
        bit<16> pcp = hdr.tag.tci & 0xe000;
        meta.vid = hdr.tag.tci & 0x0fff;
        hdr.ethernet.ether_type = hdr.tag.ether_type;
        hdr.tag.setInvalid();
        if (pcp == ((bit<16>)INJECT_NEXTHOP << 13)) {
            meta.nexthop = meta.vid;
            meta.verdict = VERDICT_FORWARD;
        } else if (pcp == ((bit<16>)INJECT_PORT << 13)) {
            if (port.apply().hit) {
                meta.verdict = VERDICT_SEND;
            } else {
                meta.reason = DROP_NO_PORT;
            }
        } else {
            meta.reason = DROP_BAD_INJECT;
        }
    }
}
