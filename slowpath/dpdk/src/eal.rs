//! DPDK's environment: memory, logging, devices.

use std::ffi::{CString, c_char};
use std::fmt;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use dpdk_sys as sys;

use crate::device::{Device, DeviceError};
use crate::log::{self, LogLevel, LogSink};
use crate::os;

/// Where DPDK takes its memory from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Hugepages when at least so many megabytes of them are free, otherwise that much ordinary memory.
    Auto {
        /// Megabytes.
        mb: u32,
    },
    /// Hugepages, as many as are needed as time goes by.
    Huge,
    /// Ordinary memory. Needs no rights and no preparation; physical NICs other than through vfio do not work with it.
    NoHuge {
        /// Megabytes; taken from the system as they are used.
        mb: u32,
    },
}

impl Default for Memory {
    fn default() -> Self {
        Memory::Auto { mb: 512 }
    }
}

/// How to initialise DPDK.
#[derive(Clone, Debug, Default)]
pub struct EalConfig {
    /// Where memory comes from.
    pub memory: Memory,
    /// Names what this process shares through the file system; by default unique to the process.
    pub file_prefix: Option<String>,
    /// Virtual devices to make, such as `net_af_packet0,iface=eth0`.
    pub vdevs: Vec<String>,
    /// PCI addresses to use, with arguments after a comma. None means that PCI is not looked at.
    pub pci: Vec<String>,
    /// The least grave messages of DPDK that `log` gets; `None` is [`LogLevel::Notice`].
    pub log_level: Option<LogLevel>,
    /// Where DPDK's messages go. Without it they are only quoted in errors.
    pub log: Option<LogSink>,
    /// Further EAL arguments, as they are.
    pub extra: Vec<String>,
}

/// Why DPDK could not be initialised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EalError {
    /// It was before: DPDK can be initialised once in a process.
    AlreadyInitialised,
    /// An argument in `extra` that would end the process.
    Argument {
        /// The argument.
        argument: String,
    },
    /// Hugepages were asked for and none is free.
    NoHugepages,
    /// More ordinary memory was asked for than there is.
    TooMuchMemory {
        /// Megabytes asked for.
        asked: u64,
        /// Megabytes available.
        available: u64,
    },
    /// rte_eal_init failed.
    Dpdk {
        /// rte_errno.
        errno: i32,
        /// The arguments it was given beyond this crate's own.
        extra: Vec<String>,
        /// What DPDK logged.
        log: Vec<String>,
    },
    /// A device failed. DPDK is initialised, but there is no way back to it: end the process.
    Device(DeviceError),
}

impl fmt::Display for EalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EalError::AlreadyInitialised => f.write_str("DPDK was initialised before; a process can do so once"),
            EalError::Argument { argument } => write!(f, "the EAL argument {argument:?} would end the process"),
            EalError::NoHugepages => f.write_str(
                "no hugepage is free: reserve some (`sysctl vm.nr_hugepages=512` is 1 GB in pages of 2 MB), or let DPDK \
                 use ordinary memory",
            ),
            EalError::TooMuchMemory { asked, available } => write!(
                f,
                "{asked} MB of memory for DPDK were asked for, and {available} MB are available: ask for less, or raise \
                 the limit of the machine or control group"
            ),
            EalError::Dpdk { errno, extra, log } => {
                write!(f, "DPDK cannot be initialised ({})", os::errno_text(*errno))?;
                if *errno == libc::EINVAL && !extra.is_empty() {
                    write!(f, ": one of these arguments is not valid: {}", extra.join(" "))?;
                } else if let Some(mend) = mend(*errno) {
                    write!(f, ": {mend}")?;
                }
                if !log.is_empty() {
                    write!(f, "; it says: {}", log.join(" | "))?;
                }
                Ok(())
            }
            EalError::Device(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EalError {}

impl From<DeviceError> for EalError {
    fn from(error: DeviceError) -> Self {
        EalError::Device(error)
    }
}

fn mend(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EACCES | libc::EPERM => Some("too few rights: run as root, or use ordinary memory and virtual devices"),
        libc::ENOMEM => Some("not enough memory: reserve more hugepages, ask for less, or raise `ulimit -v` and `-l`"),
        libc::EINVAL => Some("an argument is not valid"),
        libc::ENOTSUP => Some("this CPU lacks instructions that DPDK was built for"),
        _ => None,
    }
}

/// What memory DPDK got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryReport {
    /// Whether it is hugepages.
    pub hugepages: bool,
    /// Bytes in DPDK's heaps now. With hugepages they grow when needed.
    pub total: u64,
    /// Bytes of them that are free.
    pub free: u64,
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.hugepages { "hugepages" } else { "ordinary memory" };
        write!(f, "{} MB of {kind}, {} MB free", self.total >> 20, self.free >> 20)
    }
}

