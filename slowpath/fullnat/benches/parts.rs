//! The pieces of the packet's way, each by itself: `cargo bench -p fullnat`.
//!
//! Packets lie in a ring of 64 buffers, whose headers fit the L1 cache, like a burst after its prefetch. What the whole way
//! costs with the caches as they are is `carom bench`'s to say.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use fullnat::addr::Addr;
use fullnat::flow::{Direction, FlowKey, Rewrite};
use fullnat::frame::{Frame, HeapFrame};
use fullnat::hash::{FlowHasher, GROUP};
use fullnat::id::{CPort, LPort, NexthopId, Proto, RPort, ServerId, ServiceId, VPort};
use fullnat::offload::Ends;
use fullnat::ports::{Pool, PortSpaceId, PortSpaces, Remote};
use fullnat::rss::RssSpread;
use fullnat::session::{Cold, Session};
use fullnat::table::SessionTable;
use fullnat::tcp::{Conn, Segment};
use fullnat::time::Time;
use fullnat::wheel::Wheel;
use fullnat::wire::checksum::Change;
use fullnat::wire::testing::{Build, flow};
use fullnat::wire::{Flow, TcpFlags, checksum, flow_v4, flow_v6, parse, rewrite, tcp, toa};

/// Packets of a burst here.
const RING: usize = 64;
/// NOP, NOP, timestamps: what most segments carry.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

/// A group whose figures are for one packet, key or entry of `each` that an iteration goes through.
fn group<'a>(c: &'a mut Criterion, name: &str, each: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(each as u64));
    group
}

fn ring<A: Addr>(key: FlowKey<A>) -> Vec<HeapFrame> {
    let frame = |n| Build::new(FlowKey { sport: 1024 + n, ..key }).options(&TIMESTAMPS).payload(&[0; 10]).frame();
    (0..RING as u16).map(frame).collect()
}

fn views<A: Addr>(frames: &[HeapFrame], read: fn(&[u8]) -> Option<Flow<A>>) -> Vec<Flow<A>> {
    frames.iter().map(|frame| read(frame.bytes()).expect("a frame made for this")).collect()
}

fn v4(proto: Proto) -> FlowKey<Ipv4Addr> {
    flow("192.0.2.1:1", "198.51.100.1:80", proto)
}

fn v6(proto: Proto) -> FlowKey<Ipv6Addr> {
    flow("[2001:db8::1]:1", "[2001:db8:1::1]:80", proto)
}

/// The `n`th session.
fn session(n: u32) -> Session<Ipv4Addr> {
    let (host, port) = (n >> 14, 1024 + (n & 0x3fff) as u16);
    let ends = Ends {
        client: Ipv4Addr::from_bits(0x0a00_0000 + host),
        vip: Ipv4Addr::new(192, 0, 2, 1),
        server: Ipv4Addr::new(198, 51, 100, (n % 64) as u8),
        local: Ipv4Addr::from_bits(0xc612_0000 + host),
        cport: CPort(port),
        vport: VPort(443),
        rport: RPort(8443),
        lport: LPort(port),
        proto: Proto::Tcp,
        nexthop_in: NexthopId(0),
        nexthop_out: NexthopId(1),
    };
    let conn = Conn::tcp(&Segment { seq: n, flags: TcpFlags::SYN, ..Segment::default() }, false);
    Session::new(&ends, conn, ServiceId(0), ServerId((n % 64) as u16), Time(0))
}

/// Numbers below `below` in an order that no prefetcher foresees.
fn random(below: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % below
    })
}

fn packets(c: &mut Criterion) {
    family(c, "IPv4", v4(Proto::Tcp), flow("10.0.0.1:2000", "10.0.1.1:8080", Proto::Tcp), flow_v4);
    family(c, "IPv6", v6(Proto::Tcp), flow("[fd00::1]:2000", "[fd00:1::1]:8080", Proto::Tcp), flow_v6);
}

