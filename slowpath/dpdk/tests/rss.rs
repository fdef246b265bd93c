//! Local ports chosen so that the answers come to the session's own queue, checked with DPDK's software Toeplitz hash
//! (rte_softrss), which is not ours, for every size of redirection table and number of queues that there is.

use std::net::{Ipv4Addr, Ipv6Addr};

use dpdk::toeplitz_hash;
use fullnat::addr::Addr;
use fullnat::flow::FlowKey;
use fullnat::id::{IfaceId, LPort, Proto, RPort, WorkerId};
use fullnat::ports::{Pool, PortSpaces, Remote};
use fullnat::rss::RssSpread;
use fullnat::spread::Spread;
use fullnat::time::Time;

/// Sessions tried for each table and number of queues.
const SESSIONS: u32 = 64;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The queue of a packet by DPDK's hash: the low bits choose the entry, as NICs take them.
fn queue_by_dpdk<A: Addr>(key: &[u8], reta: &[u16], flow: &FlowKey<A>) -> u16 {
    let mut tuple = vec![0; 2 * A::LEN];
    flow.src.write(&mut tuple);
    flow.dst.write(&mut tuple[A::LEN..]);
    tuple.extend_from_slice(&flow.sport.to_be_bytes());
    tuple.extend_from_slice(&flow.dport.to_be_bytes());
    let hash = toeplitz_hash(key, &tuple).expect("whole words, and a key that is long enough");
    reta[hash as usize & (reta.len() - 1)]
}

/// Sessions whose SYNs come to each worker get ports whose answers come to it, too.
fn answers_come_home<A: Addr>(entries: u16, queues: u16, random: &mut Random, host: fn(u64) -> A) {
    let key: Vec<u8> = (0..40).map(|_| random.next() as u8).collect();
    // Not quite even, as real tables become when queues fail.
    let reta: Vec<u16> = (0..entries).map(|n| (n * 5 + n / 32) % queues).collect();
    let spread = Spread::Rss(vec![RssSpread::new(&key, &reta).unwrap()]);
    let lips: Vec<A> = (0..2).map(|_| host(random.next())).collect();
    let pool = Pool { index: 0, generation: 1, lips: &lips, ports: 1025..=u16::MAX };
    for n in 0..SESSIONS {
        let proto = if n % 2 == 0 { Proto::Tcp } else { Proto::Udp };
        let (client, server) = (host(random.next()), host(random.next()));
        let syn = FlowKey { src: client, dst: host(7), sport: random.next() as u16, dport: 443, proto };
        let worker = spread.inbound(WorkerId(u8::MAX), IfaceId(0), &syn, 0);
        assert_eq!(
            u16::from(worker.0),
            queue_by_dpdk(&key, &reta, &syn),
            "{entries} entries, {queues} queues: {syn:?}"
        );

        let mut spaces = PortSpaces::new(60_000, random.next());
        let answer = |lip, lport: LPort| FlowKey { src: server, dst: lip, sport: 8443, dport: lport.0, proto };
        let mine = |lip, lport| spread.outbound(worker, IfaceId(0), &answer(lip, lport)) == worker;
        let remote = Remote { proto, rip: server, rport: RPort(8443) };
        let lease = spaces.allocate(&pool, remote, Time(0), mine).expect("every queue has ports");
        let answer = answer(lease.lip, lease.lport);
        assert_eq!(
            u16::from(worker.0),
            queue_by_dpdk(&key, &reta, &answer),
            "{entries} entries, {queues} queues: {answer:?}"
        );
    }
}

#[test]
fn answers_come_to_their_session_s_queue_by_dpdk_s_own_hash() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    for entries in [64, 128, 256, 512] {
        for queues in 1..=16 {
            answers_come_home(entries, queues, &mut random, |n| Ipv4Addr::from_bits(n as u32));
            answers_come_home(entries, queues, &mut random, |n| {
                Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n) << 32 | u128::from(n >> 16))
            });
        }
    }
}
