//! The balancer under test.
