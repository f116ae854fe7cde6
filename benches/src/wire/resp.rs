//! Redis's protocol (RESP2): GET, and SET with or without WAIT.
//!
//! Answers come in the order of the requests. A SET that must be on a replica is followed by WAIT on the same connection,
//! which Redis answers once a replica has acknowledged everything that this connection wrote before.

use super::{Answer, Outcome, Protocol, Refusal, Value};
use crate::engine::{ConnectionError, Settings};
use crate::keys::KeySpace;
use crate::options::Replicated;
use crate::routes::Router;
use crate::socket::Socket;
use bytes::{Buf, BytesMut};
use kvorum_protocol::{ClientId, NodeInfo};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest first line of an answer: a kind and a number, or an error's text.
const LINE_BYTES_MAX: usize = 4096;
/// Longest bulk string that Redis sends.
const BULK_BYTES_MAX: usize = 512 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Resp {
    keys: Arc<KeySpace>,
    router: Arc<Router>,
    replicated: Replicated,
    key_head: Vec<u8>,
    value_head: Vec<u8>,
    wait: Vec<u8>,
    /// What the next answers are to, oldest first; at most two for each slot.
    asked: VecDeque<Asked>,
    /// SETs appended since the last WAIT.
    unconfirmed: u32,
    /// Outcomes of SETs that still wait for their WAIT, oldest first.
    stored: VecDeque<(u32, Outcome)>,
    /// Those of `stored` whose WAIT was answered, and how.
    confirmed: usize,
    confirmation: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Get(u32),
    Set(u32),
    /// Confirms so many SETs.
    Wait(u32),
}

/// One answer's first line.
#[derive(PartialEq, Eq, Debug)]
enum Line<'a> {
    Simple,
    Error(&'a [u8]),
    Integer(i64),
    /// A bulk string of so many bytes follows; `None`: there is no value.
    Bulk(Option<usize>),
}

impl Protocol for Resp {
    fn new(settings: &Arc<Settings>, keys: &Arc<KeySpace>, router: &Arc<Router>) -> Self {
        let timeout_ms = settings.timeout.as_millis().to_string();
        Self {
            keys: Arc::clone(keys),
            router: Arc::clone(router),
            replicated: settings.replicated,
            key_head: format!("\r\n${}\r\n", keys.key_bytes()).into_bytes(),
            value_head: format!("\r\n${}\r\n", settings.value_bytes).into_bytes(),
            wait: format!("*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n${}\r\n{timeout_ms}\r\n", timeout_ms.len()).into_bytes(),
            asked: VecDeque::with_capacity(2 * settings.pipeline),
            unconfirmed: 0,
            stored: VecDeque::new(),
            confirmed: 0,
            confirmation: None,
        }
    }

    async fn open(node: &NodeInfo, _: ClientId, deadline: Instant) -> Result<Socket, ConnectionError> {
        let socket = Socket::connect(&node.client_address, deadline.into()).await?;
        Ok(Socket { node: node.id, ..socket })
    }

    fn handle_connected(&mut self) {
        self.asked.clear();
        self.stored.clear();
        (self.unconfirmed, self.confirmed) = (0, 0);
    }

    fn has_room(&self) -> bool {
        true
    }

    fn encode_housekeeping(&mut self, _: Instant, _: &mut BytesMut) {}

    fn encode_get(&mut self, slot: u32, key: u32, output: &mut BytesMut) {
        output.extend_from_slice(b"*2\r\n$3\r\nGET");
        self.put_key(key, output);
        output.extend_from_slice(b"\r\n");
        self.asked.push_back(Asked::Get(slot));
    }

    fn encode_put(&mut self, slot: u32, key: u32, value: Value<'_>, output: &mut BytesMut) {
        output.extend_from_slice(b"*3\r\n$3\r\nSET");
        self.put_key(key, output);
        output.extend_from_slice(&self.value_head);
        output.extend_from_slice(value.as_slice());
        output.extend_from_slice(b"\r\n");
        self.asked.push_back(Asked::Set(slot));
        self.unconfirmed += 1;
        if self.replicated == Replicated::Each {
            self.confirm(output);
        }
    }

