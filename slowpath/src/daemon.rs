//! The running balancer as control sees it: plan, counters of the workers, questions to them, and reloads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use fullnat::counters::Counters;
use fullnat::forward::Prepared;
use fullnat::id::WorkerId;
use fullnat::neighbor::{Neighbors, Pins};
use fullnat::plan::Plan;
use fullnat::wire::Mac;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::config::{self, Compiler, Config};
use crate::control::{Link, PortRecord, SessionFilter, SessionRecord};
use crate::offload;
use crate::softnic;
use crate::target;
use crate::worker::switch::PortTraffic;

/// A page of sessions.
#[derive(Debug)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionRecord>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// Counters of an interface as the driver gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct InterfaceStats {
    /// Link is up.
    pub link_up: bool,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets the device had no descriptor for.
    pub rx_missed: u64,
    /// Packets with receive errors.
    pub rx_errors: u64,
    /// Receive failures for want of a buffer.
    pub rx_no_buffer: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets with transmit errors.
    pub tx_errors: u64,
}

/// The link to the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkRecord {
    /// The device's own MAC address, which no packet carries.
    pub mac: Mac,
    /// The largest packet that is carried, in bytes, tag not counted.
    pub mtu: u16,
    /// The driver's counters, tags counted.
    pub stats: InterfaceStats,
}

/// A neighbour: one next hop.
#[derive(Clone, Debug)]
pub struct NeighborRecord {
    /// Its address.
    pub address: std::net::IpAddr,
    /// Name of the interface it is on.
    pub interface: String,
    /// Its MAC address when known.
    pub mac: Option<Mac>,
    /// State name: `incomplete`, `reachable`, `stale`, `failed`, `static`.
    pub state: &'static str,
}

/// A reload that was refused; the old config stays in force.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReloadError(pub String);

/// A question to a worker that got no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} did not answer within {ms} ms; it may be stuck")]
pub struct WorkerSilent {
    /// The worker.
    pub worker: usize,
    /// How long it was waited for.
    pub ms: u64,
}

impl WorkerSilent {
    fn new(worker: usize) -> Self {
        WorkerSilent { worker, ms: crate::control::PATIENCE.as_millis() as u64 }
    }
}

/// A list of sessions that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The cursor is not one that an earlier page gave.
    #[error("the cursor `{0}` is not one that an earlier page gave")]
    BadCursor(String),
    /// A worker did not answer.
    #[error(transparent)]
    WorkerSilent(#[from] WorkerSilent),
}

/// What was settled when the balancer started and does not change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The config file; a reload reads it again.
    pub config_path: PathBuf,
    /// Memory for packets is on hugepages.
    pub hugepages: bool,
    /// Bytes taken for packets.
    pub memory_bytes: u64,
    /// Sessions and other large tables are on transparent huge pages.
    pub tables_hugepages: bool,
    /// Bytes reserved for large tables.
    pub tables_bytes: u64,
    /// Most sessions at a time, over all workers.
    pub session_capacity: u64,
}

/// The running balancer.
#[derive(Debug)]
pub struct Daemon {
    /// What was settled at the start.
    pub settled: Settled,
    /// When it started.
    pub started: Instant,
    /// The plan in force.
    pub plan: ArcSwap<Plan>,
    /// Counters by worker.
    pub counters: Vec<Arc<Counters>>,
    pub(crate) next_hops: Arc<Neighbors>,
    pub(crate) ports: Vec<dpdk::Port>,
    /// By worker what it counts of the switch's ports; empty when the interfaces are `ports` themselves.
    pub(crate) traffic: Vec<Arc<[PortTraffic]>>,
    /// By worker. Locked by control only, for the time of one question.
    pub(crate) links: Vec<Mutex<Link>>,
    /// The packets' buffers.
    pub(crate) mempool: dpdk::Mempool,
    /// The switch in this process.
    pub(crate) softnic: Option<softnic::Watch>,
    /// The offload manager; none when the slow path works alone.
    pub(crate) offload: Option<offload::Handle>,
    pub(crate) reloading: Mutex<Reloading>,
}

