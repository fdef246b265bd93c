//! The control side of a pipeline: entries of its tables, and its registers.

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dpdk_sys as sys;

use super::pipeline::Shared;
use super::program::{Layout, Register};
use crate::os;

/// Why a write was not done. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// The table has as many entries as it may, or too many whose keys fall together.
    Full,
    /// There is an entry with this key already.
    Exists,
    /// There is no entry with this key.
    Missing,
    /// The last switch-over is still to come: [`Control::publish`] did not see its end.
    Pending,
    /// There is no such table or action, or the key or the data have not the length that [`Layout`] says.
    Shape,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteError::Full => "the table is full",
            WriteError::Exists => "there is an entry with this key",
            WriteError::Missing => "there is no entry with this key",
            WriteError::Pending => "the thread of the pipeline has yet to exchange its tables",
            WriteError::Shape => "this is no entry of this table",
        })
    }
}

impl std::error::Error for WriteError {}

/// The pipeline did not come to exchange its tables: nobody runs it, or its thread was kept from running. What was asked
/// for stands, and is done when it runs again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread of the pipeline does not run")
    }
}

impl std::error::Error for Stalled {}

/// How long a writer waits without letting others run: a busy pipeline takes less to exchange its tables.
const SPIN: Duration = Duration::from_micros(100);

/// A write that one of the two sets of tables has and the other not yet.
#[derive(Clone, Copy)]
struct Write {
    table: usize,
    /// The action, or none for a deletion.
    action: Option<u32>,
    /// Where its key is in the bytes of all, and behind it its data.
    at: usize,
}

