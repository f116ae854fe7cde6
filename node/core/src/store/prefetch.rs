//! Asks the processor to bring memory into its caches before it is needed, so that it waits for many places at once instead of
//! for one after the other.

#![allow(unsafe_code)]

/// Bytes of a line of the caches on the processors that this is for.
const LINE_BYTES: usize = 64;

/// Begins to fetch the line in which `of` begins, and goes on at once. A hint: nothing changes, and on processors other than
/// x86-64 nothing happens.
pub(crate) fn prefetch<T>(of: &T) {
    line(std::ptr::from_ref(of).cast());
}

/// As [`prefetch`], for all lines of these bytes.
pub(crate) fn prefetch_bytes(bytes: &[u8]) {
    bytes.chunks(LINE_BYTES).for_each(|chunk| line(chunk.as_ptr()));
    // The bytes needn't begin where a line does.
    if let Some(last) = bytes.last() {
        line(last);
    }
}

#[inline]
fn line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of SSE, which every x86-64 processor has. It reads nothing that the program can see, and
    // doesn't fault, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
