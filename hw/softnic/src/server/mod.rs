//! The P4Runtime server in front of the pipeline.
//!
//! It has one device. Its configuration is the `.spec` text of a program with its P4Info; whatever cannot be loaded is
//! refused, and what ran before goes on. Writes are applied one after the other and seen by packets at once when the
//! request is answered. Idle timeouts are there for every table whose entries count packets, whether P4Info says so or not.
//!
//! | of the standard | here |
//! |---|---|
//! | arbitration, roles | by name, each with all rights; a role's config is refused, no form of it is agreed upon |
//! | SetForwardingPipelineConfig | verify, verify and commit, reconcile and commit |
//! | Write, Read | table entries, direct counters, counters; default entries are constant |
//! | stream | arbitration, idle timeouts; packets, by a port for them, with the header that P4Info has or none |

mod error;
mod packet;
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
use prost::bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server as Transport, ServerTlsConfig};

use crate::engine::Engine;
use service::Service;
use state::State;

pub use error::{LoadError, TlsError};
pub use packet::{PacketPort, packet_port};

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
    /// Tables, by their names in P4Info, that have room for other numbers of entries than the program says. Those that a
    /// program does not have are passed over.
    pub sizes: Vec<(String, u32)>,
    /// How programs are run.
    pub code: Code,
}

/// What a server shows, and wants to be shown, by TLS. All of it PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Its certificate, and those between it and its authority.
    pub certificate: Vec<u8>,
    /// The key of the certificate.
    pub key: Vec<u8>,
    /// Who signs the certificates of controllers, which then need one; none: anybody may come.
    pub client_authority: Option<Vec<u8>>,
}

impl Default for Config {
    fn default() -> Self {
        Config { device_id: 1, most_controllers: 16, sizes: Vec::new(), code: Code::Interpreted }
    }
}

/// A P4Runtime server.
pub struct Server {
    service: Service,
    transport: Transport,
    /// What comes by the port of controllers.
    packets: Option<mpsc::Receiver<Bytes>>,
}

impl Server {
    /// A server that gives its programs to this engine. It starts without a program.
    pub fn new(eal: Eal, engine: Engine, config: Config) -> Server {
        let state = Arc::new(Mutex::new(State::new(eal, engine, config)));
        Server { service: Service { state }, transport: Transport::builder(), packets: None }
    }

    /// The same with a port of controllers, whose other end is one of the engine's wires: what the program sends by it, the
    /// primary of each role gets, and what a primary sends comes by it.
    pub fn with_packet_port(mut self, port: PacketPort) -> Server {
        self.service.lock().packets = Some(port.sender);
        self.packets = Some(port.frames);
        self
    }

    /// The same, reached by TLS only.
    ///
    /// # Errors
    ///
    /// When certificate and key are none, or not of each other.
    pub fn with_tls(mut self, tls: Tls) -> Result<Server, TlsError> {
        let mut config = ServerTlsConfig::new().identity(Identity::from_pem(tls.certificate, tls.key));
        if let Some(authority) = tls.client_authority {
            config = config.client_ca_root(Certificate::from_pem(authority));
        }
        self.transport = self.transport.tls_config(config)?;
        Ok(self)
    }

    /// Serves the connections of this listener until `stop` is done.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(
        mut self,
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
        let (mut packets, hearer) = (self.packets, self.service.clone());
        let deliver = async move {
            if let Some(packets) = &mut packets {
                while let Some(frame) = packets.recv().await {
                    hearer.lock().packet_in(frame);
                }
            }
            // There is no such port, or the engine has ended.
            std::future::pending().await
        };
        let server = P4RuntimeServer::new(self.service)
            .max_decoding_message_size(LONGEST_MESSAGE)
            .max_encoding_message_size(LONGEST_MESSAGE);
        // Answers to single writes do not wait for more to send.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = self.transport.add_service(server).serve_with_incoming_shutdown(incoming, stop);
        tokio::select! {
            done = serve => done,
            () = sweep => Ok(()),
            () = deliver => Ok(()),
        }
    }
}
