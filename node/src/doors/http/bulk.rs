//! Bulk loads: operations of JSON, one per line and as many as there are, with a result per line.
//!
//! What has come is done in steps, one after the other. While the client does not take the results of one, the next is not begun, and
//! no more is read: a client must read while it sends.

use super::Api;
use super::batch::{Operation, Terms, read_operation, run};
use super::body::next_piece;
use super::entry::{BatchOperation, BatchResult, from_json};
use super::limits::{BULK_BYTES, BULK_OPERATIONS_MAX, JSON_BYTES_MAX};
use super::outflow::Held;
use super::problem::{Problem, TOO_LARGE};
use crate::doors::inflow::Share;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use kvorum_core::limits::FRAME_TIMEOUT;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// Answers a bulk load.
pub(super) fn answer(api: Arc<Api>, terms: Terms, body: Body, share: Share) -> Response {
    let load = Load { api, terms, body, share, lines: Lines::default(), held: None };
    let mut response = Body::new(Results::Ready(Box::new(load))).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Lines that have come, and the beginning of one that is not whole.
#[derive(Debug, Default)]
struct Lines {
    bytes: BytesMut,
    /// So many of them hold no end of a line.
    searched: usize,
    /// The body is over.
    ended: bool,
}

impl Lines {
    /// The next line, if it is whole.
    fn next(&mut self) -> Option<Bytes> {
        if let Some(at) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.bytes.split_to(self.searched + at).freeze();
            self.bytes.advance(1);
            self.searched = 0;
            return Some(line);
        }
        self.searched = self.bytes.len();
        if !self.ended || self.bytes.is_empty() {
            return None;
        }
        self.searched = 0;
        Some(self.bytes.split().freeze())
    }

    /// The next lines that are whole, and not blank: as many as make a step.
    fn next_step(&mut self) -> Vec<Bytes> {
        let (mut step, mut bytes) = (Vec::new(), 0);
        while step.len() < BULK_OPERATIONS_MAX && bytes < BULK_BYTES {
            let Some(line) = self.next() else { break };
            if !line.trim_ascii().is_empty() {
                bytes += line.len();
                step.push(line);
            }
        }
        step
    }
}

/// A bulk load under way.
struct Load {
    api: Arc<Api>,
    terms: Terms,
    body: Body,
    share: Share,
    lines: Lines,
    /// The memory of what was read for the results that leave now.
    held: Option<Held>,
}

impl Load {
    /// The results of the next step; `None` once all is done.
    async fn next(&mut self) -> Option<Bytes> {
        self.held = None;
        loop {
            let step = self.lines.next_step();
            if !step.is_empty() {
                return Some(self.run(step).await);
            }
            if self.lines.ended {
                return None;
            }
            if let Err(problem) = self.read().await {
                // The last line says why there are no more.
                self.lines = Lines { ended: true, ..Lines::default() };
                return Some(line_of(&problem.into()).into());
            }
        }
    }

    /// Reads on.
    async fn read(&mut self) -> Result<(), Problem> {
        let held = self.lines.bytes.len();
        if held > JSON_BYTES_MAX {
            return Err(Problem::new(&TOO_LARGE, format!("a line is over {JSON_BYTES_MAX} bytes")));
        }
        match next_piece(&mut self.body, &mut self.share, held, Instant::now() + FRAME_TIMEOUT).await? {
            None => self.lines.ended = true,
            Some(data) => self.lines.bytes.extend_from_slice(&data),
        }
        Ok(())
    }

    /// Does a step. What concerns all of it is told of each line.
    async fn run(&mut self, step: Vec<Bytes>) -> Bytes {
        let ack = self.terms.options.ack;
        let read = |line: &Bytes| {
            from_json::<BatchOperation>(line).and_then(|operation: BatchOperation| read_operation(operation, ack))
        };
        let operations: Vec<_> = step.iter().map(read).collect();
        let count = operations.len();
        drop(step);
        let writes = operations.iter().filter(|operation| matches!(operation, Ok(Operation::Write(_)))).count();
        let results = run(&self.api, &self.terms, operations).await;
        // The writes of the next step have the names behind those of this one.
        if let Some(once) = &mut self.terms.options.once {
            once.id = once.id.plus(writes as u64);
        }
        let results = match results {
            Ok((results, held)) => {
                self.held = held;
                results
            }
            Err(problem) => (0..count).map(|_| BatchResult::from(problem.clone())).collect(),
        };
        let lines: Vec<u8> = results.iter().flat_map(line_of).collect();
        match &self.held {
            Some(held) => held.attach(lines.into()),
            None => lines.into(),
        }
    }
}

fn line_of(result: &BatchResult) -> Vec<u8> {
    // It holds nothing that can't be written as JSON.
    let mut line = serde_json::to_vec(result).unwrap_or_default();
    line.push(b'\n');
    line
}

type Step = Pin<Box<dyn Future<Output = (Box<Load>, Option<Bytes>)> + Send>>;

/// The body of the answer: it does the next step when the one before it was taken.
enum Results {
    Ready(Box<Load>),
    Working(Step),
    Over,
}

impl http_body::Body for Results {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            match std::mem::replace(&mut *self, Self::Over) {
                Self::Over => return Poll::Ready(None),
                Self::Ready(mut load) => {
                    *self = Self::Working(Box::pin(async move {
                        let results = load.next().await;
                        (load, results)
                    }));
                }
                Self::Working(mut step) => {
                    let polled = step.as_mut().poll(context);
                    if polled.is_pending() {
                        *self = Self::Working(step);
                    }
                    let (load, results) = ready!(polled);
                    let Some(results) = results else { return Poll::Ready(None) };
                    *self = Self::Ready(load);
                    return Poll::Ready(Some(Ok(Frame::data(results))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&str]) -> Vec<Vec<String>> {
        let (mut lines, mut steps) = (Lines::default(), Vec::new());
        let mut take = |lines: &mut Lines| {
            let step = lines.next_step();
            steps.push(step.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect());
        };
        for part in parts {
            lines.bytes.extend_from_slice(part.as_bytes());
            take(&mut lines);
        }
        lines.ended = true;
        take(&mut lines);
        steps
    }

    #[test]
    fn lines_are_taken_as_they_come_however_they_are_cut() {
        assert_eq!(lines(&["a\nb\nc"]), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(lines(&["a", "a", "\n", "\r\n  \nb\n"]), [vec![], vec![], vec!["aa"], vec!["b"], vec![]]);
        assert!(lines(&["", "\n\n"]).concat().is_empty());
    }

    #[test]
    fn a_step_is_bounded_by_operations_and_bytes() {
        let many = "x\n".repeat(BULK_OPERATIONS_MAX + 1);
        let steps = lines(&[&many]);
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [BULK_OPERATIONS_MAX, 1]);
        let long = format!("{}\n", "x".repeat(BULK_BYTES));
        let steps = lines(&[&long.repeat(2)]);
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    }
}
