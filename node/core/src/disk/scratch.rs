//! Memory for something large that is soon gone again.

use bytes::{BufMut, Bytes};
use memmap2::MmapMut;
use std::io;

/// Room for so many bytes, which are written one after another. The system has the memory back as soon as they are dropped: an
/// allocator would keep megabytes for whoever may want as much next, which nobody does on a node at rest. Room that is not used
/// costs nothing. Costs a system call, and a page fault for every page that is written.
#[derive(Debug)]
pub struct Scratch {
    memory: MmapMut,
    written: usize,
}

impl Scratch {
    /// # Errors
    /// If the system has no memory.
    ///
    /// # Panics
    /// If `bytes` is 0.
    pub fn new(bytes: usize) -> io::Result<Self> {
        Ok(Self { memory: MmapMut::map_anon(bytes)?, written: 0 })
    }

    /// How many bytes were written.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Has `write` go on where the writing stopped.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn write<T>(&mut self, write: impl FnOnce(&mut &mut [u8]) -> T) -> T {
        let mut out = &mut self.memory[self.written..];
        let before = out.remaining_mut();
        let result = write(&mut out);
        self.written += before - out.remaining_mut();
        result
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        let Self { memory, written } = self;
        Bytes::from_owner(memory).slice(..written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_written_piece_by_piece() {
        let mut scratch = Scratch::new(10_000).unwrap();
        scratch.write(|out| out.put_bytes(7, 6_000));
        assert_eq!(scratch.write(|out| out.remaining_mut()), 4_000);
        scratch.write(|out| out.put_bytes(8, 1_000));
        assert_eq!(scratch.written(), 7_000);
        assert_eq!(scratch.finish(), [[7; 6_000].as_slice(), &[8; 1_000]].concat());
    }

    #[test]
    #[should_panic = "advance out of bounds"]
    fn takes_no_more_than_it_has_room_for() {
        Scratch::new(3).unwrap().write(|out| out.put_u32_le(1));
    }
}
