//! A switch in front of the slow path, BMv2 (`simple_switch_grpc`) or softnic (`carom softnic`), in the balancer's namespace,
//! with the cables that the slow path alone would have, and one more between the two.
//!
//! ```text
//!            ┌───────────── balancer's namespace ─────────────┐
//!  client ── p0 (1) switch (2) p1 ── router                   │
//!            │        (64) cpu0 ── cpu1 carom                 │
//!            └────────────────────────────────────────────────┘
//! ```

use std::fmt::Write;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use carom_p4::simple_switch;

use crate::balancer::{self, wait};
use crate::capture::{Capture, Way};
use crate::control::Control;
use crate::netns::Netns;
use crate::target::Target;

/// The device's id in P4Runtime.
pub const DEVICE_ID: u64 = 1;
/// With what Carom stands for election.
pub const ELECTION_ID: u64 = 1_000_000;
/// Where its P4Runtime server listens. Each switch has a namespace, and a loopback, of its own.
pub const ADDRESS: &str = "127.0.0.1:9559";
/// The switch's port on the cable to the slow path.
pub const SLOWPATH_PORT: u16 = 64;
/// The slow path's end of that cable.
pub const SLOWPATH_DEVICE: &str = "cpu1";
/// Its interface index, far from those of the switch's cables: DPDK makes the number of a fanout group of process id XOR index,
/// and the switch's process often has almost the same id as the slow path's. Two groups of one number are refused.
const SLOWPATH_INDEX: u32 = 0x8001;
/// The switch's end of it.
const LINK: &str = "cpu0";
/// A full frame with the tag of punt or inject, and a VLAN tag of the network's own behind it.
const LINK_MTU: u16 = 1508;
/// How long the switch may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running switch. Dropping it kills the process; when a test fails it first prints the end of its output.
#[derive(Debug)]
pub struct Switch {
    /// What it is.
    kind: Target,
    /// The namespace it is in, which belongs to the topology.
    netns: String,
    /// What it calls its cables to the network, in the order of their ports from 1.
    cables: Vec<String>,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
}

/// The switch's number for the balancer's interface at this place.
pub fn port_of(interface: usize) -> u16 {
    1 + u16::try_from(interface).expect("a handful of interfaces")
}

impl Switch {
    /// Makes the cable to the slow path and starts the switch, with no program, on these cables.
    pub fn start(kind: Target, netns: &Netns, cables: &[&str], dir: PathBuf) -> Result<Self> {
        netns.ip(&format!(
            "link add {SLOWPATH_DEVICE} index {SLOWPATH_INDEX} mtu {LINK_MTU} type veth peer name {LINK} mtu {LINK_MTU}"
        ))?;
        for end in [LINK, SLOWPATH_DEVICE] {
            netns.exec(&["ethtool", "-K", end, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])?;
            netns.ip(&format!("link set {end} up"))?;
        }
        let cables = cables.iter().map(|&name| name.to_owned()).collect();
        let switch = Switch { kind, netns: netns.name().to_owned(), cables, dir, child: Mutex::new(None) };
        switch.power_on(netns)?;
        Ok(switch)
    }

    /// Starts the process, whose tables are then empty. It ends with the calling thread at the latest.
    pub fn power_on(&self, netns: &Netns) -> Result<()> {
        ensure!(netns.name() == self.netns, "the switch belongs into {}", self.netns);
        let mut command = match self.kind {
            Target::Bmv2 | Target::Bmv2Ids => self.bmv2(netns)?,
            Target::Softnic => self.softnic(netns)?,
            Target::None => bail!("the target none has no switch"),
        };
        let log = File::options().create(true).append(true).open(self.log_path())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        *self.child() = Some(child);
        let listening = || netns.run(|| std::net::TcpStream::connect(ADDRESS)).is_ok() || !self.is_running();
        let up = wait(PATIENCE, listening);
        ensure!(up && self.is_running(), "the switch does not come up: {}", self.state());
        Ok(())
    }

    /// The number and the name of each cable.
    fn ports(&self) -> impl Iterator<Item = (u16, &str)> {
        let cables = self.cables.iter().enumerate().map(|(i, cable)| (port_of(i), cable.as_str()));
        cables.chain([(SLOWPATH_PORT, LINK)])
    }

    fn bmv2(&self, netns: &Netns) -> Result<Command> {
        let binary = simple_switch::binary().context(simple_switch::MISSING)?;
        let ports = self.ports().flat_map(|(number, cable)| ["-i".to_owned(), format!("{number}@{cable}")]);
        let mut command = netns.command(&binary);
        command.args(simple_switch::arguments(ADDRESS.parse()?, &self.dir, ports));
        Ok(command)
    }

    fn softnic(&self, netns: &Netns) -> Result<Command> {
        let mut config =
            format!("[p4runtime]\nlisten = \"{ADDRESS}\"\ndevice_id = {DEVICE_ID}\n[dpdk]\nmemory_mb = 256\n");
        for (number, cable) in self.ports() {
            // So that captures see what it sends.
            write!(config, "[[port]]\nnumber = {number}\ndevice = \"af_packet:{cable},qdisc_bypass=0\"\n")?;
        }
        let path = self.dir.join("softnic.toml");
        std::fs::write(&path, config)?;
        let mut command = netns.command(&balancer::binary()?);
        command.args(["softnic", "-c"]).arg(path);
        Ok(command)
    }

    /// Kills the process: tables are lost, cables go dead.
    pub fn power_off(&self) {
        if let Some(mut child) = self.child().take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the process is there.
    pub fn is_running(&self) -> bool {
        self.child().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it runs, and the end of its output, for people.
    pub fn state(&self) -> String {
        let state = match self.child().as_mut().map(Child::try_wait) {
            None => "is off".to_owned(),
            Some(Ok(None)) => "runs".to_owned(),
            Some(Ok(Some(status))) => format!("has ended: {status}"),
            Some(Err(error)) => error.to_string(),
        };
        format!("the switch {state}; its output:\n{}", self.log_tail())
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("switch.log")
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}", self.state());
        }
        self.power_off();
    }
}

/// Reads the tables and counters of a switch of this kind.
pub fn reader(netns: &Netns, kind: Target) -> Result<Control<'_>> {
    Control::reader(netns, ADDRESS, kind)
}

/// Programs a switch of this kind, where there is no Carom that does.
pub fn primary(netns: &Netns, kind: Target) -> Result<Control<'_>> {
    Control::primary(netns, ADDRESS, kind)
}

/// A frame as the switch punted it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Punted {
    /// The tag's PCP: why.
    pub why: u8,
    /// The tag's VID: by which port it came.
    pub port: u16,
    /// The frame without the tag.
    pub frame: Vec<u8>,
}

impl Punted {
    /// Reads a frame of the cable between switch and slow path.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let tci = match frame.get(12..16)? {
            [0x81, 0x00, high, low] => u16::from_be_bytes([*high, *low]),
            _ => return None,
        };
        let frame = [&frame[..12], &frame[16..]].concat();
        Some(Punted { why: (tci >> 13) as u8, port: tci & 0xfff, frame })
    }
}

/// Captures what the switch punts: frames as they leave it, with their tags.
pub fn capture_punts(netns: &Netns) -> Result<Capture> {
    Capture::of(netns, LINK, Way::Out)
}

/// Captures what the slow path sends: frames as they reach the switch, without their tags, which the kernel keeps apart from a
/// frame that it receives.
pub fn capture_injects(netns: &Netns) -> Result<Capture> {
    Capture::of(netns, LINK, Way::In)
}
