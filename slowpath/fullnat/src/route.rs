//! Static routing: connected prefixes, static routes and default gateways.

/// The routes of the balancer.
#[derive(Clone, Debug, Default)]
pub struct Routes {}