fn family<A: Addr>(c: &mut Criterion, name: &str, key: FlowKey<A>, to: FlowKey<A>, read: fn(&[u8]) -> Option<Flow<A>>) {
    let mut frames = ring(key);
    let flows = views(&frames, read);
    let mut group = group(c, name, RING);
    group.bench_function("parse, any frame", |b| {
        // By reference: a caller looks at the view where the parser put it, and so is not charged a copy.
        b.iter(|| {
            frames.iter().for_each(|frame| {
                black_box(&parse(black_box(frame.bytes())));
            })
        });
    });
    group.bench_function("parse, the usual frame", |b| {
        b.iter(|| {
            frames.iter().for_each(|frame| {
                black_box(&read(black_box(frame.bytes())));
            })
        });
    });
    group.bench_function("read the TCP header", |b| {
        b.iter(|| {
            for (frame, flow) in frames.iter().zip(&flows) {
                black_box(tcp::segment(black_box(frame.bytes()), black_box(flow)));
            }
        });
    });
    let to = Rewrite { src: to.src, dst: to.dst, sport: to.sport, dport: to.dport, nexthop: NexthopId(0) };
    group.bench_function("rewrite", |b| {
        b.iter(|| {
            for (frame, flow) in frames.iter_mut().zip(&flows) {
                rewrite::apply(black_box(frame.bytes_mut()), black_box(flow), black_box(&to));
            }
        });
    });
    group.bench_function("look for TOA, none there", |b| {
        b.iter(|| {
            for (frame, flow) in frames.iter_mut().zip(&flows) {
                black_box(toa::strip(black_box(frame.bytes_mut()), black_box(flow)));
            }
        });
    });
    group.bench_function("insert TOA", |b| {
        b.iter(|| {
            for (frame, flow) in frames.iter_mut().zip(&flows) {
                let mut flow = *flow;
                let done = toa::insert(frame, &mut flow, black_box((key.src, CPort(7))), 1500);
                assert!(black_box(done).is_ok());
                // Back to the old shape for the next iteration: the data offset is what says so.
                frame.shrink_front(toa::len::<A>());
                frame.bytes_mut()[usize::from(flow.l4()) + 12] = 0x80;
            }
        });
    });
    let hasher = FlowHasher::new(1, 2);
    let keys: Vec<A::KeyWords> = flows.iter().map(|flow| flow.key.words()).collect();
    group.bench_function("hash by SipHash", |b| {
        let (groups, _) = keys.as_chunks::<GROUP>();
        b.iter(|| {
            let mut hashes = [0; GROUP];
            groups.iter().for_each(|keys| A::hash_keys(&hasher, black_box(keys), black_box(&mut hashes)));
        });
    });
    let spread = RssSpread::new(&[0x6d; 40], &[0, 1, 2, 3]).expect("key and table are long enough");
    group.bench_function("RSS queue", |b| {
        b.iter(|| flows.iter().map(|flow| spread.queue(black_box(&flow.key))).sum::<u16>());
    });
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let frames = ring(v4(Proto::Tcp));
    let mut group = group(c, "checksum", RING);
    group.bench_function("IPv4 header", |b| {
        let headers: Vec<[u8; 20]> =
            frames.iter().map(|frame| *frame.bytes()[14..].first_chunk().expect("a header")).collect();
        b.iter(|| headers.iter().filter(|header| checksum::ipv4_header_is_right(black_box(header))).count());
    });
    group.bench_function("update", |b| {
        b.iter(|| {
            (0..RING as u16).fold(0, |check, n| {
                let mut change = Change::default();
                change.word(black_box(n), black_box(!n));
                change.apply(black_box(check))
            })
        });
    });
    group.bench_function("sum of 1 460 bytes", |b| {
        let body = vec![0x5a_u8; 1460];
        b.iter(|| (0..RING).map(|_| u32::from(checksum::sum(black_box(&body)))).sum::<u32>());
    });
    group.finish();
}

