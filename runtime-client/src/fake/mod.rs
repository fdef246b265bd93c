//! A P4Runtime target in the same process: real gRPC over loopback, real tables by P4Info, the standard's arbitration, a
//! clock moved by hand, and faults on demand. It forwards no packets; [`FakeTarget::hit`] says what packets would have done.

mod cable;
mod chaos;
mod encoded;
mod sample;
mod schema;
mod service;
mod state;
mod table;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

pub use chaos::{Chaos, CutAt, Lie};
pub use sample::sample_p4info;

use crate::connect::Address;
use crate::proto::p4::config::v1::P4Info;
use crate::proto::p4::v1::{PacketIn, PacketOut, TableEntry};
use crate::target::Controlled;
use cable::Cable;
use encoded::Encoded;
use service::Service;
use state::State;

/// Messages above this size are refused, as gRPC does by default.
const LONGEST_MESSAGE: usize = 4 << 20;

/// What a fake target is.
#[derive(Clone, Debug)]
pub struct FakeConfig {
    /// Its only device.
    pub device_id: u64,
    /// The program it comes with; none: it has no pipeline.
    pub p4info: Option<P4Info>,
    /// The mark of that program.
    pub cookie: Option<u64>,
    /// It can change programs and keep entries.
    pub reconciles: bool,
    /// More controllers of a role are refused.
    pub most_controllers: usize,
    /// What it says of itself.
    pub api_version: String,
    /// None: plain TCP.
    pub tls: Option<FakeTls>,
    /// What chance is drawn from.
    pub seed: u64,
}

/// Certificates of a fake target, as PEM text.
#[derive(Clone, Debug)]
pub struct FakeTls {
    /// Its certificate.
    pub certificate: String,
    /// The certificate's key.
    pub key: String,
    /// Who signs clients' certificates; none: clients need none.
    pub client_authority: Option<String>,
}

impl Default for FakeConfig {
    /// Device 1 with the sample program.
    fn default() -> Self {
        Self {
            device_id: 1,
            p4info: Some(sample_p4info(1024)),
            cookie: None,
            reconciles: true,
            most_controllers: 16,
            api_version: "1.4.0".into(),
            tls: None,
            seed: 1,
        }
    }
}

/// What a fake target did since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FakeStats {
    /// Write requests that came.
    pub writes: u64,
    /// Updates that were looked at.
    pub updates: u64,
    /// Times the pipeline was set.
    pub pipelines: u64,
}

/// A running target; it ends when this is dropped.
pub struct FakeTarget {
    service: Service,
    port: u16,
    /// Parent of all connections' tokens, replaced when they are cut.
    connections: Arc<Mutex<CancellationToken>>,
    stop: CancellationToken,
}

impl FakeTarget {
    /// Starts a target on a free port of loopback, served by the current runtime.
    pub async fn start(config: FakeConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let port = listener.local_addr()?.port();
        let mut server = Server::builder()
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .tcp_nodelay(true);
        if let Some(tls) = &config.tls {
            server = server.tls_config(tls.config()).map_err(io::Error::other)?;
        }
        let service = Service { state: Arc::new(Mutex::new(State::new(config))) };
        let connections = Arc::new(Mutex::new(CancellationToken::new()));
        let all = connections.clone();
        let incoming = TcpListenerStream::new(listener).map(move |stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(Cable::new(stream, &lock(&all)))
        });
        let api = Encoded::new(service.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(server.add_service(api).serve_with_incoming_shutdown(incoming, stopped));
        Ok(Self { service, port, connections, stop })
    }

    /// Its address, without TLS.
    pub fn address(&self) -> Address {
        Address::tcp(format!("127.0.0.1:{}", self.port))
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes its faults.
    pub fn chaos(&self, change: impl FnOnce(&mut Chaos)) {
        change(&mut self.service.lock().dice.chaos);
    }

    /// Ends all faults.
    pub fn calm(&self) {
        self.chaos(|chaos| *chaos = Chaos::default());
    }

    /// Tells all controllers how arbitration stands, as a true target does at any change.
    pub fn announce(&self) {
        let mut state = self.service.lock();
        let notices = state.streams.arbitration.tell_all();
        state.announce(notices);
    }

    /// Entries of a table, in no order.
    pub fn entries(&self, table: u32) -> Vec<TableEntry> {
        self.service.lock().tables.entries(table)
    }

    /// Packets hit the entry with the key of this one: its counter rises, its idle time starts again. False: there is none.
    pub fn hit(&self, entry: &TableEntry, packets: i64, bytes: i64) -> bool {
        let mut state = self.service.lock();
        let now = state.now;
        state.tables.hit(entry, packets, bytes, now)
    }

    /// Moves its clock, and sends notices of entries that are idle then.
    pub fn advance(&self, time: Duration) {
        self.service.lock().advance(time.as_nanos() as i64);
    }

    /// Sends a packet to the primaries.
    pub fn packet_in(&self, packet: PacketIn) {
        self.service.lock().packet_in(packet);
    }

    /// The device config it was given with its pipeline; none: it has no pipeline.
    pub fn device_config(&self) -> Option<Bytes> {
        Some(self.service.lock().pipeline.as_ref()?.p4_device_config.clone())
    }

    /// Takes the packets controllers sent.
    pub fn packets_out(&self) -> Vec<PacketOut> {
        std::mem::take(&mut self.service.lock().packets_out)
    }

    /// What it did since its start.
    pub fn stats(&self) -> FakeStats {
        self.service.lock().stats
    }

    /// Cuts all connections; new ones are taken.
    pub fn disconnect(&self) {
        let mut all = lock(&self.connections);
        all.cancel();
        *all = CancellationToken::new();
    }

    /// Cuts all connections and forgets everything: entries, pipeline, election ids.
    pub fn restart(&self) {
        self.service.lock().restart();
        self.disconnect();
    }
}

impl Drop for FakeTarget {
    fn drop(&mut self) {
        self.stop.cancel();
        self.disconnect();
    }
}

/// An address of loopback where connections are refused, and which nobody else gets before this is dropped.
pub struct Nobody(TcpSocket);

impl Nobody {
    /// At a free port.
    pub fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self(socket))
    }

    /// As `address:port`.
    pub fn address(&self) -> io::Result<String> {
        Ok(self.0.local_addr()?.to_string())
    }
}

impl FakeTls {
    fn config(&self) -> ServerTlsConfig {
        let config = ServerTlsConfig::new().identity(Identity::from_pem(&self.certificate, &self.key));
        match &self.client_authority {
            Some(pem) => config.client_ca_root(Certificate::from_pem(pem)),
            None => config,
        }
    }
}

/// The token is replaced as a whole: a panic elsewhere leaves it sound.
fn lock(token: &Mutex<CancellationToken>) -> std::sync::MutexGuard<'_, CancellationToken> {
    token.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
