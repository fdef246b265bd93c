//! The test network.
//!
//! ```text
//!   two arms                                             one arm
//!
//!   client ── p0 balancer p1 ── router ─┬─ rs1           client ── router ─┬─ rs1
//!   10.10.0.0/24        10.20.0.0/24    └─ rs2           10.10.0.0/24  │   └─ rs2
//!   fd10::/64           fd20::/64                                      p0 balancer
//!                                                                 10.20.0.0/24, fd20::/64
//! ```
//!
//! `rs1` is in 10.20.1.0/24 and fd20:1::/64, `rs2` in 10.20.2.0/24 and fd20:2::/64; the router is their default gateway, as
//! it would be without a balancer. Nothing on a real server knows of the balancer.

use std::fs::{File, TryLockError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::netns::{self, Netns};
use crate::switch::Switch;
use crate::target::Target;

/// How the balancer is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arms {
    /// One interface, to the router; clients reach the router too.
    One,
    /// One interface to the clients and one to the router.
    Two,
}

/// An IPv4 and an IPv6 address of the same thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dual {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Dual {
    const fn new(v4: [u8; 4], v6: [u16; 3], host: u16) -> Self {
        let [a, b, c, d] = v4;
        Dual { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(v6[0], v6[1], v6[2], 0, 0, 0, 0, host) }
    }

    /// Both addresses, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// The client's first address.
pub const CLIENT: Dual = Dual::new([10, 10, 0, 2], [0xfd10, 0, 0], 0x2);
/// A client address no kernel owns: for peers that write their own packets.
pub const RAW_CLIENT: Dual = Dual::new([10, 10, 0, 66], [0xfd10, 0, 0], 0x66);
/// The balancer's address in the clients' net (two arms).
pub const BALANCER_FRONT: Dual = Dual::new([10, 10, 0, 1], [0xfd10, 0, 0], 0x1);
/// The balancer's address in the net it shares with the router.
pub const BALANCER_BACK: Dual = Dual::new([10, 20, 0, 1], [0xfd20, 0, 0], 0x1);
/// The router in the balancer's net.
pub const ROUTER_BACK: Dual = Dual::new([10, 20, 0, 254], [0xfd20, 0, 0], 0xfe);
/// The router in the clients' net (one arm).
pub const ROUTER_FRONT: Dual = Dual::new([10, 10, 0, 254], [0xfd10, 0, 0], 0xfe);
/// The first of the balancer's local addresses.
pub const LIP_FIRST: Dual = Dual::new([10, 20, 0, 200], [0xfd20, 0, 0], 0x200);
/// The last of the balancer's local addresses.
pub const LIP_LAST: Dual = Dual::new([10, 20, 0, 203], [0xfd20, 0, 0], 0x203);
/// The real servers, in the order of their names `rs1`, `rs2`.
pub const SERVERS: [Dual; 2] =
    [Dual::new([10, 20, 1, 10], [0xfd20, 1, 0], 0x10), Dual::new([10, 20, 2, 10], [0xfd20, 2, 0], 0x10)];
/// The routers' addresses in the real servers' nets.
const SERVER_GATEWAYS: [Dual; 2] =
    [Dual::new([10, 20, 1, 254], [0xfd20, 1, 0], 0xfe), Dual::new([10, 20, 2, 254], [0xfd20, 2, 0], 0xfe)];
/// Every MAC address of the balancer's side is fixed, so that raw peers and golden files need not ask.
pub const BALANCER_MACS: [&str; 2] = ["02:ca:00:00:00:00", "02:ca:00:00:00:01"];

/// A kernel host's interface to create, with the namespace of its other end.
struct Cable<'a> {
    near: (&'a Netns, &'a str),
    far: (&'a Netns, &'a str),
}

/// The namespaces and cables of one test. Dropping it removes them all.
#[derive(Debug)]
pub struct Topology {
    /// How the balancer is attached.
    pub arms: Arms,
    /// What it is tested on.
    pub target: Target,
    /// The switch between the balancer's cables and its slow path, if the target has one.
    pub switch: Option<Switch>,
    /// The host that clients run on; it owns [`CLIENT`] and seven more addresses after it.
    pub client: Netns,
    /// The balancer's namespace: interfaces without any kernel address.
    pub balancer: Netns,
    /// The router in front of the real servers.
    pub router: Netns,
    /// The real servers, `rs1` and `rs2`.
    pub servers: [Netns; 2],
    prefix: String,
    dir: PathBuf,
    /// Held while the topology exists, see [`Load`].
    _machine: File,
}

/// The longest that a test waits for others: a test that is stuck, or stopped in a debugger, must not stop all.
const LONGEST_WAIT: Duration = Duration::from_secs(180);

/// How much of the machine a test needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// Runs beside others, and nobody waits for it.
    Uncounted,
    /// Runs beside others.
    Light,
    /// Runs alone: it measures time, or would starve others.
    Alone,
}

