//! The timeouts of sessions, twice from one list: `[timeouts]` with a default for each, and a service's overrides.

use fullnat::tcp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::Protocol;
use super::value::Duration;

macro_rules! timeouts {
    ($( $(#[$doc:meta])* $state:ident $protocol:ident; )*) => {
        /// How long a session lives without a packet, by its state.
        #[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Timeouts {
            $( $(#[$doc])* pub $state: Duration, )*
        }

        impl Default for Timeouts {
            fn default() -> Self {
                let core = tcp::Timeouts::default();
                Timeouts { $( $state: Duration::from_ms(core.$state.into()), )* }
            }
        }

        /// Timeouts of a service that differ from `[timeouts]`.
        #[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Overrides {
            $( $(#[$doc])* pub $state: Option<Duration>, )*
        }

        impl Timeouts {
            /// Each timeout: its key, the protocol it is for, its value.
            pub(super) fn entries(&self) -> Vec<(&'static str, Protocol, Duration)> {
                vec![$( (stringify!($state), Protocol::$protocol, self.$state), )*]
            }

            /// As the session table wants them, with a service's overrides.
            pub fn compile(&self, own: &Overrides) -> tcp::Timeouts {
                tcp::Timeouts { $( $state: milliseconds(own.$state.unwrap_or(self.$state)), )* }
            }
        }

        impl Overrides {
            /// Each timeout that is given: its key, the protocol it is for, its value.
            pub(super) fn entries(&self) -> Vec<(&'static str, Protocol, Duration)> {
                let all = [$( (stringify!($state), Protocol::$protocol, self.$state), )*];
                all.into_iter().filter_map(|(key, protocol, value)| Some((key, protocol, value?))).collect()
            }
        }
    };
}

timeouts! {
    /// TCP: waiting for the real server's SYN-ACK. Outlasts a client's first repetitions of its SYN, so that they reach
    /// the same server; short enough that a client still trying is then given another one.
    syn_sent Tcp;
    /// TCP: waiting for the client's handshake ACK. Outlasts the pauses between a server's repeated SYN-ACKs.
    syn_recv Tcp;
    /// TCP: connection open. Outlives common keep-alive intervals; RFC 5382 asks 2h4m for clients that rely on the
    /// systems' own, at the price of memory and local ports for every idle connection.
    established Tcp;
    /// TCP: the client has closed its side. The server may take long to compose its answer.
    fin_wait Tcp;
    /// TCP: the real server has closed its side, the client may still send.
    close_wait Tcp;
    /// TCP: both sides have closed, not both acknowledged.
    last_ack Tcp;
    /// TCP: both sides have closed. Only for repeated packets: the local port's quarantine protects the real server.
    time_wait Tcp;
    /// TCP: the connection was reset.
    close Tcp;
    /// UDP. RFC 4787 recommends five minutes.
    udp Udp;
}

/// Sessions keep the low 32 bits of a time and compare them over at most 2³¹ ms; the checks refuse more.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_ms()).unwrap_or(u32::MAX)
}
