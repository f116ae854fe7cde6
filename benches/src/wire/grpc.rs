//! etcd's protocol: the unary gRPC calls KV/Range and KV/Put over HTTP/2, one stream for each request.
//!
//! As much of HTTP/2 (RFC 9113) as such a client needs, in the same shape as the other protocols, so that one engine drives
//! them all. What the server's header blocks say is not decoded: a call that worked has a message, one that failed has none.

use super::{Answer, Outcome, Protocol, Refusal, Value};
use crate::engine::{ConnectionError, Settings};
use crate::keys::KeySpace;
use crate::routes::Router;
use crate::socket::Socket;
use bytes::{Buf, BufMut, BytesMut};
use kvorum_protocol::{ClientId, NodeInfo};
use prost::Message;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
/// The largest frame that either side sends: nobody asks for more.
const FRAME_BYTES_MAX: usize = 16_384;
/// The largest value of a write: it must fit the window that a stream begins with, with its key and all that is around it.
pub(crate) const VALUE_BYTES_MAX: usize = 32 * 1024;
/// The largest message that is taken.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Both windows begin with this many bytes.
const WINDOW_INITIAL: i64 = 65_535;
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// The window for what is received is opened again after this many bytes.
const WINDOW_STEP: i64 = 1 << 28;
/// The dynamic table that a server has unless it says otherwise; all that is put there fits.
const HEADER_TABLE_BYTES: u32 = 4096;
/// The first index of the dynamic table (RFC 7541).
const DYNAMIC_FIRST: u32 = 62;
/// Streams of one connection; the ids end at 2³¹.
const STREAM_MAX: u32 = (1 << 31) - 1;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

mod flag {
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// `etcdserverpb.RangeRequest`; linearizable unless it says otherwise.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: bytes::Bytes,
}

/// `etcdserverpb.RangeResponse`.
#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

/// `etcdserverpb.PutRequest`.
#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: bytes::Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Range,
    Put,
}

/// A request that is under way.
#[derive(Debug)]
struct Stream {
    slot: u32,
    call: Call,
    /// The length-prefixed message, as far as it has come.
    message: BytesMut,
}

/// A header that the server is told once and then knows by its place in its table.
#[derive(Debug)]
struct Header {
    /// As a literal that is to be indexed (RFC 7541, 6.2.1).
    literal: Vec<u8>,
    /// How many were put before it, once it was.
    place: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Grpc {
    keys: Arc<KeySpace>,
    streams: HashMap<u32, Stream>,
    next_stream: u32,
    is_greeted: bool,
    /// `te`, `content-type`, `:authority`, then the paths of the calls.
    headers: [Header; 5],
    placed: u32,
    /// What may still be sent, on the connection and on a new stream.
    window: i64,
    stream_window: i64,
    streams_max: usize,
    /// Received since the window was last opened.
    received: i64,
    /// Frames that answer the server's own.
    replies: BytesMut,
    /// Bytes of the longest request.
    request_bytes_max: i64,
    key_scratch: BytesMut,
    message: BytesMut,
    block: BytesMut,
}

impl Protocol for Grpc {
    fn new(settings: &Arc<Settings>, keys: &Arc<KeySpace>, _: &Arc<Router>) -> Self {
        Self {
            keys: Arc::clone(keys),
            streams: HashMap::with_capacity(settings.pipeline),
            next_stream: 1,
            is_greeted: false,
            headers: [
                Header::new(&[], b"te", b"trailers"),
                Header::new(&[31], b"", b"application/grpc"),
                Header::new(&[1], b"", b"localhost"),
                Header::new(&[4], b"", b"/etcdserverpb.KV/Range"),
                Header::new(&[4], b"", b"/etcdserverpb.KV/Put"),
            ],
            placed: 0,
            window: WINDOW_INITIAL,
            stream_window: WINDOW_INITIAL,
            streams_max: usize::MAX,
            received: 0,
            replies: BytesMut::new(),
            // The fields' tags and lengths, and the prefix of the message.
            request_bytes_max: (keys.key_bytes() + settings.value_bytes + 32) as i64,
            key_scratch: BytesMut::new(),
            message: BytesMut::new(),
            block: BytesMut::new(),
        }
    }

