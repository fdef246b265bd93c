//! Writes: updates are encoded when they are submitted, gathered to batches, and several requests are under way at once.
//!
//! [`Writer`] has no task and no lock of its own: whoever owns it submits without waiting and takes results when they
//! are there. Between two updates of one key the later one waits for the answer to the earlier; between keys there is no
//! order, neither within a batch nor among batches (P4Runtime, "Batching and Ordering of Updates").

pub(crate) mod answer;
mod batch;
mod wire;
mod writer;

pub use answer::Outcome;
pub(crate) use wire::encode_reader;
pub use wire::{Action, Entity, Entry, Kind, Match, MatchValue, Param, Update, canonical};
pub use writer::{Settled, WriteConfig, WriteStats, Writer};
