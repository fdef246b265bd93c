//! How many sessions servers have, as one worker counts them.
//!
//! The number over all workers is one atomic word per server ([`ServerShared`]). Were it written for every session that
//! begins or ends, the workers would wait for its cache line in turn, and each for its own stores besides: a locked
//! instruction waits until every store before it is done, and those to a new session's memory take long. So a worker
//! notes its changes here and publishes them every millisecond. Only the begin of a session on a server with a limit is
//! counted at once, so that the limit is never exceeded.

use std::sync::Arc;

use crate::id::ServerId;
use crate::plan::{Plan, ServerShared};

/// One worker's changes of the servers' session counts.
#[derive(Debug, Default)]
pub struct Loads {
    /// By server id.
    servers: Box<[Option<Load>]>,
    /// Servers that may have unpublished changes, each once.
    dirty: Vec<ServerId>,
}

#[derive(Debug)]
struct Load {
    shared: Arc<ServerShared>,
    unpublished: i32,
    is_dirty: bool,
}

impl Loads {
    /// Of the servers of a plan, with nothing to publish.
    pub fn new(plan: &Plan) -> Self {
        let slots = plan.servers().map(|server| usize::from(server.id.0) + 1).max().unwrap_or(0);
        let mut servers: Box<[Option<Load>]> = (0..slots).map(|_| None).collect();
        for server in plan.servers() {
            let load = Load { shared: Arc::clone(&server.shared), unpublished: 0, is_dirty: false };
            servers[usize::from(server.id.0)] = Some(load);
        }
        Loads { servers, dirty: Vec::with_capacity(slots) }
    }

    /// Counts one more session; false, with nothing counted, when `max` (0 = no limit) is reached.
    #[inline]
    pub fn begin(&mut self, server: ServerId, max: u32) -> bool {
        if max == 0 {
            self.note(server, 1);
            return true;
        }
        let Some(load) = self.load_mut(server) else { return true };
        load.shared.begin(max) || load.unpublished < 0 && load.publish() && load.shared.begin(max)
    }

    /// Counts one session less.
    #[inline]
    pub fn end(&mut self, server: ServerId) {
        self.note(server, -1);
    }

    /// Sessions on the server over all workers, what others have not published yet left out.
    #[inline]
    pub fn active(&self, server: ServerId) -> u32 {
        let load = self.servers.get(usize::from(server.0)).and_then(Option::as_ref);
        load.map_or(0, |load| load.shared.active().saturating_add_signed(load.unpublished))
    }

    /// Tells the other workers, and control.
    pub fn publish(&mut self) {
        while let Some(server) = self.dirty.pop() {
            if let Some(load) = self.load_mut(server) {
                load.is_dirty = false;
                load.publish();
            }
        }
    }

    /// Of a server that is in no plan any more nobody asks.
    #[inline(always)]
    fn note(&mut self, server: ServerId, change: i32) {
        let Loads { servers, dirty } = self;
        let Some(Some(load)) = servers.get_mut(usize::from(server.0)) else { return };
        load.unpublished += change;
        if !load.is_dirty {
            load.is_dirty = true;
            // There is room for each server once.
            dirty.push(server);
        }
    }

    #[inline(always)]
    fn load_mut(&mut self, server: ServerId) -> Option<&mut Load> {
        self.servers.get_mut(usize::from(server.0))?.as_mut()
    }
}

impl Load {
    /// True, for use in a condition.
    fn publish(&mut self) -> bool {
        self.shared.change(std::mem::take(&mut self.unpublished));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn a_worker_sees_its_own_changes_at_once_and_others_when_published() {
        let plan = plan("rr", &[(1, 1, 0), (4, 1, 0)]);
        let (mut here, mut there) = (Loads::new(&plan), Loads::new(&plan));
        for _ in 0..3 {
            assert!(here.begin(ServerId(4), 0));
        }
        here.end(ServerId(4));
        assert_eq!((here.active(ServerId(4)), there.active(ServerId(4))), (2, 0));
        here.publish();
        assert_eq!((here.active(ServerId(4)), there.active(ServerId(4))), (2, 2));
        here.publish();
        assert!(there.begin(ServerId(4), 0));
        there.end(ServerId(1)); // Began elsewhere, which cannot be.
        assert_eq!((there.active(ServerId(4)), there.active(ServerId(1))), (3, 0));
        here.end(ServerId(9));
        assert!(here.begin(ServerId(9), 0) && here.active(ServerId(9)) == 0, "of no plan");
    }

    #[test]
    fn a_limit_counts_over_all_workers_at_once() {
        let plan = plan("rr", &[(1, 1, 2)]);
        let (mut here, mut there) = (Loads::new(&plan), Loads::new(&plan));
        assert!(here.begin(ServerId(1), 2) && there.begin(ServerId(1), 2));
        assert!(!here.begin(ServerId(1), 2) && !there.begin(ServerId(1), 2));
        there.end(ServerId(1));
        assert!(!here.begin(ServerId(1), 2), "not published");
        assert!(there.begin(ServerId(1), 2), "it knows of its own");
        there.end(ServerId(1));
        there.publish();
        assert!(here.begin(ServerId(1), 2) && !there.begin(ServerId(1), 2));
        assert_eq!(plan.servers().next().unwrap().shared.active(), 2);
    }
}
