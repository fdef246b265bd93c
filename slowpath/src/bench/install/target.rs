//! The target: one somewhere, or a fake one in this process with threads of its own.

use std::time::Duration;

use runtime_client::fake::{FakeConfig, FakeTarget};

use super::super::BenchError;
use super::cpu;

/// Threads of the fake target: with one it would be the limit long before the client is.
const THREADS: usize = 2;

/// The name of its threads.
const NAME: &str = "fake-target";

pub enum Target {
    /// Its address, and its process where that is known.
    Real(String, Option<u32>),
    /// The target is declared first: it ends while its runtime is still there.
    Fake(FakeTarget, #[expect(dead_code, reason = "keeps the target's threads")] tokio::runtime::Runtime),
}

impl Target {
    /// The target at this address, or a fake one.
    pub fn start(address: Option<&str>, process: Option<u32>, device_id: u64) -> Result<Self, BenchError> {
        if let Some(address) = address {
            return Ok(Target::Real(address.to_owned(), process));
        }
        let error = |e: std::io::Error| BenchError(format!("cannot start the fake target: {e}"));
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(NAME)
            .enable_all()
            .build()
            .map_err(error)?;
        // Without a program, as a switch that was just started; the manager brings it.
        let config = FakeConfig { device_id, p4info: None, ..FakeConfig::default() };
        let fake = threads.block_on(FakeTarget::start(config)).map_err(error)?;
        Ok(Target::Fake(fake, threads))
    }

    /// Its address, host and port.
    pub fn address(&self) -> String {
        match self {
            Target::Real(address, _) => address.clone(),
            Target::Fake(fake, _) => fake.address().target,
        }
    }

    /// CPU time it has used; none when that cannot be seen.
    pub fn cpu(&self) -> Result<Duration, BenchError> {
        match self {
            Target::Real(_, None) => Ok(Duration::ZERO),
            Target::Real(_, Some(process)) => cpu::of_process(*process),
            Target::Fake(..) => cpu::of_thread(NAME),
        }
    }
}
