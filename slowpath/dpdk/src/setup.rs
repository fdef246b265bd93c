//! Opening a port: checks first, then configuration, then queues.

use std::ptr;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::device::Device;
use crate::eal::Eal;
use crate::log;
use crate::mempool::Mempool;
use crate::os;
use crate::port::{self, Port, PortConfig, PortError, PortInfo, PortInner};

/// Ethernet header and two VLAN tags: what a frame has beside its IP packet.
const FRAME_OVERHEAD: u16 = 14 + 4 + 4;
/// What Ethernet carries without being told otherwise.
const DEFAULT_MTU: u16 = 1500;

struct Setup<'a> {
    id: u16,
    device: &'a Device,
    config: &'a PortConfig,
    info: sys::rte_eth_dev_info,
    /// Where DPDK's log was at the start.
    mark: u64,
}

/// Opens port `id`. Wrong wishes are refused before anything is changed; an error of the device closes it.
pub(crate) fn open(eal: Eal, id: u16, device: &Device, config: PortConfig) -> Result<Port, PortError> {
    let mark = log::mark();
    let (inner, ready) = {
        let mut control = eal.control();
        if control.open_ports.contains(&id) {
            return Err(PortError::InUse { device: device.name().into() });
        }
        let info = port::device_info(id).map_err(|errno| PortError::Dpdk {
            device: device.name().into(),
            what: "asking the device what it can do",
            errno,
            log: log::since(mark),
        })?;
        let setup = Setup { id, device, config: &config, info, mark };
        setup.check_queues()?;
        setup.check_mempools()?;
        let mtu = setup.mtu()?;
        control.open_ports.push(id);
        let inner = Arc::new(PortInner { id, device: info.device, vdev: !device.is_pci(), eal });
        (inner, setup.run(mtu))
    };
    // On an error `inner` goes here and closes the port, for which it takes the control lock again.
    Ok(Port::new(inner, ready?, config))
}

