//! What a reload may change, and what it refuses.

use crate::{parse, service, with};

/// A config behind a switch.
fn behind_a_switch() -> String {
    crate::read(&crate::root().join("slowpath/tests/configs/good/switch.toml"))
}

fn web(servers: &[&str]) -> String {
    service("web", "10.10.0.80:80", servers)
}

#[test]
fn what_services_are_made_of_may_change() {
    let old = parse(&with(&web(&["10.20.1.10:80"]))).unwrap();
    let text = with(&(web(&["10.20.1.11:80"]) + &service("b", "10.10.0.81:80", &[])))
        .replace("10.10.0.100-10.10.0.103", "10.10.0.100-10.10.0.110")
        .replace("10.10.0.2/24\"", "10.10.0.2/24\", \"10.11.0.2/24\"")
        .replace("\"10.10.0.1\"", "\"10.10.0.254\"")
        + "[timeouts]\nestablished = \"1h\"\n[snat]\nquarantine = \"2m\"\n";
    old.check_reload(&parse(&text).unwrap()).unwrap();
    // One worker is what the default means.
    old.check_reload(&parse(&with("[workers]\ncount = 1\n")).unwrap()).unwrap();
}

#[test]
fn what_is_fixed_at_start_is_refused_by_key() {
    let old = parse(&with("[dpdk]\nargs = [\"--iova-mode=va\"]\n")).unwrap();
    let changes = [
        with("[workers]\ncount = 2\n[workers.backoff]\nsleep = \"200us\"\n"),
        with("[dpdk]\nmemory = \"nohuge\"\nargs = [\"--iova-mode=pa\"]\n"),
        with("[dpdk]\nargs = [\"--iova-mode=va\"]\n[limits]\nsessions = 1000\nicmp_rate = 5\n"),
        with("[dpdk]\nargs = [\"--iova-mode=va\"]\n[admin]\nsocket = \"/tmp/other.sock\"\n"),
        with("[dpdk]\nargs = [\"--iova-mode=va\"]\n[metrics]\nlisten = \"127.0.0.1:9100\"\n[log]\nlevel = \"debug\"\n"),
        with("[dpdk]\nargs = [\"--iova-mode=va\"]\n")
            .replace("\"null\"", "\"tap:carom0\"\nmtu = 2000")
            .replace("\"wan\"", "\"lan\""),
        with(
            "[dpdk]\nargs = [\"--iova-mode=va\"]\n\
             [[interface]]\nname = \"lan\"\ndevice = \"ring\"\naddresses = [\"10.12.0.2/24\"]\n",
        ),
    ];
    let refusals = changes.map(|text| old.check_reload(&parse(&text).unwrap()).unwrap_err().to_string());
    insta::assert_snapshot!(refusals.join("\n\n"));
}

#[test]
fn the_switch_and_its_ports_are_fixed_at_start() {
    let text = behind_a_switch();
    let old = parse(&text).unwrap();
    let tuned = text.replace("10.30.0.103", "10.30.0.104").replace(
        "[target]",
        "[target]\npolicy = { pps = 10 }\nretry = \"5s\"\nsweep = \"1m\"\npunt_rate = 10\npunt_burst = 3",
    );
    old.check_reload(&parse(&tuned).unwrap()).unwrap();
    let changes = [
        text.replace("127.0.0.1:9559", "127.0.0.1:9560").replace("[target]", "[target]\nelection_id = 2"),
        text.replace("port = 64", "port = 65"),
        text.replace("port = 2", "port = 3").replace("01:02", "01:03"),
        text.replace("[target]", "[target]\nrole = \"other\"\ntls = { ca = \"ca.pem\" }"),
    ];
    let refusals = changes.map(|text| old.check_reload(&parse(&text).unwrap()).unwrap_err().to_string());
    insta::assert_snapshot!(refusals.join("\n\n"));
}
