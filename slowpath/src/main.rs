//! The `carom` command.

use std::process::ExitCode;

/// Tables of sessions are read at random, for which ordinary pages are too small.
#[global_allocator]
static ALLOCATOR: dpdk::LargePages = dpdk::LargePages;

fn main() -> ExitCode {
    carom::cli::main()
}
