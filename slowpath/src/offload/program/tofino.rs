//! The programs for Tofino: compiled on the operator's machine, and read from there.

use std::path::Path;

use carom_p4::Table;
use prost::Message;
use prost::bytes::Bytes;
use runtime_client::pipeline::{DeviceConfig, Tofino, TofinoForm};
use runtime_client::proto::p4::config::v1::P4Info;

use super::{Form, Kind, Program, ProgramError};

/// A chip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chip {
    /// Tofino 1.
    Tofino1,
    /// Tofino 2.
    Tofino2,
}

impl Chip {
    /// As the assembler calls it, also in the name of the binary.
    fn target(self) -> &'static str {
        match self {
            Chip::Tofino1 => "tofino",
            Chip::Tofino2 => "tofino2",
        }
    }
}

/// The pipeline's name in `p4/arch/tna`.
const PIPELINE: &str = "pipe";
/// What the switch shows as the program's name.
const NAME: &str = "carom";

impl Program {
    /// The program for a Tofino chip that `make p4 ARCH=tna` left in this directory: `tofino.bin` or `tofino2.bin`,
    /// `context.json`, `p4info.bin`, and for Stratum `bfrt.json`. `pipes`: run it in so many, for a server that is Stratum; none:
    /// for one on PI.
    ///
    /// # Errors
    ///
    /// A file is missing, or is not of this chip or of a program of this form.
    pub fn tofino(form: Form, chip: Chip, dir: &Path, pipes: Option<u32>) -> Result<Self, ProgramError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map(Bytes::from).map_err(|source| ProgramError::File { path, source })
        };
        let p4info = read("p4info.bin")?;
        check_tables(&P4Info::decode(p4info.clone())?, form)?;
        let context = read("context.json")?;
        check_chip(&context, chip)?;
        let form_of_config = match pipes {
            None => TofinoForm::Lengths,
            Some(pipes) => {
                TofinoForm::Stratum { bfrt: read("bfrt.json")?, pipeline: PIPELINE.into(), pipes: (0..pipes).collect() }
            }
        };
        let binary = read(&format!("{}.bin", chip.target()))?;
        let device_config = Tofino { name: NAME.into(), binary, context, form: form_of_config }.pack()?;
        Ok(Program { kind: Kind::Tofino, form, p4info, device_config })
    }
}

/// The tables of P4Info are those of such a program. What keys and actions are made of is bound to their ids, which are given
/// once.
fn check_tables(p4info: &P4Info, form: Form) -> Result<(), ProgramError> {
    let wrong = |what: String| ProgramError::Tables { form: form.name(), what };
    let ids: Vec<u32> = p4info.tables.iter().filter_map(|table| Some(table.preamble.as_ref()?.id)).collect();
    if let Some(Table { name, .. }) = form.tables().iter().find(|table| !ids.contains(&table.id)) {
        return Err(wrong(format!("it has no table {name}")));
    }
    let strange = |id: &&u32| !form.tables().iter().any(|table| table.id == **id);
    match ids.iter().find(strange) {
        None => Ok(()),
        Some(id) => Err(wrong(format!("it has a table {id:#010x}"))),
    }
}

fn check_chip(context: &[u8], chip: Chip) -> Result<(), ProgramError> {
    // What is no JSON at all is told of when the program is packed.
    let json: serde_json::Value = serde_json::from_slice(context).unwrap_or_default();
    match json.get("target").and_then(serde_json::Value::as_str) {
        Some(target) if target != chip.target() => {
            Err(ProgramError::Chip { expected: chip.target(), found: target.to_owned() })
        }
        _ => Ok(()),
    }
}
