//! What a target's answer to a batch means for each of its updates.

use prost::Message;
use tonic::Status;

use crate::Code;
use crate::error::{Refusal, may_have_happened};
use crate::proto::google::rpc;
use crate::proto::p4::v1 as p4;

/// What became of one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target has it.
    Applied,
    /// The target said no, with the code it gave for this update; nothing changed.
    Refused(Box<Refusal>),
    /// There was no answer, or none that makes sense: the target may have applied it or not. Only a read tells.
    Unknown(Box<Refusal>),
    /// It never left: the client is not primary, or not connected.
    NotSent,
}

impl Outcome {
    /// The canonical code of a refusal.
    pub fn refused_with(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }
}

/// The answer to a batch.
pub(crate) enum Answer {
    /// The same for each update.
    All(Outcome),
    /// One for each update.
    Each(Vec<Outcome>),
}

impl Answer {
    pub(crate) fn of(result: Result<(), Status>, updates: usize) -> Self {
        let Err(status) = result else { return Self::All(Outcome::Applied) };
        let details = match rpc::Status::decode(status.details()) {
            Ok(decoded) => decoded.details,
            Err(_) => return Self::nonsense("error details that are no google.rpc.Status"),
        };
        if details.is_empty() {
            let unclear = may_have_happened(&status);
            let refusal = Box::new(Refusal::from(status));
            return Self::All(if unclear { Outcome::Unknown(refusal) } else { Outcome::Refused(refusal) });
        }
        if details.len() != updates {
            return Self::nonsense(&format!("{} results for {updates} updates", details.len()));
        }
        let outcomes: Result<Vec<_>, _> = details.iter().map(|any| p4::Error::decode(&any.value[..])).collect();
        match outcomes {
            Ok(errors) => Self::Each(errors.into_iter().map(outcome).collect()),
            Err(_) => Self::nonsense("a result that is no p4.v1.Error"),
        }
    }

    /// A failed batch of which nobody knows what was applied.
    fn nonsense(what: &str) -> Self {
        Self::All(Outcome::Unknown(Box::new(Refusal::new(Code::Internal, format!("the target sent {what}")))))
    }
}

fn outcome(error: p4::Error) -> Outcome {
    match Code::from(error.canonical_code) {
        Code::Ok => Outcome::Applied,
        code => Outcome::Refused(Box::new(Refusal {
            code,
            message: error.message.into(),
            space: error.space.into(),
            target_code: error.code,
        })),
    }
}

/// The status a target answers a partly failed batch with: one result for each update, those that were applied with code
/// 0.
#[cfg(any(test, feature = "target"))]
pub fn pack_errors(errors: &[p4::Error]) -> Status {
    let details = errors
        .iter()
        .map(|error| prost_types::Any {
            type_url: "type.googleapis.com/p4.v1.Error".into(),
            value: error.encode_to_vec(),
        })
        .collect();
    let message = "some updates failed".to_owned();
    let status = rpc::Status { code: Code::Unknown as i32, message: message.clone(), details };
    Status::with_details(Code::Unknown, message, status.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code) -> p4::Error {
        p4::Error {
            canonical_code: code as i32,
            message: "said so".into(),
            space: "here".into(),
            code: 5,
            details: None,
        }
    }

    fn each(answer: Answer) -> Vec<Outcome> {
        match answer {
            Answer::Each(outcomes) => outcomes,
            Answer::All(outcome) => vec![outcome],
        }
    }

    #[test]
    fn a_partly_failed_batch_tells_of_each_update() {
        let status = pack_errors(&[p4::Error::default(), error(Code::ResourceExhausted), error(Code::AlreadyExists)]);
        let outcomes = each(Answer::of(Err(status), 3));
        assert_eq!(outcomes[0], Outcome::Applied);
        assert_eq!(outcomes[1].refused_with(), Some(Code::ResourceExhausted));
        let Outcome::Refused(refusal) = &outcomes[2] else { panic!("{outcomes:?}") };
        assert_eq!((&*refusal.message, &*refusal.space, refusal.target_code), ("said so", "here", 5));
    }

    #[test]
    fn answers_that_do_not_fit_the_batch_leave_it_unknown() {
        for status in [
            pack_errors(&[p4::Error::default()]),
            Status::with_details(Code::Unknown, "", vec![0xff, 0xff].into()),
            Status::unavailable("gone"),
            Status::unknown("no details"),
        ] {
            assert!(matches!(each(Answer::of(Err(status), 2))[..], [Outcome::Unknown(_)]));
        }
    }

    #[test]
    fn a_refused_request_refuses_all_of_it() {
        let outcomes = each(Answer::of(Err(Status::permission_denied("not primary")), 2));
        assert_eq!(outcomes[0].refused_with(), Some(Code::PermissionDenied));
        assert!(matches!(each(Answer::of(Ok(()), 2))[..], [Outcome::Applied]));
    }
}
