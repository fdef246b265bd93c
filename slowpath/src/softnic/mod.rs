//! softnic: an engine with devices for ports, and its P4Runtime server. In the process of the balancer it also has rings to
//! the workers; [`run_alone`] runs it in a process of its own, where the slow path is at the other end of one of its ports.
//!
//! ```text
//!  devices ──▶ engine ──▶ rings, one to each worker ──▶ workers
//!     ◀────────  ▲  ◀──── rings, one from each worker ◀────┘
//!                └ server ◀── offload manager, and others, over TCP
//! ```

mod alone;
mod rings;
mod traffic;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dpdk::swx::{Code, CompileError, Compiler, Wire};
use dpdk::{Eal, RingError};
use softnic::engine::{Engine, EngineError, Observer};
use softnic::server::{PacketPort, Server, Tls, TlsError};
use tokio::sync::oneshot;

use crate::config::TargetCode;

pub use alone::run_alone;
pub use rings::{RING, WorkerEnd, rings};
pub use softnic::server::Config;
pub use traffic::{Drop, PortTraffic, Traffic, Watch};

/// How long connections of controllers may take to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why there is no switch.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its address is not to be had.
    #[error("softnic: cannot listen on {address}: {source}; give a free address of this host")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A ring to a worker.
    #[error("softnic: cannot make a ring to a worker: {0}")]
    Ring(#[from] RingError),
    /// The thread that forwards.
    #[error("softnic: {0}")]
    Engine(EngineError),
    /// The compiler of its programs.
    #[error("softnic: {0}")]
    Compiler(#[from] CompileError),
    /// The thread of the server.
    #[error("softnic: cannot start the P4Runtime server: {0}")]
    Server(#[from] io::Error),
    /// Its certificate and key.
    #[error("p4runtime.tls: {0}; cert and key must be PEM and belong together")]
    Tls(#[from] TlsError),
}

/// What a switch is started with.
pub struct Parts {
    /// The number of each port, and what it is.
    pub wires: Vec<(u32, Box<dyn Wire>)>,
    /// Where P4Runtime is served.
    pub listener: TcpListener,
    /// What it is served as.
    pub server: Config,
    /// By what, when it is to be TLS.
    pub tls: Option<Tls>,
    /// The server's end of the port for packets of controllers, which is one of the wires.
    pub packets: Option<PacketPort>,
    /// The CPU of the thread that forwards; none: any.
    pub cpu: Option<usize>,
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
    observer: Observer,
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
        let Parts { wires, listener, server, tls, packets, cpu } = parts;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let engine = Engine::start(eal, wires, cpu).map_err(StartError::Engine)?;
        let observer = engine.observer();
        let mut server = Server::new(eal, engine, server);
        if let Some(tls) = tls {
            server = server.with_tls(tls)?;
        }
        if let Some(packets) = packets {
            server = server.with_packet_port(packets);
        }
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            // Writes to tables take DPDK's locks and wait for the engine; nothing else is on this thread.
            runtime.block_on(serve(server, listener, stopped));
            // With the connections goes the last that has the engine, which ends it.
            drop(runtime);
        };
        let thread = thread::Builder::new().name("carom-p4runtime".into()).spawn(serve)?;
        Ok(Softnic { observer, stop, thread })
    }

    /// To look at what passes its ports, which have these names.
    pub fn watch(&self, names: Vec<(u32, String)>) -> Watch {
        Watch::new(self.observer.clone(), names)
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
            tracing::error!("softnic: the P4Runtime server ended: {error}");
        },
        () = end => {}
    }
}
