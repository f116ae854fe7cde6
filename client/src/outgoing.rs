//! What a connection has still to write: whole requests, and long ones that leave in parts so that the others pass them.

use crate::limits::OUTGOING_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use kvorum_protocol::RequestBody;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::part::Parts;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Frames that leave first.
    frames: BytesMut,
    /// Bytes of all frames that ever left first.
    frames_end: u64,
    /// Long requests, and those that must not pass them, in order.
    queue: VecDeque<Queued>,
    /// Bytes in the queue.
    queue_bytes: usize,
    /// Bytes that [`Outgoing::take`] has given out last. They are written until it is called again.
    taken_bytes: usize,
    /// Whether a short request was refused since there was room for such, and whether a long one was.
    refused: [bool; 2],
}

#[derive(Debug)]
struct Queued {
    id: u32,
    /// A part of it has left.
    begun: bool,
    what: What,
    /// Hashes of the keys that it is about.
    keys: Vec<u64>,
}

#[derive(Debug)]
enum What {
    Parts(Parts),
    Frame(BytesMut),
}

impl Queued {
    fn bytes(&self) -> usize {
        match &self.what {
            What::Parts(parts) => parts.left(),
            What::Frame(frame) => frame.len(),
        }
    }
}

impl Outgoing {
    /// Adds a request that `encode` writes as a frame. It passes the long ones, except those that are about a key of
    /// its own: requests of one connection for one key take effect in the order in which they are sent.
    ///
    /// Returns where it ends among the frames that leave first, or `None` if it waits for a long one.
    pub(crate) fn push(&mut self, id: u32, body: &RequestBody, encode: impl FnOnce(&mut BytesMut)) -> Option<u64> {
        if !self.queue.is_empty() {
            let keys = key_hashes(body);
            if self.queue.iter().any(|queued| queued.keys.iter().any(|key| keys.contains(key))) {
                let mut frame = BytesMut::new();
                encode(&mut frame);
                self.queue_bytes += frame.len();
                self.queue.push_back(Queued { id, begun: false, what: What::Frame(frame), keys });
                return None;
            }
        }
        let before = self.frames.len();
        encode(&mut self.frames);
        self.frames_end += (self.frames.len() - before) as u64;
        Some(self.frames_end)
    }

    /// Adds a long request.
    pub(crate) fn push_parts(&mut self, id: u32, body: &RequestBody, pieces: [Bytes; 2]) {
        let queued = Queued { id, begun: false, what: What::Parts(Parts::new(pieces)), keys: key_hashes(body) };
        self.queue_bytes += queued.bytes();
        self.queue.push_back(queued);
    }

    /// Whether another request may be added. A short one does not wait for those that it will pass.
    pub(crate) fn has_room(&mut self, is_long: bool) -> bool {
        let has_room = self.ahead(is_long) < OUTGOING_BYTES_MAX;
        self.refused[usize::from(is_long)] |= !has_room;
        has_room
    }

    /// Whether those that were refused may come again. Says so once, when half of what may wait is left.
    pub(crate) fn has_room_again(&mut self) -> bool {
        let mut again = false;
        for is_long in [false, true] {
            if self.refused[usize::from(is_long)] && self.ahead(is_long) <= OUTGOING_BYTES_MAX / 2 {
                self.refused[usize::from(is_long)] = false;
                again = true;
            }
        }
        again
    }

    /// Bytes that a request waits for.
    pub(crate) fn ahead(&self, is_long: bool) -> usize {
        self.frames.len() + self.taken_bytes + if is_long { self.queue_bytes } else { 0 }
    }

    /// Whether a request waits in the queue, wholly or in part.
    pub(crate) fn is_queued(&self, id: u32) -> bool {
        self.queue.iter().any(|queued| queued.id == id)
    }

    /// Takes a request out of the queue, if none of it has left.
    pub(crate) fn forget(&mut self, id: u32) {
        let position = self.queue.iter().position(|queued| queued.id == id && !queued.begun);
        if let Some(queued) = position.and_then(|position| self.queue.remove(position)) {
            self.queue_bytes -= queued.bytes();
        }
    }