/// Proof that DPDK is initialised. It stays so until the process ends: buffers may be anywhere, and only so none of
/// them can outlive its memory. Copies are free.
#[derive(Clone, Copy, Debug)]
pub struct Eal(());

/// Serialises what DPDK does not: making and removing devices, pools and rings.
static CONTROL: Mutex<Control> = Mutex::new(Control { started: false, open_ports: Vec::new() });

/// What the process has of DPDK.
pub(crate) struct Control {
    started: bool,
    /// Ports that have an owner.
    pub(crate) open_ports: Vec<u16>,
}

fn control() -> MutexGuard<'static, Control> {
    // Every use leaves DPDK in a whole state or never returns.
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Eal {
    /// Initialises DPDK and makes the devices. Once in a process; after an error of DPDK itself, or of a device, the
    /// process cannot try again.
    ///
    /// The calling thread is left as it was: not pinned, and not an lcore.
    pub fn init(config: EalConfig) -> Result<Eal, EalError> {
        let eal = {
            let mut control = control();
            if control.started {
                return Err(EalError::AlreadyInitialised);
            }
            let arguments = arguments(&config)?;
            for device in &config.pci {
                Device::parse(device)?.check()?;
            }
            control.started = true;
            start(arguments, &config)?
        };
        for device in &config.pci {
            eal.check_pci(&Device::parse(device)?)?;
        }
        for device in &config.vdevs {
            eal.add_vdev(device)?;
        }
        Ok(eal)
    }

    /// Makes a virtual device, such as `net_af_packet0,iface=eth0`, and returns its name.
    pub fn add_vdev(&self, text: &str) -> Result<String, DeviceError> {
        let device = Device::parse(text)?;
        device.check()?;
        let name = os::c_string(device.name());
        let args = os::c_string(device.args());
        let _control = control();
        let mark = log::mark();
        // SAFETY: EAL is initialised; all three strings end with a zero byte and are copied.
        let ret = unsafe { sys::rte_eal_hotplug_add(c"vdev".as_ptr(), name.as_ptr(), args.as_ptr()) };
        // A driver that fails late may report success: only the port proves it.
        if ret == 0 && crate::port::find(device.name()).is_some() {
            return Ok(device.name().to_owned());
        }
        // Many drivers say -1 and mean no error number.
        let errno = if ret < -1 { -ret } else { 0 };
        Err(DeviceError::Dpdk { device: device.name().to_owned(), errno, log: log::since(mark) })
    }

    fn check_pci(&self, device: &Device) -> Result<(), DeviceError> {
        match crate::port::find(device.name()) {
            Some(_) => Ok(()),
            None => Err(device.pci_error(&log::since(0))),
        }
    }

    /// The memory DPDK has.
    pub fn memory(&self) -> MemoryReport {
        /// RTE_MAX_NUMA_NODES of the largest build.
        const NODES: i32 = 64;
        let (mut total, mut free) = (0, 0);
        for node in 0..NODES {
            // SAFETY: all-zero bytes are a valid structure, and any node may be asked for.
            unsafe {
                let mut stats: sys::rte_malloc_socket_stats = std::mem::zeroed();
                if sys::rte_malloc_get_socket_stats(node, &mut stats) == 0 {
                    total += stats.heap_totalsz_bytes as u64;
                    free += stats.heap_freesz_bytes as u64;
                }
            }
        }
        // SAFETY: EAL is initialised.
        MemoryReport { hugepages: unsafe { sys::rte_eal_has_hugepages() } != 0, total, free }
    }

    /// Held while DPDK makes or removes something.
    pub(crate) fn control(&self) -> MutexGuard<'static, Control> {
        control()
    }
}

/// Runs rte_eal_init on a thread of its own: it would pin the caller's and make it an lcore.
fn start(arguments: Vec<String>, config: &EalConfig) -> Result<Eal, EalError> {
    let mark = log::mark();
    let failed = |errno| EalError::Dpdk { errno, extra: config.extra.clone(), log: log::since(mark) };
    if !log::install(config.log, config.log_level.unwrap_or(LogLevel::Notice)) {
        return Err(failed(libc::ENOMEM));
    }
    let init = thread::Builder::new().name("dpdk-init".into()).stack_size(8 << 20).spawn(move || {
        let texts: Vec<CString> = arguments.iter().map(|argument| os::c_string(argument)).collect();
        // EAL keeps pointers to its arguments and moves them about; they stay for the life of the process.
        let texts: &'static [CString] = Vec::leak(texts);
        let mut pointers: Vec<*mut c_char> = texts.iter().map(|text| text.as_ptr().cast_mut()).collect();
        pointers.push(ptr::null_mut());
        let pointers = Vec::leak(pointers);
        // SAFETY: an argument vector as C wants it: strings that end with a zero byte, and a null pointer behind.
        let ret = unsafe { sys::rte_eal_init(texts.len() as i32, pointers.as_mut_ptr()) };
        if ret < 0 { Err(os::rte_errno()) } else { Ok(()) }
    });
    let result = init.map_err(|_| failed(libc::ENOMEM))?.join();
    match result {
        Ok(Ok(())) => {
            remove_runtime_directory();
            Ok(Eal(()))
        }
        Ok(Err(errno)) => Err(failed(errno)),
        // The thread runs nothing that panics; if it does after all, nothing is known of DPDK.
        Err(_) => Err(failed(libc::EFAULT)),
    }
}

