//! Connections that open and close as fast as they can, while config and program are pushed again and again: does anything
//! stay behind?
//!
//! ```text
//!  clients ══▶ carom run with softnic inside ══▶ servers, which answer what they are sent
//!                 ▲            ▲
//!             reloads       the program, with its entries
//! ```

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::libc::linger;
use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::balancer::wait;
use crate::config::{Protocol, Service};
use crate::control::Control;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::switch::ADDRESS;
use crate::target::Target;
use crate::topology::Load;

/// Port of the service.
const PORT: u16 = 7;
/// Threads of each real server, and of the client: none waits for another for long.
const THREADS: usize = 12;
/// What is sent to and fro over each connection, so often: long enough for most to be offloaded.
const MESSAGE: &[u8] = b"there and back again";
const ROUNDS: usize = 3;
/// One connection of so many is reset; the others say FIN.
const RESETS: u64 = 4;
/// How long anything may take that has to happen some time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks, when all is to go.
const LOOK: Duration = Duration::from_millis(500);
/// More memory than that at the end than half-way is a leak. What a leak leaves for each connection counts up to far more in a
/// long run.
const MOST_GROWTH: u64 = 16 << 20;
/// Failures that are told.
const MOST_FAILURES: usize = 10;

/// How long, and how often config and program are pushed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Time during which connections are opened.
    pub length: Duration,
    /// Time between two reloads with a push of the program.
    pub push_every: Duration,
}

/// What there is at some moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sample {
    /// Time since the beginning.
    pub at: Duration,
    /// Connections that came to their end so far.
    pub connections: u64,
    /// Connections per second since the last sample.
    pub rate: f64,
    /// Sessions.
    pub sessions: u64,
    /// Of these, those that the switch has.
    pub offloaded: u64,
    /// Sessions that the switch was given so far.
    pub installed: u64,
    /// Flow entries, as the switch has them.
    pub entries: u64,
    /// Local ports that carry a session.
    pub ports: u64,
    /// Local ports that rest, or have rested and were not looked at: Carom counts a few thousand of those at each look.
    pub resting: u64,
    /// Packet buffers that are not free.
    pub buffers: u64,
    /// Resident memory of the process, bytes.
    pub rss: u64,
    /// Reloads and pushes so far.
    pub pushes: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Before the first connection.
    pub before: Sample,
    /// One for each push, while connections came and went.
    pub during: Vec<Sample>,
    /// When all had gone.
    pub after: Sample,
    /// What went wrong with connections, the first of them.
    pub failures: Vec<String>,
}

/// The set-up: softnic in the balancer's process, one service on both real servers.
pub fn lab(load: Load) -> Result<Lab> {
    Lab::on(Target::Softnic, load, |mut config, vip| {
        if let Some(switch) = &mut config.switch {
            switch.sweep = "5s".to_owned();
        }
        // What has ended is to be gone soon; the switch forwards the ACK of the last FIN, of which the slow path does not hear.
        config.more +=
            "[snat]\nquarantine = \"1s\"\n\n[timeouts]\nlast_ack = \"1s\"\ntime_wait = \"1s\"\nclose = \"1s\"\n";
        config.workers(2).service(Service::new("churn", Protocol::Tcp, vip.v4.into(), PORT))
    })
}

/// Runs the plan. Tells each sample as it is taken.
pub fn run(lab: &Lab, plan: Plan, mut tell: impl FnMut(&Sample)) -> Result<Report> {
    // More ports for the client, which takes them again as soon as TCP lets it.
    lab.topology.client.sysctl("ipv4.ip_local_port_range", "1024 65535")?;
    lab.topology.client.sysctl("ipv4.tcp_tw_reuse", "1")?;
    let listeners: Vec<_> = lab.topology.servers.iter().map(listener).collect::<Result<_>>()?;
    let clients = Clients {
        service: SocketAddr::new(lab.topology.vip().v4.into(), PORT),
        stop: AtomicBool::new(false),
        begun: AtomicU64::new(0),
        done: AtomicU64::new(0),
        failures: Mutex::default(),
    };
    let mut watch =
        Watch { lab, control: lab.control()?, clients: &clients, start: Instant::now(), last: Sample::default() };
    let before = watch.look(0)?;
    tell(&before);
    let during = thread::scope(|scope| {
        for listener in &listeners {
            (0..THREADS).for_each(|_| _ = scope.spawn(|| serve(listener, &clients.stop)));
        }
        scope.spawn(|| lab.on_client(|| clients.run()));
        let during = push_all(&mut watch, plan, &mut tell);
        clients.stop.store(true, Ordering::Relaxed);
        during
    })?;
    let after = settle(&mut watch, &before, during.len() as u64)?;
    tell(&after);
    let failures = clients.failures.into_inner().unwrap_or_else(|e| e.into_inner());
    Ok(Report { before, during, after, failures })
}