fn lookups(c: &mut Criterion) {
    const KEYS: usize = 1 << 16;
    let mut group = group(c, "session table", KEYS);
    for sessions in [1_000, 1_000_000] {
        let mut table = SessionTable::<Ipv4Addr, _>::new(sessions + 1, FlowHasher::new(1, 2), Time(0));
        let cold = Cold::new(Time(0), PortSpaceId(0));
        for n in 0..sessions as u32 {
            table.insert(session(n), cold, Time(u64::from(n) % 200_000)).expect("there is room");
        }
        let key = |n: usize| {
            let direction = if n.is_multiple_of(2) { Direction::Inbound } else { Direction::Outbound };
            session((n / 2) as u32).key(direction)
        };
        let keys: Vec<_> = random(2 * sessions).take(KEYS).map(key).collect();
        group.bench_function(format!("find, {sessions} sessions"), |b| {
            b.iter(|| keys.iter().filter(|key| table.find(key, table.hash(key)).is_some()).count());
        });
        group.bench_function(format!("find nothing, {sessions} sessions"), |b| {
            let strange = keys.iter().map(|key| FlowKey { sport: key.sport ^ 0x8000, ..*key });
            let strange: Vec<_> = strange.filter(|key| table.find(key, table.hash(key)).is_none()).collect();
            assert!(strange.len() > KEYS / 2);
            b.iter(|| strange.iter().filter(|key| table.find(key, table.hash(key)).is_some()).count());
        });
        group.bench_function(format!("remove and insert, {sessions} sessions"), |b| {
            b.iter(|| {
                for key in &keys {
                    let (idx, _) = table.find(key, table.hash(key)).expect("each was put back");
                    let (session, cold) = table.remove(idx).expect("it was found");
                    table.insert(session, cold, Time(100_000)).expect("there is room");
                }
            });
        });
    }
    group.finish();
}

fn ports(c: &mut Criterion) {
    const LEASES: usize = 1 << 16;
    let lips: Vec<Ipv4Addr> = (1..=4).map(|n| Ipv4Addr::new(198, 18, 0, n)).collect();
    let pool = Pool { index: 0, generation: 1, lips: &lips, ports: 1025..=u16::MAX };
    let remotes: Vec<_> =
        (0..64).map(|n| Remote { proto: Proto::Tcp, rip: Ipv4Addr::new(10, 0, 0, n), rport: RPort(80) }).collect();
    let mut group = group(c, "local ports", LEASES);
    for (name, workers) in [("allocate and release", 1), ("allocate and release, one of four workers", 4)] {
        let (mut spaces, mut clock) = (PortSpaces::new(1_000, 1), 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                for n in 0..LEASES {
                    clock += 1;
                    let now = Time(clock / 100);
                    let lease =
                        spaces.allocate(&pool, remotes[n % remotes.len()], now, |_, port| port.0 % workers == 0);
                    let lease = lease.expect("there are ports");
                    spaces.release(lease.space, lease.lport, now);
                }
            });
        });
    }
    group.finish();
}

fn wheel(c: &mut Criterion) {
    const ENTRIES: usize = 1 << 16;
    let order: Vec<u32> = random(ENTRIES).take(ENTRIES).map(|n| n as u32).collect();
    let mut group = group(c, "timers", ENTRIES);
    group.bench_function("file anew", |b| {
        let mut wheel = Wheel::new(ENTRIES, Time(0));
        let mut n = 0_u64;
        b.iter(|| {
            for &idx in &order {
                n += 1;
                wheel.file(idx, Time(1_000 + n.wrapping_mul(31) % 100_000));
            }
        });
    });
    group.bench_function("expire and file again", |b| {
        let (mut wheel, mut now) = (Wheel::new(ENTRIES, Time(0)), Time(0));
        for idx in 0..ENTRIES as u32 {
            wheel.file(idx, Time(u64::from(idx) % 100_000));
        }
        b.iter(|| {
            let mut left = ENTRIES;
            while left > 0 {
                now = now.after(100);
                let mut budget = usize::MAX;
                while let Some(idx) = wheel.poll(now, &mut budget) {
                    wheel.file(idx, now.after(1 + u64::from(idx.wrapping_mul(31)) % 100_000));
                    left = left.saturating_sub(1);
                }
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = parts;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = packets, checksums, lookups, ports, wheel
}
criterion_main!(parts);
