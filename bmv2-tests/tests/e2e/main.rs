//! The end-to-end suite; see the library's documentation.

mod network;

use std::io::Write;

use bmv2_tests::netns;

/// True, after one visible line, when this machine cannot run the suite.
fn skipped() -> bool {
    let Some(reason) = netns::unavailable() else {
        return false;
    };
    // Straight to the descriptor: what goes through `eprintln!` is hidden while a test passes.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {reason}");
    true
}
