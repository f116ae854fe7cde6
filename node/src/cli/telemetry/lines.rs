//! Log lines on their way to stderr: a bounded queue, and the thread that empties it.
//!
//! A log that can't be written costs lines, never a node. Whoever logs only puts a line into the queue: it meets no error
//! and waits for nobody, whether the disk below stderr is full, its reader has gone away, or has stopped reading. Lines that found
//! no room, or could not be written, are counted, and the first line that gets through again says how many they were.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that wait to be written; a line that does not fit is lost.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Where log lines go. Cheap to clone; all clones share one queue.
#[derive(Clone)]
pub(super) struct LogLines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Something was queued, or has been written.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Since a line last got through.
    lost: u64,
    /// The thread holds a line that is in the queue no more.
    is_writing: bool,
}

impl LogLines {
    /// A queue, and the thread that writes what is in it to `out`, one call per line. The thread never ends.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self(Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() }));
        let shared = Arc::clone(&lines.0);
        std::thread::Builder::new().name("log".into()).spawn(move || shared.run(out))?;
        Ok(lines)
    }

    /// Queues a line, its newline included; counts it as lost if there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut queue = self.0.queue.lock();
        if queue.bytes + line.len() > QUEUE_BYTES_MAX {
            queue.lost += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.0.changed.notify_all();
    }

    /// Waits until all that was queued is written or lost, but not longer than `at_most`.
    pub(super) fn flush(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        let mut queue = self.0.queue.lock();
        while (!queue.lines.is_empty() || queue.is_writing)
            && !self.0.changed.wait_until(&mut queue, deadline).timed_out()
        {}
    }
}

impl Shared {
    fn run(&self, mut out: impl Write) {
        loop {
            let (line, lost) = self.take();
            let is_written = write(&mut out, &line, lost).is_ok();
            let mut queue = self.queue.lock();
            queue.is_writing = false;
            match is_written {
                // Others may have been lost in the meantime.
                true => queue.lost -= lost,
                false => queue.lost += 1,
            }
            drop(queue);
            self.changed.notify_all();
        }
    }

    /// The next line, and how many were lost before it. Blocks until there is one.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return (line, queue.lost);
            }
            self.changed.wait(&mut queue);
        }
    }
}

/// Writes a line, after a note on those that were lost before it. The note begins on a line of its own: a full disk may have
/// taken a part of a line.
fn write(out: &mut impl Write, line: &[u8], lost: u64) -> io::Result<()> {
    if lost > 0 {
        writeln!(out, "\nkvorum: {lost} log lines were lost")?;
    }
    out.write_all(line)
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine(self)
    }
}

/// Takes one line, which `tracing-subscriber` writes with one call. Never fails.
pub(super) struct LogLine<'a>(&'a LogLines);

impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(30);

    /// Takes what is written, or fails, as told before each call.
    #[derive(Clone, Default)]
    struct Medium(Arc<Mutex<(bool, Vec<u8>)>>);

    impl Medium {
        fn is_full(&self, is_full: bool) {
            self.0.lock().0 = is_full;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().1.clone()).unwrap()
        }
    }

    impl Write for Medium {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut inner = self.0.lock();
            if inner.0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inner.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_refused_are_counted_and_told_when_there_is_room() {
        let medium = Medium::default();
        let lines = LogLines::start(medium.clone()).unwrap();
        let mut log = lines.make_writer();
        log.write_all(b"one\n").unwrap();
        lines.flush(SOON);
        medium.is_full(true);
        (0..3).for_each(|_| log.write_all(b"refused\n").unwrap());
        lines.flush(SOON);
        medium.is_full(false);
        log.write_all(b"two\n").unwrap();
        log.write_all(b"three\n").unwrap();
        lines.flush(SOON);
        assert_eq!(medium.text(), "one\n\nkvorum: 3 log lines were lost\ntwo\nthree\n");
    }

    /// Writes nothing before it is let on.
    struct Stuck(mpsc::Receiver<()>, Medium);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Let go for good when the sender is dropped.
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_a_bounded_queue_and_the_lines_past_it() {
        let (let_on, stuck) = mpsc::channel();
        let medium = Medium::default();
        let lines = LogLines::start(Stuck(stuck, medium.clone())).unwrap();
        let line = [b"x".repeat(QUEUE_BYTES_MAX / 4 - 1), b"\n".to_vec()].concat();
        // One may be on its way to the reader, four fit, the rest is lost. None of these calls waits.
        (0..10).for_each(|_| lines.push(&line));
        lines.flush(Duration::from_millis(1));
        assert!(lines.0.queue.lock().bytes <= QUEUE_BYTES_MAX);
        drop(let_on);
        lines.flush(SOON);
        let text = medium.text();
        let (kept, told) = (text.matches("x\n").count(), text.matches("log lines were lost").count());
        assert!((4..=5).contains(&kept), "{kept}");
        assert_eq!(told, 1, "told once");
        assert!(text.contains(&format!("kvorum: {} log lines were lost", 10 - kept)));
    }
}
