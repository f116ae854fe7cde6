//! The identities under which doors write whose clients have none of their own, and the numbers of their writes.

use kvorum_client_core::session::Sequences;
use kvorum_protocol::{ClientId, RequestBody};
use parking_lot::Mutex;
use std::sync::Arc;
use uuid::Uuid;

/// Connections share this many identities. A shard remembers as many sessions of each door of each node.
const WRITERS: usize = 64;

/// The identities of a door.
#[derive(Debug)]
pub(super) struct Writers(Vec<Arc<Writer>>);

/// An identity under which writes are numbered.
#[derive(Debug)]
pub(super) struct Writer {
    client: ClientId,
    sequences: Mutex<Sequences>,
}

impl Writers {
    /// New ones, that no shard knows.
    pub(super) fn new() -> Self {
        let writer = || Writer { client: ClientId(Uuid::new_v4()), sequences: Mutex::default() };
        Self((0..WRITERS).map(|_| Arc::new(writer())).collect())
    }

    /// The one that a connection shares.
    pub(super) fn of(&self, connection: u64) -> &Arc<Writer> {
        &self.0[(connection % self.0.len() as u64) as usize]
    }
}

impl Writer {
    /// The identity.
    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// Takes no number below `sequence_min` from now on.
    pub(super) fn raise(&self, sequence_min: u64) {
        self.sequences.lock().raise(sequence_min);
    }
}

/// The numbers of a write. They are finished when this is dropped, also if nobody waits for its answer any more.
#[derive(Debug)]
pub(super) struct WriteNumbers {
    writer: Arc<Writer>,
    first: u64,
    count: u64,
}

impl WriteNumbers {
    /// Of a request of `count` writes, whose body gets them.
    pub(super) fn new(writer: &Arc<Writer>, count: u64, body: &mut RequestBody) -> Self {
        let first = writer.sequences.lock().allocate(count);
        Sequences::renumber(body, first);
        Self { writer: Arc::clone(writer), first, count }
    }

    /// Brings the body up to date for an attempt that is about to leave.
    pub(super) fn stamp(&self, body: &mut RequestBody, is_retry: bool) {
        self.writer.sequences.lock().stamp(body, is_retry);
    }

    /// Other numbers, none lower than `sequence_min`, for writes of which no copy can take effect any more.
    pub(super) fn take_others(&mut self, sequence_min: u64, body: &mut RequestBody) {
        let mut sequences = self.writer.sequences.lock();
        (self.first..self.first + self.count).for_each(|number| sequences.finish(number));
        sequences.raise(sequence_min);
        self.first = sequences.allocate(self.count);
        Sequences::renumber(body, self.first);
    }
}

impl Drop for WriteNumbers {
    fn drop(&mut self) {
        let mut sequences = self.writer.sequences.lock();
        (self.first..self.first + self.count).for_each(|number| sequences.finish(number));
    }
}
