//! Device configs of Tofino: what the compiler and its assembler write, in one of the two forms that switches take.

use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::{DeviceConfig, PackError};

/// What p4c's Tofino back end and `bfas` write for a program of one pipeline.
#[derive(Clone, Debug)]
pub struct Tofino {
    /// The program's name, as the switch shows it.
    pub name: String,
    /// `tofino.bin` or `tofino2.bin`: the registers of the chip.
    pub binary: Bytes,
    /// `context.json`: how the driver finds tables and fields in it.
    pub context: Bytes,
    /// In which form the switch takes them.
    pub form: TofinoForm,
}

/// The forms of a Tofino device config.
#[derive(Clone, Debug)]
pub enum TofinoForm {
    /// Name, binary and context one after the other, each behind its length, 32 bits little-endian. What servers on PI
    /// (`stratum_bf` of old) take and p4runtime-shell writes.
    Lengths,
    /// Stratum's message `BfPipelineConfig`, for `stratum_bfrt`.
    Stratum {
        /// `bfrt.json`: tables and fields by the names and ids the driver has for them. With `p4c-barefoot`:
        /// `--bf-rt-schema`.
        bfrt: Bytes,
        /// The pipeline's name in the program, `pipe` if the package calls it that.
        pipeline: String,
        /// The chip's pipes that run it, from 0.
        pipes: Vec<u32>,
    },
}

/// `stratum.hal.barefoot.BfPipelineConfig`, by the numbers of its fields.
#[derive(Clone, PartialEq, Message)]
struct BfPipelineConfig {
    #[prost(string, tag = "1")]
    p4_name: String,
    #[prost(bytes = "bytes", tag = "2")]
    bfruntime_info: Bytes,
    #[prost(message, repeated, tag = "3")]
    profiles: Vec<Profile>,
}

/// Its program of one pipeline.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(string, tag = "1")]
    profile_name: String,
    #[prost(bytes = "bytes", tag = "2")]
    context: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    binary: Bytes,
    #[prost(uint32, repeated, tag = "4")]
    pipe_scope: Vec<u32>,
}

/// What the assembler's binaries begin with.
const MAGIC: &[u8] = &[0, 0, 0, b'H'];

/// What a context is called where it is none.
const CONTEXT_FILE: &str = "a context of Tofino (context.json)";

fn wrong(expected: &'static str, problem: impl Into<String>) -> PackError {
    PackError::Kind { expected, problem: problem.into() }
}

/// A JSON object with a list of tables.
fn with_tables(expected: &'static str, bytes: &[u8]) -> Result<Value, PackError> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| wrong(expected, format!("not JSON: {error}")))?;
    if json.get("tables").is_some_and(Value::is_array) { Ok(json) } else { Err(wrong(expected, "no list \"tables\"")) }
}

impl Tofino {
    /// Files of another compiler, of another run or in another's place are found here, where they can be named; the
    /// switch's driver may end on them.
    fn check(&self) -> Result<(), PackError> {
        if self.binary.is_empty() || self.context.is_empty() {
            return Err(PackError::Empty);
        }
        if self.name.is_empty() {
            return Err(wrong("a Tofino program", "it has no name"));
        }
        if !self.binary.starts_with(MAGIC) {
            return Err(wrong("a binary for Tofino (tofino.bin, tofino2.bin)", "it does not begin as bfas begins one"));
        }
        let context = with_tables(CONTEXT_FILE, &self.context)?;
        let target = context.get("target").and_then(Value::as_str).unwrap_or_default();
        if !matches!(target, "tofino" | "tofino2") {
            return Err(wrong(CONTEXT_FILE, format!("its target is {target:?}")));
        }
        Ok(())
    }
}

