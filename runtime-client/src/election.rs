//! Who may write: election ids, roles, and where a client stands (P4Runtime, "Client Arbitration and Controller
//! Replication").

use std::fmt;

use crate::Code;
use crate::proto::p4::v1::{MasterArbitrationUpdate, Role as WireRole, Uint128};

/// What decides among the clients of a role: the highest a target ever saw is primary. Targets forget it only in a full
/// restart, so a client that wants to be primary in place of another has to come with a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElectionId(pub u128);

impl From<ElectionId> for Uint128 {
    fn from(id: ElectionId) -> Self {
        Self { high: (id.0 >> 64) as u64, low: id.0 as u64 }
    }
}

impl From<Uint128> for ElectionId {
    fn from(id: Uint128) -> Self {
        Self(u128::from(id.high) << 64 | u128::from(id.low))
    }
}

impl fmt::Display for ElectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of a target a client wants to control.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Role {
    /// Empty: the default role, with access to everything.
    pub name: String,
    /// What the role may do, in a form the target knows; none is everything.
    pub config: Option<prost_types::Any>,
}

impl Role {
    /// A role with a name and without config.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), config: None }
    }

    /// The default role has to be left out of the message.
    fn wire(&self) -> Option<WireRole> {
        let is_default = self.name.is_empty() && self.config.is_none();
        (!is_default).then(|| WireRole { name: self.name.clone(), config: self.config.clone(), ..WireRole::default() })
    }

    /// The message that says how a client of this role wants to be seen; without id it never becomes primary.
    pub(crate) fn candidacy(&self, device_id: u64, id: Option<ElectionId>) -> MasterArbitrationUpdate {
        MasterArbitrationUpdate { device_id, role: self.wire(), election_id: id.map(Into::into), status: None }
    }
}

/// Where a client stands with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No connection; nothing can be done.
    Disconnected,
    /// Connected, and the target has not said yet who is primary: reads only.
    Undecided,
    /// May write, set the pipeline, and exchange packets.
    Primary,
    /// Reads only.
    Backup {
        /// Another client is primary; if not, one with an election id of at least `highest` can become it.
        other: bool,
        /// The highest election id the target has seen for this role; none if there never was a primary.
        highest: Option<ElectionId>,
    },
}

impl Standing {
    /// Whether writes are allowed.
    pub fn is_primary(self) -> bool {
        self == Self::Primary
    }

    /// Whether the target can be asked anything.
    pub fn is_connected(self) -> bool {
        self != Self::Disconnected
    }

    /// What a target's word means to the client of this id. "You are primary" counts only with the client's own id: with
    /// another's the target would refuse every write.
    pub(crate) fn from_update(update: &MasterArbitrationUpdate, own: Option<ElectionId>) -> Self {
        let highest = update.election_id.map(ElectionId::from);
        // Absent is the same as OK: a status message whose fields all have their defaults.
        let code = update.status.as_ref().map_or(Code::Ok, |status| Code::from(status.code));
        match code {
            Code::Ok if own.is_some() && highest == own => Self::Primary,
            Code::NotFound => Self::Backup { other: false, highest },
            _ => Self::Backup { other: true, highest },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::google::rpc::Status;

    fn told(code: Code, highest: Option<u128>) -> MasterArbitrationUpdate {
        MasterArbitrationUpdate {
            device_id: 1,
            role: None,
            election_id: highest.map(|id| ElectionId(id).into()),
            status: Some(Status { code: code as i32, ..Status::default() }),
        }
    }

    #[test]
    fn ids_keep_all_128_bits() {
        for id in [0, 1, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX, 5 << 64 | 9] {
            assert_eq!(ElectionId::from(Uint128::from(ElectionId(id))), ElectionId(id));
        }
        assert_eq!(Uint128::from(ElectionId(5 << 64 | 9)), Uint128 { high: 5, low: 9 });
    }

    #[test]
    fn primary_only_with_the_own_id() {
        let own = Some(ElectionId(7));
        assert_eq!(Standing::from_update(&told(Code::Ok, Some(7)), own), Standing::Primary);
        let lie = Standing::from_update(&told(Code::Ok, Some(8)), own);
        assert_eq!(lie, Standing::Backup { other: true, highest: Some(ElectionId(8)) });
        // One that has no id never is, whatever it is told.
        assert!(!Standing::from_update(&told(Code::Ok, None), None).is_primary());
        assert!(!Standing::from_update(&told(Code::Ok, None), own).is_primary());
    }

    #[test]
    fn backups_know_whether_there_is_a_primary() {
        let own = Some(ElectionId(7));
        let other = Standing::from_update(&told(Code::AlreadyExists, Some(9)), own);
        assert_eq!(other, Standing::Backup { other: true, highest: Some(ElectionId(9)) });
        let none = Standing::from_update(&told(Code::NotFound, None), own);
        assert_eq!(none, Standing::Backup { other: false, highest: None });
    }

    #[test]
    fn the_default_role_is_left_out() {
        assert_eq!(Role::default().candidacy(3, None).role, None);
        let role = Role::named("lb").candidacy(3, Some(ElectionId(1))).role.expect("a named role is sent");
        assert_eq!(role.name, "lb");
    }
}
