//! What a connection has still to write: whole requests, and long ones that leave in parts so that the others pass them.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::RequestBody;
use kvorum_protocol::hash::hash64;
use kvorum_protocol::part::Parts;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Frames that leave first.
    frames: BytesMut,
    /// Long requests, and those that must not pass them, in order.
    queue: VecDeque<Queued>,
}

#[derive(Debug)]
struct Queued {
    what: What,
    /// Hashes of the keys that it is about.
    keys: Vec<u64>,
}

#[derive(Debug)]
enum What {
    Parts(Parts),
    Frame(BytesMut),
}

impl Outgoing {
    /// Adds a request that `encode` writes as a frame. It passes the long ones, except those that are about a key of
    /// its own: requests of one connection for one key take effect in the order in which they are sent.
    pub(crate) fn push(&mut self, body: &RequestBody, encode: impl FnOnce(&mut BytesMut)) {
        if !self.queue.is_empty() {
            let keys = key_hashes(body);
            if self.queue.iter().any(|queued| queued.keys.iter().any(|key| keys.contains(key))) {
                let mut frame = BytesMut::new();
                encode(&mut frame);
                self.queue.push_back(Queued { what: What::Frame(frame), keys });
                return;
            }
        }
        encode(&mut self.frames);
    }

    /// Adds a long request.
    pub(crate) fn push_parts(&mut self, body: &RequestBody, pieces: [Bytes; 2]) {
        self.queue.push_back(Queued { what: What::Parts(Parts::new(pieces)), keys: key_hashes(body) });
    }

    /// Moves what is next into an empty buffer: all frames that need not wait, and one part. Nothing if nothing is left.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) {
        debug_assert!(buffer.is_empty());
        std::mem::swap(buffer, &mut self.frames);
        let Some(first) = self.queue.front_mut() else { return };
        let done = match &mut first.what {
            What::Frame(frame) => {
                buffer.extend_from_slice(frame);
                true
            }
            What::Parts(parts) => {
                parts.encode_next(buffer);
                parts.left() == 0
            }
        };
        if done {
            self.queue.pop_front();
        }
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
        outgoing.push(&request.body, |out| request.encode(out));
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
        outgoing.push_parts(&large.body, large.encode_pieces());
        push(&mut outgoing, &get(2, "large"));
        push(&mut outgoing, &get(3, "small"));
        let other = put(4, "other", 2 * PART_BYTES_MAX);
        outgoing.push_parts(&other.body, other.encode_pieces());
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
        outgoing.push_parts(&large.body, large.encode_pieces());
        let mut buffer = BytesMut::new();
        outgoing.take(&mut buffer);
        assert_eq!(buffer.len(), PART_FRAME_BYTES_MAX);
        buffer.clear();
        push(&mut outgoing, &get(2, "small"));
        outgoing.take(&mut buffer);
        let body = frame::decode(&mut buffer, PART_FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(Request::decode(body).unwrap(), get(2, "small"));
    }
}
