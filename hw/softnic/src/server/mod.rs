//! The P4Runtime server in front of the pipeline.
//!
//! It has one device. Its configuration is the `.spec` text of a program with its P4Info; whatever cannot be loaded is
//! refused, and what ran before goes on. Writes are applied one after the other and seen by packets at once when the
//! request is answered. Idle timeouts are there for every table whose entries count packets, whether P4Info says so or not.
//!
//! | of the standard | here |
//! |---|---|
//! | arbitration, roles | by name; a role's config is not looked at |
//! | SetForwardingPipelineConfig | verify, verify and commit, reconcile and commit |
//! | Write, Read | table entries, direct counters, counters; default entries are constant |
//! | stream | arbitration, idle timeouts; packets of controllers are refused, the program has no headers for them |

mod error;
mod read;
mod service;
mod state;
mod write;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dpdk::Eal;
use dpdk::swx::Code;
use p4runtime_proto::p4::v1::p4_runtime_server::P4RuntimeServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server as Transport;

use crate::engine::Engine;
use service::Service;
use state::State;

pub use error::LoadError;

/// Messages above this size are refused.
const LONGEST_MESSAGE: usize = 64 << 20;
/// How often entries are looked at for their idle timeouts: how late a notice is at most.
const SWEEP: Duration = Duration::from_millis(500);

/// What the server is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its only device.
    pub device_id: u64,
    /// More controllers of a role are refused.
    pub most_controllers: usize,
    /// Tables, by their names in the spec, that have room for other numbers of entries than the program says.
    pub sizes: Vec<(String, u32)>,
    /// How programs are run.
    pub code: Code,
}

impl Default for Config {
    fn default() -> Self {
        Config { device_id: 1, most_controllers: 16, sizes: Vec::new(), code: Code::Interpreted }
    }
}

/// A P4Runtime server.
pub struct Server {
    service: Service,
}

impl Server {
    /// A server that gives its programs to this engine. It starts without a program.
    pub fn new(eal: Eal, engine: Engine, config: Config) -> Server {
        Server { service: Service { state: Arc::new(Mutex::new(State::new(eal, engine, config))) } }
    }

    /// Serves the connections of this listener until `stop` is done.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let sweeper = self.service.clone();
        let sweep = async move {
            let mut ticks = tokio::time::interval(SWEEP);
            loop {
                ticks.tick().await;
                sweeper.lock().sweep();
            }
        };
        let server = P4RuntimeServer::new(self.service)
            .max_decoding_message_size(LONGEST_MESSAGE)
            .max_encoding_message_size(LONGEST_MESSAGE);
        let serve = Transport::builder()
            .tcp_nodelay(true)
            .add_service(server)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop);
        tokio::select! {
            done = serve => done,
            () = sweep => Ok(()),
        }
    }
}
