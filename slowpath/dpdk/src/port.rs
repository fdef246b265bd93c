//! Network devices.

use std::fmt;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::device::{Device, DeviceError};
use crate::eal::{Control, Eal};
use crate::log;
use crate::mempool::Mempool;
use crate::os;
use crate::queue::{RxQueue, TxQueue};
use crate::rss::{self, RssInfo};
use crate::setup;

/// How to set a port up.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Receive descriptors per queue; brought within what the device takes.
    pub rx_descriptors: u16,
    /// Transmit descriptors per queue; brought within what the device takes.
    pub tx_descriptors: u16,
    /// MTU in bytes; `None` leaves what the device has.
    pub mtu: Option<u16>,
    /// Receive frames for every MAC address.
    pub promiscuous: bool,
    /// Where received frames go: one pool for all receive queues, or one for each.
    pub mempools: Vec<Mempool>,
}

impl PortConfig {
    /// One queue each way, 1024 descriptors, not promiscuous.
    pub fn new(mempool: Mempool) -> Self {
        PortConfig {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            promiscuous: false,
            mempools: vec![mempool],
        }
    }
}

/// Why a port could not be opened or started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortError {
    /// The device does not exist or cannot be made.
    Device(DeviceError),
    /// No port of that name; PCI devices are named when DPDK is initialised.
    NotFound {
        /// The device.
        device: String,
    },
    /// Another handle has it.
    InUse {
        /// The device.
        device: String,
    },
    /// No queue, or more than the device has.
    Queues {
        /// The device.
        device: String,
        /// `receive` or `transmit`.
        kind: &'static str,
        /// How many were asked for.
        asked: u16,
        /// How many there are.
        max: u16,
    },
    /// Neither one pool nor one for each receive queue.
    Mempools {
        /// The device.
        device: String,
        /// How many were given.
        given: usize,
    },
    /// An MTU that the device does not take.
    Mtu {
        /// The device.
        device: String,
        /// What was asked for.
        asked: u16,
        /// The least it takes.
        min: u16,
        /// The most it takes.
        max: u16,
    },
    /// A call of DPDK failed.
    Dpdk {
        /// The device.
        device: String,
        /// What was being done.
        what: &'static str,
        /// Error number, positive.
        errno: i32,
        /// What DPDK logged.
        log: Vec<String>,
    },
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortError::Device(error) => error.fmt(f),
            PortError::NotFound { device } => {
                write!(f, "{device}: DPDK has no such port; PCI devices must be named when DPDK is initialised")
            }
            PortError::InUse { device } => write!(f, "{device}: the port is open already"),
            PortError::Queues { device, kind, asked, max } => {
                write!(f, "{device}: {asked} {kind} queues are not possible, the device has 1 to {max}")?;
                let argument = match device.trim_end_matches(|c: char| c.is_ascii_digit()) {
                    "net_af_packet" => Some("qpairs=N"),
                    "net_af_xdp" => Some("queue_count=N"),
                    "net_vhost" | "net_virtio_user" | "virtio_user" => Some("queues=N"),
                    "net_pcap" => Some("one rx_pcap=… and tx_pcap=… for each"),
                    _ => None,
                };
                argument.map_or(Ok(()), |argument| write!(f, "; give the device more with {argument}"))
            }
            PortError::Mempools { device, given } => {
                write!(f, "{device}: {given} mempools given; one, or one for each receive queue, is needed")
            }
            PortError::Mtu { device, asked, min, max } => {
                write!(f, "{device}: an MTU of {asked} is not possible, the device and its buffers take {min} to {max}")
            }
            PortError::Dpdk { device, what, errno, log } => {
                write!(f, "{device}: {what} failed ({})", os::errno_text(*errno))?;
                if log.is_empty() { Ok(()) } else { write!(f, "; DPDK says: {}", log.join(" | ")) }
            }
        }
    }
}

impl std::error::Error for PortError {}

impl From<DeviceError> for PortError {
    fn from(error: DeviceError) -> Self {
        PortError::Device(error)
    }
}

