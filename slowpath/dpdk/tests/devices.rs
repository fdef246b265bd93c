//! Drivers that need a network namespace, rights or a second process. Each test runs itself again in a process of its
//! own, inside a new namespace or as another user, with the EAL it needs.

mod common;

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use common::{frame, one};
use dpdk::{Burst, Eal, EalConfig, EalError, Memory, Mempool, MempoolConfig, Port, PortConfig, RxQueue, TxQueue};
use fullnat::frame::Frame;

const CHILD: &str = "CAROM_DPDK_TEST_CHILD";
/// No test waits longer for frames or for a link.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `body` in a child process started through `wrapper`; the child is this test again.
fn child(test: &str, wrapper: &[&str], body: impl FnOnce()) {
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        return body();
    }
    // A copy where any user can reach it, made by another process: a file this one has open for writing could not be run
    // while a sibling test starts its child.
    let dir = std::env::temp_dir().join(format!("carom-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let program = dir.join("test");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap().success());
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(&program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .current_dir(&dir)
        .output()
        .unwrap_or_else(|error| panic!("{} does not run: {error}", wrapper[0]));
    std::fs::remove_dir_all(&dir).unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{text}", output.status);
    assert!(text.contains("1 passed"), "the child did not run the test:\n{text}");
}

/// A new network namespace.
fn namespace() -> &'static [&'static str] {
    if is_root() { &["unshare", "--net", "--"] } else { USER_NAMESPACE }
}

/// The same for users who are not root: a user namespace where they are.
const USER_NAMESPACE: &[&str] = &["unshare", "--map-root-user", "--net", "--"];

/// A user without any right.
fn nobody() -> &'static [&'static str] {
    if is_root() {
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"]
    } else {
        HERE
    }
}

/// Nothing special.
const HERE: &[&str] = &["env"];

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn start(memory: Memory) -> Eal {
    Eal::init(EalConfig { memory, ..Default::default() }).unwrap_or_else(|error| panic!("{error}"))
}

fn small() -> Eal {
    start(Memory::NoHuge { mb: 128 })
}

fn pool(eal: &Eal) -> Mempool {
    Mempool::new(eal, "pool", MempoolConfig { mbufs: 16_383, cache: 0, ..Default::default() })
        .unwrap_or_else(|error| panic!("{error}"))
}

fn ip(command: &str) {
    for line in command.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let status = Command::new("ip").args(line.split(' ')).status().expect("ip is installed (iproute2)");
        assert!(status.success(), "ip {line}");
    }
}

fn open(eal: &Eal, device: &str, pool: Mempool) -> (Port, RxQueue, TxQueue) {
    let mut port = Port::open(eal, device, PortConfig { promiscuous: true, ..PortConfig::new(pool) })
        .unwrap_or_else(|error| panic!("{error}"));
    let (rx, tx) = one(port.start().unwrap_or_else(|error| panic!("{error}")));
    (port, rx, tx)
}

/// A frame that no protocol cares about: broadcast, EtherType of local experiments (IEEE 802).
fn experiment(fill: u8) -> Vec<u8> {
    let mut bytes = frame(100, fill);
    bytes[..6].fill(0xff);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, fill]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes
}

/// Sends frames one way and waits for them on the other side, whatever else the kernel sends.
fn exchange(pool: Mempool, tx: &mut TxQueue, rx: &mut RxQueue) {
    let mut burst = Burst::<32>::new();
    for n in 0..20 {
        burst.push(pool.alloc_with(&experiment(n)).unwrap()).unwrap();
    }
    let mut seen = Vec::new();
    let end = std::time::Instant::now() + PATIENCE;
    while seen.len() < 20 && std::time::Instant::now() < end {
        // A memif server sends only once its client has asked for frames.
        tx.send(&mut burst);
        let mut got = Burst::<32>::new();
        if rx.receive(&mut got) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        seen.extend(got.iter().filter(|m| m.bytes()[12..14] == [0x88, 0xb5]).map(|m| m.bytes().to_vec()));
    }
    assert!(burst.is_empty());
    assert_eq!(seen, (0..20).map(experiment).collect::<Vec<_>>());
}

