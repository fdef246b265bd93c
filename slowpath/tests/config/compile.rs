//! What a config is compiled to.

use carom::config::{CompileError, Compiler};
use fullnat::flow::Direction;
use fullnat::id::{Proto, ServerId, VPort};
use fullnat::plan::{Own, PersistenceRule, Plan, Service};
use fullnat::sched::SchedulerKind;
use fullnat::tcp::Timeouts;
use fullnat::wire::Mac;

use crate::{parse, read, root, service, with};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn compile(compiler: &mut Compiler, text: &str) -> Plan {
    compiler.compile(&parse(text).unwrap(), &[MAC]).unwrap()
}

fn named<'a>(plan: &'a Plan, name: &str) -> &'a Service {
    plan.services().find(|service| service.name == name).unwrap()
}

/// The id of a server by its address, in a service's list.
fn server(plan: &Plan, service: &str, address: &str) -> ServerId {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let found = named(plan, service).servers.iter().filter_map(|&id| plan.server(id));
    found.filter(|s| (s.rip, s.rport.0) == (address.ip(), address.port())).map(|s| s.id).next().unwrap()
}

#[test]
fn every_key_reaches_the_plan() {
    let text = read(&root().join("slowpath/tests/configs/good/everything.toml"));
    let config = parse(&text).unwrap();
    let plan = Compiler::new().compile(&config, &[MAC, Mac([2, 0, 0, 0, 0, 2])]).unwrap();
    assert_eq!((plan.generation, plan.quarantine_ms), (1, 90_000));
    assert_eq!((plan.interfaces[0].mac, plan.interfaces[0].mtu), (MAC, 9000));
    assert_eq!(plan.interfaces[1].addresses, [("10.30.0.2".parse().unwrap(), 24), ("fd30::2".parse().unwrap(), 64)]);

    let pool = &plan.pools[0];
    assert_eq!(pool.v4.len(), 5);
    assert_eq!(pool.v4[4], "10.30.0.99".parse::<std::net::Ipv4Addr>().unwrap());
    assert_eq!(pool.v6.len(), 4);
    assert_eq!(pool.ports, 2000..=60000);
    assert_eq!(plan.own("10.30.0.102".parse().unwrap()), Some(Own::Lip));
    assert_eq!(plan.own("10.10.0.80".parse().unwrap()), Some(Own::Vip));

    let web = named(&plan, "web");
    assert_eq!(plan.service_at(web.vip, VPort(80), Proto::Tcp).unwrap().id, web.id);
    assert_eq!(web.scheduler, SchedulerKind::Maglev { with_port: true, table_size: 10007 });
    assert!(!web.toa && named(&plan, "web6").toa && !named(&plan, "dns").toa);
    assert_eq!((web.timeouts.established, web.timeouts.udp), (7_200_000, 120_000));
    assert_eq!(named(&plan, "web6").timeouts.established, 3_600_000);
    assert_eq!(named(&plan, "dns").timeouts.udp, 30_000);
    assert_eq!((web.pool, named(&plan, "web6").pool, named(&plan, "dns").pool), (0, 0, 1));
    let rule = PersistenceRule { timeout_ms: 600_000, prefix_v4: 24, prefix_v6: 64 };
    assert_eq!(named(&plan, "web6").persistence, Some(rule));
    let servers: Vec<_> = web.servers.iter().map(|&id| plan.server(id).unwrap()).collect();
    assert_eq!(servers.iter().map(|s| (s.weight, s.max_connections)).collect::<Vec<_>>(), [(3, 10000), (0, 0), (1, 0)]);

    let hop = |to: &str| plan.routes.lookup(to.parse::<std::net::Ipv4Addr>().unwrap()).unwrap();
    assert_eq!((hop("10.20.1.1").iface.0, hop("10.20.1.1").gateway), (1, Some("10.30.0.1".parse().unwrap())));
    assert_eq!((hop("10.40.0.9").iface.0, hop("10.40.0.9").gateway), (1, None));
    assert_eq!(hop("8.8.8.8").iface.0, 0);
}

