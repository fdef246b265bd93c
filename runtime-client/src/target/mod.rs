//! What every P4Runtime target needs, whatever its tables are made of.

mod arbitration;

pub use arbitration::{Arbitration, Notices, StreamId};

pub use crate::write::answer::pack_errors;
