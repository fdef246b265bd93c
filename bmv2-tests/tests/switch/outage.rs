//! The switch goes away and comes back with empty tables; the slow path is killed, and comes back knowing nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bmv2_tests::balancer::{self, Balancer, wait};
use bmv2_tests::blob::{self, Blob};
use bmv2_tests::http::{self, Connection};
use bmv2_tests::lab::{HTTP, Lab};
use nix::sys::signal::Signal;

use crate::{SOON, assert_empty, lab_with_switch, offloaded, offloaded_by};

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

/// `kill -9` of the slow path in the middle of a download that the switch forwards: what is offloaded goes on, is the next
/// life's, and ends as it should.
#[test]
fn offloaded_connections_outlast_a_kill_of_the_slow_path() {
    if crate::skipped() {
        return;
    }
    let lab = lab_with_switch(|config, _| config.workers(2));
    let mut open: Vec<Connection> = Vec::new();
    for service in lab.service(HTTP) {
        lab.on_client(|| open.extend((0..10).map(|_| Connection::open(service).unwrap())));
    }
    let before: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    let len = 1 << 20;
    let expected = blob::sha256(Blob::new(len)).unwrap().0;
    let mut busy = lab.on_client(|| Connection::open(lab.service(HTTP)[0]).unwrap());
    let identity = busy.get("/").unwrap().text();
    offloaded(&lab, open.len() + 1);

    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let goes_on = || {
        let then = rounds.load(Ordering::Relaxed);
        wait(SOON, || rounds.load(Ordering::Relaxed) > then + 1)
    };
    let (lab, mut busy) = thread::scope(|scope| {
        let download = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let body = busy.get(&format!("/blob/{len}")).unwrap().body;
                assert_eq!(blob::sha256(body.as_slice()).unwrap().0, expected);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            busy
        });
        let Lab { balancer, config, topology, http, echo } = lab;
        balancer.stop(Signal::SIGKILL).unwrap();
        assert!(goes_on(), "the download stops with the slow path");
        let balancer = Balancer::start(&topology, &config).unwrap();
        assert!(goes_on(), "the download stops with the next life");
        let lab = Lab { balancer, config, topology, http, echo };
        let totals = lab.balancer.target().unwrap()["totals"].clone();
        assert_eq!((&totals["adopted"], &totals["orphans"]), (&21.into(), &0.into()), "{totals}");
        offloaded(&lab, open.len() + 1);
        stop.store(true, Ordering::Relaxed);
        (lab, download.join().unwrap())
    });

    assert_eq!(busy.get("/").unwrap().text(), identity);
    let after: Vec<String> = open.iter_mut().map(|it| it.get("/").unwrap().text()).collect();
    assert_eq!(before, after, "every connection goes on, with the same server and local port");
    let ports = lab.balancer.rows("ports").unwrap();
    let in_use: u64 = ports.iter().map(|row| row["in_use"].as_u64().unwrap()).sum();
    assert_eq!(in_use, 21);
    let servers = lab.balancer.rows("servers").unwrap();
    assert_eq!(servers.iter().map(|row| row["active_sessions"].as_u64().unwrap()).sum::<u64>(), 21);
    let own = busy.local_addr().unwrap().to_string();
    let session = lab.balancer.sessions(&["--offload", "offloaded"]).unwrap();
    let session = session.iter().find(|session| session["client"] == own.as_str()).expect("the download's session");
    assert!(session["packets_out"].as_u64().unwrap() > rounds.load(Ordering::Relaxed) * len / 1500, "{session}");
    // New ones get other ports than those that are in use.
    let fresh: Vec<String> =
        lab.on_client(|| (0..30).map(|_| http::get(lab.service(HTTP)[0], "/").unwrap().text()).collect());
    assert!(fresh.iter().all(|seen| !before.contains(seen) && *seen != identity), "{fresh:?}");
    drop((open, busy));
    assert_empty(&lab);
}
