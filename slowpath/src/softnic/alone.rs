//! `carom softnic`: the switch in a process of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dpdk::swx::Wire;
use dpdk::{Eal, Mempool, MempoolConfig, RxQueue, TxQueue};
use softnic::server::{Config, Tls, packet_port};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Parts, Softnic, Watch, listen};
use crate::assemble::{self, AssembleError, DESCRIPTORS, MEMPOOL_CACHE};
use crate::config::softnic::{Port, ServerTls};
use crate::config::{self, SoftnicConfig};
use crate::run::{RunError, Signals};
use crate::target::TlsFileError;
use crate::{api, logging};

/// Runs a switch until SIGTERM or SIGINT.
///
/// # Errors
///
/// The file is refused, its devices or addresses are not to be had, or the switch ended by itself.
pub fn run_alone(path: &Path) -> Result<(), RunError> {
    let config = config::load_softnic(path)?;
    logging::init(&config.log)?;
    config.warnings().for_each(|warning| tracing::warn!("{warning}"));
    let system = |what| move |source| RunError::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("start the control thread"))?.block_on(async {
        // Before anything is set up, so that a signal during the start also ends in a clean stop.
        let signals = Signals::new().map_err(system("handle signals"))?;
        serve(&config, signals).await
    })
}

async fn serve(config: &SoftnicConfig, signals: Signals) -> Result<(), RunError> {
    let listener = listen(config.p4runtime.listen.0)?;
    let metrics = match config.metrics.address() {
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.map_err(|source| RunError::Metrics { address, source })?)
        }
        None => None,
    };
    let tls =
        config.p4runtime.tls.as_ref().map(read).transpose().map_err(|error| AssembleError::Target(error.into()))?;
    let devices = config.devices();
    let eal = Eal::init(assemble::eal_config(&config.dpdk, &devices)).map_err(AssembleError::Eal)?;
    let mempool = Mempool::new(&eal, "softnic", mempool_config(config)).map_err(AssembleError::Mempool)?;
    let mut ports = assemble::open_ports(&devices, eal, &mempool, 1)?;
    let queues = assemble::start_ports(&devices, &mut ports, 1)?;
    let queues = queues.into_iter().flat_map(|(receive, transmit)| receive.into_iter().zip(transmit));
    let mut wires: Vec<_> = config.port.iter().zip(queues).map(wire).collect();
    let packets = config.p4runtime.packet_port.map(|number| {
        let (wire, port) = packet_port(mempool);
        wires.push((number.into(), wire));
        port
    });
    let server = Config {
        device_id: config.p4runtime.device_id,
        most_controllers: config.p4runtime.controllers as usize,
        sizes: config.table.iter().map(|table| (table.name.clone(), table.size)).collect(),
        code: super::code(config.engine.code)?,
    };
    let cpu = config.engine.cpu.map(usize::from);
    let softnic = Softnic::start(eal, Parts { wires, listener, server, tls, packets, cpu })?;
    let names = config.p4runtime.packet_port.map(|number| (number.into(), "controllers".to_owned()));
    let watch = softnic.watch(names.into_iter().collect());
    tracing::info!(ports = ports.len(), p4runtime = %config.p4runtime.listen, memory = %eal.memory(), "running");
    let ended = attend(&softnic, &watch, metrics, signals).await;
    tracing::info!("stopping");
    report(&watch).await;
    softnic.stop();
    // A device is stopped when nobody uses its queues any more.
    drop(ports);
    tracing::info!("stopped");
    ended
}

/// A port's queues as the engine takes them.
fn wire((port, queues): (&Port, (RxQueue, TxQueue))) -> (u32, Box<dyn Wire>) {
    (port.number.into(), Box::new(queues))
}

/// Serves the metrics, when they are on, until a signal comes or the switch is no more.
async fn attend(
    softnic: &Softnic,
    watch: &Watch,
    metrics: Option<TcpListener>,
    mut signals: Signals,
) -> Result<(), RunError> {
    let (close, closed) = oneshot::channel::<()>();
    let served = metrics.map(|listener| {
        tokio::spawn(api::serve_softnic_metrics(watch.clone(), listener, async move { _ = closed.await }))
    });
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let ended = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Ok(()),
            _ = signals.interrupt.recv() => break Ok(()),
            // There is nothing to read again, and no reason to end.
            _ = signals.hangup.recv() => tracing::warn!("SIGHUP: the config is read at start only"),
            _ = look.tick() => if softnic.has_ended() {
                break Err(RunError::SoftnicEnded);
            }
        }
    };
    drop(close);
    if let Some(served) = served
        && let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(1), served).await
    {
        tracing::warn!("metrics: {error}");
    }
    ended
}

/// Tells what passed, and what was dropped.
async fn report(watch: &Watch) {
    let Some(traffic) = watch.traffic().await else { return };
    for port in &traffic.ports {
        tracing::info!(port = port.port, received = port.rx_packets, sent = port.tx_packets, "packets");
    }
    for drop in traffic.drops().into_iter().filter(|drop| drop.total > 0) {
        tracing::warn!(port = drop.port, packets = drop.total, reason = drop.reason, "dropped: {}", drop.text);
    }
}

/// As many buffers as all queues may hold at once, and what is on its way through the program.
fn mempool_config(config: &SoftnicConfig) -> MempoolConfig {
    let needed = config.port.len() * 2 * usize::from(DESCRIPTORS) + 2 * MEMPOOL_CACHE as usize + 1024;
    let mtu = config.port.iter().map(|port| port.mtu).max().unwrap_or(1500);
    assemble::mempool(config.dpdk.mbufs, needed, mtu)
}

fn read(files: &ServerTls) -> Result<Tls, TlsFileError> {
    let file = |key, path: &Path| fs::read(path).map_err(|source| TlsFileError { key, path: path.to_owned(), source });
    Ok(Tls {
        certificate: file("p4runtime.tls.cert", &files.cert)?,
        key: file("p4runtime.tls.key", &files.key)?,
        client_authority: files.client_ca.as_ref().map(|path| file("p4runtime.tls.client_ca", path)).transpose()?,
    })
}
