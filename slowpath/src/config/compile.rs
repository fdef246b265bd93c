//! Compiles a config to a plan, keeping the ids of what was there before.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fullnat::id::{Proto, RPort, ServerId, ServiceId, VPort};
use fullnat::plan::{Interface, LocalPool, Own, PersistenceRule, Plan, Server, ServerShared, Service};
use fullnat::sched::{DEFAULT_TABLE_SIZE, SchedulerKind};
use fullnat::wire::Mac;

use super::Config;
use super::types::{self, HashBy, Protocol, Scheduler};

/// Why a config that passed its checks cannot be compiled now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// Every id is held by a server of the config, or by a removed one that still has sessions.
    #[error(
        "no id is free for server {server} of service \"{service}\": {draining} removed servers still have sessions; \
         reload again when they have ended"
    )]
    NoServerId {
        /// Name of the service.
        service: String,
        /// The server.
        server: SocketAddr,
        /// Removed servers that still have sessions.
        draining: usize,
    },
    /// Every id is held by a service of the config, or by a removed one that still has sessions.
    #[error(
        "no id is free for service \"{service}\": removed services still have sessions; reload again when they have ended"
    )]
    NoServiceId {
        /// Name of the service.
        service: String,
    },
    /// The caller gave too few or too many MAC addresses.
    #[error("{given} MAC addresses for {wanted} interfaces")]
    Macs {
        /// How many were given.
        given: usize,
        /// How many interfaces the config has.
        wanted: usize,
    },
}

/// What a service is known by over reloads.
#[derive(Clone, PartialEq, Eq, Debug)]
struct KnownService {
    id: ServiceId,
    name: String,
    listen: (SocketAddr, Proto),
}

/// A server's id and counters. Of a removed server too, until its sessions have ended.
#[derive(Clone, Debug)]
struct KnownServer {
    server: Server,
    /// Not in the config any more.
    removed: bool,
}

/// Makes plans and remembers whose id is whose.
///
/// A removed server keeps its id, its counters and its slot in the plan (with weight 0, in no service's list) as long as
/// sessions count on it, and for one generation at least: a worker that still had the old plan may have begun a session
/// after this one was compiled. If it comes back in the meantime it is the same server again. A removed service's id is
/// held by its removed servers.
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    generation: u64,
    services: Vec<KnownService>,
    servers: HashMap<(ServiceId, SocketAddr), KnownServer>,
    /// Every VIP and LIP there was. Never forgotten: nobody knows when the last session over one ends, and they are few.
    addresses: HashMap<IpAddr, Own>,
    /// Those of them that were both.
    both: HashSet<IpAddr>,
}

impl Compiler {
    /// A compiler that knows nobody yet; its first plan has generation 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compiles the plan of the next generation. `macs` are the interfaces' own MAC addresses, in the order of the config.
    /// After an error nothing has changed.
    pub fn compile(&mut self, config: &Config, macs: &[Mac]) -> Result<Plan, CompileError> {
        if macs.len() != config.interface.len() {
            return Err(CompileError::Macs { given: macs.len(), wanted: config.interface.len() });
        }
        let mut services = self.identify(config)?;
        let servers = self.place(config, &services)?;

        let mut compiled: Vec<Service> = Vec::with_capacity(config.service.len());
        for (index, service) in config.service.iter().enumerate() {
            let id = services[index].id;
            let ids =
                service.servers.iter().filter_map(|s| servers.get(&(id, s.address.0)).map(|known| known.server.id));
            compiled.push(compile_service(config, index, id, ids.collect()));
        }
        // Removed services are remembered as long as a server of theirs is.
        let held: HashSet<ServiceId> = servers.keys().map(|&(id, _)| id).collect();
        let current: HashSet<ServiceId> = services.iter().map(|known| known.id).collect();
        services.extend(self.services.drain(..).filter(|old| held.contains(&old.id) && !current.contains(&old.id)));
        self.generation += 1;
        self.services = services;
        self.servers = servers;
        let mut plan = Plan::new(
            self.generation,
            interfaces(config, macs),
            config.routes().clone(),
            config.pool.iter().map(compile_pool).collect(),
            config.snat.quarantine.as_ms(),
            compiled,
            self.servers.values().map(|known| known.server.clone()).collect(),
        );
        plan.remember(self.addresses.iter().map(|(&address, &own)| (address, own)));
        for (address, own) in plan.own_addresses().filter(|(_, own)| matches!(own, Own::Vip | Own::Lip)) {
            if self.addresses.insert(address, own).is_some_and(|before| before != own) {
                self.both.insert(address);
            }
        }
        plan.remember_both(self.both.iter().copied());
        Ok(plan)
    }

