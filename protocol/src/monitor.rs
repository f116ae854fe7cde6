//! Requests as they come in: how a node is asked to tell of them, and what it tells.

use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{AUTH_NAME_BYTES_MAX, MONITORED_KEY_BYTES_MAX, MONITORED_REQUESTS_MAX};
use bytes::{BufMut, Bytes, BytesMut};

/// Longest name of a door and of an operation, in bytes.
const WORD_BYTES_MAX: usize = 32;
/// The fewest bytes that a request takes.
const SEEN_BYTES_MIN: usize = 39;

/// What a node answers to whoever watches its requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MonitorView {
    /// From which number on to ask next.
    pub next: u64,
    /// Requests from the number on that was asked for of which the node does not tell: there were too many.
    pub untold: u64,
    /// The others, the oldest first; at most [`MONITORED_REQUESTS_MAX`].
    pub requests: Vec<SeenRequest>,
}

/// A request as it came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenRequest {
    /// Grows by one with each request of the node's process that came in while somebody watched.
    pub number: u64,
    /// When it came in: Unix time in milliseconds, by the node's clock.
    pub at_ms: u64,
    /// Which way it came in, such as `binary`.
    pub door: String,
    /// Whose it is; empty for somebody whom nobody has asked.
    pub user: String,
    /// What is asked, such as `put`.
    pub operation: String,
    /// The key, or the first one; of a scan the prefix. At most [`MONITORED_KEY_BYTES_MAX`] bytes of it.
    pub key: Option<Bytes>,
    /// Bytes of the whole key.
    pub key_bytes: u32,
    /// How many keys it is about.
    pub keys: u32,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl MonitorView {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.next);
        out.put_u64_le(self.untold);
        out.count(self.requests.len());
        self.requests.iter().for_each(|request| request.encode(out));
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (next, untold) = (reader.u64()?, reader.u64()?);
        let count = reader.count("watched requests", MONITORED_REQUESTS_MAX, SEEN_BYTES_MIN)?;
        let requests = (0..count).map(|_| SeenRequest::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { next, untold, requests })
    }
}

impl SeenRequest {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.number);
        out.put_u64_le(self.at_ms);
        out.text(&self.door, WORD_BYTES_MAX);
        out.text(&self.user, AUTH_NAME_BYTES_MAX);
        out.text(&self.operation, WORD_BYTES_MAX);
        out.option(self.key.as_ref(), |out, key| out.bytes(key));
        out.put_u32_le(self.key_bytes);
        out.put_u32_le(self.keys);
        out.put_u64_le(self.bytes);
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            number: reader.u64()?,
            at_ms: reader.u64()?,
            door: reader.text("door", WORD_BYTES_MAX)?,
            user: reader.text("user's name", AUTH_NAME_BYTES_MAX)?,
            operation: reader.text("operation", WORD_BYTES_MAX)?,
            key: reader.option("key", |reader| reader.bytes("key length", MONITORED_KEY_BYTES_MAX))?,
            key_bytes: reader.u32()?,
            keys: reader.u32()?,
            bytes: reader.u64()?,
        })
    }
}
