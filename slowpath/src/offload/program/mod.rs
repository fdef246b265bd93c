//! The programs a target can be told to run, by kind of target.

mod tofino;

use std::path::PathBuf;

use carom_p4::artifacts::{
    BMV2_IDS_JSON, BMV2_IDS_P4INFO, BMV2_JSON, BMV2_P4INFO, PNA_P4INFO, PNA_SPEC, bmv2_ids_json_with_room_for,
    bmv2_json_with_room_for,
};
use carom_p4::{IDS_TABLES, TABLES, Table};
use prost::Message;
use prost::bytes::Bytes;
use runtime_client::pipeline::{Bmv2Json, DeviceConfig, Entries, PackError, PassThrough, Pipeline, PnaSpec};
use runtime_client::proto::p4::config::v1::P4Info;

use super::flows::Flows;
pub use tofino::Chip;

/// A kind of target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// BMv2's `simple_switch_grpc`.
    Bmv2,
    /// The software switch `softnic`, which `carom run` has in itself.
    Softnic,
    /// A switch with Tofino 1 or 2, behind a P4Runtime server.
    Tofino,
}

impl Kind {
    /// Its name in the config and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bmv2 => "bmv2",
            Kind::Softnic => "softnic",
            Kind::Tofino => "tofino",
        }
    }

    /// What is to happen with a running program's entries when it has to be changed.
    pub(super) fn entries(self) -> Entries {
        match self {
            // It fails in the middle of reconciling, and then takes no program until it is started again.
            Kind::Bmv2 => Entries::Clear,
            Kind::Softnic | Kind::Tofino => Entries::KeepIfPossible,
        }
    }

    /// Whether a refusal with no better reason than UNKNOWN means that a table is full.
    pub(super) fn says_unknown_when_full(self) -> bool {
        match self {
            Kind::Bmv2 => true,
            Kind::Softnic | Kind::Tofino => false,
        }
    }
}

/// Which of the programs that are the same but for this: how IPv4 flows are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Whole five-tuples in one table.
    Plain,
    /// By ids, which small tables give to what many sessions have in common.
    Ids,
}

impl Form {
    /// Its name in the config and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Form::Plain => "plain",
            Form::Ids => "ids",
        }
    }

    /// All tables of such a program, by id.
    pub(super) fn tables(self) -> &'static [Table] {
        match self {
            Form::Plain => &TABLES,
            Form::Ids => &IDS_TABLES,
        }
    }

    /// Those that have flows: of IPv4, and the last one, of IPv6.
    pub(super) fn flow_tables(self) -> &'static [Table] {
        Flows::tables(self == Form::Ids)
    }

    /// Those that do not.
    pub(super) fn static_tables(self) -> impl Iterator<Item = Table> {
        self.tables().iter().copied().filter(move |table| !self.flow_tables().contains(table))
    }
}

/// The artifacts are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// P4Info is no P4Info.
    #[error("the program's P4Info cannot be decoded: {0}")]
    P4Info(#[from] prost::DecodeError),
    /// A file cannot be read, or is no file of its kind.
    #[error("target.tofino.files: {}: {source}; `make p4 ARCH=tna` with CAROM_TOFINO_OUT writes it", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said, or what is wrong with what is in it.
        source: std::io::Error,
    },
    /// P4Info is of another program.
    #[error(
        "target.tofino.files: {}: not of the program \"{form}\", {what}; change target.program, or name the directory of \
         that program",
        path.display()
    )]
    Tables {
        /// P4Info's file.
        path: PathBuf,
        /// The program that was asked for.
        form: &'static str,
        /// How this one differs.
        what: String,
    },
    /// The program is for another chip.
    #[error(
        "target.tofino.files: {}: for {found}, not for {expected}; change target.tofino.chip, or name the directory of \
         that chip",
        path.display()
    )]
    Chip {
        /// The file that says so.
        path: PathBuf,
        /// The chip that was asked for.
        expected: &'static str,
        /// The chip it is for.
        found: String,
    },
    /// It would never be known which sessions are idle.
    #[error(
        "the program's flow entries do not count, and have no idle timeouts that the target takes: nobody could tell which \
         sessions are idle; compile it with counters, or set target.tofino.idle_timeouts where the server takes them"
    )]
    Silent,
    /// The compiled program is not what the compiler writes.
    #[error("target.tofino.files: {}: {source}; `make p4 ARCH=tna` with CAROM_TOFINO_OUT writes it", dir.display())]
    Pack {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong, and with which of its files.
        source: PackError,
    },
}

