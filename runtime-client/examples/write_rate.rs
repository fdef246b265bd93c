//! How many updates per second one thread gets acknowledged by the fake target, and how long each takes.
//!
//! ```text
//! cargo run --release -p runtime-client --example write_rate -- [--seconds 3] [--batch 256] [--in-flight 8]
//!     [--pending 4096] [--rate 0] [--per-session 1]
//! ```
//!
//! The client has one thread for everything: encoding, HTTP/2, TCP, results. The target has threads of its own. Sessions are
//! inserted and later deleted, over and over. `--rate` sends so many updates per second instead of as many as possible.
//! Time is from `submit` to the moment the caller has the result.

use std::error::Error;
use std::time::{Duration, Instant};

use runtime_client::fake::{FakeConfig, FakeTarget, sample_p4info};
use runtime_client::write::{Action, Entry, Match, MatchValue, Outcome, Param, Settled, Update, WriteConfig, Writer};
use runtime_client::{Client, Config, Standing};
use rustix::time::{ClockId, clock_gettime};

/// Sessions that take turns in being there.
const SESSIONS: usize = 100_000;

struct Options {
    seconds: f64,
    rate: f64,
    per_session: usize,
    writes: WriteConfig,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    // Declared first, so that it ends last.
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let p4info = Some(sample_p4info(SESSIONS * options.per_session));
    let target = servers.block_on(FakeTarget::start(FakeConfig { p4info, ..FakeConfig::default() }))?;
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    own.block_on(measure(&target, &options))
}

fn options() -> Result<Options, Box<dyn Error>> {
    let writes = WriteConfig { pending: 4096, ..WriteConfig::default() };
    let mut options = Options { seconds: 3.0, rate: 0.0, per_session: 1, writes };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--seconds" => options.seconds = value.parse()?,
            "--rate" => options.rate = value.parse()?,
            "--batch" => options.writes.batch = value.parse()?,
            "--in-flight" => options.writes.in_flight = value.parse()?,
            "--pending" => options.writes.pending = value.parse()?,
            "--per-session" => options.per_session = value.parse::<usize>()?.clamp(1, 2),
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    Ok(options)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

async fn measure(target: &FakeTarget, options: &Options) -> Result<(), Box<dyn Error>> {
    let (client, _events) = Client::start(Config::new(target.address(), 1))?;
    client.wait_for(Standing::is_primary).await;
    let mut writer = client.writer(options.writes.clone());
    let mut load = Load::new(options.per_session);
    // Connection and memory get to their size.
    load.run(&mut writer, Duration::from_millis(500), options.rate).await;
    let before = (writer.stats(), cpu(), Instant::now());
    load.times.clear();
    load.run(&mut writer, Duration::from_secs_f64(options.seconds), options.rate).await;
    let (cpu, wall) = ((cpu() - before.1).as_secs_f64(), before.2.elapsed().as_secs_f64());
    let updates = (writer.stats().applied - before.0.applied) as f64;
    let requests = (writer.stats().requests - before.0.requests) as f64;
    load.times.sort_unstable();
    let at = |share: f64| load.times[((load.times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "batch {} in flight {} pending {} per session {}: {:.0} updates/s, {:.0} per CPU-second of the client's thread \
         (busy {:.0} %), {:.0} per request; submit to result p50 {:.0} us, p99 {:.0} us; {} failed",
        options.writes.batch,
        options.writes.in_flight,
        options.writes.pending,
        options.per_session,
        updates / wall,
        updates / cpu,
        100.0 * cpu / wall,
        updates / requests,
        at(0.5),
        at(0.99),
        load.failed,
    );
    Ok(())
}

/// Sessions that come and go.
struct Load {
    per_session: usize,
    next: usize,
    submitted: Vec<Instant>,
    times: Vec<Duration>,
    settled: Vec<Settled>,
    failed: u64,
}

impl Load {
    fn new(per_session: usize) -> Self {
        let submitted = vec![Instant::now(); SESSIONS];
        Self { per_session, next: 0, submitted, times: Vec::new(), settled: Vec::new(), failed: 0 }
    }

    async fn run(&mut self, writer: &mut Writer, time: Duration, rate: f64) {
        let (start, first) = (Instant::now(), self.next);
        while start.elapsed() < time {
            // One look at the clock for a burst, as a caller has that drains a ring.
            let now = Instant::now();
            let due = if rate > 0.0 { ((now - start).as_secs_f64() * rate) as usize } else { usize::MAX };
            while writer.room() >= self.per_session && (self.next - first) * self.per_session < due {
                self.submit(writer, now);
            }
            tokio::select! {
                () = writer.settle(&mut self.settled), if writer.pending() > 0 => {}
                () = tokio::time::sleep(Duration::from_millis(1)), if rate > 0.0 => {}
            }
            self.take_results();
        }
        while writer.pending() > 0 {
            writer.settle(&mut self.settled).await;
            self.take_results();
        }
    }

    fn submit(&mut self, writer: &mut Writer, now: Instant) {
        let session = self.next % SESSIONS;
        let insert = (self.next / SESSIONS).is_multiple_of(2);
        self.next += 1;
        self.submitted[session] = now;
        let [client, port] =
            [session as u32 >> 8, session as u32 & 0xff].map(|part| (part + 0x0a00_0000).to_be_bytes());
        let exact = |field_id, value| Match { field_id, value: MatchValue::Exact(value) };
        let param = |id, value| Param { id, value };
        let entry = |matches, params| Entry {
            table_id: 0x0200_0001,
            matches,
            action: insert.then_some(Action { id: 0x0100_0001, params }),
            idle_timeout_ns: if insert { 30_000_000_000 } else { 0 },
            ..Entry::default()
        };
        let update = if insert { Update::insert } else { Update::delete };
        let (vip, local, server) = ([192, 0, 2, 1], [10, 9, 0, 1], [10, 8, 0, 1]);
        let inbound = [exact(1, &client[..]), exact(2, &vip), exact(3, &[6]), exact(4, &port[2..]), exact(5, &[0, 80])];
        let to_server =
            [param(1, &local[..]), param(2, &server), param(3, &port[2..]), param(4, &[31, 144]), param(5, &[0, 3])];
        let outbound =
            [exact(1, &server[..]), exact(2, &client), exact(3, &[6]), exact(4, &[31, 144]), exact(5, &port[2..])];
        let to_client =
            [param(1, &vip[..]), param(2, &client), param(3, &[0, 80]), param(4, &port[2..]), param(5, &[0, 4])];
        let updates = [update(entry(&inbound, &to_server)), update(entry(&outbound, &to_client))];
        if writer.submit(session as u64, &updates[..self.per_session]).is_err() {
            unreachable!("room was asked for before");
        }
    }

    fn take_results(&mut self) {
        let now = Instant::now();
        for end in self.settled.drain(..) {
            self.times.push(now - self.submitted[end.key as usize]);
            self.failed += u64::from(end.outcome != Outcome::Applied);
        }
    }
}
