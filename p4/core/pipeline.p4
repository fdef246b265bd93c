// The packet's way, from the parsed packet to the verdict. The stages have the names they have in the slow path: parse,
// flow, rewrite, nexthop.
//
//  parse ─┬ tagged, by the slow path's port ─▶ inject ───────────────┬─▶ nexthop ─▶ wire
//         ├ TCP, UDP of an open connection ──▶ flow ─┬ hit ▸ rewrite ┘
//         │                                          └ miss ┐
//         ├ everything else ────────────────────────────────┴─▶ admit ─┬─▶ punt ─▶ slow path
//         └ malformed ─────────────────────────────────────────────────┴─▶ drop, counted

control Pipeline(inout headers_t hdr, inout meta_t meta) {
    Inject() inject;
    Injected() injected;
    FlowV4() flow_v4;
    FlowV6() flow_v6;
    Admit() admit;
    Nexthop() nexthop;
    Punt() punt;
    COUNTER(drops, ".drops", SIZE_DROPS, ID_DROPS)

    apply {
        if (hdr.tag.isValid()) {
            // What has a VLAN tag is the slow path's: a flow entry does not say what tag to leave with.
            meta.class = PUNT_VLAN;
            inject.apply(hdr, meta);
        } else if (meta.class == PUNT_MISS && meta.ttl <= 1) {
            meta.class = PUNT_TTL;
        }

        if (meta.honoured == 1) {
            injected.apply(hdr, meta);
        } else if (meta.reason == DROP_NONE) {
            if (meta.class == PUNT_MISS) {
                if (hdr.ipv6.isValid()) {
                    flow_v6.apply(hdr, meta);
                } else {
                    flow_v4.apply(hdr, meta);
                }
            }
            if (meta.verdict != VERDICT_FORWARD) {
                admit.apply(hdr, meta);
            }
        }

        if (meta.verdict == VERDICT_FORWARD) {
            nexthop.apply(hdr, meta);
        } else if (meta.verdict == VERDICT_PUNT) {
            punt.apply(hdr, meta);
        }
        if (meta.verdict == VERDICT_DROP) {
            COUNT(drops, meta.reason);
        }
    }
}
