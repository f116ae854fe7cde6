//! The context of a trace, as it travels with a request: W3C Trace Context, level 1.

use crate::codec::{DecodeError, Reader};
use crate::frame;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// The kind of a body that says to which trace the next request belongs. Chapter 3 of docs/PROTOCOL.md.
pub const TRACE_KIND: u8 = 0x7d;

/// The flag that says that the request's trace is recorded.
const SAMPLED: u8 = 1;

/// Tells a trace from all others. Not all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Tells a span from all others of its trace. Not all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

fn digits(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digits(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digits(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digits(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digits(&self.0, f)
    }
}

/// To which trace a request belongs, and which span has caused it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span of whoever asks.
    pub span: SpanId,
    /// The flags of W3C: the lowest bit says that the trace is recorded. Others are kept as they are.
    pub flags: u8,
}

impl TraceContext {
    /// Bytes of the encoding.
    pub const BYTES: usize = 25;

    /// A context whose trace is recorded.
    pub fn sampled(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, flags: SAMPLED }
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Reads the header `traceparent`, of at least version 00: `00-<trace>-<span>-<flags>`, lower-case hexadecimal. `None` for anything
    /// else: whoever gets that begins a trace of its own.
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim_matches([' ', '\t']).split('-');
        let version: [u8; 1] = bytes_of(parts.next()?)?;
        let context = Self {
            trace: TraceId(bytes_of(parts.next()?)?),
            span: SpanId(bytes_of(parts.next()?)?),
            flags: bytes_of::<1>(parts.next()?)?[0],
        };
        // Later versions may go on after the flags.
        let ends = parts.next().is_none() || version[0] > 0;
        (ends && version[0] != 0xff && context.is_valid()).then_some(context)
    }

    /// As the header `traceparent`.
    pub fn to_traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }

    fn is_valid(&self) -> bool {
        self.trace.0 != [0; 16] && self.span.0 != [0; 8]
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.trace.0);
        out.put_slice(&self.span.0);
        out.put_u8(self.flags);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let context = Self { trace: TraceId(reader.array()?), span: SpanId(reader.array()?), flags: reader.u8()? };
        if !context.is_valid() {
            return Err(DecodeError::UnknownValue { field: "trace or span", value: 0 });
        }
        Ok(context)
    }

    /// The body of a frame that says to which trace the next request belongs.
    pub fn encode_body(&self, out: &mut BytesMut) {
        out.put_u8(TRACE_KIND);
        self.encode(out);
    }

    /// The same with its frame.
    pub fn encode_frame(&self, out: &mut BytesMut) {
        frame::encode(out, |out| self.encode_body(out));
    }

    /// Reads a body; `None` if it is none of these.
    ///
    /// # Errors
    /// If it is one, and its bytes mean nothing.
    pub fn decode_body(body: &Bytes) -> Result<Option<Self>, DecodeError> {
        if body.first() != Some(&TRACE_KIND) {
            return Ok(None);
        }
        let mut reader = Reader::new(body.slice(1..));
        let context = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(Some(context))
    }
}

/// As many bytes as the array has, in lower-case hexadecimal.
fn bytes_of<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_header_is_that_of_w3c() {
        let context = TraceContext::from_traceparent(EXAMPLE).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.to_traceparent(), EXAMPLE);
        assert_eq!(
            TraceContext::from_traceparent(&EXAMPLE.replace("-01", "-02")).map(|one| one.is_sampled()),
            Some(false)
        );
        let later = TraceContext::from_traceparent(&format!("{}-more", EXAMPLE.replacen("00", "01", 1)));
        assert_eq!(later, Some(context), "a later version begins like this one");
        for wrong in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::from_traceparent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_body_is_a_kind_and_25_bytes() {
        let context = TraceContext::from_traceparent(EXAMPLE).unwrap();
        let mut body = BytesMut::new();
        context.encode_body(&mut body);
        assert_eq!((body.len(), body[0]), (1 + TraceContext::BYTES, TRACE_KIND));
        let body = body.freeze();
        assert_eq!(TraceContext::decode_body(&body), Ok(Some(context)));
        assert_eq!(TraceContext::decode_body(&Bytes::from_static(b"\x10")), Ok(None));
        for length in 1..body.len() {
            assert!(TraceContext::decode_body(&body.slice(..length)).is_err(), "{length} bytes");
        }
        assert!(TraceContext::decode_body(&[&body[..], &[0]].concat().into()).is_err());
        assert!(TraceContext::decode_body(&[&[TRACE_KIND][..], &[0; 25]].concat().into()).is_err());
    }
}
