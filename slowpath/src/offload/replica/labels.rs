//! What next hops are called in the target.
//!
//! Their own number, as a rule. But entries of an earlier life name next hops by the numbers of that life, when other neighbours had
//! them. A session that is adopted brings those along, and they are used on for what they meant.

use carom_p4::NexthopAction;
use fullnat::id::{IfaceId, NexthopId};
use fullnat::neighbor::{DEFAULT_CAPACITY, Neighbors};
use fullnat::offload::{AnyEnds, Ends};
use hashbrown::{HashMap, HashSet};

use super::{Actual, Replica, RowAction, desired};

/// Names of next hops. One that a next hop has got it keeps.
#[derive(Debug, Default)]
pub struct Labels {
    of: HashMap<NexthopId, NexthopId>,
    by: HashMap<NexthopId, NexthopId>,
    /// Nobody's, but flow entries of an earlier life may name them.
    earlier: HashSet<NexthopId>,
}

impl Labels {
    /// What a next hop is called.
    pub fn of(&mut self, id: NexthopId) -> NexthopId {
        if let Some(label) = self.of.get(&id) {
            return *label;
        }
        let free = |label: &NexthopId| !self.by.contains_key(label) && !self.earlier.contains(label);
        // There are as many as next hops, so one is left; but while an earlier life still has some there may be none for now.
        let mut all = std::iter::once(id).chain((1..=DEFAULT_CAPACITY).map(NexthopId));
        let Some(label) = all.find(free) else { return NexthopId(0) };
        self.bind(id, label);
        label
    }

    /// Which next hop is called so.
    pub fn hop(&self, label: NexthopId) -> Option<NexthopId> {
        self.by.get(&label).copied()
    }

    /// What a next hop is called, if it has a name.
    pub fn known(&self, id: NexthopId) -> Option<NexthopId> {
        self.of.get(&id).copied()
    }

    /// Calls a next hop so, as an earlier life did. False: it has another name, or another has this one.
    pub fn claim(&mut self, id: NexthopId, label: NexthopId) -> bool {
        match (self.of.get(&id), self.by.get(&label)) {
            (Some(known), _) => *known == label,
            (None, Some(_)) => false,
            (None, None) => {
                self.bind(id, label);
                true
            }
        }
    }

    /// An entry of the next-hop table was found.
    pub fn found(&mut self, label: NexthopId) {
        if !self.by.contains_key(&label) {
            self.earlier.insert(label);
        }
    }

    /// No flow entry names any but those that were claimed.
    pub fn forget_earlier(&mut self) {
        self.earlier.clear();
    }

    fn bind(&mut self, id: NexthopId, label: NexthopId) {
        self.of.insert(id, label);
        self.by.insert(label, id);
        self.earlier.remove(&label);
    }
}

impl Replica {
    /// What a next hop is called in flow entries.
    pub fn label(&mut self, id: NexthopId) -> NexthopId {
        self.labels.of(id)
    }

    /// A session of an earlier life has this next hop, and its entries call it so: that is what it is called from now on. Until its
    /// MAC address is known it keeps the one of the earlier life. False: it cannot be, the entries would lead elsewhere.
    pub fn claim(&mut self, neighbors: &Neighbors, id: NexthopId, label: NexthopId) -> bool {
        let Some((neighbor, there)) = neighbors.get(id).zip(self.forward_of(label)) else { return false };
        if self.iface_of(label) != Some(neighbor.iface) || !self.labels.claim(id, label) {
            return false;
        }
        let before = desired::Hop::new(&neighbor, there);
        if let Some((hop, action)) = self.former.hop(&self.ports, &neighbor, Some(&before)) {
            self.hops.insert(id, hop);
            self.want(desired::nexthop(label), Some(action));
        }
        true
    }

    /// The interface that a next hop's entry leads out of; none: there is no entry, or its port is no interface.
    pub fn iface_of(&self, label: NexthopId) -> Option<IfaceId> {
        let NexthopAction::Forward { port, .. } = self.forward_of(label)?;
        let iface = self.ports.interfaces.iter().position(|known| *known == port)?;
        u8::try_from(iface).ok().map(IfaceId)
    }

    /// What the target does for a next hop.
    fn forward_of(&self, label: NexthopId) -> Option<NexthopAction> {
        match self.rows.get(&desired::nexthop(label))?.actual {
            Actual::Present(RowAction::Nexthop(action)) => Some(action),
            _ => None,
        }
    }
}

/// The same ends with their next hops called so.
pub fn relabel(ends: &AnyEnds, mut label: impl FnMut(NexthopId) -> NexthopId) -> AnyEnds {
    match *ends {
        AnyEnds::V4(ends) => AnyEnds::V4(both(ends, &mut label)),
        AnyEnds::V6(ends) => AnyEnds::V6(both(ends, &mut label)),
    }
}

fn both<A>(ends: Ends<A>, label: &mut impl FnMut(NexthopId) -> NexthopId) -> Ends<A> {
    let (nexthop_in, nexthop_out) = (label(ends.nexthop_in), label(ends.nexthop_out));
    Ends { nexthop_in, nexthop_out, ..ends }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_earlier_life_are_nobody_elses() {
        let [one, two, three, four] = [1, 2, 3, 4].map(NexthopId);
        let mut labels = Labels::default();
        [one, two, three].into_iter().for_each(|label| labels.found(label));
        // What was 2 is 1 now.
        assert!(labels.claim(one, two) && labels.claim(one, two));
        assert!(!labels.claim(one, three), "it has a name");
        assert!(!labels.claim(four, two), "another has this one");
        assert_eq!((labels.of(one), labels.hop(two), labels.hop(one)), (two, Some(one), None));
        // 1, 2 and 3 may be named by entries, or are.
        assert_eq!(labels.of(two), four);
        labels.forget_earlier();
        assert_eq!((labels.of(two), labels.of(three), labels.of(four)), (four, three, one));
        assert_eq!(
            [one, two, three, four].map(|id| labels.known(id).and_then(|label| labels.hop(label))),
            [Some(one), Some(two), Some(three), Some(four)]
        );
    }

    #[test]
    fn there_is_a_name_for_each() {
        let mut labels = Labels::default();
        let all = || (1..=DEFAULT_CAPACITY).map(NexthopId);
        all().for_each(|label| labels.found(label));
        assert_eq!(labels.of(NexthopId(7)), NexthopId(0), "all are taken");
        assert_eq!(labels.known(NexthopId(7)), None);
        labels.forget_earlier();
        assert!(labels.claim(NexthopId(7), NexthopId(8)) && labels.claim(NexthopId(9), NexthopId(7)));
        let mut given: Vec<NexthopId> = all().map(|id| labels.of(id)).collect();
        given.sort_unstable();
        assert!(given.into_iter().eq(all()));
    }
}
