// Admission: of what the fast path does not take, the slow path gets only what is for it; the rest is dropped.
//
//  service ─┬ hit ──▶ meter ──▶ punt, unless red
//           └ miss ─▶ local ─┬ punt_all ────▶ punt
//                            ├ punt_other ──▶ punt, unless TCP or UDP with ports: that had no service
//                            └ miss ────────▶ drop
//
// What has no ports asks for port 0, which no service has. What red and punt_other mean is decided in stage punt.

control Admit(inout headers_t hdr, inout meta_t meta) {
    DIRECT_METER(service_v4_meter, ".service_v4_meter", ID_SERVICE_V4_METER)
    DIRECT_METER(service_v6_meter, ".service_v6_meter", ID_SERVICE_V6_METER)

    @name(".punt_service_v4") @id(ID_PUNT_SERVICE_V4)
    action punt_service_v4(@id(1) bit<8> worker) {
        DIRECT_METER_READ(service_v4_meter, meta.color);
        meta.worker = worker;
        meta.verdict = VERDICT_PUNT;
    }

    @name(".punt_service_v6") @id(ID_PUNT_SERVICE_V6)
    action punt_service_v6(@id(1) bit<8> worker) {
        DIRECT_METER_READ(service_v6_meter, meta.color);
        meta.worker = worker;
        meta.verdict = VERDICT_PUNT;
    }

    // An address of an interface, or a local address (LIP): everything for it is the slow path's.
    @name(".punt_all") @id(ID_PUNT_ALL)
    action punt_all(@id(1) bit<8> worker) {
        meta.worker = worker;
        meta.verdict = VERDICT_PUNT;
    }

    // The address of a service (VIP): what has ports and is for none of its services is nobody's.
    @name(".punt_other") @id(ID_PUNT_OTHER)
    action punt_other(@id(1) bit<8> worker) {
        meta.worker = worker;
        meta.other_only = 1;
        meta.verdict = VERDICT_PUNT;
    }

    @name(".service_v4") @id(ID_SERVICE_V4)
    table service_v4 {
        key = {
            meta.dst: exact @name("dst") @id(1);
            meta.proto: exact @name("proto") @id(2);
            meta.dport: exact @name("dport") @id(3);
        }
        actions = {
            @tableonly punt_service_v4;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_SERVICE;
        DIRECT_METER_OF(service_v4_meter)
    }

    @name(".service_v6") @id(ID_SERVICE_V6)
    table service_v6 {
        key = {
            meta.dst_hi: exact @name("dst_hi") @id(1);
            meta.dst_lo: exact @name("dst_lo") @id(2);
            meta.proto: exact @name("proto") @id(3);
            meta.dport: exact @name("dport") @id(4);
        }
        actions = {
            @tableonly punt_service_v6;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_SERVICE;
        DIRECT_METER_OF(service_v6_meter)
    }

    @name(".local_v4") @id(ID_LOCAL_V4)
    table local_v4 {
        key = {
            meta.dst: exact @name("dst") @id(1);
        }
        actions = {
            @tableonly punt_all;
            @tableonly punt_other;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_LOCAL;
    }

    @name(".local_v6") @id(ID_LOCAL_V6)
    table local_v6 {
        key = {
            meta.dst_hi: exact @name("dst_hi") @id(1);
            meta.dst_lo: exact @name("dst_lo") @id(2);
        }
        actions = {
            @tableonly punt_all;
            @tableonly punt_other;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        size = SIZE_LOCAL;
    }

    apply {
        if (hdr.ipv6.isValid()) {
            if (!service_v6.apply().hit) {
                if (!local_v6.apply().hit) {
                    meta.reason = DROP_NO_SERVICE;
                }
            }
        } else {
            if (!service_v4.apply().hit) {
                if (!local_v4.apply().hit) {
                    meta.reason = DROP_NO_SERVICE;
                }
            }
        }
    }
}