    async fn open(node: &NodeInfo, _: ClientId, deadline: Instant) -> Result<Socket, ConnectionError> {
        Socket::connect(&node.client_address, deadline.into()).await
    }

    fn handle_connected(&mut self) {
        self.streams.clear();
        self.next_stream = 1;
        self.is_greeted = false;
        self.headers.iter_mut().for_each(|header| header.place = None);
        self.placed = 0;
        (self.window, self.stream_window) = (WINDOW_INITIAL, WINDOW_INITIAL);
        self.streams_max = usize::MAX;
        self.received = 0;
        self.replies.clear();
    }

    fn has_room(&self) -> bool {
        self.window.min(self.stream_window) >= self.request_bytes_max
            && self.streams.len() < self.streams_max
            && self.next_stream <= STREAM_MAX
    }

    fn encode_housekeeping(&mut self, _: Instant, output: &mut BytesMut) {
        if !self.is_greeted {
            self.is_greeted = true;
            output.put_slice(PREFACE);
            put_frame(output, kind::SETTINGS, 0, 0, |payload| {
                payload.put_u16(setting::ENABLE_PUSH);
                payload.put_u32(0);
                payload.put_u16(setting::INITIAL_WINDOW_SIZE);
                payload.put_u32(WINDOW_MAX as u32);
            });
            put_window_update(output, WINDOW_MAX - WINDOW_INITIAL);
        }
        output.put_slice(&self.replies);
        self.replies.clear();
        if self.received >= WINDOW_STEP {
            put_window_update(output, std::mem::take(&mut self.received));
        }
    }

    fn encode_get(&mut self, slot: u32, key: u32, output: &mut BytesMut) {
        let key = self.keys.bytes_of(key, &mut self.key_scratch);
        self.call(slot, Call::Range, &RangeRequest { key }, output);
    }

    fn encode_put(&mut self, slot: u32, key: u32, value: Value<'_>, output: &mut BytesMut) {
        let key = self.keys.bytes_of(key, &mut self.key_scratch);
        self.call(slot, Call::Put, &PutRequest { key, value: value.shared() }, output);
    }

    fn end_batch(&mut self, _: &mut BytesMut) {}

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, ConnectionError> {
        while let Some(header) = input.first_chunk::<FRAME_HEADER_BYTES>() {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & STREAM_MAX;
            if length > FRAME_BYTES_MAX {
                return Err(ConnectionError::Unexpected);
            }
            if input.len() < FRAME_HEADER_BYTES + length {
                return Ok(None);
            }
            let payload = &input[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length];
            let ended = match kind {
                kind::DATA => self.handle_data(stream, flags, payload)?,
                kind::HEADERS => flags & flag::END_STREAM != 0,
                kind::RST_STREAM => true,
                _ => {
                    self.handle_control(kind, flags, stream, payload)?;
                    false
                }
            };
            input.advance(FRAME_HEADER_BYTES + length);
            // A stream that ended was asked for once; the end of another one is of no interest.
            if ended && let Some(stream) = self.streams.remove(&stream) {
                return Ok(Some(stream.answer()));
            }
        }
        Ok(None)
    }

    fn give_up(&mut self, _: u32) {}
}

impl Grpc {
    /// Appends the frames of a request.
    fn call(&mut self, slot: u32, call: Call, request: &impl Message, output: &mut BytesMut) {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.block.clear();
        // `:method: POST` and `:scheme: http` have places in the static table. Pseudo-headers come first.
        self.block.put_slice(&[0x80 | 3, 0x80 | 6]);
        let path = if call == Call::Range { 3 } else { 4 };
        for header in [path, 2, 0, 1] {
            self.headers[header].put(&mut self.placed, &mut self.block);
        }
        put_frame(output, kind::HEADERS, flag::END_HEADERS, stream, |payload| payload.put_slice(&self.block));
        let length = request.encoded_len();
        self.message.clear();
        self.message.put_u8(0);
        self.message.put_u32(u32::try_from(length).expect("a request is shorter than the window"));
        request.encode(&mut self.message).expect("a buffer that grows has room");
        self.window -= self.message.len() as i64;
        let last = (self.message.len() - 1) / FRAME_BYTES_MAX;
        for (number, part) in self.message.chunks(FRAME_BYTES_MAX).enumerate() {
            let flags = if number == last { flag::END_STREAM } else { 0 };
            put_frame(output, kind::DATA, flags, stream, |payload| payload.put_slice(part));
        }
        self.streams.insert(stream, Stream { slot, call, message: BytesMut::new() });
    }