/// What a port is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortInfo {
    /// The name DPDK has for it.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The longest IP packet it carries, in bytes.
    pub mtu: u16,
    /// Receive queues it could have.
    pub max_rx_queues: u16,
    /// Transmit queues it could have.
    pub max_tx_queues: u16,
    /// Receive descriptors each queue has.
    pub rx_descriptors: u16,
    /// Transmit descriptors each queue has.
    pub tx_descriptors: u16,
    /// NUMA node, where it has one.
    pub socket: Option<u32>,
}

/// The state of a port's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Whether frames can pass.
    pub up: bool,
    /// Megabits per second, where known.
    pub speed: Option<u32>,
    /// Whether it sends and receives at once.
    pub full_duplex: bool,
}

/// What a port has counted since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames the device dropped because its queues were full.
    pub rx_missed: u64,
    /// Frames received in error.
    pub rx_errors: u64,
    /// Frames dropped because the mempool was empty.
    pub rx_no_mbuf: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}

/// A network device, set up and, once [started](Port::start), carrying frames. It stops and closes when this handle and
/// all of its queues are gone.
pub struct Port {
    inner: Arc<PortInner>,
    info: PortInfo,
    rss: Option<RssInfo>,
    config: PortConfig,
    started: bool,
}

/// What the port and its queues share: the device, stopped and closed when the last of them goes.
pub(crate) struct PortInner {
    pub(crate) id: u16,
    pub(crate) device: *mut sys::rte_device,
    /// Virtual devices are removed when closed, so that their name is free again.
    pub(crate) vdev: bool,
    pub(crate) eal: Eal,
}

// SAFETY: the pointer is only passed back to DPDK, by the one thread that drops the object.
unsafe impl Send for PortInner {}
// SAFETY: shared use reads the port number only.
unsafe impl Sync for PortInner {}

impl PortInner {
    /// Stops and closes the device.
    ///
    /// The control lock is held by the caller, and no queue handle is left.
    fn close(&self, control: &mut Control) {
        // SAFETY: the port exists since it was opened, and nobody uses it any more. Stopping a port that is not started
        // does nothing.
        unsafe {
            sys::rte_eth_dev_stop(self.id);
            sys::rte_eth_dev_close(self.id);
            if self.vdev {
                sys::rte_dev_remove(self.device);
            }
        }
        control.open_ports.retain(|&id| id != self.id);
    }
}

impl Drop for PortInner {
    fn drop(&mut self) {
        self.close(&mut self.eal.control());
    }
}

/// The number of the port that has this name, or belongs to a device of this name.
pub(crate) fn find(name: &str) -> Option<u16> {
    let c_name = os::c_string(name);
    let mut id = 0;
    // SAFETY: EAL is initialised; the name ends with a zero byte.
    if unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) } == 0 {
        return Some(id);
    }
    // Some drivers name ports after more than the device.
    let mut next = 0;
    loop {
        // SAFETY: any number may be asked for.
        let id = unsafe { sys::rte_eth_find_next(next) };
        if id >= sys::CAROM_MAX_PORTS {
            return None;
        }
        if device_info(id).is_ok_and(|info| device_name(&info) == name) {
            return Some(id);
        }
        next = id + 1;
    }
}

pub(crate) fn device_info(id: u16) -> Result<sys::rte_eth_dev_info, i32> {
    // SAFETY: all-zero bytes are a valid structure; a port that does not exist is an error.
    unsafe {
        let mut info: sys::rte_eth_dev_info = std::mem::zeroed();
        match sys::rte_eth_dev_info_get(id, &mut info) {
            0 => Ok(info),
            error => Err(-error),
        }
    }
}

fn device_name(info: &sys::rte_eth_dev_info) -> String {
    if info.device.is_null() {
        return String::new();
    }
    // SAFETY: the device of a port that exists.
    unsafe { os::text(sys::rte_dev_name(info.device)) }
}

