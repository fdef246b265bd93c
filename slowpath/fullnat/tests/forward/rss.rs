//! Interfaces that spread packets by RSS: each frame is delivered to the queue the interface would choose, and every session
//! must live on one worker without any frame handed over.

use std::net::{Ipv4Addr, Ipv6Addr};

use fullnat::flow::FlowKey;
use fullnat::id::{IfaceId, Proto, WorkerId};
use fullnat::rss::RssSpread;
use fullnat::spread::Spread;
use fullnat::wire::TcpFlags;
use fullnat::wire::testing::{Build, icmp};

use crate::both_families;
use crate::sim::{Options, Sim};
use crate::talk::{CLIENT_ISN, Talk, outer, segment};
use crate::world::{BACK, FRONT, Net, Rs, World, our_mac, server_mac};

const ACK: TcpFlags = TcpFlags::ACK;

/// Microsoft's key, of the RSS specification's verification suite.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// The queue of a packet, by the definition: for each set bit of the input, the 32 bits of the key from there on.
fn queue<A: Net>(key: &[u8; 40], reta: &[u16], flow: &FlowKey<A>) -> u16 {
    let mut input = vec![0; 2 * A::LEN];
    flow.src.write(&mut input);
    flow.dst.write(&mut input[A::LEN..]);
    input.extend_from_slice(&flow.sport.to_be_bytes());
    input.extend_from_slice(&flow.dport.to_be_bytes());
    let bit = |bytes: &[u8], n: usize| bytes[n / 8] >> (7 - n % 8) & 1 == 1;
    let window = |at: usize| (at..at + 32).fold(0u32, |word, n| word << 1 | u32::from(bit(key, n)));
    let hash = (0..input.len() * 8).filter(|&n| bit(&input, n)).fold(0, |hash, n| hash ^ window(n));
    reta[hash as usize % reta.len()]
}

/// An interface's key and redirection table; each interface has others.
fn interface(iface: IfaceId, queues: u16) -> ([u8; 40], Vec<u16>) {
    let mut key = KEY;
    key.rotate_left(usize::from(iface.0) * 7);
    // Not quite even, as real tables become when queues fail.
    let reta = (0..128).map(|n| (n * 5 + n / 32 + u16::from(iface.0)) % queues).collect();
    (key, reta)
}

struct Nics {
    sim: Sim,
    interfaces: Vec<([u8; 40], Vec<u16>)>,
}

impl Nics {
    fn new(queues: u8, world: World) -> Self {
        let interfaces: Vec<_> = [FRONT, BACK].map(|iface| interface(iface, u16::from(queues))).into();
        let spread = Spread::Rss(interfaces.iter().map(|(key, reta)| RssSpread::new(key, reta).unwrap()).collect());
        let sim = Sim::quiet_with(world, Options { workers: queues, spread, ..Options::default() });
        Nics { sim, interfaces }
    }

    /// The next frames with this key, by this interface, come to the queue that it chooses.
    fn aim<A: Net>(&mut self, iface: IfaceId, key: &FlowKey<A>) {
        let (rss_key, reta) = &self.interfaces[usize::from(iface.0)];
        self.sim.lands_on = usize::from(queue(rss_key, reta, key));
    }
}

fn sessions_meet<A: Net>(queues: u8, world: World) {
    let mut nics = Nics::new(queues, world);
    let mut on = vec![0; usize::from(queues)];
    let mut talks = Vec::new();
    for n in 0..300 {
        let proto = if n % 3 == 0 { Proto::Udp } else { Proto::Tcp };
        nics.aim(FRONT, &outer::<A>(proto, n % 40, 5000 + n));
        on[nics.sim.lands_on] += 1;
        talks.push(Talk::<A>::open(&mut nics.sim, proto, n % 40, 5000 + n).0);
    }
    assert!(on.iter().all(|&n| n > 300 / usize::from(queues) / 3), "sessions by worker: {on:?}");
    let back = nics.sim.world.back();
    for talk in &talks {
        nics.aim(back, &talk.inner.reversed());
        talk.down(&mut nics.sim, segment(false, TcpFlags(TcpFlags::SYN.0 | ACK.0), 0, 1, b""));
        nics.aim(FRONT, &talk.outer);
        talk.up(&mut nics.sim, segment(true, ACK, 1, 1, b"x"));
    }
    assert_eq!(nics.sim.handed, 0);
    let change = nics.sim.changed();
    assert_eq!((change.get("handshakes"), crate::books::drops(&change)), (Some(&200), 0));
    // An ICMP error has no ports for the interface to hash: it lands anywhere, and goes to its owner.
    let kind = if A::IS_V6 { (1, 4) } else { (3, 3) };
    for (n, talk) in talks.iter().enumerate() {
        nics.sim.lands_on = n % usize::from(queues);
        let quoted = segment(true, ACK, 1, 1, b"x")(Build::new(talk.inner)).bytes();
        let mut error = icmp(A::server(9), talk.inner.src, 64, kind, [0; 4], &quoted[14..]);
        error[..6].copy_from_slice(&our_mac(back).0);
        error[6..12].copy_from_slice(&server_mac(9).0);
        assert_eq!(nics.sim.rx(back, &error).len(), 1);
    }
    assert!(nics.sim.handed > 0);
}

