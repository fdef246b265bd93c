//! Device strings, and asking whether a device can work before DPDK is asked for it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::os::{self, capability};

/// A device as DPDK names it: a PCI address (`0000:03:00.0`) or a virtual device
/// (`net_af_packet0,iface=eth0,qpairs=2`), each with arguments after a comma.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Device {
    name: String,
    args: String,
}

/// Why a device cannot be used. Each says what mends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceError {
    /// The string is empty or has no name.
    Empty,
    /// No network interface of that name in this network namespace.
    NoInterface {
        /// The device.
        device: String,
        /// The interface.
        interface: String,
    },
    /// An argument that the driver needs is missing.
    MissingArgument {
        /// The device.
        device: String,
        /// What is missing, as it is written.
        argument: &'static str,
    },
    /// A file or directory that the device needs is missing or not accessible.
    File {
        /// The device.
        device: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// This process may not do what the device needs.
    NoRights {
        /// The device.
        device: String,
        /// The capabilities that are missing, as setcap and systemd write them.
        capabilities: Vec<&'static str>,
    },
    /// The kernel lacks what the device needs.
    Kernel {
        /// The device.
        device: String,
        /// What is missing.
        what: &'static str,
    },
    /// No such PCI device, or one that DPDK cannot reach yet.
    Pci {
        /// The PCI address.
        device: String,
        /// What is the matter and what mends it.
        why: String,
    },
    /// DPDK cannot make the device.
    Dpdk {
        /// The device.
        device: String,
        /// rte_errno, positive; 0 when DPDK gave none.
        errno: i32,
        /// What DPDK logged.
        log: Vec<String>,
    },
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::Empty => {
                f.write_str("a device needs a name, such as net_af_packet0,iface=eth0 or 0000:03:00.0")
            }
            DeviceError::NoInterface { device, interface } => write!(
                f,
                "{device}: there is no network interface {interface:?} in this network namespace; `ip link` lists those \
                 there are"
            ),
            DeviceError::MissingArgument { device, argument } => {
                write!(f, "{device}: the argument {argument} is missing")
            }
            DeviceError::File { device, path, why } => write!(f, "{device}: {}: {why}", path.display()),
            DeviceError::NoRights { device, capabilities } => write!(
                f,
                "{device}: too few rights, {} missing: run as root, or give the program the capabilities (setcap {}+ep, \
                 or AmbientCapabilities= of systemd)",
                capabilities.join(" and "),
                capabilities.join(",").to_lowercase()
            ),
            DeviceError::Kernel { device, what } => write!(f, "{device}: {what}"),
            DeviceError::Pci { device, why } => write!(f, "{device}: {why}"),
            DeviceError::Dpdk { device, errno, log } => {
                write!(f, "{device}: DPDK cannot make this device")?;
                if *errno != 0 {
                    write!(f, " ({})", os::errno_text(*errno))?;
                }
                let driver = driver_of(device);
                if !KNOWN_DRIVERS.contains(&driver) {
                    write!(f, "; {driver:?} is none of the drivers known to work: {}", KNOWN_DRIVERS.join(", "))?;
                }
                // net_af_packet makes the number of its fanout group of process id and interface index; two processes in one
                // network namespace can come to the same, and a process cannot choose another.
                if log.iter().any(|line| line.contains("PACKET_FANOUT")) {
                    f.write_str("; another process here happens to have its number for such a device: start again")?;
                }
                if log.is_empty() { Ok(()) } else { write!(f, "; DPDK says: {}", log.join(" | ")) }
            }
        }
    }
}

impl std::error::Error for DeviceError {}

/// Virtual network drivers that are of use here.
const KNOWN_DRIVERS: &[&str] = &[
    "net_af_packet",
    "net_af_xdp",
    "net_memif",
    "net_null",
    "net_pcap",
    "net_ring",
    "net_tap",
    "net_vhost",
    "net_virtio_user",
    "virtio_user",
];

impl Device {
    /// Reads a device string.
    pub fn parse(text: &str) -> Result<Device, DeviceError> {
        let (name, args) = text.trim().split_once(',').unwrap_or((text.trim(), ""));
        if name.trim().is_empty() {
            return Err(DeviceError::Empty);
        }
        let name = name.trim();
        // DPDK wants the domain too; lspci leaves it out where there is only one.
        let name = if is_pci(&format!("0000:{name}")) { format!("0000:{name}") } else { name.to_owned() };
        Ok(Device { name, args: args.trim().to_owned() })
    }