impl Port {
    /// Opens and configures a device, by its name or by the whole device string; a virtual device that does not exist
    /// yet is made. PCI devices must have been named in [`EalConfig::pci`](crate::EalConfig::pci).
    pub fn open(eal: &Eal, device: &str, config: PortConfig) -> Result<Port, PortError> {
        let device = Device::parse(device)?;
        let id = match find(device.name()) {
            Some(id) => id,
            None if device.is_pci() => return Err(PortError::NotFound { device: device.name().into() }),
            None => {
                eal.add_vdev(&device.to_string())?;
                find(device.name()).ok_or_else(|| PortError::NotFound { device: device.name().into() })?
            }
        };
        setup::open(*eal, id, &device, config)
    }

    pub(crate) fn new(inner: Arc<PortInner>, info: PortInfo, config: PortConfig) -> Port {
        Port { inner, info, rss: None, config, started: false }
    }

    /// Starts the port and hands its queues out. Once for a port.
    pub fn start(&mut self) -> Result<(Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let error = |what, errno, log| PortError::Dpdk { device: self.info.name.clone(), what, errno, log };
        if self.started {
            return Err(error("starting the port again", libc::EALREADY, Vec::new()));
        }
        let _control = self.inner.eal.control();
        let mark = log::mark();
        let id = self.inner.id;
        // SAFETY: the port is configured and all its queues are set up.
        match unsafe { sys::rte_eth_dev_start(id) } {
            0 => self.started = true,
            errno => return Err(error("starting the port", -errno, log::since(mark))),
        }
        if self.config.promiscuous {
            // SAFETY: the port exists.
            let ret = unsafe { sys::rte_eth_promiscuous_enable(id) };
            // A driver without filters receives everything anyway.
            if ret != 0 && ret != -libc::ENOTSUP {
                return Err(error("making the port promiscuous", -ret, log::since(mark)));
            }
        }
        // Neighbour discovery comes to multicast groups; drivers that cannot filter them deliver them anyway.
        // SAFETY: the port exists.
        unsafe { sys::rte_eth_allmulticast_enable(id) };
        self.rss = self.query_rss();
        let pool = |queue: u16| *self.config.mempools.get(usize::from(queue)).unwrap_or(&self.config.mempools[0]);
        let rx = (0..self.config.rx_queues).map(|queue| RxQueue::new(self.inner.clone(), queue, pool(queue)));
        let tx = (0..self.config.tx_queues).map(|queue| TxQueue::new(self.inner.clone(), queue));
        Ok((rx.collect(), tx.collect()))
    }

    fn query_rss(&self) -> Option<RssInfo> {
        // net_null reports a table, but spreads nothing.
        if self.config.rx_queues < 2 || self.info.driver == "net_null" {
            return None;
        }
        rss::query(self.inner.id, &device_info(self.inner.id).ok()?)
    }

    /// What the port is.
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// The port's number, which [`Mbuf::port`](crate::Mbuf::port) of the frames it receives gives.
    pub fn id(&self) -> u16 {
        self.inner.id
    }

    /// How the port spreads what it receives over its queues: known once it is started, and only where it has several
    /// queues and reports both key and table.
    pub fn rss(&self) -> Option<&RssInfo> {
        self.rss.as_ref()
    }

    /// The state of the link now. Does not wait for it to come up.
    pub fn link(&self) -> Link {
        let mut link = sys::carom_link { speed: 0, up: 0, full_duplex: 0 };
        // SAFETY: the port exists.
        let known = unsafe { sys::carom_link_get(self.inner.id, &mut link) } == 0;
        let speed = (known && link.speed != 0 && link.speed != sys::RTE_ETH_SPEED_NUM_UNKNOWN).then_some(link.speed);
        Link { up: known && link.up != 0, speed, full_duplex: link.full_duplex != 0 }
    }

    /// What the port has counted. Zero where the driver counts nothing.
    pub fn stats(&self) -> PortStats {
        // SAFETY: all-zero bytes are a valid structure; the port exists.
        let stats = unsafe {
            let mut stats: sys::rte_eth_stats = std::mem::zeroed();
            if sys::rte_eth_stats_get(self.inner.id, &mut stats) != 0 {
                return PortStats::default();
            }
            stats
        };
        PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_mbuf: stats.rx_nombuf,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("info", &self.info).field("started", &self.started).finish_non_exhaustive()
    }
}