/// The control side of a pipeline.
///
/// Writes go to the spare set of tables: the program sees them after [`Control::publish`].
pub struct Control {
    shared: Arc<Shared>,
    layouts: Vec<Layout>,
    /// Entries of each table.
    counts: Vec<u32>,
    registers: Vec<(CString, Register)>,
    /// Writes since the last switch-over that was asked for.
    writes: Vec<Write>,
    /// Their keys and data.
    bytes: Vec<u8>,
    /// Whether there are deletions among them, for each table.
    deleted: Vec<bool>,
    /// A switch-over was asked for, and the writes before it have yet to be done to the other set.
    pending: bool,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>, layouts: Vec<Layout>, registers: &[Register]) -> Control {
        let (counts, deleted) = (vec![0; layouts.len()], vec![false; layouts.len()]);
        let registers = registers.iter().map(|register| (os::c_string(&register.name), register.clone())).collect();
        Control { shared, layouts, counts, registers, writes: Vec::new(), bytes: Vec::new(), deleted, pending: false }
    }

    /// The tables, in the program's order, which is how they are numbered.
    pub fn tables(&self) -> &[Layout] {
        &self.layouts
    }

    /// How many entries a table has, with what is not published yet; 0 when there is no such table.
    pub fn count(&self, table: usize) -> u32 {
        self.counts.get(table).copied().unwrap_or(0)
    }

    /// Whether entries of this table were deleted and the program may still find them. A number that a new entry gets
    /// before the next [`Control::publish`] may be one that packets count for.
    pub fn has_unpublished_deletions(&self, table: usize) -> bool {
        self.deleted.get(table).is_some_and(|deleted| *deleted)
    }

    /// The number of the entry with this key. It stays with the entry and is given to another one after that; the
    /// program's `entryid` is one more.
    pub fn find(&self, table: usize, key: &[u8]) -> Option<u32> {
        let layout = self.layouts.get(table).filter(|layout| key.len() == layout.key_bytes as usize)?;
        // While a switch-over is to come, the other set is the one with all writes. Nobody writes to either then.
        let set = if self.pending { 1 - self.shared.spare() } else { self.shared.spare() };
        // SAFETY: the key is as long as it should be. Only this object changes tables, and `&self` says that it does not.
        unsafe { self.shared.object(table, set).find(key, layout) }
    }

    /// Adds an entry and returns its number. `data` has [`Layout::data_bytes`], whatever its action needs of it.
    pub fn insert(&mut self, table: usize, key: &[u8], action: u32, data: &[u8]) -> Result<u32, WriteError> {
        let known = self.check(table, key, action, data)?;
        if known.is_some() {
            return Err(WriteError::Exists);
        }
        if self.counts[table] == self.layouts[table].size {
            return Err(WriteError::Full);
        }
        self.add(table, key, action, data)?;
        self.counts[table] += 1;
        // It was added just now.
        self.find(table, key).ok_or(WriteError::Full)
    }

    /// Gives an entry another action and data. Returns its number, which stays.
    pub fn modify(&mut self, table: usize, key: &[u8], action: u32, data: &[u8]) -> Result<u32, WriteError> {
        let number = self.check(table, key, action, data)?.ok_or(WriteError::Missing)?;
        self.add(table, key, action, data)?;
        Ok(number)
    }

    /// Deletes an entry. Returns the number it had.
    pub fn delete(&mut self, table: usize, key: &[u8]) -> Result<u32, WriteError> {
        if self.pending {
            return Err(WriteError::Pending);
        }
        let number = self.find(table, key).ok_or(WriteError::Missing)?;
        // SAFETY: nothing is pending, so the pipeline does not look into the spare set; `find` looked at the key's length.
        unsafe { self.shared.object(table, self.shared.spare()).delete(key) };
        self.log(table, None, key, &[]);
        self.counts[table] -= 1;
        self.deleted[table] = true;
        Ok(number)
    }

    /// Looks at all that the table's object takes as it is given. Returns the number of the entry that has the key.
    fn check(&self, table: usize, key: &[u8], action: u32, data: &[u8]) -> Result<Option<u32>, WriteError> {
        let layout = self.layouts.get(table).ok_or(WriteError::Shape)?;
        let known_action = layout.actions.iter().any(|(number, ..)| *number == action);
        if !known_action || key.len() != layout.key_bytes as usize || data.len() != layout.data_bytes as usize {
            return Err(WriteError::Shape);
        }
        if self.pending { Err(WriteError::Pending) } else { Ok(self.find(table, key)) }
    }

    /// Only after `check`.
    fn add(&mut self, table: usize, key: &[u8], action: u32, data: &[u8]) -> Result<(), WriteError> {
        // SAFETY: nothing is pending, so the pipeline does not look into the spare set; lengths and action are right.
        if !unsafe { self.shared.object(table, self.shared.spare()).add(key, action, data) } {
            return Err(WriteError::Full);
        }
        self.log(table, Some(action), key, data);
        Ok(())
    }

    fn log(&mut self, table: usize, action: Option<u32>, key: &[u8], data: &[u8]) {
        self.writes.push(Write { table, action, at: self.bytes.len() });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(data);
    }

    /// Makes the writes seen by the program, all at once, and waits until no packet is under way that does not see them.
    ///
    /// `wait` is called again and again meanwhile, but not in the first moment; it is there to let other threads run, or to run the pipeline where
    /// this thread has it too. After `patience` this gives up waiting: no write is possible then until another call has
    /// seen the end.
    pub fn publish(&mut self, patience: Duration, mut wait: impl FnMut()) -> Result<(), Stalled> {
        if !self.pending {
            if self.writes.is_empty() {
                return Ok(());
            }
            self.shared.ask();
            self.pending = true;
        }
        let start = Instant::now();
        while !self.shared.is_settled() {
            let waited = start.elapsed();
            if waited > patience {
                return Err(Stalled);
            }
            // Who gives its CPU away gets it back late where there is other work.
            if waited < SPIN { std::hint::spin_loop() } else { wait() }
        }
        self.pending = false;
        self.repeat_writes();
        Ok(())
    }

    /// Does all writes once more, to the set that has become free. It held the same entries in the same places as the
    /// other one before the first of them, so that each entry gets the same number in both.
    fn repeat_writes(&mut self) {
        let set = self.shared.spare();
        for Write { table, action, at } in self.writes.drain(..) {
            let layout = &self.layouts[table];
            let (key, rest) = self.bytes[at..].split_at(layout.key_bytes as usize);
            let object = self.shared.object(table, set);
            // SAFETY: nothing is pending; the lengths were looked at when it was done first.
            unsafe {
                match action {
                    Some(action) => {
                        let added = object.add(key, action, &rest[..layout.data_bytes as usize]);
                        debug_assert!(added, "what the one object has room for, the other has too");
                    }
                    None => object.delete(key),
                }
            }
        }
        self.bytes.clear();
        self.deleted.fill(false);
    }

    /// The register arrays, in the program's order, which is how they are numbered.
    pub fn registers(&self) -> impl ExactSizeIterator<Item = &Register> {
        self.registers.iter().map(|(_, register)| register)
    }

    /// Reads a register; `None` when there is none with this index. The pipeline may change it at the same time.
    pub fn read_register(&self, array: usize, index: u32) -> Option<u64> {
        if let Some(generated) = self.shared.generated() {
            return generated.read(array, index);
        }
        let (name, _) = self.registers.get(array)?;
        let mut value = 0;
        // SAFETY: the pipeline is built; the name ends with a zero byte. A register is one word.
        let ret =
            unsafe { sys::rte_swx_ctl_pipeline_regarray_read(self.shared.raw(), name.as_ptr(), index, &mut value) };
        (ret == 0).then_some(value)
    }

    /// Writes a register, and says whether there is one with this index. What the pipeline does to the same register at the
    /// same time may undo it.
    pub fn write_register(&mut self, array: usize, index: u32, value: u64) -> bool {
        if let Some(generated) = self.shared.generated() {
            return generated.write(array, index, value);
        }
        // SAFETY: as above.
        self.registers.get(array).is_some_and(|(name, _)| unsafe {
            sys::rte_swx_ctl_pipeline_regarray_write(self.shared.raw(), name.as_ptr(), index, value) == 0
        })
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("counts", &self.counts).field("pending", &self.pending).finish_non_exhaustive()
    }
}
