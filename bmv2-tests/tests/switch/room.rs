//! A flow table with less room than there are sessions.

use bmv2_tests::balancer::{Balancer, wait};
use bmv2_tests::config::Config;
use bmv2_tests::http::Connection;
use bmv2_tests::lab::{HTTP, Lab, all_services};
use bmv2_tests::switch;
use bmv2_tests::topology::{Arms, Load, Topology};

use crate::{SOON, assert_empty, brisk};

/// Entries that fit the IPv4 table; a session needs two.
const ROOM: usize = 64;
const CONNECTIONS: usize = 500;

/// The switch runs Carom's program already, but with less room: Carom goes by the cookie and keeps it.
fn lab() -> Lab {
    let topology = Topology::with_switch(Arms::Two, Load::Alone, crate::target()).unwrap();
    let (switch, ns) = (topology.switch.as_ref().unwrap(), &topology.balancer);
    let config = brisk(all_services(Config::new(&topology).workers(2), topology.vip()));
    let carom = Balancer::start(&topology, &config).unwrap();
    let mut cookie = None;
    let shown = || {
        cookie = switch::reader(ns, crate::target()).unwrap().cookie().unwrap();
        cookie.is_some()
    };
    assert!(wait(SOON, shown), "Carom brings no program");
    drop(carom);
    switch.power_off();
    switch.power_on(ns).unwrap();
    let control = switch::primary(ns, crate::target()).unwrap();
    control.bring_up(Some(ROOM as u64), cookie.unwrap()).unwrap();
    drop(control);
    Lab::with(topology, |config, vip| brisk(all_services(config.workers(2), vip))).unwrap()
}

/// Each connection still gets an answer from the server it began with.
fn assert_alive(open: &mut [(Connection, String)]) {
    for (connection, identity) in open {
        assert_eq!(connection.get("/").unwrap().text(), *identity);
    }
}

#[test]
fn more_sessions_than_room_lose_nothing_and_use_it_again() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let control = lab.control().unwrap();
    let service = lab.service(HTTP)[0];
    let open = |_| {
        let mut connection = Connection::open(service).unwrap();
        let identity = connection.get("/").unwrap().text();
        (connection, identity)
    };
    let mut first: Vec<_> = lab.on_client(|| (0..CONNECTIONS).map(open).collect());
    let entries = || control.flows().unwrap().len();
    assert!(wait(SOON, || entries() == ROOM), "{} entries, room for {ROOM}", entries());
    assert_alive(&mut first);
    assert_eq!(entries(), ROOM);
    assert_eq!(crate::told_offloaded(&lab), ROOM / 2, "a session that found room for one entry only is not offloaded");

    // Others take the places of those that end.
    let mut last = first.split_off(CONNECTIONS / 2);
    drop(first);
    let half = || lab.balancer.sessions(&["--state", "established"]).unwrap().len() == CONNECTIONS / 2;
    assert!(wait(SOON, half));
    let taken = wait(SOON, || {
        assert_alive(&mut last);
        entries() == ROOM && crate::told_offloaded(&lab) == ROOM / 2
    });
    assert!(taken, "{} entries after half of the connections ended", entries());
    let clients: Vec<_> = last.iter().map(|(connection, _)| connection.local_addr().unwrap()).collect();
    let inbound = control.flows().unwrap().into_iter().filter(|flow| flow.ends[1] == (service.ip(), HTTP));
    let mut count = 0;
    for flow in inbound {
        let [(ip, port), _] = flow.ends;
        assert!(clients.contains(&std::net::SocketAddr::new(ip, port)), "an entry of a session that ended: {flow:?}");
        count += 1;
    }
    assert_eq!(count, ROOM / 2);
    drop(last);
    assert_empty(&lab);
}
