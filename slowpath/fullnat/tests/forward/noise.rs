//! Whatever arrives: nothing panics, and the books balance. Every frame received has one end: it left (changed, or turned
//! into an answer), it was handed over, it waits, it was heard (ARP, neighbour discovery), or it is one counted drop.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::frame::{Frame, HeapFrame};
use fullnat::id::{IfaceId, Proto};
use fullnat::wire::testing::{Build, icmp, plain_sum, verify};
use fullnat::wire::{Mac, TcpFlags, arp, ndp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::books::{Books, drops};
use crate::sim::{Options, Sim};
use crate::talk::{Talk, from_router, outer, segment, syn};
use crate::world::{BACK, FRONT, Net, ROUTER, Rs, World, our_mac};

/// One frame on its way in: by which interface, at which worker, and what is done to a good one first.
#[derive(Clone, Debug)]
enum Step {
    /// A frame of `catalogue`, with some bytes changed.
    Mutant {
        which: usize,
        changes: Vec<(u16, u8)>,
        cut: Option<u16>,
        mended: bool,
    },
    /// Any bytes, behind an Ethernet header that is for us.
    Bytes {
        ether_type: u16,
        bytes: Vec<u8>,
    },
    Pause {
        ms: u64,
    },
    Reload {
        servers: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop_oneof![
        1 => Just(vec![]),
        4 => vec((prop_oneof![2 => 12u16..90, 1 => any::<u16>()], prop_oneof![0u8..=2, any::<u8>(), Just(254)]), 1..4),
    ];
    let cut = prop_oneof![6 => Just(None), 1 => (0u16..150).prop_map(Some)];
    prop_oneof![
        20 => (any::<usize>(), changes, cut, any::<bool>())
            .prop_map(|(which, changes, cut, mended)| Step::Mutant { which, changes, cut, mended }),
        4 => (prop_oneof![Just(0x0800), Just(0x86dd), Just(0x0806), any::<u16>()], vec(any::<u8>(), 0..120))
            .prop_map(|(ether_type, bytes)| Step::Bytes { ether_type, bytes }),
        3 => prop_oneof![0u64..500, 0u64..70_000].prop_map(|ms| Step::Pause { ms }),
        1 => (0usize..4).prop_map(|servers| Step::Reload { servers }),
    ]
}

fn made(make: impl FnOnce(&mut HeapFrame) -> bool) -> Vec<u8> {
    let mut frame = HeapFrame::new(&[]);
    assert!(make(&mut frame));
    frame.bytes().to_vec()
}

fn between(iface: IfaceId, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&our_mac(iface).0);
    frame[6..12].copy_from_slice(&ROUTER.0);
    frame
}

/// Frames of each kind that means something, with the interface they belong to.
fn catalogue<A: Net>(talks: &[Talk<A>]) -> Vec<(IfaceId, Vec<u8>)> {
    const ACK: TcpFlags = TcpFlags::ACK;
    let mut frames = Vec::new();
    let numbered = |key, n: u8| Build::new(key).seq(u32::from(n)).payload(b"data").bytes();
    for (n, talk) in (0..).zip(talks) {
        // In the order of a connection's life.
        for flags in [0x12, 0x10, 0x18, 0x11, 0x02, 0x14] {
            let shape = segment(true, TcpFlags(flags), 1, 1, b"up");
            frames.push((FRONT, between(FRONT, shape(Build::new(talk.outer)).bytes())));
            let shape = segment(false, TcpFlags(flags), u32::from(flags & 2 == 0), 1, b"down");
            frames.push((BACK, between(BACK, shape(Build::new(talk.inner.reversed())).bytes())));
        }
        for kind in if A::IS_V6 { [(1, 4), (2, 0), (3, 0), (4, 1)] } else { [(3, 3), (3, 4), (11, 0), (12, 0)] } {
            let seen = [numbered(talk.inner, n), numbered(talk.outer.reversed(), n)];
            frames
                .push((BACK, between(BACK, icmp(A::server(9), talk.inner.src, 9, kind, [0, 0, 5, 0], &seen[0][14..]))));
            frames.push((FRONT, between(FRONT, icmp(A::client(9), A::vip(), 9, kind, [0, 0, 5, 0], &seen[1][14..]))));
        }
    }
    for n in 0..12 {
        frames.push((FRONT, syn(from_router(outer::<A>(Proto::Tcp, n, n))).bytes()));
        frames.push((FRONT, from_router(outer::<A>(Proto::Udp, n, n)).payload(&[7; 30]).bytes()));
        frames.push((
            FRONT,
            from_router(outer::<A>(Proto::Tcp, n, n)).flags(ACK).options(&[254, 8, 1, 2, 3, 4, 5, 6]).bytes(),
        ));
    }
    frames.push((FRONT, from_router(outer::<A>(Proto::Udp, 1, 1)).payload(&[7; 1400]).bytes()));
    let echo = if A::IS_V6 { 128 } else { 8 };
    frames.push((FRONT, between(FRONT, icmp(A::client(1), A::vip(), 5, (echo, 0), [1; 4], b"ping"))));
    frames
}

/// ARP and neighbour discovery, asked, answered and announced.
fn neighbors() -> Vec<(IfaceId, Vec<u8>)> {
    let them = Mac([2, 0, 0, 2, 0, 0]);
    let (a, b): (Ipv4Addr, Ipv6Addr) = (Net::server(0), Net::server(0));
    let mut frames = vec![
        (BACK, made(|f| arp::request(f, Mac::BROADCAST, (them, a), Net::lip(0)))),
        (BACK, made(|f| arp::announce(f, them, a))),
        (BACK, made(|f| arp::request(f, our_mac(BACK), (them, a), Ipv4Addr::own(BACK)))),
        (BACK, made(|f| ndp::solicit(f, None, (them, b), Net::lip(0)))),
        (BACK, made(|f| ndp::announce(f, them, b))),
        (FRONT, made(|f| arp::announce(f, ROUTER, Net::router()))),
        (FRONT, made(|f| ndp::announce(f, ROUTER, Net::router()))),
    ];
    let mut reply = frames[2].1.clone();
    reply[21] = 2;
    frames.push((BACK, reply));
    frames
}

/// Puts the checksum of an IPv4 header right.
fn mend(frame: &mut [u8]) {
    if frame.len() >= 34 && frame[12..14] == [8, 0] {
        frame[24..26].fill(0);
        let sum = !plain_sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Asserts that every frame received so far has exactly one end. Drops that were answered are among those that left.
#[track_caller]
fn assert_balanced(sim: &Sim) {
    let books = sim.books();
    let n = |name: &str| books.get(name).copied().unwrap_or(0);
    let answered_drops = n("rst_sent") + n("icmp_sent");
    let ends = sim.transmitted - sim.made - answered_drops + drops(&books) + n("neighbor_heard") + sim.waiting();
    assert_eq!(sim.received, ends, "{books:?}");
}

/// Asserts that what left has right lengths, and right checksums unless the frame came in with a wrong one.
fn assert_sane(came: &[u8], left: &[u8]) {
    let ip = matches!(left[12..14], [8, 0] | [0x86, 0xdd]);
    if ip && verify(came).is_ok() {
        assert_eq!(verify(left), Ok(()), "{came:02x?} became {left:02x?}");
    }
}

fn run(workers: u8, pinned: bool, steps: &[(Step, u8)]) -> Books {
    let options =
        Options { pinned, replies_per_second: 40, pending_per_nexthop: 3, sessions: 12, ..Options::software(workers) };
    let rs = Rs { weight: 1, max_connections: 4, removed: false };
    let world = World { toa: true, servers: vec![rs; 2], ports: 2000..=2005, mtu: [1500, 1400], ..World::default() };
    let mut sim = Sim::quiet_with(world.clone(), options.clone());
    let mut frames = neighbors();
    // The connections that frames are about are opened in a network of known next hops first, to learn their ports: the
    // same frames open the same ones here.
    if pinned {
        let four: Vec<_> = (0..3).map(|n| Talk::<Ipv4Addr>::open(&mut sim, Proto::Tcp, n, n).0).collect();
        let six: Vec<_> = (0..3).map(|n| Talk::<Ipv6Addr>::open(&mut sim, Proto::Tcp, n, n).0).collect();
        frames.extend(catalogue(&four));
        frames.extend(catalogue(&six));
    } else {
        frames.extend(catalogue::<Ipv4Addr>(&[]));
        frames.extend(catalogue::<Ipv6Addr>(&[]));
    }
    for (step, salt) in steps {
        let lands_on = usize::from(salt % workers);
        let (iface, bytes) = match step {
            Step::Mutant { which, changes, cut, mended } => {
                let (iface, mut bytes) = frames[which % frames.len()].clone();
                let len = bytes.len();
                changes.iter().for_each(|&(at, to)| bytes[usize::from(at) % len] = to);
                if *mended {
                    mend(&mut bytes);
                }
                bytes.truncate(cut.map_or(len, usize::from));
                (iface, bytes)
            }
            Step::Bytes { ether_type, bytes } => {
                let iface = IfaceId(salt >> 7);
                let frame = [&our_mac(iface).0[..], &ROUTER.0, &ether_type.to_be_bytes(), bytes].concat();
                (iface, frame)
            }
            Step::Pause { ms } => {
                sim.now = sim.now.after(*ms);
                sim.tick();
                assert_balanced(&sim);
                continue;
            }
            Step::Reload { servers } => {
                let removed = |n: usize| Rs { removed: n >= *servers, ..rs };
                sim.world.servers = (0..4).map(removed).collect();
                sim.reload();
                continue;
            }
        };
        let nothing_waits = sim.waiting() == 0;
        let sent = sim.rx_at(lands_on, iface, std::slice::from_ref(&bytes));
        // Else what leaves may be what waited for a next hop.
        if let ([only], true) = (&sent[..], nothing_waits) {
            assert_sane(&bytes, &only.bytes);
        }
        assert_balanced(&sim);
    }
    sim.advance(10_000);
    assert_eq!(sim.waiting(), 0);
    assert_balanced(&sim);
    sim.books()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_has_one_end(workers in 1u8..4, pinned in any::<bool>(), steps in vec((step(), any::<u8>()), 1..200)) {
        run(workers, pinned, &steps);
    }
}

#[test]
fn the_catalogue_reaches_every_part() {
    // A test of the test: what the noise is made of is worth mutating.
    let all = |pinned| {
        let mutant = |which| (Step::Mutant { which, changes: vec![], cut: None, mended: false }, which as u8);
        let pause = (Step::Pause { ms: 300 }, 0);
        let steps = (0..600).flat_map(|n| [mutant(n)].into_iter().chain((n % 50 == 49).then(|| pause.clone())));
        let nobody = [(Step::Reload { servers: 0 }, 0)];
        run(2, pinned, &steps.chain(nobody).chain((0..300).map(mutant)).collect::<Vec<_>>())
    };
    let books = all(true);
    for name in [
        "handshakes",
        "sessions_created",
        "half_open_evicted",
        "icmp_translated",
        "echo_answered",
        "neighbor_answered",
        "neighbor_heard",
        "icmp_sent",
        "rst_sent",
        "toa_added",
        "toa_stripped",
        "drop.no_session",
        "drop.half_open_full",
    ] {
        assert!(books.contains_key(name), "{name} in {books:?}");
    }
    let books = all(false);
    assert!(books.contains_key("drop.neighbor_queue_full"), "{books:?}");
}
