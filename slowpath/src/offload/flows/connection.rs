//! Entries of `connection_v4`, of which a program has two halves: one for even local ports, one for odd ones. To everyone but the
//! target they are one table.

use carom_p4::{ConnectionV4EvenAction, ConnectionV4EvenKey, ConnectionV4OddAction, ConnectionV4OddKey, Key, Table};

/// Both halves.
const HALVES: [Table; 2] = [ConnectionV4EvenKey::TABLE, ConnectionV4OddKey::TABLE];

/// Key of a connection's entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionKey {
    /// Id of its pair.
    pub pair: u16,
    /// Its local port, which says what half the entry is in.
    pub lport: u16,
}

/// What a connection's entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionAction {
    /// The client's address.
    pub client: u32,
    /// The client's port.
    pub cport: u16,
    /// The name of its service, and of the way on from it.
    pub service: u16,
}

/// A key as its half has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Of `connection_v4_even`.
    Even(ConnectionV4EvenKey),
    /// Of `connection_v4_odd`.
    Odd(ConnectionV4OddKey),
}

impl ConnectionKey {
    /// The key as its half has it.
    pub fn half(&self) -> Half {
        let ConnectionKey { pair, lport } = *self;
        match lport % 2 {
            0 => Half::Even(ConnectionV4EvenKey { pair, lport }),
            _ => Half::Odd(ConnectionV4OddKey { pair, lport }),
        }
    }

    /// The half.
    pub fn table(&self) -> Table {
        HALVES[usize::from(self.lport % 2)]
    }
}

impl ConnectionAction {
    /// As `connection_v4_even` has it.
    pub fn even(&self) -> ConnectionV4EvenAction {
        let ConnectionAction { client, cport, service } = *self;
        ConnectionV4EvenAction::ConnectionEven { client, cport, service }
    }

    /// As `connection_v4_odd` has it.
    pub fn odd(&self) -> ConnectionV4OddAction {
        let ConnectionAction { client, cport, service } = *self;
        ConnectionV4OddAction::ConnectionOdd { client, cport, service }
    }
}

impl From<ConnectionV4EvenKey> for ConnectionKey {
    fn from(ConnectionV4EvenKey { pair, lport }: ConnectionV4EvenKey) -> Self {
        ConnectionKey { pair, lport }
    }
}

impl From<ConnectionV4OddKey> for ConnectionKey {
    fn from(ConnectionV4OddKey { pair, lport }: ConnectionV4OddKey) -> Self {
        ConnectionKey { pair, lport }
    }
}

impl From<ConnectionV4EvenAction> for ConnectionAction {
    fn from(ConnectionV4EvenAction::ConnectionEven { client, cport, service }: ConnectionV4EvenAction) -> Self {
        ConnectionAction { client, cport, service }
    }
}

impl From<ConnectionV4OddAction> for ConnectionAction {
    fn from(ConnectionV4OddAction::ConnectionOdd { client, cport, service }: ConnectionV4OddAction) -> Self {
        ConnectionAction { client, cport, service }
    }
}
