//! What all tables have in common, and the macros the generated file is written in.

use std::fmt::Debug;
use std::hash::Hash;

use crate::value::{DecodeError, Fields};

/// A table of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its P4Runtime id.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    /// Entries it has room for, on every architecture.
    pub size: u64,
}

/// The key of a table; all its fields match exactly.
pub trait Key: Copy + Eq + Hash + Debug {
    /// The table.
    const TABLE: Table;
    /// What its entries may do.
    type Action: Action;

    /// The key as match fields: id and value.
    fn fields(&self) -> Fields;

    /// The key of an entry with these match fields, in any order.
    ///
    /// # Errors
    ///
    /// The fields are not those of the table.
    fn from_fields<'a>(fields: impl IntoIterator<Item = (u32, &'a [u8])>) -> Result<Self, DecodeError>;
}

/// The actions of a table.
pub trait Action: Copy + Eq + Debug {
    /// P4Runtime id of the action.
    fn id(&self) -> u32;

    /// The action's parameters: id and value.
    fn params(&self) -> Fields;

    /// The action with this id and these parameters, in any order.
    ///
    /// # Errors
    ///
    /// The table has no such action, or the parameters are not those of the action.
    fn from_params<'a>(id: u32, params: impl IntoIterator<Item = (u32, &'a [u8])>) -> Result<Self, DecodeError>;
}

/// A table: its key, its id, name and size, and the enum of its actions.
macro_rules! table {
    ($(#[$doc:meta])* $key:ident -> $action:ident, $id:literal, $name:literal, $size:literal,
     { $( $field:ident: $type:ty = $ids:expr, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct $key { $( #[doc = concat!("Match field `", stringify!($field), "`.")] pub $field: $type, )* }

        impl crate::table::Key for $key {
            const TABLE: crate::table::Table = crate::table::Table { id: $id, name: $name, size: $size };
            type Action = $action;

            fn fields(&self) -> crate::value::Fields {
                let mut fields = crate::value::Fields::new();
                $( crate::value::Value::put(self.$field, &$ids, &mut fields); )*
                fields
            }

            fn from_fields<'a>(
                fields: impl IntoIterator<Item = (u32, &'a [u8])>,
            ) -> Result<Self, crate::value::DecodeError> {
                let mut received = crate::value::Received::new(fields)?;
                let key = $key { $( $field: crate::value::Value::take(&$ids, &mut received)?, )* };
                received.finish()?;
                Ok(key)
            }
        }
    };
}

/// The actions of a table.
macro_rules! actions {
    ($(#[$doc:meta])* $action:ident {
        $( $variant:ident = $id:literal { $( $param:ident: $type:ty = $ids:expr, )* } )*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[allow(missing_docs)]
        pub enum $action { $( $variant { $( $param: $type, )* }, )* }

        impl crate::table::Action for $action {
            fn id(&self) -> u32 {
                match self { $( $action::$variant { .. } => $id, )* }
            }

            // An action may have no parameters.
            #[allow(unused_mut)]
            fn params(&self) -> crate::value::Fields {
                let mut fields = crate::value::Fields::new();
                match *self {
                    $( $action::$variant { $( $param, )* } => {
                        $( crate::value::Value::put($param, &$ids, &mut fields); )*
                    } )*
                }
                fields
            }

            #[allow(unused_mut)]
            fn from_params<'a>(
                id: u32,
                params: impl IntoIterator<Item = (u32, &'a [u8])>,
            ) -> Result<Self, crate::value::DecodeError> {
                let mut received = crate::value::Received::new(params)?;
                let action = match id {
                    $( $id => $action::$variant { $( $param: crate::value::Value::take(&$ids, &mut received)?, )* }, )*
                    other => return Err(crate::value::DecodeError::Action(other)),
                };
                received.finish()?;
                Ok(action)
            }
        }
    };
}

/// An enum of numbers that never change, with a name for programs and a line for people.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident { $( $number:literal $variant:ident $label:literal $text:literal; )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $( #[doc = $text] $variant = $number, )* }

        impl $name {
            /// All of them, by number.
            pub const ALL: &[$name] = &[$( $name::$variant, )*];

            /// The one with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $( $number => Some($name::$variant), )* _ => None }
            }

            /// Its name in metrics and JSON.
            pub fn name(self) -> &'static str {
                match self { $( $name::$variant => $label, )* }
            }

            /// What it means, in a line for people.
            pub fn text(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }
        }
    };
}

pub(crate) use {actions, numbers, table};