impl Report {
    /// What stayed behind, or went wrong; nothing when all is well.
    pub fn faults(&self) -> Vec<String> {
        let Report { before, during, after, failures } = self;
        let mut faults: Vec<String> =
            failures.iter().map(|failure| format!("a connection failed: {failure}")).collect();
        let gone = [
            ("sessions", after.sessions),
            ("flow entries", after.entries),
            ("local ports in use", after.ports),
            ("local ports that rest", after.resting),
            ("packet buffers", after.buffers.saturating_sub(before.buffers)),
        ];
        faults.extend(gone.iter().filter(|(_, left)| *left > 0).map(|(what, left)| format!("{left} {what} are left")));
        if after.connections == 0 || after.installed == 0 {
            faults.push(format!("{} connections, {} of them offloaded", after.connections, after.installed));
        }
        // Pages are touched for the first time for a while, and stay.
        let settled = during.get(during.len() / 2).map_or(0, |sample| sample.rss);
        let growth = after.rss.saturating_sub(settled);
        if growth > MOST_GROWTH {
            faults.push(format!("{} KiB more memory at the end than half-way", growth >> 10));
        }
        faults
    }
}

/// Pushes until the plan's time is over, with a sample after each.
fn push_all(watch: &mut Watch<'_>, plan: Plan, tell: &mut impl FnMut(&Sample)) -> Result<Vec<Sample>> {
    let (start, mut during) = (Instant::now(), Vec::new());
    let pusher = Control::pusher(&watch.lab.topology.balancer, ADDRESS)?;
    let mut config = watch.lab.config.clone();
    while start.elapsed() < plan.length {
        thread::sleep(plan.push_every);
        let number = during.len();
        config.service_mut("churn").servers[0].weight = 1 + (number % 2) as u16;
        watch.lab.balancer.reload(&config)?;
        pusher.push_again(number).with_context(|| format!("push {number} of the program"))?;
        let sample = watch.look(1 + number as u64)?;
        tell(&sample);
        during.push(sample);
    }
    Ok(during)
}

/// Waits until everything has gone; the last sample tells if it has not.
fn settle(watch: &mut Watch<'_>, before: &Sample, pushes: u64) -> Result<Sample> {
    let mut last = watch.look(pushes)?;
    let mut outcome = Ok(());
    wait(PATIENCE, || {
        thread::sleep(LOOK);
        match watch.look(pushes) {
            Ok(sample) => last = sample,
            Err(error) => outcome = Err(error),
        }
        let left = last.sessions + last.entries + last.ports + last.resting;
        outcome.is_err() || (left == 0 && last.buffers <= before.buffers)
    });
    outcome.map(|()| last)
}

/// Looks at everything from all sides.
struct Watch<'a> {
    lab: &'a Lab,
    control: Control<'a>,
    clients: &'a Clients,
    start: Instant,
    last: Sample,
}

impl Watch<'_> {
    fn look(&mut self, pushes: u64) -> Result<Sample> {
        let balancer = &self.lab.balancer;
        let (status, target) = (balancer.query(&["status"])?, balancer.target()?);
        let ports = balancer.rows("ports")?;
        let of_ports = |key: &str| ports.iter().filter_map(|row| row[key].as_u64()).sum();
        let number = |value: &serde_json::Value| value.as_u64().context("a number is missing in what carom says");
        let totals = &status["totals"];
        let (at, connections) = (self.start.elapsed(), self.clients.done.load(Ordering::Relaxed));
        let time = (at - self.last.at).as_secs_f64();
        let sample = Sample {
            at,
            connections,
            rate: (connections - self.last.connections) as f64 / time,
            sessions: number(&totals["sessions_v4"])? + number(&totals["sessions_v6"])?,
            offloaded: number(&target["sessions"]["offloaded"])?,
            installed: number(&target["totals"]["installed"])?,
            entries: self.control.flows()?.len() as u64,
            ports: of_ports("in_use"),
            resting: of_ports("quarantined"),
            buffers: number(&status["buffers_used"])?,
            rss: resident(balancer.pid())?,
            pushes,
        };
        self.last = sample;
        Ok(sample)
    }
}

/// Resident memory of a process in bytes, by proc_pid_status(5).
fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// A listener that gives up waiting from time to time, so that its threads can end.
fn listener(ns: &Netns) -> Result<TcpListener> {
    let listener = ns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))).context("cannot listen")?;
    listen(&listener, Backlog::new(4096)?)?;
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200))?;
    Ok(listener)
}

/// Answers one connection after the other.
fn serve(listener: &TcpListener, stop: &AtomicBool) {
    let mut buffer = [0; 1024];
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        // What goes wrong here, the client sees.
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    }
}

/// What all clients share.
struct Clients {
    service: SocketAddr,
    stop: AtomicBool,
    begun: AtomicU64,
    done: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Clients {
    /// Opens and closes until told to stop.
    fn run(&self) {
        thread::scope(|scope| (0..THREADS).for_each(|_| _ = scope.spawn(|| self.run_one())));
    }

    fn run_one(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            match self.connect(number) {
                Ok(()) => _ = self.done.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    let mut failures = self.failures.lock().unwrap_or_else(|e| e.into_inner());
                    if failures.len() < MOST_FAILURES {
                        failures.push(format!("{error:#}"));
                    }
                }
            }
        }
    }

    fn connect(&self, number: u64) -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.service, PATIENCE).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = [0; MESSAGE.len()];
        for round in 0..ROUNDS {
            stream.write_all(MESSAGE).with_context(|| format!("round {round}"))?;
            stream.read_exact(&mut answer).with_context(|| format!("answer {round}"))?;
            ensure!(answer == MESSAGE, "answer {round} is {answer:?}");
        }
        if number.is_multiple_of(RESETS) {
            setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        }
        Ok(())
    }
}
