//! The TCP state machine.

/// Session timeouts by state, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {}