const VETH: &str = "link add carom0 type veth peer name carom1
    link set carom0 up mtu 1400
    link set carom1 up mtu 1400";

#[test]
fn af_packet_on_veth() {
    child("af_packet_on_veth", namespace(), || {
        ip(VETH);
        let eal = small();
        let pool = pool(&eal);
        let (port_a, mut rx_a, mut tx_a) = open(&eal, "net_af_packet0,iface=carom0", pool);
        let (port_b, mut rx_b, mut tx_b) = open(&eal, "net_af_packet1,iface=carom1", pool);
        assert_eq!(port_a.info().mtu, 1400, "the kernel's MTU");
        assert!(port_a.link().up);
        assert_ne!(port_a.info().mac, port_b.info().mac);
        exchange(pool, &mut tx_a, &mut rx_b);
        exchange(pool, &mut tx_b, &mut rx_a);
        let held = pool.in_use();
        drop((rx_a, tx_a, rx_b, tx_b, port_a, port_b));
        assert_eq!(pool.in_use(), 0, "{held} before the ports closed");
        let config = PortConfig { rx_queues: 2, tx_queues: 2, ..PortConfig::new(pool) };
        let error = Port::open(&eal, "net_af_packet0,iface=carom0", config.clone()).unwrap_err().to_string();
        assert!(error.contains("qpairs=N"), "{error}");
        let mut port = Port::open(&eal, "net_af_packet2,iface=carom0,qpairs=2", config).unwrap();
        assert_eq!(port.start().unwrap().0.len(), 2);
        assert!(port.rss().is_none());
    });
}

/// Two processes in a namespace whose numbers, of process id and interface, are the same: the second is told what mends it.
#[test]
fn a_number_that_another_process_has_is_told() {
    const NAME: &str = "a_number_that_another_process_has_is_told";
    /// The first process's interface, for the second one.
    const FIRST: &str = "CAROM_DPDK_TEST_FIRST_INTERFACE";
    child(NAME, namespace(), || {
        let eal = small();
        let Ok(first) = std::env::var(FIRST) else {
            ip(VETH);
            let _first = open(&eal, "net_af_packet0,iface=carom0", pool(&eal));
            let shown = Command::new("ip").args(["-o", "link", "show", "carom0"]).output().unwrap().stdout;
            let index = String::from_utf8(shown).unwrap().split(':').next().unwrap().to_owned();
            let mut second = Command::new(std::env::current_exe().unwrap());
            second.args(["--exact", NAME, "--nocapture", "--test-threads=1"]).env(FIRST, index);
            assert!(second.status().unwrap().success());
            return;
        };
        let number = (first.parse::<u32>().unwrap() ^ std::os::unix::process::parent_id()) & 0xffff;
        let same = (number ^ std::process::id()) & 0xffff;
        // Only the lower 16 bits of an interface's index count.
        for (name, index) in [("same", 1 << 16 | same), ("other", 1 << 16 | (same ^ 1))] {
            ip(&format!("link add {name} index {index} type veth peer name {name}-peer\nlink set {name} up"));
        }
        let error = eal.add_vdev("net_af_packet0,iface=same").unwrap_err().to_string();
        assert!(error.contains("start again"), "{error}");
        open(&eal, "net_af_packet1,iface=other", pool(&eal));
    });
}

#[test]
fn af_xdp_on_veth() {
    if !is_root() {
        eprintln!("not run: AF_XDP needs root outside of user namespaces");
        return;
    }
    child("af_xdp_on_veth", namespace(), || {
        ip(VETH);
        let eal = small();
        let pool = pool(&eal);
        let (_port_a, mut rx_a, mut tx_a) = open(&eal, "net_af_xdp0,iface=carom0", pool);
        let (_port_b, mut rx_b, mut tx_b) = open(&eal, "net_af_packet1,iface=carom1", pool);
        exchange(pool, &mut tx_b, &mut rx_a);
        exchange(pool, &mut tx_a, &mut rx_b);
    });
}

