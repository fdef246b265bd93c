//! The admin API: HTTP and JSON on a Unix socket, and Prometheus text on an optional TCP address.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`model::Status`] |
//! | `GET /v1/services` | [`model::Services`] |
//! | `GET /v1/servers` | [`model::Servers`] |
//! | `GET /v1/sessions?client=&service=&server=&state=&offload=&limit=&cursor=` | [`model::Sessions`] |
//! | `GET /v1/sessions/count?…` | [`model::SessionCount`] |
//! | `GET /v1/ports` | [`model::Ports`] |
//! | `GET /v1/drops` | [`model::Drops`] |
//! | `GET /v1/workers` | [`model::Workers`] |
//! | `GET /v1/neighbors` | [`model::Neighbors`] |
//! | `GET /v1/interfaces` | [`model::Interfaces`] |
//! | `GET /v1/targets` | [`model::Targets`] |
//! | `GET /metrics` | Prometheus text |
//! | `POST /v1/reload` | [`model::Reloaded`] |
//!
//! A refusal is a [`model::Problem`] with a fitting status: 400 a query that makes no sense, 404 and 405 as usual, 422 a
//! config that cannot be put in force, 503 a worker that did not answer or an offload manager that has ended. Every answer
//! is made from counters the workers keep anyway, or from messages they and the offload manager answer between their other
//! work: nothing here stops a worker.

pub mod client;
pub mod error;
pub mod metrics;
pub mod model;
pub mod query;
mod socket;
mod source;
mod view;

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use fullnat::offload;

pub use socket::{AdminSocket, BindError};
pub use source::{ForwardedOf, Source, TargetState};

use crate::softnic;
use error::ApiError;
use model::*;

/// Where the admin socket is unless the config or the command line says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/carom/admin.sock";

/// Answers on the admin socket until `shutdown` completes and the requests under way are answered. The socket is removed
/// when this returns.
pub async fn serve_admin<S: Source>(
    source: Arc<S>,
    socket: AdminSocket,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(socket.listener()?)?;
    axum::serve(listener, admin_router(source)).with_graceful_shutdown(shutdown).await
}

/// Answers `GET /metrics` on a TCP listener until `shutdown` completes.
pub async fn serve_metrics<S: Source>(
    source: Arc<S>,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, metrics_router(source)).with_graceful_shutdown(shutdown).await
}

/// Answers `GET /metrics` for a softnic in a process of its own, until `shutdown` completes.
pub async fn serve_softnic_metrics(
    watch: softnic::Watch,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new().route("/metrics", get(softnic_prometheus)).with_state(watch);
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

/// All routes of the admin socket.
pub fn admin_router<S: Source>(source: Arc<S>) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(s): State<Arc<S>>| Json(view::status(&*s, &s.target().await))))
        .route("/v1/services", get(async |State(s): State<Arc<S>>| Json(view::services(&*s))))
        .route("/v1/servers", get(async |State(s): State<Arc<S>>| Json(view::servers(&*s))))
        .route("/v1/sessions", get(sessions::<S>))
        .route("/v1/sessions/count", get(count_sessions::<S>))
        .route("/v1/ports", get(ports::<S>))
        .route("/v1/drops", get(drops::<S>))
        .route("/v1/workers", get(async |State(s): State<Arc<S>>| Json(view::workers(&*s))))
        .route("/v1/neighbors", get(async |State(s): State<Arc<S>>| Json(view::neighbors(&*s))))
        .route("/v1/interfaces", get(async |State(s): State<Arc<S>>| Json(view::interfaces(&*s))))
        .route("/v1/targets", get(targets::<S>))
        .route("/v1/reload", post(reload::<S>))
        .route("/metrics", get(prometheus::<S>))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .with_state(source)
}

/// The one route of the metrics address. It shows counters only: no session, nothing that changes anything.
pub fn metrics_router<S: Source>(source: Arc<S>) -> Router {
    Router::new().route("/metrics", get(prometheus::<S>)).with_state(source)
}

type SessionsArgs = Result<Query<SessionsQuery>, QueryRejection>;

fn accepted(args: SessionsArgs) -> Result<SessionsQuery, ApiError> {
    match args {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(ApiError::bad(
            format!("query not understood: {}", innermost(&rejection)),
            "it may have client, service, server, state, offload, limit and cursor, each once",
        )),
    }
}

/// The text of the last cause: the outer ones only say that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

async fn sessions<S: Source>(State(source): State<Arc<S>>, args: SessionsArgs) -> Result<Json<Sessions>, ApiError> {
    let query = accepted(args)?;
    let filter = query::filter(&query, &source.plan())?;
    let limit = query::limit(&query)?;
    let page = source.sessions(filter, query.cursor.as_deref(), limit).await?;
    let with_target = page.sessions.iter().filter(|s| s.view.offload != offload::State::None);
    let forwarded = source.forwarded(with_target.map(|s| (s.worker, s.view.place)).collect()).await;
    Ok(Json(view::sessions(&*source, page, &forwarded)))
}

async fn count_sessions<S: Source>(
    State(source): State<Arc<S>>,
    args: SessionsArgs,
) -> Result<Json<SessionCount>, ApiError> {
    let query = accepted(args)?;
    if query.limit.is_some() || query.cursor.is_some() {
        return Err(ApiError::bad("a count has neither limit nor cursor", "leave them out"));
    }
    let filter = query::filter(&query, &source.plan())?;
    if query == SessionsQuery::default() {
        let count = view::totals(&*source).sessions();
        return Ok(Json(SessionCount { uptime_ms: view::uptime_ms(&*source), count }));
    }
    let mut count = 0;
    let mut cursor: Option<String> = None;
    loop {
        let page = source.sessions(filter.clone(), cursor.as_deref(), query::MAX_LIMIT).await?;
        count += page.sessions.len() as u64;
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(Json(SessionCount { uptime_ms: view::uptime_ms(&*source), count })),
        }
    }
}

async fn ports<S: Source>(State(source): State<Arc<S>>) -> Result<Json<Ports>, ApiError> {
    let records = source.ports().await?;
    Ok(Json(view::ports(&*source, &records)))
}

async fn drops<S: Source>(State(source): State<Arc<S>>) -> Json<Drops> {
    Json(view::drops(&*source, &source.target().await, source.softnic().await.as_ref()))
}

async fn targets<S: Source>(State(source): State<Arc<S>>) -> Result<Json<Targets>, ApiError> {
    let target = source.target().await.transpose()?;
    let ports = source.softnic().await.map(|traffic| traffic.ports).unwrap_or_default();
    Ok(Json(Targets { uptime_ms: view::uptime_ms(&*source), targets: target.into_iter().collect(), ports }))
}

async fn reload<S: Source>(State(source): State<Arc<S>>) -> Result<Json<Reloaded>, ApiError> {
    source.reload().await?;
    Ok(Json(Reloaded { generation: source.plan().generation }))
}

async fn prometheus<S: Source>(State(source): State<Arc<S>>) -> impl IntoResponse {
    let (target, traffic) = (source.target().await, source.softnic().await);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&*source, &target, traffic.as_ref()))
}

async fn softnic_prometheus(State(watch): State<softnic::Watch>) -> impl IntoResponse {
    match watch.traffic().await {
        Some(traffic) => {
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::softnic_text(&traffic)).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the switch has ended\n").into_response(),
    }
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!("no such path: {}", uri.path()),
        "the paths are /v1/status, services, servers, sessions, ports, drops, workers, neighbors, interfaces, targets, reload",
    )
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let mend = if uri.path() == "/v1/reload" { "use POST" } else { "use GET" };
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for {}", uri.path()), mend)
}
