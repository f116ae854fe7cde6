//! What commands that run side by side have said and nobody has printed yet, since it is not their turn. It is bounded, and what a
//! command will say is known only when it has said it: so as much room is kept for each that runs as others have needed of late.

use crate::output::Output;
use kvorum_protocol::limits::VALUE_BYTES_MAX;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// Most bytes that are said and not printed, or expected to be, beside what the oldest command says.
const SAID_BYTES_MAX: usize = 64 * 1024 * 1024;
/// So many commands may run before any has shown what they say: with the largest values they fill the room.
const RUNNING_AT_FIRST: usize = SAID_BYTES_MAX / VALUE_BYTES_MAX;
/// What is expected of a command falls by this part with each that says less.
const FORGET_SHIFT: u32 = 6;

/// Counts for all commands of a script.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    counts: Mutex<Counts>,
    /// A command has ended that may say much.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes of outputs that are kept.
    bytes: usize,
    /// Of commands that may say much.
    running: usize,
    ended: usize,
    /// What such a command says, in bytes.
    expected: usize,
}

/// The outputs of one command. They count until this is dropped.
#[derive(Debug)]
pub(crate) struct Said {
    backlog: Arc<Backlog>,
    outputs: Vec<Output>,
    bytes: usize,
}

/// A command that runs and may say much. It has ended when this is dropped, which happens also when its task panics.
#[derive(Debug)]
pub(crate) struct Speaking(Arc<Backlog>);

impl Backlog {
    /// Whether one more command may begin that may say much: always if there is nothing of any other.
    pub(crate) fn has_room(&self) -> bool {
        let Counts { bytes, running, ended, expected } = *self.counts.lock();
        let is_first = running == 0 && bytes == 0;
        let bytes_then = expected.saturating_mul(running + 1).saturating_add(bytes);
        is_first || (running < RUNNING_AT_FIRST.saturating_add(ended) && bytes_then <= SAID_BYTES_MAX)
    }

    /// Waits until a command that may say much has ended since this was called last.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// For the outputs of a command that begins.
    pub(crate) fn listen(self: &Arc<Self>) -> Said {
        Said { backlog: Arc::clone(self), outputs: Vec::new(), bytes: 0 }
    }

    /// A command begins that may say much.
    pub(crate) fn begin(self: &Arc<Self>) -> Speaking {
        self.counts.lock().running += 1;
        Speaking(Arc::clone(self))
    }
}

impl Said {
    pub(crate) fn keep(&mut self, output: Output) {
        let bytes = output.bytes_about();
        self.backlog.counts.lock().bytes += bytes;
        self.bytes += bytes;
        self.outputs.push(output);
    }

    pub(crate) fn outputs(&self) -> &[Output] {
        &self.outputs
    }
}

impl Speaking {
    /// This is all that the command says.
    pub(crate) fn end(self, said: &Said) {
        let mut counts = self.0.counts.lock();
        counts.expected = said.bytes.max(counts.expected - (counts.expected >> FORGET_SHIFT));
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock();
        counts.running -= 1;
        counts.ended += 1;
        drop(counts);
        self.0.changed.notify_one();
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        self.backlog.counts.lock().bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_client::{Bytes, Entry, Version};

    fn value(bytes: usize) -> Output {
        static ZEROS: [u8; VALUE_BYTES_MAX] = [0; VALUE_BYTES_MAX];
        let value = Bytes::from_static(&ZEROS[..bytes]);
        let entry = Entry::new(Bytes::new(), value, Version(1));
        Output::Entry { key: Bytes::new(), entry: Some(entry) }
    }

    /// Begins commands as long as there is room.
    fn begin_all(backlog: &Arc<Backlog>, most: usize) -> Vec<(Speaking, Said)> {
        let mut begun = Vec::new();
        while begun.len() < most && backlog.has_room() {
            begun.push((backlog.begin(), backlog.listen()));
        }
        begun
    }

    /// The command says a value, and ends.
    fn say((speaking, mut said): (Speaking, Said), bytes: usize) -> Said {
        said.keep(value(bytes));
        speaking.end(&said);
        said
    }

    #[test]
    fn large_answers_behind_a_slow_command_are_bounded() {
        let backlog = Arc::new(Backlog::default());
        let slow = backlog.begin();
        let mut said = Vec::new();
        for _ in 0..1024 {
            said.extend(begin_all(&backlog, 1024).into_iter().map(|begun| say(begun, VALUE_BYTES_MAX)));
        }
        assert!((1..=SAID_BYTES_MAX / VALUE_BYTES_MAX).contains(&said.len()), "{} are kept", said.len());
        said.clear();
        drop(slow);
        assert!(backlog.has_room(), "what is printed takes no room");
    }

    #[test]
    fn small_answers_soon_have_all_the_room() {
        let backlog = Arc::new(Backlog::default());
        for round in 0.. {
            assert!(round < 10, "it takes too many rounds");
            let begun = begin_all(&backlog, 1024);
            if begun.len() == 1024 {
                break;
            }
            begun.into_iter().for_each(|begun| drop(say(begun, 100)));
        }
    }

    #[test]
    fn a_large_answer_is_forgotten_after_many_small_ones() {
        let backlog = Arc::new(Backlog::default());
        drop(say((backlog.begin(), backlog.listen()), VALUE_BYTES_MAX));
        assert!(begin_all(&backlog, 1024).len() < 4);
        for _ in 0..2000 {
            drop(say((backlog.begin(), backlog.listen()), 100));
        }
        assert_eq!(begin_all(&backlog, 1024).len(), 1024);
    }

    #[test]
    fn a_command_that_is_given_up_leaves_nothing() {
        let backlog = Arc::new(Backlog::default());
        let (speaking, mut said) = (backlog.begin(), backlog.listen());
        said.keep(value(100));
        drop((speaking, said));
        let counts = backlog.counts.lock();
        assert_eq!((counts.running, counts.bytes), (0, 0));
    }
}