#[test]
fn defaults_are_those_of_the_core() {
    let plan = compile(&mut Compiler::new(), &with(&service("web", "10.10.0.80:80", &["10.20.1.10:80"])));
    let web = named(&plan, "web");
    assert_eq!(web.timeouts, Timeouts::default());
    assert_eq!((web.scheduler, web.toa), (SchedulerKind::WeightedRoundRobin, true));
    assert_eq!(plan.pools[0].ports, 1025..=65535);
    assert_eq!(plan.quarantine_ms, 60_000);
}

#[test]
fn ids_and_counters_stay_over_reloads() {
    let mut compiler = Compiler::new();
    let a = service("a", "10.10.0.80:80", &["10.20.1.10:80", "10.20.1.11:80"]);
    let b = service("b", "10.10.0.80:81", &["10.20.1.10:80"]);
    let first = compile(&mut compiler, &with(&format!("{a}{b}")));
    let kept = server(&first, "a", "10.20.1.11:80");
    assert!(first.server(kept).unwrap().shared.begin(0));

    // The other way round, with a server in front.
    let a = service("a", "10.10.0.80:80", &["10.20.1.12:80", "10.20.1.11:80", "10.20.1.10:80"]);
    let second = compile(&mut compiler, &with(&format!("{b}{a}")));
    assert_eq!(second.generation, 2);
    for name in ["a", "b"] {
        assert_eq!(named(&first, name).id, named(&second, name).id);
        assert_eq!(server(&first, name, "10.20.1.10:80"), server(&second, name, "10.20.1.10:80"));
    }
    assert_eq!(server(&second, "a", "10.20.1.11:80"), kept);
    assert_eq!(second.server(kept).unwrap().shared.active(), 1);
    assert!(first.server(server(&second, "a", "10.20.1.12:80")).is_none(), "a new server has a new id");
}

#[test]
fn a_service_is_known_by_its_address_then_by_its_name() {
    let mut compiler = Compiler::new();
    let servers = ["10.20.1.10:80"];
    let first = compile(
        &mut compiler,
        &with(&(service("a", "10.10.0.80:80", &servers) + &service("b", "10.10.0.80:81", &servers))),
    );
    // `a` is renamed, `b` moves, and a new `a` stands where nobody was.
    let text = service("c", "10.10.0.80:80", &servers)
        + &service("b", "10.10.0.80:82", &servers)
        + &service("a", "10.10.0.80:83", &servers);
    let second = compile(&mut compiler, &with(&text));
    assert_eq!(named(&second, "c").id, named(&first, "a").id);
    assert_eq!(named(&second, "b").id, named(&first, "b").id);
    assert!(![named(&first, "a").id, named(&first, "b").id].contains(&named(&second, "a").id));
}

#[test]
fn a_removed_servers_id_waits_for_its_sessions() {
    let mut compiler = Compiler::new();
    let both = with(&service("a", "10.10.0.80:80", &["10.20.1.10:80", "10.20.1.11:80"]));
    let one = with(&service("a", "10.10.0.80:80", &["10.20.1.10:80"]));
    let more = |n: u8| with(&service("a", "10.10.0.80:80", &["10.20.1.10:80", &format!("10.20.1.{n}:80")]));

    let first = compile(&mut compiler, &both);
    let gone = server(&first, "a", "10.20.1.11:80");
    let shared = first.server(gone).unwrap().shared.clone();
    assert!(shared.begin(0));
    for n in [20, 21, 22] {
        let plan = compile(&mut compiler, &more(n));
        let removed = plan.server(gone).expect("its sessions still end on it");
        assert_eq!((removed.weight, removed.shared.active()), (0, 1));
        assert!(!named(&plan, "a").servers.contains(&gone));
    }
    // It comes back, the same as before.
    let back = compile(&mut compiler, &both);
    assert_eq!(server(&back, "a", "10.20.1.11:80"), gone);
    assert_eq!((back.server(gone).unwrap().weight, back.server(gone).unwrap().shared.active()), (1, 1));

    // It goes again, and its last session too. One generation later nobody can speak of it any more.
    shared.end();
    assert!(compile(&mut compiler, &one).server(gone).is_some(), "workers may still have the plan before");
    let plan = compile(&mut compiler, &more(30));
    assert!(plan.server(gone).is_none());
    assert_ne!(server(&plan, "a", "10.20.1.30:80"), gone);
    // Then it is free.
    let plan = compile(
        &mut compiler,
        &with(&service("a", "10.10.0.80:80", &["10.20.1.10:80", "10.20.1.30:80", "10.20.1.40:80"])),
    );
    assert_eq!(server(&plan, "a", "10.20.1.40:80"), gone);
}

