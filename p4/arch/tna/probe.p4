// Not part of Carom: a parser that chooses between two ways, by which a compiler shows whether it keeps what a parser
// chooses by. Some releases of p4c with the open Tofino back end lose it without a word.

#include <core.p4>
#include <tna.p4>

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> ether_type;
}

header word_t {
    bit<32> value;
}

struct headers_t {
    ethernet_t ethernet;
    word_t     word;
}

struct meta_t {}

parser In(packet_in packet, out headers_t hdr, out meta_t meta, out ingress_intrinsic_metadata_t intrinsic) {
    state start {
        packet.extract(intrinsic);
        packet.advance(PORT_METADATA_SIZE);
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            0x0800: word;
            default: accept;
        }
    }

    state word {
        packet.extract(hdr.word);
        transition accept;
    }
}

control Through(inout headers_t hdr, inout meta_t meta, in ingress_intrinsic_metadata_t intrinsic,
                in ingress_intrinsic_metadata_from_parser_t parsed,
                inout ingress_intrinsic_metadata_for_deparser_t deparse,
                inout ingress_intrinsic_metadata_for_tm_t manage) {
    apply {
        manage.ucast_egress_port = intrinsic.ingress_port;
        if (hdr.word.isValid()) {
            hdr.word.value = 1;
        }
    }
}

control Out(packet_out packet, inout headers_t hdr, in meta_t meta,
            in ingress_intrinsic_metadata_for_deparser_t deparse) {
    apply {
        packet.emit(hdr);
    }
}

struct no_headers_t {}

parser EgressIn(packet_in packet, out no_headers_t hdr, out meta_t meta, out egress_intrinsic_metadata_t intrinsic) {
    state start {
        packet.extract(intrinsic);
        transition accept;
    }
}

control EgressThrough(inout no_headers_t hdr, inout meta_t meta, in egress_intrinsic_metadata_t intrinsic,
                      in egress_intrinsic_metadata_from_parser_t parsed,
                      inout egress_intrinsic_metadata_for_deparser_t deparse,
                      inout egress_intrinsic_metadata_for_output_port_t output) {
    apply { }
}

control EgressOut(packet_out packet, inout no_headers_t hdr, in meta_t meta,
                  in egress_intrinsic_metadata_for_deparser_t deparse) {
    apply { }
}

Pipeline(In(), Through(), Out(), EgressIn(), EgressThrough(), EgressOut()) pipe;

Switch(pipe) main;
