//! What can go wrong, by operation. Canonical codes are kept as the target gave them.

use std::fmt;

use tonic::Status;

use crate::Code;
use crate::election::Standing;
use crate::read::Malformed;

/// A target's "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of gRPC's canonical codes.
    pub code: Code,
    /// For people.
    pub message: Box<str>,
    /// Whose `target_code` it is; empty if the target gave none.
    pub space: Box<str>,
    /// The target's own code, of a single update only.
    pub target_code: i32,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<Box<str>>) -> Self {
        Self { code, message: message.into(), space: "".into(), target_code: 0 }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if self.target_code != 0 {
            write!(f, " ({} {})", self.space, self.target_code)?;
        }
        Ok(())
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::new(status.code(), status.message())
    }
}

/// The settings of a connection do not make sense. Failures to reach a target are not errors: the client goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not of the form host:port.
    #[error("address {0:?} is not HOST:PORT")]
    Address(String),
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A request that was answered with an error, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection at the moment.
    #[error("not connected")]
    NotConnected,
    /// Only the primary may do this.
    #[error("not primary but {0:?}")]
    NotPrimary(Standing),
    /// The target said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection went before the answer came: it may have happened or not.
    #[error("no answer: {0}")]
    Unanswered(Refusal),
}

impl From<Status> for RequestError {
    fn from(status: Status) -> Self {
        if may_have_happened(&status) { Self::Unanswered(status.into()) } else { Self::Refused(status.into()) }
    }
}

impl From<Malformed> for RequestError {
    fn from(malformed: Malformed) -> Self {
        Self::Unanswered(Refusal::new(Code::Internal, malformed.to_string()))
    }
}

/// Whether a request that ended so may have had its effect. Anything a broken connection, a time limit or a crashed
/// target can end in has to count as "may".
pub(crate) fn may_have_happened(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(status.code(), Aborted | Cancelled | DataLoss | DeadlineExceeded | Internal | Unavailable | Unknown)
}

/// The pipeline could not be brought up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError {
    /// The compiled program is not what this target takes.
    #[error("device config: {0}")]
    Pack(#[from] crate::pipeline::PackError),
    /// While asking the target what it runs.
    #[error("reading the running pipeline: {0}")]
    Get(RequestError),
    /// While giving it another.
    #[error("setting the pipeline: {0}")]
    Set(RequestError),
}

/// A packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Only the primary may send packets.
    #[error("not primary but {0:?}")]
    NotPrimary(Standing),
    /// The stream takes no more for now.
    #[error("too many packets wait for the target")]
    Full,
}

/// An operation was not accepted for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many updates as allowed wait for their answer: take some of those first.
    #[error("as many updates as allowed are under way")]
    Full,
    /// An operation has no update, or more than a batch may have.
    #[error("an operation of {updates} updates does not fit a batch of {most}")]
    Size {
        /// Updates in the operation.
        updates: usize,
        /// Most updates of a batch.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_refusals_had_no_effect_and_all_others_may_have() {
        let clear = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Unauthenticated,
        ];
        for code in (0..17).map(Code::from).filter(|code| *code != Code::Ok) {
            assert_eq!(may_have_happened(&Status::new(code, "")), !clear.contains(&code), "{code:?}");
        }
    }

    #[test]
    fn refusals_read_well() {
        let mut refusal = Refusal::new(Code::ResourceExhausted, "table full");
        assert_eq!(refusal.to_string(), "ResourceExhausted: table full");
        (refusal.space, refusal.target_code) = ("pi".into(), 500);
        assert_eq!(refusal.to_string(), "ResourceExhausted: table full (pi 500)");
    }
}
