//! The mappings of segment files, and all `unsafe` of the workspace but for one instruction in `prefetch.rs`.
//!
//! A mapping is split in two by its *written* watermark. Bytes below it never change again, and anyone may hold
//! references to them. Bytes at and above it belong to the one [`MappingWriter`]. The watermark only grows, and only
//! the writer moves it.
//!
//! Two things outside of this file are assumed. The file is not shortened or written by anything else while it is
//! mapped: the node holds an exclusive lock on its data folder. And at most one mapping of a file has a live writer: a
//! shard's log is opened again only after the previous value is gone.

#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// One segment file (or anonymous memory that stands in for one) in memory.
#[derive(Debug)]
pub struct Mapping {
    memory: MmapRaw,
    length: u32,
    /// Release by the writer once bytes below it are complete, Acquire by readers.
    written: AtomicU32,
    writer_taken: AtomicBool,
}

impl Mapping {
    /// Maps the first `length` bytes of a file, shared: stores reach the file.
    ///
    /// The file must have real blocks for all of them: a store into a hole of a full disk ends the process.
    ///
    /// # Errors
    /// If the system refuses; for instance at its limit of mappings.
    pub fn of_file(file: &File, length: u32) -> io::Result<Mapping> {
        if file.metadata()?.len() < u64::from(length) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its mapping"));
        }
        Ok(Mapping::over(MmapOptions::new().len(length as usize).map_raw(file)?, length))
    }

    /// Maps the first `length` bytes of a file, which may be open for reading only: stores stay in this mapping, and never
    /// reach the file.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn private_copy(file: &File, length: u32) -> io::Result<Mapping> {
        if file.metadata()?.len() < u64::from(length) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its mapping"));
        }
        // SAFETY: the call is unsafe because the memory changes when the file does. Nobody writes or shortens it: whoever
        // looks at a data folder holds a lock on it that keeps its node from starting.
        let memory = unsafe { MmapOptions::new().len(length as usize).map_copy(file)? };
        Ok(Mapping::over(memory.into(), length))
    }

    /// Memory that belongs to no file and begins as a copy of `content`; for a disk that is not real.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn in_memory(content: &[u8]) -> io::Result<Mapping> {
        let mut memory = MmapOptions::new().len(content.len()).map_anon()?;
        memory.copy_from_slice(content);
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        Ok(Mapping::over(memory.into(), length))
    }

    fn over(memory: MmapRaw, length: u32) -> Mapping {
        assert_eq!(memory.len(), length as usize);
        Mapping { memory, length, written: AtomicU32::new(0), writer_taken: AtomicBool::new(false) }
    }

    /// It will be written bit by bit and synced in between: asks the kernel to keep its pages small. Large ones (ext4 keeps
    /// mapped files in folios of many pages) become dirty as a whole with every store, and each sync writes them again. An
    /// optimisation, and the price is that nothing is read ahead.
    pub fn keep_pages_small(&self) {
        #[cfg(unix)]
        if let Err(error) = self.memory.advise(memmap2::Advice::Random) {
            tracing::debug!(%error, "a segment's pages may be large");
        }
    }

    /// Its size in bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The watermark: how many bytes, from the first, are complete and will not change.
    pub fn written(&self) -> u32 {
        self.written.load(Ordering::Acquire)
    }

    /// `length` bytes from `offset`; `None` unless all of them are below the watermark.
    pub fn read(&self, offset: u32, length: u32) -> Option<&[u8]> {
        if offset.checked_add(length)? > self.written() {
            return None;
        }
        // SAFETY: offset + length <= written <= self.length, which is the size of the mapping, and the mapping lives as
        // long as `self`. No one writes these bytes while `self` lives: the only writes go through the unique
        // `MappingWriter`, which reaches bytes at and above `written` only, and `written` never shrinks. The Acquire
        // load in `written()` pairs with the Release store in `advance`, so the bytes are seen complete.
        Some(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(offset as usize), length as usize) })
    }

    /// The writer, for the first caller only.
    pub fn writer(self: &Arc<Self>) -> Option<MappingWriter> {
        let first = !self.writer_taken.swap(true, Ordering::AcqRel);
        first.then(|| MappingWriter { mapping: Arc::clone(self), prefaulted: 0 })
    }
}

