//! Ports over drivers that need no rights: null, ring and pcap.

mod common;

use common::{eal, frame, one, pool, receive_some, unique};
use dpdk::{Burst, Port, PortConfig, PortError};
use fullnat::frame::Frame;

#[test]
fn null_receives_and_sends() {
    let pool = pool(255);
    let config = PortConfig { rx_descriptors: 64, tx_descriptors: 64, ..PortConfig::new(pool) };
    let name = unique("net_null");
    let mut port = Port::open(eal(), &format!("{name},size=60"), config.clone()).unwrap();
    assert_eq!(port.info().driver, "net_null");
    assert_eq!(port.info().name, name);
    assert_eq!(port.info().mtu, 1500);
    assert!(matches!(Port::open(eal(), &name, config), Err(PortError::InUse { .. })));
    let (mut rx, mut tx) = one(port.start().unwrap());
    assert!(port.start().is_err(), "started twice");
    let mut burst = Burst::<32>::new();
    assert_eq!(rx.receive(&mut burst), 32);
    assert_eq!(rx.receive(&mut burst), 0, "a full burst has no room");
    assert!(burst.iter().all(|mbuf| mbuf.len() == 60));
    assert_eq!(pool.in_use(), 32);
    assert_eq!(tx.send(&mut burst), 32);
    assert!(burst.is_empty());
    assert_eq!(tx.send(&mut burst), 0);
    assert_eq!(pool.in_use(), 0);
    let stats = port.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (32, 32));
    assert!(port.link().up);
    assert!(port.rss().is_none());
    drop(port);
    assert_eq!(rx.receive(&mut burst), 32, "the queues keep the port alive");
    drop((rx, tx, burst));
    Port::open(eal(), &name, PortConfig::new(pool)).expect("the name is free again");
}

#[test]
fn several_queues_of_null_are_not_taken_for_rss() {
    let config = PortConfig { rx_queues: 2, tx_queues: 2, ..PortConfig::new(pool(255)) };
    let mut port = Port::open(eal(), &unique("net_null"), config).unwrap();
    let (mut rx, tx) = port.start().unwrap();
    assert_eq!((rx.len(), tx.len()), (2, 2));
    assert_eq!((rx[1].id(), tx[1].id()), (1, 1));
    let mut burst = Burst::<32>::new();
    assert_eq!(rx[1].receive(&mut burst), 32);
    assert!(port.rss().is_none());
}

