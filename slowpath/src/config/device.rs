//! Devices: what the operator writes, and what DPDK is told.

use std::fmt;
use std::str::FromStr;

use super::value::text_value;

/// The drivers with a short form: name, DPDK's driver, the argument the text after the colon fills, whether it is needed.
const SHORT: &[(&str, &str, &str)] = &[
    ("af_packet", "net_af_packet", "iface"),
    ("af_xdp", "net_af_xdp", "iface"),
    ("tap", "net_tap", "iface"),
    ("memif", "net_memif", "socket"),
    ("pcap", "net_pcap", ""),
    ("ring", "net_ring", ""),
    ("null", "net_null", ""),
    ("vhost", "net_vhost", "iface"),
    ("virtio_user", "net_virtio_user", "path"),
];

/// A device: a NIC by its PCI address, or a virtual device of DPDK.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Device {
    /// A NIC: PCI address, and DPDK's arguments for it after a comma.
    Pci(String),
    /// A virtual device in DPDK's own words: driver and number, then arguments.
    Vdev(String),
    /// A virtual device in short form.
    Short {
        /// Index into the table of drivers.
        driver: usize,
        /// What stands after the colon, up to the first comma (two parts for `pcap`).
        target: String,
        /// DPDK's further arguments.
        args: Vec<String>,
    },
}

text_value!(Device, "Device", "a network device", ["0000:03:00.0", "af_packet:eth0", "net_af_packet0,iface=eth0"]);

/// A device as DPDK's EAL is told of it: `-a` and `--vdev`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EalDevice {
    /// Argument of `-a`; the port's name is the text before the first comma.
    Allow(String),
    /// Argument of `--vdev`; the port's name is the text before the first comma.
    Vdev(String),
}

/// A device that is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedDevice {
    /// What messages call it: the interface's name, or the key of the link to the switch.
    pub name: String,
    /// What DPDK is told.
    pub eal: EalDevice,
    /// The largest IP packet in bytes.
    pub mtu: u16,
}

impl Device {
    /// What the EAL is told, for interface number `index` that is to have `queues` queues (one for each worker) and carry
    /// IP packets of `mtu` bytes.
    pub fn eal(&self, index: usize, queues: usize, mtu: u16) -> EalDevice {
        let (driver, target, args) = match self {
            Device::Pci(text) => return EalDevice::Allow(text.clone()),
            Device::Vdev(text) => return EalDevice::Vdev(text.clone()),
            Device::Short { driver, target, args } => (&SHORT[*driver], target, args),
        };
        let mut parts = vec![format!("{}{index}", driver.1)];
        match driver.0 {
            "pcap" => {
                let (rx, tx) = target.split_once(',').unwrap_or((target, ""));
                parts.push(format!("rx_pcap={rx}"));
                parts.push(format!("tx_pcap={tx}"));
            }
            "memif" => parts.push(format!("socket={target},socket-abstract=no")),
            _ if driver.2.is_empty() => {}
            _ => parts.push(format!("{}={target}", driver.2)),
        }
        for default in defaults(driver.0, queues, mtu) {
            let key = default.split('=').next().unwrap_or_default();
            // The operator's own argument wins.
            if !args.iter().any(|a| a.split('=').next() == Some(key)) {
                parts.push(default);
            }
        }
        parts.extend(args.iter().cloned());
        EalDevice::Vdev(parts.join(","))
    }

    /// What the device stands on, when two interfaces cannot share it: interface, socket or PCI address.
    pub(super) fn exclusive(&self) -> Option<String> {
        match self {
            Device::Pci(text) | Device::Vdev(text) => text.split(',').next().map(str::to_owned),
            Device::Short { target, .. } if target.is_empty() => None,
            Device::Short { driver, target, .. } => Some(format!("{}:{target}", SHORT[*driver].0)),
        }
    }
}

