//! Putting the parts together: DPDK, interfaces, the shared tables, and a worker for each core.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use carom_p4::{FlowV4Key, FlowV6Key, Key};
use dpdk::swx::Wire;
use dpdk::{
    Consumer, Eal, EalConfig, LogLevel, Memory, Mempool, MempoolConfig, Port, PortConfig, Producer, Ring, RingMode,
};
use fullnat::counters::Counters;
use fullnat::forward::{Forwarder, Setup};
use fullnat::id::{IfaceId, WorkerId};
use fullnat::neighbor::{Neighbors, Pins};
use fullnat::persistence::Persistence;
use fullnat::plan::Plan;
use fullnat::ports::LportOwners;
use fullnat::rss::RssSpread;
use fullnat::spread::{Placement, Spread};
use fullnat::time::Time;
use fullnat::wire::Mac;

use crate::config::{
    self, CompileError, Compiler, Config, EalDevice, NamedDevice, Place, Switch, SwitchPort, TargetCode,
};
use crate::control::{self, Link, WorkerEnds};
use crate::daemon::needed;
use crate::offload::{self, OffloadEnds, Settings};
use crate::softnic::{self, Parts, StartError};
use crate::target::{self, TargetError};
use crate::worker::switch::{PortTraffic, PortsError};
use crate::worker::{Inbox, Outbox, Ports, Query, Sink, Source, Worker};

/// Descriptors of each queue.
pub(crate) const DESCRIPTORS: u16 = 1024;
/// Frames that may wait between two workers.
pub(crate) const HANDOVER_RING: u32 = 1024;
/// Buffers a thread keeps at hand.
pub(crate) const MEMPOOL_CACHE: u32 = 256;
/// Services and servers that have counters of their own: as many as there are ids, since a reload may bring any.
const COUNTED: usize = 1 << 16;

