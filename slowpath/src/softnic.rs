//! The switch in the process: the engine with the interfaces' devices for ports, its rings to the workers, and its P4Runtime
//! server.
//!
//! ```text
//!  devices ──▶ engine ──▶ rings, one to each worker ──▶ workers
//!     ◀────────  ▲  ◀──── rings, one from each worker ◀────┘
//!                └ server ◀── offload manager, and others, over TCP
//! ```

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dpdk::swx::{Code, CompileError, Compiler, Wire};
use dpdk::{Burst, Consumer, Eal, Producer, Ring, RingError, RingMode};
use fullnat::frame::Frame;
use softnic::engine::{Engine, EngineError};
use softnic::server::{Config, Server};
use tokio::sync::oneshot;

use crate::config::TargetCode;

/// Frames that may wait on their way to or from a worker.
pub const RING: u32 = 1024;
/// Frames that a wire is given, or asked for, at once.
const BURST: usize = 32;
/// How long connections of controllers may take to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why there is no switch.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its address is not to be had.
    #[error("target: cannot listen on {address}: {source}; give a free address of this host")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A ring to a worker.
    #[error("target: cannot make a ring to a worker: {0}")]
    Ring(#[from] RingError),
    /// The thread that forwards.
    #[error("target: {0}")]
    Engine(EngineError),
    /// The compiler of its programs.
    #[error("target: {0}")]
    Compiler(#[from] CompileError),
    /// The thread of the server.
    #[error("target: cannot start the P4Runtime server: {0}")]
    Server(#[from] io::Error),
}

/// The switch's end of the rings to the workers. Frames of a flow go to the same worker, in their order.
struct Workers {
    rings: Vec<(Consumer, Producer)>,
    /// By worker what is to go to it; empty between two calls.
    sorted: Vec<Burst<BURST>>,
    /// Who is asked first.
    next: usize,
}

/// A worker's end of its rings.
pub type WorkerEnd = (Consumer, Producer);

/// Makes the rings between the switch and so many workers, at least one.
///
/// # Errors
///
/// DPDK has not enough memory.
pub fn rings(eal: &Eal, workers: usize) -> Result<(Box<dyn Wire>, Vec<WorkerEnd>), RingError> {
    let (mut rings, mut ends) = (Vec::new(), Vec::new());
    for worker in 0..workers {
        let (to, taken) = Ring::create(eal, &format!("carom-punt-{worker}"), RING, RingMode::Spsc)?;
        let (put, from) = Ring::create(eal, &format!("carom-inject-{worker}"), RING, RingMode::Spsc)?;
        rings.push((from, to));
        ends.push((taken, put));
    }
    let sorted = rings.iter().map(|_| Burst::new()).collect();
    Ok((Box::new(Workers { rings, sorted, next: 0 }), ends))
}

impl Wire for Workers {
    fn receive(&mut self, burst: &mut Burst<BURST>) {
        // Each is first in its turn, so that none can fill all bursts.
        let (later, first) = self.rings.split_at_mut(self.next);
        for (from, _) in first.iter_mut().chain(later) {
            from.dequeue_burst(burst);
        }
        self.next = if self.next + 1 < self.rings.len() { self.next + 1 } else { 0 };
    }

    fn send(&mut self, burst: &mut Burst<BURST>) {
        if let [(_, to)] = &mut self.rings[..] {
            to.enqueue_burst(burst);
            return;
        }
        let workers = self.rings.len() as u32;
        for frame in burst.drain() {
            let worker = flow_number(frame.bytes()) % workers;
            // It has room for a whole burst.
            let _ = self.sorted[worker as usize].push(frame);
        }
        for ((_, to), frames) in self.rings.iter_mut().zip(&mut self.sorted) {
            to.enqueue_burst(frames);
            // What did not fit is counted by who called, as lost.
            frames.drain().for_each(|frame| _ = burst.push(frame));
        }
    }
}

/// A number that all frames of a flow share: of addresses and ports, behind the tag.
fn flow_number(frame: &[u8]) -> u32 {
    /// MAC addresses, tag, EtherType.
    const HEADERS: usize = 18;
    let range = match frame.get(HEADERS - 2..HEADERS) {
        // From the source address on: to the ports if there are no options, which few have.
        Some([0x08, 0x00]) => HEADERS + 12..HEADERS + 24,
        Some([0x86, 0xdd]) => HEADERS + 8..HEADERS + 44,
        _ => return 0,
    };
    let words = frame.get(range).unwrap_or_default().chunks_exact(4);
    words.fold(0, |hash: u32, word| {
        let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        // The multiplier of Knuth's multiplicative hashing: 2³² divided by the golden ratio.
        (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(15)
    })
}

/// What a switch is started with.
pub struct Parts {
    /// The number of each port, and what it is.
    pub wires: Vec<(u32, Box<dyn Wire>)>,
    /// Where P4Runtime is served.
    pub listener: TcpListener,
    /// The device's id there.
    pub device_id: u64,
    /// The CPU of the thread that forwards; none: any.
    pub cpu: Option<usize>,
    /// How it runs programs.
    pub code: Code,
}

/// How programs are run, as the config has it.
///
/// # Errors
///
/// There is no C compiler for generated code. It is asked now, so that nobody finds out when a program comes.
pub fn code(wanted: TargetCode) -> Result<Code, StartError> {
    match wanted {
        TargetCode::Interpreted => Ok(Code::Interpreted),
        TargetCode::Generated => {
            let compiler = Compiler::default();
            compiler.check()?;
            Ok(Code::Generated(compiler))
        }
    }
}

/// Opens the address for P4Runtime. With port 0 the listener says which it is.
///
/// # Errors
///
/// The address is not of this host, or taken.
pub fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| StartError::Listen { address, source })
}

/// A running switch. It forwards until it is stopped.
pub struct Softnic {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Softnic {
    /// Starts the engine and the server, each on a thread of its own. The switch has no program and drops what comes.
    ///
    /// # Errors
    ///
    /// DPDK has not enough memory, or the system no thread.
    pub fn start(eal: Eal, parts: Parts) -> Result<Self, StartError> {
        let Parts { wires, listener, device_id, cpu, code } = parts;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let engine = Engine::start(eal, wires, cpu).map_err(StartError::Engine)?;
        let server = Server::new(eal, engine, Config { device_id, code, ..Config::default() });
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            // Writes to tables take DPDK's locks and wait for the engine; nothing else is on this thread.
            runtime.block_on(serve(server, listener, stopped));
            // With the connections goes the last that has the engine, which ends it.
            drop(runtime);
        };
        let thread = thread::Builder::new().name("carom-p4runtime".into()).spawn(serve)?;
        Ok(Softnic { stop, thread })
    }

    /// Whether it has ended by itself, which it never should.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the connections and then the engine, and waits until they have.
    pub fn stop(self) {
        // Either way an error means that it has ended.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn serve(server: Server, listener: tokio::net::TcpListener, stopped: oneshot::Receiver<()>) {
    let (farewell, told) = oneshot::channel();
    let serve = server.serve(listener, async move { _ = told.await });
    let end = async move {
        let _ = stopped.await;
        let _ = farewell.send(());
        // Connections that others hold open are cut then.
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        served = serve => if let Err(error) = served {
            tracing::error!("target: the P4Runtime server ended: {error}");
        },
        () = end => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tagged IPv4 or IPv6 header with these last bytes of addresses and ports.
    fn frame(ethertype: u16, last: [u8; 12]) -> Vec<u8> {
        let mut frame = vec![7; 80];
        frame[16..18].copy_from_slice(&ethertype.to_be_bytes());
        let end = if ethertype == 0x0800 { 42 } else { 62 };
        frame[end - 12..end].copy_from_slice(&last);
        frame
    }

    #[test]
    fn frames_of_a_flow_have_one_number_and_flows_many() {
        for ethertype in [0x0800, 0x86dd] {
            let number = |last: [u8; 12]| flow_number(&frame(ethertype, last));
            let numbers: std::collections::BTreeSet<u32> =
                (0..=255).map(|port| number([10, 0, 0, 1, 10, 0, 0, 2, 0x9c, port, 0, 80]) % 4).collect();
            assert_eq!(numbers.len(), 4, "each of four workers gets flows");
            let mut other = frame(ethertype, [1; 12]);
            other[..14].fill(9);
            other[64..].fill(9);
            assert_eq!(flow_number(&other), number([1; 12]), "tag, reason and payload are not of the flow");
        }
    }

    #[test]
    fn any_frame_has_a_number() {
        for ethertype in [0x0800, 0x86dd, 0x0806] {
            let frame = frame(ethertype, [3; 12]);
            (0..frame.len()).for_each(|length| _ = flow_number(&frame[..length]));
        }
    }
}
