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

use bmv2_tests::target::Target;

/// True, after one visible line, when this machine cannot run the suite.
fn skipped() -> bool {
    Target::from_env().expect("a target of the suite in CAROM_TARGET").skips()
}
