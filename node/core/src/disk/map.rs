//! The mappings of segment files, and all `unsafe` of the workspace but for one instruction in `store/prefetch.rs`.
//!
//! A mapping is split in two by its *written* watermark. Bytes below it never change again, and anyone may hold
//! references to them. Bytes at and above it belong to the one [`MappingWriter`]. The watermark only grows, and only
//! the writer moves it.
//!
//! Two things outside of this file are assumed. The file is not shortened or written by anything else while it is
//! mapped: the node holds an exclusive lock on its data folder. And at most one mapping of a file has a live writer: a
//! shard's log is opened again only after the previous value is gone.
//!
//! A page that the medium can't give is a signal, SIGBUS, to whoever touches it: a sector that can't be read, a file that
//! someone has shortened all the same, a store for which a file system that copies on write has no room. It would end the
//! process with all its shards. The handler here counts it, puts a page of zeros in the place of the lost one, and lets the
//! thread go on. What is read there matches no checksum, and [`Mapping::has_lost_pages`] tells whoever wrote.

#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// One segment file (or anonymous memory that stands in for one) in memory.
#[derive(Debug)]
pub struct Mapping {
    memory: MmapRaw,
    length: u32,
    /// Release by the writer once bytes below it are complete, Acquire by readers.
    written: AtomicU32,
    writer_taken: AtomicBool,
    /// Where the handler of SIGBUS finds it; `None` past [`GUARDS_MAX`].
    guard: Option<&'static Guard>,
}

