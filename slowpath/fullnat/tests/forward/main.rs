//! The packet's way from outside: forwarders in a simulated network whose clock, frames and workers the tests hold. What
//! comes out is compared byte for byte with frames built from scratch, and after each step the whole set of counters that
//! changed with the set that should have.

mod admission;
mod adopt;
mod books;
mod bursts;
mod consistency;
mod ends;
mod evict;
mod icmp;
mod link;
mod noise;
mod offload;
mod offload_chaos;
mod offload_eligible;
mod offload_model;
mod rss;
mod sim;
mod strays;
mod switch;
mod talk;
mod world;

mod tcp_life;
mod toa;