    /// Gives each service of the config its id: that of the service that had its address, else of the one that had its
    /// name, else a free one.
    fn identify(&self, config: &Config) -> Result<Vec<KnownService>, CompileError> {
        let mut ids: Vec<Option<ServiceId>> = vec![None; config.service.len()];
        let by_listen: HashMap<_, _> = self.services.iter().map(|known| (known.listen, known.id)).collect();
        let by_name: HashMap<_, _> = self.services.iter().map(|known| (known.name.as_str(), known.id)).collect();
        let mut taken = vec![false; usize::from(u16::MAX) + 1];
        for (id, service) in ids.iter_mut().zip(&config.service) {
            *id = by_listen.get(&(service.listen.0, proto(service.protocol))).copied();
            id.iter().for_each(|id| taken[usize::from(id.0)] = true);
        }
        for (id, service) in ids.iter_mut().zip(&config.service).filter(|(id, _)| id.is_none()) {
            *id = by_name.get(service.name.as_str()).copied().filter(|id| !taken[usize::from(id.0)]);
            id.iter().for_each(|id| taken[usize::from(id.0)] = true);
        }
        // Also those let go just now: a worker with the last plan must not find another service in their place.
        self.services.iter().for_each(|known| taken[usize::from(known.id.0)] = true);
        let mut free = (0..=u16::MAX).filter(|&id| !taken[usize::from(id)]).map(ServiceId);
        ids.into_iter()
            .zip(&config.service)
            .map(|(id, service)| {
                let id = id.or_else(|| free.next());
                Ok(KnownService {
                    id: id.ok_or_else(|| CompileError::NoServiceId { service: service.name.clone() })?,
                    name: service.name.clone(),
                    listen: (service.listen.0, proto(service.protocol)),
                })
            })
            .collect()
    }

    /// Gives each server its id and counters: those it had, or new ones; and keeps the removed ones that must stay.
    fn place(
        &self,
        config: &Config,
        services: &[KnownService],
    ) -> Result<HashMap<(ServiceId, SocketAddr), KnownServer>, CompileError> {
        let mut placed = HashMap::with_capacity(self.servers.len());
        for (&key, known) in &self.servers {
            if !known.removed || known.server.shared.active() > 0 {
                let server = Server { weight: 0, ..known.server.clone() };
                placed.insert(key, KnownServer { server, removed: true });
            }
        }
        let mut taken = vec![false; usize::from(u16::MAX) + 1];
        // Also those let go just now: a worker with the last plan must not find another server in their place.
        self.servers.values().for_each(|known| taken[usize::from(known.server.id.0)] = true);
        let mut free = (0..=u16::MAX).filter(|&id| !taken[usize::from(id)]).map(ServerId);
        for (service, known) in config.service.iter().zip(services) {
            for server in &service.servers {
                let key = (known.id, server.address.0);
                let (id, shared) = match placed.get(&key) {
                    Some(before) => (before.server.id, Arc::clone(&before.server.shared)),
                    None => {
                        let id = free.next().ok_or_else(|| CompileError::NoServerId {
                            service: service.name.clone(),
                            server: server.address.0,
                            draining: placed.values().filter(|known| known.removed).count(),
                        })?;
                        (id, Arc::new(ServerShared::default()))
                    }
                };
                let server = Server {
                    id,
                    service: known.id,
                    rip: server.address.0.ip(),
                    rport: RPort(server.address.0.port()),
                    weight: server.weight,
                    max_connections: server.max_connections,
                    shared,
                };
                placed.insert(key, KnownServer { server, removed: false });
            }
        }
        Ok(placed)
    }
}

fn proto(protocol: Protocol) -> Proto {
    match protocol {
        Protocol::Tcp => Proto::Tcp,
        Protocol::Udp => Proto::Udp,
    }
}

fn interfaces(config: &Config, macs: &[Mac]) -> Vec<Interface> {
    let compiled = config.interface.iter().zip(macs).map(|(interface, &mac)| Interface {
        name: interface.name.clone(),
        mac,
        mtu: interface.mtu,
        addresses: interface.addresses.iter().map(|a| (a.address, a.len)).collect(),
    });
    compiled.collect()
}

fn compile_pool(pool: &types::Pool) -> LocalPool {
    let mut compiled = LocalPool {
        name: pool.name.clone(),
        v4: Vec::new(),
        v6: Vec::new(),
        ports: pool.ports.first..=pool.ports.last,
    };
    for address in pool.addresses.iter().flat_map(|range| range.iter()) {
        match address {
            IpAddr::V4(address) => compiled.v4.push(address),
            IpAddr::V6(address) => compiled.v6.push(address),
        }
    }
    compiled
}

fn compile_service(config: &Config, index: usize, id: ServiceId, servers: Vec<ServerId>) -> Service {
    let service = &config.service[index];
    Service {
        id,
        name: service.name.clone(),
        vip: service.listen.0.ip(),
        vport: VPort(service.listen.0.port()),
        proto: proto(service.protocol),
        scheduler: scheduler(service),
        servers,
        pool: config.pool_of(index),
        toa: service.toa.unwrap_or(service.protocol == Protocol::Tcp),
        persistence: service.persistence.as_ref().map(|rule| PersistenceRule {
            timeout_ms: rule.timeout.as_ms(),
            prefix_v4: rule.prefix4,
            prefix_v6: rule.prefix6,
        }),
        timeouts: config.timeouts.compile(&service.timeouts),
    }
}

fn scheduler(service: &types::Service) -> SchedulerKind {
    let with_port = service.hash == Some(HashBy::SourcePort);
    match service.scheduler {
        Scheduler::Rr => SchedulerKind::RoundRobin,
        Scheduler::Wrr => SchedulerKind::WeightedRoundRobin,
        Scheduler::Lc => SchedulerKind::LeastConnections,
        Scheduler::Wlc => SchedulerKind::WeightedLeastConnections,
        Scheduler::Sh => SchedulerKind::SourceHash { with_port },
        Scheduler::Mh => {
            SchedulerKind::Maglev { with_port, table_size: service.table_size.unwrap_or(DEFAULT_TABLE_SIZE) }
        }
    }
}