impl Mapping {
    /// Maps the first `length` bytes of a file, shared: stores reach the file.
    ///
    /// The file should have real blocks for all of them: a store into a hole of a full disk is lost ([`Mapping::has_lost_pages`]).
    ///
    /// # Errors
    /// If the system refuses; for instance at its limit of mappings.
    pub fn of_file(file: &File, length: u32) -> io::Result<Self> {
        if file.metadata()?.len() < u64::from(length) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its mapping"));
        }
        Ok(Self::over(MmapOptions::new().len(length as usize).map_raw(file)?, length))
    }

    /// Maps the first `length` bytes of a file, which may be open for reading only: stores stay in this mapping, and never
    /// reach the file.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn private_copy(file: &File, length: u32) -> io::Result<Self> {
        if file.metadata()?.len() < u64::from(length) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its mapping"));
        }
        // SAFETY: the call is unsafe because the memory changes when the file does. Nobody writes or shortens it: whoever
        // looks at a data folder holds a lock on it that keeps its node from starting.
        let memory = unsafe { MmapOptions::new().len(length as usize).map_copy(file)? };
        Ok(Self::over(memory.into(), length))
    }

    /// Memory that belongs to no file and begins as a copy of `content`; for a disk that is not real.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn in_memory(content: &[u8]) -> io::Result<Self> {
        let mut memory = MmapOptions::new().len(content.len()).map_anon()?;
        memory.copy_from_slice(content);
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        Ok(Self::over(memory.into(), length))
    }

    fn over(memory: MmapRaw, length: u32) -> Self {
        assert_eq!(memory.len(), length as usize);
        let guard = Guard::of(memory.as_ptr() as usize, memory.len());
        Self { memory, length, written: AtomicU32::new(0), writer_taken: AtomicBool::new(false), guard }
    }

    /// Makes everything stored so far survive power loss: what a data sync of the mapped file does, errors included, without
    /// a descriptor. Blocks.
    ///
    /// # Errors
    /// What the system says. Never retry.
    pub fn sync(&self) -> io::Result<()> {
        self.memory.flush()
    }

    /// Whether the medium failed to give or take a page since this was mapped: what was there reads as zeros, and what is
    /// stored there is lost. A load.
    pub fn has_lost_pages(&self) -> bool {
        self.guard.is_some_and(|guard| guard.lost.load(Ordering::Acquire) > 0)
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

    /// Asks the kernel to read `length` bytes from `offset` from the medium, if they are not in memory: a look at them soon
    /// finds them there. Does not wait for the medium. An optimisation.
    pub fn read_ahead(&self, offset: u32, length: u32) {
        let end = offset.saturating_add(length).min(self.length);
        #[cfg(unix)]
        if offset < end
            && let Err(error) =
                self.memory.advise_range(memmap2::Advice::WillNeed, offset as usize, (end - offset) as usize)
        {
            tracing::debug!(%error, "a segment's bytes are not read ahead");
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

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the memory is given back, and someone else gets the addresses.
        self.guard.into_iter().for_each(Guard::release);
    }
}

/// More than the mappings that Linux allows a process by default.
const GUARDS_MAX: usize = 65_536;

/// How many pages were lost in all mappings since the process began. Bytes that were verified before it grew and copied out
/// of a mapping after that may be zeros.
pub fn lost_pages() -> u64 {
    LOST_PAGES.load(Ordering::Acquire)
}

static LOST_PAGES: AtomicU64 = AtomicU64::new(0);
/// The ranges of all mappings, as a signal handler can read them: it must take no lock.
static GUARDS: [Guard; GUARDS_MAX] = [const { Guard::free() }; GUARDS_MAX];
/// Guards from here on have never been used.
static GUARDS_USED: AtomicUsize = AtomicUsize::new(0);
/// Used ones that are free again.
static GUARDS_FREE: Mutex<Vec<&'static Guard>> = Mutex::new(Vec::new());
/// What SIGBUS did before, and the size of a page.
static BEFORE: OnceLock<(libc::sigaction, usize)> = OnceLock::new();

/// One mapping, for the handler.
#[derive(Debug)]
struct Guard {
    /// 0 while it is free. Stored last and cleared first.
    start: AtomicUsize,
    end: AtomicUsize,
    /// Pages that were lost.
    lost: AtomicU32,
}

impl Guard {
    const fn free() -> Self {
        Self { start: AtomicUsize::new(0), end: AtomicUsize::new(0), lost: AtomicU32::new(0) }
    }

    fn of(start: usize, length: usize) -> Option<&'static Self> {
        handle_bus_errors();
        let mut free = GUARDS_FREE.lock();
        let guard = free.pop().or_else(|| {
            let guard = GUARDS.get(GUARDS_USED.load(Ordering::Relaxed))?;
            GUARDS_USED.fetch_add(1, Ordering::Release);
            Some(guard)
        })?;
        guard.lost.store(0, Ordering::Relaxed);
        guard.end.store(start + length, Ordering::Relaxed);
        guard.start.store(start, Ordering::Release);
        Some(guard)
    }

    fn release(&'static self) {
        let mut free = GUARDS_FREE.lock();
        self.start.store(0, Ordering::Release);
        free.push(self);
    }

    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let holds = start != 0 && start <= address && address < self.end.load(Ordering::Acquire);
        // It may have been given to another mapping in between; the one of `address` is alive, since a thread reads it.
        holds && self.start.load(Ordering::Acquire) == start
    }
}

/// Installs the handler, once per process.
fn handle_bus_errors() {
    BEFORE.get_or_init(|| {
        // SAFETY: all-zero bytes are a valid `sigaction`; the pointers are to live values of the right type or null; the
        // handler has the type that SA_SIGINFO asks for, and does only what a signal handler may. SA_ONSTACK: the thread may
        // have little stack left. If the system refuses, the signal ends the process as it would without a handler.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before);
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_bus_error as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut ours.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut());
            (before, rustix::param::page_size())
        }
    });
}

