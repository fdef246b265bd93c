//! A client of the admin API: one request, one connection, one typed answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::model::Problem;

/// How long an answer may take. A worker's part is bounded well below; this is for a daemon that hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a reload may take: new workers' tables are built before it answers.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket, or nobody listens on it.
    #[error(
        "carom is not running: nobody listens on {0}; start it with `carom run -c carom.toml`, or name its socket with --socket"
    )]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("no permission to use {0}; run this with sudo, or as the user carom runs as")]
    Permission(PathBuf),
    /// Connecting or talking failed otherwise.
    #[error("cannot talk to carom on {path}: {source}; is this carom's admin socket?")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What answers is not speaking HTTP, or stopped in the middle.
    #[error("{path} does not answer as carom does ({source}); is this carom's admin socket?")]
    Http {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("carom on {path} did not answer within {}s; look at its log", .after.as_secs())]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The daemon refused.
    #[error("{}; {}", .problem.error, .problem.mend)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What is wrong and what mends it.
        problem: Problem,
    },
    /// The answer is none this version knows.
    #[error(
        "carom on {path} gave an answer this version cannot read ({detail}); use the `carom` command of the daemon's version"
    )]
    Unreadable {
        /// The socket.
        path: PathBuf,
        /// What could not be read.
        detail: String,
    },
}

/// A client of the daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon behind this socket. Nothing is connected yet.
    pub fn new(socket: &Path) -> Self {
        Client { socket: socket.to_owned() }
    }

    /// `GET path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.timed(Method::GET, path, TIMEOUT).await?)
    }

    /// `GET path?query`.
    pub async fn query<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ClientError> {
        let query = serde_urlencoded::to_string(query)
            .map_err(|e| ClientError::Unreadable { path: self.socket.clone(), detail: e.to_string() })?;
        let separator = if query.is_empty() { "" } else { "?" };
        self.get(&format!("{path}{separator}{query}")).await
    }

    /// `POST path` with an empty body.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.timed(Method::POST, path, RELOAD_TIMEOUT).await?)
    }

    async fn timed(&self, method: Method, path: &str, after: Duration) -> Result<(StatusCode, Bytes), ClientError> {
        match tokio::time::timeout(after, self.exchange(method, path)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { path: self.socket.clone(), after }),
        }
    }

    /// One request: the status and the body of its answer.
    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let http = |source| ClientError::Http { path: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.connect_error(e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        // The task ends with the connection, which ends when `sender` and the body are dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "carom")
            .body(Empty::<Bytes>::new())
            .map_err(|e| ClientError::Unreadable { path: self.socket.clone(), detail: e.to_string() })?;
        let answer = sender.send_request(request).await.map_err(http)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(http)?.to_bytes();
        Ok((status, body))
    }

    fn connect_error(&self, error: io::Error) -> ClientError {
        let path = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(path),
            io::ErrorKind::PermissionDenied => ClientError::Permission(path),
            _ => ClientError::Io { path, source: error },
        }
    }

    fn read<T: DeserializeOwned>(&self, (status, body): (StatusCode, Bytes)) -> Result<T, ClientError> {
        let unreadable =
            |e: serde_json::Error| ClientError::Unreadable { path: self.socket.clone(), detail: e.to_string() };
        if status.is_success() {
            serde_json::from_slice(&body).map_err(unreadable)
        } else {
            let problem = serde_json::from_slice(&body).map_err(unreadable)?;
            Err(ClientError::Refused { status: status.as_u16(), problem })
        }
    }
}