    /// Moves what is next into an empty buffer: all frames that need not wait, and one part. Nothing if nothing is left.
    /// Returns where those frames end.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> u64 {
        debug_assert!(buffer.is_empty());
        std::mem::swap(buffer, &mut self.frames);
        if let Some(first) = self.queue.front_mut() {
            let before = first.bytes();
            match &mut first.what {
                What::Frame(frame) => buffer.extend_from_slice(&frame.split()),
                What::Parts(parts) => parts.encode_next(buffer),
            }
            first.begun = true;
            let left = first.bytes();
            self.queue_bytes -= before - left;
            if left == 0 {
                self.queue.pop_front();
            }
        }
        self.taken_bytes = buffer.len();
        self.frames_end
    }
}

/// Hashes of the keys that a request reads or writes in the order of its connection.
fn key_hashes(body: &RequestBody) -> Vec<u64> {
    match body {
        RequestBody::Get { key, .. } => vec![hash64(key)],
        RequestBody::MultiGet { keys, .. } => keys.iter().map(|key| hash64(key)).collect(),
        RequestBody::Write { mutation, .. } => vec![hash64(&mutation.key)],
        RequestBody::Batch { mutations, .. } => mutations.iter().map(|mutation| hash64(&mutation.key)).collect(),
        RequestBody::Atomic(atomic) => {
            let checks = atomic.checks.iter().map(|check| hash64(&check.key));
            checks.chain(atomic.mutations.iter().map(|mutation| hash64(&mutation.key))).collect()
        }
        RequestBody::Transaction(transaction) => transaction.keys().map(|key| hash64(key)).collect(),
        RequestBody::Hello(_)
        | RequestBody::Ping(_)
        | RequestBody::Topology
        | RequestBody::Status(_)
        | RequestBody::Explain(_)
        | RequestBody::Scan(_)
        | RequestBody::Await { .. }
        | RequestBody::Auth(_)
        | RequestBody::Admin(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::limits::{FRAME_BYTES_MAX, PART_BYTES_MAX};
    use kvorum_protocol::part::{Assembler, PART_FRAME_BYTES_MAX};
    use kvorum_protocol::{
        Ack, Action, Condition, Mutation, ReadMode, Request, RequestId, ReturnPrevious, TimeToLive, WriteId, frame,
    };

    fn get(id: u32, key: &'static str) -> Request {
        let body = RequestBody::Get { key: Bytes::from_static(key.as_bytes()), mode: ReadMode::Linearizable };
        Request { id: RequestId(id), deadline_ms: 1000, body }
    }

    fn put(id: u32, key: &'static str, bytes: usize) -> Request {
        let action = Action::Put { value: Bytes::from(vec![7; bytes]), ttl: TimeToLive::Forever };
        let key = Bytes::from_static(key.as_bytes());
        let mutation = Mutation { key, action, condition: Condition::Always, return_previous: ReturnPrevious::Nothing };
        let write = WriteId { sequence: 1, first_unanswered: 1, retry: false, once: None };
        let body = RequestBody::Write { id: write, ack: Ack::Committed, mutation };
        Request { id: RequestId(id), deadline_ms: 1000, body }
    }

    fn push(outgoing: &mut Outgoing, request: &Request) {
        outgoing.push(request.id.0, &request.body, |out| request.encode(out));
    }

    /// The ids of the requests in the order in which they become whole at the other end.
    fn arrivals(outgoing: &mut Outgoing) -> Vec<u32> {
        let mut assembler = Assembler::new(FRAME_BYTES_MAX);
        let (mut buffer, mut ids) = (BytesMut::new(), Vec::new());
        loop {
            outgoing.take(&mut buffer);
            if buffer.is_empty() {
                return ids;
            }
            while let Some(body) = frame::decode(&mut buffer, PART_FRAME_BYTES_MAX).unwrap() {
                if let Some(body) = assembler.handle(body).unwrap() {
                    ids.push(Request::decode(body).unwrap().id.0);
                }
            }
        }
    }

    #[test]
    fn small_requests_pass_large_ones_but_not_those_of_their_own_key() {
        let mut outgoing = Outgoing::default();
        let large = put(1, "large", 10 * PART_BYTES_MAX);
        outgoing.push_parts(large.id.0, &large.body, large.encode_pieces());
        push(&mut outgoing, &get(2, "large"));
        push(&mut outgoing, &get(3, "small"));
        let other = put(4, "other", 2 * PART_BYTES_MAX);
        outgoing.push_parts(other.id.0, &other.body, other.encode_pieces());
        push(&mut outgoing, &get(5, "other"));
        push(&mut outgoing, &put(6, "large", 1));
        push(&mut outgoing, &put(7, "small", 1));
        assert_eq!(arrivals(&mut outgoing), [3, 7, 1, 2, 4, 5, 6]);
        push(&mut outgoing, &get(8, "large"));
        assert_eq!(arrivals(&mut outgoing), [8]);
    }

    #[test]
    fn a_small_request_waits_for_one_part_at_most() {
        let mut outgoing = Outgoing::default();
        let large = put(1, "large", 100 * PART_BYTES_MAX);
        outgoing.push_parts(large.id.0, &large.body, large.encode_pieces());
        let mut buffer = BytesMut::new();
        outgoing.take(&mut buffer);
        assert_eq!(buffer.len(), PART_FRAME_BYTES_MAX);
        buffer.clear();
        push(&mut outgoing, &get(2, "small"));
        outgoing.take(&mut buffer);
        let body = frame::decode(&mut buffer, PART_FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(Request::decode(body).unwrap(), get(2, "small"));
    }
    #[test]
    fn a_request_that_nobody_waits_for_leaves_the_queue_unless_it_has_begun_to_leave() {
        let mut outgoing = Outgoing::default();
        for (id, key) in [(1, "a"), (2, "b"), (3, "c")] {
            let long = put(id, key, 2 * PART_BYTES_MAX);
            outgoing.push_parts(id, &long.body, long.encode_pieces());
        }
        let behind = get(4, "b");
        assert_eq!(outgoing.push(4, &behind.body, |out| behind.encode(out)), None, "it waits for the second one");
        let mut buffer = BytesMut::new();
        outgoing.take(&mut buffer);
        [1, 2, 4].into_iter().for_each(|id| outgoing.forget(id));
        assert_eq!([1, 2, 3, 4].map(|id| outgoing.is_queued(id)), [true, false, true, false]);
        let mut assembler = Assembler::new(FRAME_BYTES_MAX);
        let mut ids = Vec::new();
        while !buffer.is_empty() {
            while let Some(body) = frame::decode(&mut buffer, PART_FRAME_BYTES_MAX).unwrap() {
                ids.extend(assembler.handle(body).unwrap().map(|body| Request::decode(body).unwrap().id.0));
            }
            outgoing.take(&mut buffer);
        }
        assert_eq!(ids, [1, 3]);
        assert_eq!(outgoing.ahead(true), 0);
    }

    #[test]
    fn what_waits_is_bounded_and_short_requests_are_not_kept_back_by_long_ones() {
        let mut outgoing = Outgoing::default();
        let long = put(1, "long", 2 * OUTGOING_BYTES_MAX);
        assert!(outgoing.has_room(true));
        outgoing.push_parts(1, &long.body, long.encode_pieces());
        assert!(!outgoing.has_room(true));
        let mut shorts = 0;
        while outgoing.has_room(false) {
            push(&mut outgoing, &put(2 + shorts, "short", PART_BYTES_MAX / 2));
            shorts += 1;
        }
        assert!(outgoing.ahead(false) < OUTGOING_BYTES_MAX + PART_BYTES_MAX);
        let (mut buffer, mut again) = (BytesMut::new(), Vec::new());
        outgoing.take(&mut buffer);
        assert!(!outgoing.has_room_again() && !outgoing.has_room(false), "what is being written counts");
        loop {
            buffer.clear();
            outgoing.take(&mut buffer);
            if outgoing.has_room_again() {
                again.push(outgoing.ahead(true));
            }
            if buffer.is_empty() {
                break;
            }
        }
        assert_eq!(again.len(), 2, "once for the short ones, once for the long ones: {again:?}");
        assert!(again[0] > OUTGOING_BYTES_MAX && again[1] <= OUTGOING_BYTES_MAX / 2, "{again:?}");
    }
}