/// What a reload needs of the last one.
#[derive(Debug)]
pub(crate) struct Reloading {
    pub config: Config,
    pub compiler: Compiler,
    pub pins: Pins,
    pub macs: Vec<Mac>,
}

/// What the driver counted.
fn driver_stats(port: &dpdk::Port) -> InterfaceStats {
    let stats = port.stats();
    InterfaceStats {
        link_up: port.link().up,
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        rx_missed: stats.rx_missed,
        rx_errors: stats.rx_errors,
        rx_no_buffer: stats.rx_no_mbuf,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        tx_errors: stats.tx_errors,
    }
}

impl Daemon {
    /// Sessions that pass the filter, from `cursor` on, worker by worker.
    pub async fn sessions(
        &self,
        filter: SessionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<SessionPage, SessionsError> {
        let (first, mut at) = match cursor {
            None => (0, 0),
            Some(text) => {
                let bad = || SessionsError::BadCursor(text.to_owned());
                let (worker, at) = text.split_once('-').ok_or_else(bad)?;
                (worker.parse::<usize>().map_err(|_| bad())?, at.parse::<u64>().map_err(|_| bad())?)
            }
        };
        let mut sessions = Vec::new();
        for (worker, link) in self.links.iter().enumerate().skip(first) {
            if sessions.len() >= limit {
                return Ok(SessionPage { sessions, next: Some(format!("{worker}-{at}")) });
            }
            let mut link = link.lock().await;
            let left = limit - sessions.len();
            let take = |view| sessions.push(SessionRecord { worker: WorkerId(worker as u8), view });
            let next = link.sessions(filter.clone(), at, left, take).await.map_err(|_| WorkerSilent::new(worker))?;
            if let Some(next) = next {
                return Ok(SessionPage { sessions, next: Some(format!("{worker}-{next}")) });
            }
            at = 0;
        }
        Ok(SessionPage { sessions, next: None })
    }

    /// Use of local ports, one record per worker, local address and real server.
    pub async fn ports(&self) -> Result<Vec<PortRecord>, WorkerSilent> {
        let mut records = Vec::new();
        for (worker, link) in self.links.iter().enumerate() {
            let take = |view| records.push(PortRecord { worker: WorkerId(worker as u8), view });
            link.lock().await.ports(take).await.map_err(|_| WorkerSilent::new(worker))?;
        }
        Ok(records)
    }

    /// Counters by interface: the driver's, or behind a switch what the workers had from its ports.
    pub fn interface_stats(&self) -> Vec<InterfaceStats> {
        let Some(first) = self.traffic.first() else { return self.ports.iter().map(driver_stats).collect() };
        let link_up = self.ports.iter().all(|port| port.link().up);
        let sum = |interface: usize| {
            let mut stats = InterfaceStats { link_up, ..InterfaceStats::default() };
            for traffic in self.traffic.iter().filter_map(|worker| worker.get(interface)) {
                stats.rx_packets += traffic.rx_packets.get();
                stats.rx_bytes += traffic.rx_bytes.get();
                stats.tx_packets += traffic.tx_packets.get();
                stats.tx_bytes += traffic.tx_bytes.get();
            }
            stats
        };
        (0..first.len()).map(sum).collect()
    }

    /// The link to the switch; none when there is no switch.
    pub fn link(&self) -> Option<LinkRecord> {
        let port = self.ports.first().filter(|_| !self.traffic.is_empty())?;
        Some(LinkRecord { mac: Mac(port.info().mac), mtu: port.info().mtu, stats: driver_stats(port) })
    }

    /// The next hops.
    pub fn neighbors(&self) -> Vec<NeighborRecord> {
        let plan = self.plan.load();
        let record = |neighbor: fullnat::neighbor::Neighbor| NeighborRecord {
            address: neighbor.addr,
            interface: plan.interface(neighbor.iface).name.clone(),
            mac: neighbor.mac,
            state: neighbor.state.name(),
        };
        self.next_hops.iter().map(record).collect()
    }

    /// Announces all addresses again.
    pub async fn announce(&self) {
        // Not between the two halves of a reload, which puts a plan in force too.
        let _reloading = self.reloading.lock().await;
        let plan = self.plan.load_full();
        for (worker, link) in self.links.iter().enumerate() {
            // With no plan before, every address is new. Otherwise it is the plan in force.
            let prepared = Prepared::new(Arc::clone(&plan), None, WorkerId(worker as u8));
            if link.lock().await.set_plan(prepared, plan.generation).await.is_err() {
                tracing::warn!(worker, "did not confirm that it announces the addresses");
            }
        }
    }

    /// Reads the config file again and puts it in force, or leaves everything as it is.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let error = |e: &dyn std::fmt::Display| ReloadError(e.to_string());
        let mut reloading = self.reloading.lock().await;
        let path = self.settled.config_path.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let config = loaded.map_err(|e| error(&e))?.map_err(|e| error(&e))?;
        reloading.config.check_reload(&config).map_err(|e| error(&e))?;
        // On a copy: should the next step fail, the ids given out here never were.
        let mut compiler = reloading.compiler.clone();
        let plan = Arc::new(compiler.compile(&config, &reloading.macs).map_err(|e| error(&e))?);
        reloading.pins.update(&self.next_hops, needed(&config, &plan)).map_err(|_| {
            ReloadError(format!(
                "the next-hop table has no room for the gateways and real servers of the new config; raise \
                 limits.nexthops (now {}) and restart",
                self.next_hops.capacity()
            ))
        })?;
        reloading.compiler = compiler;
        let tuning = target::tuning(&config);
        reloading.config = config;
        let old = self.plan.swap(Arc::clone(&plan));
        let mut silent = Vec::new();
        for (worker, link) in self.links.iter().enumerate() {
            let prepared = Prepared::new(Arc::clone(&plan), Some(&old), WorkerId(worker as u8));
            if link.lock().await.set_plan(prepared, old.generation).await.is_err() {
                silent.push(worker);
            }
        }
        if let (Some(offload), Some(tuning)) = (&self.offload, tuning)
            && (offload.set_plan(Arc::clone(&plan)).await.is_err() || offload.tune(tuning).await.is_err())
        {
            return Err(ReloadError("the new config is in force, but the offload manager has ended".into()));
        }
        if silent.is_empty() {
            tracing::info!(generation = plan.generation, "config reloaded");
            return Ok(());
        }
        Err(ReloadError(format!("the new config is in force, but workers {silent:?} have not confirmed it")))
    }
}

/// The next hops that are resolved before traffic needs them: gateways, and real servers on a link of ours; with their
/// MAC address where the config gives it.
pub(crate) fn needed(config: &Config, plan: &Plan) -> Vec<(fullnat::id::IfaceId, std::net::IpAddr, Option<Mac>)> {
    let fixed = config.interface.iter().enumerate().flat_map(|(i, interface)| {
        let iface = fullnat::id::IfaceId(i as u8);
        interface.neighbors.iter().map(move |(address, mac)| (iface, address.0, Some(mac.0)))
    });
    let gateways = plan.routes.gateways().map(|(iface, address)| (iface, address, None));
    let servers = plan.servers().filter_map(|s| Some((plan.on_link(s.rip)?, s.rip, None)));
    let mut needed: Vec<_> = fixed.chain(gateways).chain(servers).collect();
    // The fixed ones sort first and win.
    needed.sort_by_key(|&(iface, address, mac)| (iface, address, mac.is_none()));
    needed.dedup_by_key(|&mut (iface, address, _)| (iface, address));
    needed
}
