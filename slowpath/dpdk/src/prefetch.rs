//! Asking for a cache line before it is needed.

/// Bytes that come near together.
const LINE: usize = 64;

/// Asks the CPU to bring the cache lines of `value` near, for reading. Has no effect but on time.
#[inline(always)]
pub fn prefetch_read<T>(value: &T) {
    let address: *const u8 = std::ptr::from_ref(value).cast();
    for offset in (0..size_of::<T>()).step_by(LINE) {
        prefetch_address(address.wrapping_add(offset));
    }
}

/// The same for any address; a wrong one does no harm.
#[inline(always)]
pub(crate) fn prefetch_address(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads nothing that a program can see and cannot fault. SSE is part of x86_64.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch is a hint: it reads nothing that a program can see and cannot fault.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
