// The shell around the core for v1model. Ports, checksums and the deparser are here, nothing else. Included behind the
// stages that IPv4 flows have in a program.

#include "../../core/flow_v6.p4"
#include "../../core/admit.p4"
#include "../../core/slowpath.p4"
#include "../../core/out.p4"
#include "../../core/pipeline.p4"

parser CaromParser(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    Parse() parse;

    state start {
        meta.rewritten = 0;
        meta.egress_port = 0;
        parse.apply(packet, hdr, meta);
        transition accept;
    }
}

// Checksums move by what the packet moved (RFC 1624, equation 3), so that one that was wrong stays wrong by as much; what
// v1model offers to compute them anew would hide corruption. csum16 is the complement of the sum: over the complements
// of the old checksum and the old words, and the new words, it is the new checksum, and 0xffff only for words that are
// all zero, which old words and their complements are not.
control UpdateChecksums(inout headers_t hdr, inout meta_t meta) {
    apply {
        if (hdr.ipv4.isValid()) {
            hash(hdr.ipv4.check, HashAlgorithm.csum16, 16w0,
                 { ~hdr.ipv4.check,
                   ~meta.src, ~meta.dst, ~((bit<16>)meta.ttl << 8),
                   hdr.ipv4.src, hdr.ipv4.dst, (bit<16>)hdr.ipv4.ttl << 8 },
                 32w0x10000);
        }
        if (hdr.tcp.isValid()) {
            if (hdr.ipv4.isValid()) {
                hash(hdr.tcp.check, HashAlgorithm.csum16, 16w0,
                     { ~hdr.tcp.check,
                       ~meta.src, ~meta.dst, ~meta.sport, ~meta.dport, ~meta.seq, ~meta.ack,
                       hdr.ipv4.src, hdr.ipv4.dst, hdr.ports.sport, hdr.ports.dport, hdr.tcp.seq, hdr.tcp.ack },
                     32w0x10000);
            } else {
                hash(hdr.tcp.check, HashAlgorithm.csum16, 16w0,
                     { ~hdr.tcp.check,
                       ~meta.src_hi, ~meta.src_lo, ~meta.dst_hi, ~meta.dst_lo,
                       ~meta.sport, ~meta.dport, ~meta.seq, ~meta.ack,
                       hdr.ipv6.src_hi, hdr.ipv6.src_lo, hdr.ipv6.dst_hi, hdr.ipv6.dst_lo,
                       hdr.ports.sport, hdr.ports.dport, hdr.tcp.seq, hdr.tcp.ack },
                     32w0x10000);
            }
        } else if (hdr.udp.check != 0) {
            // Zero says that there is none, and stays. A computed zero is written 0xffff (RFC 768).
            if (hdr.ipv4.isValid()) {
                hash(hdr.udp.check, HashAlgorithm.csum16, 16w0,
                     { ~hdr.udp.check,
                       ~meta.src, ~meta.dst, ~meta.sport, ~meta.dport,
                       hdr.ipv4.src, hdr.ipv4.dst, hdr.ports.sport, hdr.ports.dport },
                     32w0x10000);
            } else {
                hash(hdr.udp.check, HashAlgorithm.csum16, 16w0,
                     { ~hdr.udp.check,
                       ~meta.src_hi, ~meta.src_lo, ~meta.dst_hi, ~meta.dst_lo, ~meta.sport, ~meta.dport,
                       hdr.ipv6.src_hi, hdr.ipv6.src_lo, hdr.ipv6.dst_hi, hdr.ipv6.dst_lo,
                       hdr.ports.sport, hdr.ports.dport },
                     32w0x10000);
            }
            if (hdr.udp.check == 0) {
                hdr.udp.check = 0xffff;
            }
        }
    }
}

control CaromIngress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    Carom() carom;
    UpdateChecksums() update_checksums;

    apply {
        if (standard.parser_error != error.NoError) {
            // What a parser found before it failed is lost with it; all of meta is zero.
            meta.truncated = 1;
        }
        meta.ingress_port = (bit<32>)standard.ingress_port;
        carom.apply(hdr, meta);
        if (meta.rewritten == 1) {
            update_checksums.apply(hdr, meta);
        }
        if (meta.verdict == VERDICT_DROP) {
            mark_to_drop(standard);
        } else {
            standard.egress_spec = (bit<9>)meta.egress_port;
        }
    }
}

control CaromEgress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    apply { }
}

control NoVerification(inout headers_t hdr, inout meta_t meta) {
    apply { }
}

control NoComputation(inout headers_t hdr, inout meta_t meta) {
    apply { }
}

control CaromDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

V1Switch(CaromParser(), NoVerification(), CaromIngress(), CaromEgress(), NoComputation(), CaromDeparser()) main;
