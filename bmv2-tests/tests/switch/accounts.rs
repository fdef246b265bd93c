//! Who handled which packet of one connection: the slow path its beginning and its end, the switch the rest, and together no
//! packet more or less than the two hosts sent and received.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bmv2_tests::balancer::wait;
use bmv2_tests::capture::Capture;
use bmv2_tests::http::Connection;
use bmv2_tests::lab::{HTTP, Lab};
use bmv2_tests::packet::{Packet, flag};
use bmv2_tests::switch::{Punted, capture_punts, port_of};
use carom_p4::ID_PUNTS;
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::{assert_empty, counts_both_as_one, lab_with_switch, offloaded, one_server};

/// Requests over the offloaded connection.
const ROUNDS: usize = 1000;

/// Packets by direction: inbound, outbound.
type Both = [u64; 2];

fn sum(a: Both, b: Both) -> Both {
    [a[0] + b[0], a[1] + b[1]]
}

fn minus(a: Both, b: Both) -> Both {
    [a[0] - b[0], a[1] - b[1]]
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both sides say FIN.
    Fin,
    /// The client resets it.
    Reset,
}

/// Captures at both hosts and of what the switch punts.
struct Watch {
    client: Capture,
    server: Capture,
    punts: Capture,
}

impl Watch {
    fn start(lab: &Lab) -> Self {
        Watch {
            client: Capture::start(&lab.topology.client, "eth0").unwrap(),
            server: Capture::start(&lab.topology.servers[0], "eth0").unwrap(),
            punts: capture_punts(&lab.topology.balancer).unwrap(),
        }
    }

    fn settle(&self) {
        Capture::settle_all(&[&self.client, &self.server, &self.punts]);
    }

    /// Segments of the service's connections at a host.
    fn at(&self, host: &Capture) -> [Vec<Packet>; 2] {
        [|p: &Packet| p.dport() == HTTP, |p: &Packet| p.sport() == HTTP]
            .map(|way| host.packets(|p| p.tcp().is_some() && way(p)))
    }

    /// Segments the switch punted.
    fn punted(&self) -> [Vec<Packet>; 2] {
        [0, 1].map(|interface| {
            let records = self.punts.records();
            let punts = records.iter().filter_map(|it| Punted::parse(&it.frame));
            let here = punts.filter(|it| it.port == port_of(interface));
            here.filter_map(|it| Packet::parse(&it.frame)).filter(|p| p.tcp().is_some()).collect()
        })
    }
}

fn count(packets: &[Vec<Packet>; 2]) -> Both {
    [packets[0].len() as u64, packets[1].len() as u64]
}

fn bytes(packets: &[Vec<Packet>; 2]) -> Both {
    [0, 1].map(|way| packets[way].iter().map(|p| p.bytes().len() as u64).sum())
}

/// What the slow path received, by three accounts: the cable, the switch's counter, and Carom's. They move together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Received {
    cable: u64,
    switch: u64,
    carom: u64,
}

impl Received {
    /// Read in a moment in which nothing moves.
    fn now(lab: &Lab, punts: &Capture) -> Self {
        let control = lab.control().unwrap();
        let read = || Received {
            cable: punts.records().len() as u64,
            switch: control.counter(ID_PUNTS).unwrap().values().sum(),
            carom: lab.balancer.total("rx_packets").unwrap(),
        };
        let (mut before, mut after) = (read(), read());
        assert!(wait(Duration::from_secs(20), || {
            (before, after) = (after, read());
            before == after
        }));
        after
    }
}

/// The flow entries' packets and bytes, which there are of one session.
fn flows(lab: &Lab, client: SocketAddr) -> (Both, Both) {
    let flows = lab.control().unwrap().flows().unwrap();
    let is_inbound = |ends: [_; 2]| ends[0] == (client.ip(), client.port());
    let one =
        |inbound| flows.iter().find(|flow| is_inbound(flow.ends) == inbound).expect("an entry for each direction");
    let (inbound, outbound) = (one(true), one(false));
    assert_eq!(flows.len(), 2, "{flows:?}");
    ([inbound.packets, outbound.packets], [inbound.bytes, outbound.bytes])
}

