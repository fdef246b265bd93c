//! The balancer's configuration, as the tests need to vary it. The one place that knows the syntax of `carom.toml`.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use crate::switch::{ADDRESS, DEVICE_ID, ELECTION_ID, SLOWPATH_DEVICE, SLOWPATH_PORT, port_of};
use crate::target::Target;
use crate::topology::{
    Arms, BALANCER_BACK, BALANCER_FRONT, BALANCER_MACS, Dual, LIP_FIRST, LIP_LAST, ROUTER_BACK, SERVERS, Topology,
};

/// Room for sessions of each family when a test needs no more: a test machine has neither huge pages nor much memory.
pub const SESSIONS: u32 = 50_000;

/// A transport protocol of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A real server of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Server {
    /// RIP:rport.
    pub address: SocketAddr,
    /// Share of new sessions.
    pub weight: u16,
    /// Most sessions at a time; 0 is no limit.
    pub max_connections: u32,
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// VIP:vport.
    pub listen: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Scheduler by its short name.
    pub scheduler: &'static str,
    /// Whether real servers learn the client's address. UDP has no way to.
    pub toa: bool,
    /// The real servers.
    pub servers: Vec<Server>,
}

impl Service {
    /// A service with both real servers at equal weight, on the port it listens on, without TOA.
    pub fn new(name: &str, protocol: Protocol, vip: IpAddr, port: u16) -> Self {
        let server = |at: Dual| Server {
            address: SocketAddr::new(if vip.is_ipv4() { at.v4.into() } else { at.v6.into() }, port),
            weight: 1,
            max_connections: 0,
        };
        Service {
            name: name.to_owned(),
            listen: SocketAddr::new(vip, port),
            protocol,
            scheduler: "wrr",
            toa: false,
            servers: SERVERS.map(server).to_vec(),
        }
    }

    /// The same with another scheduler.
    pub fn scheduler(self, scheduler: &'static str) -> Self {
        Service { scheduler, ..self }
    }

    /// The same with TOA.
    pub fn with_toa(self) -> Self {
        Service { toa: true, ..self }
    }

    /// The same with these weights of its servers; a server without a weight here is left out.
    pub fn weights(mut self, weights: &[u16]) -> Self {
        self.servers.truncate(weights.len());
        self.servers.iter_mut().zip(weights).for_each(|(server, &weight)| server.weight = weight);
        self
    }
}

/// What an interface of the balancer is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// A DPDK device, in Carom's short form.
    Device(String),
    /// A port of the switch, and the MAC address to use there.
    Port(u16, String),
}

/// The switch in front of the slow path, at the address all switches of the harness have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwitchConfig {
    /// What it is: `bmv2` or `softnic`.
    pub kind: &'static str,
    /// How its program keeps flows of IPv4: `plain` or `ids`.
    pub program: &'static str,
    /// Whether it is softnic in the same process, not a switch outside.
    pub is_inside: bool,
    /// Which sessions are offloaded, as in the file: `"established"` with its quotes, or a table.
    pub policy: String,
    /// Pause before another attempt to install a session that was refused.
    pub retry: String,
    /// Time between comparisons of sessions and tables.
    pub sweep: String,
    /// Punts per second and service; none is no limit.
    pub punt_rate: Option<u64>,
}

impl SwitchConfig {
    /// The switch of this network. Policy `established`, or what the environment variable `CAROM_POLICY` names.
    fn of(topology: &Topology) -> Option<Self> {
        if topology.target == Target::None {
            return None;
        }
        let policy = std::env::var("CAROM_POLICY").unwrap_or_else(|_| "established".to_owned());
        Some(SwitchConfig {
            kind: topology.target.kind(),
            program: if topology.target.is_by_ids() { "ids" } else { "plain" },
            is_inside: topology.switch.is_none(),
            policy: format!("\"{policy}\""),
            retry: "1s".to_owned(),
            sweep: "5m".to_owned(),
            punt_rate: None,
        })
    }
}

/// A network interface of the balancer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name in the config.
    pub name: String,
    /// What it is.
    pub at: Attachment,
    /// Its addresses.
    pub addr: Dual,
    /// Its default gateways, if any.
    pub gateway: Option<Dual>,
    /// Neighbours with a fixed MAC address.
    pub neighbors: Vec<(IpAddr, String)>,
}

/// A whole configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Worker threads.
    pub workers: u16,
    /// Room for sessions of each family.
    pub sessions: u32,
    /// The switch; none: the slow path has the interfaces itself.
    pub switch: Option<SwitchConfig>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Services.
    pub services: Vec<Service>,
    /// Path of the admin socket.
    pub socket: String,
    /// Tells DPDK processes apart.
    pub file_prefix: String,
    /// Whether hash keys and first ports are repeatable.
    pub seed: Option<u64>,
    /// The ports used on each local address, when not the default.
    pub ports: Option<(u16, u16)>,
    /// Further tables, as they are in the file.
    pub more: String,
}

