//! What is said to controllers when something does not work.

use std::fmt;

use dpdk::swx::BuildError;
use p4runtime_proto::p4::v1::Error;
use tonic::{Code, Status};

use crate::names::NamesError;
use crate::spec::SpecError;
use crate::tables::EntryError;

/// Why a program was not loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// The device configuration is not UTF-8 text.
    Text,
    /// It is no program.
    Spec(SpecError),
    /// The pipeline cannot be made.
    Build(BuildError),
    /// P4Info is of another program.
    Names(NamesError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Text => f.write_str("the device configuration is not the text of a .spec"),
            LoadError::Spec(error) => write!(f, "the device configuration, {error}"),
            LoadError::Build(error) => error.fmt(f),
            LoadError::Names(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<LoadError> for Status {
    fn from(error: LoadError) -> Status {
        let code = match &error {
            LoadError::Build(BuildError::NoMemory { .. }) => Code::ResourceExhausted,
            LoadError::Build(BuildError::Compile(_)) => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        };
        Status::new(code, error.to_string())
    }
}

/// Certificate and key are none, or not of each other.
#[derive(Debug)]
pub struct TlsError(tonic::transport::Error);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The outermost only says that it is about transport.
        let mut cause: &dyn std::error::Error = &self.0;
        while let Some(source) = cause.source() {
            cause = source;
        }
        write!(f, "{cause}")
    }
}

impl std::error::Error for TlsError {}

impl From<tonic::transport::Error> for TlsError {
    fn from(error: tonic::transport::Error) -> TlsError {
        TlsError(error)
    }
}

/// The canonical code of an update that was not applied.
fn code(error: EntryError) -> Code {
    match error {
        EntryError::Exists => Code::AlreadyExists,
        EntryError::Missing => Code::NotFound,
        EntryError::Full => Code::ResourceExhausted,
        EntryError::Range => Code::OutOfRange,
        EntryError::Stalled => Code::Unavailable,
        EntryError::Table | EntryError::Key | EntryError::Action | EntryError::Params | EntryError::State => {
            Code::InvalidArgument
        }
    }
}

pub(super) fn refusal(code: Code, message: impl Into<String>) -> Error {
    Error { canonical_code: code as i32, message: message.into(), ..Error::default() }
}

impl From<EntryError> for Error {
    fn from(error: EntryError) -> Error {
        refusal(code(error), error.to_string())
    }
}

pub(super) fn status(error: EntryError) -> Status {
    Status::new(code(error), error.to_string())
}
