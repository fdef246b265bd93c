//! Prints what the session state costs, in nanoseconds: `cargo run --release -p fullnat --example state_bench`.
//!
//! A rough tool for work on these structures. Packets per second of the whole way are `carom bench`'s.

use std::hint::black_box;
use std::net::Ipv4Addr;

use fullnat::flow::{Direction, FlowKey};
use fullnat::hash::{FlowHasher, KeyHash};
use fullnat::id::{CPort, LPort, NexthopId, Proto, RPort, ServerId, ServiceId, VPort};
use fullnat::ports::{Pool, PortSpaceId, PortSpaces, Remote};
use fullnat::session::{Cold, Session};
use fullnat::table::{SessionIdx, SessionTable};
use fullnat::tcp::{Conn, Segment, Timeouts};
use fullnat::time::Time;
use fullnat::wheel::Wheel;
use fullnat::wire::TcpFlags;

const BURST: usize = 32;

fn main() {
    hash();
    for sessions in [1_000, 100_000, 1_000_000, 10_000_000] {
        table(sessions);
    }
    tcp();
    ports();
    for entries in [1_000, 1_000_000] {
        wheel(entries);
    }
}

/// Nanoseconds this thread has been on a CPU (Linux counts them): what others on the machine use is left out.
fn on_cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

/// Runs `work`, which does `n` operations, and prints the time of one.
fn once(what: &str, n: usize, work: impl FnOnce()) {
    let start = on_cpu();
    work();
    println!("{what:<60}{:>8.1} ns", (on_cpu() - start) as f64 / n as f64);
}

/// Runs `work`, which does `n` operations, five times and prints the time of one in the best run.
fn best(what: &str, n: usize, mut work: impl FnMut()) {
    let runs = (0..5).map(|_| {
        let start = on_cpu();
        work();
        on_cpu() - start
    });
    println!("{what:<60}{:>8.1} ns", runs.min().unwrap_or_default() as f64 / n as f64);
}

/// A cheap sequence of numbers that no prefetcher foresees.
fn random(n: usize) -> impl Iterator<Item = u32> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    })
    .take(n)
}

fn session(n: u32) -> Session<Ipv4Addr> {
    Session {
        client: Ipv4Addr::from_bits(0x0a00_0000 + (n >> 14)),
        vip: Ipv4Addr::new(192, 0, 2, 1),
        server: Ipv4Addr::new(198, 51, 100, (n % 64) as u8),
        local: Ipv4Addr::from_bits(0xc612_0000 + (n >> 14)),
        cport: CPort(1024 + (n & 0x3fff) as u16),
        vport: VPort(443),
        rport: RPort(8443),
        lport: LPort(1024 + (n & 0x3fff) as u16),
        conn: Conn::tcp(&Segment { seq: n, flags: TcpFlags::SYN, ..Segment::default() }, false),
        last_seen: 0,
        packets_in: 0,
        packets_out: 0,
        service_id: ServiceId(0),
        server_id: ServerId((n % 64) as u16),
        nexthop_in: NexthopId(0),
        nexthop_out: NexthopId(1),
    }
}

fn hash() {
    let hasher = FlowHasher::new(1, 2);
    let n = 2_000_000;
    let keys: Vec<FlowKey<Ipv4Addr>> = (0..1024).map(|n| session(n).key(Direction::Inbound)).collect();
    best("hash, IPv4, one after the other", n, || {
        let mut last = 0;
        for i in 0..n {
            let mut key = keys[i % 1024];
            key.sport ^= last as u16 & 1;
            last = hasher.hash(&key);
        }
        black_box(last);
    });
    best("hash, IPv4, independent", n, || {
        let mut sum = 0_u64;
        for i in 0..n {
            sum = sum.wrapping_add(hasher.hash(&keys[i % 1024]));
        }
        black_box(sum);
    });
}

fn table(sessions: usize) {
    let n = 1_000_000;
    let mut t: SessionTable<Ipv4Addr> = SessionTable::new(sessions, FlowHasher::new(1, 2), Time(0));
    let cold = Cold::new(Time(0), PortSpaceId(0));
    let fill = sessions - sessions / 100;
    let deadline = |i: u32| Time(u64::from(i) % 200_000);
    once(&format!("insert, {sessions} sessions, into the empty table"), fill, || {
        for i in 0..fill as u32 {
            black_box(t.insert(session(i), cold, deadline(i)).is_ok());
        }
    });
    // Keys as packets bring them: of random sessions and both directions.
    let keys: Vec<FlowKey<Ipv4Addr>> = random(1 << 20)
        .map(|r| session(r % fill as u32).key(if r >> 31 == 0 { Direction::Inbound } else { Direction::Outbound }))
        .collect();
    best(&format!("find and touch, {sessions} sessions, one by one"), n, || {
        let mut found = 0;
        for i in 0..n {
            let key = &keys[i % keys.len()];
            if let Some((idx, direction)) = t.find(key, t.hash(key)) {
                touch(&mut t, idx, direction);
                found += 1;
            }
        }
        assert_eq!(found, n);
    });
    best(&format!("find and touch, {sessions} sessions, bursts of {BURST}"), n / BURST * BURST, || {
        let mut found = 0;
        for burst in 0..n / BURST {
            let at = burst * BURST % (keys.len() - BURST);
            let keys: &[FlowKey<Ipv4Addr>; BURST] = keys[at..at + BURST].try_into().expect("a burst of keys");
            let hashes = keys.map(|key| t.hash(&key));
            let probes = hashes.map(|hash| t.probe(hash));
            black_box(
                probes
                    .iter()
                    .fold(0, |sum: u8, probe| sum.wrapping_add(t.candidate(probe).map_or(0, |s| s.conn.state as u8))),
            );
            for (key, probe) in keys.iter().zip(&probes) {
                if let Some((idx, direction)) = t.resolve(key, probe) {
                    touch(&mut t, idx, direction);
                    found += 1;
                }
            }
        }
        assert_eq!(found, n / BURST * BURST);
    });
    let strangers: Vec<FlowKey<Ipv4Addr>> =
        keys.iter().map(|key| FlowKey { sport: key.sport ^ 0x8000, ..*key }).collect();
    best(&format!("find nothing, {sessions} sessions"), n, || {
        let found = (0..n).filter(|i| t.find(&strangers[i % keys.len()], t.hash(&strangers[i % keys.len()])).is_some());
        assert_eq!(found.count(), 0);
    });
    let n = n / 4;
    let places: Vec<u32> = random(n).map(|r| r % fill as u32).collect();
    best(&format!("remove and insert anew, {sessions} sessions"), n, || {
        for (i, &place) in places.iter().enumerate() {
            let (session, cold) = t.remove(SessionIdx(place)).expect("every place is taken");
            black_box(t.insert(session, cold, deadline(i as u32)).is_ok());
        }
    });
}

