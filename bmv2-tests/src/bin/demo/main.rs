//! A small network in namespaces with Carom in the middle, real traffic through it, and a table of what happened.
//!
//! `demo` cleans up at its end; `demo --keep` leaves everything running until Enter or Ctrl-C, to be tried by hand.

mod offload;

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bmv2_tests::blob::{self, Blob};
use bmv2_tests::capture::Capture;
use bmv2_tests::lab::{ECHO, HTTP, Lab, all_services};
use bmv2_tests::target::Target;
use bmv2_tests::topology::{Arms, Load, Topology};
use bmv2_tests::{balancer, netns, udp};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Requests by curl.
const REQUESTS: usize = 20;
/// Bytes of the large download.
const LARGE: u64 = 100 << 20;

const USAGE: &str = "usage: demo [--keep]

  --keep   leave the network up after the demo, until Enter or Ctrl-C

CAROM_TARGET in the environment says what forwards established sessions: softnic (default), bmv2, or none";

fn main() -> ExitCode {
    let keep = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [word] if word == "--keep" => true,
        [word] if word == "--help" || word == "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(reason) = netns::unavailable() {
        eprintln!("The demo makes network namespaces and cannot: {reason}. Run it as root.");
        return ExitCode::FAILURE;
    }
    if let Err(error) = clean_up_on_signals() {
        eprintln!("cannot watch for signals: {error}");
        return ExitCode::FAILURE;
    }
    match demo(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C ends the process without destructors, so what they would do is done here.
fn clean_up_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            netns::remove_own();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn demo(keep: bool) -> Result<()> {
    let start = Instant::now();
    writeln!(io::stdout(), "{}\n", bold("Carom: a FullNAT load balancer, between a client and two real servers"))?;
    writeln!(io::stdout(), "    client ────── balancer ────── router ──┬── rs1   10.20.1.10   fd20:1::10")?;
    writeln!(io::stdout(), "    10.10.0.2     VIP 10.10.0.100          └── rs2   10.20.2.10   fd20:2::10")?;
    writeln!(io::stdout(), "    fd10::2       VIP fd10::100      LIPs 10.20.0.200-203, fd20::200-203\n")?;

    balancer::binary()?;
    let target = target()?;
    if let Some(reason) = target.unavailable() {
        bail!("target {target}: {reason}");
    }
    let lab = Lab::with(Topology::with_target(Arms::Two, Load::Uncounted, target)?, |config, vip| {
        let mut config = all_services(config, vip);
        config.service_mut("http").toa = true;
        config
    })?;
    say("network and balancer", &format!("up in {:.1} s, target {target}", start.elapsed().as_secs_f64()))?;

    let answers = curl_many(&lab)?;
    show_addresses(&lab)?;
    download(&lab)?;
    udp_request(&lab)?;
    let v6 = curl(&lab, 1)?;
    say("IPv6 by curl", &format!("{} answered: \"{v6}\"", lab.service(HTTP)[1]))?;

    summary(&lab, &answers)?;
    ensure!(answers.len() == 2, "only {answers:?} answered");
    writeln!(io::stdout(), "\nDone in {:.1} s.", start.elapsed().as_secs_f64())?;
    try_next(&lab, keep)
}

/// The target that is asked for, or the one that is always there and shows most.
fn target() -> Result<Target> {
    if std::env::var_os("CAROM_TARGET").is_some() { Target::from_env() } else { Ok(Target::Softnic) }
}

/// One request for `/` by curl to the service of the family (0 is IPv4), on a connection of its own.
fn curl(lab: &Lab, family: usize) -> Result<String> {
    let url = format!("http://{}/", lab.service(HTTP)[family]);
    let words = ["curl", "--silent", "--show-error", "--fail", "--globoff", "--max-time", "5", &url];
    Ok(lab.topology.client.exec(&words)?.trim_end().to_owned())
}

fn curl_many(lab: &Lab) -> Result<BTreeMap<String, usize>> {
    let mut by_server = BTreeMap::new();
    for _ in 0..REQUESTS {
        let answer = curl(lab, 0)?;
        let server = answer.split_whitespace().next().context("an empty answer")?;
        *by_server.entry(server.to_owned()).or_insert(0) += 1;
    }
    let shares: Vec<_> = by_server.iter().map(|(server, count)| format!("{server} {count}")).collect();
    say(&format!("{REQUESTS} requests by curl"), &format!("answered: {}", shares.join(", ")))?;
    Ok(by_server)
}

/// What a real server sees of a client: the source of the connection, and the address in the TCP option.
fn show_addresses(lab: &Lab) -> Result<()> {
    let captures =
        [Capture::start(&lab.topology.servers[0], "eth0")?, Capture::start(&lab.topology.servers[1], "eth0")?];
    let answer = curl(lab, 0)?;
    let (server, source) = answer.split_once(' ').context("an answer without an address")?;
    let capture = &captures[usize::from(server == "rs2")];
    let told = capture.wait_for(1, |p| p.tcp().is_some_and(|tcp| tcp.toa().is_some()));
    let (port, ip) = told.first().and_then(|p| p.tcp()?.toa()).context("no TCP option 254 reached the real server")?;
    say("client's address", &format!("{server} sees {source}; TCP option 254 tells it {ip}:{port}"))?;
    Ok(())
}

fn download(lab: &Lab) -> Result<()> {
    let url = format!("http://{}/blob/{LARGE}", lab.service(HTTP)[0]);
    let line = format!("set -o pipefail; curl --silent --show-error --fail --max-time 60 '{url}' | sha256sum");
    let start = Instant::now();
    let output = offload::watched(lab, || lab.topology.client.exec(&["bash", "-c", &line]))?;
    let seconds = start.elapsed().as_secs_f64();
    let sum = output.split_whitespace().next().unwrap_or_default();
    let expected = blob::sha256(Blob::new(LARGE))?.0;
    if sum != expected {
        bail!("the download has SHA-256 {sum}, not {expected}");
    }
    let rate = LARGE as f64 * 8e-6 / seconds;
    let megabytes = LARGE >> 20;
    say(&format!("{megabytes} MiB by curl"), &format!("{rate:.0} Mbit/s, SHA-256 {}… as it should be", &sum[..12]))?;
    Ok(())
}

fn udp_request(lab: &Lab) -> Result<()> {
    for service in lab.service(ECHO) {
        let answer = lab.on_client(|| udp::ask(service, b"hello")).with_context(|| format!("UDP to {service}"))?;
        say("UDP request", &format!("{service} answered: \"{}\"", String::from_utf8_lossy(&answer)))?;
    }
    Ok(())
}

/// The table of what happened.
fn summary(lab: &Lab, answers: &BTreeMap<String, usize>) -> Result<()> {
    let status = lab.balancer.query(&["status"])?;
    let total = |key: &str| -> u64 { status["totals"][key].as_u64().unwrap_or_default() };
    writeln!(
        io::stdout(),
        "\n  {}",
        bold("service   real server             weight   sessions   packets in   packets out")
    )?;
    for row in lab.balancer.rows("servers")? {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_u64().unwrap_or_default();
        writeln!(
            io::stdout(),
            "  {:<9} {:<23} {:>6} {:>10} {:>12} {:>13}",
            text("service"),
            text("address"),
            number("weight"),
            number("sessions_total"),
            number("packets_in"),
            number("packets_out")
        )?;
    }
    let by_server: Vec<_> = answers.iter().map(|(server, count)| format!("{server} {count}")).collect();
    writeln!(io::stdout())?;
    fact("requests by real server", &by_server.join(", "))?;
    fact(
        "sessions",
        &format!("{} made, {} now", total("sessions_created"), total("sessions_v4") + total("sessions_v6")),
    )?;
    fact("packets", &format!("{} received, {} sent", total("rx_packets"), total("tx_packets")))?;
    let drops = lab.balancer.drops()?;
    let list: Vec<_> = drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    offload::summary(lab)?;
    fact("drops", &if list.is_empty() { "none".to_owned() } else { list.join(", ") })?;
    Ok(())
}

/// The lines to try by hand, and, with `keep`, the time to try them.
fn try_next(lab: &Lab, keep: bool) -> Result<()> {
    let binary = balancer::binary()?;
    let carom = format!("{} {{}} --socket {}", binary.display(), lab.balancer.socket());
    let client = format!("ip netns exec {}", lab.topology.client.name());
    let vip = lab.topology.vip();
    if keep {
        writeln!(io::stdout(), "\n{}", bold("Try in another terminal:"))?;
    } else {
        writeln!(
            io::stdout(),
            "\n{}",
            bold("Everything is removed now. With `demo --keep` it stays, and these lines work:")
        )?;
    }
    for line in [
        format!("{client} curl http://{}/", vip.v4),
        format!("{client} curl 'http://[{}]/'", vip.v6),
        format!("ip netns exec {} tcpdump -nvi eth0 port 80", lab.topology.servers[0].name()),
        carom.replace("{}", "sessions"),
        carom.replace("{}", "servers"),
        carom.replace("{}", "status --watch"),
        carom.replace("{}", "drops"),
        carom.replace("{}", "targets"),
    ] {
        writeln!(io::stdout(), "    {line}")?;
    }
    if keep {
        writeln!(io::stdout(), "\nEnter or Ctrl-C removes everything.")?;
        wait_for_enter();
    }
    Ok(())
}

/// Waits for a line; without anybody to write one, for the signal that ends the process.
fn wait_for_enter() {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).unwrap_or(0) == 0 {
        loop {
            thread::park();
        }
    }
}

fn say(what: &str, outcome: &str) -> io::Result<()> {
    let mark = if io::stdout().is_terminal() { "\u{1b}[32m✓\u{1b}[0m" } else { "ok" };
    writeln!(io::stdout(), "  {mark} {what:<22} {outcome}")
}

fn fact(what: &str, value: &str) -> io::Result<()> {
    writeln!(io::stdout(), "  {what:<24} {value}")
}

fn bold(text: &str) -> String {
    if io::stdout().is_terminal() { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}
