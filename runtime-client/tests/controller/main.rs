//! The client against the fake target, over real gRPC on loopback.

mod chaos;
mod common;
mod connection;
mod mastership;
mod pipelines;
mod reads;
mod stream;
mod tls;
mod writes;
