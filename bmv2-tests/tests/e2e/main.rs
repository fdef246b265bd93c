//! The end-to-end suite; see the library's documentation.

mod address;
mod bytes;
mod files;
mod http;
mod icmp;
mod lifecycle;
mod neighbors;
mod network;
mod refused;
mod reload;
mod sessions;
mod transfer;
mod udp;

use std::io::Write;

use bmv2_tests::netns;
use bmv2_tests::target::Target;

/// True, after one visible line, when this machine cannot run the suite.
fn skipped() -> bool {
    let target = Target::from_env().expect("a target of the suite in CAROM_TARGET");
    netns::unavailable().or_else(|| target.unavailable()).inspect(|reason| skip(reason)).is_some()
}

/// Says that the running test is skipped.
fn skip(reason: &str) {
    // Straight to the descriptor: what goes through `eprintln!` is hidden while a test passes.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {reason}");
}