    /// The name, by which the port is found.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments: what follows the first comma.
    pub fn args(&self) -> &str {
        &self.args
    }

    /// Whether this is a PCI address.
    pub fn is_pci(&self) -> bool {
        is_pci(&self.name)
    }

    /// The driver of a virtual device: the name without the number at its end.
    pub fn driver(&self) -> &str {
        driver_of(&self.name)
    }

    /// The kernel interface behind the device, where it has one.
    pub fn interface(&self) -> Option<&str> {
        match self.driver() {
            "net_af_packet" | "eth_af_packet" | "net_af_xdp" => self.values("iface").next(),
            "net_pcap" | "eth_pcap" => ["iface", "rx_iface", "tx_iface"].iter().find_map(|key| self.values(key).next()),
            _ => None,
        }
    }

    /// The values given for an argument, in order.
    fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        let key = key.to_owned();
        self.args.split(',').filter_map(move |arg| arg.split_once('=').filter(|(k, _)| k.trim() == key)).map(|(_, v)| v)
    }

    fn error_name(&self) -> String {
        self.name.clone()
    }

    /// Asks the system what the device needs, so that what is missing can be named.
    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        match self.driver() {
            _ if self.is_pci() => self.check_pci(),
            "net_af_packet" | "eth_af_packet" => self.check_af_packet(),
            "net_af_xdp" => self.check_af_xdp(),
            "net_pcap" | "eth_pcap" => self.check_pcap(),
            "net_tap" => self.check_tap(),
            "net_vhost" | "eth_vhost" => self.check_socket_dir("iface", "iface=PATH"),
            "net_virtio_user" | "virtio_user" => self.check_virtio_user(),
            "net_memif" => self.check_memif(),
            _ => Ok(()),
        }
    }

    fn check_af_packet(&self) -> Result<(), DeviceError> {
        self.check_interface("iface")?;
        os::may_open_packet_socket().map_err(|error| self.socket_error(&error, "the kernel has no AF_PACKET sockets"))
    }

    fn check_af_xdp(&self) -> Result<(), DeviceError> {
        self.check_interface("iface")?;
        os::may_open_xdp_socket().map_err(|error| {
            self.socket_error(&error, "the kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS); use net_af_packet")
        })?;
        if os::in_user_namespace() {
            let what = "AF_XDP does not work inside a user namespace: the kernel takes XDP programs only from outside one; \
                        use net_af_packet";
            return Err(DeviceError::Kernel { device: self.error_name(), what });
        }
        let mut missing = Vec::new();
        // The frames' memory is pinned.
        if !os::has_capability(capability::IPC_LOCK) && !os::may_lock_any_memory() {
            missing.push("CAP_IPC_LOCK");
        }
        if !os::has_capability(capability::NET_ADMIN) {
            missing.push("CAP_NET_ADMIN");
        }
        if !os::has_capability(capability::BPF) && !os::has_capability(capability::SYS_ADMIN) {
            missing.push("CAP_BPF");
        }
        self.rights(missing)
    }

    fn socket_error(&self, error: &std::io::Error, absent: &'static str) -> DeviceError {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                DeviceError::NoRights { device: self.error_name(), capabilities: vec!["CAP_NET_RAW"] }
            }
            _ => DeviceError::Kernel { device: self.error_name(), what: absent },
        }
    }

    fn rights(&self, missing: Vec<&'static str>) -> Result<(), DeviceError> {
        if missing.is_empty() {
            return Ok(());
        }
        Err(DeviceError::NoRights { device: self.error_name(), capabilities: missing })
    }

    fn check_interface(&self, key: &'static str) -> Result<(), DeviceError> {
        match self.values(key).next() {
            None => Err(DeviceError::MissingArgument { device: self.error_name(), argument: "iface=INTERFACE" }),
            Some(interface) if os::interface_exists(interface) => Ok(()),
            Some(interface) => {
                Err(DeviceError::NoInterface { device: self.error_name(), interface: interface.to_owned() })
            }
        }
    }

    fn check_pcap(&self) -> Result<(), DeviceError> {
        for path in self.values("rx_pcap") {
            fs::File::open(path).map_err(|error| self.file_error(path, &error.to_string()))?;
        }
        for path in self.values("tx_pcap") {
            fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .map_err(|error| self.file_error(path, &error.to_string()))?;
        }
        let interfaces = ["iface", "rx_iface", "rx_iface_in", "tx_iface"];
        for interface in interfaces.iter().flat_map(|key| self.values(key)) {
            if !os::interface_exists(interface) {
                return Err(DeviceError::NoInterface { device: self.error_name(), interface: interface.to_owned() });
            }
            os::may_open_packet_socket()
                .map_err(|error| self.socket_error(&error, "the kernel has no AF_PACKET sockets"))?;
        }
        let keys = interfaces.iter().chain(&["rx_pcap", "tx_pcap"]);
        if keys.flat_map(|key| self.values(key)).next().is_none() {
            return Err(DeviceError::MissingArgument {
                device: self.error_name(),
                argument: "rx_pcap=FILE or iface=INTERFACE",
            });
        }
        Ok(())
    }

    fn check_tap(&self) -> Result<(), DeviceError> {
        const TUN: &str = "/dev/net/tun";
        match fs::OpenOptions::new().read(true).write(true).open(TUN) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(self.file_error(TUN, "the kernel has no TUN/TAP devices here: modprobe tun"));
            }
            Err(error) => return Err(self.file_error(TUN, &error.to_string())),
        }
        self.rights(if os::has_capability(capability::NET_ADMIN) { vec![] } else { vec!["CAP_NET_ADMIN"] })
    }

    /// The directory of a Unix socket that the device makes.
    fn check_socket_dir(&self, key: &str, written: &'static str) -> Result<(), DeviceError> {
        let path = self.values(key).next();
        let path = path.ok_or_else(|| DeviceError::MissingArgument { device: self.error_name(), argument: written })?;
        match Path::new(path).parent() {
            Some(dir) if !dir.as_os_str().is_empty() && !dir.is_dir() => {
                Err(self.file_error(&dir.to_string_lossy(), "no such directory for the socket"))
            }
            _ => Ok(()),
        }
    }

    fn check_virtio_user(&self) -> Result<(), DeviceError> {
        let Some(path) = self.values("path").next() else {
            return Err(DeviceError::MissingArgument { device: self.error_name(), argument: "path=SOCKET" });
        };
        if self.values("server").next() == Some("1") {
            return self.check_socket_dir("path", "path=SOCKET");
        }
        match fs::metadata(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.file_error(path, &format!("{error}; the vhost side makes it and must run first"))),
        }
    }

    fn check_memif(&self) -> Result<(), DeviceError> {
        // An abstract socket, the default, needs no directory.
        if self.values("socket").next().is_some() && self.values("socket-abstract").next() == Some("no") {
            return self.check_socket_dir("socket", "socket=PATH");
        }
        Ok(())
    }

    /// The device exists and has a driver through which DPDK can reach it.
    fn check_pci(&self) -> Result<(), DeviceError> {
        let path = Path::new("/sys/bus/pci/devices").join(self.name.to_lowercase());
        if path.exists() {
            return Ok(());
        }
        let why = "there is no PCI device at this address; `lspci -D | grep Ethernet` lists those there are";
        Err(DeviceError::Pci { device: self.error_name(), why: why.into() })
    }

    /// Why DPDK made no port of a PCI device that is there.
    pub(crate) fn pci_error(&self, log: &[String]) -> DeviceError {
        let path = Path::new("/sys/bus/pci/devices").join(self.name.to_lowercase());
        let driver = fs::read_link(path.join("driver")).ok();
        let driver = driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let mut why = match driver.as_deref() {
            Some("vfio-pci" | "uio_pci_generic" | "igb_uio") => {
                "it is bound for DPDK, but DPDK cannot use it: is it a network card with a driver in DPDK, are IOMMU and \
                 rights on /dev/vfio there, and is the locked-memory limit high enough (ulimit -l)?"
                    .to_owned()
            }
            Some(kernel) => format!(
                "it belongs to the kernel driver {kernel}: bind it with `dpdk-devbind.py -b vfio-pci {}` (cards by \
                 NVIDIA/Mellanox stay with mlx4_core or mlx5_core and need rdma-core)",
                self.name
            ),
            None => format!("no driver holds it: bind it with `dpdk-devbind.py -b vfio-pci {}`", self.name),
        };
        if !log.is_empty() {
            why += &format!("; DPDK says: {}", log.join(" | "));
        }
        DeviceError::Pci { device: self.error_name(), why }
    }

    fn file_error(&self, path: &str, why: &str) -> DeviceError {
        DeviceError::File { device: self.error_name(), path: path.into(), why: why.into() }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.args.is_empty() { Ok(()) } else { write!(f, ",{}", self.args) }
    }
}

