//! The compiled program, as committed in `p4/build/`.

use crate::{ConnectionV4EvenKey, ConnectionV4OddKey, FlowV4Key, FlowV6Key, InboundV4Key, Key, Table};

/// The program for BMv2 (`simple_switch_grpc`): its device configuration, JSON.
pub const BMV2_JSON: &[u8] = include_bytes!("../../build/bmv2.json");
/// P4Info of [`BMV2_JSON`], an encoded `p4.config.v1.P4Info`.
pub const BMV2_P4INFO: &[u8] = include_bytes!("../../build/bmv2.p4info.bin");
/// The program by ids for BMv2.
pub const BMV2_IDS_JSON: &[u8] = include_bytes!("../../build/bmv2-ids.json");
/// P4Info of [`BMV2_IDS_JSON`], an encoded `p4.config.v1.P4Info`.
pub const BMV2_IDS_P4INFO: &[u8] = include_bytes!("../../build/bmv2-ids.p4info.bin");
/// The program for DPDK's SWX pipeline, text.
pub const PNA_SPEC: &[u8] = include_bytes!("../../build/pna.spec");
/// P4Info of [`PNA_SPEC`], an encoded `p4.config.v1.P4Info`.
pub const PNA_P4INFO: &[u8] = include_bytes!("../../build/pna.p4info.bin");
/// P4Info of the program for Tofino 1, an encoded `p4.config.v1.P4Info`. It has the sizes of this chip's flow tables. The
/// binary and its context are not committed: `make p4 ARCH=tna` with `CAROM_TOFINO_OUT` makes them.
pub const TOFINO1_P4INFO: &[u8] = include_bytes!("../../build/tofino/plain/tofino1.p4info.bin");
/// The same for Tofino 2.
pub const TOFINO2_P4INFO: &[u8] = include_bytes!("../../build/tofino/plain/tofino2.p4info.bin");
/// P4Info of the program by ids for Tofino 1. Sizes are in it.
pub const TOFINO1_IDS_P4INFO: &[u8] = include_bytes!("../../build/tofino/ids/tofino1.p4info.bin");
/// P4Info of the program by ids for Tofino 2.
pub const TOFINO2_IDS_P4INFO: &[u8] = include_bytes!("../../build/tofino/ids/tofino2.p4info.bin");

/// [`BMV2_JSON`] with room for fewer flows, at most so many of each family: for tests of what happens when a flow table is
/// full. P4Info stays as it is; BMv2 goes by this.
pub fn bmv2_json_with_room_for(flows: u64) -> String {
    with_room_for(flows, BMV2_JSON, &[FlowV4Key::TABLE, FlowV6Key::TABLE])
}

/// The same of [`BMV2_IDS_JSON`], with so many entries in each of its flow tables.
pub fn bmv2_ids_json_with_room_for(flows: u64) -> String {
    let tables = [InboundV4Key::TABLE, ConnectionV4EvenKey::TABLE, ConnectionV4OddKey::TABLE, FlowV6Key::TABLE];
    with_room_for(flows, BMV2_IDS_JSON, &tables)
}

/// [`PNA_SPEC`] likewise.
pub fn pna_spec_with_room_for(flows: u64) -> String {
    let mut spec = String::from_utf8_lossy(PNA_SPEC).into_owned();
    for table in [FlowV4Key::TABLE, FlowV6Key::TABLE] {
        spec = spec.replace(&format!("\tsize {:#x}\n", table.size), &format!("\tsize {flows:#x}\n"));
    }
    spec
}

fn with_room_for(flows: u64, json: &[u8], tables: &[Table]) -> String {
    let mut json = String::from_utf8_lossy(json).into_owned();
    for table in tables {
        // No other table has the size of a flow table; a test on BMv2 fills them.
        json = json.replace(&format!("\"max_size\" : {},", table.size), &format!("\"max_size\" : {flows},"));
    }
    json
}