impl DeviceConfig for Tofino {
    fn pack(&self) -> Result<Bytes, PackError> {
        self.check()?;
        match &self.form {
            TofinoForm::Lengths => lengths(&[self.name.as_bytes(), &self.binary, &self.context]),
            TofinoForm::Stratum { bfrt, pipeline, pipes } => {
                with_tables("a BfRt schema (bfrt.json)", bfrt)?;
                if pipeline.is_empty() || pipes.is_empty() {
                    return Err(wrong("a Tofino pipeline", "it has no name, or no pipe runs it"));
                }
                let profile = Profile {
                    profile_name: pipeline.clone(),
                    context: self.context.clone(),
                    binary: self.binary.clone(),
                    pipe_scope: pipes.clone(),
                };
                let config = BfPipelineConfig {
                    p4_name: self.name.clone(),
                    bfruntime_info: bfrt.clone(),
                    profiles: vec![profile],
                };
                Ok(config.encode_to_vec().into())
            }
        }
    }
}

fn lengths(parts: &[&[u8]]) -> Result<Bytes, PackError> {
    let mut packed = BytesMut::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        // Signed where it is read.
        let len = i32::try_from(part.len()).map_err(|_| wrong("a Tofino program", "a part of 2 GiB or more"))?;
        packed.put_i32_le(len);
        packed.put_slice(part);
    }
    Ok(packed.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINARY: &[u8] = b"\0\0\0H\x05\0\0\0rest";
    const CONTEXT: &[u8] = br#"{"target": "tofino", "tables": []}"#;
    const BFRT: &[u8] = br#"{"tables": [], "learn_filters": []}"#;

    fn tofino(form: TofinoForm) -> Tofino {
        Tofino { name: "carom".into(), binary: BINARY.into(), context: CONTEXT.into(), form }
    }

    fn stratum() -> TofinoForm {
        TofinoForm::Stratum { bfrt: BFRT.into(), pipeline: "pipe".into(), pipes: vec![0, 1, 2, 3] }
    }

    fn problem(program: &Tofino) -> String {
        program.pack().expect_err("packed what it should not").to_string()
    }

    #[test]
    fn parts_are_behind_their_lengths() {
        let expected =
            [&b"\x05\0\0\0carom"[..], &[BINARY.len() as u8, 0, 0, 0], BINARY, &[CONTEXT.len() as u8, 0, 0, 0], CONTEXT]
                .concat();
        assert_eq!(tofino(TofinoForm::Lengths).pack().unwrap(), expected);
    }

    /// Byte by byte, since a message that is encoded and decoded by the same description proves nothing of its numbers.
    #[test]
    fn stratum_gets_its_message() {
        let len = |bytes: &[u8]| bytes.len() as u8;
        let profile = [
            &b"\x0a\x04pipe\x12"[..],
            &[len(CONTEXT)],
            CONTEXT,
            &[0x1a, len(BINARY)],
            BINARY,
            // Packed, as proto3 writes repeated numbers.
            b"\x22\x04\0\x01\x02\x03",
        ]
        .concat();
        let expected = [&b"\x0a\x05carom\x12"[..], &[len(BFRT)], BFRT, &[0x1a, len(&profile)], &profile].concat();
        assert_eq!(tofino(stratum()).pack().unwrap(), expected);
    }

    #[test]
    fn files_in_the_wrong_place_are_found() {
        let good = tofino(TofinoForm::Lengths);
        let empty = Tofino { binary: Bytes::new(), ..good.clone() };
        assert_eq!(empty.pack(), Err(PackError::Empty));
        assert!(problem(&Tofino { name: String::new(), ..good.clone() }).contains("no name"));
        assert!(problem(&Tofino { binary: CONTEXT.into(), ..good.clone() }).contains("bfas"));
        assert!(problem(&Tofino { context: BINARY.into(), ..good.clone() }).contains("not JSON"));
        assert!(problem(&Tofino { context: BFRT.into(), ..good.clone() }).contains("target"));
        let bmv2 = br#"{"target": "bmv2", "tables": []}"#;
        assert!(problem(&Tofino { context: bmv2[..].into(), ..good.clone() }).contains("bmv2"));
        let bfrt = |bfrt: &'static [u8]| {
            tofino(TofinoForm::Stratum { bfrt: bfrt.into(), pipeline: "pipe".into(), pipes: vec![0] })
        };
        assert!(problem(&bfrt(b"{}")).contains("tables"));
        let nowhere = TofinoForm::Stratum { bfrt: BFRT.into(), pipeline: "pipe".into(), pipes: vec![] };
        assert!(problem(&tofino(nowhere)).contains("no pipe"));
    }
}
