//! A P4Runtime controller library (P4Runtime 1.4 and later), on tokio and tonic, of use without the rest of Carom.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use runtime_client::write::{Action, Entry, Match, MatchValue, Param, Update, WriteConfig};
//! use runtime_client::{Address, Client, Config, Query, Standing};
//!
//! let (client, _events) = Client::start(Config::new(Address::tcp("127.0.0.1:9559"), 1))?;
//! client.wait_for(Standing::is_primary).await;
//!
//! let mut writer = client.writer(WriteConfig::default());
//! let matches = [Match { field_id: 1, value: MatchValue::Exact(&[10, 0, 0, 1]) }];
//! let params = [Param { id: 1, value: &[7] }];
//! let action = Some(Action { id: 0x0100_0001, params: &params });
//! let entry = Entry { table_id: 0x0200_0001, matches: &matches, action, ..Entry::default() };
//! writer.submit(1, &[Update::insert(entry)])?;
//! let mut settled = Vec::new();
//! writer.settle(&mut settled).await;
//!
//! for entry in client.read(Query::table(0x0200_0001).with_counters()).await?.all().await? {
//!     println!("{:?}", entry.counter_data);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`] keeps a connection up, stands for election, and knows at any time where it stands ([`Standing`]).
//! - [`Client::bring_up`] sees to it that the target runs a program, and keeps one that runs already.
//! - [`write::Writer`] batches updates and tells what became of each.
//! - [`Client::read`] streams entries, [`Client::look_up`] is for many whose keys are known, [`Events`] brings packets and notices.
//! - `target` (feature `target`) is what a target needs of the same standard: the arbitration.
//! - `fake` (feature `fake-target`) is a target in the same process, with faults on demand.

mod backoff;
mod client;
mod codec;
mod connect;
mod election;
mod error;
#[cfg(feature = "fake-target")]
pub mod fake;
mod key;
mod link;
pub mod pipeline;
mod read;
mod session;
#[cfg(feature = "target")]
pub mod target;
pub mod write;

pub use p4runtime_proto as proto;
pub use tonic::Code;

pub use backoff::Backoff;
pub use client::{Changes, Client, Config, Event, Events, Stats};
pub use connect::{Address, Tls};
pub use election::{ElectionId, Role, Standing};
pub use error::{ConnectError, PacketError, PipelineError, Refusal, RequestError, SubmitError};
pub use key::{Change, EntryKey, difference};
pub use read::{FromEntity, Lookup, Malformed, Page, Pages, Query, Reading, SeenEntry};
