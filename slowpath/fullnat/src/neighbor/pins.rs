//! The next hops a plan needs whether there is traffic or not.

use std::net::IpAddr;

use super::{Full, Neighbors};
use crate::id::{IfaceId, NexthopId};
use crate::wire::Mac;

/// What control holds in the table for the plan in force: gateways, real servers and static entries. Held entries are
/// never taken back and are resolved ahead of traffic.
#[derive(Debug, Default)]
pub struct Pins {
    held: Vec<(NexthopId, bool)>,
}

impl Pins {
    /// Holds what a new plan needs and lets go of what only the old one needed. With a MAC address an entry is static.
    /// Where both plans need an entry it keeps its id and what is known of it. On [`Full`] everything stays as it was,
    /// except that changed static MAC addresses before the one without room are in force.
    pub fn update(
        &mut self,
        table: &Neighbors,
        needed: impl IntoIterator<Item = (IfaceId, IpAddr, Option<Mac>)>,
    ) -> Result<(), Full> {
        let mut held = Vec::new();
        for (iface, addr, mac) in needed {
            let id = match mac {
                Some(mac) => table.acquire_static(iface, addr, mac),
                None => table.acquire(iface, addr),
            };
            match id {
                Ok(id) => held.push((id, mac.is_some())),
                Err(full) => {
                    release_all(table, &held, &self.held);
                    return Err(full);
                }
            }
        }
        let old = std::mem::replace(&mut self.held, held);
        release_all(table, &old, &self.held);
        Ok(())
    }
}

/// Releases what is in `given_up`; what was static there and is not in `kept` becomes dynamic.
fn release_all(table: &Neighbors, given_up: &[(NexthopId, bool)], kept: &[(NexthopId, bool)]) {
    for &(id, fixed) in given_up {
        if fixed && !kept.contains(&(id, true)) {
            table.make_dynamic(id);
        }
        table.release(id);
    }
}