impl Config {
    /// The configuration for a balancer in this topology, with one worker and without services.
    pub fn new(topology: &Topology) -> Self {
        let names = topology.balancer_interfaces();
        let interface = |i: usize, addr, gateway| Interface {
            name: names[i].to_owned(),
            at: match topology.switch {
                None => Attachment::Device(format!("af_packet:{}", names[i])),
                Some(_) => Attachment::Port(port_of(i), BALANCER_MACS[i].to_owned()),
            },
            addr,
            gateway,
            neighbors: Vec::new(),
        };
        Config {
            workers: 1,
            sessions: SESSIONS,
            switch: SwitchConfig::of(topology),
            interfaces: match topology.arms {
                Arms::One => vec![interface(0, BALANCER_BACK, Some(ROUTER_BACK))],
                Arms::Two => vec![interface(0, BALANCER_FRONT, None), interface(1, BALANCER_BACK, Some(ROUTER_BACK))],
            },
            services: Vec::new(),
            socket: topology.dir().join("admin.sock").display().to_string(),
            file_prefix: topology.prefix().to_owned(),
            seed: None,
            ports: None,
            more: String::new(),
        }
    }

    /// The same with more workers.
    pub fn workers(self, workers: u16) -> Self {
        Config { workers, ..self }
    }

    /// The same with every session in the slow path: a switch, if there is one, only punts and injects.
    pub fn without_offload(mut self) -> Self {
        if let Some(switch) = &mut self.switch {
            switch.policy = "\"never\"".to_owned();
        }
        self
    }

    /// The same with one more service.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// The service of this name, to be changed. Panics without one: the test has a typing error.
    pub fn service_mut(&mut self, name: &str) -> &mut Service {
        let found = self.services.iter_mut().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("no service {name} in the test's config"))
    }
}

/// The text of `carom.toml`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[workers]\ncount = {}\n", self.workers)?;
        writeln!(f, "[limits]\nsessions = {0}\nsessions6 = {0}\n", self.sessions)?;
        writeln!(f, "[dpdk]\nfile_prefix = \"{}\"\nmemory_mb = 256\n", self.file_prefix)?;
        writeln!(f, "[admin]\nsocket = \"{}\"\n", self.socket)?;
        if let Some(seed) = self.seed {
            writeln!(f, "[debug]\nseed = {seed}\n")?;
        }
        if let Some(switch) = &self.switch {
            writeln!(f, "{switch}")?;
        }
        self.interfaces.iter().try_for_each(|interface| writeln!(f, "{interface}"))?;
        let (first, last) = (LIP_FIRST, LIP_LAST);
        writeln!(f, "[[pool]]\nname = \"lips\"")?;
        writeln!(f, "addresses = [\"{}-{}\", \"{}-{}\"]", first.v4, last.v4, first.v6, last.v6)?;
        if let Some((first, last)) = self.ports {
            writeln!(f, "ports = \"{first}-{last}\"")?;
        }
        writeln!(f, "\n{}", self.more)?;
        self.services.iter().try_for_each(|service| writeln!(f, "{service}"))
    }
}

impl fmt::Display for SwitchConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[target]\nkind = \"{}\"\nprogram = \"{}\"", self.kind, self.program)?;
        writeln!(f, "address = \"{ADDRESS}\"\ndevice_id = {DEVICE_ID}")?;
        writeln!(f, "election_id = {ELECTION_ID}")?;
        if !self.is_inside {
            writeln!(f, "link = {{ device = \"af_packet:{SLOWPATH_DEVICE}\", port = {SLOWPATH_PORT} }}")?;
        }
        writeln!(f, "policy = {}\nretry = \"{}\"\nsweep = \"{}\"", self.policy, self.retry, self.sweep)?;
        self.punt_rate.map_or(Ok(()), |rate| writeln!(f, "punt_rate = {rate}"))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[interface]]\nname = \"{}\"", self.name)?;
        match &self.at {
            Attachment::Device(device) => writeln!(f, "device = \"{device}\"")?,
            Attachment::Port(port, mac) => writeln!(f, "port = {port}\nmac = \"{mac}\"")?,
        }
        writeln!(f, "addresses = [\"{}/24\", \"{}/64\"]", self.addr.v4, self.addr.v6)?;
        if let Some(gateway) = self.gateway {
            writeln!(f, "gateway = [\"{}\", \"{}\"]", gateway.v4, gateway.v6)?;
        }
        if !self.neighbors.is_empty() {
            let mut table = String::new();
            for (ip, mac) in &self.neighbors {
                write!(table, "{}\"{ip}\" = \"{mac}\"", if table.is_empty() { "" } else { ", " })?;
            }
            writeln!(f, "neighbors = {{ {table} }}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[service]]\nname = \"{}\"\nlisten = \"{}\"", self.name, self.listen)?;
        match self.protocol {
            Protocol::Tcp => writeln!(f, "protocol = \"tcp\"\ntoa = {}", self.toa)?,
            Protocol::Udp => writeln!(f, "protocol = \"udp\"")?,
        }
        writeln!(f, "scheduler = \"{}\"\nservers = [", self.scheduler)?;
        for server in &self.servers {
            let Server { address, weight, max_connections } = server;
            writeln!(f, "    {{ address = \"{address}\", weight = {weight}, max_connections = {max_connections} }},")?;
        }
        writeln!(f, "]")
    }
}
