//! The answers that a connection has still to write: whole frames, and long answers that leave in parts so that the
//! others pass them.

use bytes::{Bytes, BytesMut};
use kvorum_protocol::Response;
use kvorum_protocol::limits::{FRAME_HEADER_BYTES, PART_BYTES_MAX};
use kvorum_protocol::part::Parts;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// What is written next: frames, and at most one part of a long answer at a time.
    pub(super) frames: BytesMut,
    /// Long answers, in order. Their values are not copied.
    long: VecDeque<Parts>,
    /// Bytes of long answers that have not become parts.
    long_bytes: usize,
    /// Whether the client takes long answers in parts.
    in_parts: bool,
}

impl Outgoing {
    /// With room for `bytes`.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let frames = BytesMut::with_capacity(bytes);
        Self { frames, long: VecDeque::new(), long_bytes: 0, in_parts: false }
    }

    /// From here on long answers leave in parts.
    pub(super) fn use_parts(&mut self) {
        self.in_parts = true;
    }

    /// Whether they do: the client said that it knows parts.
    pub(super) fn uses_parts(&self) -> bool {
        self.in_parts
    }

    /// Adds an answer.
    pub(super) fn push(&mut self, response: &Response) {
        if self.in_parts && response.bytes_about() > PART_BYTES_MAX {
            let parts = Parts::new(response.encode_pieces());
            self.long_bytes += parts.left();
            self.long.push_back(parts);
        } else {
            response.encode(&mut self.frames);
        }
    }

    /// Adds a frame that was made before.
    pub(super) fn push_frame(&mut self, frame: &Bytes) {
        if self.in_parts && frame.len() > PART_BYTES_MAX {
            let parts = Parts::new(vec![frame.slice(FRAME_HEADER_BYTES..)]);
            self.long_bytes += parts.left();
            self.long.push_back(parts);
        } else {
            self.frames.extend_from_slice(frame);
        }
    }

    /// Adds a part of the first long answer, if no part is waiting to be written.
    pub(super) fn refill(&mut self) {
        let Some(first) = self.long.front_mut().filter(|_| self.frames.len() < PART_BYTES_MAX) else { return };
        let before = first.left();
        first.encode_next(&mut self.frames);
        self.long_bytes -= before - first.left();
        if first.left() == 0 {
            self.long.pop_front();
        }
    }

    /// Bytes of all answers that wait.
    pub(super) fn bytes(&self) -> usize {
        self.frames.len() + self.long_bytes
    }

    /// Bytes of long answers that wait.
    pub(super) fn long_bytes(&self) -> usize {
        self.long_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::limits::FRAME_BYTES_MAX;
    use kvorum_protocol::part::Assembler;
    use kvorum_protocol::{Entry, Epoch, RequestId, ResponseBody, Version, frame};

    fn value(id: u32, bytes: usize) -> Response {
        let entry = Entry { value: Bytes::from(vec![id as u8; bytes]), version: Version(1), expires_at_ms: None };
        Response { id: RequestId(id), epoch: Epoch(1), forwarded: false, body: ResponseBody::Value(Some(entry)) }
    }

    fn take(outgoing: &mut Outgoing, assembler: &mut Assembler) -> Vec<u32> {
        let mut whole = Vec::new();
        while let Some(body) = frame::decode(&mut outgoing.frames, FRAME_BYTES_MAX).unwrap() {
            whole.extend(assembler.handle(body).unwrap().map(|body| Response::decode(body).unwrap()));
        }
        whole.iter().for_each(|response| assert_eq!(value(response.id.0, response.bytes_about()), *response));
        whole.iter().map(|response| response.id.0).collect()
    }

    #[test]
    fn a_small_answer_passes_a_large_one() {
        let (mut outgoing, mut assembler) = (Outgoing::with_capacity(1024), Assembler::new(FRAME_BYTES_MAX));
        outgoing.use_parts();
        outgoing.push(&value(1, 3 * PART_BYTES_MAX));
        outgoing.refill();
        outgoing.push(&value(2, 10));
        assert_eq!(take(&mut outgoing, &mut assembler), [2]);
        while !outgoing.frames.is_empty() || outgoing.long_bytes() > 0 {
            outgoing.refill();
            outgoing.refill();
            assert!(outgoing.frames.len() < 2 * PART_BYTES_MAX, "one part waits at a time");
            if outgoing.long_bytes() == 0 {
                assert_eq!(take(&mut outgoing, &mut assembler), [1]);
            } else {
                assert_eq!(take(&mut outgoing, &mut assembler), [0; 0]);
            }
        }
    }

    #[test]
    fn a_long_frame_that_was_made_before_leaves_in_parts() {
        let (mut outgoing, mut assembler) = (Outgoing::with_capacity(1024), Assembler::new(FRAME_BYTES_MAX));
        outgoing.use_parts();
        for (id, bytes) in [(1, 3 * PART_BYTES_MAX), (2, 10)] {
            let mut frame = BytesMut::new();
            value(id, bytes).encode(&mut frame);
            outgoing.push_frame(&frame.freeze());
        }
        assert_eq!(take(&mut outgoing, &mut assembler), [2]);
        while outgoing.long_bytes() > 0 {
            outgoing.refill();
            assert!(outgoing.frames.len() < 2 * PART_BYTES_MAX);
            let whole = take(&mut outgoing, &mut assembler);
            assert_eq!(whole, if outgoing.long_bytes() == 0 { vec![1] } else { Vec::new() });
        }
    }

    #[test]
    fn a_client_that_does_not_know_parts_gets_frames() {
        let (mut outgoing, mut assembler) = (Outgoing::with_capacity(1024), Assembler::new(0));
        outgoing.push(&value(1, 3 * PART_BYTES_MAX));
        outgoing.push(&value(2, 10));
        assert_eq!(take(&mut outgoing, &mut assembler), [1, 2]);
        assert_eq!((outgoing.frames.len(), outgoing.long_bytes()), (0, 0));
    }
}
