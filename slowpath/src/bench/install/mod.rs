//! `carom bench install`: updates per second through the shipped offload manager, and beside it those of a bare loop that
//! sends the same updates in the same batches to the same target and does nothing else. Both in each run, one after the
//! other, so that whatever the machine does in between meets both.
//!
//! All sessions are installed, then all are removed, and so on, with a bounded number under way. Times are from the worker's
//! decision, when the request goes into the ring, to the moment it hears the verdict. Before it deletes, the manager reads the
//! entries' counters, since packets that nobody counted would be lost; the bare loop does not.

mod bare;
mod cpu;
mod managed;
mod tally;
mod target;
mod wave;
mod world;

use std::time::Duration;

use runtime_client::Address;
use runtime_client::write::WriteConfig;
use serde::Serialize;

use self::tally::{Measured, Rate, medians};
use self::target::Target;
use self::wave::{Operation, Wave};
use self::world::World;
use super::{BenchError, median, print};
use crate::cli::{Install, Ip};
use crate::offload::Settings;

/// Idle time of the entries, milliseconds: longer than any run.
const IDLE_MS: u64 = 24 * 3_600_000;
/// The port the slow path would be at.
const LINK_PORT: u32 = 64;

/// What a run is to do.
struct Plan {
    address: String,
    device_id: u64,
    sessions: u32,
    outstanding: u32,
    write: WriteConfig,
    seconds: Duration,
    /// How long the target may be silent.
    patience: Duration,
}

impl Plan {
    /// What the daemon's manager would be told.
    fn settings(&self) -> Settings {
        let address = Address::tcp(self.address.clone());
        let device_id = self.device_id;
        Settings { device_id, write: self.write.clone(), ..Settings::bmv2(address, LINK_PORT, vec![1, 2]) }
    }

    /// Waves that are not measured: connection and memory get to their size.
    fn warm_up(&self) -> [Operation; 2] {
        [Operation::Install, Operation::Remove]
    }

    fn wave(&self, operation: Operation) -> Wave {
        Wave::new(operation, self.sessions, self.outstanding)
    }
}

/// What came out of all runs.
#[derive(Serialize)]
struct Report {
    bench: &'static str,
    target: String,
    ipv: u8,
    sessions: u32,
    outstanding: u32,
    in_flight: u16,
    batch: u16,
    seconds: f64,
    runs: usize,
    /// Through the manager; medians over all runs.
    #[serde(flatten)]
    managed: Measured,
    /// Of the bare loop; medians over all runs.
    bare: Measured,
    /// The manager's rates by those of the bare loop; medians of what each run gave.
    install_ratio: f64,
    remove_ratio: f64,
    /// Run by run.
    each_managed: Vec<Measured>,
    each_bare: Vec<Measured>,
}

/// Measures, and prints what came out.
pub fn run(args: &Install) -> Result<(), BenchError> {
    let target = Target::start(args.target.as_deref(), args.device_id)?;
    let plan = Plan {
        address: target.address(),
        device_id: args.device_id,
        sessions: args.sessions,
        outstanding: args.outstanding,
        write: WriteConfig { batch: args.batch.into(), in_flight: args.in_flight.into(), ..WriteConfig::default() },
        seconds: Duration::from_secs_f64(args.seconds),
        patience: Duration::from_secs_f64(args.patience),
    };
    let world = World::new(args.ipv, plan.sessions)?;
    let (mut each_managed, mut each_bare) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        // The manager first: it sees to it that the target runs the program.
        each_managed.push(managed::run(&plan, &world)?);
        each_bare.push(bare::run(&plan, &world)?);
    }
    let ratio = |read: fn(&Measured) -> &Rate| {
        let pairs = each_managed.iter().zip(&each_bare);
        median(pairs.map(|(m, b)| read(m).updates_per_second / read(b).updates_per_second))
    };
    let report = Report {
        bench: "install",
        target: args.target.clone().unwrap_or_else(|| "fake".to_owned()),
        ipv: if args.ipv == Ip::V4 { 4 } else { 6 },
        sessions: args.sessions,
        outstanding: args.outstanding,
        in_flight: args.in_flight,
        batch: args.batch,
        seconds: args.seconds,
        runs: each_managed.len(),
        managed: medians(&each_managed),
        bare: medians(&each_bare),
        install_ratio: ratio(|m| &m.install),
        remove_ratio: ratio(|m| &m.remove),
        each_managed,
        each_bare,
    };
    print(args.json, &text(&report), &report)
}

fn text(r: &Report) -> String {
    let line = |what: &str, rate: &Rate| {
        format!(
            "{what:<18} {:>7.0} updates/s, {:>7.0} per CPU-second of its thread, p50 {} us, p99 {} us\n",
            rate.updates_per_second, rate.updates_per_cpu_second, rate.p50_us, rate.p99_us
        )
    };
    let mut text = format!(
        "{} IPv{} sessions at the target {}, {} under way; {} requests of at most {} updates in flight; medians of {} run(s)\n",
        r.sessions, r.ipv, r.target, r.outstanding, r.in_flight, r.batch, r.runs
    );
    for (what, m) in [("manager", &r.managed), ("bare loop", &r.bare)] {
        text += &line(&format!("{what} install"), &m.install);
        text += &line(&format!("{what} remove"), &m.remove);
    }
    text + &format!("ratio: install {:.3}, remove {:.3}", r.install_ratio, r.remove_ratio)
}
