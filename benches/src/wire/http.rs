//! The HTTP door: GET and PUT of `/kv/{key}` over HTTP/1.1, on connections that stay open, with values as they are.
//!
//! As much of HTTP as such a client needs, in the same shape as the other protocols. One request is under way at a time: what comes
//! back belongs to it.

use super::{Answer, Outcome, Protocol, Refusal, Value, above};
use crate::engine::{ConnectionError, Settings};
use crate::keys::KeySpace;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_PORT_ABOVE, HTTP_TIMEOUT_DEFAULT};
use crate::routes::Router;
use crate::socket::Socket;
use bytes::{Buf, BufMut, BytesMut};
use kvorum_protocol::limits::VALUE_BYTES_MAX;
use kvorum_protocol::{Ack, ClientId, NodeInfo, ReadMode};
use serde::Deserialize;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Http {
    keys: Arc<KeySpace>,
    /// What follows the key in each request.
    get_tail: Vec<u8>,
    put_tail: Vec<u8>,
    asked: Option<Asked>,
    /// The server closes the connection after the answer that it has given.
    is_closing: bool,
}

/// The request that is under way, and its slot.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Get(u32),
    Put(u32),
}

/// An answer's head.
#[derive(PartialEq, Eq, Debug)]
struct AnswerHead {
    status: u16,
    bytes: usize,
    body_bytes: usize,
    closes: bool,
}

/// What is of interest in a problem's body (RFC 9457).
#[derive(Deserialize)]
struct ProblemSummary {
    code: String,
    #[serde(default)]
    retry_after_ms: u64,
}

