//! Small numbers with a meaning: a service port, a local port and a real-server port are three types, and so are the
//! indexes of services, servers, interfaces, next hops and workers.

use std::fmt;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(transparent)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

newtype!(
    /// The client's port, host byte order.
    CPort(u16)
);
newtype!(
    /// The service's port (`vport`), host byte order.
    VPort(u16)
);
newtype!(
    /// The SNAT port on a local address (`lport`), host byte order.
    LPort(u16)
);
newtype!(
    /// The real server's port (`rport`), host byte order.
    RPort(u16)
);
newtype!(
    /// A service's slot in the [plan](crate::plan); stable over reloads while the service exists.
    ServiceId(u16)
);
newtype!(
    /// A real server's slot in the [plan](crate::plan): one server of one service. Stable over reloads, and not given
    /// to another server while a session still counts on it.
    ServerId(u16)
);
newtype!(
    /// A network interface of the balancer: one DPDK port.
    IfaceId(u8)
);
newtype!(
    /// An entry of the [next-hop table](crate::neighbor), shared by all workers.
    NexthopId(u16)
);
newtype!(
    /// A worker, 0..n.
    WorkerId(u8)
);

/// A transport protocol the balancer balances, by its IANA number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Proto {
    /// TCP, RFC 9293.
    Tcp = 6,
    /// UDP, RFC 768.
    Udp = 17,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        })
    }
}
