//! The life of the daemon: from the config file to a clean stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::assemble::{self, AssembleError, Assembled, Offload};
use crate::config::{self, Config, Refused};
use crate::daemon::{Daemon, Reloading, Settled};
use crate::softnic::{self, Softnic};
use crate::worker::{IdlePolicy, Sink, Source, Worker};
use crate::{api, logging, offload};

/// Why the daemon did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config file is refused; its text is whole lines that name key and line.
    #[error("{0}")]
    Config(#[from] Refused),
    /// Devices, memory or workers could not be set up.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// Logging could not start.
    #[error(transparent)]
    Log(#[from] logging::LogError),
    /// The switch inside did not start.
    #[error(transparent)]
    Softnic(#[from] softnic::StartError),
    /// The offload manager did not start.
    #[error(transparent)]
    Offload(#[from] offload::StartError),
    /// The admin socket could not be made.
    #[error(transparent)]
    Admin(#[from] api::BindError),
    /// The metrics address could not be bound.
    #[error("cannot listen on metrics.listen = \"{address}\": {source}; give a free address of this host")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The operating system refused a thread, a signal handler or the like.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A worker ended by itself, which it never should.
    #[error("a worker thread ended unexpectedly; the balancer stops. Please report this with the log")]
    WorkerEnded,
    /// softnic ended by itself, which it never should.
    #[error("softnic ended unexpectedly; everything stops. Please report this with the log")]
    SoftnicEnded,
}

/// Runs the balancer until SIGTERM or SIGINT.
pub fn run(path: &Path) -> Result<(), RunError> {
    let config = config::load(path)?;
    logging::init(&config.log)?;
    config.warnings().for_each(|warning| tracing::warn!("{warning}"));
    let system = |what| move |source| RunError::System { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("carom-control")
        .enable_all()
        .build()
        .map_err(system("start the control threads"))?;
    runtime.block_on(async {
        // Before anything is set up, so that a signal during the start also ends in a clean stop.
        let signals = Signals::new().map_err(system("handle signals"))?;
        let assembled = assemble::assemble(&config)?;
        serve(path, config, assembled, signals).await
    })
}

/// Runs workers and admin API until it is time to stop, then stops the workers and gives back what they had.
async fn serve(path: &Path, config: Config, assembled: Assembled, signals: Signals) -> Result<(), RunError> {
    let eal = assembled.eal;
    let (memory, tables) = (eal.memory(), dpdk::LargePages::report());
    let stop = Arc::new(AtomicBool::new(false));
    let counters = assembled.workers.iter().map(|worker| Arc::clone(&worker.counters)).collect();
    let cpus = config.workers.cpus.clone();
    let idle = idle_policy(&config);
    let admin = config.admin.socket.clone();
    let metrics = config.metrics.address();
    let softnic = assembled.softnic.map(|parts| Softnic::start(eal, parts)).transpose()?;
    let offload = match assembled.offload {
        Some(Offload { settings, rings }) => {
            // Should it fail, a runtime is dropped, which may block.
            let start =
                || offload::start(settings, Arc::clone(&assembled.plan), Arc::clone(&assembled.next_hops), rings);
            Some(tokio::task::block_in_place(start)?)
        }
        None => None,
    };
    let daemon = Arc::new(Daemon {
        settled: Settled {
            config_path: path.to_owned(),
            hugepages: memory.hugepages,
            memory_bytes: memory.total,
            tables_hugepages: tables.huge > 0,
            tables_bytes: tables.large as u64,
            session_capacity: assembled.capacity,
        },
        started: Instant::now(),
        plan: ArcSwap::new(assembled.plan),
        counters,
        next_hops: assembled.next_hops,
        mempool: assembled.mempool,
        softnic: softnic.as_ref().map(|softnic| softnic.watch(port_names(&config))),
        ports: assembled.ports,
        traffic: assembled.traffic,
        links: assembled.links.into_iter().map(Mutex::new).collect(),
        offload: offload.clone(),
        reloading: Mutex::new(Reloading {
            config,
            compiler: assembled.compiler,
            pins: assembled.pins,
            macs: assembled.macs,
        }),
    });
    let doors = Doors::open(&daemon, &admin, metrics).await?;
    let mut threads = Vec::new();
    for (i, worker) in assembled.workers.into_iter().enumerate() {
        let cpu = cpus.get(i).map(|&cpu| usize::from(cpu));
        let spawned = spawn(eal, i, cpu, worker, Arc::clone(&stop), idle);
        threads.push(spawned.map_err(|source| RunError::System { what: "start a worker", source })?);
    }
    tracing::info!(workers = threads.len(), socket = %admin.display(), %memory, %tables, "running");
    let ended = attend(&daemon, signals, &threads, softnic.as_ref()).await;
    tracing::info!("stopping");
    stop.store(true, Ordering::Relaxed);
    let panicked = threads.into_iter().map(thread::JoinHandle::join).filter(Result::is_err).count();
    if let Some(offload) = offload {
        offload.stop().await;
    }
    if let Some(softnic) = softnic {
        tokio::task::block_in_place(|| softnic.stop());
    }
    doors.close().await;
    tracing::info!("stopped");
    if panicked > 0 { Err(RunError::WorkerEnded) } else { ended }
}

/// What the ports of the switch inside are called.
fn port_names(config: &Config) -> Vec<(u32, String)> {
    let Some(switch) = config.switch() else { return Vec::new() };
    let interfaces = switch.ports.iter().zip(&config.interface);
    let named = interfaces.map(|(port, interface)| (u32::from(port.port), interface.name.clone()));
    named.chain([(switch.link_port.into(), "workers".to_owned())]).collect()
}

/// Starts a worker's thread.
fn spawn(
    eal: dpdk::Eal,
    number: usize,
    cpu: Option<usize>,
    mut worker: Worker<Source, Sink>,
    stop: Arc<AtomicBool>,
    idle: IdlePolicy,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(format!("carom-worker-{number}")).spawn(move || {
        // Without an lcore number a worker runs all the same, only its mempool has no cache.
        let registered = dpdk::register_thread(&eal, cpu);
        if let Err(error) = &registered {
            tracing::warn!(worker = number, "{error}");
        }
        worker.run(&stop, idle);
        // Packets and queues go back while the thread is still an lcore.
        drop(worker);
        drop(registered);
    })
}

/// Waits for the end: a signal, or a worker or a switch that is no more. Reloads in between.
async fn attend(
    daemon: &Arc<Daemon>,
    mut signals: Signals,
    threads: &[thread::JoinHandle<()>],
    softnic: Option<&Softnic>,
) -> Result<(), RunError> {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let mut filled = daemon.offload.as_ref().map(offload::Handle::filled);
    loop {
        tokio::select! {
            Ok(()) = changed(&mut filled) => daemon.announce().await,
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => {
                if let Err(error) = daemon.reload().await {
                    tracing::error!("reload refused, the old config stays in force: {error}");
                }
            }
            _ = look.tick() => {
                if threads.iter().any(thread::JoinHandle::is_finished) {
                    return Err(RunError::WorkerEnded);
                }
                if softnic.is_some_and(Softnic::has_ended) {
                    return Err(RunError::SoftnicEnded);
                }
            }
        }
    }
}

/// Waits for a change; for ever when there is nothing that could.
async fn changed(watched: &mut Option<watch::Receiver<u64>>) -> Result<(), watch::error::RecvError> {
    match watched {
        Some(watched) => watched.changed().await,
        None => std::future::pending().await,
    }
}

/// The admin socket and the metrics address.
struct Doors {
    close: watch::Sender<bool>,
    served: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Doors {
    async fn open(daemon: &Arc<Daemon>, admin: &Path, metrics: Option<SocketAddr>) -> Result<Self, RunError> {
        let (close, closed) = watch::channel(false);
        let until = |mut closed: watch::Receiver<bool>| async move {
            // An error means that the sender is gone, which is also the end.
            let _ = closed.wait_for(|closed| *closed).await;
        };
        let socket = api::AdminSocket::bind(admin)?;
        let mut served = vec![tokio::spawn(api::serve_admin(Arc::clone(daemon), socket, until(closed.clone())))];
        if let Some(address) = metrics {
            let listener = tokio::net::TcpListener::bind(address).await;
            let listener = listener.map_err(|source| RunError::Metrics { address, source })?;
            served.push(tokio::spawn(api::serve_metrics(Arc::clone(daemon), listener, until(closed))));
        }
        Ok(Doors { close, served })
    }

    /// Answers the requests under way, for a second at most, and removes the socket.
    async fn close(self) {
        let _ = self.close.send(true);
        for served in self.served {
            if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(1), served).await {
                tracing::warn!("admin API: {error}");
            }
        }
    }
}

pub(crate) struct Signals {
    pub(crate) terminate: Signal,
    pub(crate) interrupt: Signal,
    pub(crate) hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

fn idle_policy(config: &Config) -> IdlePolicy {
    match config.workers.idle {
        config::types::Idle::Busy => IdlePolicy::Busy,
        config::types::Idle::Backoff => {
            let backoff = &config.workers.backoff;
            IdlePolicy::Backoff {
                yield_after: backoff.pauses,
                sleep_after: backoff.pauses.saturating_add(backoff.yields),
                sleep: backoff.sleep.into(),
            }
        }
    }
}