#[test]
fn ring_ports_pass_frames_and_return_what_does_not_fit() {
    let pool = pool(255);
    let (a, b) = dpdk::ring::port_pair(eal(), &unique("pair"), 20).unwrap();
    let mut port_a = Port::open(eal(), &a, PortConfig::new(pool)).unwrap();
    let mut port_b = Port::open(eal(), &b, PortConfig::new(pool)).unwrap();
    let (mut rx_a, mut tx_a) = one(port_a.start().unwrap());
    let (mut rx_b, mut tx_b) = one(port_b.start().unwrap());
    let mut burst = Burst::<32>::new();
    for n in 0..25 {
        burst.push(pool.alloc_with(&frame(60, n)).unwrap()).unwrap();
    }
    assert_eq!(tx_a.send(&mut burst), 20);
    assert_eq!(burst.iter().map(|m| m.bytes()[0]).collect::<Vec<_>>(), [20, 21, 22, 23, 24]);
    drop(burst);
    assert_eq!(pool.in_use(), 20);
    let mut burst = Burst::<32>::new();
    assert_eq!(rx_a.receive(&mut burst), 0);
    assert_eq!(rx_b.receive(&mut burst), 20);
    assert!(burst.iter().enumerate().all(|(n, mbuf)| mbuf.bytes() == frame(60, n as u8)));
    assert_eq!(tx_b.send(&mut burst), 20);
    assert_eq!(rx_a.receive(&mut burst), 20);
    assert_eq!(port_a.stats().rx_packets, 20);
    drop((burst, rx_a, tx_a, rx_b, tx_b, port_a, port_b));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn queues_work_on_other_threads() {
    let pool = pool(511);
    let (a, b) = dpdk::ring::port_pair(eal(), &unique("pair"), 64).unwrap();
    let mut port_a = Port::open(eal(), &a, PortConfig::new(pool)).unwrap();
    let mut port_b = Port::open(eal(), &b, PortConfig::new(pool)).unwrap();
    let (_rx_a, mut tx) = one(port_a.start().unwrap());
    let (mut rx, _tx_b) = one(port_b.start().unwrap());
    let sender = std::thread::spawn(move || {
        let _lcore = dpdk::register_thread(eal(), None).unwrap();
        let mut burst = Burst::<16>::new();
        let mut sent = 0;
        while sent < 10_000 {
            let room = burst.room().min(10_000 - sent - burst.len());
            pool.alloc_burst(&mut burst, room);
            let n = tx.send(&mut burst);
            sent += n;
            if n == 0 {
                std::thread::yield_now();
            }
        }
        drop(tx);
    });
    let mut burst = Burst::<32>::new();
    let mut received = 0;
    while received < 10_000 {
        let n = rx.receive(&mut burst);
        received += n;
        burst.clear();
        if n == 0 {
            std::thread::yield_now();
        }
    }
    sender.join().unwrap();
    assert_eq!(pool.in_use(), 0);
}

/// A capture file with these frames, as the format's specification lays it out (version 2.4, Ethernet).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        let len = frame.len() as u32;
        for word in [0, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

fn pcap_frames(file: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = &file[24..];
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// A directory of this test's own.
fn scratch() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("carom-dpdk-{}-{}", std::process::id(), unique("t")));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn files_in_and_out() {
    let dir = scratch();
    let (input, output) = (dir.join("in.pcap"), dir.join("out.pcap"));
    let frames: Vec<_> = (0..10).map(|n| frame(60 + 100 * n, n as u8)).collect();
    std::fs::write(&input, pcap(&frames)).unwrap();
    let pool = pool(255);
    let device = format!("{},rx_pcap={},tx_pcap={}", unique("net_pcap"), input.display(), output.display());
    let mut port = Port::open(eal(), &device, PortConfig::new(pool)).unwrap();
    let (mut rx, mut tx) = one(port.start().unwrap());
    let mut burst = Burst::<32>::new();
    assert_eq!(receive_some(&mut rx, &mut burst, 10), 10);
    for mbuf in burst.iter_mut() {
        mbuf.bytes_mut()[0] = 0xff;
    }
    assert_eq!(tx.send(&mut burst), 10);
    drop((rx, tx, port));
    let expected: Vec<_> = frames.into_iter().map(|mut f| [vec![0xff], f.split_off(1)].concat()).collect();
    assert_eq!(pcap_frames(&std::fs::read(&output).unwrap()), expected);
    assert_eq!(pool.in_use(), 0);
    std::fs::remove_dir_all(dir).unwrap();
}

/// The pcap driver delivers a frame longer than a buffer in pieces.
#[test]
fn frames_in_pieces_are_never_delivered() {
    let dir = scratch();
    let input = dir.join("in.pcap");
    std::fs::write(&input, pcap(&[frame(100, 1), frame(5000, 2), frame(100, 3)])).unwrap();
    let pool = pool(255);
    let device = format!("{},rx_pcap={}", unique("net_pcap"), input.display());
    let mut port = Port::open(eal(), &device, PortConfig::new(pool)).unwrap();
    let (mut rx, _tx) = one(port.start().unwrap());
    let mut burst = Burst::<32>::new();
    assert_eq!(receive_some(&mut rx, &mut burst, 2), 2);
    assert_eq!(burst.iter().map(|m| (m.len(), m.bytes()[0])).collect::<Vec<_>>(), [(100, 1), (100, 3)]);
    assert_eq!(rx.refused(), 1);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn wishes_that_cannot_be_met_are_refused_with_the_reason() {
    let base = PortConfig::new(pool(255));
    let error = |device: &str, config: PortConfig| Port::open(eal(), device, config).unwrap_err().to_string();
    let name = unique("net_null");
    assert_eq!(
        error(&name, PortConfig { rx_queues: 0, ..base.clone() }),
        format!("{name}: 0 receive queues are not possible, the device has 1 to 1024")
    );
    assert_eq!(
        error(&name, PortConfig { rx_queues: 2, mempools: vec![base.mempools[0]; 3], ..base.clone() }),
        format!("{name}: 3 mempools given; one, or one for each receive queue, is needed")
    );
    assert!(error(&name, PortConfig { mtu: Some(9000), ..base.clone() }).contains("an MTU of 9000 is not possible"));
    let pcap = unique("net_pcap");
    let dir = scratch();
    let input = dir.join("in.pcap");
    std::fs::write(&input, pcap_empty()).unwrap();
    let text = error(&format!("{pcap},rx_pcap={}", input.display()), PortConfig { rx_queues: 2, ..base.clone() });
    assert!(text.contains("2 receive queues") && text.contains("rx_pcap="), "{text}");
    std::fs::remove_dir_all(dir).unwrap();
    assert!(error("net_af_packet77,iface=nope0", base.clone()).contains("no network interface \"nope0\""));
    assert!(error("0000:ff:1f.7", base.clone()).contains("no such port"));
    let unknown = error("net_nosuch0,x=1", base.clone());
    assert!(unknown.starts_with("net_nosuch0: ") && unknown.contains("known to work: net_af_packet"), "{unknown}");
    let bad_argument = error(&format!("{},nonsense=1", unique("net_null")), base);
    assert!(bad_argument.contains("cannot make this device"), "{bad_argument}");
}

fn pcap_empty() -> Vec<u8> {
    pcap(&[])
}