/// Frames with a tag as a switch puts it in front of what it punts: every PCP, the first and last VID; tags that a kernel
/// takes off on its way, and that are all zero. A full IP packet of 1500 bytes is behind each.
fn tagged_frames() -> Vec<Vec<u8>> {
    let tcis = (0..8).flat_map(|pcp| [0u16, 1, 4094].map(|vid| pcp << 13 | vid));
    let tagged = |(n, tci): (u8, u16)| {
        let mut bytes = frame(14 + 4 + 1500, n);
        bytes[..6].fill(0xff);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, n]);
        bytes[12..14].copy_from_slice(&[0x81, 0x00]);
        bytes[14..16].copy_from_slice(&tci.to_be_bytes());
        bytes[16..18].copy_from_slice(&[0x88, 0xb5]);
        bytes
    };
    (0..).zip(tcis).map(tagged).collect()
}

/// Sends full frames with tags and looks at them on the other side.
fn exchange_tagged(pool: Mempool, tx: &mut TxQueue, rx: &mut RxQueue) {
    let frames = tagged_frames();
    let mut burst = Burst::<32>::new();
    frames.iter().for_each(|bytes| burst.push(pool.alloc_with(bytes).unwrap()).unwrap());
    let mut seen = Vec::new();
    let end = std::time::Instant::now() + PATIENCE;
    while seen.len() < frames.len() && std::time::Instant::now() < end {
        tx.send(&mut burst);
        let mut got = Burst::<32>::new();
        if rx.receive(&mut got) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Whatever came of ours, with a tag or without.
        seen.extend(got.iter().filter(|m| m.bytes()[6..11] == [2, 0, 0, 0, 0]).map(|m| m.bytes().to_vec()));
    }
    assert!(seen == frames, "{} of {} frames came as they were sent", seen.len(), frames.len());
}

/// The kernel's MTU is 1500 on both ends: like every device of Ethernet it carries a tag on top of that.
const VETH_1500: &str = "link add carom0 type veth peer name carom1
    link set carom0 up
    link set carom1 up";

#[test]
fn tags_and_full_packets_pass_af_packet() {
    child("tags_and_full_packets_pass_af_packet", namespace(), || {
        ip(VETH_1500);
        let eal = small();
        let pool = pool(&eal);
        let (_port_a, mut rx_a, mut tx_a) = open(&eal, "net_af_packet0,iface=carom0", pool);
        let (_port_b, mut rx_b, mut tx_b) = open(&eal, "net_af_packet1,iface=carom1", pool);
        exchange_tagged(pool, &mut tx_a, &mut rx_b);
        exchange_tagged(pool, &mut tx_b, &mut rx_a);
    });
}

#[test]
fn tags_and_full_packets_pass_af_xdp() {
    if !is_root() {
        eprintln!("not run: AF_XDP needs root outside of user namespaces");
        return;
    }
    child("tags_and_full_packets_pass_af_xdp", namespace(), || {
        ip(VETH_1500);
        let eal = small();
        let pool = pool(&eal);
        let (_port_a, mut rx_a, mut tx_a) = open(&eal, "net_af_xdp0,iface=carom0", pool);
        let (_port_b, mut rx_b, mut tx_b) = open(&eal, "net_af_packet1,iface=carom1", pool);
        exchange_tagged(pool, &mut tx_b, &mut rx_a);
        exchange_tagged(pool, &mut tx_a, &mut rx_b);
    });
}

#[test]
fn af_xdp_in_a_user_namespace() {
    child("af_xdp_in_a_user_namespace", USER_NAMESPACE, || {
        ip(VETH);
        let eal = small();
        let error = eal.add_vdev("net_af_xdp0,iface=carom0").unwrap_err().to_string();
        assert!(error.contains("use net_af_packet"), "{error}");
        open(&eal, "net_af_packet0,iface=carom0", pool(&eal));
    });
}

