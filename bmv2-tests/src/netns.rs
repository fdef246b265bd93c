//! Network namespaces with names that say which process owns them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exec;

/// Where `ip netns` keeps its names.
const NETNS_DIR: &str = "/run/netns";
/// Every name of ours begins with it: `carom-<pid>-<n>-<role>`.
const PREFIX: &str = "carom";

/// Why namespaces cannot be made here, or `None` when they can.
pub fn unavailable() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root");
    }
    match thread::spawn(|| nix::sched::unshare(CloneFlags::CLONE_NEWNET)).join() {
        Ok(Ok(())) => None,
        _ => Some("this kernel or container forbids network namespaces"),
    }
}

/// A prefix for the names of one topology, unique on this machine: `carom-<pid>-<n>`.
///
/// The first call of a process also removes what dead processes left behind.
pub fn unique_prefix() -> String {
    static SWEEP: Once = Once::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    SWEEP.call_once(remove_stale);
    format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The directory for files of the topology with this prefix: logs, sockets, configs. Not created here.
pub fn work_dir(prefix: &str) -> PathBuf {
    std::env::temp_dir().join(prefix)
}

/// The process id in a name of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.split('-');
    (parts.next()? == PREFIX).then_some(())?;
    parts.next()?.parse().ok()
}

/// Removes what dead processes left. Another process may be doing the same, so failures mean nothing.
fn remove_stale() {
    remove_all(|pid| !Path::new(&format!("/proc/{pid}")).exists());
}

/// Removes everything of this process, for an end that runs no destructors.
pub fn remove_own() {
    remove_all(|pid| pid == std::process::id());
}

/// Removes the namespaces, with what runs in them, and the directories of owners that `gone` accepts.
fn remove_all(gone: impl Fn(u32) -> bool) {
    let ours = |name: &String| owner(name).is_some_and(&gone);
    names_in(Path::new(NETNS_DIR)).filter(ours).for_each(|name| remove(&name));
    // DPDK's runtime directories, root's and other users', are named by the file prefix, which is the topology's.
    for dir in [std::env::temp_dir(), "/var/run/dpdk".into(), "/tmp/dpdk".into()] {
        for name in names_in(&dir).filter(ours) {
            let _ = std::fs::remove_dir_all(dir.join(name));
        }
    }
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Kills what still runs in a namespace, then removes it.
fn remove(name: &str) {
    if let Ok(pids) = exec::run(&["ip", "netns", "pids", name]) {
        let pids = pids.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
        // Peers are threads of this very process: it may be listed too.
        for pid in pids.filter(|&pid| pid != std::process::id()) {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
    let _ = exec::run(&["ip", "netns", "del", name]);
}

/// One network namespace. Dropping it kills the processes in it and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with loopback up.
    pub fn create(name: &str) -> Result<Self> {
        exec::run(&["ip", "netns", "add", name])?;
        let netns = Netns { name: name.to_owned() };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip -n <this namespace> <args>`; the arguments are separated by blanks.
    pub fn ip(&self, args: &str) -> Result<String> {
        let words: Vec<&str> = ["ip", "-n", &self.name].into_iter().chain(args.split_whitespace()).collect();
        exec::run(&words)
    }

    /// Runs a program in the namespace to its end and returns its standard output.
    pub fn exec(&self, words: &[&str]) -> Result<String> {
        exec::run(&[&["ip", "netns", "exec", &self.name], words].concat())
    }

    /// A command that will run `program` in the namespace and is killed when the calling *thread* ends, so that no
    /// crash of a test leaves it running. `ip` and `setpriv` both replace themselves: the child's id is the program's.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Sets a sysctl below `net`, e.g. `("ipv4.ip_forward", "1")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys/net").join(key.replace('.', "/"));
        // The kernel resolves /proc/sys/net by the namespace of the calling thread.
        self.run(|| std::fs::write(&path, value).with_context(|| format!("cannot set net.{key}={value}")))
    }

    /// Runs `work` on a new thread inside the namespace and returns its result. Sockets that it opens, and threads
    /// that it starts, belong to the namespace; a panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new(NETNS_DIR).join(&self.name);
        let outcome = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(&path).unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
                setns(&file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("cannot enter {}: {e}", self.name));
                work()
            });
            inside.join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}
