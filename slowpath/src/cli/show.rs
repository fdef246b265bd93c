//! The show commands: ask, print, and ask again.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::args::{SessionsOptions, Show, ShowOptions};
use super::format::Numbers;
use super::view::{self, Look, View};
use crate::api::client::{Client, ClientError};
use crate::api::model::*;

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            // A filter or cursor that makes no sense came from the command line.
            ClientError::Refused { status: 400, .. } => Failure::Usage(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

/// Runs one of the commands that talk to a running balancer.
pub fn run(show: &Show) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("cannot start: {e}")))?;
    runtime.block_on(command(show))
}

async fn command(show: &Show) -> Result<(), Failure> {
    match show {
        Show::Status(o) => get::<Status>(o, "/v1/status", Status::render).await,
        Show::Services(o) => get::<Services>(o, "/v1/services", Services::render).await,
        Show::Servers(o) => get::<Servers>(o, "/v1/servers", Servers::render).await,
        Show::Workers(o) => get::<Workers>(o, "/v1/workers", Workers::render).await,
        Show::Neighbors(o) => get::<Neighbors>(o, "/v1/neighbors", Neighbors::render).await,
        Show::Interfaces(o) => get::<Interfaces>(o, "/v1/interfaces", Interfaces::render).await,
        Show::Targets(o) => get::<Targets>(o, "/v1/targets", Targets::render).await,
        Show::Sessions(o) if o.count => count(o).await,
        Show::Sessions(o) => {
            let client = Client::new(&o.show.socket.socket);
            repeat(&o.show, async || sessions(&client, o).await, Sessions::render).await
        }
        Show::Ports(o) => {
            let render = |now: &Ports, before: Option<&Ports>, look| view::ports(now, before, look, o.by_worker);
            get(&o.show, "/v1/ports", render).await
        }
        Show::Drops(o) => {
            let render = |now: &Drops, before: Option<&Drops>, look| view::drops(now, before, look, o.all);
            get(&o.show, "/v1/drops", render).await
        }
        Show::Reload(o) => {
            let reloaded: Reloaded = Client::new(&o.socket.socket).post("/v1/reload").await?;
            let text =
                if o.json { json(&reloaded, false)? } else { format!("generation {} in force\n", reloaded.generation) };
            print(&text)
        }
    }
}

/// Gets one document and shows it, once or again and again.
async fn get<T: View>(
    options: &ShowOptions,
    path: &str,
    render: impl Fn(&T, Option<&T>, Look) -> String,
) -> Result<(), Failure> {
    let client = Client::new(&options.socket.socket);
    repeat(options, async || client.get(path).await, render).await
}

async fn count(options: &SessionsOptions) -> Result<(), Failure> {
    let client = Client::new(&options.show.socket.socket);
    let query = query(options);
    let ask = async || client.query("/v1/sessions/count", &query).await;
    repeat(&options.show, ask, SessionCount::render).await
}

fn query(options: &SessionsOptions) -> SessionsQuery {
    SessionsQuery {
        client: options.client.clone(),
        service: options.service.clone(),
        server: options.server.clone(),
        state: options.state.clone(),
        offload: options.offload.clone(),
        limit: None,
        cursor: None,
    }
}

/// The page the command line names, or all pages in one.
async fn sessions(client: &Client, options: &SessionsOptions) -> Result<Sessions, ClientError> {
    let limit = if options.all { crate::api::query::MAX_LIMIT } else { options.limit as usize };
    let mut query = SessionsQuery { limit: Some(limit.to_string()), cursor: options.cursor.clone(), ..query(options) };
    let mut page: Sessions = client.query("/v1/sessions", &query).await?;
    for _ in 1..options.page {
        let Some(next) = page.next.take() else {
            page.sessions.clear();
            return Ok(page);
        };
        query.cursor = Some(next);
        page = client.query("/v1/sessions", &query).await?;
    }
    while options.all && page.next.is_some() {
        query.cursor = page.next.take();
        let more: Sessions = client.query("/v1/sessions", &query).await?;
        page.sessions.extend(more.sessions);
        page.next = more.next;
    }
    Ok(page)
}

/// Asks and prints: once, or every `--watch` seconds until the output is closed or the daemon is gone.
async fn repeat<T: Serialize + DeserializeOwned>(
    options: &ShowOptions,
    ask: impl AsyncFn() -> Result<T, ClientError>,
    render: impl Fn(&T, Option<&T>, Look) -> String,
) -> Result<(), Failure> {
    let look =
        Look { watch: options.watch.is_some(), numbers: Numbers { exact: options.exact }, width: terminal_width() };
    let Some(seconds) = options.watch else {
        let now = ask().await?;
        return print(&if options.json { json(&now, false)? } else { render(&now, None, look) });
    };
    let redraw = io::stdout().is_terminal() && !options.json;
    let mut interval = tokio::time::interval(Duration::from_secs_f64(seconds));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before: Option<T> = None;
    loop {
        interval.tick().await;
        let now = ask().await?;
        let text = if options.json { json(&now, true)? } else { render(&now, before.as_ref(), look) };
        match (redraw, options.json) {
            // Home, the text, and whatever the last frame left below it cleared: no flicker.
            (true, _) => print(&format!("\x1b[H\x1b[J{text}"))?,
            (false, true) => print(&text)?,
            (false, false) => print(&format!("{text}\n"))?,
        }
        before = Some(now);
    }
}

fn json(value: &impl Serialize, one_line: bool) -> Result<String, Failure> {
    let text = if one_line { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
    text.map(|t| t + "\n").map_err(|e| Failure::Failed(format!("cannot write JSON: {e}")))
}

/// Prints to standard output, at once.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Columns of the terminal, within what the tables are made for.
fn terminal_width() -> u16 {
    terminal_size::terminal_size().map_or(120, |(width, _)| width.0.clamp(80, 200))
}