/// The arguments a driver needs to have `queues` queues and carry IP packets of `mtu` bytes.
fn defaults(driver: &str, queues: usize, mtu: u16) -> Vec<String> {
    match driver {
        "af_packet" => {
            // A ring slot holds the kernel's header (at most 66 bytes before the data) and the frame, and a block holds whole
            // slots. The driver's own default of 2048 is too small for jumbo frames.
            let slot = (usize::from(mtu) + 128).next_power_of_two().max(2048);
            let block = slot.max(4096);
            vec![
                format!("qpairs={queues}"),
                format!("blocksz={block}"),
                format!("framesz={slot}"),
                "framecnt=1024".into(),
            ]
        }
        "af_xdp" => vec![format!("queue_count={queues}")],
        "vhost" | "virtio_user" => vec![format!("queues={queues}")],
        _ => Vec::new(),
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("\"{}\" has a space in it, which DPDK cannot take", text.escape_debug()));
        }
        let head = text.split(',').next().unwrap_or_default();
        if is_pci(head) {
            return Ok(Device::Pci(text.to_owned()));
        }
        // Bus and device without the domain, as lspci prints it.
        if is_pci(&format!("0000:{head}")) {
            return Ok(Device::Pci(format!("0000:{text}")));
        }
        let virtio = head.strip_prefix("virtio_user").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
        if head.starts_with("net_") || virtio {
            return vdev(text, head);
        }
        let (name, rest) = text.split_once([':', ',']).unwrap_or((text, ""));
        let Some(driver) = SHORT.iter().position(|(short, ..)| *short == name) else {
            return Err(unknown(text, name));
        };
        let (mut target, mut args) = match rest.split_once(',') {
            Some((target, args)) => (target.to_owned(), args.split(',').map(str::to_owned).collect()),
            None => (rest.to_owned(), Vec::new()),
        };
        if name == "pcap" {
            if args.is_empty() || args[0].contains('=') || target.is_empty() {
                return Err(format!("\"{text}\" needs two files: write \"pcap:in.pcap,out.pcap\""));
            }
            target = format!("{target},{}", args.remove(0));
        } else if target.is_empty() && !SHORT[driver].2.is_empty() {
            let example = if SHORT[driver].2 == "iface" && name != "vhost" { "eth0" } else { "/run/carom/port.sock" };
            return Err(format!("\"{text}\" does not say which: write for example \"{name}:{example}\""));
        } else if target.contains('=') {
            // `null:size=64` and the like: no target, only arguments.
            args.insert(0, std::mem::take(&mut target));
        }
        if args.iter().any(String::is_empty) {
            return Err(format!("\"{text}\" has an empty argument: remove the spare comma"));
        }
        Ok(Device::Short { driver, target, args })
    }
}

/// A virtual device in DPDK's own words: its name ends in a number that tells it from others of its driver.
fn vdev(text: &str, head: &str) -> Result<Device, String> {
    if !head.ends_with(|c: char| c.is_ascii_digit()) {
        let rest = &text[head.len()..];
        return Err(format!("\"{text}\" has no number after the driver's name: write \"{head}0{rest}\""));
    }
    if text.split(',').skip(1).any(str::is_empty) {
        return Err(format!("\"{text}\" has an empty argument: remove the spare comma"));
    }
    Ok(Device::Vdev(text.to_owned()))
}

/// Whether `text` is a PCI address with its domain, `dddd:bb:dd.f`.
fn is_pci(text: &str) -> bool {
    let hex = |part: &str, len: usize| part.len() == len && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let separators: String = text.chars().filter(|c| matches!(c, ':' | '.')).collect();
    matches!(parts[..], [domain, bus, device, function]
        if separators == "::." && hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1))
}

/// The message for a device of no known form.
fn unknown(text: &str, name: &str) -> String {
    let nearest = SHORT
        .iter()
        .map(|(short, ..)| *short)
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    match nearest {
        Some(short) if strsim::jaro_winkler(short, name) > 0.8 => {
            format!("\"{text}\" is no device: did you mean \"{}\"?", text.replacen(name, short, 1))
        }
        _ => format!(
            "\"{text}\" is no device: write a PCI address (0000:03:00.0), \"af_packet:eth0\" or a DPDK vdev (net_…)"
        ),
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (driver, target, args) = match self {
            Device::Pci(text) | Device::Vdev(text) => return f.write_str(text),
            Device::Short { driver, target, args } => (SHORT[*driver].0, target, args),
        };
        f.write_str(driver)?;
        if !target.is_empty() {
            write!(f, ":{target}")?;
        }
        args.iter().try_for_each(|arg| write!(f, ",{arg}"))
    }
}
