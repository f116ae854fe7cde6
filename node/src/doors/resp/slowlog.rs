//! Commands that took long, for SLOWLOG.

use bytes::Bytes;
use kvorum_resp::command::SlowlogCommand;
use kvorum_resp::{ReplyWriter, Request};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};

/// What SLOWLOG keeps at most, whatever `slowlog-max-len` says.
const ENTRIES_MAX: usize = 4096;
/// Arguments of a command that are kept, and bytes of each, as Redis keeps them.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

/// The newest slow commands.
#[derive(Debug)]
pub(super) struct Slowlog {
    /// What takes so many microseconds is slow; nothing is if it is negative.
    slower_than_us: AtomicI64,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    next_id: u64,
    entries_max: usize,
    /// The newest first.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    wall_s: u64,
    took_us: u64,
    arguments: Vec<Bytes>,
    from: SocketAddr,
    name: Vec<u8>,
}

impl Default for Slowlog {
    fn default() -> Self {
        Self {
            slower_than_us: AtomicI64::new(10_000),
            log: Mutex::new(Log { next_id: 0, entries_max: 128, entries: VecDeque::new() }),
        }
    }
}

impl Slowlog {
    /// Sets from how many microseconds on a command is slow; none is with a negative number.
    pub(super) fn set_slower_than(&self, us: i64) {
        self.slower_than_us.store(us, Ordering::Relaxed);
    }

    /// Sets how many are kept.
    pub(super) fn set_max(&self, entries: usize) {
        let mut log = self.log.lock();
        log.entries_max = entries.min(ENTRIES_MAX);
        let kept = log.entries_max;
        log.entries.truncate(kept);
    }

    /// Whether what took so long is slow.
    pub(super) fn is_slow(&self, took_us: u64) -> bool {
        u64::try_from(self.slower_than_us.load(Ordering::Relaxed)).is_ok_and(|slow| took_us >= slow)
    }

    /// Whether commands that are answered at once may be slow: then it is worth looking at the clock.
    pub(super) fn may_be_quick(&self) -> bool {
        (0..1_000).contains(&self.slower_than_us.load(Ordering::Relaxed))
    }

    /// Notes a slow command of the connection from an address. `wall_s`: the time, in seconds since 1970.
    pub(super) fn note(&self, request: &Request, took_us: u64, wall_s: u64, from: SocketAddr, name: Vec<u8>) {
        let count = request.len();
        let kept = if count > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { count };
        let mut arguments: Vec<Bytes> = request.iter().take(kept).map(shortened).collect();
        if kept < count {
            arguments.push(format!("... ({} more arguments)", count - kept).into());
        }
        let mut log = self.log.lock();
        let id = log.next_id;
        log.next_id += 1;
        log.entries.push_front(Entry { id, wall_s, took_us, arguments, from, name });
        let kept = log.entries_max;
        log.entries.truncate(kept);
    }

    /// Answers SLOWLOG.
    pub(super) fn answer(&self, command: &SlowlogCommand, reply: &mut ReplyWriter<'_>) {
        let mut log = self.log.lock();
        match *command {
            SlowlogCommand::Len => reply.count(log.entries.len()),
            SlowlogCommand::Reset => {
                log.entries.clear();
                reply.ok();
            }
            SlowlogCommand::Get(count) => {
                let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
                let count = count.min(log.entries.len());
                reply.array(count);
                for entry in log.entries.iter().take(count) {
                    reply.array(6);
                    reply.integer(entry.id as i64);
                    reply.integer(entry.wall_s as i64);
                    reply.integer(entry.took_us as i64);
                    reply.array(entry.arguments.len());
                    entry.arguments.iter().for_each(|argument| reply.bulk(argument));
                    reply.bulk(entry.from.to_string().as_bytes());
                    reply.bulk(&entry.name);
                }
            }
        }
    }
}

fn shortened(argument: &[u8]) -> Bytes {
    match argument.len().checked_sub(ARGUMENT_BYTES_MAX) {
        None | Some(0) => Bytes::copy_from_slice(argument),
        Some(more) => [&argument[..ARGUMENT_BYTES_MAX], format!("... ({more} more bytes)").as_bytes()].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf as _;
    use kvorum_resp::{Output, RespVersion};

    fn answered(slowlog: &Slowlog, command: SlowlogCommand) -> String {
        let mut output = Output::new();
        slowlog.answer(&command, &mut ReplyWriter::new(&mut output, RespVersion::Two));
        let length = output.len();
        String::from_utf8(output.copy_to_bytes(length).to_vec()).unwrap()
    }

    #[test]
    fn the_newest_are_kept_and_told_in_short() {
        let slowlog = Slowlog::default();
        assert!(slowlog.is_slow(10_000) && !slowlog.is_slow(9_999) && !slowlog.may_be_quick());
        slowlog.set_slower_than(-1);
        assert!(!slowlog.is_slow(u64::MAX));
        slowlog.set_slower_than(0);
        assert!(slowlog.is_slow(0) && slowlog.may_be_quick());
        slowlog.set_max(2);
        let long = vec![b'x'; ARGUMENT_BYTES_MAX + 7];
        for request in [Request::of(&[b"A"]), Request::of(&[b"B", &long]), Request::of(&[b"C".as_slice(); 40])] {
            slowlog.note(&request, 5, 6, ([127, 0, 0, 1], 7).into(), b"me".to_vec());
        }
        assert_eq!(answered(&slowlog, SlowlogCommand::Len), ":2\r\n");
        let told = answered(&slowlog, SlowlogCommand::Get(None));
        assert!(told.starts_with("*2\r\n*6\r\n:2\r\n:6\r\n:5\r\n*32\r\n"), "{told}");
        assert!(told.contains("... (9 more arguments)") && told.contains("... (7 more bytes)"), "{told}");
        assert!(answered(&slowlog, SlowlogCommand::Get(Some(0))).starts_with("*0"));
        assert_eq!(answered(&slowlog, SlowlogCommand::Reset), "+OK\r\n");
        assert_eq!(answered(&slowlog, SlowlogCommand::Len), ":0\r\n");
    }
}
