//! Where a target is and how it is reached: TCP, TLS, mutual TLS.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::error::ConnectError;

/// A partly failed batch is answered in trailers that hold a status for each update, which is far beyond the 16 KiB
/// HTTP/2 clients take by default: 4096 updates with a message of 100 bytes each come to about 1 MiB in base64.
const LONGEST_HEADERS: u32 = 4 << 20;

/// What a target is reached by.
#[derive(Clone, Debug)]
pub struct Address {
    /// `HOST:PORT`; IPv6 addresses in brackets.
    pub target: String,
    /// None: plain TCP.
    pub tls: Option<Tls>,
    /// Longest wait for a connection, TLS included.
    pub timeout: Duration,
    /// A quiet connection is asked this often whether it is still there, and given up after as long without answer.
    pub keep_alive: Duration,
}

/// How a target proves who it is, and how the client does. All certificates and keys are PEM text.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who signs targets' certificates; none: the machine's own list.
    pub authority: Option<Vec<u8>>,
    /// The client's certificate chain and key, for mutual TLS.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that has to be in the target's certificate; none: the host of the address.
    pub server_name: Option<String>,
}

impl Address {
    /// Plain TCP to `HOST:PORT`.
    pub fn tcp(target: impl Into<String>) -> Self {
        let [timeout, keep_alive] = [Duration::from_secs(5), Duration::from_secs(10)];
        Self { target: target.into(), tls: None, timeout, keep_alive }
    }

    /// TLS to `HOST:PORT`.
    pub fn tls(target: impl Into<String>, tls: Tls) -> Self {
        Self { tls: Some(tls), ..Self::tcp(target) }
    }

    /// Checks all that can be checked without the target.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let bad = || ConnectError::Address(self.target.clone());
        let (host, port) = self.target.rsplit_once(':').ok_or_else(bad)?;
        if host.is_empty() || port.parse::<u16>().is_err() || host.contains('/') {
            return Err(bad());
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.target))
            .map_err(|_| bad())?
            .connect_timeout(self.timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.keep_alive)
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(LONGEST_HEADERS)
            // Batches of writes and reads of whole tables: the default of 64 KiB would wait for the target's window.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        let Some(tls) = &self.tls else { return Ok(endpoint) };
        endpoint.tls_config(tls.config()).map_err(|error| ConnectError::Tls(chain(&error)))
    }

    /// One attempt. The error is for people.
    pub(crate) async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Channel, String> {
        // `connect_timeout` covers TCP only.
        match tokio::time::timeout(timeout, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("no connection within {timeout:?}")),
        }
    }
}

impl Tls {
    fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        config = match &self.authority {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        config
    }
}

/// An error with its causes in one line; tonic's outermost says little more than "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_tried() {
        for good in ["127.0.0.1:9559", "[::1]:9559", "switch.example:1"] {
            assert!(Address::tcp(good).endpoint().is_ok(), "{good}");
        }
        for bad in ["", "host", "host:", ":9559", "host:99999", "http://host:1", "host:port", "a b:1"] {
            assert!(matches!(Address::tcp(bad).endpoint(), Err(ConnectError::Address(_))), "{bad}");
        }
    }

    #[test]
    fn certificates_are_checked_before_anything_is_tried() {
        let identity = Some((b"no certificate".to_vec(), b"no key".to_vec()));
        let tls = Tls { identity, authority: Some(Vec::new()), server_name: None };
        assert!(matches!(Address::tls("host:1", tls).endpoint(), Err(ConnectError::Tls(_))));
    }
}
