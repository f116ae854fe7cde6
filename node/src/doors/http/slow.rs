//! Cuts off who sends or takes too slowly: a socket with deadlines.
//!
//! The HTTP library has one deadline for a request's head, which begins while the connection is idle. Here a connection may be
//! idle for long, and once a head begins it must be whole soon.

use super::limits::{HEAD_WITHIN, IDLE, TAKES_WITHIN};
use crate::doors::stream::DoorStream;
use crate::runtime::door_counts::DoorCounts;
use kvorum_core::measure::meter::Door;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a connection is doing, as its requests know it.
#[derive(Debug)]
pub(super) struct Phase {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that were begun and are not answered.
    requests: usize,
    /// When the head began that is coming in.
    head_since: Option<Instant>,
    /// When the last request was answered.
    idle_since: Instant,
    /// Several requests at once, with frames between them that belong to none.
    is_multiplexed: bool,
    /// The node stops.
    leaves: bool,
}

impl Phase {
    pub(super) fn new() -> Arc<Self> {
        let state =
            State { requests: 0, head_since: None, idle_since: Instant::now(), is_multiplexed: false, leaves: false };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Makes the next answer the last one, unless there are several at once.
    pub(super) fn leave(&self) {
        self.state.lock().leaves = true;
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.state.lock().is_multiplexed
    }

    /// A request's head is whole. It is answered once the value is dropped.
    pub(super) fn begin(self: &Arc<Self>, is_multiplexed: bool) -> Answering {
        let mut state = self.state.lock();
        state.requests += 1;
        state.head_since = None;
        state.is_multiplexed |= is_multiplexed;
        Answering(Arc::clone(self))
    }

    fn note_read(&self) {
        let mut state = self.state.lock();
        if state.requests == 0 && !state.is_multiplexed {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// Until when something must come in.
    fn read_by(&self) -> Option<Instant> {
        let state = self.state.lock();
        match state.head_since {
            _ if state.requests > 0 => None,
            Some(since) => Some(since + HEAD_WITHIN),
            None => Some(state.idle_since + IDLE),
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Phase>);

impl Answering {
    /// Whether its answer has to say that the connection closes after it.
    pub(super) fn is_last(&self) -> bool {
        let state = self.0.state.lock();
        state.leaves && !state.is_multiplexed
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.requests -= 1;
        state.idle_since = Instant::now();
    }
}

/// What is shorter than this is written in one piece, which takes the kernel less time than several.
const SHORT_BYTES: usize = 1024;

/// All slices in one piece, if that is short.
fn joined<'a>(slices: &[io::IoSlice<'_>], into: &'a mut [u8; SHORT_BYTES]) -> Option<&'a [u8]> {
    let mut end = 0;
    for slice in slices {
        into.get_mut(end..end + slice.len())?.copy_from_slice(slice);
        end += slice.len();
    }
    Some(&into[..end])
}

/// The socket.
pub(super) struct Guarded {
    stream: DoorStream,
    phase: Arc<Phase>,
    counts: Arc<DoorCounts>,
    timer: Pin<Box<Sleep>>,
    /// Since when the client takes nothing.
    stuck_since: Option<Instant>,
}

impl Guarded {
    pub(super) fn new(stream: DoorStream, phase: Arc<Phase>, counts: Arc<DoorCounts>) -> Self {
        Self { stream, phase, counts, timer: Box::pin(tokio::time::sleep(IDLE)), stuck_since: None }
    }

    /// Fails once it is later than `by`. The timer may fire before, and is moved on then: to move it with every request costs more.
    fn check(&mut self, by: Instant, context: &mut Context<'_>, why: &'static str) -> io::Result<()> {
        if self.timer.deadline() > by {
            self.timer.as_mut().reset(by);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= by {
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            self.timer.as_mut().reset(by);
        }
        Ok(())
    }

    fn progress(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &polled {
            self.counts.note_sent(Door::Http, *written.as_ref().unwrap_or(&0));
            self.stuck_since = None;
            return polled;
        }
        let since = *self.stuck_since.get_or_insert_with(Instant::now);
        self.check(since + TAKES_WITHIN, context, "the client does not take its answer")?;
        Poll::Pending
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, into) {
            let received = into.filled().len() - before;
            if received > 0 {
                this.counts.note_received(Door::Http, received);
                this.phase.note_read();
            }
            return Poll::Ready(read);
        }
        // While a client takes nothing, that is what the timer is for.
        if this.stuck_since.is_none()
            && let Some(by) = this.phase.read_by()
        {
            this.check(by, context, "no request in time")?;
        }
        Poll::Pending
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.progress(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut whole = [0; SHORT_BYTES];
        let stream = Pin::new(&mut this.stream);
        let polled = match joined(slices, &mut whole) {
            Some(whole) => stream.poll_write(context, whole),
            None => stream.poll_write_vectored(context, slices),
        };
        this.progress(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What is encrypted may still have to leave.
        let polled = Pin::new(&mut this.stream).poll_flush(context).map_ok(|()| 0);
        ready!(this.progress(context, polled))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
