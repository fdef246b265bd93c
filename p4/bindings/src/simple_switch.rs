//! BMv2's `simple_switch_grpc`, for tests: where it is, how it is called, and one that runs for a test.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Why tests on it are skipped where there is none.
pub const MISSING: &str = "no simple_switch_grpc in CAROM_BMV2 or PATH";

/// How long it may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Its binary: what `CAROM_BMV2` names, else the first one in `PATH`.
pub fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CAROM_BMV2").filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("simple_switch_grpc")).find(|file| file.is_file())
}

/// Its arguments for device 1 with no program: where it serves P4Runtime, a directory of its own, and its ports or other
/// options.
pub fn arguments(address: SocketAddr, dir: &Path, options: impl IntoIterator<Item = String>) -> Vec<String> {
    // Without a place for its log it still writes every line, to nowhere, unless told not to. Thrift takes any free port.
    let always = ["--no-p4", "--log-level", "off", "--device-id", "1", "--thrift-port", "0", "--notifications-addr"];
    // The default is a file that all switches of a machine share.
    let notifications = format!("ipc://{}", dir.join("switch.ipc").display());
    let always = always.into_iter().map(str::to_owned).chain([notifications]);
    let serve = ["--".to_owned(), "--grpc-server-addr".to_owned(), address.to_string()];
    always.chain(options).chain(serve).collect()
}

/// A switch with an address and a directory of its own. Dropping it kills the process; when a test fails it first prints what
/// the process said.
#[derive(Debug)]
pub struct SimpleSwitch {
    binary: PathBuf,
    address: SocketAddr,
    dir: PathBuf,
    child: Option<Child>,
}

impl SimpleSwitch {
    /// One that is off. Where this machine has none, a line says that `what` is skipped.
    pub fn or_skip(what: &str) -> Option<Self> {
        let Some(binary) = binary() else {
            // Straight to the descriptor: what goes through `eprintln!` is hidden while a test passes.
            let _ = writeln!(io::stderr(), "SKIPPED: {what}: {MISSING}");
            return None;
        };
        static MADE: AtomicU16 = AtomicU16::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // A loopback address of this process, whose id has 22 bits: nobody else takes a port of it.
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() | process::id());
        let dir = std::env::temp_dir().join(format!("carom-bmv2-{}-{number}", process::id()));
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        Some(SimpleSwitch { binary, address: (ip, 20_000 + number).into(), dir, child: None })
    }

    /// Starts it, with its directory to work in and with these [options](arguments), and waits until it answers.
    pub fn power_on(&mut self, options: impl IntoIterator<Item = String>) {
        let log = File::create(self.log_path()).expect("a directory of its own");
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.dir).args(arguments(self.address, &self.dir, options));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an open file")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        let child = self.child.insert(child);
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(matches!(child.try_wait(), Ok(None)), "the switch has ended");
            assert!(start.elapsed() < PATIENCE, "the switch does not come up");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the process. The next one has the same address, and nothing else of it.
    pub fn power_off(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it serves P4Runtime.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }
}

impl Drop for SimpleSwitch {
    fn drop(&mut self) {
        self.power_off();
        if thread::panicking() {
            eprintln!("--- the switch said:\n{}", fs::read_to_string(self.log_path()).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