    fn end_batch(&mut self, output: &mut BytesMut) {
        if self.replicated == Replicated::Batch && self.unconfirmed > 0 {
            self.confirm(output);
        }
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, ConnectionError> {
        loop {
            if self.confirmed > 0 {
                return self.next_confirmed().map(Some);
            }
            let Some((length, line)) = first_line(input)? else { return Ok(None) };
            if let Line::Bulk(Some(bytes)) = line
                && input.len() < length + bytes + 2
            {
                return Ok(None);
            }
            let asked = self.asked.pop_front().ok_or(ConnectionError::Unexpected)?;
            let (taken, next) = self.handle(asked, length, line)?;
            input.advance(taken);
            if let ControlFlow::Break(answer) = next {
                return Ok(Some(answer));
            }
        }
    }

    fn give_up(&mut self, _: u32) {}
}

impl Resp {
    fn put_key(&self, key: u32, output: &mut BytesMut) {
        output.extend_from_slice(&self.key_head);
        self.keys.put(key, output);
    }

    fn confirm(&mut self, output: &mut BytesMut) {
        output.extend_from_slice(&self.wait);
        self.asked.push_back(Asked::Wait(std::mem::take(&mut self.unconfirmed)));
    }

    /// What an answer means: how many bytes it took, and the outcome if it is one by itself.
    fn handle(
        &mut self,
        asked: Asked,
        length: usize,
        line: Line<'_>,
    ) -> Result<(usize, ControlFlow<Answer>), ConnectionError> {
        let answer = |slot, outcome| ControlFlow::Break(Answer { slot, forwarded: false, outcome });
        Ok(match (asked, line) {
            (Asked::Get(slot), Line::Bulk(Some(bytes))) => {
                (length + bytes + 2, answer(slot, Outcome::Value { found: true }))
            }
            (Asked::Get(slot), Line::Bulk(None)) => (length, answer(slot, Outcome::Value { found: false })),
            (Asked::Get(slot), Line::Error(text)) => (length, answer(slot, self.refused(text))),
            (Asked::Set(slot), Line::Simple) => (length, self.set(slot, Outcome::Written)),
            (Asked::Set(slot), Line::Error(text)) => {
                let refused = self.refused(text);
                (length, self.set(slot, refused))
            }
            (Asked::Wait(sets), Line::Integer(replicas)) => {
                self.confirmed = sets as usize;
                self.confirmation = (replicas < 1).then_some(Cow::Borrowed("WAIT: no replica in time"));
                (length, ControlFlow::Continue(()))
            }
            (Asked::Wait(sets), Line::Error(text)) => {
                self.confirmed = sets as usize;
                self.confirmation = Some(error_name(text));
                (length, ControlFlow::Continue(()))
            }
            _ => return Err(ConnectionError::Unexpected),
        })
    }

    /// An error. What was asked for has to be asked again, of the node that leads the slot if another one does.
    fn refused(&self, text: &[u8]) -> Outcome {
        let moved = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix("MOVED ")?.split_once(' '));
        if let Some((slot, address)) = moved
            && let Ok(slot) = slot.parse()
        {
            self.router.follow(slot, address);
        }
        refusal(error_name(text))
    }

    fn set(&mut self, slot: u32, outcome: Outcome) -> ControlFlow<Answer> {
        if self.replicated == Replicated::No {
            return ControlFlow::Break(Answer { slot, forwarded: false, outcome });
        }
        self.stored.push_back((slot, outcome));
        ControlFlow::Continue(())
    }

    fn next_confirmed(&mut self) -> Result<Answer, ConnectionError> {
        self.confirmed -= 1;
        // Answers are in order, so every SET before a WAIT was answered.
        let (slot, outcome) = self.stored.pop_front().ok_or(ConnectionError::Unexpected)?;
        let outcome = match (&self.confirmation, outcome) {
            (Some(name), Outcome::Written) => refusal(name.clone()),
            (_, outcome) => outcome,
        };
        Ok(Answer { slot, forwarded: false, outcome })
    }
}

