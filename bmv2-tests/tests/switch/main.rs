//! What only shows with a switch in front of the slow path: the P4 program on BMv2, real kernel TCP.

mod plumbing;

use std::io::Write;

use bmv2_tests::netns;
use bmv2_tests::target::Target;

/// The target of all tests here.
const TARGET: Target = Target::Bmv2;

/// True, after one visible line, when this machine cannot run them.
fn skipped() -> bool {
    let reason = netns::unavailable().or_else(|| TARGET.unavailable());
    if let Some(reason) = reason {
        // Straight to the descriptor: what goes through `eprintln!` is hidden while a test passes.
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {reason}");
    }
    reason.is_some()
}
