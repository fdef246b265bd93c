//! The compiled program, as committed in `p4/build/`.

/// The program for BMv2 (`simple_switch_grpc`): its device configuration, JSON.
pub const BMV2_JSON: &[u8] = include_bytes!("../../build/bmv2.json");
/// P4Info of [`BMV2_JSON`], an encoded `p4.config.v1.P4Info`.
pub const BMV2_P4INFO: &[u8] = include_bytes!("../../build/bmv2.p4info.bin");
/// The program for DPDK's SWX pipeline, text.
pub const PNA_SPEC: &[u8] = include_bytes!("../../build/pna.spec");
/// P4Info of [`PNA_SPEC`], an encoded `p4.config.v1.P4Info`.
pub const PNA_P4INFO: &[u8] = include_bytes!("../../build/pna.p4info.bin");
