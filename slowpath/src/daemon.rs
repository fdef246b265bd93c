//! The running balancer as control sees it: plan, counters of the workers, and questions to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use fullnat::counters::Counters;
use fullnat::plan::Plan;

use crate::control::{PortRecord, SessionFilter, SessionRecord};

/// A page of sessions.
#[derive(Debug)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionRecord>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// Counters of an interface as the driver gives them.
#[derive(Clone, Copy, Debug, Default)]
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

/// A neighbour: one next hop.
#[derive(Clone, Debug)]
pub struct NeighborRecord {
    /// Its address.
    pub address: std::net::IpAddr,
    /// Name of the interface it is on.
    pub interface: String,
    /// Its MAC address when known.
    pub mac: Option<fullnat::wire::Mac>,
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
    /// Memory for packets and sessions is on hugepages.
    pub hugepages: bool,
    /// Bytes taken for packets and sessions.
    pub memory_bytes: u64,
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
}

impl Daemon {
    /// Sessions that pass the filter, from `cursor` on.
    pub async fn sessions(
        &self,
        _filter: SessionFilter,
        _cursor: Option<&str>,
        _limit: usize,
    ) -> Result<SessionPage, SessionsError> {
        Ok(SessionPage { sessions: Vec::new(), next: None })
    }

    /// Use of local ports, one record per worker, local address and real server.
    pub async fn ports(&self) -> Result<Vec<PortRecord>, WorkerSilent> {
        Ok(Vec::new())
    }

    /// Driver counters by interface.
    pub fn interface_stats(&self) -> Vec<InterfaceStats> {
        Vec::new()
    }

    /// The next hops.
    pub fn neighbors(&self) -> Vec<NeighborRecord> {
        Vec::new()
    }

    /// Reads the config file again and puts it in force, or leaves everything as it is.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        Ok(())
    }
}
