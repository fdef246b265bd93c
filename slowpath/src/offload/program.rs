//! The programs a target can be told to run, by kind of target.

use carom_p4::artifacts::{BMV2_JSON, BMV2_P4INFO, PNA_P4INFO, PNA_SPEC, bmv2_json_with_room_for};
use prost::Message;
use prost::bytes::Bytes;
use runtime_client::pipeline::{Bmv2Json, DeviceConfig, Entries, PackError, Pipeline, PnaSpec};
use runtime_client::proto::p4::config::v1::P4Info;

/// A kind of target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// BMv2's `simple_switch_grpc`.
    Bmv2,
    /// The software switch `softnic`, which `carom run` has in itself.
    Softnic,
}

impl Kind {
    /// Its name in the config and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bmv2 => "bmv2",
            Kind::Softnic => "softnic",
        }
    }

    /// What is to happen with a running program's entries when it has to be changed.
    pub(super) fn entries(self) -> Entries {
        match self {
            // It fails in the middle of reconciling, and then takes no program until it is started again.
            Kind::Bmv2 => Entries::Clear,
            Kind::Softnic => Entries::KeepIfPossible,
        }
    }

    /// Whether a refusal with no better reason than UNKNOWN means that a table is full.
    pub(super) fn says_unknown_when_full(self) -> bool {
        match self {
            Kind::Bmv2 => true,
            Kind::Softnic => false,
        }
    }
}

/// The artifacts are not what they should be.
#[derive(Debug, thiserror::Error)]
#[error("the program's P4Info cannot be decoded: {0}")]
pub struct ProgramError(#[from] prost::DecodeError);

/// A compiled program and the kind of target it is for.
#[derive(Clone, Debug)]
pub struct Program {
    /// Who runs it.
    pub kind: Kind,
    /// Encoded `p4.config.v1.P4Info`.
    pub p4info: Bytes,
    /// What the compiler made for this kind of target.
    pub device_config: Bytes,
}

impl Program {
    /// The program for BMv2.
    pub fn bmv2() -> Self {
        let [p4info, device_config] = [BMV2_P4INFO, BMV2_JSON].map(Bytes::from_static);
        Program { kind: Kind::Bmv2, p4info, device_config }
    }

    /// The program for BMv2 with room for so many flows of each family.
    pub fn bmv2_with_room_for(flows: u64) -> Self {
        Program { device_config: bmv2_json_with_room_for(flows).into(), ..Self::bmv2() }
    }

    /// The program for softnic.
    pub fn softnic() -> Self {
        let [p4info, device_config] = [PNA_P4INFO, PNA_SPEC].map(Bytes::from_static);
        Program { kind: Kind::Softnic, p4info, device_config }
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
        for program in [Program::bmv2(), Program::softnic()] {
            let pipeline = program.pipeline().expect("a committed artifact");
            assert!(pipeline.device_config.pack().is_ok());
        }
    }
}
