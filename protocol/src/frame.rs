//! Frames: how messages are told apart on a stream of bytes, and how damage is noticed.
//!
//! ```text
//! length: u32 LE   bytes of the body
//! crc:    u32 LE   CRC-32 (IEEE) of the four length bytes and the body
//! body
//! ```

use crate::codec::DecodeError;
use crate::limits::FRAME_HEADER_BYTES;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Appends one frame to `out`; `body` writes the body straight into it. Returns how many bytes the frame took.
///
/// # Panics
/// If the body is 4 GiB or longer, which the limits of all messages exclude.
pub fn encode(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) -> usize {
    let start = out.len();
    out.put_bytes(0, FRAME_HEADER_BYTES);
    body(out);
    let length = u32::try_from(out.len() - start - FRAME_HEADER_BYTES).expect("frames are under 4 GiB");
    let checksum = checksum(length, &out[start + FRAME_HEADER_BYTES..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    out.len() - start
}

/// Takes the next whole frame's body off the front of `buffer`.
///
/// `Ok(None)`: more bytes are needed. Nothing is allocated: the body shares the buffer's memory.
///
/// # Errors
/// `OverLimit` as soon as the length is known to be over `limit`, `BadChecksum` when the body is there and does not
/// match. Neither can be recovered from: where the next frame begins is not known, so the stream must be closed.
pub fn decode(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, DecodeError> {
    let Some(length) = peek_length(buffer, limit)? else { return Ok(None) };
    if buffer.len() < FRAME_HEADER_BYTES + length {
        return Ok(None);
    }
    let expected = u32::from_le_bytes(buffer[4..8].try_into().expect("four bytes"));
    buffer.advance(FRAME_HEADER_BYTES);
    let body = buffer.split_to(length);
    if checksum(length as u32, &body) != expected {
        return Err(DecodeError::BadChecksum);
    }
    Ok(Some(body.freeze()))
}

/// The body length that the frame at the front of `buffer` announces; `None` while its four bytes have not all come.
///
/// # Errors
/// `OverLimit` if it is over `limit`.
pub fn peek_length(buffer: &[u8], limit: usize) -> Result<Option<usize>, DecodeError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > limit {
        return Err(DecodeError::OverLimit { field: "frame length", value: length as u64, limit: limit as u64 });
    }
    Ok(Some(length))
}

/// The bodies of the whole frames at the front of `buffer`, unverified: to look ahead.
pub fn peek_bodies(mut buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(*buffer.first_chunk()?) as usize;
        let body = buffer.get(FRAME_HEADER_BYTES..)?.get(..length)?;
        buffer = &buffer[FRAME_HEADER_BYTES + length..];
        Some(body)
    })
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        encode(&mut out, |out| out.put_slice(body));
        out
    }

    #[test]
    fn frames_come_back_one_by_one() {
        let mut stream = framed(b"one");
        stream.extend_from_slice(&framed(b""));
        stream.extend_from_slice(&framed(b"three"));
        assert_eq!(decode(&mut stream, 64).unwrap().unwrap(), "one");
        assert_eq!(decode(&mut stream, 64).unwrap().unwrap(), "");
        assert_eq!(decode(&mut stream, 64).unwrap().unwrap(), "three");
        assert_eq!(decode(&mut stream, 64).unwrap(), None);
    }

    #[test]
    fn every_prefix_waits_and_every_damage_is_seen() {
        let whole = framed(b"some body");
        for end in 0..whole.len() {
            assert_eq!(decode(&mut BytesMut::from(&whole[..end]), 64), Ok(None), "prefix of {end}");
        }
        for position in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[position] ^= 1 << bit;
                assert!(!matches!(decode(&mut damaged, 64), Ok(Some(_))), "byte {position} bit {bit}");
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_once() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(matches!(decode(&mut buffer, 1 << 20), Err(DecodeError::OverLimit { value: 0xffff_ffff, .. })));
    }
}
