//! The switch goes away and comes back with empty tables.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bmv2_tests::balancer::{self, Balancer, wait};
use bmv2_tests::http::{self, Connection};
use bmv2_tests::lab::{HTTP, Lab};

use crate::{assert_empty, lab_with_switch, offloaded, offloaded_by};

/// Long enough to be noticed, short enough that TCP's repetitions outlast it.
const AWAY: Duration = Duration::from_secs(2);

#[test]
fn connections_outlast_a_restart_of_the_switch() {
    if crate::skipped() {
        return;
    }
    let lab = lab_with_switch(|config, _| config.workers(2));
    let service = lab.service(HTTP)[0];
    let mut open: Vec<Connection> = lab.on_client(|| (0..20).map(|_| Connection::open(service).unwrap()).collect());
    let before: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    offloaded(&lab, open.len());

    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // One that talks all the time; the others stay silent meanwhile.
        let busy = scope.spawn(|| {
            let mut connection = lab.on_client(|| Connection::open(service).unwrap());
            let identity = connection.get("/").unwrap().text();
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(connection.get("/").unwrap().text(), identity);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        offloaded(&lab, open.len() + 1);
        lab.switch().power_off();
        thread::sleep(AWAY);
        lab.switch().power_on(&lab.topology.balancer).unwrap();
        let then = rounds.load(Ordering::Relaxed);
        let goes_on =
            wait(Duration::from_secs(30), || busy.is_finished() || rounds.load(Ordering::Relaxed) > then + 10);
        assert!(goes_on, "the busy connection has stopped");
        stop.store(true, Ordering::Relaxed);
        busy.join().unwrap();
    });

    let after: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    assert_eq!(before, after, "every connection goes on, with the same server and local port");
    let mut again = Vec::new();
    offloaded_by(&lab, open.len(), || again = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect());
    assert_eq!(before, again);
    assert_eq!(lab.on_client(|| http::get(service, "/")).unwrap().status, 200);
    drop(open);
    assert_empty(&lab);
}

/// A balancer that starts before its switch does waits for it.
#[test]
fn a_switch_that_starts_later_is_taken() {
    if crate::skipped() {
        return;
    }
    let Lab { balancer, config, topology, http: _http, echo: _echo } = lab_with_switch(|config, _| config);
    drop(balancer);
    let switch = topology.switch.as_ref().unwrap();
    switch.power_off();
    let command = topology.balancer.command(&balancer::binary().unwrap());
    let balancer = Balancer::spawn(command, topology.dir(), &config).unwrap();
    balancer.wait_until_ready().unwrap();
    assert_eq!(balancer.target().unwrap()["connected"], false);
    switch.power_on(&topology.balancer).unwrap();
    balancer.wait_for_the_switch().unwrap();
    let service = SocketAddr::new(topology.vip().v4.into(), HTTP);
    assert_eq!(topology.client.run(|| http::get(service, "/")).unwrap().status, 200);
}
