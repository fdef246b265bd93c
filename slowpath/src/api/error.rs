//! Refusals of the API: a status code and a [`Problem`].

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::model::Problem;
use crate::daemon::{ReloadError, SessionsError, WorkerSilent};
use crate::offload;

/// A request that was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong and what mends it.
    pub problem: Problem,
}

impl ApiError {
    /// An error with this status.
    pub fn new(status: StatusCode, error: impl Into<String>, mend: impl Into<String>) -> Self {
        ApiError { status, problem: Problem { error: error.into(), mend: mend.into() } }
    }

    /// 400: the request itself is wrong.
    pub fn bad(error: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, mend)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

impl From<WorkerSilent> for ApiError {
    fn from(silent: WorkerSilent) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            silent.to_string(),
            "look at `carom workers --watch`: a worker whose polls do not grow is stuck; otherwise try again",
        )
    }
}

impl From<SessionsError> for ApiError {
    fn from(error: SessionsError) -> Self {
        match error {
            SessionsError::BadCursor(_) => {
                Self::bad(error.to_string(), "take `next` of the page before, or begin without a cursor")
            }
            SessionsError::WorkerSilent(silent) => silent.into(),
        }
    }
}

impl From<offload::Gone> for ApiError {
    fn from(gone: offload::Gone) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            gone.to_string(),
            "look at the log for the reason, and restart carom; the slow path forwards all sessions it can still reach",
        )
    }
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("reload refused, the old config stays in force: {error}"),
            "mend the config file, prove it with `carom check -c FILE`, and reload again",
        )
    }
}
