//! Huge pages for large tables.
//!
//! A worker's tables are read at random, a line here and a line there. On pages of 4 KiB the CPU has to look up where
//! nearly each of those pages is, in tables that are not in its caches either; on pages of 2 MiB it knows.
//!
//! These are transparent huge pages (`Documentation/admin-guide/mm/transhuge.rst` of Linux): as fast as reserved ones,
//! which stay for DPDK's buffers, as many as the operator reserved for those.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::fs;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Size and alignment of a huge page.
const HUGE: usize = 2 << 20;
/// Allocations from here on have memory of their own.
const LARGE: usize = HUGE;

/// Bytes in large allocations.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// An allocator that puts allocations of 2 MiB and more on huge pages where the kernel gives them, and leaves all others
/// to the system's. To be made the program's with `#[global_allocator]`.
#[derive(Clone, Copy, Debug)]
pub struct LargePages;

/// What large allocations are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagesReport {
    /// Bytes in large allocations, whether touched yet or not.
    pub large: usize,
    /// Bytes of the process on transparent huge pages now: they come when memory is first touched.
    pub huge: usize,
    /// Whether the kernel gives transparent huge pages to those who ask.
    pub enabled: bool,
}

/// Of the large allocations, what was touched and what it lies on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TouchedPages {
    /// Bytes that were touched.
    pub resident: usize,
    /// Bytes of them on transparent huge pages.
    pub huge: usize,
}

impl TouchedPages {
    /// By `smaps` (proc_pid_smaps(5)): the mappings that asked for huge pages are those of large allocations.
    fn parse(smaps: &str) -> Self {
        let (mut all, mut one) = (TouchedPages::default(), TouchedPages::default());
        let kilobytes =
            |line: &str| line.trim().strip_suffix(" kB").and_then(|kb| kb.parse::<usize>().ok()).unwrap_or(0);
        for line in smaps.lines() {
            match line.split_once(':') {
                Some(("Rss", rest)) => one.resident = kilobytes(rest) << 10,
                Some(("AnonHugePages", rest)) => one.huge = kilobytes(rest) << 10,
                // The last of each mapping.
                Some(("VmFlags", flags)) => {
                    let asked = flags.split_whitespace().any(|flag| flag == "hg");
                    let TouchedPages { resident, huge } = std::mem::take(&mut one);
                    if asked {
                        all = TouchedPages { resident: all.resident + resident, huge: all.huge + huge };
                    }
                }
                _ => {}
            }
        }
        all
    }
}

impl fmt::Display for TouchedPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.huge as f64 / self.resident.max(1) as f64;
        match share {
            // What is left at an end is on ordinary pages.
            0.95.. => f.write_str("transparent 2M"),
            0.05.. => write!(f, "transparent 2M {:.0} %, 4K the rest", 100.0 * share),
            _ => f.write_str("4K"),
        }
    }
}

impl fmt::Display for PagesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (large, huge) = (self.large.div_ceil(1 << 20), self.huge >> 20);
        match (self.enabled, self.large) {
            (_, 0) => f.write_str("none that are large"),
            (true, _) => write!(f, "{large} MB reserved, {huge} MB on transparent huge pages by now"),
            (false, _) => write!(
                f,
                "{large} MB on ordinary pages, which costs speed: /sys/kernel/mm/transparent_hugepage/enabled is \"never\""
            ),
        }
    }
}

impl LargePages {
    /// What there is now. Reads files of the kernel.
    pub fn report() -> PagesReport {
        // One of "always", "madvise" and "never" is in brackets.
        let mode = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("AnonHugePages:"));
        let kilobytes: usize = line.and_then(|kb| kb.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0);
        PagesReport {
            large: MAPPED.load(Ordering::Relaxed),
            huge: kilobytes * 1024,
            enabled: mode.is_ok_and(|mode| !mode.contains("[never]")),
        }
    }
}

impl LargePages {
    /// What is touched now. Reads files of the kernel.
    pub fn touched() -> TouchedPages {
        TouchedPages::parse(&fs::read_to_string("/proc/self/smaps").unwrap_or_default())
    }
}

fn is_large(layout: &Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= HUGE
}

