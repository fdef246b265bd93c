//! Who is primary, by the rules of P4Runtime, "Client Arbitration and Controller Replication".

use std::collections::HashMap;

use tonic::Status;

use crate::Code;
use crate::election::ElectionId;
use crate::proto::google::rpc;
use crate::proto::p4::v1::{MasterArbitrationUpdate, Role};

/// One stream of a controller, by a number that its target gives it.
pub type StreamId = u64;

/// Messages to streams, in the order in which they are to be sent.
pub type Notices = Vec<(StreamId, MasterArbitrationUpdate)>;

#[derive(Debug)]
struct Member {
    stream: StreamId,
    id: Option<ElectionId>,
}

/// Controllers of one role.
#[derive(Debug, Default)]
struct Election {
    /// The highest id ever; only a full restart forgets it.
    highest: Option<ElectionId>,
    config: Option<prost_types::Any>,
    primary: Option<StreamId>,
    members: Vec<Member>,
}

/// All roles of one device.
#[derive(Debug)]
pub struct Arbitration {
    device_id: u64,
    most_controllers: usize,
    roles: HashMap<String, Election>,
    /// The role of each live stream.
    streams: HashMap<StreamId, String>,
}

impl Arbitration {
    /// Nobody has come yet. More controllers of a role are refused.
    pub fn new(device_id: u64, most_controllers: usize) -> Self {
        Self { device_id, most_controllers, roles: HashMap::new(), streams: HashMap::new() }
    }

    /// A controller's message. Returns what to tell whom.
    ///
    /// # Errors
    ///
    /// The status to end the stream with; call [`Arbitration::leave`] then.
    pub fn update(&mut self, stream: StreamId, update: MasterArbitrationUpdate) -> Result<Notices, Status> {
        let known = self.streams.get(&stream);
        if update.device_id != self.device_id {
            let text = format!("no device {}", update.device_id);
            let code = if known.is_some() { Code::FailedPrecondition } else { Code::NotFound };
            return Err(Status::new(code, text));
        }
        let role = update.role.unwrap_or_default();
        if known.is_some_and(|known| *known != role.name) {
            return Err(Status::failed_precondition("a stream keeps its role"));
        }
        let id = update.election_id.map(ElectionId::from);
        let election = self.roles.entry(role.name.clone()).or_default();
        if id.is_some() && election.members.iter().any(|member| member.id == id && member.stream != stream) {
            return Err(Status::invalid_argument("election id in use"));
        }
        match election.members.iter().position(|member| member.stream == stream) {
            Some(place) => election.members[place].id = id,
            None if election.members.len() >= self.most_controllers => {
                return Err(Status::resource_exhausted("too many controllers"));
            }
            None => election.members.push(Member { stream, id }),
        }
        self.streams.insert(stream, role.name.clone());
        Ok(election.decide(self.device_id, stream, id, role))
    }

    /// A stream ended. Returns what to tell whom.
    pub fn leave(&mut self, stream: StreamId) -> Notices {
        let Some(name) = self.streams.remove(&stream) else { return Notices::new() };
        let Some(election) = self.roles.get_mut(&name) else { return Notices::new() };
        election.members.retain(|member| member.stream != stream);
        if election.primary != Some(stream) {
            return Notices::new();
        }
        election.primary = None;
        election.tell_all(self.device_id, &name)
    }

    /// Whether a request with this id comes from the primary of the role.
    ///
    /// # Errors
    ///
    /// The status to refuse the request with.
    pub fn check(&self, role: &str, id: Option<ElectionId>) -> Result<(), Status> {
        let election = self.roles.get(role);
        // Requests of a role nobody took up yet are those of a client that is not primary.
        let primary = election
            .and_then(|election| election.members.iter().find(|member| Some(member.stream) == election.primary));
        match primary {
            Some(member) if id.is_some() && member.id == id => Ok(()),
            _ => Err(Status::permission_denied("not primary")),
        }
    }

    /// Whether a stream is its role's primary.
    pub fn is_primary(&self, stream: StreamId) -> bool {
        self.roles.values().any(|election| election.primary == Some(stream))
    }

    /// The primary of each role that has one.
    pub fn primaries(&self) -> Vec<StreamId> {
        self.roles.values().filter_map(|election| election.primary).collect()
    }

    /// The election id a stream of a role stands with.
    pub fn id_of(&self, role: &str, stream: StreamId) -> Option<ElectionId> {
        self.roles.get(role)?.members.iter().find(|member| member.stream == stream)?.id
    }

    /// What all controllers are told when asked for no reason.
    pub fn tell_all(&self) -> Notices {
        self.roles.iter().flat_map(|(name, election)| election.tell_all(self.device_id, name)).collect()
    }
}

impl Election {
    fn decide(&mut self, device_id: u64, stream: StreamId, id: Option<ElectionId>, role: Role) -> Notices {
        if id.is_some() && id >= self.highest {
            self.highest = id;
            self.primary = Some(stream);
            self.config = role.config;
            let mut notices = self.tell_all(device_id, &role.name);
            // All others first: at no time do two believe to be primary.
            notices.sort_by_key(|(of, _)| *of == stream);
            return notices;
        }
        if self.primary == Some(stream) {
            self.primary = None;
            return self.tell_all(device_id, &role.name);
        }
        vec![(stream, self.notice(device_id, &role.name, stream))]
    }