/// Takes no lock and allocates nothing: it interrupts a thread at any place.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; a positive code says that it is a fault, with an address.
    let (is_fault, address) = unsafe { ((*info).si_code > 0, (*info).si_addr() as usize) };
    if !is_fault {
        return end_by(signal);
    }
    let used = GUARDS_USED.load(Ordering::Acquire).min(GUARDS_MAX);
    let guard = GUARDS[..used].iter().find(|guard| guard.holds(address));
    // Installing the handler takes a moment, and this one can't wait for it.
    let before = BEFORE.get();
    if let (Some(guard), Some((_, page_bytes))) = (guard, before) {
        // Counted before anyone can see the zeros.
        guard.lost.fetch_add(1, Ordering::AcqRel);
        LOST_PAGES.fetch_add(1, Ordering::AcqRel);
        let page = (address & !(page_bytes - 1)) as *mut _;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: the page is within a mapping that a thread uses right now, so it is ours to replace, and stays mapped. Its
        // bytes could not be read: nobody has seen others. A system call without a lock or `errno`.
        if unsafe { mmap_anonymous(page, *page_bytes, ProtFlags::READ | ProtFlags::WRITE, flags) }.is_ok() {
            return;
        }
    }
    // Not ours. The instruction is tried again on return, under whatever handled it before.
    // SAFETY: both values were given by the system; without one, the default action.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        let before = before.map_or(&raw const default, |(before, _)| before as *const _);
        libc::sigaction(signal, before, ptr::null_mut());
    }
}

/// Ends the process as a signal that someone has sent does by default. Nothing raises that one again: whoever went on would live
/// without the handler, or for ever.
fn end_by(signal: libc::c_int) {
    // SAFETY: all-zero bytes are a valid `sigaction`, the default one; both calls are among those that a handler may make. The
    // signal is held back until the handler returns.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const default, ptr::null_mut());
        libc::raise(signal);
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
    fn a_page_that_the_medium_can_not_give_reads_as_zeros_and_is_counted() {
        let file = tempfile::tempfile().unwrap();
        let page = rustix::param::page_size() as u32;
        file.set_len(u64::from(4 * page)).unwrap();
        let mapping = Arc::new(Mapping::of_file(&file, 4 * page).unwrap());
        let neighbour = Arc::new(Mapping::in_memory(&[0; 8192]).unwrap());
        let mut writer = mapping.writer().unwrap();
        writer.tail().fill(7);
        writer.advance(4 * page);
        mapping.sync().unwrap();
        let before = lost_pages();
        file.set_len(u64::from(2 * page)).unwrap();
        assert!(mapping.read(0, 2 * page).unwrap().iter().all(|byte| *byte == 7));
        assert!(!mapping.has_lost_pages(), "what is still there is no fault");
        assert!(mapping.read(2 * page, page).unwrap().iter().all(|byte| *byte == 0));
        assert!(mapping.has_lost_pages() && !neighbour.has_lost_pages());
        assert!(lost_pages() > before);
        mapping.sync().unwrap();
        drop((writer, mapping));

        let again = Arc::new(Mapping::of_file(&file, 2 * page).unwrap());
        assert!(!again.has_lost_pages(), "a new mapping knows nothing of an old one's pages");
    }

    #[test]
    fn a_store_that_the_medium_does_not_take_is_counted() {
        let file = tempfile::tempfile().unwrap();
        let page = rustix::param::page_size() as u32;
        file.set_len(u64::from(2 * page)).unwrap();
        let mapping = Arc::new(Mapping::of_file(&file, 2 * page).unwrap());
        let mut writer = mapping.writer().unwrap();
        file.set_len(u64::from(page)).unwrap();
        writer.tail()[page as usize] = 1;
        assert!(mapping.has_lost_pages());
    }

    /// What [`a_signal_that_someone_sends_ends_the_process`] runs in a process of its own.
    const VICTIM: &str = "KVORUM_TEST_SIGBUS_VICTIM";

    #[test]
    fn a_signal_that_someone_sends_ends_the_process() {
        let _mapping = Mapping::in_memory(&[0; 4096]).unwrap();
        if std::env::var_os(VICTIM).is_some() {
            // SAFETY: it takes a number.
            unsafe { libc::raise(libc::SIGBUS) };
            return;
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let own_name = format!("{module}::a_signal_that_someone_sends_ends_the_process");
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([&own_name, "--exact"])
            .env(VICTIM, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGBUS), "{status}");
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
