//! Pools, buffers, bursts and rings: who owns what, and that all comes back.

mod common;

use common::{eal, pool, unique};
use dpdk::{Burst, Eal, EalConfig, EalError, Mempool, MempoolConfig, MempoolError, Ring, RingError, RingMode};
use fullnat::frame::Frame;

#[test]
fn eal_starts_once_and_reports_its_memory() {
    let memory = eal().memory();
    assert!(!memory.hugepages);
    assert!(memory.total >= 200 << 20, "{memory}");
    assert_eq!(Eal::init(EalConfig::default()).err(), Some(EalError::AlreadyInitialised));
}

#[test]
fn this_thread_is_left_as_it_was() {
    let allowed = || std::thread::available_parallelism().unwrap();
    let before = allowed();
    let eal = eal();
    assert_eq!(allowed(), before, "EAL pinned the caller");
    let lcore = dpdk::register_thread(eal, None).expect("the caller is no lcore yet");
    assert_eq!(allowed(), before, "registering pinned the caller");
    assert!(dpdk::register_thread(eal, None).is_err(), "registered twice");
    drop(lcore);
    std::thread::spawn(move || {
        assert!(dpdk::register_thread(eal, Some(100_000)).is_err());
        let lcore = dpdk::register_thread(eal, Some(0)).unwrap();
        assert_eq!(allowed().get(), 1);
        drop(lcore);
    })
    .join()
    .unwrap();
    assert_eq!(allowed(), before);
}

