//! One object of DPDK's exact-match table.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use dpdk_sys as sys;

use super::hash;
use super::program::Layout;

/// A table object. It frees nothing by itself: the pipeline may look into it for longer than any handle lives.
pub(super) struct Object(NonNull<c_void>);

// SAFETY: a table object is memory without an owner among threads; who may touch it when is the business of `Control`.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    /// Makes an empty one; `None` without memory.
    pub(super) fn create(layout: &Layout) -> Option<Object> {
        let mut params = sys::rte_swx_table_params {
            match_type: sys::RTE_SWX_TABLE_MATCH_EXACT,
            key_size: layout.key_bytes,
            key_offset: layout.key_offset,
            // All bits count.
            key_mask0: ptr::null_mut(),
            action_data_size: layout.data_bytes,
            // None is DPDK's CRC-32C.
            hash_func: if layout.key_bytes > hash::LONG { Some(hash::keyed) } else { None },
            // SWX reads the last argument as eight bytes, whatever its width. The entry that is never used has the end of
            // the memory behind it.
            n_keys_max: layout.size + 1,
        };
        // SAFETY: the operations are constants of DPDK, of which `create` is never null; the parameters are copied. No
        // entries to begin with, no arguments, and -1 is any NUMA node.
        let table = unsafe {
            let create = sys::rte_swx_table_exact_match_ops.create?;
            create(&mut params, ptr::null_mut(), ptr::null(), -1)
        };
        NonNull::new(table).map(Object)
    }

    /// What the pipeline knows the object by.
    pub(super) fn raw(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// Adds an entry, or gives one that has the key another action. False when there is no room.
    ///
    /// # Safety
    /// Nobody else uses the object meanwhile. `key` has [`Layout::key_bytes`] and `data` [`Layout::data_bytes`] of the
    /// layout it was made with, and `action` is one of its actions.
    pub(super) unsafe fn add(&self, key: &[u8], action: u32, data: &[u8]) -> bool {
        let mut entry = entry(key);
        entry.action_id = u64::from(action);
        entry.action_data = data.as_ptr().cast_mut();
        // SAFETY: the object lives; key and data are as long as it copies, which is all it does with them.
        unsafe { sys::rte_swx_table_exact_match_ops.add.is_some_and(|add| add(self.raw(), &mut entry) == 0) }
    }

    /// Takes the entry with this key out, if there is one.
    ///
    /// # Safety
    /// As for [`Object::add`].
    pub(super) unsafe fn delete(&self, key: &[u8]) {
        let mut entry = entry(key);
        // SAFETY: the object lives; the key is as long as it reads.
        unsafe {
            if let Some(delete) = sys::rte_swx_table_exact_match_ops.del {
                delete(self.raw(), &mut entry);
            }
        }
    }

    /// The number of the entry with this key. A number stays with its entry and is given to another one after that.
    ///
    /// # Safety
    /// `key` is as [`Object::add`] wants it, and nobody changes the object meanwhile.
    pub(super) unsafe fn find(&self, key: &[u8], layout: &Layout) -> Option<u32> {
        // A lookup finds its key that far behind the address it is given.
        let mut start = key.as_ptr().cast_mut().wrapping_sub(layout.key_offset as usize);
        let (mut action, mut data, mut number, mut hit) = (0, ptr::null_mut(), 0, 0);
        // SAFETY: the object lives; the lookup reads the key and writes the five variables. The one that is done in one
        // step has no mailbox.
        unsafe {
            let lookup = sys::rte_swx_table_exact_match_unoptimized_ops.lkp?;
            lookup(self.raw(), ptr::null_mut(), &mut start, &mut action, &mut data, &mut number, &mut hit);
        }
        // Entries are numbered below their count, which fits.
        (hit != 0).then_some(number as u32)
    }

    /// Frees the object.
    ///
    /// # Safety
    /// Nobody uses it, or will.
    pub(super) unsafe fn free(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(free) = sys::rte_swx_table_exact_match_ops.free {
                free(self.raw());
            }
        }
    }
}

/// An entry with a key and nothing else.
fn entry(key: &[u8]) -> sys::rte_swx_table_entry {
    sys::rte_swx_table_entry {
        node: sys::rte_swx_table_entry__bindgen_ty_1 { tqe_next: ptr::null_mut(), tqe_prev: ptr::null_mut() },
        key: key.as_ptr().cast_mut(),
        key_mask: ptr::null_mut(),
        key_signature: 0,
        key_priority: 0,
        action_id: 0,
        action_data: ptr::null_mut(),
    }
}
