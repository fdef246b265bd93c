// Carom for PNA: the shell around the core. Ports, checksums and the deparser are here, nothing else.

#include <core.p4>
#include <dpdk/pna.p4>

#include "arch.p4"
#include "../../core/ids.h"
#include "../../core/sizes.h"
#include "../../core/constants.p4"
#include "../../core/headers.p4"
#include "../../core/parse.p4"
#include "../../core/flow_v4.p4"
#include "../../core/flow_v6.p4"
#include "../../core/admit.p4"
#include "../../core/slowpath.p4"
#include "../../core/out.p4"
#include "../../core/pipeline.p4"

control CaromPreControl(in headers_t hdr, inout meta_t meta, in pna_pre_input_metadata_t istd,
                        inout pna_pre_output_metadata_t ostd) {
    apply { }
}

// SWX does not notice a frame that ends within a header: it reads on into what the buffer held before. hw/softnic puts
// that right, and tells by parser_error; elsewhere such a frame leaves with the bytes it came with, perhaps rewritten,
// and is its receiver's to drop.
parser CaromParser(packet_in packet, out headers_t hdr, inout meta_t meta, in pna_main_parser_input_metadata_t istd) {
    Parse() parse;

    state start {
        meta.rewritten = 0;
        meta.zero = 0;
        parse.apply(packet, hdr, meta);
        transition accept;
    }
}

// Checksums move by what the packet moved (RFC 1624, equation 3), so that one that was wrong stays wrong by as much.
//
// A checksum is the complement of a sum: taking the old one away leaves the old sum. SWX writes zero as 0xffff; that is
// right for UDP (RFC 768), the others write 0x0000.
control UpdateChecksums(inout headers_t hdr, inout meta_t meta) {
    InternetChecksum() ip;
    InternetChecksum() l4;

    apply {
        l4.clear();
        if (hdr.ipv4.isValid()) {
            ip.clear();
            ip.subtract(hdr.ipv4.check);
            ip.subtract(meta.src);
            ip.subtract(meta.dst);
            // The TTL is the upper byte of its word, and one less than it was.
            ip.subtract(16w0x0100);
            ip.add(hdr.ipv4.src);
            ip.add(hdr.ipv4.dst);
            hdr.ipv4.check = ip.get();
            if (hdr.ipv4.check == 0xffff) {
                hdr.ipv4.check = 0;
            }
            l4.subtract(meta.src);
            l4.subtract(meta.dst);
            l4.add(hdr.ipv4.src);
            l4.add(hdr.ipv4.dst);
        } else {
            l4.subtract(meta.src_hi);
            l4.subtract(meta.src_lo);
            l4.subtract(meta.dst_hi);
            l4.subtract(meta.dst_lo);
            l4.add(hdr.ipv6.src_hi);
            l4.add(hdr.ipv6.src_lo);
            l4.add(hdr.ipv6.dst_hi);
            l4.add(hdr.ipv6.dst_lo);
        }
        l4.subtract(meta.sport);
        l4.subtract(meta.dport);
        l4.add(hdr.ports.sport);
        l4.add(hdr.ports.dport);
        if (hdr.tcp.isValid()) {
            // Most flows leave them alone.
            if (hdr.tcp.seq != meta.seq) {
                l4.subtract(meta.seq);
                l4.add(hdr.tcp.seq);
            }
            if (hdr.tcp.ack != meta.ack) {
                l4.subtract(meta.ack);
                l4.add(hdr.tcp.ack);
            }
            l4.subtract(hdr.tcp.check);
            hdr.tcp.check = l4.get();
            if (hdr.tcp.check == 0xffff) {
                hdr.tcp.check = 0;
            }
        } else if (hdr.udp.check != 0) {
            // Zero says that there is none, and stays.
            l4.subtract(hdr.udp.check);
            hdr.udp.check = l4.get();
            if (hdr.udp.check == 0) {
                hdr.udp.check = 0xffff;
            }
        }
    }
}

control CaromControl(inout headers_t hdr, inout meta_t meta, in pna_main_input_metadata_t istd,
                     inout pna_main_output_metadata_t ostd) {
    Carom() carom;
    UpdateChecksums() update_checksums;

    apply {
        if (istd.parser_error != error.NoError) {
            meta.truncated = 1;
        }
        meta.ingress_port = (bit<32>)istd.input_port;
        // Ethernet header and IP packet; padding is not known of.
        meta.length = 14;
        if (hdr.ipv4.isValid()) {
            meta.length = (bit<32>)hdr.ipv4.total_len + 14;
        } else if (hdr.ipv6.isValid()) {
            meta.length = (bit<32>)hdr.ipv6.payload_len + 54;
        }
        carom.apply(hdr, meta);
        if (meta.rewritten == 1) {
            update_checksums.apply(hdr, meta);
        }
        if (meta.verdict == VERDICT_DROP) {
            drop_packet();
        }
    }
}

control CaromDeparser(packet_out packet, in headers_t hdr, in meta_t meta, in pna_main_output_metadata_t ostd) {
    apply {
        packet.emit(hdr);
    }
}

PNA_NIC(CaromParser(), CaromPreControl(), CaromControl(), CaromDeparser()) main;
