//! Parts: how a large message lets small ones pass.
//!
//! A message that is longer than [`PART_BYTES_MAX`] may travel as several frames, its *parts*; whole messages may come
//! between two of them. A part's body is
//!
//! ```text
//! kind: u8       0x7e, which is neither an operation nor the kind of a response or of a peer's message
//! left: u32      bytes of the message after this part; 0 in its last one
//! bytes          1 to 64 KiB of the message
//! ```
//!
//! In one direction of a stream only one message is on its way in parts at a time. So a part needs no number, the
//! receiver has at most one unfinished message to keep, and the first part says how long it is: there is no way to go on
//! for ever. A message in parts counts as sent, and is handled, where its last part stands.

use crate::codec::DecodeError;
use crate::frame;
use crate::limits::{FRAME_HEADER_BYTES, PART_BYTES_MAX};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// The first byte of a part's body.
pub const PART_KIND: u8 = 0x7e;
/// Bytes in front of the message's own in a part's body.
pub const PART_HEADER_BYTES: usize = 5;
/// Bytes of the longest part, with its frame.
pub const PART_FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + PART_HEADER_BYTES + PART_BYTES_MAX;

/// A message that leaves part by part. Its bytes are copied only into the part that is being made, so that neither the
/// copy nor the checksum of a large message keeps anyone waiting.
#[derive(Debug)]
pub struct Parts {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Parts {
    /// Of the message that these pieces make, one after another.
    ///
    /// # Panics
    /// If they are 4 GiB or longer together, which the limits of all messages exclude.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let left = pieces.iter().map(Bytes::len).sum();
        assert!(u32::try_from(left).is_ok(), "messages are under 4 GiB");
        Self { pieces, left }
    }

    /// Bytes of the message that have not been put into a part.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Appends the next part, with its frame, to `out`; nothing once all have been.
    pub fn encode_next(&mut self, out: &mut BytesMut) {
        let bytes = self.left.min(PART_BYTES_MAX);
        if bytes == 0 {
            return;
        }
        self.left -= bytes;
        let left = self.left as u32;
        out.reserve(PART_FRAME_BYTES_MAX);
        frame::encode(out, |out| {
            out.put_u8(PART_KIND);
            out.put_u32_le(left);
            self.copy(bytes, out);
        });
    }

