//! Where the API gets what it shows: the running [`Daemon`], or in tests a plan and counters made by hand.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fullnat::counters::Counters;
use fullnat::id::WorkerId;
use fullnat::offload::Place;
use fullnat::plan::Plan;
use hashbrown::HashMap;

use crate::control::{PortRecord, SessionFilter};
use crate::daemon::{
    Daemon, InterfaceStats, LinkRecord, NeighborRecord, ReloadError, SessionPage, SessionsError, Settled, WorkerSilent,
};
use crate::offload;
use crate::softnic;

/// How the offload target stands; none when the slow path works alone.
pub type TargetState = Option<Result<offload::Status, offload::Gone>>;

/// What the target forwarded, by session.
pub type ForwardedOf = HashMap<(WorkerId, Place), offload::Forwarded>;

/// A balancer that can be looked at. None of it may stop a worker or wait for one without a limit.
pub trait Source: Send + Sync + 'static {
    /// What was settled at the start.
    fn settled(&self) -> &Settled;
    /// Time since the start.
    fn uptime(&self) -> Duration;
    /// The plan in force.
    fn plan(&self) -> Arc<Plan>;
    /// Counters by worker.
    fn counters(&self) -> &[Arc<Counters>];
    /// Packet buffers that are free, and those that are not.
    fn buffers(&self) -> (u64, u64);
    /// Counters in the order of [`Plan::interfaces`]: the driver's, or behind a switch the workers' of its ports.
    fn interface_stats(&self) -> Vec<InterfaceStats>;
    /// The link to the switch; none when there is no switch.
    fn link(&self) -> Option<LinkRecord>;
    /// The next hops.
    fn neighbors(&self) -> Vec<NeighborRecord>;
    /// A page of the sessions that pass the filter.
    fn sessions(
        &self,
        filter: SessionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<SessionPage, SessionsError>> + Send;
    /// Use of local ports.
    fn ports(&self) -> impl Future<Output = Result<Vec<PortRecord>, WorkerSilent>> + Send;
    /// How the offload target stands.
    fn target(&self) -> impl Future<Output = TargetState> + Send;
    /// What passed the switch in this process; none when it is elsewhere, or there is none, or it has ended.
    fn softnic(&self) -> impl Future<Output = Option<softnic::Traffic>> + Send;
    /// What the target forwarded of these sessions; those it does not have are left out.
    fn forwarded(&self, sessions: Vec<(WorkerId, Place)>) -> impl Future<Output = ForwardedOf> + Send;
    /// Puts the config file in force again.
    fn reload(&self) -> impl Future<Output = Result<(), ReloadError>> + Send;
}

impl Source for Daemon {
    fn settled(&self) -> &Settled {
        &self.settled
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    fn buffers(&self) -> (u64, u64) {
        (self.mempool.available() as u64, self.mempool.in_use() as u64)
    }

    fn interface_stats(&self) -> Vec<InterfaceStats> {
        Daemon::interface_stats(self)
    }

    fn link(&self) -> Option<LinkRecord> {
        Daemon::link(self)
    }

    fn neighbors(&self) -> Vec<NeighborRecord> {
        Daemon::neighbors(self)
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<SessionPage, SessionsError> {
        Daemon::sessions(self, filter, cursor, limit).await
    }

    async fn ports(&self) -> Result<Vec<PortRecord>, WorkerSilent> {
        Daemon::ports(self).await
    }

    async fn target(&self) -> TargetState {
        match &self.offload {
            Some(handle) => Some(handle.status().await),
            None => None,
        }
    }

    async fn softnic(&self) -> Option<softnic::Traffic> {
        self.softnic.as_ref()?.traffic().await
    }

    async fn forwarded(&self, sessions: Vec<(WorkerId, Place)>) -> ForwardedOf {
        match &self.offload {
            // A manager that has ended knows of no session; `carom targets` tells.
            Some(handle) => handle.counters_of(sessions).await.unwrap_or_default(),
            None => ForwardedOf::default(),
        }
    }

    async fn reload(&self) -> Result<(), ReloadError> {
        Daemon::reload(self).await
    }
}
