//! Nanoseconds per packet of the operations each packet goes through: `cargo bench -p fullnat --bench wire`.
//!
//! Packets lie in a ring of 64 buffers, whose headers fit the L1 cache: like a burst after its prefetch.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use fullnat::addr::Addr;
use fullnat::flow::{FlowKey, Rewrite};
use fullnat::frame::{Frame, HeapFrame};
use fullnat::id::{CPort, NexthopId, Proto};
use fullnat::rss::RssSpread;
use fullnat::wire::testing::{self, Build};
use fullnat::wire::toa::NoRoom;
use fullnat::wire::{Flow, Packet, parse, rewrite, tcp, toa};

const RING: usize = 64;
const ROUNDS: usize = 200;
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

/// The best of many runs, each shorter than a scheduler's time slice, since every disturbance only adds.
fn measure(name: &str, mut run: impl FnMut()) {
    let best = (0..2000)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min);
    println!("{name:<28} {:6.2} ns", best * 1e9 / (RING * ROUNDS) as f64);
}

fn ring<A: Addr>(key: FlowKey<A>, options: &[u8]) -> Vec<HeapFrame> {
    (0..RING)
        .map(|n| Build::new(FlowKey { sport: 1024 + n as u16, ..key }).options(options).payload(&[0; 10]).frame())
        .collect()
}

fn view<A: Addr>(frame: &[u8], pick: fn(Packet) -> Option<Flow<A>>) -> Flow<A> {
    parse(frame).ok().and_then(pick).expect("a frame made for this")
}

fn family<A: Addr>(name: &str, keys: [FlowKey<A>; 2], client: A, pick: fn(Packet) -> Option<Flow<A>>) {
    let [key, to] = keys;
    for (proto, options) in [(Proto::Tcp, &TIMESTAMPS[..]), (Proto::Udp, &[][..])] {
        let mut frames = ring(FlowKey { proto, ..key }, options);
        measure(&format!("{name} {proto} parse"), || {
            for _ in 0..ROUNDS {
                for frame in &frames {
                    // By reference: a caller looks at the view where the parser put it, and so is not charged a copy.
                    black_box(&parse(black_box(frame.bytes())));
                }
            }
        });
        let flows: Vec<_> = frames.iter().map(|frame| view(frame.bytes(), pick)).collect();
        let rewrite = Rewrite { src: to.src, dst: to.dst, sport: to.sport, dport: to.dport, nexthop: NexthopId(0) };
        measure(&format!("{name} {proto} rewrite"), || {
            for _ in 0..ROUNDS {
                for (frame, flow) in frames.iter_mut().zip(&flows) {
                    rewrite::apply(black_box(frame.bytes_mut()), black_box(flow), black_box(&rewrite));
                }
            }
        });
    }

    let frames = ring(FlowKey { proto: Proto::Tcp, ..key }, &TIMESTAMPS);
    measure(&format!("{name} the loop itself"), || {
        for _ in 0..ROUNDS {
            for frame in &frames {
                black_box(black_box(frame.bytes()).len());
            }
        }
    });
    let spread = RssSpread::new(&[0x6d; 40], &[0, 1, 2, 3]).expect("key and table are long enough");
    measure(&format!("{name} rss queue"), || {
        for _ in 0..ROUNDS {
            for n in 0..RING {
                black_box(spread.queue(black_box(&FlowKey { dport: n as u16, ..key })));
            }
        }
    });

    let mut frames = ring(FlowKey { proto: Proto::Tcp, ..key }, &TIMESTAMPS);
    let flows: Vec<_> = frames.iter().map(|frame| view(frame.bytes(), pick)).collect();
    measure(&format!("{name} tcp segment"), || {
        for _ in 0..ROUNDS {
            for (frame, flow) in frames.iter().zip(&flows) {
                black_box(tcp::segment(black_box(frame.bytes()), black_box(flow)));
            }
        }
    });
    measure(&format!("{name} toa strip, none there"), || {
        for _ in 0..ROUNDS {
            for (frame, flow) in frames.iter_mut().zip(&flows) {
                black_box(toa::strip(black_box(frame.bytes_mut()), black_box(flow)));
            }
        }
    });
    measure(&format!("{name} toa insert"), || {
        for _ in 0..ROUNDS {
            for (frame, flow) in frames.iter_mut().zip(&flows) {
                let mut flow = *flow;
                let done: Result<(), NoRoom> = toa::insert(frame, &mut flow, black_box((client, CPort(7))), 1500);
                assert!(black_box(done).is_ok());
                // Back to a frame of the old shape for the next round: the data offset is what says so.
                frame.shrink_front(toa::len::<A>());
                restore(frame.bytes_mut(), usize::from(flow.l4));
            }
        }
    });
}

/// Puts back the length of the TCP header; the other fields may be wrong, nothing that is measured depends on them.
fn restore(bytes: &mut [u8], l4: usize) {
    if let Some(byte) = bytes.get_mut(l4 + 12) {
        *byte = 0x80;
    }
}

fn main() {
    let v4 = |src, dst| testing::flow::<Ipv4Addr>(src, dst, Proto::Tcp);
    let v6 = |src, dst| testing::flow::<Ipv6Addr>(src, dst, Proto::Tcp);
    family(
        "v4",
        [v4("192.0.2.1:1", "198.51.100.1:80"), v4("10.0.0.1:2000", "10.0.1.1:8080")],
        Ipv4Addr::new(192, 0, 2, 1),
        |packet| if let Packet::V4(flow) = packet { Some(flow) } else { None },
    );
    family(
        "v6",
        [v6("[2001:db8::1]:1", "[2001:db8:1::1]:80"), v6("[fd00::1]:2000", "[fd00:1::1]:8080")],
        "2001:db8::1".parse().expect("an address"),
        |packet| if let Packet::V6(flow) = packet { Some(flow) } else { None },
    );
}
