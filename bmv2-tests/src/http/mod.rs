//! A small HTTP/1.1 server and client: as much as the tests need, with nothing hidden by a library.

mod client;
mod message;
mod server;

pub use client::{Connection, LoadReport, Transfer, download, get, load, upload};
pub use message::Response;
pub use server::HttpServer;