#[test]
fn both_directions_meet_on_the_worker_the_interface_chose() {
    for queues in 2..=4 {
        sessions_meet::<Ipv4Addr>(queues, World::default());
        sessions_meet::<Ipv6Addr>(queues, World::default());
        sessions_meet::<Ipv4Addr>(queues, World { two_arm: false, ..World::default() });
    }
}

fn ports_used_again<A: Net>() {
    let rs = Rs { weight: 1, max_connections: 0, removed: false };
    let world = World { servers: vec![rs], lips: vec![0], ports: 2000..=2127, ..World::default() };
    let mut nics = Nics::new(2, world);
    let mut ports = Vec::new();
    for round in 0..6 {
        for n in 0..40 {
            let cport = 5000 + n + round * 100;
            nics.aim(FRONT, &outer::<A>(Proto::Tcp, n, cport));
            let talk = Talk::<A>::open(&mut nics.sim, Proto::Tcp, n, cport).0;
            ports.push(talk.inner.sport);
            nics.aim(BACK, &talk.inner.reversed());
            talk.down(&mut nics.sim, |b| b.flags(TcpFlags(TcpFlags::RST.0 | ACK.0)).ack(CLIENT_ISN.wrapping_add(1)));
        }
        nics.sim.skip(10_500);
        nics.sim.skip(62_000);
    }
    ports.sort_unstable();
    ports.dedup();
    // 240 connections on 128 ports.
    assert!(ports.len() <= 128);
    assert_eq!((nics.sim.handed, crate::books::drops(&nics.sim.changed())), (0, 0));
}

#[test]
fn ports_used_again_lead_to_their_worker_again() {
    both_families!(ports_used_again);
}

#[test]
fn stray_packets_are_not_sent_round_in_circles() {
    let mut nics = Nics::new(3, World::default());
    for n in 0..200u16 {
        for lands_on in 0..3 {
            nics.sim.lands_on = lands_on;
            let key = FlowKey {
                sport: 8080,
                dport: 2000 + n,
                src: Ipv4Addr::server(0),
                dst: Ipv4Addr::lip(0),
                proto: Proto::Tcp,
            };
            // To their owner, where they are dropped: `rx` sees to it that none is handed over twice.
            assert_eq!(nics.sim.rx(BACK, &Build::new(key).macs(our_mac(BACK), server_mac(0)).bytes()), []);
        }
    }
    assert_eq!(nics.sim.changed().get("drop.no_session"), Some(&600));
}

#[test]
fn by_flow_the_first_packet_s_worker_owns_the_session() {
    let owners = fullnat::ports::LportOwners::new(3);
    let options = Options { workers: 3, spread: Spread::Sticky(owners), ..Options::default() };
    let mut sim = Sim::quiet_with(World::default(), options);
    for n in 0..60 {
        sim.lands_on = usize::from(n % 3);
        let (talk, _) = Talk::<Ipv6Addr>::open(&mut sim, Proto::Udp, n, 9000 + n);
        assert_eq!(owners.owner(fullnat::id::LPort(talk.inner.sport)), WorkerId((n % 3) as u8));
        for lands_on in 0..3 {
            sim.lands_on = lands_on;
            talk.down(&mut sim, |b: Build<Ipv6Addr>| b.payload(b"answer"));
        }
        sim.lands_on = usize::from(n % 3);
        talk.up(&mut sim, |b: Build<Ipv6Addr>| b.payload(b"question"));
    }
    assert_eq!(sim.handed, 120);
}
