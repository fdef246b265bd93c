//! The program on the pipeline, and its entries as the server gets them.

use carom_p4::artifacts::{PNA_P4INFO, PNA_SPEC};
use carom_p4::{Action, Key};
use dpdk::Eal;
use dpdk::swx::{Code, Pipeline, Wire};
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::field_match::{Exact, FieldMatchType};
use p4runtime_proto::p4::v1::{self as p4rt, FieldMatch, TableAction, TableEntry, action::Param, table_action::Type};
use prost::Message;
use softnic::spec::Spec;
use softnic::tables::Tables;

use super::super::BenchError;
use super::failed;
use crate::config::TargetCode;

/// The table of flows in the spec.
const FLOWS: &str = "_flow_v4_0";
/// The same of IPv6, which the benchmarks leave empty.
const FLOWS_V6: &str = "_flow_v6_0";
/// Entries that another table has room for, when only one is measured.
pub const LITTLE_ROOM: u32 = 64;

/// The number of the port that the slow path is at.
pub const LINK: u16 = 64;

/// The pipeline with room for so many flows.
pub fn build(eal: &Eal, code: &Code, room: u32, wires: Vec<(u32, Box<dyn Wire>)>) -> Result<Switch, BenchError> {
    let error = failed("softnic");
    let text = str::from_utf8(PNA_SPEC).map_err(|e| error(&e))?;
    let mut spec = Spec::parse(text).map_err(|e| error(&e))?;
    spec.resize(FLOWS, room);
    spec.resize(FLOWS_V6, LITTLE_ROOM);
    let program = softnic::guard::program(&spec).map_err(|e| error(&e))?;
    let (pipeline, control) = Pipeline::build(eal, &program, code, wires).map_err(|e| error(&e))?;
    let info = P4Info::decode(PNA_P4INFO).map_err(|e| error(&e))?;
    let tables = Tables::new(control, &info, Box::new(std::thread::yield_now)).map_err(|e| error(&e))?;
    Ok(Switch { pipeline, tables })
}

/// A pipeline and its tables, both in the hands of one thread.
pub struct Switch {
    pub pipeline: Pipeline,
    tables: Tables,
}

impl Switch {
    /// Adds an entry.
    pub fn insert<K: Key<Action = A>, A: Action>(&mut self, key: &K, action: &A) -> Result<(), BenchError> {
        self.tables.insert(&entry(key, action)).map_err(|e| failed("an entry")(&e))
    }

    /// Makes entries seen.
    pub fn publish(&mut self) -> Result<(), BenchError> {
        // It says that the pipeline has yet to come to it.
        let _ = self.tables.publish_within(std::time::Duration::ZERO);
        self.pipeline.run();
        self.tables.publish_within(std::time::Duration::ZERO).map_err(|e| failed("the pipeline")(&e))
    }
}

/// An entry as a controller writes it.
fn entry<K: Key<Action = A>, A: Action>(key: &K, action: &A) -> TableEntry {
    let bytes = |value: &carom_p4::Bytes| value.as_ref().to_vec().into();
    let field = |(field_id, value): &(u32, carom_p4::Bytes)| FieldMatch {
        field_id: *field_id,
        field_match_type: Some(FieldMatchType::Exact(Exact { value: bytes(value) })),
    };
    let param = |(param_id, value): &(u32, carom_p4::Bytes)| Param { param_id: *param_id, value: bytes(value) };
    let call = p4rt::Action { action_id: action.id(), params: action.params().iter().map(param).collect() };
    TableEntry {
        table_id: K::TABLE.id,
        r#match: key.fields().iter().map(field).collect(),
        action: Some(TableAction { r#type: Some(Type::Action(call)) }),
        ..TableEntry::default()
    }
}

impl From<crate::cli::Code> for TargetCode {
    fn from(code: crate::cli::Code) -> TargetCode {
        match code {
            crate::cli::Code::Interpreted => TargetCode::Interpreted,
            crate::cli::Code::Generated => TargetCode::Generated,
        }
    }
}