fn driver_of(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// Whether `text` is `domain:bus:device.function`, the first three hexadecimal, the last 0 to 7.
fn is_pci(text: &str) -> bool {
    let hex = |part: &str, max: usize| {
        !part.is_empty() && part.len() <= max && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let Some((address, function)) = text.split_once('.') else { return false };
    let parts: Vec<_> = address.split(':').collect();
    let function = matches!(function.as_bytes(), [b'0'..=b'7']);
    function && parts.len() == 3 && hex(parts[0], 8) && hex(parts[1], 2) && hex(parts[2], 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let device = Device::parse(text).and_then(|device| device.check().map(|()| device));
        device.map_or_else(|error| error.to_string(), |_| "fine".into())
    }

    #[test]
    fn reads_names_and_arguments() {
        let device = Device::parse(" net_af_packet12,iface=eth0,qpairs=2 ").unwrap();
        assert_eq!(
            (device.name(), device.args(), device.driver()),
            ("net_af_packet12", "iface=eth0,qpairs=2", "net_af_packet")
        );
        assert_eq!(device.interface(), Some("eth0"));
        assert_eq!(device.to_string(), "net_af_packet12,iface=eth0,qpairs=2");
        assert!(!device.is_pci());
        for address in ["0000:03:00.0", "03:00.0", "10000:ae:1f.7"] {
            let device = Device::parse(address).unwrap();
            assert!(device.is_pci(), "{address}");
            assert!(device.name().ends_with(address));
        }
        for other in ["0000:03:00", "eth0", "a:b.8", "0000:03:00.0.1", "::."] {
            assert!(!Device::parse(other).unwrap().is_pci(), "{other}");
        }
        assert_eq!(Device::parse(" ,iface=x"), Err(DeviceError::Empty));
    }

    #[test]
    fn names_what_is_missing() {
        assert_eq!(
            check("net_af_packet0,iface=nope0"),
            "net_af_packet0: there is no network interface \"nope0\" in this network namespace; `ip link` lists those \
             there are"
        );
        assert_eq!(check("net_af_packet0,qpairs=2"), "net_af_packet0: the argument iface=INTERFACE is missing");
        assert!(check("net_af_xdp0,iface=nope0").contains("no network interface \"nope0\""));
        assert!(check("net_pcap0,rx_pcap=/no/such.pcap").contains("/no/such.pcap: No such file"));
        assert!(check("net_pcap0,tx_pcap=/no/such.pcap").contains("/no/such.pcap: No such file"));
        assert!(check("net_pcap0,iface=nope0").contains("nope0"));
        assert!(check("net_pcap0").contains("rx_pcap=FILE"));
        assert!(check("net_vhost0,iface=/no/such/sock").contains("/no/such: no such directory"));
        assert!(check("virtio_user0,path=/no/such/sock").contains("must run first"));
        assert!(check("net_memif0,socket=/no/such/sock,socket-abstract=no").contains("/no/such"));
        assert!(check("ffff:03:00.0").contains("no PCI device"));
        let fanout = DeviceError::Dpdk {
            device: "net_af_packet0".into(),
            errno: 0,
            log: vec!["could not set PACKET_FANOUT on AF_PACKET socket for eth0:Invalid argument".into()],
        };
        assert!(fanout.to_string().contains("start again; DPDK says"), "{fanout}");
        assert_eq!(check("net_null0"), "fine");
        assert_eq!(check("net_memif0,role=server"), "fine");
    }
}