impl Topology {
    /// Builds the network for a test that may run beside others.
    pub fn new(arms: Arms) -> Result<Self> {
        Self::with_load(arms, Load::Light)
    }

    /// Builds the network for the target of the environment. Waits while another test process needs the machine for itself,
    /// or, with [`Load::Alone`], until no other topology exists.
    pub fn with_load(arms: Arms, load: Load) -> Result<Self> {
        Self::with_target(arms, load, Target::from_env()?)
    }

    /// [`Topology::with_load`] for this target. softnic is then in the balancer's process.
    pub fn with_target(arms: Arms, load: Load, target: Target) -> Result<Self> {
        Self::build(arms, load, target, target.is_bmv2())
    }

    /// The same with a switch of its own, whatever its kind, that can be turned off, and whose cable can be listened on.
    pub fn with_switch(arms: Arms, load: Load, target: Target) -> Result<Self> {
        ensure!(target != Target::None, "the target none has no switch");
        Self::build(arms, load, target, true)
    }

    fn build(arms: Arms, load: Load, target: Target, has_switch: bool) -> Result<Self> {
        let machine = machine_lock(load)?;
        let prefix = netns::unique_prefix();
        let dir = netns::work_dir(&prefix);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let host = |role: &str| Netns::create(&format!("{prefix}-{role}"));
        let mut topology = Topology {
            arms,
            target,
            switch: None,
            client: host("client")?,
            balancer: host("balancer")?,
            router: host("router")?,
            servers: [host("rs1")?, host("rs2")?],
            prefix: prefix.clone(),
            dir,
            _machine: machine,
        };
        topology.configure_hosts()?;
        topology.connect()?;
        topology.address()?;
        if has_switch {
            let cables = topology.balancer_interfaces();
            let switch = Switch::start(target, &topology.balancer, cables, topology.dir.clone());
            topology.switch = Some(switch?);
        }
        Ok(topology)
    }

    /// The common beginning of the namespaces' names, unique on this machine.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A directory for files of this test; removed with the topology.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The virtual address the services of this topology use: in the clients' net with two arms, in the net shared with
    /// the router with one.
    pub fn vip(&self) -> Dual {
        match self.arms {
            Arms::One => Dual::new([10, 20, 0, 100], [0xfd20, 0, 0], 0x100),
            Arms::Two => Dual::new([10, 10, 0, 100], [0xfd10, 0, 0], 0x100),
        }
    }