#[inline(always)]
fn touch(t: &mut SessionTable<Ipv4Addr>, idx: SessionIdx, direction: Direction) {
    if let Some(session) = t.get_mut(idx) {
        session.touch(direction, Time(1));
    }
}

fn tcp() {
    let n = 4_000_000;
    let timeouts = Timeouts::default();
    let mut conn = Conn::tcp(&Segment { seq: 0, flags: TcpFlags::SYN, ..Segment::default() }, false);
    conn.on_segment(
        Direction::Outbound,
        &Segment { seq: 0, ack: 1, flags: TcpFlags::SYN | TcpFlags::ACK, payload_len: 0, window: 0 },
    );
    best("TCP machine, data one way, acknowledgments the other", n, || {
        let (mut seq, mut refiled) = (1_u32, 0);
        for _ in 0..n / 2 {
            let data = Segment { seq, ack: 1, flags: TcpFlags::ACK, payload_len: 1400, window: 0 };
            seq = seq.wrapping_add(1400);
            let ack = Segment { seq: 1, ack: seq, flags: TcpFlags::ACK, payload_len: 0, window: 0 };
            for (direction, segment) in [(Direction::Inbound, data), (Direction::Outbound, ack)] {
                let outcome = conn.on_segment(direction, &black_box(segment));
                refiled += u32::from(timeouts.shortened(&outcome).is_some());
            }
        }
        black_box(refiled);
    });
}

fn ports() {
    let n = 1_000_000;
    let lips: Vec<Ipv4Addr> = (1..=4).map(|n| Ipv4Addr::new(198, 18, 0, n)).collect();
    let pool = Pool { index: 0, generation: 1, lips: &lips, ports: 1025..=u16::MAX };
    let remotes: Vec<Remote<Ipv4Addr>> =
        (0..64).map(|n| Remote { proto: Proto::Tcp, rip: Ipv4Addr::new(10, 0, 0, n), rport: RPort(80) }).collect();
    for (what, workers) in [("1 worker", 1), ("1 of 4 workers", 4)] {
        let mut spaces = PortSpaces::new(1_000, 1);
        let mut clock = 0;
        best(&format!("port allocate and release, 64 servers, 4 LIPs, {what}"), n, || {
            for i in 0..n {
                clock += 1;
                let now = Time(clock / 100);
                let lease = spaces.allocate(&pool, remotes[i % 64], now, |_, p| p.0 % workers == 0);
                if let Ok(lease) = lease {
                    spaces.release(lease.space, lease.lport, now);
                }
            }
        });
    }
    let small = Pool { ports: 5000..=5009, ..pool };
    let mut spaces = PortSpaces::new(60_000, 1);
    best("port allocate when exhausted", n, || {
        for _ in 0..n {
            black_box(spaces.allocate(&small, remotes[0], Time(0), |_, _| true).is_ok());
        }
    });
}

fn wheel(entries: usize) {
    let mut wheel = Wheel::new(entries, Time(0));
    let order: Vec<u32> = random(entries).map(|r| r % entries as u32).collect();
    for idx in 0..entries as u32 {
        wheel.file(idx, Time(0));
    }
    let rounds = 1_000_000 / entries;
    best(&format!("wheel, file anew, {entries} entries"), rounds * entries, || {
        for round in 0..rounds {
            for &idx in &order {
                wheel.file(idx, Time(1000 + u64::from(idx.wrapping_mul(31) + round as u32) % 100_000));
            }
        }
    });
    best(&format!("wheel, poll and file again, {entries} entries"), rounds * entries, || {
        let (mut done, mut now) = (0, Time(0));
        while done < rounds * entries {
            now = now.after(1_000);
            let mut budget = usize::MAX;
            while let Some(idx) = wheel.poll(now, &mut budget) {
                wheel.file(idx, now.after(1 + u64::from(idx.wrapping_mul(31)) % 100_000));
                done += 1;
            }
        }
    });
}