impl Setup<'_> {
    fn name(&self) -> String {
        self.device.name().to_owned()
    }

    fn ok(&self, what: &'static str, ret: i32) -> Result<(), PortError> {
        if ret == 0 {
            return Ok(());
        }
        let errno = if ret == -1 { os::rte_errno() } else { -ret };
        Err(PortError::Dpdk { device: self.name(), what, errno, log: log::since(self.mark) })
    }

    fn check_queues(&self) -> Result<(), PortError> {
        let checks = [
            ("receive", self.config.rx_queues, self.info.max_rx_queues),
            ("transmit", self.config.tx_queues, self.info.max_tx_queues),
        ];
        for (kind, asked, max) in checks {
            if asked == 0 || asked > max {
                return Err(PortError::Queues { device: self.name(), kind, asked, max });
            }
        }
        Ok(())
    }

    fn check_mempools(&self) -> Result<(), PortError> {
        let given = self.config.mempools.len();
        if given == 1 || given == usize::from(self.config.rx_queues) {
            return Ok(());
        }
        Err(PortError::Mempools { device: self.name(), given })
    }

    /// The MTU the port shall have: what was asked for, or what the kernel has for the interface behind it.
    fn mtu(&self) -> Result<u16, PortError> {
        let rooms = self.config.mempools.iter().map(|pool| pool.data_room());
        // Frames are never received in pieces, so each must fit one buffer.
        let room = rooms.min().unwrap_or(0).saturating_sub(FRAME_OVERHEAD);
        let max = if self.info.max_mtu == 0 { room } else { room.min(self.info.max_mtu) };
        let kernel = || self.device.interface().and_then(os::interface_mtu);
        let mtu = self.config.mtu.or_else(kernel).unwrap_or(DEFAULT_MTU.min(max));
        if mtu < self.info.min_mtu || mtu > max {
            return Err(PortError::Mtu { device: self.name(), asked: mtu, min: self.info.min_mtu, max });
        }
        Ok(mtu)
    }

    fn run(&self, mtu: u16) -> Result<PortInfo, PortError> {
        self.configure(mtu)?;
        let (rx, tx) = self.descriptors()?;
        let socket = self.socket();
        for queue in 0..self.config.rx_queues {
            self.rx_queue(queue, rx, socket)?;
        }
        for queue in 0..self.config.tx_queues {
            let mut conf = self.info.default_txconf;
            conf.offloads = 0;
            // SAFETY: the port is configured with that many queues; the configuration is read during the call.
            let ret = unsafe { sys::rte_eth_tx_queue_setup(self.id, queue, tx, socket.unwrap_or(u32::MAX), &conf) };
            self.ok("setting a transmit queue up", ret)?;
        }
        self.set_mtu(mtu)?;
        self.port_info(mtu, rx, tx, socket)
    }

    fn configure(&self, mtu: u16) -> Result<(), PortError> {
        // SAFETY: all-zero bytes are the defaults of rte_eth_conf: no offload, no interrupt, one traffic class.
        let mut conf: sys::rte_eth_conf = unsafe { std::mem::zeroed() };
        conf.rxmode.mtu = u32::from(mtu);
        let hash = self.info.flow_type_rss_offloads & sys::CAROM_RSS_IP_TCP_UDP;
        if self.config.rx_queues > 1 && hash != 0 {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            // The driver's own key: `rss_key` stays null.
            conf.rx_adv_conf.rss_conf.rss_hf = hash;
        }
        // SAFETY: the port exists and is not started; the configuration is copied.
        let ret = unsafe { sys::rte_eth_dev_configure(self.id, self.config.rx_queues, self.config.tx_queues, &conf) };
        self.ok("configuring the port", ret)
    }

    fn descriptors(&self) -> Result<(u16, u16), PortError> {
        let (mut rx, mut tx) = (self.config.rx_descriptors, self.config.tx_descriptors);
        // SAFETY: the port exists; both numbers are read and written during the call.
        let ret = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx, &mut tx) };
        self.ok("choosing descriptor counts", ret)?;
        Ok((rx, tx))
    }

    fn rx_queue(&self, queue: u16, descriptors: u16, socket: Option<u32>) -> Result<(), PortError> {
        let pools: &[Mempool] = &self.config.mempools;
        let pool = pools.get(usize::from(queue)).unwrap_or(&pools[0]);
        let mut conf = self.info.default_rxconf;
        conf.offloads = 0;
        conf.rx_mempools = ptr::null_mut();
        // SAFETY: the port is configured with that many queues; pools live as long as the process; the configuration is
        // read during the call. u32::MAX is SOCKET_ID_ANY.
        let ret = unsafe {
            sys::rte_eth_rx_queue_setup(self.id, queue, descriptors, socket.unwrap_or(u32::MAX), &conf, pool.as_ptr())
        };
        self.ok("setting a receive queue up", ret)
    }

    /// Tells the device itself, where it wants to know. Without a wish it keeps what it has.
    fn set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        if self.config.mtu.is_none() {
            return Ok(());
        }
        // SAFETY: the port exists.
        match unsafe { sys::rte_eth_dev_set_mtu(self.id, mtu) } {
            // A device of software only has no limit of its own.
            ret if ret == -libc::ENOTSUP => Ok(()),
            ret => self.ok("setting the MTU", ret),
        }
    }

    fn socket(&self) -> Option<u32> {
        // SAFETY: the port exists.
        u32::try_from(unsafe { sys::rte_eth_dev_socket_id(self.id) }).ok()
    }

    fn port_info(
        &self,
        mtu: u16,
        rx_descriptors: u16,
        tx_descriptors: u16,
        socket: Option<u32>,
    ) -> Result<PortInfo, PortError> {
        // SAFETY: all-zero bytes are a valid address, which the call overwrites.
        let mut mac: sys::rte_ether_addr = unsafe { std::mem::zeroed() };
        // SAFETY: the port exists.
        self.ok("reading the MAC address", unsafe { sys::rte_eth_macaddr_get(self.id, &mut mac) })?;
        Ok(PortInfo {
            name: self.name(),
            // SAFETY: the driver's name is null or a static string.
            driver: unsafe { os::text(self.info.driver_name) },
            mac: mac.addr_bytes,
            mtu,
            max_rx_queues: self.info.max_rx_queues,
            max_tx_queues: self.info.max_tx_queues,
            rx_descriptors,
            tx_descriptors,
            socket,
        })
    }
}
