//! Committed configs: wrong ones with their messages, good ones, examples.

use std::fmt::Write;
use std::path::Path;

use carom::config;

use crate::{files, parse, read, root, with};

#[test]
fn each_wrong_config_gets_one_clear_line() {
    let mut lines = String::new();
    for path in files("slowpath/tests/configs/wrong") {
        let name = Path::new(path.file_name().unwrap());
        let refused = match config::parse(&read(&path), name) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(refused) => refused.to_string(),
        };
        assert_eq!(refused.lines().count(), 1, "{refused}");
        assert!(refused.starts_with(&format!("{}:", name.display())), "{refused}");
        writeln!(lines, "{refused}").unwrap();
    }
    assert!(lines.lines().count() > 20);
    insta::assert_snapshot!(lines);
}

#[test]
fn good_configs_and_examples_pass() {
    for path in files("slowpath/tests/configs/good").into_iter().chain(files("examples")) {
        let config = config::load(&path).unwrap_or_else(|refused| panic!("{refused}"));
        let macs = vec![Default::default(); config.interface.len()];
        let plan = config::Compiler::new().compile(&config, &macs).unwrap();
        assert_eq!(plan.services().count(), config.service.len());
    }
}

#[test]
fn examples_give_no_warning() {
    for path in files("examples") {
        assert_eq!(config::load(&path).unwrap().warnings().collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn devices_as_dpdk_is_told() {
    let config = config::load(&root().join("slowpath/tests/configs/good/devices.toml")).unwrap();
    let mut lines = String::new();
    for (interface, opened) in config.interface.iter().zip(config.devices()) {
        let device = interface.device.clone().unwrap();
        assert_eq!((&opened.name, opened.mtu), (&interface.name, interface.mtu));
        writeln!(lines, "{:42} {:?}", device.to_string(), opened.eal).unwrap();
        assert_eq!(device.to_string().parse(), Ok(device));
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn a_switch_has_one_device_and_what_is_not_said_a_default() {
    let config = config::load(&root().join("slowpath/tests/configs/good/switch.toml")).unwrap();
    let devices = config.devices();
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].name.as_str(), devices[0].mtu), ("target.link", 9000), "the largest MTU");
    insta::assert_debug_snapshot!((&devices[0].eal, config.switch().unwrap()));
    let warnings: Vec<_> = config.warnings().collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("interface[back].mtu: 9000 here and 1500 on \"front\""), "{warnings:?}");
    assert!(config::load(&root().join("slowpath/tests/configs/good/minimal.toml")).unwrap().switch().is_none());
}

#[test]
fn a_switch_inside_has_the_interfaces_devices() {
    let text = read(&root().join("slowpath/tests/configs/good/softnic.toml"));
    let config = parse(&text).unwrap();
    let (names, queues): (Vec<_>, Vec<_>) = config
        .devices()
        .into_iter()
        .map(|device| (device.name, format!("{:?}", device.eal).contains("qpairs=1")))
        .unzip();
    assert_eq!(names, ["front", "back"]);
    assert_eq!(queues, [true, true], "one queue, whatever the number of workers");
    insta::assert_debug_snapshot!(config.switch().unwrap());
    assert_eq!(config.warnings().count(), 0);
    let open =
        text.replace("[workers]", "address = \"[::]:9559\"\ncpu = 1\n[workers]").replace("count = 2", "cpus = [0, 1]");
    let warnings: Vec<_> = parse(&open).unwrap().warnings().collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("target.address: is not a loopback address"), "{warnings:?}");
    assert!(warnings[1].contains("target.cpu: CPU 1 is a worker's too"), "{warnings:?}");
}

#[test]
fn every_key_of_the_target_reaches_the_switch() {
    let config = config::load(&root().join("slowpath/tests/configs/good/everything.toml")).unwrap();
    insta::assert_debug_snapshot!(config.switch().unwrap());
}

#[test]
fn services_fit_the_switchs_tables() {
    let good = read(&root().join("slowpath/tests/configs/good/switch.toml"));
    let services = |n: u32| {
        let service = |i| format!("[[service]]\nname = \"s{i}\"\nlisten = \"10.10.0.81:{}\"\nservers = []\n", i + 1);
        good.clone() + &(0..n).map(service).collect::<String>()
    };
    parse(&services(4095)).unwrap();
    let refused = parse(&services(4096)).unwrap_err().to_string();
    assert!(refused.ends_with("4097 services at IPv4; the target's table service_v4 has room for 4096"), "{refused}");
}

