//! `carom bench install`: updates per second through the shipped offload manager, and beside it those of a bare loop that
//! sends the same updates in the same batches to the same target and does nothing else. Both in each run, one after the
//! other, so that whatever the machine does in between meets both.
//!
//! All sessions are installed, then all are removed, and so on, with a bounded number under way. Times are from the worker's
//! decision, when the request goes into the ring, to the moment it hears the verdict. Before it deletes, the manager reads the
//! entries' counters, since packets that nobody counted would be lost; the bare loop does not.

mod bare;
pub(super) mod cpu;
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
use crate::cli::table::Align::{Left, Right};
use crate::cli::table::table;
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
    delay_us: u32,
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
    let target = Target::start(args.target.as_deref(), args.target_pid, args.device_id)?;
    let plan = Plan {
        address: target.address(),
        device_id: args.device_id,
        sessions: args.sessions,
        outstanding: args.outstanding,
        write: WriteConfig {
            batch: args.batch.into(),
            delay: Duration::from_micros(args.delay_us.into()),
            in_flight: args.in_flight.into(),
            ..WriteConfig::default()
        },
        seconds: Duration::from_secs_f64(args.seconds),
        patience: Duration::from_secs_f64(args.patience),
    };
    let world = World::new(args.ipv, plan.sessions)?;
    let (mut each_managed, mut each_bare) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        // The manager first: it sees to it that the target runs the program.
        each_managed.push(managed::run(&plan, &world, &target)?);
        each_bare.push(bare::run(&plan, &world, &target)?);
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
        delay_us: args.delay_us,
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
    let row = |what: &str, rate: &Rate, encoding: bool| {
        let ns = |ns: f64| format!("{ns:.0}");
        let apart = |ns: f64| if encoding { format!("{ns:.0}") } else { String::new() };
        vec![
            what.to_owned(),
            format!("{:.0}", rate.updates_per_second),
            format!("{:.0}", rate.updates_per_cpu_second),
            rate.p50_us.to_string(),
            rate.p99_us.to_string(),
            rate.max_us.to_string(),
            ns(rate.ns_per_update),
            apart(rate.encoding_ns_per_update),
            apart(rate.ns_per_update - rate.encoding_ns_per_update),
            if rate.target_ns_per_update > 0.0 { ns(rate.target_ns_per_update) } else { String::new() },
        ]
    };
    let rows = [
        row("manager, install", &r.managed.install, false),
        row("manager, remove", &r.managed.remove, false),
        row("bare loop, install", &r.bare.install, true),
        row("bare loop, remove", &r.bare.remove, true),
    ];
    let columns = [
        ("", Left),
        ("UPDATES/S", Right),
        ("PER CPU-S", Right),
        ("P50 US", Right),
        ("P99 US", Right),
        ("MAX US", Right),
        ("NS/UPDATE", Right),
        ("ENCODE", Right),
        ("GRPC", Right),
        ("TARGET", Right),
    ];
    format!(
        "{} IPv{} sessions at the target {}, {} under way; {} requests of at most {} updates in flight, batches wait {} us; \
         medians of {} run(s)\n{}ratio of the manager's rate to that of the bare loop: install {:.3}, remove {:.3}",
        r.sessions,
        r.ipv,
        r.target,
        r.outstanding,
        r.in_flight,
        r.batch,
        r.delay_us,
        r.runs,
        table(&columns, rows, None),
        r.install_ratio,
        r.remove_ratio
    )
}