fn refusal(name: Cow<'static, str>) -> Outcome {
    Outcome::Refused(Refusal { name, is_overload: false, pause: Duration::ZERO })
}

/// The first word, which is the error's kind.
fn error_name(text: &[u8]) -> Cow<'static, str> {
    let word = text.split(|&byte| byte == b' ').next().unwrap_or_default();
    Cow::Owned(String::from_utf8_lossy(word).into_owned())
}

/// The first line at the front of `input` and its length with its end; `None`: more bytes are needed.
fn first_line(input: &[u8]) -> Result<Option<(usize, Line<'_>)>, ConnectionError> {
    let looked_at = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = looked_at.iter().position(|&byte| byte == b'\r') else {
        return if looked_at.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ConnectionError::Unexpected) };
    };
    match input.get(end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(ConnectionError::Unexpected),
    }
    let line = match input[..end].split_first() {
        Some((b'+', _)) => Line::Simple,
        Some((b'-', text)) => Line::Error(text),
        Some((b':', digits)) => Line::Integer(integer(digits)?),
        Some((b'$', b"-1")) => Line::Bulk(None),
        Some((b'$', digits)) => {
            let bytes = usize::try_from(integer(digits)?).ok().filter(|&bytes| bytes <= BULK_BYTES_MAX);
            Line::Bulk(Some(bytes.ok_or(ConnectionError::Unexpected)?))
        }
        _ => return Err(ConnectionError::Unexpected),
    };
    Ok(Some((end + 2, line)))
}

fn integer(digits: &[u8]) -> Result<i64, ConnectionError> {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(ConnectionError::Unexpected)
}

