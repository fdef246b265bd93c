//! What a pipeline is made from, and how its tables want their entries.

/// A field of a struct.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, without that of the struct.
    pub name: String,
    /// Its width in bits: whole bytes, at most 64 bits.
    pub bits: u32,
}

/// The layout of a header, of the metadata, or of an action's arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Struct {
    /// Its name.
    pub name: String,
    /// Its fields, in order, without gaps.
    pub fields: Vec<Field>,
}

impl Struct {
    /// Bytes it takes.
    pub fn bytes(&self) -> u32 {
        self.fields.iter().map(|field| field.bits / 8).sum()
    }

    /// A field, and the byte it starts at.
    pub fn field(&self, name: &str) -> Option<(&Field, u32)> {
        let mut offset = 0;
        for field in &self.fields {
            if field.name == name {
                return Some((field, offset));
            }
            offset += field.bits / 8;
        }
        None
    }
}

/// An array of 64-bit registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Register {
    /// Its name.
    pub name: String,
    /// How many registers it has.
    pub size: u32,
    /// What each holds in the beginning.
    pub initial: u64,
}

impl Register {
    /// How many there are in memory: SWX takes as many of the lowest bits of an index as it takes for all of them.
    pub(super) fn words(&self) -> usize {
        self.size.next_power_of_two() as usize
    }
}

/// An action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// The struct of its arguments, if it has any.
    pub arguments: Option<String>,
    /// Its instructions.
    pub instructions: Vec<String>,
}

/// What a table may do with an action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableAction {
    /// The action's name.
    pub name: String,
    /// Whether entries may have it.
    pub for_entries: bool,
    /// Whether it may be the default action.
    pub for_default: bool,
}

/// A table. All its match is exact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The fields of its key, as `m.field` or `h.header.field`, all of one struct and without a gap between them there.
    pub key: Vec<String>,
    /// Its actions.
    pub actions: Vec<TableAction>,
    /// The name of the action on a miss. It has no arguments.
    pub default_action: String,
    /// How many entries it has room for.
    pub size: u32,
}

/// A program for the pipeline.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Program {
    /// Layouts.
    pub structs: Vec<Struct>,
    /// Headers: name, and name of the struct.
    pub headers: Vec<(String, String)>,
    /// The struct of the metadata.
    pub metadata: String,
    /// Registers.
    pub registers: Vec<Register>,
    /// Actions.
    pub actions: Vec<Action>,
    /// Tables.
    pub tables: Vec<Table>,
    /// What is done with every packet.
    pub instructions: Vec<String>,
}

impl Program {
    /// The struct of that name.
    pub fn find_struct(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|each| each.name == name)
    }

    /// The struct behind `m` or `h.header`, and the name of the field.
    pub(super) fn resolve<'a>(&self, operand: &'a str) -> Option<(&Struct, bool, &'a str)> {
        if let Some(field) = operand.strip_prefix("m.") {
            return Some((self.find_struct(&self.metadata)?, false, field));
        }
        let (header, field) = operand.strip_prefix("h.")?.split_once('.')?;
        let (_, of) = self.headers.iter().find(|(name, _)| name == header)?;
        Some((self.find_struct(of)?, true, field))
    }
}

/// A value in the bytes of a key or of an action's arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyField {
    /// The field, as in [`Table::key`].
    pub name: String,
    /// Its width in bits.
    pub bits: u32,
    /// The byte of the key it starts at.
    pub offset: u32,
    /// Whether its bytes are in network order; otherwise they are in that of the machine.
    pub network_order: bool,
}

/// An argument of an action.
pub type Argument = KeyField;

/// How a table wants its entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The table's name.
    pub name: String,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Where the key starts in the struct it is taken from.
    pub(super) key_offset: u32,
    /// The fields of the key, in the order of [`Table::key`].
    pub key: Vec<KeyField>,
    /// Bytes of the arguments of its longest action.
    pub data_bytes: u32,
    /// The actions that entries may have: number, name, arguments in order.
    pub actions: Vec<(u32, String, Vec<Argument>)>,
    /// How many entries it has room for.
    pub size: u32,
}