#[test]
fn what_gets_no_id_is_warned_of() {
    let good = read(&root().join("slowpath/tests/configs/good/switch.toml"));
    let warnings = |services: u32, servers: u32, local: u8| {
        let text = good
            .replace("[target]", "[target]\nprogram = \"ids\"")
            .replace("mtu = 9000\n", "")
            .replace("10.30.0.103", &format!("10.30.0.{}", 99 + local));
        // Those with the same real servers have the same pairs.
        let servers: Vec<String> = (0..servers).map(|n| format!("10.20.{}.{}:80", n / 200, 1 + n % 200)).collect();
        let service = |i| format!("[[service]]\nname = \"s{i}\"\nlisten = \"10.10.0.81:{i}\"\nservers = {servers:?}\n");
        let text = text + &(1..services).map(service).collect::<String>();
        parse(&text).unwrap().warnings().collect::<Vec<_>>()
    };
    // One more service and one more real server are in the file.
    assert_eq!(warnings(1024, 1, 1), [""; 0]);
    assert_eq!(
        warnings(1025, 1, 1),
        [
            "carom.toml:3:11: warning: target.program: \"ids\" has ids for 1024 services at IPv4, and there are 1025: sessions of \
          those that get none stay in the slow path; with \"plain\" there is no such limit"
        ]
    );
    assert_eq!(warnings(3, 127, 128), [""; 0]);
    assert_eq!(
        warnings(3, 128, 128),
        [
            "carom.toml:3:11: warning: target.program: \"ids\" has ids for 16384 pairs of a real server and a local address, and \
          there are 16512 at IPv4: sessions of those that get none stay in the slow path; fewer local addresses make fewer \
          pairs, with \"plain\" there is no such limit"
        ]
    );
}

#[test]
fn policies_by_name_and_by_threshold() {
    use carom::config::target::Policy;
    let good = read(&root().join("slowpath/tests/configs/good/switch.toml"));
    for (text, policy) in [
        ("\"never\"", Policy::Never),
        ("\"established\"", Policy::Established),
        ("\"adaptive\"", Policy::Adaptive),
        ("{ packets = 1 }", Policy::Packets(1)),
        ("{ bytes = 4294967295 }", Policy::Bytes(u32::MAX)),
        ("{ pps = 65535 }", Policy::Pps(u16::MAX)),
    ] {
        let config = parse(&good.replace("[target]", &format!("[target]\npolicy = {text}"))).unwrap();
        assert_eq!(config.switch().unwrap().policy, policy);
    }
}

#[test]
fn a_target_that_is_none_is_not_used() {
    let config = parse(&with("[target]\naddress = \"127.0.0.1:9559\"\n")).unwrap();
    assert!(config.switch().is_none());
    let warnings: Vec<_> = config.warnings().collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("warning: target: ") && warnings[0].contains("kind is \"none\""), "{warnings:?}");
}

#[test]
fn warnings_name_their_place_too() {
    let text = with(
        "ports = \"1-65535\"\n[[service]]\nname = \"web\"\nlisten = \"10.10.0.80:80\"\nscheduler = \"rr\"\n\
         servers = [{ address = \"10.20.1.10:80\", weight = 5 }, \"10.20.1.11:80\"]\n\
         [[service]]\nname = \"drained\"\nlisten = \"10.10.0.80:81\"\n\
         servers = [{ address = \"10.20.1.10:80\", weight = 0 }]\n\
         [[service]]\nname = \"empty\"\nlisten = \"10.10.0.80:82\"\nservers = []\n\
         [[service]]\nname = \"hash\"\nlisten = \"10.10.0.80:83\"\nscheduler = \"mh\"\ntable_size = 101\n\
         hash = \"source-port\"\npersistence = { prefix4 = 0 }\nservers = [\"10.20.1.10:80\", \"10.20.1.11:80\"]\n\
         [snat]\nquarantine = \"5s\"\n[debug]\nseed = 1\n",
    );
    let lines: Vec<_> = parse(&text).unwrap().warnings().collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = with(
        "[[service]]\nname = \"web\"\nlisten = \"10.10.0.2:80\"\nscheduler = \"rr\"\nhash = \"source\"\n\
         servers = [\"10.20.1.10:80\", \"10.20.1.10:80\", \"[fd20::1]:80\"]\n[limits]\nsessions = 0\n",
    );
    insta::assert_snapshot!(parse(&text).unwrap_err().to_string());
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let directory = root().join("examples");
    for (path, why) in [(root().join("nowhere.toml"), "no such file"), (directory, "is a directory")] {
        let refused = config::load(&path).unwrap_err().to_string();
        assert_eq!(refused.lines().count(), 1);
        assert!(refused.starts_with(&path.display().to_string()) && refused.contains(why), "{refused}");
    }
}

#[test]
fn values_with_line_breaks_do_not_break_the_line() {
    let refused = parse(&with("[[service]]\nname = \"a\\nb\\u001b[31m\"\nlisten = \"10.10.0.80:80\"\nservers = []\n"));
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused.lines().count(), 1);
    assert!(!refused.contains('\u{1b}'), "{refused:?}");
}
