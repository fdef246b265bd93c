//! Config changes under traffic: nothing breaks that need not.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bmv2_tests::balancer::wait;
use bmv2_tests::blob::{self, Blob};
use bmv2_tests::http::{self, Connection, LoadReport};
use bmv2_tests::lab::{HTTP, Lab, all_services};
use bmv2_tests::topology::{Arms, Load};

fn lab() -> Lab {
    Lab::start(Arms::Two, Load::Light, |config, vip| all_services(config.workers(2), vip)).unwrap()
}

/// Connections that have each said which server they talk to and from where.
struct Open(Vec<(Connection, String)>);

impl Open {
    fn new(lab: &Lab, count: usize) -> Self {
        let open = |_| {
            let mut connection = Connection::open(lab.service(HTTP)[0]).unwrap();
            let identity = connection.get("/").unwrap().text();
            (connection, identity)
        };
        Open(lab.on_client(|| (0..count).map(open).collect()))
    }

    fn on(&self, server: &str) -> usize {
        self.0.iter().filter(|(_, identity)| identity.starts_with(server)).count()
    }

    /// Each connection to a server for which `wanted` says true still works, and nothing about it has changed.
    fn assert_alive(&mut self, wanted: impl Fn(&str) -> bool) {
        for (connection, before) in self.0.iter_mut().filter(|(_, identity)| wanted(identity)) {
            assert_eq!(connection.get("/").unwrap().text(), *before);
        }
    }
}

/// Each worker takes the servers in turn by itself, so that a few may be one off.
fn assert_half_on_rs1(report: &LoadReport) {
    assert_eq!(report.failures, Vec::<String>::new());
    assert!((0.4..=0.6).contains(&report.share("rs1")), "{report:?}");
}

#[test]
fn draining_breaks_no_open_connection() {
    if crate::skipped() {
        return;
    }
    let mut lab = lab();
    let mut open = Open::new(&lab, 20);
    assert_eq!((open.on("rs1"), open.on("rs2")), (10, 10));

    lab.config.service_mut("http").servers[0].weight = 0;
    lab.reload().unwrap();

    open.assert_alive(|_| true);
    let report = lab.on_client(|| http::load(lab.service(HTTP)[0], 50, 5));
    assert_eq!((report.share("rs2"), report.failures.as_slice()), (1.0, &[][..]), "no new session on a drained server");

    lab.config.service_mut("http").servers[0].weight = 1;
    lab.reload().unwrap();

    open.assert_alive(|_| true);
    let report = lab.on_client(|| http::load(lab.service(HTTP)[0], 50, 5));
    assert_half_on_rs1(&report);
}

#[test]
fn adding_and_removing_servers_breaks_none_of_the_others() {
    if crate::skipped() {
        return;
    }
    let mut lab = lab();
    let mut open = Open::new(&lab, 20);
    let removed = lab.config.service_mut("http").servers.remove(0);
    lab.reload().unwrap();
    open.assert_alive(|identity| identity.starts_with("rs2"));
    let report = lab.on_client(|| http::load(lab.service(HTTP)[0], 50, 5));
    assert_eq!((report.share("rs2"), report.failures.as_slice()), (1.0, &[][..]));

    lab.config.service_mut("http").servers.insert(0, removed);
    lab.reload().unwrap();
    open.assert_alive(|identity| identity.starts_with("rs2"));
    let report = lab.on_client(|| http::load(lab.service(HTTP)[0], 50, 5));
    assert_half_on_rs1(&report);
}

#[test]
fn reloads_during_a_transfer_do_not_touch_it() {
    if crate::skipped() {
        return;
    }
    let (reloads, len) = (10, 20 << 20);
    let mut lab = lab();
    let service = lab.service(HTTP)[0];
    let expected = blob::sha256(Blob::new(len)).unwrap().0;
    let done = AtomicBool::new(false);
    // One connection that transfers all the time.
    let transfer = || {
        let mut connection = Connection::open(service).unwrap();
        let mut downloads = 0;
        while !done.load(Ordering::Relaxed) {
            let body = connection.get(&format!("/blob/{len}")).unwrap().body;
            assert_eq!(blob::sha256(body.as_slice()).unwrap().0, expected);
            downloads += 1;
        }
        downloads
    };
    let (config, balancer, client) = (&mut lab.config, &lab.balancer, &lab.topology.client);
    thread::scope(|scope| {
        // Each goes to a server of its own; one of the two servers is drained and brought back again and again.
        let transfers = [(); 2].map(|()| scope.spawn(|| client.run(transfer)));
        for i in 0..reloads {
            thread::sleep(Duration::from_millis(100));
            config.service_mut("http").servers[0].weight = i % 2;
            balancer.reload(config).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for transfer in transfers {
            assert!(transfer.join().unwrap() > 0);
        }
    });
}

/// A service that appears is served, one that disappears is not; a third does not notice.
#[test]
fn services_come_and_go() {
    if crate::skipped() {
        return;
    }
    let mut lab = lab();
    let mut open = Open::new(&lab, 4);
    let mut added = bmv2_tests::lab::http("added", lab.topology.vip().v4.into());
    added.listen.set_port(8080);
    let at = added.listen;
    lab.config = lab.config.clone().service(added);
    lab.reload().unwrap();
    assert_eq!(lab.on_client(|| http::get(at, "/")).unwrap().status, 200);

    lab.config.services.retain(|service| service.name != "added");
    lab.reload().unwrap();
    let outcome = lab.on_client(|| TcpStream::connect_timeout(&at, Duration::from_millis(500)));
    assert!(outcome.is_err(), "a removed service answers");
    open.assert_alive(|_| true);
}

#[test]
fn a_wrong_config_changes_nothing() {
    if crate::skipped() {
        return;
    }
    let lab = lab();
    let mut open = Open::new(&lab, 4);
    let generation = lab.balancer.generation().unwrap();
    let text = lab.config.to_string();
    let wrong = [
        "this is not TOML".to_owned(),
        text.replace("scheduler = \"wrr\"", "scheduler = \"dice\""),
        text.replace("name = \"lips\"", "nmae = \"lips\""),
        String::new(),
    ];
    for wrong in wrong {
        let before = lab.balancer.log().len();
        lab.balancer.reload_text(&wrong).unwrap();
        let said = wait(Duration::from_secs(20), || lab.balancer.log().len() > before);
        assert!(said, "the log says nothing about the config:\n{wrong}");
        assert_eq!(lab.balancer.generation().unwrap(), generation);
        open.assert_alive(|_| true);
        assert_eq!(lab.on_client(|| http::get(lab.service(HTTP)[0], "/")).unwrap().status, 200);
    }
    // And it still takes a right one.
    lab.reload().unwrap();
}