/// Why the balancer could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// DPDK.
    #[error("cannot start DPDK: {0}")]
    Eal(#[from] dpdk::EalError),
    /// The buffers.
    #[error("cannot make the packet buffers: {0}")]
    Mempool(#[from] dpdk::MempoolError),
    /// An interface.
    #[error("device of \"{name}\": {source}")]
    Port {
        /// Its name in the config.
        name: String,
        /// What is wrong.
        source: dpdk::PortError,
    },
    /// The switch's ports.
    #[error("target: {0}")]
    Switch(#[from] PortsError),
    /// The switch inside.
    #[error(transparent)]
    Softnic(#[from] StartError),
    /// A file for the way to the target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A ring between workers.
    #[error("cannot make a ring between workers: {0}")]
    Ring(#[from] dpdk::RingError),
    /// The plan.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The next-hop table.
    #[error("limits.nexthops = {0} is too small for the config's gateways and real servers; raise it")]
    Nexthops(usize),
    /// No randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// A worker over devices, or over rings to the switch inside.
pub type DpdkWorker = Worker<Source, Sink>;

/// The balancer, ready to run.
pub struct Assembled {
    /// DPDK.
    pub eal: Eal,
    /// The workers, by number.
    pub workers: Vec<DpdkWorker>,
    /// The first plan.
    pub plan: Arc<Plan>,
    /// Control's ends of the rings to the workers.
    pub links: Vec<Link>,
    /// The packets' buffers.
    pub mempool: Mempool,
    /// The interfaces.
    pub ports: Vec<Port>,
    /// The next-hop table.
    pub next_hops: Arc<Neighbors>,
    /// What made the plan, for the next one.
    pub compiler: Compiler,
    /// What control holds in the next-hop table.
    pub pins: Pins,
    /// The interfaces' MAC addresses.
    pub macs: Vec<Mac>,
    /// Most sessions at a time, over all workers and both families.
    pub capacity: u64,
    /// By worker what it counts of the switch's ports; empty when `ports` are the interfaces.
    pub traffic: Vec<Arc<[PortTraffic]>>,
    /// For the offload manager, when there is a target.
    pub offload: Option<Offload>,
    /// The switch inside, to be started.
    pub softnic: Option<Parts>,
}

/// What the offload manager is started with.
pub struct Offload {
    /// What the config says.
    pub settings: Settings,
    /// Its ends of the rings to the workers.
    pub rings: offload::Rings,
}

/// Keys and seeds, unknown to clients, or fixed by `debug.seed`.
struct Secrets {
    flow: [u64; 2],
    nexthops: [u64; 2],
    persistence: [u64; 2],
    seed: u64,
}

/// Starts DPDK and the interfaces and makes the workers.
pub fn assemble(config: &Config) -> Result<Assembled, AssembleError> {
    let workers = config.workers();
    let listener = listen(config)?;
    let served = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let settings = target::settings(config, served)?;
    let secrets = Secrets::new(config.debug.seed, config.switch().is_some())?;
    let eal = Eal::init(eal_config(&config.dpdk, &config.devices()))?;
    let mempool = Mempool::new(&eal, "carom", mempool_config(config, workers))?;
    let devices = config.devices();
    let mut ports = open_ports(&devices, eal, &mempool, config.queues())?;
    let given = config.switch().and_then(|switch| switch.ports.iter().map(|port| port.mac).collect());
    let macs: Vec<Mac> = given.unwrap_or_else(|| ports.iter().map(|port| Mac(port.info().mac)).collect());
    let mut compiler = Compiler::new();
    let plan = Arc::new(compiler.compile(config, &macs)?);
    let flow_hash = dpdk::flow_hash(secrets.flow);
    let next_hops = Arc::new(Neighbors::new(config.limits.nexthops, secrets.nexthops));
    let mut pins = Pins::default();
    pins.update(&next_hops, needed(config, &plan)).map_err(|_| AssembleError::Nexthops(next_hops.capacity()))?;
    let persistence = Arc::new(Persistence::new(config.limits.persistence as usize, secrets.persistence));
    let queues = start_ports(&devices, &mut ports, config.queues())?;
    let (softnic, mut queues) = match listener.zip(config.switch()) {
        Some((listener, switch)) => {
            let (parts, ends) = inside(eal, config, switch, listener, queues)?;
            (Some(parts), ends)
        }
        None => (None, queues.into_iter().map(over_devices).collect()),
    };
    let spread = match &softnic {
        Some(_) => spread(&[], macs.len(), workers),
        None => spread(&ports, macs.len(), workers),
    };
    let (mut producers, mut consumers) = rings(eal, workers)?;
    let iface_of_port = match config.switch() {
        Some(_) => (0..macs.len()).map(|i| IfaceId(i as u8)).collect(),
        None => iface_of_port(&ports),
    };
    let (offload, ends) = match settings {
        Some(settings) => {
            let placement = Some(Placement::new(spread.clone(), Arc::clone(&flow_hash)));
            let settings = Settings { placement, ..settings };
            let (rings, ends) = offload::rings(workers);
            (Some(Offload { settings, rings }), ends.into_iter().map(Some).collect())
        }
        None => (None, Vec::new()),
    };
    let gate = offload.as_ref().map(|offload: &Offload| Arc::clone(&offload.rings.gate));
    let mut ends = ends.into_iter().chain(std::iter::repeat_with(|| None));
    let origin = Instant::now();
    let share = |total: u32| (total as usize).div_ceil(workers);
    let (mut made, mut links, mut traffic) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..workers {
        let counters = Arc::new(Counters::new(COUNTED, COUNTED));
        let (link, control_ends): (Link, WorkerEnds) = control::link();
        links.push(link);
        let (receive, transmit) = queues.remove(0);
        let switch = config.switch().map(|switch| Ports::new(switch.ports.iter().map(|p| p.port))).transpose()?;
        // The devices of a switch inside are the interfaces, and their drivers count.
        traffic.extend(switch.as_ref().filter(|_| softnic.is_none()).map(Ports::traffic));
        let (requests, verdicts) =
            ends.next().flatten().map(|OffloadEnds { requests, verdicts }| (requests, verdicts)).unzip();
        let outbox = Outbox::new(transmit, producers.remove(0), mempool, Arc::clone(&counters));
        made.push(Worker {
            forwarder: Forwarder::new(Setup {
                worker: WorkerId(number as u8),
                spread: spread.clone(),
                sessions_v4: share(config.limits.sessions),
                sessions_v6: share(config.limits.sessions6),
                hash: Arc::clone(&flow_hash),
                seed: secrets.seed.wrapping_add(number as u64),
                icmp_per_second: config.limits.icmp_rate.div_ceil(workers as u32),
                resets_per_second: config.limits.reset_rate.div_ceil(workers as u32),
                pending_per_nexthop: usize::from(config.limits.pending_packets),
                neighbors: Arc::clone(&next_hops),
                persistence: Arc::clone(&persistence),
                counters: Arc::clone(&counters),
                plan: Arc::clone(&plan),
                offload: gate.clone(),
                now: Time(0),
            }),
            receive,
            outbox: outbox.behind(switch.clone()).offloading(requests),
            switch,
            inbox: Inbox::new(consumers.remove(0)),
            iface_of_port: iface_of_port.clone(),
            verdicts,
            control: Some(control_ends),
            query: Query::default(),
            counters,
            origin,
        });
    }
    let capacity = ((share(config.limits.sessions) + share(config.limits.sessions6)) * workers) as u64;
    Ok(Assembled {
        eal,
        workers: made,
        plan,
        links,
        mempool,
        ports,
        next_hops,
        compiler,
        pins,
        macs,
        capacity,
        offload,
        softnic,
        traffic,
    })
}

/// How DPDK is started for these devices.
pub(crate) fn eal_config(dpdk: &config::types::Dpdk, devices: &[NamedDevice]) -> EalConfig {
    let mb = dpdk.memory_mb;
    EalConfig {
        memory: match dpdk.memory {
            config::types::Memory::Auto => Memory::Auto { mb },
            config::types::Memory::Huge => Memory::Huge,
            config::types::Memory::Nohuge => Memory::NoHuge { mb },
        },
        file_prefix: dpdk.file_prefix.clone(),
        // Virtual devices are made one by one when their ports are opened, so that each error is seen by itself.
        vdevs: Vec::new(),
        pci: devices
            .iter()
            .filter_map(|device| match &device.eal {
                EalDevice::Allow(pci) => Some(pci.clone()),
                EalDevice::Vdev(_) => None,
            })
            .collect(),
        log_level: Some(LogLevel::Notice),
        log: Some(log_dpdk),
        extra: dpdk.args.clone(),
    }
}

fn log_dpdk(level: LogLevel, line: &str) {
    match level {
        LogLevel::Error => tracing::warn!(target: "dpdk", "{line}"),
        LogLevel::Warning => tracing::info!(target: "dpdk", "{line}"),
        _ => tracing::debug!(target: "dpdk", "{line}"),
    }
}

/// As many buffers as all queues and rings may hold at once, and what is on its way in the workers.
fn mempool_config(config: &Config, workers: usize) -> MempoolConfig {
    let devices = config.devices();
    let queues = devices.len() * config.queues();
    let inside = matches!(config.switch(), Some(Switch { place: Place::Inside { .. }, .. }));
    let punts = if inside { (workers + 1) * 2 * softnic::RING as usize } else { 0 };
    let rings = workers * workers.saturating_sub(1);
    let needed = queues * 2 * usize::from(DESCRIPTORS)
        + rings * HANDOVER_RING as usize
        + punts
        + workers * (2 * MEMPOOL_CACHE as usize + 1024);
    let mtu = devices.iter().map(|device| device.mtu).max().unwrap_or(1500);
    mempool(config.dpdk.mbufs, needed, mtu)
}

/// So many buffers for packets of at most `mtu` bytes: what the config says, or what is needed.
pub(crate) fn mempool(wanted: Option<u32>, needed: usize, mtu: u16) -> MempoolConfig {
    MempoolConfig {
        mbufs: wanted.unwrap_or(needed.max(8192) as u32 - 1),
        cache: MEMPOOL_CACHE,
        // Ethernet header, VLAN tag and FCS beside the IP packet.
        data_room: mtu.saturating_add(64).max(2048),
        socket: None,
    }
}

/// Opens devices, each with so many queues both ways.
pub(crate) fn open_ports(
    devices: &[NamedDevice],
    eal: Eal,
    mempool: &Mempool,
    queues: usize,
) -> Result<Vec<Port>, AssembleError> {
    let open = |device: &NamedDevice| {
        let (EalDevice::Allow(text) | EalDevice::Vdev(text)) = &device.eal;
        let port_config = PortConfig {
            rx_queues: queues as u16,
            tx_queues: queues as u16,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            mtu: Some(device.mtu),
            // Frames for VIPs carry the interface's own MAC address; neighbour discovery needs its groups.
            promiscuous: true,
            mempools: vec![*mempool],
        };
        let failed = |source| AssembleError::Port { name: device.name.clone(), source };
        Port::open(&eal, text, port_config).map_err(failed)
    };
    devices.iter().map(open).collect()
}

/// The queues of one thread, by device.
pub(crate) type Queues = (Vec<dpdk::RxQueue>, Vec<dpdk::TxQueue>);

/// Starts the devices, and gives each of so many threads one queue of each way and device.
pub(crate) fn start_ports(
    devices: &[NamedDevice],
    ports: &mut [Port],
    threads: usize,
) -> Result<Vec<Queues>, AssembleError> {
    let mut queues: Vec<Queues> = (0..threads).map(|_| (Vec::new(), Vec::new())).collect();
    for (port, device) in ports.iter_mut().zip(devices) {
        let failed = |source| AssembleError::Port { name: device.name.clone(), source };
        let (receive, transmit) = port.start().map_err(failed)?;
        for (thread, (receive, transmit)) in queues.iter_mut().zip(receive.into_iter().zip(transmit)) {
            thread.0.push(receive);
            thread.1.push(transmit);
        }
    }
    Ok(queues)
}

/// What a worker receives from and sends to.
type WorkerQueues = (Vec<Source>, Vec<Sink>);

fn over_devices((receive, transmit): Queues) -> WorkerQueues {
    (receive.into_iter().map(Source::Queue).collect(), transmit.into_iter().map(Sink::Queue).collect())
}

/// Where the switch inside is to listen, when there is one.
fn listen(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(Switch { place: Place::Inside { .. }, address, .. }) = config.switch() else { return Ok(None) };
    // Checked with the config.
    let Ok(address) = address.parse() else { return Ok(None) };
    softnic::listen(address).map(Some)
}

/// The switch inside, with the devices for its ports, and the workers' ends of the rings to it.
fn inside(
    eal: Eal,
    config: &Config,
    switch: &Switch,
    listener: TcpListener,
    queues: Vec<Queues>,
) -> Result<(Parts, Vec<WorkerQueues>), StartError> {
    let (link, ends) = softnic::rings(&eal, config.workers())?;
    let devices = queues.into_iter().flat_map(|(receive, transmit)| receive.into_iter().zip(transmit));
    let wire = |(port, queues): (&SwitchPort, _)| (u32::from(port.port), Box::new(queues) as Box<dyn Wire>);
    let mut wires: Vec<_> = switch.ports.iter().zip(devices).map(wire).collect();
    wires.push((switch.link_port.into(), link));
    let (cpu, code) = match switch.place {
        Place::Inside { cpu, code } => (cpu.map(usize::from), code),
        Place::Outside(_) => (None, TargetCode::default()),
    };
    let code = softnic::code(code)?;
    let ends = ends.into_iter().map(|(from, to)| (vec![Source::Ring(from)], vec![Sink::Ring(to)])).collect();
    let server = softnic::Config {
        device_id: switch.device_id,
        sizes: flow_sizes(&config.limits),
        code,
        ..softnic::Config::default()
    };
    Ok((Parts { wires, listener, server, tls: None, packets: None, cpu }, ends))
}

/// Room in the flow tables of a switch inside: no more than all sessions can take, where that is less than what the program
/// says.
fn flow_sizes(limits: &config::types::Limits) -> Vec<(String, u32)> {
    let of = |table: carom_p4::Table, sessions: u32| {
        let entries = 2 * u64::from(sessions);
        (entries < table.size).then_some((table.name.to_owned(), entries as u32))
    };
    [of(FlowV4Key::TABLE, limits.sessions), of(FlowV6Key::TABLE, limits.sessions6)].into_iter().flatten().collect()
}

/// By RSS when every interface reports its key and table, by software otherwise. Behind a switch the link's counts for all
/// `interfaces`.
fn spread(ports: &[Port], interfaces: usize, workers: usize) -> Spread {
    let owners = LportOwners::new(workers as u8);
    if workers == 1 {
        return Spread::Sticky(owners);
    }
    if ports.is_empty() {
        return Spread::Software(owners);
    }
    let by_rss = |port: &Port| port.rss().and_then(|rss| RssSpread::new(&rss.key, &rss.reta).ok());
    match ports.iter().map(by_rss).collect::<Option<Vec<_>>>() {
        Some(ifaces) => Spread::Rss(ifaces.into_iter().cycle().take(interfaces).collect()),
        None => Spread::Software(owners),
    }
}

/// A ring from each worker to each other: by worker, where it puts (by worker), and what it takes from.
pub(crate) type Rings = (Vec<Vec<Option<Producer>>>, Vec<Vec<Consumer>>);

pub(crate) fn rings(eal: Eal, workers: usize) -> Result<Rings, AssembleError> {
    let mut producers: Vec<Vec<Option<Producer>>> = Vec::new();
    let mut consumers: Vec<Vec<Consumer>> = (0..workers).map(|_| Vec::new()).collect();
    for from in 0..workers {
        let mut ways = Vec::new();
        for (to, inbox) in consumers.iter_mut().enumerate() {
            if to == from {
                ways.push(None);
                continue;
            }
            let name = format!("carom-{from}-{to}");
            let (producer, consumer) = Ring::create(&eal, &name, HANDOVER_RING, RingMode::Spsc)?;
            ways.push(Some(producer));
            inbox.push(consumer);
        }
        producers.push(ways);
    }
    Ok((producers, consumers))
}

fn iface_of_port(ports: &[Port]) -> Vec<IfaceId> {
    let len = ports.iter().map(|port| usize::from(port.id()) + 1).max().unwrap_or(0);
    let mut table = vec![IfaceId::default(); len];
    for (i, port) in ports.iter().enumerate() {
        table[usize::from(port.id())] = IfaceId(i as u8);
    }
    table
}

impl Secrets {
    /// Behind a switch a session's worker must be the same after a restart, so the key of the flow hash is the machine's.
    fn new(seed: Option<u64>, lasting: bool) -> Result<Self, AssembleError> {
        let mut state = match seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(AssembleError::Random)?,
        };
        let mut next = || match seed {
            None => getrandom::u64().map_err(AssembleError::Random),
            Some(_) => {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Ok(state ^ state >> 32)
            }
        };
        Ok(Secrets {
            flow: match machine_id().filter(|_| lasting && seed.is_none()) {
                Some(id) => [(id >> 64) as u64, id as u64],
                None => [next()?, next()?],
            },
            nexthops: [next()?, next()?],
            persistence: [next()?, next()?],
            seed: next()?,
        })
    }
}

/// A number that is this machine's for good, and nobody's to know who comes over the network (machine-id(5)); none: the machine
/// has none.
fn machine_id() -> Option<u128> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    u128::from_str_radix(text.trim(), 16).ok().filter(|id| *id != 0)
}
