//! The admin API and the commands that read it, against a balancer made by hand: real sockets, real HTTP, and the real
//! `carom` binary, but no worker.

mod api;
mod cli;
mod docs;
mod fake;
mod metrics;
