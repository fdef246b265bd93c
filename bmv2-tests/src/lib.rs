//! The end-to-end harness: network namespaces, the balancer in one of them, and the peers that talk through it.
//!
//! A [`Topology`](topology::Topology) is a small network of kernel hosts: a client, a router and two real servers in two
//! subnets, with a namespace between them for the balancer. A [`Balancer`](balancer::Balancer) runs the real `carom`
//! binary in that namespace. Peers are threads of the test process that have entered a host's namespace
//! ([`Netns::run`](netns::Netns::run)): ordinary sockets, no helper processes to lose.
//!
//! The data plane under test is chosen by the environment variable `CAROM_TARGET` and nothing else; see
//! [`target`]. With a [`Switch`](switch::Switch) it is in the balancer's namespace too, between the slow path and the cables.

pub mod balancer;
pub mod blob;
pub mod capture;
pub mod churn;
pub mod config;
pub mod control;
pub mod exec;
pub mod http;
pub mod icmp;
pub mod lab;
pub mod netns;
pub mod packet;
pub mod pcap;
pub mod raw;
pub mod switch;
pub mod target;
pub mod topology;
pub mod udp;
