//! What changes under offloaded connections: the config, a next hop's MAC address.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bmv2_tests::balancer::wait;
use bmv2_tests::blob::{self, Blob};
use bmv2_tests::http::{self, Connection};
use bmv2_tests::lab::{ECHO, HTTP};
use carom_p4::{NexthopAction, NexthopKey, ServiceV4Key};

use crate::{SOON, lab, offloaded};

/// Servers are drained and brought back, services come and go; a transfer over the fast path does not notice.
#[test]
fn reloads_do_not_touch_an_offloaded_transfer() {
    if crate::skipped() {
        return;
    }
    let len = 2 << 20;
    let mut lab = lab(|config, _| config.workers(2));
    let service = lab.service(HTTP)[0];
    let expected = blob::sha256(Blob::new(len)).unwrap().0;
    let mut connection = lab.on_client(|| Connection::open(service).unwrap());
    connection.get("/").unwrap();
    offloaded(&lab, 1);
    let mut added = bmv2_tests::lab::http("added", lab.topology.vip().v4.into());
    added.listen.set_port(8080);
    let added_at = added.listen;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let transfer = scope.spawn(|| {
            let mut downloads = 0;
            while !done.load(Ordering::Relaxed) {
                let body = connection.get(&format!("/blob/{len}")).unwrap().body;
                assert_eq!(blob::sha256(body.as_slice()).unwrap().0, expected);
                downloads += 1;
            }
            downloads
        });
        for i in 0..6 {
            lab.config.service_mut("http").servers[0].weight = i % 2;
            match i % 2 {
                0 => lab.config.services.push(added.clone()),
                _ => lab.config.services.retain(|service| service.name != "added"),
            }
            lab.reload().unwrap();
            if i == 4 {
                assert_eq!(lab.on_client(|| http::get(added_at, "/")).unwrap().status, 200);
            }
            thread::sleep(Duration::from_millis(200));
        }
        done.store(true, Ordering::Relaxed);
        assert!(transfer.join().unwrap() > 0);
    });
    // Entries of services that left stay for their sessions, and are those of the service when it comes back.
    let services: Vec<u16> =
        lab.control().unwrap().rows::<ServiceV4Key>().unwrap().iter().map(|row| row.key.dport).collect();
    assert!([HTTP, ECHO, 8080].iter().all(|port| services.contains(port)) && services.len() == 3, "{services:?}");
    offloaded(&lab, 1);
}

/// The router is replaced by one with another MAC address: the entries of the flows stay, that of their next hop follows.
#[test]
fn a_next_hop_with_a_new_mac_address_is_followed() {
    if crate::skipped() {
        return;
    }
    let lab = lab(|config, _| config);
    let mut open: Vec<Connection> =
        lab.service(HTTP).into_iter().map(|service| lab.on_client(|| Connection::open(service).unwrap())).collect();
    let before: Vec<_> = open.iter_mut().map(|connection| connection.get("/").unwrap().text()).collect();
    offloaded(&lab, open.len());
    let mac = [0x02, 0xca, 0, 0, 2, 0xfe];
    let control = lab.control().unwrap();
    let used = || {
        let rows = control.rows::<NexthopKey>().unwrap();
        rows.iter().filter(|row| matches!(row.action, NexthopAction::Forward { dmac, .. } if dmac == mac)).count()
    };
    assert_eq!(used(), 0);
    lab.topology.router.sysctl("ipv4.conf.lb0.arp_notify", "1").unwrap();
    lab.topology.router.sysctl("ipv6.conf.lb0.ndisc_notify", "1").unwrap();
    lab.topology.router.ip("link set lb0 address 02:ca:00:00:02:fe").unwrap();
    let after: Vec<_> = open.iter_mut().map(|connection| connection.get("/").unwrap().text()).collect();
    assert_eq!(before, after);
    assert!(wait(SOON, || used() >= 2), "one next hop of each family: {:?}", control.rows::<NexthopKey>());
    offloaded(&lab, open.len());
}
