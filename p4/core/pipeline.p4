// The packet's way, from the parsed packet to the verdict. The stages have the names they have in the slow path: parse,
// flow, rewrite, nexthop.
//
//  parse ─┬ tagged, by the slow path's port ─▶ inject ───────────────┬─▶ nexthop ─▶ wire
//         ├ TCP, UDP of an open connection ──▶ flow ─┬ hit ▸ rewrite ┘
//         │                                          └ miss ┐
//         ├ everything else ────────────────────────────────┴─▶ admit ─┬─▶ punt ─▶ slow path
//         └ malformed ─────────────────────────────────────────────────┴─▶ drop, counted

control Carom(inout headers_t hdr, inout meta_t meta) {
    ParsedV6() parsed_v6;
    Inject() inject;
    Injected() injected;
    FlowV4() flow_v4;
    FlowV6() flow_v6;
    RewriteV4() rewrite_v4;
    Admit() admit;
    Out() leave;

    apply {
        if (hdr.ipv6.isValid()) {
            parsed_v6.apply(hdr, meta);
        }
        meta.vid = (bit<16>)meta.ingress_port & 0x0fff;
        if (hdr.tag.isValid()) {
            // What has a VLAN tag is the slow path's: a flow entry does not say what tag to leave with.
            meta.class = PUNT_VLAN;
            meta.pcp = (bit<16>)PUNT_VLAN << 13;
            inject.apply(hdr, meta);
            if (meta.honoured == 1) {
                injected.apply(hdr, meta);
            }
        } else if (meta.class == PUNT_MISS && meta.reason == DROP_NONE && meta.truncated == 0) {
            if (meta.ttl <= 1) {
                meta.class = PUNT_TTL;
                meta.pcp = (bit<16>)PUNT_TTL << 13;
            } else if (hdr.ipv6.isValid()) {
                flow_v6.apply(hdr, meta);
            } else {
                flow_v4.apply(hdr, meta);
            }
        }

        if (meta.verdict == VERDICT_DROP && meta.honoured == 0) {
            if (meta.truncated != 0) {
                meta.reason = DROP_TRUNCATED;
            } else if (meta.reason == DROP_NONE) {
                admit.apply(hdr, meta);
            }
        } else {
            rewrite_v4.apply(hdr, meta);
        }

        leave.apply(hdr, meta);
    }
}
