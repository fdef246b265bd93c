//! The thread that packets are forwarded on.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dpdk::Eal;
use dpdk::swx::{BuildError, Code, Field, Pipeline, Program, Struct, Wire, WireStats};
use tokio::sync::oneshot;

/// Rounds without a packet until the thread starts to rest.
const PATIENT_ROUNDS: u32 = 256;
/// How long it rests. Packets wait that much longer when they come after a pause.
const REST: Duration = Duration::from_micros(50);
/// How long after so many rests in a row, some tenth of a second: to wake up is what an idle thread costs.
const LONG_REST: Duration = Duration::from_micros(800);
const SHORT_RESTS: u32 = 1000;

/// Why no packets can be forwarded.
#[derive(Debug)]
pub enum EngineError {
    /// The wires or DPDK's memory.
    Pipeline(BuildError),
    /// The system has no thread for it.
    Thread(io::Error),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Pipeline(error) => error.fmt(f),
            EngineError::Thread(error) => write!(f, "no thread for the pipeline: {error}"),
        }
    }
}

impl std::error::Error for EngineError {}

/// What a switch does without a program: it drops.
fn nothing() -> Program {
    let words = |names: [&str; 2]| names.map(|name| Field { name: name.into(), bits: 32 }).to_vec();
    Program {
        structs: vec![
            Struct { name: "prefix_t".into(), fields: words(["port", "left"]) },
            Struct { name: "meta_t".into(), fields: words(["port_in", "port_out"]) },
        ],
        headers: vec![("prefix".into(), "prefix_t".into())],
        metadata: "meta_t".into(),
        instructions: vec!["rx m.port_in".into(), format!("tx {}", dpdk::swx::OUTPUT_DROP)],
        ..Program::default()
    }
}

/// What passed the wires since the start, and what was dropped at them, whatever program it was.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// By number of the wire.
    pub wires: Vec<(u32, WireStats)>,
    /// Packets that the program sent to a number that no wire has.
    pub nowhere: u64,
}

/// What the thread is told between two rounds.
enum Order {
    Replace(Pipeline),
    Tell(oneshot::Sender<Traffic>),
}

/// Looks at an engine from elsewhere.
#[derive(Clone, Debug)]
pub struct Observer(Sender<Order>);

impl Observer {
    /// Asks the thread, which answers after its round or its rest, a millisecond at most unless it is kept from running.
    /// `None` when it has ended.
    pub async fn traffic(&self) -> Option<Traffic> {
        let (answer, told) = oneshot::channel();
        self.0.send(Order::Tell(answer)).ok()?;
        told.await.ok()
    }
}

/// Runs a pipeline on a thread of its own, until dropped.
pub struct Engine {
    orders: Sender<Order>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread, pinned to `cpu` when one is given and allowed. Until there is a program, everything that comes
    /// by the wires is dropped.
    pub fn start(eal: Eal, wires: Vec<(u32, Box<dyn Wire>)>, cpu: Option<usize>) -> Result<Engine, EngineError> {
        let (pipeline, _) =
            Pipeline::build(&eal, &nothing(), &Code::Interpreted, wires).map_err(EngineError::Pipeline)?;
        let (orders, inbox) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let run = move || {
            // Without it mempools are slower and all works the same.
            let _lcore = dpdk::register_thread(&eal, cpu);
            run(pipeline, &inbox, &stopped);
        };
        let thread = thread::Builder::new().name("softnic".into()).spawn(run);
        Ok(Engine { orders, stop, thread: Some(thread.map_err(EngineError::Thread)?) })
    }

    /// Goes on with another pipeline, over the same wires.
    pub fn replace(&self, other: Pipeline) {
        // The thread ends only when this is dropped.
        let _ = self.orders.send(Order::Replace(other));
    }

    /// To look at it from elsewhere. It does not keep the engine running.
    pub fn observer(&self) -> Observer {
        Observer(self.orders.clone())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What it panicked of, if it did, was said when it did.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(mut pipeline: Pipeline, inbox: &Receiver<Order>, stop: &AtomicBool) {
    let mut idle = 0;
    while !stop.load(Ordering::Relaxed) {
        match inbox.try_recv() {
            Ok(Order::Replace(other)) => pipeline.replace(other),
            // Who asked may have gone.
            Ok(Order::Tell(answer)) => _ = answer.send(traffic(&pipeline)),
            Err(_) => {}
        }
        idle = if pipeline.run() { idle + 1 } else { 0 };
        if idle > PATIENT_ROUNDS {
            let rests = idle - PATIENT_ROUNDS;
            idle = idle.min(PATIENT_ROUNDS + SHORT_RESTS);
            thread::sleep(if rests > SHORT_RESTS { LONG_REST } else { REST });
        }
    }
}

fn traffic(pipeline: &Pipeline) -> Traffic {
    Traffic { wires: pipeline.wires(), nowhere: pipeline.sent_nowhere() }
}