    /// The balancer's interfaces: `p0`, and `p1` with two arms (`p1` is then the router's side).
    pub fn balancer_interfaces(&self) -> &'static [&'static str] {
        match self.arms {
            Arms::One => &["p0"],
            Arms::Two => &["p0", "p1"],
        }
    }

    /// The balancer's interface on the router's side.
    pub fn back_interface(&self) -> &'static str {
        self.balancer_interfaces()[self.balancer_interfaces().len() - 1]
    }

    /// Makes the router believe that the way to `net` has a smaller MTU, as a tunnel would: longer packets with DF are
    /// answered with "fragmentation needed" or "packet too big".
    pub fn narrow_route(&self, net: &str, interface: &str, mtu: u16) -> Result<()> {
        // The metric is that of the route which the interface's own IPv6 address made: that one is to be replaced.
        let (family, metric) = if net.contains(':') { ("-6", "metric 256") } else { ("-4", "") };
        self.router.ip(&format!("{family} route replace {net} dev {interface} {metric} mtu lock {mtu}"))?;
        Ok(())
    }

    fn configure_hosts(&self) -> Result<()> {
        for host in [&self.client, &self.router, &self.servers[0], &self.servers[1]] {
            for (key, value) in [
                ("ipv4.conf.all.rp_filter", "0"),
                ("ipv4.conf.default.rp_filter", "0"),
                ("ipv6.conf.all.accept_ra", "0"),
                ("ipv6.conf.default.accept_ra", "0"),
                ("ipv6.conf.default.accept_dad", "0"),
                // Every error message is expected by some test; none may be held back by chance.
                ("ipv4.icmp_ratelimit", "0"),
                ("ipv4.icmp_msgs_per_sec", "100000"),
                ("ipv6.icmp.ratelimit", "0"),
            ] {
                host.sysctl(key, value)?;
            }
        }
        for key in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
            self.router.sysctl(key, "1")?;
        }
        // The kernel of the balancer's namespace must stay silent: what answers there is the balancer.
        for key in ["ipv6.conf.all.disable_ipv6", "ipv6.conf.default.disable_ipv6"] {
            self.balancer.sysctl(key, "1")?;
        }
        Ok(())
    }

    fn connect(&self) -> Result<()> {
        let [rs1, rs2] = &self.servers;
        let mut cables = vec![
            Cable { near: (rs1, "eth0"), far: (&self.router, "rs1") },
            Cable { near: (rs2, "eth0"), far: (&self.router, "rs2") },
            Cable { near: (&self.router, "lb0"), far: (&self.balancer, self.back_interface()) },
        ];
        cables.push(match self.arms {
            Arms::One => Cable { near: (&self.client, "eth0"), far: (&self.router, "cli0") },
            Arms::Two => Cable { near: (&self.client, "eth0"), far: (&self.balancer, "p0") },
        });
        for Cable { near: (near, near_if), far: (far, far_if) } in cables {
            near.ip(&format!("link add {near_if} type veth peer name {far_if} netns {}", far.name()))?;
            for (ns, interface) in [(near, near_if), (far, far_if)] {
                // A veth passes partial checksums and 64 KiB segments on as they are; a real wire would not.
                ns.exec(&["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])?;
            }
        }
        for (interface, mac) in self.balancer_interfaces().iter().zip(BALANCER_MACS) {
            self.balancer.ip(&format!("link set {interface} address {mac}"))?;
        }
        let router: &[&str] =
            if self.arms == Arms::One { &["rs1", "rs2", "lb0", "cli0"] } else { &["rs1", "rs2", "lb0"] };
        let hosts: [(&Netns, &[&str]); 5] = [
            (&self.balancer, self.balancer_interfaces()),
            (&self.client, &["eth0"]),
            (rs1, &["eth0"]),
            (rs2, &["eth0"]),
            (&self.router, router),
        ];
        for (host, interfaces) in hosts {
            interfaces.iter().try_for_each(|name| host.ip(&format!("link set {name} up")).map(drop))?;
        }
        hosts.into_iter().try_for_each(|(host, interfaces)| wait_for_carrier(host, interfaces))
    }

    fn address(&self) -> Result<()> {
        for addr in client_addresses() {
            self.client.ip(&format!("addr add {}/24 dev eth0", addr.v4))?;
        }
        // As a source Linux prefers the first IPv4 address that was added, but the last IPv6 one.
        for addr in client_addresses().rev() {
            self.client.ip(&format!("addr add {}/64 dev eth0 nodad", addr.v6))?;
        }
        add_address(&self.router, "lb0", ROUTER_BACK)?;
        for (i, server) in self.servers.iter().enumerate() {
            add_address(server, "eth0", SERVERS[i])?;
            add_address(&self.router, ["rs1", "rs2"][i], SERVER_GATEWAYS[i])?;
            default_gateway(server, SERVER_GATEWAYS[i])?;
        }
        match self.arms {
            Arms::One => {
                add_address(&self.router, "cli0", ROUTER_FRONT)?;
                default_gateway(&self.client, ROUTER_FRONT)
            }
            Arms::Two => default_gateway(&self.client, BALANCER_FRONT),
        }
    }
}

/// Waits until the kernel has taken notice that the cables are plugged in. It does so up to a second later, and drops what
/// is sent before.
fn wait_for_carrier(host: &Netns, interfaces: &[&str]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    for interface in interfaces {
        while !host.ip(&format!("-o link show {interface}"))?.contains("state UP") {
            ensure!(Instant::now() < deadline, "{interface} in {} does not come up", host.name());
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// The addresses of the client host: [`CLIENT`], which it uses unless told otherwise, and seven more.
pub fn client_addresses() -> impl DoubleEndedIterator<Item = Dual> {
    (0..8).map(|host: u32| Dual {
        v4: Ipv4Addr::from_bits(CLIENT.v4.to_bits() + host),
        v6: Ipv6Addr::from_bits(CLIENT.v6.to_bits() + u128::from(host)),
    })
}

/// Gives an interface both addresses of `addr`, in nets of 24 and 64 bits.
pub fn add_address(ns: &Netns, interface: &str, addr: Dual) -> Result<()> {
    ns.ip(&format!("addr add {}/24 dev {interface}", addr.v4))?;
    ns.ip(&format!("addr add {}/64 dev {interface} nodad", addr.v6))?;
    Ok(())
}

/// Sets the default routes of both families.
pub fn default_gateway(ns: &Netns, via: Dual) -> Result<()> {
    ns.ip(&format!("route add default via {}", via.v4))?;
    ns.ip(&format!("-6 route add default via {}", via.v6))?;
    Ok(())
}

/// The lock that keeps tests which need the whole machine apart from all others, also across processes.
fn machine_lock(load: Load) -> Result<File> {
    let path = std::env::temp_dir().join("carom-e2e.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        let outcome = match load {
            Load::Uncounted => return Ok(file),
            Load::Light => file.try_lock_shared(),
            Load::Alone => file.try_lock(),
        };
        match outcome {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => {
                eprintln!("another test has held {} for {LONGEST_WAIT:?}; going on beside it", path.display());
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the machine for a test"),
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
