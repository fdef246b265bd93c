//! What every P4Runtime target needs, whatever its tables are made of.

mod arbitration;
mod streams;

pub use arbitration::{Arbitration, Notices, StreamId};
pub use streams::{Controlled, Messages, PacketRefusal, Streams, hear};

pub use crate::write::answer::pack_errors;
