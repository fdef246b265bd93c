//! The balancer's configuration.
