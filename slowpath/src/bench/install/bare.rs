//! The same updates in the same batches straight through a writer: what the target takes from a client that does nothing
//! else.

use std::time::{Duration, Instant};

use runtime_client::write::{Outcome, Settled, Writer};
use runtime_client::{Client, Config, ElectionId, Standing};

use super::super::{BenchError, cpu_time};
use super::tally::{Measured, Spent, Tally};
use super::target::Target;
use super::wave::{Ended, Operation, Wave};
use super::world::World;
use super::{IDLE_MS, Plan};
use crate::offload::flows::Flows;
use crate::offload::wire;

/// One run. The target has the program already.
pub fn run(plan: &Plan, world: &World, target: &Target) -> Result<Measured, BenchError> {
    let error = |e: &dyn std::fmt::Display| BenchError(e.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| error(&e))?;
    runtime.block_on(async {
        let settings = plan.settings();
        let config = Config {
            election_id: Some(ElectionId(settings.election_id.into())),
            ..Config::new(settings.address, settings.device_id)
        };
        let (client, _events) = Client::start(config).map_err(|e| error(&e))?;
        let primary = tokio::time::timeout(plan.patience, client.wait_for(Standing::is_primary));
        primary.await.map_err(|_| error(&"the target does not take the bare loop for its primary"))?;
        waves(plan, world, target, &mut client.writer(settings.write)).await
    })
}

async fn waves(plan: &Plan, world: &World, target: &Target, writer: &mut Writer) -> Result<Measured, BenchError> {
    let mut tally = Tally::new();
    for operation in plan.warm_up() {
        wave(plan.wave(operation), world, writer).await?;
    }
    while tally.wall() < plan.seconds {
        for operation in [Operation::Install, Operation::Remove] {
            let before = (cpu_time(), target.cpu()?);
            let (ended, encoding) = wave(plan.wave(operation), world, writer).await?;
            let spent =
                Spent { thread: cpu_time() - before.0, encoding, target: target.cpu()?.saturating_sub(before.1) };
            tally.add(&ended, spent);
        }
    }
    Ok(tally.measured())
}

/// One wave, and the CPU time that submitting took: encoding, and gathering batches. The clock is read twice for each time
/// something may be submitted, which is once for each answer or so.
async fn wave(mut wave: Wave, world: &World, writer: &mut Writer) -> Result<(Ended, Duration), BenchError> {
    let mut settled: Vec<Settled> = Vec::new();
    let mut encoding = Duration::ZERO;
    while !wave.is_over() {
        let now = Instant::now();
        let before = cpu_time();
        while let Some(n) = wave.next(now) {
            let ends = world.ends(n);
            let submitted = match wave.operation {
                Operation::Install => {
                    wire::with_inserts(&Flows::Plain, &ends, IDLE_MS, |updates| writer.submit(n.into(), updates))
                }
                Operation::Remove => {
                    wire::with_deletes(&Flows::Plain, &ends, |updates| writer.submit(n.into(), updates))
                }
            };
            submitted.map_err(|e| BenchError(e.to_string()))?;
        }
        encoding += cpu_time() - before;
        writer.settle(&mut settled).await;
        let now = Instant::now();
        for end in settled.drain(..) {
            if end.outcome != Outcome::Applied {
                return Err(BenchError(format!("an update of the bare loop was not applied: {:?}", end.outcome)));
            }
            // An operation's updates are settled next to each other.
            if end.index + 1 == end.of {
                wave.done(end.key as u32, now);
            }
        }
    }
    Ok((wave.end(), encoding))
}