/// DPDK makes a directory for each file prefix and leaves it behind. Nothing is put there without a shared configuration,
/// which this process has not, so it goes at once; should there be something in it, it stays.
fn remove_runtime_directory() {
    // SAFETY: EAL is initialised; the string it gives lives as long as the process.
    let directory = unsafe { os::text(sys::rte_eal_get_runtime_dir()) };
    let _ = std::fs::remove_dir(directory);
}

/// The argument vector for rte_eal_init.
fn arguments(config: &EalConfig) -> Result<Vec<String>, EalError> {
    let mut arguments = vec!["carom".to_owned(), "--no-telemetry".to_owned()];
    memory_arguments(config, &mut arguments)?;
    let prefix = config.file_prefix.clone().unwrap_or_else(|| format!("carom-{}", std::process::id()));
    arguments.push(format!("--file-prefix={prefix}"));
    // One lcore that may run wherever this process may: EAL pins nothing then, not even its own threads.
    arguments.push(format!("--lcores=0@({})", os::ranges(&os::allowed_cpus())));
    if config.pci.is_empty() {
        arguments.push("--no-pci".to_owned());
    }
    for device in &config.pci {
        arguments.extend(["-a".to_owned(), Device::parse(device)?.to_string()]);
    }
    if let Some(level) = config.log_level.filter(|level| *level > LogLevel::Info) {
        arguments.push(format!("--log-level={}", level as u32));
    }
    for argument in &config.extra {
        if ends_process(argument) {
            return Err(EalError::Argument { argument: argument.clone() });
        }
        arguments.push(argument.clone());
    }
    Ok(arguments)
}

fn memory_arguments(config: &EalConfig, arguments: &mut Vec<String>) -> Result<(), EalError> {
    let free = os::free_hugepage_bytes();
    let ordinary = match config.memory {
        Memory::Huge if free == 0 => return Err(EalError::NoHugepages),
        Memory::Huge => None,
        Memory::Auto { mb } => (free < u64::from(mb) << 20).then_some(mb),
        Memory::NoHuge { mb } => Some(mb),
    };
    let Some(mb) = ordinary else {
        // Nothing in the file system: no mount is needed, processes cannot collide, nothing is left behind.
        arguments.push("--in-memory".to_owned());
        return Ok(());
    };
    if let Some(available) = os::available_mb().filter(|&available| u64::from(mb) > available) {
        return Err(EalError::TooMuchMemory { asked: u64::from(mb), available });
    }
    // --in-memory excludes --no-huge; --no-shconf is the part of it that applies here.
    arguments.extend(["--no-huge", "--no-shconf", "--iova-mode=va"].map(str::to_owned));
    arguments.extend(["-m".to_owned(), mb.to_string()]);
    Ok(())
}

/// Whether EAL answers this argument with a text and exit(). Long options may be cut short, as getopt allows.
fn ends_process(argument: &str) -> bool {
    match argument.strip_prefix("--").filter(|name| !name.is_empty()) {
        Some(name) if name.starts_with("log-level=") => name.ends_with("=help"),
        Some(name) => name.len() > 1 && "help".starts_with(name),
        None => argument.starts_with("-h") || argument == "help",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_arguments_that_end_the_process() {
        for argument in ["--help", "--he", "-h", "--log-level=help", "help"] {
            assert!(ends_process(argument), "{argument}");
        }
        for argument in ["--huge-dir=/x", "-n", "4", "--vfio-intr=msi", "--vdev=x", "--log-level=8", "--"] {
            assert!(!ends_process(argument), "{argument}");
        }
    }

    #[test]
    fn asks_for_no_more_memory_than_there_is() {
        let config = EalConfig { memory: Memory::NoHuge { mb: u32::MAX }, ..Default::default() };
        assert!(
            matches!(arguments(&config), Err(EalError::TooMuchMemory { asked, .. }) if asked == u64::from(u32::MAX))
        );
    }

    #[test]
    fn looks_at_no_device_that_was_not_named() {
        let config = EalConfig { memory: Memory::NoHuge { mb: 64 }, ..Default::default() };
        let arguments = arguments(&config).unwrap();
        assert!(arguments.contains(&"--no-pci".into()));
        assert!(!arguments.contains(&"--in-memory".into()));
    }
}
