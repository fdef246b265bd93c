//! What is asked of the operating system before DPDK is: rights, interfaces, memory. Asking first is what makes a clear
//! error possible.

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::io;

/// The text at `pointer`, or nothing for a null pointer.
///
/// # Safety
/// `pointer` is null or points to a string that ends with a zero byte.
pub(crate) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null, and ended by a zero byte as the caller promises.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// `errno` in words.
pub(crate) fn errno_text(errno: i32) -> String {
    // SAFETY: rte_strerror takes any number and answers with a string in thread-local memory.
    unsafe { text(dpdk_sys::rte_strerror(errno)) }
}

/// rte_errno of this thread.
pub(crate) fn rte_errno() -> i32 {
    // SAFETY: reads a thread-local variable.
    unsafe { dpdk_sys::carom_errno() }
}

/// `text` for C. Text with a zero byte inside is cut there: no name with one can exist.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// Whether the network namespace of this process has an interface of that name.
pub(crate) fn interface_exists(name: &str) -> bool {
    // SAFETY: the argument is a string that ends with a zero byte.
    unsafe { libc::if_nametoindex(c_string(name).as_ptr()) != 0 }
}

/// The MTU the kernel has for an interface.
pub(crate) fn interface_mtu(name: &str) -> Option<u16> {
    let name = c_string(name);
    let name = name.as_bytes();
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as c_char;
    }
    let socket = Socket::open(libc::AF_INET, libc::SOCK_DGRAM).ok()?;
    // SAFETY: SIOCGIFMTU reads the name of the ifreq it is given and writes its ifru_mtu.
    let mtu = unsafe {
        if libc::ioctl(socket.0, libc::SIOCGIFMTU as _, &mut request) != 0 {
            return None;
        }
        request.ifr_ifru.ifru_mtu
    };
    u16::try_from(mtu).ok()
}

/// Whether a raw packet socket (AF_PACKET) may be opened: CAP_NET_RAW.
pub(crate) fn may_open_packet_socket() -> io::Result<()> {
    Socket::open(libc::AF_PACKET, libc::SOCK_RAW).map(drop)
}

/// Whether an AF_XDP socket may be opened: a kernel with XDP_SOCKETS, and CAP_NET_RAW.
pub(crate) fn may_open_xdp_socket() -> io::Result<()> {
    Socket::open(libc::AF_XDP, libc::SOCK_RAW).map(drop)
}

struct Socket(libc::c_int);

impl Socket {
    fn open(family: libc::c_int, kind: libc::c_int) -> io::Result<Socket> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Socket(fd)) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this object's own and is closed once.
        unsafe { libc::close(self.0) };
    }
}

/// Capabilities by number, capability(7).
pub(crate) mod capability {
    pub(crate) const NET_ADMIN: u32 = 12;
    pub(crate) const IPC_LOCK: u32 = 14;
    pub(crate) const SYS_ADMIN: u32 = 21;
    pub(crate) const BPF: u32 = 39;
}

/// Whether this process has a capability in effect.
pub(crate) fn has_capability(capability: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits >> capability & 1 == 1)
}

/// Whether the limit on locked memory (`ulimit -l`) is infinite.
pub(crate) fn may_lock_any_memory() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes the structure it is given.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) == 0 && limit.rlim_cur == libc::RLIM_INFINITY }
}

/// Whether this process runs in a user namespace other than the first, where capabilities count for less.
pub(crate) fn in_user_namespace() -> bool {
    // user_namespaces(7): the first one maps all of the user ids onto themselves.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Bytes of hugepages that are free, of every size.
pub(crate) fn free_hugepage_bytes() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    sizes
        .flatten()
        .filter_map(|size| {
            let name = size.file_name();
            let kilobytes: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: u64 = fs::read_to_string(size.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(free * kilobytes * 1024)
        })
        .sum()
}

/// Megabytes the machine, or the control group of this process where it is tighter, can still give. `None` when unknown.
pub(crate) fn available_mb() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024;
    Some(cgroup_available_mb().map_or(machine, |group| machine.min(group)))
}

/// The same for the control group (version 2) of this process.
fn cgroup_available_mb() -> Option<u64> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let number = |file: &str| -> Option<u64> {
        fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")).ok()?.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?) >> 20)
}

/// The CPUs this thread may run on, ascending.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: all-zero bytes are a valid, empty cpu_set_t; sched_getaffinity fills what it is given the size of.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        set
    };
    // SAFETY: the index is within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Pins this thread to one CPU.
pub(crate) fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: an empty set, then a CPU within its size, then a call that reads the set.
    let ret = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Numbers as ranges: `0-3,7`.
pub(crate) fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let text = |(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_short() {
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3,7,9-10");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn asks_the_kernel() {
        assert!(interface_exists("lo"));
        assert!(!interface_exists("no-such-if"));
        assert!(interface_mtu("no-such-if").is_none());
        assert!(!allowed_cpus().is_empty());
        assert!(available_mb().is_some_and(|mb| mb > 0));
        assert_eq!(pin_to(usize::MAX).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
    }

    #[test]
    fn text_with_a_zero_byte_is_cut() {
        assert_eq!(c_string("ab\0c").as_bytes(), b"ab");
    }
}
