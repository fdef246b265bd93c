//! The balancer under test: the real `carom` binary, in the topology's namespace for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::config::Config;
use crate::exec;
use crate::topology::Topology;

/// How long the balancer may take to start, to reload and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running balancer. Dropping it stops the process; in a failing test it first prints the end of its log and its drops.
#[derive(Debug)]
pub struct Balancer {
    child: Child,
    files: Files,
    interfaces: Vec<String>,
}

/// Where a balancer's files are.
#[derive(Clone, Debug)]
struct Files {
    config: PathBuf,
    log: PathBuf,
    socket: String,
}

impl Balancer {
    /// Starts `carom run` in the topology's namespace and waits until it forwards, with its switch if there is one.
    pub fn start(topology: &Topology, config: &Config) -> Result<Self> {
        let binary = binary()?;
        let command = topology.balancer.command(&binary);
        let balancer = Self::spawn(command, topology.dir(), config)?;
        balancer.wait_until_ready()?;
        if let Some(switch) = &topology.switch {
            balancer.wait_for_the_switch().with_context(|| switch.state())?;
        } else if config.switch.is_some() {
            balancer.wait_for_the_switch()?;
        }
        Ok(balancer)
    }

    /// Waits until the switch's tables are as the balancer wants them, and the next hops known that it asked for in vain
    /// before.
    pub fn wait_for_the_switch(&self) -> Result<()> {
        let mut last = None;
        let ready = || {
            let target = self.target();
            let is_ready = target.as_ref().is_ok_and(|target| target["ready"] == true);
            last = Some(target);
            is_ready
        };
        ensure!(wait(PATIENCE, ready), "the switch does not become ready: {last:?}; the log:\n{}", self.log_tail());
        let known = || self.rows("neighbors").is_ok_and(|rows| rows.iter().all(|row| row["mac"].is_string()));
        ensure!(wait(PATIENCE, known), "next hops stay unknown: {:?}", self.rows("neighbors"));
        Ok(())
    }

    /// Starts `carom run` by a command that only lacks its arguments, with files in `dir`; does not wait.
    pub fn spawn(mut command: Command, dir: &Path, config: &Config) -> Result<Self> {
        let files = Files { config: dir.join("carom.toml"), log: dir.join("carom.log"), socket: config.socket.clone() };
        write_config(&files.config, &config.to_string())?;
        let log = File::create(&files.log).with_context(|| format!("cannot create {}", files.log.display()))?;
        command.args(["run", "-c"]).arg(&files.config);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let interfaces = config.interfaces.iter().map(|it| it.name.clone()).collect();
        Ok(Balancer { child, files, interfaces })
    }

