//! What passed softnic's ports, and what it dropped there, by the operator's names.

use serde::{Deserialize, Serialize};
use softnic::engine::Observer;

/// Packets of a port since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortTraffic {
    /// The name of its interface, `workers`, or its number where it has no name.
    pub port: String,
    /// Its number.
    pub number: u32,
    /// Packets that came by it.
    pub rx_packets: u64,
    /// Packets sent by it.
    pub tx_packets: u64,
    /// Packets to be sent that its device, or the rings to the workers, had no room for.
    pub port_full: u64,
    /// Packets that came with too little room in their buffer for what the program may add.
    pub no_headroom: u64,
}

/// All ports, in their order, and what went to none of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// The ports.
    pub ports: Vec<PortTraffic>,
    /// Packets that the program sent to a port that there is not.
    pub no_port: u64,
}

/// Packets that softnic dropped at a port, apart from those that its program drops.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drop {
    /// The reason's stable name.
    pub reason: String,
    /// The port; empty when it is about none.
    pub port: String,
    /// Packets.
    pub total: u64,
    /// What happened, for people.
    pub text: String,
}

impl Traffic {
    /// Every reason at every port, those that never happened included.
    pub fn drops(&self) -> Vec<Drop> {
        let drop = |reason: &str, port: &str, total, text: &str| Drop {
            reason: reason.to_owned(),
            port: port.to_owned(),
            total,
            text: text.to_owned(),
        };
        let at = |port: &PortTraffic| {
            [
                drop("port_full", &port.port, port.port_full, "The device, or the worker, had no room for it."),
                drop(
                    "no_headroom",
                    &port.port,
                    port.no_headroom,
                    "Its buffer had no room for what the program may add.",
                ),
            ]
        };
        let nowhere = drop("no_port", "", self.no_port, "The program sent it to a port that there is not.");
        self.ports.iter().flat_map(at).chain([nowhere]).collect()
    }
}

/// Looks at a running softnic.
#[derive(Clone, Debug)]
pub struct Watch {
    observer: Observer,
    names: Vec<(u32, String)>,
}

impl Watch {
    pub(super) fn new(observer: Observer, names: Vec<(u32, String)>) -> Self {
        Watch { observer, names }
    }

    /// Asks the thread that forwards; `None` when it has ended.
    pub async fn traffic(&self) -> Option<Traffic> {
        let softnic::engine::Traffic { wires, nowhere } = self.observer.traffic().await?;
        let ports = wires.into_iter().map(|(number, stats)| {
            let name = self.names.iter().find(|(named, _)| *named == number).map(|(_, name)| name.clone());
            PortTraffic {
                port: name.unwrap_or_else(|| number.to_string()),
                number,
                rx_packets: stats.received,
                tx_packets: stats.sent,
                port_full: stats.lost,
                no_headroom: stats.refused,
            }
        });
        Some(Traffic { ports: ports.collect(), no_port: nowhere })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_of_a_drop_is_told_with_its_port() {
        let port = |name: &str, number, port_full, no_headroom| PortTraffic {
            port: name.to_owned(),
            number,
            port_full,
            no_headroom,
            ..PortTraffic::default()
        };
        let traffic = Traffic { ports: vec![port("front", 1, 3, 0), port("workers", 64, 5, 7)], no_port: 11 };
        let told: Vec<_> = traffic.drops().into_iter().map(|d| (d.reason, d.port, d.total)).collect();
        let expected = [
            ("port_full", "front", 3),
            ("no_headroom", "front", 0),
            ("port_full", "workers", 5),
            ("no_headroom", "workers", 7),
            ("no_port", "", 11),
        ];
        assert_eq!(told, expected.map(|(reason, port, total)| (reason.to_owned(), port.to_owned(), total)));
    }
}
