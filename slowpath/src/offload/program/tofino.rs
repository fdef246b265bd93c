//! The programs for Tofino: compiled on the operator's machine, and read from there.

use std::io;
use std::path::{Path, PathBuf};

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
    /// Its name in the config.
    fn name(self) -> &'static str {
        match self {
            Chip::Tofino1 => "tofino1",
            Chip::Tofino2 => "tofino2",
        }
    }

    /// As P4Info calls the architecture of its programs.
    fn arch(self) -> &'static str {
        match self {
            Chip::Tofino1 => "tna",
            Chip::Tofino2 => "t2na",
        }
    }

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
        let (path, p4info) = read(dir, "p4info.bin")?;
        check_p4info(path, p4info.clone(), form, chip)?;
        let (path, context) = read(dir, "context.json")?;
        check_context(path, &context, chip)?;
        let form_of_config = match pipes {
            None => TofinoForm::Lengths,
            Some(pipes) => {
                let (_, bfrt) = read(dir, "bfrt.json")?;
                TofinoForm::Stratum { bfrt, pipeline: PIPELINE.into(), pipes: (0..pipes).collect() }
            }
        };
        let (_, binary) = read(dir, &format!("{}.bin", chip.target()))?;
        let config = Tofino { name: NAME.into(), binary, context, form: form_of_config };
        let device_config = config.pack().map_err(|source| ProgramError::Pack { dir: dir.into(), source })?;
        Ok(Program { kind: Kind::Tofino, form, p4info, device_config })
    }
}

/// A file of the program, and where it is. None of them is empty.
fn read(dir: &Path, name: &str) -> Result<(PathBuf, Bytes), ProgramError> {
    let path = dir.join(name);
    match std::fs::read(&path) {
        Ok(bytes) if bytes.is_empty() => Err(strange_file(path, "it is empty")),
        Ok(bytes) => Ok((path, bytes.into())),
        Err(source) => Err(ProgramError::File { path, source }),
    }
}

fn strange_file(path: PathBuf, what: &str) -> ProgramError {
    ProgramError::File { path, source: io::Error::new(io::ErrorKind::InvalidData, what) }
}

/// P4Info is of such a program for this chip: its tables are those. What keys and actions are made of is bound to their ids, which
/// are given once.
fn check_p4info(path: PathBuf, p4info: Bytes, form: Form, chip: Chip) -> Result<(), ProgramError> {
    let Ok(p4info) = P4Info::decode(p4info) else { return Err(strange_file(path, "it is no P4Info")) };
    let tables = || p4info.tables.iter().filter_map(|table| table.preamble.as_ref());
    let what = if let Some(Table { name, .. }) =
        form.tables().iter().find(|wanted| !tables().any(|table| table.id == wanted.id))
    {
        format!("it has no table {name}")
    } else if let Some(table) = tables().find(|table| !form.tables().iter().any(|wanted| wanted.id == table.id)) {
        format!("it has a table {}", table.name)
    } else {
        let arch = p4info.pkg_info.as_ref().map_or("", |info| &info.arch);
        return check_chip(path, arch, chip, Chip::arch);
    };
    Err(ProgramError::Tables { path, form: form.name(), what })
}

fn check_context(path: PathBuf, context: &[u8], chip: Chip) -> Result<(), ProgramError> {
    // What is no JSON at all is told of when the program is packed.
    let json: serde_json::Value = serde_json::from_slice(context).unwrap_or_default();
    let target = json.get("target").and_then(serde_json::Value::as_str).unwrap_or_default();
    check_chip(path, target, chip, Chip::target)
}

/// What a file says it is for is this chip, as that is called there. It may say nothing.
fn check_chip(path: PathBuf, found: &str, chip: Chip, called: fn(Chip) -> &'static str) -> Result<(), ProgramError> {
    if found.is_empty() || found == called(chip) {
        return Ok(());
    }
    let other = [Chip::Tofino1, Chip::Tofino2].into_iter().find(|chip| called(*chip) == found);
    let found = other.map_or_else(|| found.to_owned(), |chip| chip.name().to_owned());
    Err(ProgramError::Chip { path, expected: chip.name(), found })
}