#[test]
fn a_removed_services_id_waits_for_its_servers() {
    let mut compiler = Compiler::new();
    let first = compile(&mut compiler, &with(&service("a", "10.10.0.80:80", &["10.20.1.10:80"])));
    let (id, old) = (named(&first, "a").id, server(&first, "a", "10.20.1.10:80"));
    let shared = first.server(old).unwrap().shared.clone();
    assert!(shared.begin(0));
    for n in 0..3 {
        let plan = compile(
            &mut compiler,
            &with(&service(&format!("b{n}"), &format!("10.10.0.81:{}", 80 + n), &["10.20.1.10:80"])),
        );
        assert!(plan.services().all(|service| service.id != id));
        assert_eq!(plan.server(old).unwrap().service, id);
    }
    let back = compile(&mut compiler, &with(&service("a", "10.10.0.80:80", &["10.20.1.10:80"])));
    assert_eq!((named(&back, "a").id, server(&back, "a", "10.20.1.10:80")), (id, old));
    assert_eq!(back.server(old).unwrap().shared.active(), 1);
}

#[test]
fn a_failed_compilation_changes_nothing() {
    let mut compiler = Compiler::new();
    let text = with(&service("a", "10.10.0.80:80", &["10.20.1.10:80"]));
    let first = compile(&mut compiler, &text);
    let other = parse(&with(&service("b", "10.10.0.80:81", &["10.20.1.10:80"]))).unwrap();
    assert_eq!(compiler.compile(&other, &[]).unwrap_err(), CompileError::Macs { given: 0, wanted: 1 });
    let second = compile(&mut compiler, &text);
    assert_eq!(second.generation, 2);
    assert_eq!(server(&second, "a", "10.20.1.10:80"), server(&first, "a", "10.20.1.10:80"));
}

#[test]
fn ids_can_run_out_and_come_back() {
    let mut compiler = Compiler::new();
    let config = |second: u8| {
        let servers: Vec<String> = (0..60_000u32).map(|n| format!("10.{second}.{}.{}:80", n >> 8, n & 255)).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        parse(&with(&service("a", "10.10.0.80:80", &servers))).unwrap()
    };
    compiler.compile(&config(20), &[MAC]).unwrap();
    let error = compiler.compile(&config(21), &[MAC]).unwrap_err();
    assert!(matches!(error, CompileError::NoServerId { draining: 60_000, .. }), "{error}");
    // Without them first, then it goes.
    for text in [with(""), with("")] {
        compile(&mut compiler, &text);
    }
    compiler.compile(&config(21), &[MAC]).unwrap();
}

#[test]
fn what_an_address_was_used_for_is_remembered() {
    let mut compiler = Compiler::new();
    let (vip, lip) = ("10.10.0.80".parse().unwrap(), "10.10.0.100".parse().unwrap());
    let directions = |plan: &Plan| [vip, lip].map(|address| plan.direction_to(address));
    let web = service("a", "10.10.0.80:80", &["10.20.1.10:80"]);
    let (inbound, outbound) = (Some(Direction::Inbound), Some(Direction::Outbound));
    assert_eq!(directions(&compile(&mut compiler, &with(&web))), [inbound, outbound]);
    // Without the service its sessions go on.
    assert_eq!(directions(&compile(&mut compiler, &with(""))), [inbound, outbound]);
    // Whoever was both may have sessions of both kinds, however long that is ago.
    let swapped = with("").replace("10.10.0.100-10.10.0.103", "10.10.0.80");
    for _ in 0..3 {
        assert_eq!(directions(&compile(&mut compiler, &swapped)), [None, outbound]);
    }
    assert_eq!(directions(&compile(&mut compiler, &with(&web))), [None, outbound]);
}
