//! What happens, second by second, to whoever listens: Server-Sent Events, each encoded once for all.

use super::super::Api;
use super::super::problem::{OVERLOADED, Problem, STOPPING};
use super::super::request::Asked;
use super::super::whose::Whose;
use super::sessions::Login;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use kvorum_core::auth::{Access, Principal};
use parking_lot::Mutex;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Most who listen at a time.
pub(super) const LISTENERS_MAX: usize = 256;
/// Frames that wait for a listener; one that is behind by more is dropped.
const FRAMES_WAITING: usize = 4;
/// How a stream begins: browsers come back after so many milliseconds.
const BEGIN: &[u8] = b"retry: 2000\n\n";

/// Who listens, and under which rights.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) principal: Principal,
    /// What he may do, by some table of users.
    pub(super) access: Arc<Access>,
    /// His login, if a cookie has said who he is.
    pub(super) login: Option<Login>,
}

/// Why nobody more may listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unheard {
    Full,
    Closed,
}

/// All who listen.
#[derive(Debug, Default)]
pub(super) struct Hub(Mutex<Listeners>);

#[derive(Debug, Default)]
struct Listeners {
    all: Vec<(Stay, Sender<Bytes>)>,
    closed: bool,
}

impl Hub {
    /// One more listens.
    ///
    /// # Errors
    /// There are as many as may be, or the doors close.
    pub(super) fn listen(&self, stay: Stay) -> Result<Receiver<Bytes>, Unheard> {
        let mut listeners = self.0.lock();
        listeners.all.retain(|(_, frames)| !frames.is_closed());
        if listeners.closed {
            return Err(Unheard::Closed);
        }
        if listeners.all.len() >= LISTENERS_MAX {
            return Err(Unheard::Full);
        }
        let (sender, receiver) = channel(FRAMES_WAITING);
        // It is empty, and takes this.
        let _ = sender.try_send(Bytes::from_static(BEGIN));
        listeners.all.push((stay, sender));
        Ok(receiver)
    }

    /// Nobody listens.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many listen; who has left just now may be among them.
    pub(super) fn len(&self) -> usize {
        self.0.lock().all.len()
    }

    /// Tells all who may stay. Who is behind, or may not, hears no more.
    pub(super) fn send(&self, frame: &Bytes, mut may_stay: impl FnMut(&mut Stay) -> bool) {
        let mut listeners = self.0.lock();
        listeners.all.retain_mut(|(stay, frames)| may_stay(stay) && frames.try_send(frame.clone()).is_ok());
    }

    /// Nobody listens any more, or ever again.
    pub(super) fn close(&self) {
        *self.0.lock() = Listeners { all: Vec::new(), closed: true };
    }
}

/// An event of a second, as it is sent.
pub(super) fn frame_of(seq: u64, data: &impl Serialize) -> Bytes {
    let mut frame = format!("event: second\nid: {seq}\ndata: ").into_bytes();
    // JSON has no line ends of its own.
    if serde_json::to_writer(&mut frame, data).is_err() {
        return Bytes::from_static(b":\n\n");
    }
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// A stream of frames. It ends when its sender is gone.
struct Stream {
    frames: Receiver<Bytes>,
    /// It is one of the connections that the user may have.
    _whose: Whose,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(context).map(|frame| frame.map(|frame| Ok(Frame::data(frame))))
    }
}

/// `GET /console/events`.
pub(super) async fn events(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    let asked = Asked::read(&request, &[])?;
    let whose = asked.whose;
    let (access, login) = (Arc::clone(&whose.access), whose.login.clone());
    let stay = Stay { principal: whose.principal.clone(), access, login };
    let frames = api.console.hub.listen(stay).map_err(|unheard| match unheard {
        Unheard::Full => Problem::new(&OVERLOADED, format!("{LISTENERS_MAX} pages listen, as many as may")),
        Unheard::Closed => Problem::new(&STOPPING, "the node stops"),
    })?;
    let mut response = Body::new(Stream { frames, _whose: whose }).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What nginx is asked not to do: it would keep events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stay(user: &str) -> Stay {
        let principal = Principal::Password { user: user.to_owned(), mark: [0; 8] };
        Stay { principal, access: Arc::new(Access::everything(1)), login: None }
    }

    fn is(stay: &Stay, name: &str) -> bool {
        matches!(&stay.principal, Principal::Password { user, .. } if user == name)
    }

    #[test]
    fn all_get_the_same_bytes_and_who_is_slow_is_dropped() {
        let hub = Hub::default();
        assert!(hub.is_empty());
        let (mut quick, mut slow) = (hub.listen(stay("a")).expect("room"), hub.listen(stay("b")).expect("room"));
        let mut told = Vec::new();
        for seq in 0..10 {
            hub.send(&frame_of(seq, &seq), |_| true);
            while let Ok(frame) = quick.try_recv() {
                told.push(frame);
            }
        }
        assert_eq!(told.len(), 11);
        assert_eq!(told[1], "event: second\nid: 0\ndata: 0\n\n");
        let mut of_slow = Vec::new();
        while let Ok(frame) = slow.try_recv() {
            of_slow.push(frame);
        }
        assert_eq!(of_slow.len(), FRAMES_WAITING);
        assert!(slow.is_closed(), "it is told no more");
        assert_eq!(of_slow[1].as_ptr(), told[1].as_ptr(), "encoded once");
    }

    #[test]
    fn there_is_a_limit_and_an_end() {
        let hub = Hub::default();
        let mut all: Vec<_> = (0..LISTENERS_MAX).map(|_| hub.listen(stay("a")).expect("room")).collect();
        assert_eq!(hub.listen(stay("b")).err(), Some(Unheard::Full));
        all.pop();
        let mut last = hub.listen(stay("b")).expect("one has left");
        hub.send(&Bytes::from_static(b"x"), |stay| is(stay, "b"));
        assert!(all.iter().all(Receiver::is_closed), "who may not stay is gone");
        hub.close();
        assert_eq!(last.try_recv().expect("the begin"), BEGIN);
        assert_eq!(last.try_recv().expect("it may stay"), "x");
        assert!(last.try_recv().is_err() && last.is_closed());
        assert_eq!(hub.listen(stay("a")).err(), Some(Unheard::Closed));
    }
}
