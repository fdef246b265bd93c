//! The small tables of the program by ids, as replica and target have them: entries change one by one, in any order, and the
//! book hears of each that goes when it has gone.

use std::collections::BTreeMap;

use carom_p4::{InboundV4Action, PairIdV4Action, ServiceIdV4Action};

use super::*;
use crate::offload::flows::ConnectionAction;
use crate::offload::flows::{FlowAction, FlowKey, Flows, IdRoom, Ids, Need};
use crate::offload::replica::{RowAction, RowKey};
use crate::offload::testing::by_ids;

/// Entries by a name that orders them, the same in every run.
type Rows = BTreeMap<String, (RowKey, RowAction)>;

#[derive(Default)]
pub(super) struct Small {
    wanted: Rows,
    /// Those the target has.
    rows: Rows,
    /// How many went to make room for others.
    pub(super) left: usize,
}

fn name(key: &RowKey) -> String {
    format!("{key:?}")
}

impl Small {
    pub(super) fn reach(&self, need: &Need) -> Reach {
        let Need::Row(key, action) = need else { return Reach::Ready };
        let (name, needed) = (name(key), Some(&(*key, *action)));
        if self.wanted.get(&name) == needed && self.rows.get(&name) == needed { Reach::Ready } else { Reach::Pending }
    }
}

/// Enough ids for all sessions there are, or fewer.
pub(super) fn few_ids(random: &mut Rng) -> Flows {
    let mut room = |all: usize| (all - random.below(3)) as u16;
    Flows::ByIds(Box::new(Ids::new(IdRoom { services: room(4), pairs: room(5) })))
}

/// What a session's entries name, whatever its ids.
pub(super) fn meaning(ends: &AnyEnds) -> [(RowKey, RowAction); 4] {
    let mut ids = Ids::new(IdRoom { services: 1, pairs: 1 });
    let AnyEnds::V4(ends) = ends else { panic!("not IPv4") };
    assert!(ids.take(ends));
    ids.rows(ends).unwrap()
}

impl World {
    /// Entries of an earlier life of the manager, and what they name.
    pub(super) fn earlier_life(&mut self, tuples: std::ops::Range<u32>) {
        let mut flows = if self.is_by_ids() { by_ids() } else { Flows::Plain };
        for of in tuples.map(ends) {
            assert!(flows.take(&of));
            let direction = Direction::Inbound;
            self.put(0, (of, direction, flows.key(&of, direction), flows.action(&of, direction)));
        }
        if let Some(ids) = flows.ids() {
            self.small.rows.extend(ids.wants().filter_map(|(key, action)| Some((name(&key), (key, action?)))));
        }
    }

    /// What the book's ids want is wanted.
    pub(super) fn follow_ids(&mut self) {
        let Some(ids) = self.book.flows_mut().ids() else { return };
        let mut gone = Vec::new();
        for (key, action) in ids.wants() {
            match action {
                Some(action) => _ = self.small.wanted.insert(name(&key), (key, action)),
                None => {
                    self.small.wanted.remove(&name(&key));
                    self.small.left += 1;
                    gone.extend((!self.small.rows.contains_key(&name(&key))).then_some(key));
                }
            }
        }
        gone.iter().for_each(|key| ids.gone(key));
    }

    /// One entry of a small table becomes as wanted. False: all are.
    pub(super) fn write_small(&mut self) -> bool {
        self.follow_ids();
        let Small { wanted, rows, .. } = &self.small;
        let differs: Vec<String> =
            wanted.keys().chain(rows.keys()).filter(|name| wanted.get(*name) != rows.get(*name)).cloned().collect();
        if !self.up || differs.is_empty() {
            return false;
        }
        let name = &differs[self.random.below(differs.len())];
        if let Some(row) = self.small.wanted.get(name) {
            self.small.rows.insert(name.clone(), *row);
        } else if let Some((key, _)) = self.small.rows.remove(name)
            && let Some(ids) = self.book.flows_mut().ids()
        {
            ids.gone(&key);
        }
        self.needs_changed();
        true
    }

    pub(super) fn needs_changed(&mut self) {
        let hops = if self.pending_hops { Reach::Pending } else { Reach::Ready };
        let small = &self.small;
        self.book.needs_changed(|need| if matches!(need, Need::Nexthop(_)) { hops } else { small.reach(need) });
    }

    /// The target's small tables are read at the beginning of a connection.
    pub(super) fn take_over(&mut self) {
        self.follow_ids();
        if let Some(ids) = self.book.flows_mut().ids() {
            self.small.rows.values().for_each(|(key, action)| ids.take_over(key, action));
        }
        self.follow_ids();
    }

    /// The target lost all of them.
    pub(super) fn lose_small(&mut self) {
        let rows = std::mem::take(&mut self.small.rows);
        if let Some(ids) = self.book.flows_mut().ids() {
            let unwanted = rows.iter().filter(|(name, _)| !self.small.wanted.contains_key(*name));
            unwanted.for_each(|(_, (key, _))| ids.gone(key));
        }
    }

    /// No id that an entry has stands for anything else than what the entry was written for.
    pub(super) fn check_meanings(&self) {
        for (key, row) in &self.rows {
            let [(service, _), (_, from), (pair, _), (_, to)] = row.meaning;
            for (name, action) in self.small.rows.values() {
                let is_right = match (key, row.does, name, action) {
                    (FlowKey::Connection(key), _, _, RowAction::PairIdV4(PairIdV4Action::IsPair { id })) => {
                        *id != key.pair || *name == pair
                    }
                    (
                        _,
                        FlowAction::Inbound(InboundV4Action::ToConnection { pair: named, .. }),
                        RowKey::PairV4(key),
                        _,
                    ) => named != key.pair || *action == to,
                    (_, FlowAction::Connection(ConnectionAction { service: named, .. }), _, _) => {
                        match (name, action) {
                            (RowKey::ServiceAddrV4(key), _) => named != key.service || *action == from,
                            (_, RowAction::ServiceIdV4(ServiceIdV4Action::IsService { id, .. })) => {
                                named & 0x3ff != *id || *name == service
                            }
                            _ => true,
                        }
                    }
                    _ => true,
                };
                assert!(is_right, "{key:?} of {:?}, taken for {name:?} {action:?}", row.of);
            }
        }
    }
}
