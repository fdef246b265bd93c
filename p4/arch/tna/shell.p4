// Carom for Tofino: the shell around the core, for both chips. Ports, checksums and the deparser are here, nothing else.
// Everything happens in the ingress; the egress is bypassed.

#include "arch.p4"
#include "../../core/ids.h"
#include "../../core/sizes.h"
#undef SIZE_FLOW_V4
#undef SIZE_FLOW_V6
#undef SIZE_CONNECTIONS_V4
#define SIZE_FLOW_V4 CHIP_FLOW_V4
#define SIZE_FLOW_V6 CHIP_FLOW_V6
#define SIZE_CONNECTIONS_V4 CHIP_CONNECTIONS
#include "../../core/constants.p4"
#include "../../core/headers.p4"
#include "../../core/parse.p4"
#ifdef CHIP_IDS
#include "../../core/flow_v4_ids.p4"
#else
#include "../../core/flow_v4.p4"
#endif
#include "../../core/flow_v6.p4"
#include "../../core/admit.p4"
#include "../../core/slowpath.p4"
#include "../../core/out.p4"
#include "../../core/pipeline.p4"

struct tna_meta_t {
    meta_t core;
}

parser CaromParser(packet_in packet, out headers_t hdr, out tna_meta_t meta,
                   out ingress_intrinsic_metadata_t intrinsic) {
    Parse() parse;

    state start {
        packet.extract(intrinsic);
        packet.advance(PORT_METADATA_SIZE);
        meta.core.egress_port = 0;
        meta.core.drop_ctl = 1;
        meta.core.has_tcp = 0;
        meta.core.has_udp = 0;
        meta.core.update_ip = 0;
        meta.core.update_tcp4 = 0;
        meta.core.update_tcp6 = 0;
        meta.core.update_udp4 = 0;
        meta.core.update_udp6 = 0;
#ifdef CHIP_IDS
        meta.core.pair = 0;
        meta.core.lport = 0;
        meta.core.client = 0;
        meta.core.cport = 0;
        meta.core.service = 0;
        meta.core.connected = 0;
        meta.core.outbound = 0;
#endif
        meta.core.ingress_port = (bit<32>)intrinsic.ingress_port;
        meta.core.length = 0;
        parse.apply(packet, hdr, meta.core);
        transition accept;
    }
}

// One place with the intrinsic metadata: to copy them would be one stage more.
@pa_alias("ingress", "ig_intr_md_for_tm.ucast_egress_port", "meta.core.egress_port")
@pa_alias("ingress", "ig_intr_md_for_dprsr.drop_ctl", "meta.core.drop_ctl")
#ifdef CHIP_IDS
// In containers of their own width: an entry of connection_v4 then takes 64 bits of action data, and 20 of key.
@pa_container_size("ingress", "meta.core.pair", 16)
@pa_container_size("ingress", "meta.core.lport", 16)
@pa_container_size("ingress", "meta.core.cport", 16)
@pa_container_size("ingress", "meta.core.service", 16)
#endif
control CaromIngress(inout headers_t hdr, inout tna_meta_t meta, in ingress_intrinsic_metadata_t intrinsic,
                     in ingress_intrinsic_metadata_from_parser_t parsed,
                     inout ingress_intrinsic_metadata_for_deparser_t deparse,
                     inout ingress_intrinsic_metadata_for_tm_t manage) {
    Carom() carom;

    apply {
        meta.core.truncated = parsed.parser_err;
        if (hdr.udp.isValid() && hdr.udp.check != 0) {
            meta.core.has_udp = 1;
        }
        carom.apply(hdr, meta.core);
        deparse.drop_ctl = meta.core.drop_ctl;
        manage.ucast_egress_port = meta.core.egress_port;
        manage.bypass_egress = 1;
    }
}

control CaromDeparser(packet_out packet, inout headers_t hdr, in tna_meta_t meta,
                      in ingress_intrinsic_metadata_for_deparser_t deparse) {
    Checksum() ip;
    Checksum() tcp4;
    Checksum() tcp6;
    Checksum() udp4;
    Checksum() udp6;

    apply {
        if (meta.core.update_ip == 1) {
            hdr.ipv4.check = ip.update({ meta.core.ip_residual, hdr.ipv4.ttl, hdr.ipv4.proto, hdr.ipv4.src,
                                         hdr.ipv4.dst });
        }
        if (meta.core.update_tcp4 == 1) {
            hdr.tcp.check = tcp4.update({ meta.core.l4_residual, hdr.ipv4.src, hdr.ipv4.dst, hdr.ports.sport,
                                          hdr.ports.dport, hdr.tcp.seq, hdr.tcp.ack });
        }
        if (meta.core.update_tcp6 == 1) {
            hdr.tcp.check = tcp6.update({ meta.core.l4_residual, hdr.ipv6.src_hi, hdr.ipv6.src_lo, hdr.ipv6.dst_hi,
                                          hdr.ipv6.dst_lo, hdr.ports.sport, hdr.ports.dport, hdr.tcp.seq,
                                          hdr.tcp.ack });
        }
        if (meta.core.update_udp4 == 1) {
            hdr.udp.check = udp4.update({ meta.core.l4_residual, hdr.ipv4.src, hdr.ipv4.dst, hdr.ports.sport,
                                          hdr.ports.dport }, true);
        }
        if (meta.core.update_udp6 == 1) {
            hdr.udp.check = udp6.update({ meta.core.l4_residual, hdr.ipv6.src_hi, hdr.ipv6.src_lo, hdr.ipv6.dst_hi,
                                          hdr.ipv6.dst_lo, hdr.ports.sport, hdr.ports.dport }, true);
        }
        packet.emit(hdr);
    }
}

// The egress does not see any packet.
struct no_headers_t {}

struct no_meta_t {}

parser NoParser(packet_in packet, out no_headers_t hdr, out no_meta_t meta, out egress_intrinsic_metadata_t intrinsic) {
    state start {
        packet.extract(intrinsic);
        transition accept;
    }
}

control NoEgress(inout no_headers_t hdr, inout no_meta_t meta, in egress_intrinsic_metadata_t intrinsic,
                 in egress_intrinsic_metadata_from_parser_t parsed,
                 inout egress_intrinsic_metadata_for_deparser_t deparse,
                 inout egress_intrinsic_metadata_for_output_port_t output) {
    apply { }
}

control NoDeparser(packet_out packet, inout no_headers_t hdr, in no_meta_t meta,
                   in egress_intrinsic_metadata_for_deparser_t deparse) {
    apply { }
}

Pipeline(CaromParser(), CaromIngress(), CaromDeparser(), NoParser(), NoEgress(), NoDeparser()) pipe;

Switch(pipe) main;