/// A compiled program and the kind of target it is for.
#[derive(Clone, Debug)]
pub struct Program {
    /// Who runs it.
    pub kind: Kind,
    /// How it keeps flows.
    pub form: Form,
    /// Encoded `p4.config.v1.P4Info`.
    pub p4info: Bytes,
    /// What the compiler made for this kind of target; for Tofino, packed as its server takes it.
    pub device_config: Bytes,
}

impl Program {
    /// The program for BMv2.
    pub fn bmv2() -> Self {
        let [p4info, device_config] = [BMV2_P4INFO, BMV2_JSON].map(Bytes::from_static);
        Program { kind: Kind::Bmv2, form: Form::Plain, p4info, device_config }
    }

    /// The program by ids for BMv2.
    pub fn bmv2_ids() -> Self {
        let [p4info, device_config] = [BMV2_IDS_P4INFO, BMV2_IDS_JSON].map(Bytes::from_static);
        Program { kind: Kind::Bmv2, form: Form::Ids, p4info, device_config }
    }

    /// The program for BMv2 with room for so many flows of each family.
    pub fn bmv2_with_room_for(flows: u64) -> Self {
        Program { device_config: bmv2_json_with_room_for(flows).into(), ..Self::bmv2() }
    }

    /// The program by ids for BMv2 with room for so many entries in each table of flows.
    pub fn bmv2_ids_with_room_for(flows: u64) -> Self {
        Program { device_config: bmv2_ids_json_with_room_for(flows).into(), ..Self::bmv2_ids() }
    }

    /// The program for softnic.
    pub fn softnic() -> Self {
        let [p4info, device_config] = [PNA_P4INFO, PNA_SPEC].map(Bytes::from_static);
        Program { kind: Kind::Softnic, form: Form::Plain, p4info, device_config }
    }

    /// A hash of the artifacts: a target that shows the same runs the same.
    pub fn cookie(&self) -> u64 {
        // FNV-1a: nobody but ourselves chooses programs, and it must stay the same over compilers and machines.
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.p4info.iter().chain(self.device_config.iter()).fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// The program in the form the client takes.
    pub(super) fn pipeline(&self) -> Result<Pipeline<DeviceProgram>, ProgramError> {
        Ok(Pipeline {
            p4info: P4Info::decode(self.p4info.clone())?,
            device_config: DeviceProgram { kind: self.kind, bytes: self.device_config.clone() },
            cookie: self.cookie(),
        })
    }
}

/// The compiled program, packed as its kind of target wants it.
#[derive(Clone, Debug)]
pub(super) struct DeviceProgram {
    kind: Kind,
    bytes: Bytes,
}

impl DeviceConfig for DeviceProgram {
    fn pack(&self) -> Result<Bytes, PackError> {
        match self.kind {
            Kind::Bmv2 => Bmv2Json(self.bytes.clone()).pack(),
            Kind::Softnic => PnaSpec(self.bytes.clone()).pack(),
            Kind::Tofino => PassThrough(self.bytes.clone()).pack(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_their_cookies() {
        assert_eq!(Program::bmv2().cookie(), Program::bmv2().cookie());
        assert_ne!(Program::bmv2().cookie(), Program::bmv2_with_room_for(64).cookie());
        assert_ne!(Program::bmv2().cookie(), Program::softnic().cookie());
        assert_ne!(Program::bmv2().cookie(), Program::bmv2_ids().cookie());
        for program in [Program::bmv2(), Program::bmv2_ids(), Program::softnic()] {
            let pipeline = program.pipeline().expect("a committed artifact");
            assert!(pipeline.device_config.pack().is_ok());
        }
    }
}