    /// Waits until the admin API answers.
    pub fn wait_until_ready(&self) -> Result<()> {
        let mut last = None;
        let ready = wait(PATIENCE, || match self.query(&["status"]) {
            Ok(_) => true,
            Err(error) => {
                last = Some(error);
                !self.is_running()
            }
        });
        ensure!(self.is_running(), "carom ended at once; its log:\n{}", self.log_tail());
        match last {
            Some(error) if !ready => Err(error.context("carom does not become ready")),
            _ => Ok(()),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is there and not a zombie.
    pub fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The state follows the name, which is in parentheses and may hold anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Asks the running balancer: `carom <words> --json`.
    pub fn query(&self, words: &[&str]) -> Result<Value> {
        let text = self.cli(&[words, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("`carom {}` does not print JSON: {text}", words.join(" ")))
    }

    /// Runs `carom <words>` against the running balancer and returns what it prints.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        let binary = binary()?;
        let binary = binary.to_str().context("the path of carom is not UTF-8")?;
        exec::run(&[&[binary], words, &["--socket", &self.files.socket]].concat())
    }

    /// Packets dropped so far, by the names of the reasons that happened. Drops that interfaces count before a worker sees
    /// the packet are there as `rx_missed`.
    pub fn drops(&self) -> Result<BTreeMap<String, u64>> {
        self.drops_by("drops")
    }

    /// The same of packets that the switch dropped by itself.
    pub fn switch_drops(&self) -> Result<BTreeMap<String, u64>> {
        self.drops_by("switch")
    }

    fn drops_by(&self, who: &str) -> Result<BTreeMap<String, u64>> {
        let mut drops = BTreeMap::new();
        for drop in items(&self.query(&["drops"])?, who)? {
            let reason = drop["reason"].as_str().context("a drop without a reason")?;
            let total = drop["total"].as_u64().context("a drop without a total")?;
            if total > 0 {
                drops.insert(reason.to_owned(), total);
            }
        }
        Ok(drops)
    }

    /// One of the counters in `carom status`, summed over the workers.
    pub fn total(&self, counter: &str) -> Result<u64> {
        let status = self.query(&["status"])?;
        status["totals"][counter].as_u64().with_context(|| format!("no counter {counter} in {status}"))
    }

    /// Sessions now that pass the given filters of `carom sessions`.
    pub fn sessions(&self, filters: &[&str]) -> Result<Vec<Value>> {
        items(&self.query(&[&["sessions", "--limit", "10000"], filters].concat())?, "sessions")
    }

    /// The rows of `carom <what>`, which are under the key of the same name.
    pub fn rows(&self, what: &str) -> Result<Vec<Value>> {
        items(&self.query(&[what])?, what)
    }

    /// The switch as the balancer sees it.
    pub fn target(&self) -> Result<Value> {
        self.rows("targets")?.pop().context("the balancer has no switch")
    }

    /// Puts another config in force and waits until it is.
    pub fn reload(&self, config: &Config) -> Result<()> {
        let before = self.generation()?;
        self.reload_text(&config.to_string())?;
        if wait(PATIENCE, || self.generation().is_ok_and(|now| now > before)) {
            return Ok(());
        }
        bail!("the config was not taken within {PATIENCE:?}; the log:\n{}", self.log_tail())
    }

    /// Writes any text as the config and sends SIGHUP; does not wait.
    pub fn reload_text(&self, text: &str) -> Result<()> {
        write_config(&self.files.config, text)?;
        self.signal(Signal::SIGHUP)
    }

    /// Which config is in force: counts the reloads that were accepted.
    pub fn generation(&self) -> Result<u64> {
        let status = self.query(&["status"])?;
        status["generation"].as_u64().with_context(|| format!("no generation in {status}"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Sends a signal, waits for the end, and returns how it ended and how long that took.
    pub fn stop(mut self, signal: Signal) -> Result<(ExitStatus, Duration)> {
        self.signal(signal)?;
        let start = Instant::now();
        let mut status = None;
        wait(PATIENCE, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        let status = status.with_context(|| format!("still running {PATIENCE:?} after {signal}"))?;
        Ok((status, start.elapsed()))
    }

    /// CPU time the process has used, all threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let (_, rest) = stat.rsplit_once(") ").context("no process")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        // proc_pid_stat(5): utime and stime are fields 14 and 15, `rest` begins with field 3; 100 ticks a second.
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The whole log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.files.log).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The path of the admin socket.
    pub fn socket(&self) -> &str {
        &self.files.socket
    }

    /// What the interfaces are called in the config.
    pub fn interfaces(&self) -> &[String] {
        &self.interfaces
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the balancer's log:\n{}", self.log_tail());
            let drops = self.cli(&["drops"]).unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("--- its drops:\n{drops}");
        }
        // A process that has ended must not be signalled: its id may be another's by now. One that runs is asked first, so
        // that it can remove what it has made.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(Signal::SIGTERM);
            if !wait(Duration::from_secs(20), || matches!(self.child.try_wait(), Ok(Some(_)))) {
                let _ = self.child.kill();
            }
        }
        if let Ok(status) = self.child.wait()
            && let Some(signal) = status.signal().filter(|&signal| signal != Signal::SIGKILL as i32)
        {
            eprintln!("--- the balancer was killed by signal {signal}");
        }
    }
}

/// The list under `key` in an answer of the API.
fn items(answer: &Value, key: &str) -> Result<Vec<Value>> {
    answer[key].as_array().cloned().with_context(|| format!("no list {key} in {answer}"))
}

/// Writes a config so that a reader sees the old or the new one, never a part.
fn write_config(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Calls `done` every 20 ms until it says true; false when `timeout` passes first.
pub fn wait(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The `carom` binary: the one that `CAROM_BIN` names, else the one of this workspace in the profile of the running test,
/// built once if it is not up to date.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARY.get() {
        return Ok(path.clone());
    }
    let path = match std::env::var_os("CAROM_BIN") {
        Some(path) => PathBuf::from(path),
        None => build()?,
    };
    ensure!(path.is_file(), "no carom binary at {}", path.display());
    Ok(BINARY.get_or_init(|| path).clone())
}

fn build() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the running test")?;
    // target/<profile>/demo or target/<profile>/deps/e2e-<hash>
    let dir = this.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).context("the test is not in a target")?;
    // Cargo sets CARGO for what it runs; without it, what was built has to do.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let profile = if dir.ends_with("release") { "release" } else { "dev" };
        let target = dir.parent().context("the test is not in a target directory")?;
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "-p", "carom", "--bin", "carom", "--profile", profile, "--target-dir"]);
        command.arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
        let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
        ensure!(status.success(), "cannot build carom");
    }
    Ok(dir.join("carom"))
}
