//! What `GET /v1/drops` says.

use serde::{Deserialize, Serialize};

use crate::softnic;

/// `GET /v1/drops`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// All packets dropped.
    pub total: u64,
    /// Every reason by number, those that never happened included.
    pub drops: Vec<Drop>,
    /// What the switch dropped by itself, every reason by number; empty without target, and when it did not answer. Not
    /// part of `total`.
    pub switch: Vec<SwitchDrop>,
    /// What a switch in this process dropped at its ports, every reason at each of them; empty without one. Neither part of
    /// `total` nor of `switch`.
    pub ports: Vec<softnic::Drop>,
}

/// Packets that the switch dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchDrop {
    /// The reason's stable name.
    pub reason: String,
    /// The reason's stable number; equal to that of a [`Drop`] where both mean the same.
    pub number: u8,
    /// Packets.
    pub total: u64,
    /// What happened, for people.
    pub text: String,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The reason's stable name.
    pub reason: String,
    /// The reason's stable number.
    pub number: u8,
    /// Packets over all workers.
    pub total: u64,
    /// Packets by worker, in their order.
    pub by_worker: Vec<u64>,
    /// What happened, for people.
    pub text: String,
}
