//! Keys and actions of all static tables, as one type each.

use carom_p4::{
    InjectKey, Key, LocalV4Key, LocalV6Key, NexthopKey, PairIdV4Key, PairV4Key, PortKey, ServiceAddrV4Key,
    ServiceIdV4Key, ServiceV4Key, ServiceV6Key, SlowpathKey, Table,
};
use runtime_client::proto::p4::v1::TableEntry;
use runtime_client::write::Entry;

use crate::offload::wire::{action_of, key_of, with_entry};

macro_rules! tables {
    ($($name:ident: $key:ty,)*) => {
        /// Key of an entry of a static table.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum RowKey { $(
            #[doc = concat!("Of [`", stringify!($key), "`]'s table.")]
            $name($key),
        )* }

        /// Action of an entry of a static table.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum RowAction { $(
            #[doc = concat!("Of [`", stringify!($key), "`]'s table.")]
            $name(<$key as Key>::Action),
        )* }

        impl RowKey {
            /// Its table.
            pub fn table(&self) -> Table {
                match self { $(RowKey::$name(_) => <$key>::TABLE,)* }
            }

            /// Hands over the entry with this action.
            pub fn with<R>(&self, action: Option<&RowAction>, f: impl FnOnce(Entry<'_>) -> R) -> R {
                match (self, action) {
                    $(
                        (RowKey::$name(key), Some(RowAction::$name(action))) => with_entry(key, Some(action), 0, f),
                        (RowKey::$name(key), _) => with_entry(key, None, 0, f),
                    )*
                }
            }
        }

        /// Key and action of an entry as it was read; none: it is of no static table.
        pub fn row_of(entry: &TableEntry) -> Option<(RowKey, RowAction)> {
            $(
                if entry.table_id == <$key>::TABLE.id {
                    return Some((RowKey::$name(key_of(entry)?), RowAction::$name(action_of(entry)?)));
                }
            )*
            None
        }
    };
}

tables! {
    Nexthop: NexthopKey,
    ServiceV4: ServiceV4Key,
    ServiceV6: ServiceV6Key,
    LocalV4: LocalV4Key,
    LocalV6: LocalV6Key,
    Slowpath: SlowpathKey,
    Inject: InjectKey,
    Port: PortKey,
    ServiceIdV4: ServiceIdV4Key,
    PairIdV4: PairIdV4Key,
    PairV4: PairV4Key,
    ServiceAddrV4: ServiceAddrV4Key,
}

impl RowKey {
    /// It is of a small table of the program by ids.
    pub fn is_small(&self) -> bool {
        use RowKey::{PairIdV4, PairV4, ServiceAddrV4, ServiceIdV4};
        matches!(self, ServiceIdV4(_) | PairIdV4(_) | PairV4(_) | ServiceAddrV4(_))
    }

    /// Flow entries name it.
    pub fn is_named(&self) -> bool {
        matches!(self, RowKey::Nexthop(_)) || self.is_small()
    }

    /// Entries of its table have a direct meter.
    pub fn has_meter(&self) -> bool {
        matches!(self, RowKey::ServiceV4(_) | RowKey::ServiceV6(_))
    }
}
