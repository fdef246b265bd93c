//! Through the shipped offload manager: this thread is the worker at the other end of its rings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fullnat::offload::{Request, Verdict};

use super::super::BenchError;
use super::tally::{Measured, Spent, Tally};
use super::target::Target;
use super::wave::{Ended, Operation};
use super::world::{World, number};
use super::{IDLE_MS, Plan, cpu};
use crate::offload::{self, Handle, OffloadEnds};
use crate::worker::{Idle, IdlePolicy};

/// The name the manager gives its thread.
const THREAD: &str = "carom-offload";

/// One run.
pub fn run(plan: &Plan, world: &World, target: &Target) -> Result<Measured, BenchError> {
    let error = |e: &dyn std::fmt::Display| BenchError(e.to_string());
    let (rings, mut ends) = offload::rings(1);
    let mut ends = ends.pop().ok_or_else(|| error(&"no ring was made"))?;
    let (balancer, neighbors) = (Arc::clone(&world.plan), Arc::clone(&world.neighbors));
    let handle = offload::start(plan.settings(), balancer, neighbors, rings).map_err(|e| error(&e))?;
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| error(&e))?;
    control.block_on(ready(&handle, plan.patience))?;
    let measured = waves(plan, world, target, &mut ends);
    let status = control.block_on(handle.status()).map_err(|e| error(&e))?;
    control.block_on(handle.stop());
    measured.map_err(|BenchError(what)| match status.last_error {
        Some(last) => BenchError(format!("{what} (the manager: {last})")),
        None => BenchError(what),
    })
}

/// Waits until installs are taken.
async fn ready(handle: &Handle, patience: Duration) -> Result<(), BenchError> {
    let start = Instant::now();
    loop {
        let status = handle.status().await.map_err(|e| BenchError(e.to_string()))?;
        if status.ready {
            return Ok(());
        }
        if start.elapsed() > patience {
            let last = status.last_error.unwrap_or_default();
            return Err(BenchError(format!(
                "the target at {} takes no installs after {} s ({}); {last}",
                status.address,
                patience.as_secs_f64(),
                status.standing
            )));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The first two waves are for connection and memory to get to their size.
fn waves(plan: &Plan, world: &World, target: &Target, ends: &mut OffloadEnds) -> Result<Measured, BenchError> {
    let mut tally = Tally::new();
    for operation in plan.warm_up() {
        wave(plan, operation, world, ends)?;
    }
    while tally.wall() < plan.seconds {
        for operation in [Operation::Install, Operation::Remove] {
            let before = (cpu::of_thread(THREAD)?, target.cpu()?);
            let ended = wave(plan, operation, world, ends)?;
            let thread = cpu::of_thread(THREAD)? - before.0;
            tally.add(&ended, Spent { thread, target: target.cpu()?.saturating_sub(before.1), ..Spent::default() });
        }
    }
    Ok(tally.measured())
}

/// As a worker does: takes what there is, asks what it may, and rests when there was nothing.
fn wave(plan: &Plan, operation: Operation, world: &World, ends: &mut OffloadEnds) -> Result<Ended, BenchError> {
    let mut wave = plan.wave(operation);
    let mut idle = Idle::new(IdlePolicy::default());
    let mut heard = Instant::now();
    while !wave.is_over() {
        let now = Instant::now();
        let mut found = false;
        while let Ok(verdict) = ends.verdicts.pop() {
            found = true;
            match (verdict, operation) {
                (Verdict::Installed(place), Operation::Install) => wave.done(number(place), now),
                (Verdict::Removed(place, _), Operation::Remove) => wave.done(number(place), now),
                // Nothing is forwarded here.
                (Verdict::Active(..) | Verdict::Idle(..), _) => {}
                (Verdict::Refused(..), _) => {
                    return Err(BenchError("the target refused an install; try fewer --sessions".into()));
                }
                (verdict, operation) => {
                    return Err(BenchError(format!("{verdict:?} while the wave was {operation:?}")));
                }
            }
        }
        while ends.requests.slots() > 0
            && let Some(n) = wave.next(now)
        {
            let place = world.place(n);
            let request = match operation {
                Operation::Install => Request::Install { place, ends: world.ends(n), idle_ms: IDLE_MS },
                Operation::Remove => Request::Remove { place },
            };
            // There is room: it was asked for, and nobody else puts anything in.
            let _ = ends.requests.push(request);
            found = true;
        }
        if found {
            heard = now;
        } else if now - heard > plan.patience {
            return Err(BenchError(format!("{} sessions wait for an answer in vain", wave.under_way())));
        }
        idle.after_poll(found);
    }
    Ok(wave.end())
}
