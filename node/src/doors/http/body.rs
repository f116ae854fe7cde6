//! Bodies of requests: read no further than their limit, out of the memory that all doors share, and in time.

use super::problem::{DEADLINE_EXCEEDED, MALFORMED, Problem, TOO_LARGE};
use crate::doors::inflow::Share;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use kvorum_core::limits::FRAME_TIMEOUT;
use tokio::time::{Instant, timeout_at};

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// `TooLarge`, before anything of it is read if the request says so; `DeadlineExceeded` if it does not come within 30 s;
/// `Malformed` if it breaks off.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, max: usize, mut share: Share) -> Result<Bytes, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = || Problem::new(&TOO_LARGE, format!("the body is over {max} bytes"));
    if announced.is_some_and(|announced| announced > max as u64) {
        return Err(too_large());
    }
    let by = Instant::now() + FRAME_TIMEOUT;
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let held = whole.len() + first.as_ref().map_or(0, Bytes::len);
        let Some(data) = next_piece(&mut body, &mut share, held, by).await? else { break };
        if held + data.len() > max {
            return Err(too_large());
        }
        // Most bodies are one piece, and needn't be copied.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            before => {
                whole.extend_from_slice(&before.unwrap_or_default());
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// The next piece of a body of which so many bytes are held already, `None` at its end. It waits for memory, and for the client, until
/// `by`; not as long if others wait for this body's memory.
///
/// # Errors
/// `DeadlineExceeded`; `Malformed` if the body breaks off.
pub(super) async fn next_piece(
    body: &mut Body,
    share: &mut Share,
    held: usize,
    by: Instant,
) -> Result<Option<Bytes>, Problem> {
    let late = |_| Problem::new(&DEADLINE_EXCEEDED, "no more of the body came in time");
    loop {
        let by = share.finish_by().into_iter().fold(by, Instant::min);
        if !share.covers(held) {
            timeout_at(by, share.granted()).await.map_err(late)?;
            continue;
        }
        let Some(frame) = timeout_at(by, body.frame()).await.map_err(late)? else { return Ok(None) };
        let frame = frame.map_err(|error| Problem::new(&MALFORMED, format!("the body broke off: {error}")))?;
        // What is no data is a trailer.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}
