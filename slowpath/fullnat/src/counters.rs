//! Counters a worker keeps and others read: plain additions by their one writer, visible to all.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::{ServerId, ServiceId};
use crate::reason::DropReason;

/// A counter with one writer and any number of readers. An addition is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call it: concurrent additions lose counts (they break nothing else).
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a gauge.
    #[inline(always)]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Packets and bytes of both directions, and sessions, of a service or a real server.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Traffic {
    /// Packets from clients.
    pub packets_in: Counter,
    /// Bytes from clients, Ethernet header included.
    pub bytes_in: Counter,
    /// Packets from real servers.
    pub packets_out: Counter,
    /// Bytes from real servers, Ethernet header included.
    pub bytes_out: Counter,
    /// Sessions begun.
    pub sessions: Counter,
    /// Sessions refused: no server, no port, no room.
    pub refused: Counter,
    /// Half-open sessions given up for new ones.
    pub evicted: Counter,
}

/// Reasons of punts: what the three bits of the tag's priority can tell.
pub const PUNT_REASONS: usize = 8;

/// A worker's dealings with the offload manager.
#[derive(Debug, Default)]
pub struct Offload {
    /// Sessions that are offloaded now (a gauge).
    pub sessions: Counter,
    /// Sessions asked to be installed.
    pub asked: Counter,
    /// Sessions installed.
    pub installed: Counter,
    /// Sessions refused.
    pub refused: Counter,
    /// Sessions made of entries that the target had.
    pub adopted: Counter,
    /// Entries the target had of which no session could be made.
    pub declined: Counter,
    /// Sessions removed from the target, asked or not.
    pub removed: Counter,
    /// Requests that found no room in the ring to the manager; they are made again later.
    pub full: Counter,
    /// Verdicts about a session that has gone or is in another state.
    pub ignored: Counter,
    /// Packets that the target forwarded, from clients.
    pub packets_in: Counter,
    /// Bytes that the target forwarded, from clients.
    pub bytes_in: Counter,
    /// Packets that the target forwarded, from real servers.
    pub packets_out: Counter,
    /// Bytes that the target forwarded, from real servers.
    pub bytes_out: Counter,
}

/// All counters of one worker.
#[derive(Debug)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: Counter,
    /// Bytes received, without FCS.
    pub rx_bytes: Counter,
    /// Packets given to the transmit queues.
    pub tx_packets: Counter,
    /// Bytes given to the transmit queues.
    pub tx_bytes: Counter,
    /// Packets handed to another worker.
    pub handed_over: Counter,
    /// Packets taken from other workers.
    pub taken_over: Counter,
    /// Polls that found at least one packet.
    pub busy_polls: Counter,
    /// Polls that found none.
    pub idle_polls: Counter,
    /// Sessions now (a gauge), IPv4.
    pub sessions_v4: Counter,
    /// Sessions now (a gauge), IPv6.
    pub sessions_v6: Counter,
    /// Half-open sessions now (a gauge).
    pub half_open: Counter,
    /// Half-open sessions given up for new ones.
    pub half_open_evicted: Counter,
    /// TCP handshakes completed.
    pub handshakes: Counter,
    /// Sessions made.
    pub sessions_created: Counter,
    /// Sessions ended: by timeout, by close, or given up while half-open.
    pub sessions_ended: Counter,
    /// Sessions whose client reused its address and port before the old one had gone.
    pub sessions_reopened: Counter,
    /// RST segments that matched no expected sequence number and changed nothing (RFC 5961).
    pub rst_ignored: Counter,
    /// Segments that carried TOA to a real server.
    pub toa_added: Counter,
    /// Client-made TOA options removed.
    pub toa_stripped: Counter,
    /// Segments that should have carried TOA and had no room among the TCP options, or in the buffer.
    pub toa_no_room: Counter,
    /// Segments that should have carried TOA and would have exceeded the MTU.
    pub toa_over_mtu: Counter,
    /// ICMP errors translated and sent on.
    pub icmp_translated: Counter,
    /// Echo requests answered.
    pub echo_answered: Counter,
    /// ARP requests and neighbour solicitations answered.
    pub neighbor_answered: Counter,
    /// ARP packets and neighbour discovery messages that were read and needed no answer.
    pub neighbor_heard: Counter,
    /// ICMP errors sent on the balancer's own account.
    pub icmp_sent: Counter,
    /// RST segments sent to clients.
    pub rst_sent: Counter,
    /// RST and ICMP errors not sent because of their rate limit, or for want of room in the buffer; the packets they would
    /// have answered are among the drops.
    pub replies_limited: Counter,
    /// What became of sessions with the target.
    pub offload: Offload,
    drops: [Counter; DropReason::SLOTS],
    punts: [Counter; PUNT_REASONS],
    /// Of ids that there is no room for.
    unknown: Traffic,
    services: Box<[Traffic]>,
    servers: Box<[Traffic]>,
}

impl Counters {
    /// Zeroed counters with room for so many services and servers; traffic of ids beyond is counted together.
    pub fn new(services: usize, servers: usize) -> Self {
        let traffic = |n: usize| (0..n).map(|_| Traffic::default()).collect();
        Counters {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            handed_over: Counter::default(),
            taken_over: Counter::default(),
            busy_polls: Counter::default(),
            idle_polls: Counter::default(),
            sessions_v4: Counter::default(),
            sessions_v6: Counter::default(),
            half_open: Counter::default(),
            half_open_evicted: Counter::default(),
            handshakes: Counter::default(),
            sessions_created: Counter::default(),
            sessions_ended: Counter::default(),
            sessions_reopened: Counter::default(),
            rst_ignored: Counter::default(),
            toa_added: Counter::default(),
            toa_stripped: Counter::default(),
            toa_no_room: Counter::default(),
            toa_over_mtu: Counter::default(),
            icmp_translated: Counter::default(),
            echo_answered: Counter::default(),
            neighbor_answered: Counter::default(),
            neighbor_heard: Counter::default(),
            icmp_sent: Counter::default(),
            rst_sent: Counter::default(),
            replies_limited: Counter::default(),
            offload: Offload::default(),
            drops: std::array::from_fn(|_| Counter::default()),
            punts: std::array::from_fn(|_| Counter::default()),
            unknown: Traffic::default(),
            services: traffic(services),
            servers: traffic(servers),
        }
    }

    /// Counts one dropped packet.
    #[inline(always)]
    pub fn count_drop(&self, reason: DropReason) {
        self.drops[reason as usize % DropReason::SLOTS].add(1);
    }

    /// Packets dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize % DropReason::SLOTS].get()
    }

    /// Counts one frame that the switch punted, by the number of its reason, below 8.
    #[inline(always)]
    pub fn count_punt(&self, why: u8) {
        self.punts[usize::from(why) % PUNT_REASONS].add(1);
    }

    /// Frames punted by the switch for this reason.
    pub fn punts(&self, why: u8) -> u64 {
        self.punts[usize::from(why) % PUNT_REASONS].get()
    }

    /// Traffic of a service.
    #[inline(always)]
    pub fn service(&self, id: ServiceId) -> &Traffic {
        self.services.get(usize::from(id.0)).unwrap_or(&self.unknown)
    }

    /// Traffic of a real server.
    #[inline(always)]
    pub fn server(&self, id: ServerId) -> &Traffic {
        self.servers.get(usize::from(id.0)).unwrap_or(&self.unknown)
    }
}
