//! Everything at once: the network, servers on both real servers, and a balancer in front of them.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::balancer::Balancer;
use crate::config::{Config, Protocol, Service};
use crate::control::Control;
use crate::http::HttpServer;
use crate::switch::{self, Switch};
use crate::target::Target;
use crate::topology::{Arms, CLIENT, Dual, Load, Topology};
use crate::udp::UdpEcho;

/// Port of the HTTP servers.
pub const HTTP: u16 = 80;
/// Port of the UDP servers.
pub const ECHO: u16 = 53;

/// A running set-up. Fields are dropped in their order: the balancer first, the network last.
#[derive(Debug)]
pub struct Lab {
    /// The balancer.
    pub balancer: Balancer,
    /// The config it runs with; change it and call [`Balancer::reload`].
    pub config: Config,
    /// `rs1` and `rs2` on port [`HTTP`].
    pub http: [HttpServer; 2],
    /// `rs1` and `rs2` on port [`ECHO`].
    pub echo: [UdpEcho; 2],
    /// The network.
    pub topology: Topology,
}

impl Lab {
    /// Starts everything for the target of the environment; `configure` completes the config for the topology's VIPs.
    pub fn start(arms: Arms, load: Load, configure: impl FnOnce(Config, Dual) -> Config) -> Result<Self> {
        Self::with(Topology::with_load(arms, load)?, configure)
    }

    /// Starts everything for this target.
    pub fn on(target: Target, load: Load, configure: impl FnOnce(Config, Dual) -> Config) -> Result<Self> {
        Self::with(Topology::with_target(Arms::Two, load, target)?, configure)
    }

    /// Starts everything for this target, with a switch of its own.
    pub fn with_switch(target: Target, load: Load, configure: impl FnOnce(Config, Dual) -> Config) -> Result<Self> {
        Self::with(Topology::with_switch(Arms::Two, load, target)?, configure)
    }

    /// Starts everything in a network that is there.
    pub fn with(topology: Topology, configure: impl FnOnce(Config, Dual) -> Config) -> Result<Self> {
        let [rs1, rs2] = &topology.servers;
        let http = [HttpServer::start(rs1, "rs1", HTTP)?, HttpServer::start(rs2, "rs2", HTTP)?];
        let echo = [UdpEcho::start(rs1, "rs1", ECHO)?, UdpEcho::start(rs2, "rs2", ECHO)?];
        let config = configure(Config::new(&topology), topology.vip());
        let balancer = Balancer::start(&topology, &config)?;
        Ok(Lab { balancer, config, http, echo, topology })
    }

    /// Two arms and four services: `http`, `http6`, `echo` and `echo6`, without TOA.
    pub fn plain() -> Result<Self> {
        Self::start(Arms::Two, Load::Light, all_services)
    }

    /// The IPv4 and the IPv6 address of a service on this port.
    pub fn service(&self, port: u16) -> [SocketAddr; 2] {
        self.topology.vip().both().map(|ip| SocketAddr::new(ip, port))
    }

    /// The address the client uses towards `peer`.
    pub fn client_ip(&self, peer: IpAddr) -> IpAddr {
        CLIENT.both()[usize::from(peer.is_ipv6())]
    }

    /// Runs `work` on the client.
    pub fn on_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.topology.client.run(work)
    }

    /// The switch. Panics without one: the test has not asked for it.
    pub fn switch(&self) -> &Switch {
        self.topology.switch.as_ref().expect("a lab with a switch of its own")
    }

    /// A second controller of the switch, that reads.
    pub fn control(&self) -> Result<Control<'_>> {
        switch::reader(&self.topology.balancer, self.topology.target)
    }

    /// Puts [`Lab::config`], as it is now, in force.
    pub fn reload(&self) -> Result<()> {
        self.balancer.reload(&self.config)
    }
}

/// Adds HTTP and UDP services of both families in front of both real servers: `http`, `http6`, `echo`, `echo6`.
pub fn all_services(config: Config, vip: Dual) -> Config {
    http_services(config, vip).service(Service::new("echo", Protocol::Udp, vip.v4.into(), ECHO)).service(Service::new(
        "echo6",
        Protocol::Udp,
        vip.v6.into(),
        ECHO,
    ))
}

/// Adds the HTTP services of both families: `http`, `http6`.
pub fn http_services(config: Config, vip: Dual) -> Config {
    config.service(http("http", vip.v4.into())).service(http("http6", vip.v6.into()))
}

/// An HTTP service in front of both real servers.
pub fn http(name: &str, vip: IpAddr) -> Service {
    Service::new(name, Protocol::Tcp, vip, HTTP)
}