#[test]
fn buffers_come_back_when_dropped() {
    let pool = pool(63);
    assert_eq!((pool.in_use(), pool.available()), (0, 63));
    let one = pool.alloc().unwrap();
    assert_eq!(pool.in_use(), 1);
    let mut burst = Burst::<32>::new();
    assert_eq!(pool.alloc_burst(&mut burst, 40), 32, "no more than fits");
    assert_eq!(pool.in_use(), 33);
    assert!(burst.is_full());
    let one = burst.push(one).unwrap_err();
    drop(burst.pop());
    burst.push(one).unwrap();
    drop(burst.pop());
    assert_eq!((burst.len(), pool.in_use()), (31, 31));
    let mut drain = burst.drain();
    assert_eq!(drain.len(), 31);
    let kept = drain.next().unwrap();
    drop(drain);
    assert_eq!((burst.len(), pool.in_use()), (0, 1));
    drop(kept);
    assert_eq!(pool.in_use(), 0);
    pool.alloc_burst(&mut burst, 5);
    burst.clear();
    assert_eq!(pool.in_use(), 0);
    pool.alloc_burst(&mut burst, 5);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_forgotten_iterator_leaks_and_frees_nothing_twice() {
    let pool = pool(31);
    let mut burst = Burst::<32>::new();
    pool.alloc_burst(&mut burst, 4);
    std::mem::forget(burst.drain());
    assert!(burst.is_empty());
    drop(burst);
    assert_eq!(pool.in_use(), 4);
}

#[test]
fn an_empty_pool_gives_nothing() {
    let pool = pool(3);
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((all.len(), pool.available()), (3, 0));
    let mut burst = Burst::<32>::new();
    assert_eq!(pool.alloc_burst(&mut burst, 1), 0);
    drop(all);
    assert_eq!(pool.alloc_burst(&mut burst, 4), 0, "all or none");
    assert_eq!(pool.alloc_burst(&mut burst, 3), 3);
}

#[test]
fn frames_grow_and_shrink_within_the_buffer() {
    let pool = pool(7);
    let mut mbuf = pool.alloc_with(b"payload").unwrap();
    assert_eq!((mbuf.bytes(), mbuf.headroom(), mbuf.tailroom()), (&b"payload"[..], 128, 2041));
    assert!(mbuf.grow_front(3));
    mbuf.bytes_mut()[..3].copy_from_slice(b"hdr");
    assert_eq!(mbuf.bytes(), b"hdrpayload");
    assert!(!mbuf.grow_front(126), "beyond the headroom");
    assert_eq!(mbuf.bytes(), b"hdrpayload", "a refusal changes nothing");
    assert!(mbuf.grow_front(125));
    assert_eq!((mbuf.headroom(), mbuf.len()), (0, 135));
    mbuf.shrink_front(125);
    assert_eq!(mbuf.bytes(), b"hdrpayload");
    assert!(mbuf.set_len(2051));
    assert!(!mbuf.set_len(2052), "beyond the tailroom");
    assert_eq!((mbuf.len(), mbuf.tailroom()), (2051, 0));
    assert!(mbuf.set_len(3));
    assert_eq!(mbuf.bytes(), b"hdr");
    mbuf.shrink_front(3);
    assert_eq!(mbuf.bytes(), b"");
    assert!(pool.alloc_with(&[0; 2049]).is_none(), "too long for the buffer");
    drop(mbuf);
    assert_eq!(pool.in_use(), 0);
}

#[test]
#[should_panic(expected = "cut more off a frame than it has")]
fn cutting_too_much_off_is_stopped() {
    pool(1).alloc_with(b"abc").unwrap().shrink_front(4);
}

#[test]
fn pools_that_cannot_be_are_refused_with_the_reason() {
    let name = unique("twice");
    let small = MempoolConfig { mbufs: 7, cache: 0, ..Default::default() };
    Mempool::new(eal(), &name, small).unwrap();
    assert_eq!(Mempool::new(eal(), &name, small).err(), Some(MempoolError::NameTaken { name: name.clone() }));
    let long = "a".repeat(26);
    assert!(matches!(Mempool::new(eal(), &long, small), Err(MempoolError::Name { .. })));
    Mempool::new(eal(), &long[..25], small).expect("the longest name");
    let cache = MempoolConfig { mbufs: 10, cache: 8, ..small };
    assert!(matches!(Mempool::new(eal(), &unique("p"), cache), Err(MempoolError::Invalid { .. })));
    let none = MempoolConfig { mbufs: 0, ..small };
    assert!(matches!(Mempool::new(eal(), &unique("p"), none), Err(MempoolError::Invalid { .. })));
    let huge = MempoolConfig { mbufs: 1_000_000, ..small };
    let error = Mempool::new(eal(), &unique("p"), huge).unwrap_err();
    assert!(matches!(error, MempoolError::NoMemory { .. }), "{error:?}");
    assert!(error.to_string().contains("MB"), "{error}");
}

#[test]
fn a_full_ring_leaves_the_rest_in_order() {
    let pool = pool(127);
    let (mut producer, mut consumer) = Ring::create(eal(), &unique("ring"), 10, RingMode::Spsc).unwrap();
    let mut burst = Burst::<32>::new();
    for n in 0..16u8 {
        burst.push(pool.alloc_with(&[n]).unwrap()).unwrap();
    }
    assert_eq!(producer.enqueue_burst(&mut burst), 10);
    assert_eq!(burst.iter().map(|m| m.bytes()[0]).collect::<Vec<_>>(), [10, 11, 12, 13, 14, 15]);
    assert_eq!(producer.enqueue_burst(&mut burst), 0);
    assert_eq!((burst.len(), consumer.len()), (6, 10));
    let mut out = Burst::<4>::new();
    assert_eq!(consumer.dequeue_burst(&mut out), 4);
    assert_eq!(consumer.dequeue_burst(&mut out), 0, "no room");
    assert_eq!(out.iter().map(|m| m.bytes()[0]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(producer.enqueue_burst(&mut burst), 4);
    assert!(producer.try_clone().is_none(), "one producer only");
    drop((burst, out));
    assert_eq!(pool.in_use(), 10);
    drop(producer);
    assert_eq!(pool.in_use(), 10, "the consumer keeps the ring");
    drop(consumer);
    assert_eq!(pool.in_use(), 0, "the ring freed what was in it");
}

#[test]
fn many_producers_lose_nothing() {
    const EACH: u32 = 20_000;
    let pool = pool(1023);
    let name = unique("mpsc");
    let (first, mut consumer) = Ring::create(eal(), &name, 256, RingMode::Mpsc).unwrap();
    assert_eq!(
        Ring::create(eal(), &name, 256, RingMode::Mpsc).err(),
        Some(RingError::NameTaken { name: name.clone() })
    );
    let mut producers: Vec<_> = (0..2).map(|_| first.try_clone().unwrap()).collect();
    producers.push(first);
    let threads: Vec<_> = producers
        .into_iter()
        .enumerate()
        .map(|(who, mut producer)| {
            std::thread::spawn(move || {
                let _lcore = dpdk::register_thread(eal(), None).unwrap();
                let mut burst = Burst::<8>::new();
                let mut next = 0u32;
                while next < EACH || !burst.is_empty() {
                    while next < EACH && !burst.is_full() {
                        let Some(mut mbuf) = pool.alloc() else { break };
                        assert!(mbuf.set_len(5));
                        mbuf.bytes_mut()[0] = who as u8;
                        mbuf.bytes_mut()[1..].copy_from_slice(&next.to_be_bytes());
                        burst.push(mbuf).unwrap();
                        next += 1;
                    }
                    if producer.enqueue_burst(&mut burst) == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut expected = [0u32; 3];
    let mut burst = Burst::<32>::new();
    while expected != [EACH; 3] {
        if consumer.dequeue_burst(&mut burst) == 0 {
            std::thread::yield_now();
        }
        for mbuf in burst.drain() {
            let bytes = mbuf.bytes();
            let next = &mut expected[usize::from(bytes[0])];
            assert_eq!(u32::from_be_bytes(bytes[1..].try_into().unwrap()), *next, "out of order");
            *next += 1;
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    drop(consumer);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn rings_that_cannot_be_are_refused() {
    assert!(matches!(Ring::create(eal(), "", 8, RingMode::Spsc), Err(RingError::Invalid { .. })));
    assert!(matches!(Ring::create(eal(), &unique("r"), 0, RingMode::Spsc), Err(RingError::Invalid { .. })));
    assert!(matches!(Ring::create(eal(), &"r".repeat(29), 8, RingMode::Spsc), Err(RingError::Invalid { .. })));
    let (_producer, _consumer) = Ring::create(eal(), &"r".repeat(28), 8, RingMode::Spsc).expect("the longest name");
    assert!(matches!(Ring::create(eal(), &unique("r"), 1 << 30, RingMode::Spsc), Err(RingError::Invalid { .. })));
    assert_eq!(
        Ring::create(eal(), &unique("r"), (1 << 30) - 1, RingMode::Spsc).err(),
        Some(RingError::NoMemory { size: (1 << 30) - 1 })
    );
}