    /// Returns whether the stream ended with it.
    fn handle_data(&mut self, stream: u32, flags: u8, payload: &[u8]) -> Result<bool, ConnectionError> {
        if flags & flag::PADDED != 0 {
            return Err(ConnectionError::Unexpected);
        }
        self.received += payload.len() as i64;
        if let Some(stream) = self.streams.get_mut(&stream) {
            if stream.message.len() + payload.len() > MESSAGE_BYTES_MAX {
                return Err(ConnectionError::Unexpected);
            }
            stream.message.put_slice(payload);
        }
        Ok(flags & flag::END_STREAM != 0)
    }

    fn handle_control(&mut self, kind: u8, flags: u8, stream: u32, mut payload: &[u8]) -> Result<(), ConnectionError> {
        match kind {
            kind::SETTINGS if flags & flag::ACK == 0 => {
                while payload.len() >= 6 {
                    let (name, value) = (payload.get_u16(), payload.get_u32());
                    self.handle_setting(name, value)?;
                }
                put_frame(&mut self.replies, kind::SETTINGS, flag::ACK, 0, |_| {});
            }
            kind::PING if flags & flag::ACK == 0 => {
                put_frame(&mut self.replies, kind::PING, flag::ACK, 0, |reply| reply.put_slice(payload));
            }
            // Requests fit the window of their streams, so that only the connection's matters.
            kind::WINDOW_UPDATE if stream == 0 && payload.len() == 4 => {
                self.window += i64::from(payload.get_u32() & STREAM_MAX);
            }
            kind::GOAWAY => return Err(ConnectionError::Closed),
            _ => {}
        }
        Ok(())
    }

    fn handle_setting(&mut self, name: u16, value: u32) -> Result<(), ConnectionError> {
        match name {
            setting::HEADER_TABLE_SIZE if value < HEADER_TABLE_BYTES => return Err(ConnectionError::Unexpected),
            setting::MAX_CONCURRENT_STREAMS => self.streams_max = value as usize,
            setting::INITIAL_WINDOW_SIZE => self.stream_window = value.into(),
            _ => {}
        }
        Ok(())
    }
}

impl Stream {
    /// What the call came to.
    fn answer(self) -> Answer {
        let failed =
            |name| Outcome::Refused(Refusal { name: Cow::Borrowed(name), is_overload: false, pause: Duration::ZERO });
        // A byte that says whether it is compressed, and a length.
        let message = self.message.get(5..);
        let outcome = match (self.call, message) {
            (_, None) => failed("gRPC error"),
            (Call::Put, Some(_)) => Outcome::Written,
            (Call::Range, Some(message)) => match RangeResponse::decode(message) {
                Ok(range) => Outcome::Value { found: range.count > 0 },
                Err(_) => failed("no protobuf message"),
            },
        };
        Answer { slot: self.slot, forwarded: false, outcome }
    }
}

impl Header {
    /// `index` is the name's place in the static table, if it has one; all lengths here are below 63.
    fn new(index: &[u8], name: &[u8], value: &[u8]) -> Self {
        let mut literal = vec![0x40 | index.first().copied().unwrap_or(0)];
        if index.is_empty() {
            literal.push(name.len() as u8);
            literal.extend_from_slice(name);
        }
        literal.push(value.len() as u8);
        literal.extend_from_slice(value);
        Self { literal, place: None }
    }