impl Protocol for Http {
    fn new(settings: &Arc<Settings>, keys: &Arc<KeySpace>, _: &Arc<Router>) -> Self {
        let timeout = if settings.timeout == HTTP_TIMEOUT_DEFAULT {
            String::new()
        } else {
            format!("kvorum-timeout-ms: {}\r\n", settings.timeout.as_millis())
        };
        let common = format!(" HTTP/1.1\r\nhost: kvorum-bench\r\n{timeout}");
        let stale = if settings.read_mode == ReadMode::Stale { "?consistency=stale" } else { "" };
        let accepted = if settings.ack == Ack::Accepted { "?ack=accepted" } else { "" };
        let (kind, length) = ("application/octet-stream", settings.value_bytes);
        Self {
            keys: Arc::clone(keys),
            get_tail: format!("{stale}{common}accept: {kind}\r\n\r\n").into_bytes(),
            put_tail: format!("{accepted}{common}content-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
                .into_bytes(),
            asked: None,
            is_closing: false,
        }
    }

    async fn open(node: &NodeInfo, _: ClientId, deadline: Instant) -> Result<Socket, ConnectionError> {
        let address =
            above(&node.client_address, HTTP_PORT_ABOVE).ok_or(ConnectionError::Connect(ErrorKind::InvalidInput))?;
        let socket = Socket::connect(&address, deadline.into()).await?;
        Ok(Socket { node: node.id, ..socket })
    }

    fn handle_connected(&mut self) {
        (self.asked, self.is_closing) = (None, false);
    }

    fn has_room(&self) -> bool {
        self.asked.is_none() && !self.is_closing
    }

    fn encode_housekeeping(&mut self, _: Instant, _: &mut BytesMut) {}

    fn encode_get(&mut self, slot: u32, key: u32, output: &mut BytesMut) {
        output.put_slice(b"GET /kv/");
        // Keys are letters and digits, which an address holds as they are.
        self.keys.put(key, output);
        output.put_slice(&self.get_tail);
        self.asked = Some(Asked::Get(slot));
    }

    fn encode_put(&mut self, slot: u32, key: u32, value: Value<'_>, output: &mut BytesMut) {
        output.put_slice(b"PUT /kv/");
        self.keys.put(key, output);
        output.put_slice(&self.put_tail);
        output.put_slice(value.as_slice());
        self.asked = Some(Asked::Put(slot));
    }

    fn end_batch(&mut self, _: &mut BytesMut) {}

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, ConnectionError> {
        let Some(head) = AnswerHead::read(input)? else { return Ok(None) };
        let whole = head.bytes + head.body_bytes;
        if input.len() < whole {
            return Ok(None);
        }
        let asked = self.asked.take().ok_or(ConnectionError::Unexpected)?;
        self.is_closing |= head.closes;
        let (slot, outcome) = match (asked, head.status) {
            (Asked::Get(slot), 200) => (slot, Outcome::Value { found: true }),
            (Asked::Get(slot), 404) => (slot, Outcome::Value { found: false }),
            (Asked::Put(slot), 200..=202) => (slot, Outcome::Written),
            (Asked::Get(slot) | Asked::Put(slot), status) => {
                (slot, Outcome::Refused(refusal(status, &input[head.bytes..whole])))
            }
        };
        input.advance(whole);
        // An answer does not say whether another node gave it.
        Ok(Some(Answer { slot, forwarded: false, outcome }))
    }

    fn give_up(&mut self, _: u32) {}
}

fn refusal(status: u16, body: &[u8]) -> Refusal {
    let problem = serde_json::from_slice::<ProblemSummary>(body);
    let pause = problem.as_ref().map_or(0, |problem| problem.retry_after_ms);
    Refusal {
        name: Cow::Owned(problem.map_or_else(|_| format!("HTTP {status}"), |problem| problem.code)),
        is_overload: status == 429,
        pause: Duration::from_millis(pause),
    }
}

impl AnswerHead {
    /// The head at the front of `input`; `None`: more bytes are needed.
    fn read(input: &[u8]) -> Result<Option<Self>, ConnectionError> {
        let looked_at = &input[..input.len().min(HTTP_HEAD_BYTES_MAX)];
        let (mut status, mut body_bytes, mut closes) = (None, None, false);
        let mut bytes = 0;
        while let Some(end) = looked_at[bytes..].iter().position(|&byte| byte == b'\n') {
            let line = looked_at[bytes..bytes + end].strip_suffix(b"\r").ok_or(ConnectionError::Unexpected)?;
            bytes += end + 1;
            if status.is_none() {
                status = Some(status_of(line).ok_or(ConnectionError::Unexpected)?);
            } else if line.is_empty() {
                let (status, body_bytes) = status.zip(body_bytes).ok_or(ConnectionError::Unexpected)?;
                return Ok(Some(Self { status, bytes, body_bytes, closes }));
            } else if let Some(length) = value_of(b"content-length", line) {
                let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
                body_bytes =
                    Some(length.filter(|&length| length <= VALUE_BYTES_MAX).ok_or(ConnectionError::Unexpected)?);
            } else if let Some(value) = value_of(b"connection", line) {
                closes = value.eq_ignore_ascii_case(b"close");
            }
        }
        if input.len() < HTTP_HEAD_BYTES_MAX { Ok(None) } else { Err(ConnectionError::Unexpected) }
    }
}

/// The status of `HTTP/1.1 200 OK`.
fn status_of(line: &[u8]) -> Option<u16> {
    let status = line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(status).ok()?.parse().ok()
}

/// The value of a header, if the line is that header.
fn value_of<'a>(name: &[u8], line: &'a [u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    // Most lines are another header, and end here.
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    Some(rest.strip_prefix(b":")?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixture;
    use bytes::Bytes;

    fn http(settings: Settings) -> Http {
        let (keys, router) = fixture::keys_of_one_node();
        Http::new(&Arc::new(settings), &keys, &router)
    }

    fn usual() -> Settings {
        Settings { timeout: HTTP_TIMEOUT_DEFAULT, ..fixture::settings() }
    }

    fn get(http: &mut Http) -> BytesMut {
        let mut output = BytesMut::new();
        http.encode_get(2, 7, &mut output);
        output
    }

    fn put(http: &mut Http) -> BytesMut {
        let (mut output, block) = (BytesMut::new(), Bytes::from_static(b"abc"));
        http.encode_put(1, 7, Value { block: &block, start: 0, bytes: 3 }, &mut output);
        output
    }

    /// What a GET, or a PUT, came to.
    fn outcome(is_put: bool, answer: &str) -> Result<Option<String>, ConnectionError> {
        let mut http = http(usual());
        let slot = if is_put { put(&mut http) } else { get(&mut http) };
        assert!(!slot.is_empty() && !http.has_room(), "one request at a time");
        let mut input = BytesMut::from(answer);
        let answered = http.decode(&mut input)?;
        assert!(answered.is_none() || (input.is_empty() && http.asked.is_none()));
        Ok(answered.map(|answer| {
            assert_eq!(answer.slot, if is_put { 1 } else { 2 });
            match answer.outcome {
                Outcome::Refused(refusal) => format!("{} {:?} {}", refusal.name, refusal.pause, refusal.is_overload),
                other => format!("{other:?}"),
            }
        }))
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nETag: \"7\"\r\nContent-Length: {}\r\ndate: now\r\n\r\n{body}", body.len())
    }

    #[test]
    fn requests_are_what_a_node_reads() {
        let expected = "GET /kv/k007 HTTP/1.1\r\nhost: kvorum-bench\r\naccept: application/octet-stream\r\n\r\n";
        assert_eq!(get(&mut http(usual())), expected);
        let expected = "PUT /kv/k007 HTTP/1.1\r\nhost: kvorum-bench\r\ncontent-type: application/octet-stream\r\n\
                        content-length: 3\r\n\r\nabc";
        assert_eq!(put(&mut http(usual())), expected);
        let mut other = http(Settings { ack: Ack::Accepted, read_mode: ReadMode::Stale, ..fixture::settings() });
        let (get, put) = (get(&mut other), put(&mut other));
        assert!(get.starts_with(b"GET /kv/k007?consistency=stale HTTP/1.1\r\n"), "{get:?}");
        assert!(put.starts_with(b"PUT /kv/k007?ack=accepted HTTP/1.1\r\n"), "{put:?}");
        assert!(get.windows(25).any(|window| window == b"kvorum-timeout-ms: 1000\r\n"), "{get:?}");
    }

    #[test]
    fn a_status_says_what_became_of_a_request() {
        let told = |is_put, status: &str, body: &str| outcome(is_put, &answer(status, body)).unwrap().unwrap();
        assert_eq!(told(false, "200 OK", "value"), "Value { found: true }");
        assert_eq!(told(false, "200 OK", ""), "Value { found: true }");
        assert_eq!(told(false, "404 Not Found", r#"{"code":"not-found"}"#), "Value { found: false }");
        assert_eq!(told(true, "201 Created", "{}"), "Written");
        assert_eq!(told(true, "202 Accepted", "{}"), "Written");
        assert_eq!(told(true, "404 Not Found", r#"{"code":"not-found"}"#), "not-found 0ns false");
        let overloaded = r#"{"code":"overloaded","status":429,"retry_after_ms":50}"#;
        assert_eq!(told(true, "429 Too Many Requests", overloaded), "overloaded 50ms true");
        assert_eq!(told(false, "502 Bad Gateway", "<html>"), "HTTP 502 0ns false");
    }

    #[test]
    fn every_prefix_of_an_answer_waits() {
        let whole = answer("200 OK", "a\r\n\r\nb");
        for cut in 0..whole.len() {
            assert_eq!(outcome(false, &whole[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert!(outcome(false, &whole).unwrap().is_some());
    }

    #[test]
    fn nothing_is_sent_on_a_connection_that_the_server_closes() {
        let mut http = http(usual());
        get(&mut http);
        let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 0\r\n\r\n");
        assert!(http.decode(&mut input).unwrap().is_some());
        assert!(!http.has_room());
        http.handle_connected();
        assert!(http.has_room(), "another connection is open");
    }

    #[test]
    fn answers_that_are_none_end_the_connection() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HTTP_HEAD_BYTES_MAX));
        for bytes in [
            "SSH-2.0\r\n",
            "HTTP/1.1 2\r\n",
            "HTTP/1.1 200 OK\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n",
            &endless,
        ] {
            assert!(matches!(outcome(false, bytes), Err(ConnectionError::Unexpected)), "{bytes:.60}");
        }
        let unasked = http(usual()).decode(&mut BytesMut::from(&answer("200 OK", "")[..]));
        assert!(matches!(unasked, Err(ConnectionError::Unexpected)));
    }

    #[test]
    fn the_door_is_where_a_cluster_places_it() {
        assert_eq!(above("127.0.0.1:7401", 20).as_deref(), Some("127.0.0.1:7421"));
        assert_eq!(above("[::1]:7400", 20).as_deref(), Some("[::1]:7420"));
        assert_eq!((above("nowhere", 20), above("a:65530", 20)), (None, None));
    }
}
