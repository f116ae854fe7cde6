//! What a connection has still to write: small replies side by side in one buffer, large values between them uncopied.

use crate::limits::UNCOPIED_BYTES_MIN;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes of replies in order. It is a [`Buf`], so that one vectored write takes many pieces of it.
#[derive(Debug, Default)]
pub struct Output {
    /// What is finished, without empty pieces.
    pieces: VecDeque<Bytes>,
    /// Bytes in them.
    pieces_bytes: usize,
    /// What is added to.
    tail: BytesMut,
}

impl Output {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty, with room for `bytes` of small replies.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { tail: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// Bytes that wait. A door stops reading from a client that lets too many pile up.
    pub fn len(&self) -> usize {
        self.pieces_bytes + self.tail.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a copy.
    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Adds a value: a large one without a copy.
    pub(crate) fn put_shared(&mut self, value: &Bytes) {
        if value.len() < UNCOPIED_BYTES_MIN {
            self.put(value);
            return;
        }
        self.close_tail();
        self.pieces_bytes += value.len();
        self.pieces.push_back(value.clone());
    }

    /// Takes up `other` behind what waits here.
    pub fn append(&mut self, mut other: Self) {
        if other.pieces.is_empty() {
            self.put(&other.tail);
            return;
        }
        self.close_tail();
        self.pieces.append(&mut other.pieces);
        self.pieces_bytes += other.pieces_bytes;
        self.tail = other.tail;
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces_bytes += self.tail.len();
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail, |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().map(|piece| &piece[..]);
        let all = pieces.chain((!self.tail.is_empty()).then_some(&self.tail[..]));
        into.iter_mut().zip(all).map(|(slot, piece)| *slot = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.pieces.front_mut() {
            let taken = count.min(first.len());
            first.advance(taken);
            (count, self.pieces_bytes) = (count - taken, self.pieces_bytes - taken);
            if !first.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.tail.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> (Output, Vec<u8>) {
        let large = Bytes::from(vec![b'x'; UNCOPIED_BYTES_MIN]);
        let mut output = Output::new();
        output.put(b"head");
        output.put_shared(&large);
        output.put_shared(&large);
        output.put_shared(&Bytes::from_static(b"small"));
        (output, [&b"head"[..], &large, &large, b"small"].concat())
    }

    #[test]
    fn pieces_keep_their_order_however_they_are_taken() {
        for step in [1, 3, UNCOPIED_BYTES_MIN, usize::MAX] {
            let (mut output, expected) = filled();
            let mut taken = Vec::new();
            while output.has_remaining() {
                let part = output.chunk().len().min(step);
                taken.extend_from_slice(&output.chunk()[..part]);
                output.advance(part);
                assert_eq!(output.len() + taken.len(), expected.len());
            }
            assert!(taken == expected && output.is_empty());
        }
    }

    #[test]
    fn one_vectored_write_takes_them_all() {
        let (mut output, expected) = filled();
        let mut slots = [IoSlice::new(&[]); 8];
        let used = output.chunks_vectored(&mut slots);
        assert_eq!(used, 4);
        assert!(slots[..used].iter().flat_map(|slot| slot.iter().copied()).eq(expected.iter().copied()));
        output.advance(expected.len() - 2);
        assert_eq!(output.chunk(), b"ll");
    }

    #[test]
    fn a_large_value_is_not_copied() {
        let large = Bytes::from(vec![b'x'; UNCOPIED_BYTES_MIN]);
        let mut output = Output::new();
        output.put_shared(&large);
        assert_eq!(output.chunk().as_ptr(), large.as_ptr());
    }

    #[test]
    fn outputs_are_joined_in_order() {
        let (mut all, first) = filled();
        let (second, bytes) = filled();
        all.append(second);
        let mut small = Output::new();
        small.put(b"end");
        all.append(small);
        let length = all.len();
        assert!(all.copy_to_bytes(length) == [&first[..], &bytes, b"end"].concat());
    }
}
