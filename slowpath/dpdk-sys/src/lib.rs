//! Raw bindings to libdpdk, generated from the installed headers, and a C shim for what cannot be bound as it is
//! (`c/shim.h`). Nothing here is safe; the `dpdk` crate makes it so.
#![allow(unsafe_code)]

#[allow(
    // C names and comments, as they are in DPDK's headers.
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    // Only a part of what the headers declare is used.
    dead_code,
    // Generated code carries no SAFETY lines and is not written for clippy.
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