    fn put(&mut self, placed: &mut u32, block: &mut BytesMut) {
        match self.place {
            // The newest has the lowest index; five of them fit into seven bits.
            Some(place) => block.put_u8(0x80 | (DYNAMIC_FIRST + *placed - 1 - place) as u8),
            None => {
                self.place = Some(*placed);
                *placed += 1;
                block.put_slice(&self.literal);
            }
        }
    }
}

fn put_frame(output: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: impl FnOnce(&mut BytesMut)) {
    let start = output.len();
    output.put_slice(&[0, 0, 0, kind, flags]);
    output.put_u32(stream);
    payload(output);
    let length = (output.len() - start - FRAME_HEADER_BYTES) as u32;
    output[start..start + 3].copy_from_slice(&length.to_be_bytes()[1..]);
}

fn put_window_update(output: &mut BytesMut, bytes: i64) {
    put_frame(output, kind::WINDOW_UPDATE, 0, 0, |payload| payload.put_u32(bytes as u32));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixture;
    use bytes::Bytes;

    fn grpc(value_bytes: usize) -> Grpc {
        let (keys, router) = fixture::keys_of_one_node();
        let settings = Settings { value_bytes, ..fixture::settings() };
        Grpc::new(&Arc::new(settings), &keys, &router)
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        put_frame(&mut out, kind, flags, stream, |out| out.put_slice(payload));
        out
    }

    /// What etcd sends for a call that worked: headers, a message, trailers.
    fn answered(stream: u32, message: &[u8]) -> Vec<u8> {
        let mut prefixed = vec![0];
        prefixed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        prefixed.extend_from_slice(message);
        let ended = flag::END_HEADERS | flag::END_STREAM;
        let frames = [
            frame(kind::HEADERS, flag::END_HEADERS, stream, &[0x88]),
            frame(kind::DATA, 0, stream, &prefixed),
            frame(kind::HEADERS, ended, stream, &[0xc0]),
        ];
        frames.concat()
    }

    fn outcomes(grpc: &mut Grpc, bytes: &[u8]) -> Vec<(u32, String)> {
        let (mut input, mut told) = (BytesMut::from(bytes), Vec::new());
        while let Some(Answer { slot, outcome, .. }) = grpc.decode(&mut input).unwrap() {
            told.push((slot, format!("{outcome:?}")));
        }
        assert!(input.is_empty());
        told
    }

    /// The frames of `output` as kind, flags, stream and payload.
    fn frames(mut output: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while !output.is_empty() {
            let length = u32::from_be_bytes([0, output[0], output[1], output[2]]) as usize;
            let stream = u32::from_be_bytes(output[5..9].try_into().unwrap());
            frames.push((output[3], output[4], stream, output[9..9 + length].to_vec()));
            output = &output[9 + length..];
        }
        frames
    }

    #[test]
    fn a_call_is_answered_by_its_trailers_and_in_any_order() {
        let (mut grpc, mut output) = (grpc(3), BytesMut::new());
        let block = Bytes::from_static(b"abc");
        grpc.encode_get(0, 1, &mut output);
        grpc.encode_put(1, 2, Value { block: &block, start: 0, bytes: 3 }, &mut output);
        grpc.encode_get(2, 3, &mut output);
        let found = RangeResponse { count: 1 }.encode_to_vec();
        let bytes = [answered(3, b""), answered(5, &found), answered(1, b"")].concat();
        let expected = [(1, "Written"), (2, "Value { found: true }"), (0, "Value { found: false }")];
        let told: Vec<(u32, String)> = expected.iter().map(|&(slot, outcome)| (slot, outcome.to_owned())).collect();
        assert_eq!(outcomes(&mut grpc, &bytes), told);
    }

    #[test]
    fn every_prefix_of_an_answer_waits() {
        let whole = answered(1, b"");
        for cut in 0..whole.len() {
            let mut grpc = grpc(3);
            grpc.encode_get(0, 1, &mut BytesMut::new());
            let mut input = BytesMut::from(&whole[..cut]);
            assert!(grpc.decode(&mut input).unwrap().is_none(), "cut at {cut}");
            input.extend_from_slice(&whole[cut..]);
            assert!(grpc.decode(&mut input).unwrap().is_some(), "cut at {cut}");
        }
    }

    #[test]
    fn a_call_without_a_message_failed() {
        let mut grpc = grpc(3);
        (0..2).for_each(|slot| grpc.encode_get(slot, 1, &mut BytesMut::new()));
        let trailers_only = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0x88]);
        let reset = frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]);
        let told = outcomes(&mut grpc, &[trailers_only, reset].concat());
        assert!(told.len() == 2 && told.iter().all(|(_, outcome)| outcome.contains("gRPC error")), "{told:?}");
    }

    #[test]
    fn headers_are_told_once_and_then_named_by_their_place() {
        let (mut grpc, mut output) = (grpc(3), BytesMut::new());
        let block = Bytes::from_static(b"abc");
        let value = || Value { block: &block, start: 0, bytes: 3 };
        grpc.encode_put(0, 1, value(), &mut output);
        grpc.encode_put(1, 1, value(), &mut output);
        grpc.encode_get(2, 1, &mut output);
        grpc.encode_put(3, 1, value(), &mut output);
        let frames = frames(&output);
        let headers: Vec<&Vec<u8>> =
            frames.iter().filter(|frame| frame.0 == kind::HEADERS).map(|frame| &frame.3).collect();
        let has = |block: &[u8], text: &[u8]| block.windows(text.len()).any(|window| window == text);
        assert!(has(headers[0], b"/etcdserverpb.KV/Put") && has(headers[0], b"trailers"));
        // Put's path, the authority, te and content-type were placed in this order: the newest is 62.
        assert_eq!(headers[1], &[0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
        assert!(has(headers[2], b"/etcdserverpb.KV/Range") && !has(headers[2], b"trailers"));
        assert_eq!(headers[3], &[0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63], "Range's path came after");
        let data: Vec<_> = frames.iter().filter(|frame| frame.0 == kind::DATA).collect();
        assert!(data.iter().all(|frame| frame.1 == flag::END_STREAM));
        assert_eq!(data.iter().map(|frame| frame.2).collect::<Vec<_>>(), [1, 3, 5, 7]);
        assert_eq!(data[0].3, b"\x00\x00\x00\x00\x0b\x0a\x04k001\x12\x03abc");
    }

    #[test]
    fn long_messages_are_split_and_the_window_is_kept() {
        let bytes = VALUE_BYTES_MAX;
        let (mut grpc, mut output) = (grpc(bytes), BytesMut::new());
        let block = Bytes::from(vec![b'v'; bytes]);
        assert!(grpc.has_room());
        grpc.encode_put(0, 1, Value { block: &block, start: 0, bytes }, &mut output);
        let data: Vec<_> = frames(&output).into_iter().filter(|frame| frame.0 == kind::DATA).collect();
        assert!(data.len() == 3 && data.iter().all(|frame| frame.3.len() <= FRAME_BYTES_MAX));
        assert_eq!(data.iter().map(|frame| frame.1).collect::<Vec<_>>(), [0, 0, flag::END_STREAM]);
        assert!(!grpc.has_room(), "another one does not fit the window");
        let update = frame(kind::WINDOW_UPDATE, 0, 0, &(bytes as u32).to_be_bytes());
        assert!(outcomes(&mut grpc, &update).is_empty() && grpc.has_room());
        let settings = [&[0, 3][..], &1u32.to_be_bytes()].concat();
        outcomes(&mut grpc, &frame(kind::SETTINGS, 0, 0, &settings));
        assert!(!grpc.has_room(), "one stream at a time");
        grpc.handle_connected();
        assert!(grpc.has_room(), "another connection has its own");
    }

    #[test]
    fn the_servers_own_frames_are_answered() {
        let (mut grpc, mut output) = (grpc(3), BytesMut::new());
        let now = Instant::now();
        grpc.encode_housekeeping(now, &mut output);
        assert!(output.starts_with(PREFACE));
        output.clear();
        let asked = [frame(kind::SETTINGS, 0, 0, &[]), frame(kind::PING, 0, 0, b"12345678")].concat();
        outcomes(&mut grpc, &asked);
        grpc.encode_housekeeping(now, &mut output);
        let expected = [(kind::SETTINGS, flag::ACK, 0, vec![]), (kind::PING, flag::ACK, 0, b"12345678".to_vec())];
        assert_eq!(frames(&output), expected);
    }

    #[test]
    fn a_server_that_leaves_or_breaks_the_rules_ends_the_connection() {
        let small_table = [&[0, 1][..], &0u32.to_be_bytes()].concat();
        for (bytes, name) in [
            (frame(kind::GOAWAY, 0, 0, &[0; 8]), "leaves"),
            (frame(kind::DATA, flag::PADDED, 1, &[0; 8]), "pads"),
            (frame(kind::SETTINGS, 0, 0, &small_table), "remembers no headers"),
            (BytesMut::from(&[0xff; 9][..]), "has a frame that is too long"),
        ] {
            assert!(grpc(3).decode(&mut BytesMut::from(&bytes[..])).is_err(), "a server that {name}");
        }
    }
}
