//! What control and workers say to each other, over bounded rings. Workers never wait for an answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fullnat::id::{Proto, ServerId, ServiceId, WorkerId};
use fullnat::plan::Plan;
use serde::{Deserialize, Serialize};

/// A message to a worker.
#[derive(Debug)]
pub enum Command {
    /// Work by this plan from now on. Control keeps the old plan alive until every worker has answered.
    Plan(Arc<Plan>),
    /// Walk over the sessions from `cursor` on and send those that pass the filter, then [`Event::SessionsEnd`].
    Sessions {
        /// What to look for.
        filter: SessionFilter,
        /// Where to begin, from an earlier [`Event::SessionsEnd`]; 0 is the start.
        cursor: u64,
        /// Most sessions to send.
        limit: usize,
    },
    /// Send the use of the local ports, then [`Event::PortsEnd`].
    Ports,
}

/// A message from a worker.
#[derive(Debug)]
pub enum Event {
    /// The plan of this generation is in force on the worker.
    PlanTaken(u64),
    /// A session that passed the filter.
    Session(SessionRecord),
    /// No more sessions to this query. `next` continues where the limit cut; `None` at the end of the table.
    SessionsEnd {
        /// Cursor for the next page.
        next: Option<u64>,
    },
    /// Ports of one local address towards one real server.
    Port(PortRecord),
    /// No more port records.
    PortsEnd,
}

/// Which sessions to list. An absent part matches every session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFilter {
    /// Client address prefix: address and length.
    pub client: Option<(IpAddr, u8)>,
    /// Service slot.
    #[serde(skip)]
    pub service: Option<ServiceId>,
    /// Server slots: one real server of several services has several.
    #[serde(skip)]
    pub servers: Option<Vec<ServerId>>,
    /// State name as printed, e.g. `established`.
    pub state: Option<String>,
}

/// One session as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct SessionRecord {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Transport protocol.
    pub proto: Proto,
    /// State name, e.g. `established`.
    pub state: &'static str,
    /// CIP:cport.
    pub client: SocketAddr,
    /// VIP:vport.
    pub vip: SocketAddr,
    /// LIP:lport.
    pub local: SocketAddr,
    /// RIP:rport.
    pub server: SocketAddr,
    /// The service.
    pub service: ServiceId,
    /// The real server.
    pub server_id: ServerId,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Milliseconds until it ends if no packet comes.
    pub expires_ms: u64,
    /// Packets from the client.
    pub packets_in: u32,
    /// Packets from the real server.
    pub packets_out: u32,
}

/// Local ports of one worker on one local address towards one real server.
#[derive(Clone, Copy, Debug)]
pub struct PortRecord {
    /// The worker.
    pub worker: WorkerId,
    /// Transport protocol.
    pub proto: Proto,
    /// The LIP.
    pub local: IpAddr,
    /// RIP:rport.
    pub server: SocketAddr,
    /// Ports of this worker's share.
    pub total: u32,
    /// Ports that carry a session.
    pub in_use: u32,
    /// Released ports still in quarantine.
    pub quarantined: u32,
    /// Sessions refused because no port was free.
    pub exhausted: u64,
}
