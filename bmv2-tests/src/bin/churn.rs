//! Connections that open and close as fast as they can through `carom run` with softnic, for as long as wanted, with config and
//! program pushed every minute: a line for each push, and whether anything stayed behind.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bmv2_tests::churn::{self, Plan, Sample};
use bmv2_tests::netns;
use bmv2_tests::topology::Load;

const USAGE: &str = "usage: churn [--minutes N]    (30)";

fn main() -> ExitCode {
    match churn() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("churn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn minutes() -> Result<u64> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(30),
        ["--minutes", number] => number.parse().context(USAGE),
        _ => bail!("{USAGE}"),
    }
}

fn churn() -> Result<ExitCode> {
    let minutes = minutes()?;
    if let Some(reason) = netns::unavailable() {
        bail!("it makes network namespaces and cannot: {reason}; run it as root");
    }
    let lab = churn::lab(Load::Uncounted)?;
    println!("   time  connections  offloaded  per s  sessions  entries  ports  resting  buffers  memory  pushes");
    let minute = Duration::from_secs(60);
    let report = churn::run(&lab, Plan { length: minute * minutes as u32, push_every: minute }, line)?;
    let faults = report.faults();
    faults.iter().for_each(|fault| println!("WRONG: {fault}"));
    println!("{}", if faults.is_empty() { "nothing stayed behind" } else { "something stayed behind" });
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(sample: &Sample) {
    let s = sample;
    println!(
        "{:>5} s {:>12} {:>10} {:>6.0} {:>9} {:>8} {:>6} {:>8} {:>8} {:>4} MB {:>7}",
        s.at.as_secs(),
        s.connections,
        s.installed,
        s.rate,
        s.sessions,
        s.entries,
        s.ports,
        s.resting,
        s.buffers,
        s.rss >> 20,
        s.pushes
    );
    // A file that is looked at meanwhile is to have it.
    let _ = io::stdout().flush();
}
