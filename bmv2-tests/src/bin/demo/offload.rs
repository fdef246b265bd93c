//! What the switch forwards by itself, while it does.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use bmv2_tests::lab::Lab;
use serde_json::Value;

use super::{bold, fact};

/// Between the first two lines of the table; each later one takes a quarter longer than the one before.
const TICK: Duration = Duration::from_millis(150);

/// Runs `work`, and meanwhile prints a line for every few moments of the session that it makes: where it is with the switch,
/// and how much of its packets and bytes the switch forwards. Without a switch it only runs it.
pub fn watched<T>(lab: &Lab, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if lab.config.switch.is_none() {
        return work();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| watch(lab, &done));
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        // It does not panic; what it could not print, nobody reads.
        if let Ok(Err(error)) = watch.join() {
            writeln!(io::stderr(), "the table ends early: {error:#}")?;
        }
        outcome
    })
}

fn watch(lab: &Lab, done: &AtomicBool) -> Result<()> {
    let (start, before) = (Instant::now(), lab.balancer.total("rx_bytes")?);
    let heading = "     time   session       packets   by the switch          bytes by the switch, share";
    writeln!(io::stdout(), "\n  {}", bold(heading))?;
    let mut tick = TICK;
    while !done.load(Ordering::Relaxed) {
        thread::sleep(tick);
        tick = tick * 5 / 4;
        // Those that came before are closing.
        let sessions = lab.balancer.sessions(&["--state", "established"])?;
        let Some(session) = sessions.iter().max_by_key(|session| number(session, "packets_out")) else { continue };
        let slow = lab.balancer.total("rx_bytes")? - before;
        let packets = number(session, "packets_in") + number(session, "packets_out");
        let by_switch = number(session, "target_packets_in") + number(session, "target_packets_out");
        let bytes = number(session, "target_bytes_in") + number(session, "target_bytes_out");
        writeln!(
            io::stdout(),
            "  {:>7.2} s   {:<10} {packets:>10} {by_switch:>10} {:>6.2} % {bytes:>15} {:>6.2} %",
            start.elapsed().as_secs_f64(),
            session["offload"].as_str().unwrap_or_default(),
            share(by_switch, packets),
            share(bytes, bytes + slow),
        )?;
    }
    writeln!(io::stdout())?;
    Ok(())
}

/// How sessions came to the switch, if there is one.
pub fn summary(lab: &Lab) -> Result<()> {
    if lab.config.switch.is_none() {
        return Ok(());
    }
    let target = lab.balancer.target()?;
    let (totals, latency) = (&target["totals"], &target["install_latency"]);
    let milliseconds = |key| number(latency, key) as f64 / 1e3;
    fact(
        "sessions in the switch",
        &format!("{} installed, {} removed", number(totals, "installed"), number(totals, "removed")),
    )?;
    fact(
        "install latency",
        &format!("{:.2} ms for half of them, {:.2} ms at most", milliseconds("p50_us"), milliseconds("max_us")),
    )?;
    Ok(())
}

fn number(of: &Value, key: &str) -> u64 {
    of[key].as_u64().unwrap_or_default()
}

/// A part in percent.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