#[test]
fn tap_meets_the_kernel() {
    child("tap_meets_the_kernel", namespace(), || {
        let eal = small();
        let pool = pool(&eal);
        let (_port_a, mut rx_a, mut tx_a) = open(&eal, "net_tap0,iface=caromtap", pool);
        ip("link set caromtap up");
        let (_port_b, mut rx_b, mut tx_b) = open(&eal, "net_af_packet1,iface=caromtap", pool);
        exchange(pool, &mut tx_a, &mut rx_b);
        exchange(pool, &mut tx_b, &mut rx_a);
    });
}

#[test]
fn memif_pair() {
    child("memif_pair", namespace(), || {
        let eal = small();
        let pool = pool(&eal);
        let socket = format!("socket=@carom-{}", std::process::id());
        let (port_a, mut rx_a, mut tx_a) = open(&eal, &format!("net_memif0,role=server,id=0,{socket}"), pool);
        let (port_b, mut rx_b, mut tx_b) = open(&eal, &format!("net_memif1,role=client,id=0,{socket}"), pool);
        wait_for_links(&[&port_a, &port_b]);
        exchange(pool, &mut tx_a, &mut rx_b);
        exchange(pool, &mut tx_b, &mut rx_a);
        // When one end closes, the driver frees the other's memory in EAL's thread, with no lock against that end's own close.
        // In one process the two would meet; like this they go with the process.
        std::mem::forget((port_a, rx_a, tx_a, port_b, rx_b, tx_b));
    });
}

#[test]
fn vhost_meets_virtio_user() {
    child("vhost_meets_virtio_user", namespace(), || {
        let eal = small();
        let pool = pool(&eal);
        let socket = std::env::current_dir().unwrap().join("vhost.sock");
        let socket = socket.display();
        let (port_a, mut rx_a, mut tx_a) = open(&eal, &format!("net_vhost0,iface={socket}"), pool);
        let (port_b, mut rx_b, mut tx_b) = open(&eal, &format!("net_virtio_user0,path={socket}"), pool);
        wait_for_links(&[&port_a, &port_b]);
        exchange(pool, &mut tx_a, &mut rx_b);
        exchange(pool, &mut tx_b, &mut rx_a);
    });
}

fn wait_for_links(ports: &[&Port]) {
    let end = std::time::Instant::now() + PATIENCE;
    while !ports.iter().all(|port| port.link().up) {
        assert!(std::time::Instant::now() < end, "the link does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nobody_can_use_what_needs_no_rights() {
    child("nobody_can_use_what_needs_no_rights", nobody(), || {
        let eal = small();
        let pool = pool(&eal);
        let (_port, mut rx, mut tx) = open(&eal, "net_null0", pool);
        let mut burst = Burst::<32>::new();
        assert_eq!(rx.receive(&mut burst), 32);
        assert_eq!(tx.send(&mut burst), 32);
        let error = |device: &str| eal.add_vdev(device).unwrap_err().to_string();
        for (device, rights) in [
            ("net_af_packet0,iface=lo", "cap_net_raw+ep"),
            ("net_af_xdp0,iface=lo", "CAP_NET_RAW"),
            ("net_tap0", "CAP_NET_ADMIN"),
            ("net_pcap0,iface=lo", "CAP_NET_RAW"),
        ] {
            let text = error(device);
            assert!(text.contains("too few rights") && text.contains(rights), "{text}");
        }
        let text = error("net_pcap1,tx_pcap=/usr/carom.pcap");
        assert!(text.contains("/usr/carom.pcap: Permission denied"), "{text}");
    });
}

#[test]
fn several_processes_at_once() {
    child("several_processes_at_once", nobody(), || {
        let eal = small();
        let other = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nobody_can_use_what_needs_no_rights", "--test-threads=1"])
            .env(CHILD, "nobody_can_use_what_needs_no_rights")
            .output()
            .unwrap();
        assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stdout));
        assert!(!eal.memory().hugepages);
    });
}

