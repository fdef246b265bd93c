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
    for (interface, device) in config.interface.iter().zip(config.eal_devices()) {
        writeln!(lines, "{:42} {device:?}", interface.device.to_string()).unwrap();
        assert_eq!(interface.device.to_string().parse(), Ok(interface.device.clone()));
    }
    insta::assert_snapshot!(lines);
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
