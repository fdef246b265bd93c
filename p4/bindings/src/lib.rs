//! The P4 program as Rust sees it: a struct per table key, an enum per table's actions, the numbers of drops and punts,
//! the tag of punt and inject, and the compiled program itself.
//!
//! [`generated`] is made from the compiler's P4Info and from `p4/core/constants.p4` and checked in; a test tells when it
//! is stale. Nothing here speaks P4Runtime: keys and actions turn into field numbers and byte strings and back, and
//! whoever has a message puts them in.
//!
//! ```
//! use carom_p4::{Action, Key, NexthopAction, NexthopKey};
//!
//! let key = NexthopKey { nexthop: 7 };
//! assert_eq!(NexthopKey::TABLE.name, "nexthop");
//! let fields = key.fields();
//! assert_eq!(NexthopKey::from_fields(fields.iter().map(|(id, bytes)| (*id, bytes.as_ref()))), Ok(key));
//!
//! let action = NexthopAction::Forward { smac: [2, 0, 0, 0, 0, 1], dmac: [2, 0, 0, 0, 0, 2], port: 3 };
//! let params = action.params();
//! assert_eq!(params[2].1.as_ref(), [3]);
//! assert_eq!(NexthopAction::from_params(action.id(), params.iter().map(|(id, b)| (*id, b.as_ref()))), Ok(action));
//! ```

pub mod artifacts;
#[rustfmt::skip]
pub mod generated;
#[cfg(feature = "testing")]
pub mod simple_switch;
mod table;
mod tag;
mod value;

pub use generated::*;
pub use table::{Action, Key, Table};
pub use tag::{Tag, TagSyntax, inject_to_nexthop, inject_to_port};
pub use value::{Bytes, DecodeError, Fields};
