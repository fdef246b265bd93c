//! What a packet costs in this wrapper: nanoseconds to receive and send one, over drivers that do next to nothing.
//!
//!     cargo run --release -p dpdk --example cost

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use dpdk::{Burst, Eal, EalConfig, Mempool, MempoolConfig, Port, PortConfig, Ring, RingMode, RxQueue, TxQueue};
use fullnat::frame::Frame;

const RUN: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn Error>> {
    let eal = Eal::init(EalConfig::default())?;
    println!("{}, {}", dpdk::version(), eal.memory());
    let pool = Mempool::new(&eal, "cost", MempoolConfig::default())?;
    let null = Port::open(&eal, "net_null0,size=60", PortConfig::new(pool))?;
    let bare = Port::open(&eal, "net_null1,size=60,no-rx=1", PortConfig::new(pool))?;
    let (mut null_rx, mut null_tx) = queues(null)?;
    let (mut bare_rx, _bare_tx) = queues(bare)?;

    report("net_null, thread not registered", || forward(&mut null_rx, &mut null_tx, false));
    let _lcore = dpdk::register_thread(&eal, None)?;
    report("net_null, registered thread", || forward(&mut null_rx, &mut null_tx, false));
    report("net_null, each frame moved on its own", || forward(&mut null_rx, &mut null_tx, true));
    report("net_null, an empty receive call", || {
        let mut burst = Burst::<32>::new();
        black_box(bare_rx.receive(&mut burst));
        1
    });

    let (a, b) = dpdk::ring::port_pair(&eal, "cost", 1024)?;
    let (mut rx_a, mut tx_a) = queues(Port::open(&eal, &a, PortConfig::new(pool))?)?;
    let (mut rx_b, mut tx_b) = queues(Port::open(&eal, &b, PortConfig::new(pool))?)?;
    let mut burst = Burst::<32>::new();
    pool.alloc_burst(&mut burst, 32);
    tx_a.send(&mut burst);
    report("net_ring", || forward(&mut rx_b, &mut tx_b, false) + forward(&mut rx_a, &mut tx_a, false));

    for (name, mode) in [("ring between workers, one producer", RingMode::Spsc), ("the same, many", RingMode::Mpsc)] {
        let (mut producer, mut consumer) = Ring::create(&eal, &format!("cost-{mode:?}"), 1024, mode)?;
        pool.alloc_burst(&mut burst, 32);
        report(name, || {
            producer.enqueue_burst(&mut burst);
            consumer.dequeue_burst(&mut burst)
        });
        burst.clear();
    }
    report("allocate and free one by one", || {
        black_box(pool.alloc());
        1
    });
    let mut mbuf = pool.alloc_with(&[0; 60]).ok_or("the pool is empty")?;
    report("grow a frame by 20 bytes and shrink it", || {
        let grown = mbuf.grow_front(20);
        black_box(&mut mbuf).shrink_front(20);
        usize::from(grown)
    });
    Ok(())
}

/// The only queues of the port, started.
fn queues(mut port: Port) -> Result<(RxQueue, TxQueue), Box<dyn Error>> {
    let (mut rx, mut tx) = port.start()?;
    rx.pop().zip(tx.pop()).ok_or_else(|| "a port without queues".into())
}

/// Receives a burst and sends it; `one_by_one` moves each frame to another burst first, as a router does.
fn forward(rx: &mut RxQueue, tx: &mut TxQueue, one_by_one: bool) -> usize {
    let mut burst = Burst::<32>::new();
    let received = rx.receive(&mut burst);
    if one_by_one {
        let mut out = Burst::<32>::new();
        for mbuf in burst.drain() {
            // As large as the burst it came from.
            let _ = out.push(mbuf);
        }
        tx.send(&mut out);
    } else {
        tx.send(&mut burst);
    }
    received
}

/// Runs `step`, which says how many frames it handled, and prints the best of five runs: the others were disturbed.
fn report(name: &str, mut step: impl FnMut() -> usize) {
    let run = |step: &mut dyn FnMut() -> usize| {
        let start = Instant::now();
        let mut frames = 0;
        while start.elapsed() < RUN / 5 {
            for _ in 0..1000 {
                frames += step();
            }
        }
        start.elapsed().as_secs_f64() * 1e9 / frames as f64
    };
    let best = (0..5).map(|_| run(&mut step)).fold(f64::INFINITY, f64::min);
    println!("{best:8.2} ns  {name}");
}
