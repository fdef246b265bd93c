//! The `carom` command as people see it: what it prints, where, and with which exit code.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use carom::offload::{Gone, Status};
use carom::softnic::{PortTraffic, Traffic};

use crate::fake::{Fake, Served};

fn command(socket: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    command.args(arguments.split_whitespace()).env("CAROM_SOCKET", socket).stdin(Stdio::null());
    command
}

fn run(socket: &Path, arguments: &str) -> Output {
    command(socket, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What a command that goes well prints.
fn shown(served: &Served, arguments: &str) -> String {
    let output = run(&served.socket, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments}");
    text(&output.stdout).to_owned()
}

/// What a command that fails says, and its exit code.
fn failed(socket: &Path, arguments: &str) -> (i32, String) {
    let output = run(socket, arguments);
    assert_eq!(text(&output.stdout), "", "{arguments}");
    (output.status.code().unwrap(), text(&output.stderr).replace(socket.to_str().unwrap(), "SOCKET"))
}

#[test]
fn tables_for_people() {
    let served = Served::new();
    for (name, arguments) in [
        ("services", "services"),
        ("services_exact", "services --exact"),
        ("servers", "servers"),
        ("sessions", "sessions"),
        ("sessions_page", "sessions --limit 2"),
        ("ports", "ports"),
        ("ports_by_worker", "ports --by-worker"),
        ("drops", "drops"),
        ("drops_all", "drops --all"),
        ("workers", "workers"),
        ("neighbors", "neighbors"),
        ("interfaces", "interfaces"),
        ("reload", "reload"),
    ] {
        let table = shown(&served, arguments);
        for line in table.lines() {
            assert!(line.chars().count() <= 120, "{} columns: {line}", line.chars().count());
            assert_eq!(line, line.trim_end());
        }
        insta::assert_snapshot!(name, table);
    }
}

#[test]
fn status_for_people() {
    let served = Served::new();
    let pid = format!("pid {}", std::process::id());
    let version = env!("CARGO_PKG_VERSION");
    let status = shown(&served, "status").replace(&pid, "pid PID").replace(version, "VERSION");
    insta::assert_snapshot!(status);
    let line = |served: &Served| shown(served, "status").lines().nth(2).unwrap().to_owned();
    let served = Served::with(Fake::offloading());
    assert_eq!(line(&served), "target    bmv2 at 127.0.0.1:9559, primary, 4510 of the sessions offloaded");
    served.fake.offload(|status| {
        status.ready = false;
        status.standing = "backup".to_owned();
        status.sessions.offloaded = 0;
    });
    assert_eq!(line(&served), "target    bmv2 at 127.0.0.1:9559, backup and not ready, 0 of the sessions offloaded");
    *served.fake.target.lock().unwrap() = Some(Err(Gone));
    assert_eq!(line(&served), "target    unknown (the offload manager has ended; its log says why)");
}

#[test]
fn targets_for_people() {
    let served = Served::new();
    let none = "no offload target (target.kind = \"none\"): the slow path does the whole job\n";
    assert_eq!(shown(&served, "targets"), none);
    let served = Served::with(Fake::offloading());
    insta::assert_snapshot!("targets", shown(&served, "targets"));
    insta::assert_snapshot!("targets_exact", shown(&served, "targets --exact"));
    insta::assert_snapshot!("interfaces_behind_a_switch", shown(&served, "interfaces"));
    insta::assert_snapshot!("drops_of_a_switch", shown(&served, "drops"));
    insta::assert_snapshot!("drops_of_a_switch_all", shown(&served, "drops --all"));
    // The ports of a switch in the process.
    let port = |port: &str, number, port_full| PortTraffic {
        port: port.to_owned(),
        number,
        rx_packets: 1_000_000,
        tx_packets: 990_000,
        port_full,
        no_headroom: 0,
    };
    let traffic = Traffic { ports: vec![port("front", 1, 0), port("workers", 64, 12)], no_port: 3 };
    *served.fake.traffic.lock().unwrap() = Some(traffic);
    insta::assert_snapshot!("drops_at_the_ports", shown(&served, "drops"));
    insta::assert_snapshot!("targets_with_ports", shown(&served, "targets"));
    *served.fake.traffic.lock().unwrap() = None;
    // A target that was never reached.
    *served.fake.target.lock().unwrap() = Some(Ok(Status {
        address: "127.0.0.1:9559".to_owned(),
        kind: "bmv2".to_owned(),
        device_id: 1,
        role: "lb".to_owned(),
        election_id: 1,
        standing: "disconnected".to_owned(),
        cookie: "0123456789abcdef".to_owned(),
        threshold: "never".to_owned(),
        last_error: Some("cannot connect: connection refused".to_owned()),
        ..Status::default()
    }));
    insta::assert_snapshot!("targets_unreached", shown(&served, "targets"));
    *served.fake.target.lock().unwrap() = Some(Err(Gone));
    let (code, error) = failed(&served.socket, "targets");
    assert_eq!((code, error.starts_with("carom: the offload manager has ended; ")), (1, true), "{error}");
}

#[test]
fn watching_a_target_shows_rates() {
    let served = Served::with(Fake::offloading());
    // Two seconds pass at the daemon between two looks; ten sessions are installed, seven packets punted.
    served.fake.step_ms.store(2_000, Ordering::Relaxed);
    let lines = watched(&served, "targets --watch 0.1", 2 * 28);
    let second: Vec<_> = lines.iter().skip_while(|line| !line.is_empty()).collect();
    let row = |name: &str| second.iter().rfind(|line| line.starts_with(name)).unwrap().to_string();
    assert_eq!(row("install").split_whitespace().take(3).collect::<Vec<_>>(), ["install", "5.0", "5412"]);
    assert_eq!(row("punt    miss").split_whitespace().take(4).collect::<Vec<_>>(), ["punt", "miss", "0", "3.5"]);
    assert_eq!(row("drop    no_service").split_whitespace().nth(3), Some("0"));
    assert_eq!(row("ResourceExhausted").split_whitespace().nth(1), Some("0"));
}

#[test]
fn addresses_too_long_for_a_line_are_stacked() {
    let mut fake = crate::fake::Fake::new();
    for session in &mut fake.sessions {
        session.view.client = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
        session.view.server = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535".parse().unwrap();
    }
    fake.sessions.truncate(2);
    let served = Served::with(fake);
    let table = shown(&served, "sessions");
    assert!(table.lines().all(|l| l.chars().count() <= 150), "{table}");
    insta::assert_snapshot!(table);
}

#[test]
fn filters_reach_the_daemon() {
    let served = Served::new();
    // A session begins with its protocol, on one line or two.
    let begins = |line: &&str| ["tcp", "udp", "more"].iter().any(|word| line.starts_with(word));
    let lines = |arguments: &str| shown(&served, arguments).lines().filter(begins).count();
    assert_eq!(lines("sessions --client 192.0.2.0/24"), 3);
    assert_eq!(lines("sessions --service web --state established"), 3);
    assert_eq!(lines("sessions --server 10.20.2.10:8443"), 2);
    assert_eq!(lines("sessions --offload offloaded"), 2);
    assert_eq!(lines("sessions --limit 2 --page 2"), 3, "two sessions and the way to the next page");
    assert_eq!(lines("sessions --limit 2 --page 3"), 1);
    assert_eq!(lines("sessions --limit 2 --page 4"), 0);
    assert_eq!(lines("sessions --limit 2 --cursor 4"), 1);
    assert_eq!(lines("sessions --all"), 5);
    assert_eq!(shown(&served, "sessions --count --client 192.0.2.7"), "2\n");
    assert_eq!(shown(&served, "sessions --count"), "234\n");
}

#[test]
fn json_for_programs_is_what_the_api_says() {
    let served = Served::new();
    for what in
        ["status", "services", "servers", "sessions", "ports", "drops", "workers", "neighbors", "interfaces", "targets"]
    {
        let json: serde_json::Value = serde_json::from_str(&shown(&served, &format!("{what} --json"))).unwrap();
        assert_eq!(json["uptime_ms"], 273_906_000, "{what}");
    }
    let reloaded: serde_json::Value = serde_json::from_str(&shown(&served, "reload --json")).unwrap();
    assert_eq!(reloaded["generation"], 2);
}

/// The first lines a watching command prints; it is stopped then.
fn watched(served: &Served, arguments: &str, lines: usize) -> Vec<String> {
    let mut child = command(&served.socket, arguments).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines = output.lines().take(lines).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    lines
}

#[test]
fn watching_shows_rates_per_second_of_the_daemons_clock() {
    let served = Served::new();
    // Two seconds pass at the daemon between two looks, a hundred packets come in.
    served.fake.step_ms.store(2_000, Ordering::Relaxed);
    let lines = watched(&served, "services --watch 0.1", 8);
    insta::assert_snapshot!(lines.join("\n"));

    let lines = watched(&served, "workers --watch 0.1", 7);
    assert!(lines[6].contains("75.0%"), "{lines:?}");

    let lines = watched(&served, "services --watch=0.1 --json", 2);
    for line in lines {
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }
}

#[test]
fn watching_ends_when_the_daemon_does() {
    let mut served = Served::new();
    let mut child =
        command(&served.socket, "status --watch 0.1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut first).unwrap();
    assert!(first.starts_with("carom"), "{first}");
    served.stop();
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("carom: carom is not running"), "{}", text(&output.stderr));
}

#[test]
fn a_closed_output_is_no_error() {
    let served = Served::new();
    let mut child =
        command(&served.socket, "sessions --watch 0.1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn errors_are_one_line_with_the_mend_and_an_exit_code() {
    let served = Served::new();
    let mut report = String::new();
    for arguments in [
        "sessions --client here",
        "sessions --service 10.10.0.100:443",
        "sessions --state open",
        "sessions --offload yes",
        "sessions --cursor nonsense",
    ] {
        let (code, error) = failed(&served.socket, arguments);
        assert_eq!(error.lines().count(), 1, "{error}");
        report += &format!("{arguments}: {code}\n    {error}");
    }
    *served.fake.reload.lock().unwrap() = Err("carom.toml:3:1: no".to_owned());
    let (code, error) = failed(&served.socket, "reload");
    report += &format!("reload: {code}\n    {error}");
    let directory = tempfile::tempdir().unwrap();
    let (code, error) = failed(&directory.path().join("admin.sock"), "status");
    report += &format!("status, nobody there: {code}\n    {error}");
    insta::assert_snapshot!(report);
}

#[test]
fn wrong_usage_exits_with_2() {
    let served = Served::new();
    for arguments in [
        "",
        "stauts",
        "sessions --limit 0",
        "sessions --page 2 --cursor 5",
        "sessions --count --limit 5",
        "services --watch 0",
        "services --watch soon",
        "run",
        "bench",
        "bench forward --ipv 5",
    ] {
        assert_eq!(failed(&served.socket, arguments).0, 2, "{arguments}");
    }
}

#[test]
fn the_socket_option_wins_over_the_environment() {
    let served = Served::new();
    let nowhere = Path::new("/nonexistent/admin.sock");
    let output = run(nowhere, &format!("status --socket {}", served.socket.display()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn check_and_schema_need_no_daemon() {
    let nowhere = Path::new("/nonexistent/admin.sock");
    let schema: serde_json::Value = serde_json::from_slice(&run(nowhere, "schema").stdout).unwrap();
    assert!(schema["properties"].is_object());
    let (code, error) = failed(nowhere, "check -c /nonexistent/carom.toml");
    assert_eq!((code, error.lines().count()), (2, 1), "{error}");
    let (code, error) = failed(nowhere, "run -c /nonexistent/carom.toml");
    assert_eq!((code, error.lines().count()), (2, 1), "{error}");
}
