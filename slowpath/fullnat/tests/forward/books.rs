//! All counters of all workers at one moment, and what changed since another.

use std::collections::BTreeMap;

use fullnat::counters::{Counter, Counters, Traffic};
use fullnat::flow::Direction;
use fullnat::id::{ServerId, ServiceId};
use fullnat::reason::DropReason;

use crate::world::GROUP;

/// Values by name; drops by `drop.` and their reason's name, traffic by `service.` and `server.`. Those that are zero are
/// left out.
pub type Books = BTreeMap<String, u64>;

/// The values now, summed over all workers.
pub fn read<'a>(workers: impl IntoIterator<Item = &'a Counters>) -> Books {
    let mut books = Books::new();
    for counters in workers {
        for (name, counter) in named(counters) {
            enter(&mut books, name, counter.get());
        }
        for &reason in DropReason::ALL {
            enter(&mut books, format!("drop.{}", reason.name()), counters.dropped(reason));
        }
        for id in 0..4 {
            traffic(&mut books, "service", counters.service(ServiceId(id)));
        }
        for id in 0..4 * GROUP {
            traffic(&mut books, "server", counters.server(ServerId(id)));
        }
    }
    books
}

fn enter(books: &mut Books, name: impl Into<String>, n: u64) {
    if n != 0 {
        *books.entry(name.into()).or_default() += n;
    }
}

fn named(c: &Counters) -> [(&'static str, &Counter); 29] {
    [
        ("half_open_evicted", &c.half_open_evicted),
        ("handshakes", &c.handshakes),
        ("sessions_created", &c.sessions_created),
        ("sessions_ended", &c.sessions_ended),
        ("sessions_reopened", &c.sessions_reopened),
        ("rst_ignored", &c.rst_ignored),
        ("toa_added", &c.toa_added),
        ("toa_stripped", &c.toa_stripped),
        ("toa_no_room", &c.toa_no_room),
        ("toa_over_mtu", &c.toa_over_mtu),
        ("icmp_translated", &c.icmp_translated),
        ("echo_answered", &c.echo_answered),
        ("neighbor_answered", &c.neighbor_answered),
        ("neighbor_heard", &c.neighbor_heard),
        ("icmp_sent", &c.icmp_sent),
        ("rst_sent", &c.rst_sent),
        ("replies_limited", &c.replies_limited),
        ("offload.asked", &c.offload.asked),
        ("offload.installed", &c.offload.installed),
        ("offload.refused", &c.offload.refused),
        ("offload.adopted", &c.offload.adopted),
        ("offload.declined", &c.offload.declined),
        ("offload.removed", &c.offload.removed),
        ("offload.full", &c.offload.full),
        ("offload.ignored", &c.offload.ignored),
        ("offload.packets_in", &c.offload.packets_in),
        ("offload.bytes_in", &c.offload.bytes_in),
        ("offload.packets_out", &c.offload.packets_out),
        ("offload.bytes_out", &c.offload.bytes_out),
    ]
}

fn traffic(books: &mut Books, of: &str, t: &Traffic) {
    let counters = [
        ("packets_in", &t.packets_in),
        ("bytes_in", &t.bytes_in),
        ("packets_out", &t.packets_out),
        ("bytes_out", &t.bytes_out),
        ("sessions", &t.sessions),
        ("refused", &t.refused),
        ("evicted", &t.evicted),
    ];
    for (name, counter) in counters {
        enter(books, format!("{of}.{name}"), counter.get());
    }
}

/// What changed from `before` to `after`; counters never go back.
pub fn change(before: &Books, after: &Books) -> Books {
    let by = |(name, &now): (&String, &u64)| {
        let n = now.checked_sub(before.get(name).copied().unwrap_or(0)).expect("a counter went back");
        (n != 0).then(|| (name.clone(), n))
    };
    after.iter().filter_map(by).collect()
}

/// The drops among them.
pub fn drops(books: &Books) -> u64 {
    books.iter().filter(|(name, _)| name.starts_with("drop.")).map(|(_, n)| n).sum()
}

/// A set of changes in the making.
#[derive(Clone, Default, Debug)]
pub struct Expect(Books);

/// Nothing changes.
pub fn nothing() -> Expect {
    Expect::default()
}

/// One packet of a session counts for its service and its server.
pub fn packet(direction: Direction, bytes: usize) -> Expect {
    let way = if direction == Direction::Inbound { "in" } else { "out" };
    let one = |expect: Expect, of: &str| {
        expect.and(&format!("{of}.packets_{way}"), 1).and(&format!("{of}.bytes_{way}"), bytes as u64)
    };
    one(one(nothing(), "service"), "server")
}

/// One packet from a client opens a session.
pub fn opening(bytes: usize) -> Expect {
    packet(Direction::Inbound, bytes).and("sessions_created", 1).and("service.sessions", 1).and("server.sessions", 1)
}

/// A frame is dropped.
pub fn drop_of(reason: DropReason) -> Expect {
    nothing().and(&format!("drop.{}", reason.name()), 1)
}

impl Expect {
    /// And this counter changes by `n`.
    pub fn and(mut self, name: &str, n: u64) -> Self {
        enter(&mut self.0, name, n);
        self
    }

    pub fn books(&self) -> &Books {
        &self.0
    }
}