/// The right to write the bytes at and above a mapping's watermark. There is one per mapping.
#[derive(Debug)]
pub struct MappingWriter {
    mapping: Arc<Mapping>,
    /// Pages below this were asked to be present.
    prefaulted: u32,
}

impl MappingWriter {
    /// The mapping it writes to.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The watermark.
    pub fn written(&self) -> u32 {
        self.mapping.written()
    }

    /// All bytes at and above the watermark.
    pub fn tail(&mut self) -> &mut [u8] {
        let written = self.written();
        let length = self.mapping.length - written;
        // SAFETY: written <= self.length, so the range is inside the mapping, which lives as long as `self.mapping`. The
        // slice is exclusive: there is one writer per mapping (`writer_taken`), it is borrowed mutably for the slice's
        // whole life, so `advance` can't move the watermark meanwhile, and readers reach bytes below it only.
        unsafe {
            std::slice::from_raw_parts_mut(self.mapping.memory.as_mut_ptr().add(written as usize), length as usize)
        }
    }

    /// Moves the watermark up by `bytes`: what was written there is complete and becomes readable.
    ///
    /// # Panics
    /// If that is past the mapping's end.
    pub fn advance(&mut self, bytes: u32) {
        let written = self.written().checked_add(bytes).expect("a watermark stays inside its mapping");
        assert!(written <= self.mapping.length);
        self.mapping.written.store(written, Ordering::Release);
    }

    /// Makes sure that the pages of the next `bytes` bytes are present and writable, `step` bytes at a time, so that
    /// stores there do not fault. An optimisation: where the kernel can't (before 5.14), the pages fault one by one.
    pub fn prefault(&mut self, bytes: u32, step: u32) {
        let written = self.written();
        let wanted = written.saturating_add(bytes).min(self.mapping.length);
        if wanted <= self.prefaulted {
            return;
        }
        let from = self.prefaulted.max(written);
        let to = from.saturating_add(step).max(wanted).min(self.mapping.length);
        self.prefaulted = to;
        #[cfg(target_os = "linux")]
        if let Err(error) =
            self.mapping.memory.advise_range(memmap2::Advice::PopulateWrite, from as usize, (to - from) as usize)
        {
            tracing::debug!(%error, "pages of a segment were not made present ahead");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_is_below_the_watermark_only() {
        let mapping = Arc::new(Mapping::in_memory(&[0; 8192]).unwrap());
        let mut writer = mapping.writer().unwrap();
        assert!(mapping.writer().is_none(), "there is one writer");
        writer.tail()[..5].copy_from_slice(b"hello");
        assert_eq!(mapping.read(0, 1), None);
        writer.advance(5);
        assert_eq!(mapping.read(0, 5), Some(&b"hello"[..]));
        assert_eq!(mapping.read(1, 5), None);
        assert_eq!(mapping.read(u32::MAX, 2), None, "the end does not wrap");
        assert_eq!(writer.tail().len(), 8187);
        assert_eq!(mapping.read(5, 0), Some(&b""[..]));
    }

    #[test]
    fn prefaulting_changes_no_byte_and_stops_at_the_end() {
        let mapping = Arc::new(Mapping::in_memory(&[0; 8192]).unwrap());
        let mut writer = mapping.writer().unwrap();
        writer.tail()[8000] = 7;
        writer.prefault(100_000, 4096);
        writer.prefault(10, 4096);
        assert_eq!(writer.tail()[8000], 7);
    }

    #[test]
    fn a_file_shorter_than_its_mapping_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(Mapping::of_file(&file, 8192).is_err());
        assert!(Mapping::of_file(&file, 4096).is_ok());
    }

    #[test]
    fn a_reader_on_another_thread_sees_whole_records() {
        let mapping = Arc::new(Mapping::in_memory(&[0; 1 << 16]).unwrap());
        let mut writer = mapping.writer().unwrap();
        let reader = std::thread::spawn(move || {
            loop {
                let written = mapping.written();
                let bytes = mapping.read(0, written).unwrap();
                assert!(bytes.chunks(8).all(|record| record == [0x5a; 8]));
                if written == mapping.length() {
                    return;
                }
                std::thread::yield_now();
            }
        });
        while writer.written() < 1 << 16 {
            writer.tail()[..8].fill(0x5a);
            writer.advance(8);
        }
        reader.join().unwrap();
    }
}