/// Maps zeroed memory of `size` bytes at an address that is a multiple of [`HUGE`]; null when there is none. The kernel puts
/// each whole huge page's worth on one; what is left at the end stays on small pages.
fn map(size: usize) -> *mut u8 {
    let Some(wanted) = size.checked_add(HUGE) else { return ptr::null_mut() };
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory anywhere; nothing that exists is touched.
    let start = unsafe { libc::mmap(ptr::null_mut(), wanted, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    let start: *mut u8 = start.cast();
    let before = start.align_offset(HUGE);
    let used = size.next_multiple_of(page_size());
    // SAFETY: `before` is less than HUGE, so all is inside what was mapped, in whole pages: those in front and behind are
    // given back, and advice changes nothing that a program can see.
    unsafe {
        let aligned = start.add(before);
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        if wanted > before + used {
            libc::munmap(aligned.add(used).cast(), wanted - before - used);
        }
        libc::madvise(aligned.cast(), used, libc::MADV_HUGEPAGE);
        MAPPED.fetch_add(used, Ordering::Relaxed);
        aligned
    }
}

/// # Safety
/// [`map`] gave this for this size, and nobody uses it any more.
unsafe fn unmap(start: *mut u8, size: usize) {
    let used = size.next_multiple_of(page_size());
    // SAFETY: the caller's promise; these are the pages that `map` left.
    unsafe { libc::munmap(start.cast(), used) };
    MAPPED.fetch_sub(used, Ordering::Relaxed);
}

fn page_size() -> usize {
    // SAFETY: no preconditions. The page size is known on every system; 4096 is what nearly all have.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

// SAFETY: each call goes to the system's allocator or to the kernel, decided by the layout alone, so that what one gave
// comes back to it. `map` gives memory of at least the size, aligned to HUGE, which `is_large` makes sure is enough.
unsafe impl GlobalAlloc for LargePages {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise about the layout.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise about the layout.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: it came from here with this layout, so from where the layout says.
        unsafe { if is_large(&layout) { unmap(memory, layout.size()) } else { System.dealloc(memory, layout) } }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size, rounded up to the alignment, is possible.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller's promises; both regions have the lesser of the sizes, and are two.
        unsafe {
            if !is_large(&layout) && !is_large(&wanted) {
                return System.realloc(memory, layout, size);
            }
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(memory, moved, size.min(layout.size()));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All tests of this file run on it.
    #[global_allocator]
    static ALLOCATOR: LargePages = LargePages;

    #[test]
    fn what_grows_and_shrinks_over_the_threshold_keeps_its_bytes() {
        let mut bytes: Vec<u8> = Vec::new();
        let byte = |at: usize| (at / 7) as u8;
        for len in [1, LARGE / 2, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 4097, LARGE, LARGE - 1, 10] {
            bytes.truncate(len);
            bytes.shrink_to_fit();
            bytes.extend((bytes.len()..len).map(byte));
            assert!(bytes.iter().enumerate().all(|(at, &b)| b == byte(at)), "{len}");
        }
    }

    #[test]
    fn large_memory_is_aligned_zeroed_and_given_back() {
        let before = LargePages::report().large;
        let zeroed = vec![0_u64; 16 * LARGE / 8];
        assert_eq!(zeroed.as_ptr().align_offset(HUGE), 0);
        assert!(zeroed.iter().all(|&word| word == 0));
        assert!(LargePages::report().large >= 16 * LARGE);
        drop(zeroed);
        // Other tests allocate at the same time, not as much all together: twice the largest vector that grows there, and
        // what is touched.
        assert!(LargePages::report().large < before + 16 * LARGE);
    }

    #[test]
    fn too_much_is_refused() {
        assert!(Vec::<u8>::new().try_reserve(isize::MAX as usize).is_err());
    }

    #[test]
    fn mappings_that_asked_for_huge_pages_count() {
        let smaps = "7f00-7f01 rw-p 00000000 00:00 0 \nRss:   4096 kB\nAnonHugePages:    4096 kB\nVmFlags: rd wr hg \n\
                     7f02-7f03 rw-p 00000000 00:00 0 [heap]\nRss:   100 kB\nAnonHugePages:    0 kB\nVmFlags: rd wr mr \n\
                     7f04-7f05 rw-p 00000000 00:00 0 \nRss:   4096 kB\nAnonHugePages:    2048 kB\nVmFlags: rd hg sd\n";
        let touched = TouchedPages::parse(smaps);
        assert_eq!(touched, TouchedPages { resident: 8 << 20, huge: 6 << 20 });
        assert_eq!(touched.to_string(), "transparent 2M 75 %, 4K the rest");
        assert_eq!(TouchedPages { resident: 100, huge: 0 }.to_string(), "4K");
        assert_eq!(TouchedPages { resident: 100, huge: 99 }.to_string(), "transparent 2M");
    }

    #[test]
    fn touched_memory_is_on_huge_pages_where_the_kernel_gives_them() {
        let touched = vec![1_u8; 4 * LARGE];
        let report = LargePages::report();
        // Free memory may be in pieces, so that there is not always one; but it is never counted where there is none.
        assert!(report.enabled || report.huge == 0, "{report:?}");
        assert_eq!(touched[LARGE], 1);
    }
}