/// A command as Redis reads it.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write!(out, "*{}\r\n", words.len()).expect("writing to memory works");
    for word in words {
        write!(out, "${}\r\n", word.len()).expect("writing to memory works");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Route;
    use crate::wire::fixture;
    use bytes::Bytes;

    fn resp(replicated: Replicated) -> Resp {
        let (keys, router) = fixture::keys_of_one_node();
        let timeout = Duration::from_millis(900);
        let settings = Settings { replicated, route: Route::Leaders, timeout, ..fixture::settings() };
        Resp::new(&Arc::new(settings), &keys, &router)
    }

    /// Appends SETs in slots 0, 1, …
    fn put(resp: &mut Resp, count: u32) -> BytesMut {
        let (mut output, block) = (BytesMut::new(), Bytes::from_static(b"abc"));
        (0..count).for_each(|slot| resp.encode_put(slot, 7, Value { block: &block, start: 0, bytes: 3 }, &mut output));
        resp.end_batch(&mut output);
        output
    }

    /// All answers in `bytes`, as the slot and what became of it.
    fn answers(resp: &mut Resp, bytes: &[u8]) -> Result<Vec<(u32, String)>, ConnectionError> {
        let (mut input, mut answers) = (BytesMut::from(bytes), Vec::new());
        while let Some(Answer { slot, outcome, .. }) = resp.decode(&mut input)? {
            answers.push((
                slot,
                match outcome {
                    Outcome::Value { found } => format!("found {found}"),
                    Outcome::Written => "written".to_owned(),
                    Outcome::Refused(refusal) => refusal.name.into_owned(),
                },
            ));
        }
        Ok(answers)
    }

    fn told(expected: &[(u32, &str)]) -> Vec<(u32, String)> {
        expected.iter().map(|&(slot, outcome)| (slot, outcome.to_owned())).collect()
    }

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$4\r\nk007\r\n$3\r\nabc\r\n";
    const WAIT: &[u8] = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$3\r\n900\r\n";

    #[test]
    fn requests_are_what_redis_reads() {
        let mut resp_get = resp(Replicated::No);
        let mut output = BytesMut::new();
        resp_get.encode_get(0, 3, &mut output);
        assert_eq!(output, &b"*2\r\n$3\r\nGET\r\n$4\r\nk003\r\n"[..]);
        assert_eq!(output, &command(&[b"GET", b"k003"])[..]);
        assert_eq!(put(&mut resp(Replicated::No), 2), [SET, SET].concat());
        assert_eq!(put(&mut resp(Replicated::Each), 2), [SET, WAIT, SET, WAIT].concat());
        assert_eq!(put(&mut resp(Replicated::Batch), 2), [SET, SET, WAIT].concat());
    }

    #[test]
    fn a_write_counts_when_its_wait_is_answered_and_not_before() {
        let mut each = resp(Replicated::Each);
        put(&mut each, 2);
        assert_eq!(answers(&mut each, b"+OK\r\n").unwrap(), told(&[]));
        assert_eq!(answers(&mut each, b":1\r\n+OK\r\n").unwrap(), told(&[(0, "written")]));
        assert_eq!(answers(&mut each, b":2\r\n").unwrap(), told(&[(1, "written")]));
        let mut batch = resp(Replicated::Batch);
        put(&mut batch, 3);
        assert_eq!(answers(&mut batch, b"+OK\r\n+OK\r\n+OK\r\n").unwrap(), told(&[]));
        let all = [(0, "written"), (1, "written"), (2, "written")];
        assert_eq!(answers(&mut batch, b":1\r\n").unwrap(), told(&all));
    }

    #[test]
    fn a_write_that_no_replica_has_did_not_work() {
        let mut batch = resp(Replicated::Batch);
        put(&mut batch, 2);
        let late = "WAIT: no replica in time";
        let outcome = answers(&mut batch, b"+OK\r\n-OOM command not allowed\r\n:0\r\n").unwrap();
        assert_eq!(outcome, told(&[(0, late), (1, "OOM")]));
        put(&mut batch, 1);
        assert_eq!(
            answers(&mut batch, b"+OK\r\n:1\r\n").unwrap(),
            told(&[(0, "written")]),
            "the next batch is its own"
        );
        put(&mut batch, 1);
        assert_eq!(answers(&mut batch, b"+OK\r\n-UNBLOCKED\r\n").unwrap(), told(&[(0, "UNBLOCKED")]));
    }

    #[test]
    fn values_are_skipped_and_every_prefix_waits() {
        let whole = b"$5\r\na\r\nbc\r\n$-1\r\n-ERR no\r\n";
        for cut in 0..=whole.len() {
            let mut resp = resp(Replicated::No);
            (0..3).for_each(|slot| resp.encode_get(slot, 1, &mut BytesMut::new()));
            let mut input = BytesMut::from(&whole[..cut]);
            let mut slots = Vec::new();
            let mut take = |input: &mut BytesMut| {
                while let Some(answer) = resp.decode(input).unwrap() {
                    slots.push(answer.slot);
                }
            };
            take(&mut input);
            input.extend_from_slice(&whole[cut..]);
            take(&mut input);
            assert_eq!(slots, [0, 1, 2], "cut at {cut}");
        }
    }

    #[test]
    fn answers_that_are_none_end_the_connection() {
        let get = || {
            let mut resp = resp(Replicated::No);
            resp.encode_get(0, 1, &mut BytesMut::new());
            resp
        };
        let endless = vec![b'-'; LINE_BYTES_MAX];
        for bytes in
            [&b"+OK\r\n"[..], b":1\r\n", b"$-2\r\n", b"$99999999999\r\n", b"?\r\n", b"\r\n", b"$1\rx", &endless]
        {
            assert!(matches!(answers(&mut get(), bytes), Err(ConnectionError::Unexpected)), "{bytes:?}");
        }
        let unasked = answers(&mut resp(Replicated::No), b"$-1\r\n");
        assert!(matches!(unasked, Err(ConnectionError::Unexpected)));
        let mut again = resp(Replicated::Each);
        put(&mut again, 2);
        again.handle_connected();
        put(&mut again, 1);
        assert_eq!(answers(&mut again, b"+OK\r\n:1\r\n").unwrap(), told(&[(0, "written")]), "a new socket starts anew");
    }
}
