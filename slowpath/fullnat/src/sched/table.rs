//! Lookup tables of the hashing schedulers, `sh` and `mh`: built by control with the plan, shared by all workers.

use std::fmt;
use std::sync::Arc;

use super::{Candidate, Loads, SchedulerKind, eligible, first_with_room, maglev, rendezvous};
use crate::addr::Addr;
use crate::id::CPort;
use crate::plan::{Plan, Server, Service};

/// Slots tried before a full table is searched server by server.
const TRIES: usize = 16;

/// Hash slot → server, as a position among the service's servers with weight above 0, in configured order.
#[derive(Clone, Default)]
pub struct HashTable(Arc<[u16]>);

impl fmt::Debug for HashTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashTable({} slots)", self.0.len())
    }
}

impl HashTable {
    /// The table of a service; `None` when its scheduler needs none.
    pub(crate) fn build(service: &Service, plan: &Plan) -> Option<Self> {
        // Positions are 16 bits, and so are server ids: no service can have more.
        let servers: Vec<_> = eligible(service, plan).take(usize::from(u16::MAX)).map(Bucket::of).collect();
        match service.scheduler {
            SchedulerKind::SourceHash { .. } => Some(HashTable(rendezvous::table(&servers).into())),
            SchedulerKind::Maglev { table_size, .. } => Some(HashTable(maglev::table(&servers, table_size).into())),
            _ => None,
        }
    }

    /// The slots.
    pub fn slots(&self) -> &[u16] {
        &self.0
    }

    /// The server of the hash's slot, or, when that is full, of one of the next slots. Neighbouring slots are
    /// independent, so the overflow of a full server is spread over the others by weight, and a client is sent to the same
    /// substitute each time.
    pub(super) fn pick<'a>(&self, candidates: &'a [Candidate], hash: u64, loads: &mut Loads) -> Option<&'a Candidate> {
        let slot = ((u128::from(hash) * self.0.len() as u128) >> 64) as usize;
        let mut server = 0;
        let (before, from) = self.0.split_at(slot);
        for &position in from.iter().chain(before).take(TRIES) {
            server = usize::from(position);
            if let Some(chosen) = candidates.get(server).filter(|c| c.begin(loads)) {
                return Some(chosen);
            }
        }
        first_with_room(candidates, server, loads)
    }
}

/// A server as the table builders see it: who it is, by address and port alone, so that every balancer with the same
/// servers builds the same table, whatever their order and ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bucket {
    /// Address (IPv4 mapped to IPv6) and port.
    pub(super) name: (u128, u16),
    pub(super) weight: u16,
}

impl Bucket {
    fn of(server: &Server) -> Self {
        let address = match server.rip {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        Bucket { name: (address.to_bits(), server.rport.0), weight: server.weight }
    }

    /// A hash of the name; different `seed`s give independent ones.
    pub(super) fn hash(&self, seed: u64) -> u64 {
        let (address, port) = self.name;
        mix(mix(mix(mix(0, seed), (address >> 64) as u64), address as u64), u64::from(port))
    }
}

/// Where a client is in the table. Not keyed: all balancers in front of one service must agree. A client who picks its own
/// address or port can therefore pick its server, as with every published table; `max_connections` bounds the harm.
pub(super) fn client_hash<A: Addr>(client: A, cport: Option<CPort>) -> u64 {
    let [high, low] = client.words();
    let hash = mix(mix(0, high), low);
    match cport {
        Some(cport) => mix(hash, 1 << 16 | u64::from(cport.0)),
        None => hash,
    }
}

/// Mixes a word into a hash: a bijection of their sum with full avalanche (multiply and shift, twice). Part of the
/// contract between balancers: changing it changes every table.
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    let mut x = hash.rotate_left(23).wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}