    fn copy(&mut self, mut bytes: usize, out: &mut BytesMut) {
        while bytes > 0 {
            let piece = self.pieces.front_mut().expect("as many bytes are left as the pieces hold");
            let some = piece.len().min(bytes);
            out.put_slice(&piece[..some]);
            piece.advance(some);
            bytes -= some;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

/// Puts the messages of one direction of a stream together again.
#[derive(Debug)]
pub struct Assembler {
    bytes_max: usize,
    message: BytesMut,
    left: usize,
}

/// Once so much of a message has come, there is memory for all of it at once: to go on in steps would cost copies.
pub const EARNEST_BYTES: usize = 1024 * 1024;

impl Assembler {
    /// For messages of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, message: BytesMut::new(), left: 0 }
    }

    /// Bytes that have come of a message that is not whole yet.
    pub fn held(&self) -> usize {
        self.message.len()
    }

    /// Whether a message is on its way in parts.
    pub fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// If this frame is the first part of a message: how many bytes the whole has.
    ///
    /// # Errors
    /// As [`Assembler::handle`].
    pub fn begins(&self, body: &[u8]) -> Result<Option<usize>, DecodeError> {
        if self.is_under_way() || body.first() != Some(&PART_KIND) {
            return Ok(None);
        }
        let (bytes, left) = parse(body)?;
        let total = bytes.len() + left;
        if total > self.bytes_max {
            return Err(DecodeError::OverLimit {
                field: "length of a message in parts",
                value: total as u64,
                limit: self.bytes_max as u64,
            });
        }
        Ok(Some(total))
    }

    /// Takes the body of the stream's next frame. Returns a message if it is one, or makes one whole.
    ///
    /// # Errors
    /// `OverLimit` at the first part of a message that would be too long, other errors for a part that is none or does
    /// not follow the one before. None can be recovered from: the stream must be closed.
    pub fn handle(&mut self, body: Bytes) -> Result<Option<Bytes>, DecodeError> {
        if body.first() != Some(&PART_KIND) {
            return Ok(Some(body));
        }
        if let Some(total) = self.begins(&body)? {
            self.left = total;
        }
        let (bytes, left) = parse(&body)?;
        if bytes.len() + left != self.left {
            return Err(DecodeError::UnknownValue { field: "bytes left of a message in parts", value: left as u64 });
        }
        if self.message.capacity() - self.message.len() < bytes.len() {
            // Not the whole at once: whoever announces much need not send it.
            let ahead = if self.held() < EARNEST_BYTES { self.held().max(4 * PART_BYTES_MAX) } else { self.left };
            self.message.reserve(self.left.min(ahead));
        }
        self.message.put_slice(bytes);
        self.left = left;
        Ok((left == 0).then(|| std::mem::take(&mut self.message).freeze()))
    }
}

/// The message's bytes in a part, and how many come after them.
fn parse(body: &[u8]) -> Result<(&[u8], usize), DecodeError> {
    let Some((header, bytes)) = body.split_at_checked(PART_HEADER_BYTES) else { return Err(DecodeError::Truncated) };
    if bytes.is_empty() {
        return Err(DecodeError::Truncated);
    }
    if bytes.len() > PART_BYTES_MAX {
        let (value, limit) = (bytes.len() as u64, PART_BYTES_MAX as u64);
        return Err(DecodeError::OverLimit { field: "length of a part", value, limit });
    }
    let left = u32::from_le_bytes(header[1..].try_into().expect("four bytes"));
    Ok((bytes, left as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(mut parts: Parts) -> Vec<Bytes> {
        let mut stream = BytesMut::new();
        let mut bodies = Vec::new();
        while parts.left() > 0 {
            parts.encode_next(&mut stream);
            bodies.push(frame::decode(&mut stream, PART_FRAME_BYTES_MAX).unwrap().unwrap());
            assert!(stream.is_empty());
        }
        bodies
    }

    fn part(left: u32, bytes: usize) -> Bytes {
        let mut body = BytesMut::from(&[PART_KIND][..]);
        body.put_u32_le(left);
        body.put_bytes(7, bytes);
        body.freeze()
    }

    #[test]
    fn a_message_comes_back_whole_and_others_pass_between_its_parts() {
        let message: Bytes = (0..3 * PART_BYTES_MAX + 5).map(|byte| byte as u8).collect();
        let pieces = [message.slice(..9), Bytes::new(), message.slice(9..)];
        let bodies = frames(Parts::new(pieces));
        assert_eq!(bodies.len(), 4);
        let mut assembler = Assembler::new(message.len());
        assert_eq!(assembler.begins(&bodies[0]), Ok(Some(message.len())));
        for body in &bodies[..3] {
            assert_eq!(assembler.handle(body.clone()), Ok(None));
            assert_eq!(assembler.begins(&bodies[3]), Ok(None));
            assert_eq!(assembler.handle(Bytes::from_static(b"\x01small")), Ok(Some(Bytes::from_static(b"\x01small"))));
        }
        assert_eq!(assembler.handle(bodies[3].clone()), Ok(Some(message)));
        assert!(!assembler.is_under_way());
    }

    /// The bytes that stand in docs/PROTOCOL.md.
    #[test]
    fn encoding_gives_the_golden_bytes() {
        let golden: [u8; 21] = *b"\x0d\x00\x00\x00\xa2\xd7\x8e\x50\x7e\x00\x00\x00\x00\x61\x62\x63\x64\x65\x66\x67\x68";
        let mut out = BytesMut::new();
        Parts::new([Bytes::from_static(b"abcd"), Bytes::from_static(b"efgh")]).encode_next(&mut out);
        assert_eq!(out[..], golden);
        let body = frame::decode(&mut out, PART_FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(Assembler::new(8).handle(body), Ok(Some(Bytes::from_static(b"abcdefgh"))));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_at_its_first_part() {
        let mut assembler = Assembler::new(1000);
        assert!(matches!(assembler.handle(part(991, 10)), Err(DecodeError::OverLimit { value: 1001, .. })));
        assert!(!assembler.is_under_way());
        assert_eq!(assembler.handle(part(990, 10)), Ok(None));
    }

    #[test]
    fn parts_that_do_not_follow_are_refused() {
        for second in [part(100, 10), part(80, 9), part(0, 10), part(u32::MAX, 10), part(90, 1)] {
            let mut assembler = Assembler::new(1 << 20);
            assert_eq!(assembler.handle(part(90, 10)), Ok(None));
            assert!(assembler.handle(second).is_err());
        }
        for first in [part(90, 0), part(0, PART_BYTES_MAX + 1), Bytes::from_static(&[PART_KIND, 1, 0, 0])] {
            assert!(Assembler::new(1 << 20).handle(first).is_err());
        }
    }
}