/// Runs on whatever hugepages the machine has: with none it is the error that counts.
#[test]
fn hugepages_where_there_are_some() {
    child("hugepages_where_there_are_some", nobody(), || {
        let huge = |memory| Eal::init(EalConfig { memory, ..Default::default() });
        let free = std::fs::read_dir("/sys/kernel/mm/hugepages").unwrap().flatten().any(|size| {
            std::fs::read_to_string(size.path().join("free_hugepages")).is_ok_and(|free| free.trim() != "0")
        });
        let eal = match huge(Memory::Huge) {
            Err(error) => {
                assert!(!free, "{error}");
                assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
                huge(Memory::Auto { mb: 128 }).unwrap()
            }
            Ok(eal) => eal,
        };
        assert_eq!(eal.memory().hugepages, free, "{}", eal.memory());
        let (_port, mut rx, _tx) = open(&eal, "net_null0", pool(&eal));
        assert_eq!(rx.receive(&mut Burst::<32>::new()), 32);
    });
}

#[test]
fn the_size_of_a_pool_is_foretold() {
    child("the_size_of_a_pool_is_foretold", HERE, || {
        let eal = small();
        for data_room in [1664, 1665, 2048, 9216] {
            let config = MempoolConfig { mbufs: 1024, cache: 0, data_room, socket: None };
            let before = eal.memory().free;
            Mempool::new(&eal, &format!("room{data_room}"), config).unwrap();
            let (taken, foretold) = (before - eal.memory().free, config.bytes());
            // The pool's own ring and headers come on top.
            assert!(taken >= foretold, "{data_room}: {foretold} foretold, {taken} taken");
            assert!(taken < foretold + foretold / 8, "{data_room}: {foretold} foretold, {taken} taken");
        }
    });
}

#[test]
fn more_memory_than_there_is() {
    child("more_memory_than_there_is", HERE, || {
        let init = |memory| Eal::init(EalConfig { memory, ..Default::default() });
        let error = init(Memory::NoHuge { mb: u32::MAX }).unwrap_err();
        assert!(matches!(error, EalError::TooMuchMemory { .. }), "{error}");
        // Nothing was started, so another try is possible.
        assert!(init(Memory::NoHuge { mb: 64 }).is_ok());
    });
}

#[test]
fn an_address_space_that_is_too_small() {
    let limit = ["prlimit", "--as=400000000", "--"];
    child("an_address_space_that_is_too_small", &limit, || {
        let init = Eal::init(EalConfig { memory: Memory::NoHuge { mb: 1024 }, ..Default::default() });
        let error = init.unwrap_err();
        assert!(matches!(error, EalError::Dpdk { .. } | EalError::TooMuchMemory { .. }), "{error:?}");
        eprintln!("{error}");
    });
}

#[test]
fn a_device_that_is_not_there_stops_the_start() {
    child("a_device_that_is_not_there_stops_the_start", HERE, || {
        let memory = Memory::NoHuge { mb: 64 };
        let config = EalConfig { memory, vdevs: vec!["net_af_packet0,iface=nope0".into()], ..Default::default() };
        let error = Eal::init(config).unwrap_err().to_string();
        assert!(error.contains("no network interface \"nope0\""), "{error}");
        let config = EalConfig { memory, pci: vec!["0000:ff:1f.7".into()], ..Default::default() };
        assert_eq!(Eal::init(config).err(), Some(EalError::AlreadyInitialised));
    });
}

#[test]
fn a_pci_device_that_is_not_there_stops_the_start() {
    child("a_pci_device_that_is_not_there_stops_the_start", HERE, || {
        let memory = Memory::NoHuge { mb: 64 };
        let config = EalConfig { memory, pci: vec!["0000:ff:1f.7".into()], ..Default::default() };
        let error = Eal::init(config).unwrap_err().to_string();
        assert!(error.contains("no PCI device at this address"), "{error}");
        let config = EalConfig { memory, extra: vec!["--help".into()], ..Default::default() };
        assert!(matches!(Eal::init(config), Err(EalError::Argument { .. })));
        let config = EalConfig { memory, extra: vec!["--no-such-argument".into()], ..Default::default() };
        let error = Eal::init(config).unwrap_err().to_string();
        assert!(error.contains("no-such-argument"), "{error}");
    });
}
