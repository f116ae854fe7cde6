//! Memory for something large that is soon gone again.

use bytes::{BufMut, Bytes};
use memmap2::MmapMut;
use std::io;

/// As many bytes as said, all of which `fill` must write. The system has the memory back as soon as they are dropped: an
/// allocator would keep megabytes for whoever may want as much next, which nobody does on a node at rest. Costs a system call, and a
/// page fault for every page.
///
/// # Errors
/// If the system has no memory.
///
/// # Panics
/// If `fill` has not written all of it, or `bytes` is 0.
pub fn scratch(bytes: usize, fill: impl FnOnce(&mut &mut [u8])) -> io::Result<Bytes> {
    let mut memory = MmapMut::map_anon(bytes)?;
    let mut out = &mut memory[..];
    fill(&mut out);
    assert_eq!(out.remaining_mut(), 0, "all of it was to be written");
    Ok(Bytes::from_owner(memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_written() {
        assert_eq!(scratch(10_000, |out| out.put_bytes(7, 10_000)).unwrap(), [7; 10_000].as_slice());
    }

    #[test]
    #[should_panic = "all of it was to be written"]
    fn is_not_left_half_empty() {
        let _ = scratch(3, |out| out.put_u8(1));
    }
}