    fn tell_all(&self, device_id: u64, name: &str) -> Notices {
        self.members.iter().map(|member| (member.stream, self.notice(device_id, name, member.stream))).collect()
    }

    fn notice(&self, device_id: u64, name: &str, stream: StreamId) -> MasterArbitrationUpdate {
        let code = match self.primary {
            None => Code::NotFound,
            Some(primary) if primary == stream => Code::Ok,
            Some(_) => Code::AlreadyExists,
        };
        let is_default = name.is_empty() && self.config.is_none();
        let role = Role { name: name.into(), config: self.config.clone(), ..Role::default() };
        MasterArbitrationUpdate {
            device_id,
            role: (!is_default).then_some(role),
            election_id: self.highest.map(Into::into),
            status: Some(rpc::Status { code: code as i32, ..rpc::Status::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(
        arbitration: &mut Arbitration,
        stream: StreamId,
        role: &str,
        id: Option<u128>,
    ) -> Result<Vec<(u64, Code)>, Code> {
        let role = (!role.is_empty()).then(|| Role { name: role.into(), ..Role::default() });
        let election_id = id.map(|id| ElectionId(id).into());
        let update = MasterArbitrationUpdate { device_id: 1, role, election_id, status: None };
        match arbitration.update(stream, update) {
            Ok(notices) => Ok(codes(notices)),
            Err(status) => Err(status.code()),
        }
    }

    fn codes(notices: Notices) -> Vec<(u64, Code)> {
        notices.into_iter().map(|(stream, notice)| (stream, Code::from(notice.status.unwrap().code))).collect()
    }

    #[test]
    fn the_highest_ever_is_primary_and_all_hear_of_it() {
        let mut a = Arbitration::new(1, 4);
        assert_eq!(stand(&mut a, 10, "", Some(5)), Ok(vec![(10, Code::Ok)]));
        assert_eq!(stand(&mut a, 11, "", Some(3)), Ok(vec![(11, Code::AlreadyExists)]));
        // The one before hears of it first.
        assert_eq!(
            stand(&mut a, 12, "", Some(6)),
            Ok(vec![(10, Code::AlreadyExists), (11, Code::AlreadyExists), (12, Code::Ok)])
        );
        assert!(a.check("", Some(ElectionId(6))).is_ok() && a.check("", Some(ElectionId(5))).is_err());
        // A primary that goes leaves none behind, and 5 is not enough any more.
        assert_eq!(codes(a.leave(12)), [(10, Code::NotFound), (11, Code::NotFound)]);
        assert_eq!(stand(&mut a, 10, "", Some(5)), Ok(vec![(10, Code::NotFound)]));
        assert_eq!(stand(&mut a, 13, "", Some(6)).unwrap().last(), Some(&(13, Code::Ok)));
    }

    #[test]
    fn a_primary_can_step_down() {
        let mut a = Arbitration::new(1, 4);
        stand(&mut a, 1, "", Some(5)).unwrap();
        stand(&mut a, 2, "", Some(4)).unwrap();
        assert_eq!(stand(&mut a, 1, "", Some(3)), Ok(vec![(1, Code::NotFound), (2, Code::NotFound)]));
        assert!(a.primaries().is_empty());
        assert_eq!(stand(&mut a, 2, "", Some(5)), Ok(vec![(1, Code::AlreadyExists), (2, Code::Ok)]));
    }

    #[test]
    fn roles_are_apart_and_ids_unique_within_each() {
        let mut a = Arbitration::new(1, 2);
        stand(&mut a, 1, "x", Some(5)).unwrap();
        assert_eq!(stand(&mut a, 2, "y", Some(5)), Ok(vec![(2, Code::Ok)]));
        assert_eq!(stand(&mut a, 3, "x", Some(5)), Err(Code::InvalidArgument));
        assert_eq!(stand(&mut a, 1, "y", Some(9)), Err(Code::FailedPrecondition));
        // Without id there can be many, and none is ever primary.
        assert_eq!(stand(&mut a, 4, "x", None), Ok(vec![(4, Code::AlreadyExists)]));
        assert_eq!(stand(&mut a, 5, "x", None), Err(Code::ResourceExhausted));
        assert_eq!(stand(&mut a, 6, "z", None), Ok(vec![(6, Code::NotFound)]));
        assert!(a.check("z", None).is_err());
    }

    #[test]
    fn another_device_ends_the_stream() {
        let mut a = Arbitration::new(1, 2);
        let other = MasterArbitrationUpdate { device_id: 2, ..MasterArbitrationUpdate::default() };
        assert_eq!(a.update(1, other.clone()).unwrap_err().code(), Code::NotFound);
        stand(&mut a, 1, "", Some(1)).unwrap();
        assert_eq!(a.update(1, other).unwrap_err().code(), Code::FailedPrecondition);
    }
}