fn accounts_of_a_connection(lab: &Lab, service: SocketAddr, end: End) {
    let watch = Watch::start(lab);
    let received = Received::now(lab, &watch.punts);

    // The beginning: everything is punted, until TOA has been acknowledged and both entries are there. That may be before the
    // first answer is on its way, once the server has acknowledged the request.
    let mut connection = lab.on_client(|| Connection::open(service).unwrap());
    let client = connection.local_addr().unwrap();
    connection.get("/").unwrap();
    offloaded(lab, 1);
    watch.settle();
    let opening = count(&watch.punted());
    let late = flows(lab, client).0;
    let as_one = counts_both_as_one(lab, service.is_ipv6());
    let told_as = |both: Both| if as_one { [0, both[0] + both[1]] } else { both };
    let beginning = told_as(count(&watch.at(&watch.client)));
    assert_eq!(sum(told_as(opening), late), beginning, "the slow path handles the beginning");
    // A slow machine repeats a segment or two.
    assert!(late[0] + late[1] <= 6, "{late:?}");
    assert!((3..=8).contains(&opening[0]) && (2..=7).contains(&opening[1]), "{opening:?}");

    // The middle: nothing is punted, the switch counts all that the hosts see.
    for _ in 0..ROUNDS {
        connection.get("/").unwrap();
    }
    connection.get("/blob/20000").unwrap();
    watch.settle();
    let (at_client, at_server) = (watch.at(&watch.client), watch.at(&watch.server));
    assert_eq!(count(&watch.punted()), opening, "the slow path handles nothing of the middle");
    let (packets, octets) = flows(lab, client);
    assert!(packets[0] + packets[1] > 2 * ROUNDS as u64, "{packets:?}");
    let both = sum(packets, told_as(opening));
    assert_eq!(both, told_as(count(&at_client)), "slow path and switch together, at the client");
    assert_eq!(both, told_as(count(&at_server)), "slow path and switch together, at the server");
    let since = |all: &[Vec<Packet>; 2]| bytes(&[0, 1].map(|way| all[way][opening[way] as usize..].to_vec()));
    assert_eq!(octets, told_as([since(&at_client)[0], since(&at_server)[1]]), "bytes as they arrived");
    assert_eq!(told(lab, client), sum(packets, opening), "Carom's account of the session");

    // The end: segments with FIN or RST, and of those that follow them what no longer finds its entry.
    let before = count(&at_client);
    if end == End::Reset {
        setsockopt(connection.stream(), sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
    }
    drop(connection);
    assert_empty(lab);
    watch.settle();
    let (at_client, punted) = (watch.at(&watch.client), watch.punted());
    let closing = minus(count(&at_client), before);
    let punted_closing = minus(count(&punted), opening);
    let control = flag::FIN | flag::RST;
    for way in [0, 1] {
        let last = &at_client[way][before[way] as usize..];
        let last_punted = &punted[way][opening[way] as usize..];
        let flags = |p: &Packet| p.tcp().unwrap().flags() & control != 0;
        assert_eq!(last_punted.iter().filter(|p| flags(p)).count(), last.iter().filter(|p| flags(p)).count());
        assert!(last_punted.len() <= last.len(), "{last_punted:?} punted of {last:?}");
    }
    match end {
        End::Reset => assert_eq!((closing, punted_closing), ([1, 0], [1, 0])),
        End::Fin => assert!(closing[0] <= 6 && closing[1] <= 5, "{closing:?}"),
    }

    let now = Received::now(lab, &watch.punts);
    let moved = [now.cable - received.cable, now.switch - received.switch, now.carom - received.carom];
    assert_eq!(moved, [moved[0]; 3], "frames to the slow path: on the cable, punted by the switch, received by Carom");
    let segments: u64 = count(&punted).iter().sum();
    assert!(moved[0] >= segments && moved[0] < segments + 40, "{moved:?}, of which {segments} are of the connection");
}

/// Carom's account of a session: its packets, by whomever they were forwarded.
fn told(lab: &Lab, client: SocketAddr) -> Both {
    let sessions = lab.balancer.sessions(&["--client", &client.ip().to_string()]).unwrap();
    let found = sessions.into_iter().find(|session| session["client"] == client.to_string().as_str());
    let session = found.expect("the session is listed");
    ["packets_in", "packets_out"].map(|key| session[key].as_u64().unwrap_or_else(|| panic!("no {key} in {session}")))
}

fn accounts(v6: bool) {
    if crate::skipped() {
        return;
    }
    let mut lab = lab_with_switch(one_server);
    // The longer beginning.
    ["http", "http6"].into_iter().for_each(|name| lab.config.service_mut(name).toa = true);
    lab.reload().unwrap();
    let service = lab.service(HTTP)[usize::from(v6)];
    for end in [End::Fin, End::Reset] {
        accounts_of_a_connection(&lab, service, end);
    }
    let punts: BTreeMap<u64, u64> = lab.control().unwrap().counter(ID_PUNTS).unwrap();
    eprintln!("punts by reason: {punts:?}");
}

#[test]
fn the_slow_path_sees_only_beginning_and_end() {
    accounts(false);
}

#[test]
fn the_slow_path_sees_only_beginning_and_end_ipv6() {
    accounts(true);
}
