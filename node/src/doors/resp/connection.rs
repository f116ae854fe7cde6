//! One connection: it reads what the socket has, handles every whole command, and writes all replies with one call. It stops
//! reading while too much is unanswered or unwritten, so a client that doesn't take its replies is slowed down by TCP and costs a
//! bounded amount of memory.

use super::RespDoor;
use super::asking::{AskedBy, Refused, Waiting};
use super::command_counts::Tally;
use super::introspect::Manners;
use super::multi::Multi;
use super::replies::ReplyQueue;
use super::waits::Wait;
use crate::doors::accepting::linger;
use crate::doors::inflow::Share;
use crate::doors::stream::{DoorStream, Moved, sleep_until};
use crate::doors::writers::Writer;
use crate::runtime::system_clock;
use bytes::{Buf, BytesMut};
use kvorum_core::clock::Nanos;
use kvorum_core::disk::lost_pages;
use kvorum_core::limits::{
    DRAIN_ANSWERS, DRAIN_IDLE, DRAIN_TIMEOUT, FRAME_TIMEOUT, LARGE_WORK_BYTES, PARK_AFTER, SESSION_OUTPUT_BYTES,
    SESSION_READ_BYTES, SESSION_REQUEST_BYTES, SESSION_REQUESTS_MAX, SESSION_TURN_BYTES, SESSION_VALUES_BYTES_MAX,
    WRITE_TIMEOUT,
};
use kvorum_core::measure::meter::Door;
use kvorum_core::session::{Answered, Session};
use kvorum_resp::{CommandError, Output, Progress, Request as RespRequest, RequestParser};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Pieces of output that one call writes.
const WRITE_PIECES: usize = 16;

/// Why a connection ends, other than that one of the two closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RespConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a request was not whole in time")]
    SlowRequest,
    #[error("the client does not take its replies")]
    SlowReader,
    #[error("the medium lost bytes that may be among the replies")]
    LostPages,
}

/// How serving a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// The connection is closed.
    Closed,
    /// There is nothing to do until more comes.
    Parked,
}

/// What serves a client. It is there while the client has something to be done; [`super::parked`] has what outlives it.
pub(super) struct Connection<'a> {
    pub(super) door: &'a RespDoor,
    stream: &'a mut DoorStream,
    pub(super) session: Session<AskedBy>,
    /// The client says who it is: that takes a moment.
    pub(super) login: Option<RespRequest>,
    /// A request that changes who the client is, or is costly. It is taken up once all that came before it is answered, and nothing else
    /// until then.
    pub(super) apart: Option<RespRequest>,
    pub(super) writer: Arc<Writer>,
    pub(super) manners: &'a mut Manners,
    pub(super) multi: Multi,
    pub(super) parser: RequestParser,
    /// What the parser has understood last; its memory is used again.
    request: RespRequest,
    pub(super) input: BytesMut,
    /// So many of the next requests are GETs that were looked at ahead.
    pub(super) looked_ahead: usize,
    pub(super) queue: ReplyQueue<Waiting>,
    /// Bytes of requests and answers that the queue holds.
    pub(super) queued_bytes: usize,
    /// So many bytes count as held by this connection, for all of the node's RESP doors.
    pub(super) counted_bytes: usize,
    pub(super) answered: Vec<Answered<AskedBy>>,
    /// Parts of commands that are to be asked again: nothing is taken from the client meanwhile.
    pub(super) refused: Vec<Refused>,
    /// A WAIT under way. There is one at a time, since the next one begins when it is answered.
    pub(super) wait: Option<Box<Wait>>,
    /// A queue was full; until then there is one command under way at a time.
    pub(super) strained_until: Nanos,
    pub(super) output: Output,
    /// When the requests that are being handled were taken up: they count from then.
    pub(super) now: Nanos,
    pub(super) tally: Tally,
    /// When the request under way began to come in.
    request_since: Option<Instant>,
    /// Of the memory for what has come in and is not whole.
    share: Share,
    /// When a write must have got on; only while something waits that the socket does not take.
    write_by: Option<Instant>,
    /// Nothing more is taken from the client, and the connection ends once all is answered.
    pub(super) is_ending: bool,
    /// The node is stopping, and the client may stay until then.
    leaves_by: Option<Instant>,
    /// When a request came last, or its reply left.
    busy_at: Instant,
    /// As of the beginning: nothing that was verified before then is answered here.
    lost_pages: u64,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.door.node.held_bytes.fetch_sub(self.counted_bytes, Ordering::Relaxed);
    }
}

impl<'a> Connection<'a> {
    /// Serves the client of a parked connection.
    pub(super) fn new(door: &'a RespDoor, stream: &'a mut DoorStream, manners: &'a mut Manners) -> Box<Self> {
        let (number, from) = (manners.client.number, manners.client.from);
        let mut session = Session::new(Arc::clone(&door.node.context), Door::Resp);
        session.comes_from(from.ip());
        let principal = manners.client.about(|about| about.principal.clone());
        // Whoever may not be here any more is nobody, and the connection is about to end.
        let _ = session.log_in_again(principal);
        let is_known = !session.is_nobody();
        // In a box: by value it would lie several times in the future that serves it.
        Box::new(Self {
            door,
            stream,
            session,
            login: None,
            apart: None,
            writer: Arc::clone(door.node.writers.of(number)),
            manners,
            multi: Multi::default(),
            parser: RequestParser::new(is_known),
            request: RespRequest::new(),
            input: BytesMut::new(),
            looked_ahead: 0,
            queue: ReplyQueue::default(),
            queued_bytes: 0,
            counted_bytes: 0,
            answered: Vec::new(),
            refused: Vec::new(),
            wait: None,
            strained_until: Nanos(0),
            output: Output::new(),
            now: system_clock::monotonic(),
            tally: Tally::default(),
            request_since: None,
            share: door.node.inflow.share(from.ip()),
            write_by: None,
            is_ending: false,
            leaves_by: None,
            busy_at: Instant::now(),
            lost_pages: lost_pages(),
        })
    }

    /// Serves the client until one of the two closes, or nothing has been asked for a while and nothing is under way.
    pub(super) async fn run(mut self: Box<Self>) -> Result<Served, RespConnectionError> {
        let sink = Arc::clone(self.session.sink());
        let mut ready = pin!(sink.ready());
        let mut drained = pin!(self.door.node.drain.cancelled());
        let client = Arc::clone(&self.manners.client);
        let mut killed = pin!(client.killed.cancelled());
        let mut stopped = pin!(self.door.node.stop.cancelled());
        // One timer for as long as the connection is served: it is not moved with every request.
        let mut parks = pin!(tokio::time::sleep(PARK_AFTER));
        let mut may_come_to_park = true;
        loop {
            if self.is_ending && self.queue.is_empty() && self.output.is_empty() && !self.stream.holds_output() {
                self.door.node.clients.leave(&self.manners.client);
                linger(self.stream).await;
                return Ok(Served::Closed);
            }
            let takes = self.takes_requests();
            // Also while a request waits for those before it, or its client's end would not be seen.
            let listens = takes || self.apart.is_some() && self.input.len() < SESSION_READ_BYTES;
            let reads = listens && self.share.covers(self.input.len() + self.parser.held_bytes());
            let request_by = self.request_since.map(|since| since + FRAME_TIMEOUT);
            let request_by = request_by.into_iter().chain(self.share.finish_by()).min();
            let (write_by, close_at) = (self.write_by, self.close_at());
            let repeat_by = self
                .repeat_by()
                .map(|at| Instant::now() + Duration::from_nanos(at.0.saturating_sub(system_clock::monotonic().0)));
            let writes = write_by.is_some();
            let takes_feed = self.output.len() < SESSION_OUTPUT_BYTES;
            let input = reads.then_some(&mut self.input);
            let output = writes.then_some(&mut self.output);
            tokio::select! {
                moved = self.stream.exchange(input, output), if reads || writes => match moved? {
                    Moved::Read(0) => return Ok(Served::Closed),
                    Moved::Read(read) => {
                        self.door.node.counts.note_received(Door::Resp, read);
                        self.handle_input().await;
                    }
                    Moved::Written(written) => {
                        self.door.node.counts.note_sent(Door::Resp, written);
                        self.write_by = None;
                        // What was held back by the bound on replies may go on.
                        self.reply();
                        self.handle_input().await;
                    }
                },
                () = self.share.granted(), if takes && !reads => {}
                () = &mut ready => {
                    ready.set(sink.ready());
                    // Shards that are about to answer, too, go first: all replies leave with one call.
                    tokio::task::yield_now().await;
                    self.busy_at = Instant::now();
                    self.collect();
                    self.reply();
                    // What was held back by the bound on unanswered requests may go on.
                    self.handle_input().await;
                }
                () = sleep_until(repeat_by), if repeat_by.is_some() => {
                    self.now = system_clock::monotonic();
                    self.repeat_due();
                    self.reply();
                    self.handle_input().await;
                }
                () = client.fed.notified(), if takes_feed => {
                    // Its rights may have been taken away, or it has become another user. It may also have ended it by itself.
                    if !client.is_monitor() || self.may_monitor() {
                        self.output.put(&client.take_feed());
                    } else {
                        self.door.node.clients.stop_monitoring(&client);
                        self.is_ending = true;
                    }
                }
                () = &mut killed => return Ok(Served::Closed),
                () = sleep_until(request_by), if request_by.is_some() && takes => {
                    return Err(RespConnectionError::SlowRequest);
                }
                () = sleep_until(write_by), if write_by.is_some() => return Err(RespConnectionError::SlowReader),
                () = &mut drained, if self.leaves_by.is_none() => {
                    self.leaves_by = Some(Instant::now() + DRAIN_TIMEOUT);
                    self.busy_at = Instant::now();
                }
                // What comes from here on is not carried out. The client sees the end of the connection, and sends it to another node.
                () = sleep_until(close_at), if close_at.is_some() && !self.is_ending => self.is_ending = true,
                () = sleep_until(close_at.map(|at| at + DRAIN_ANSWERS)), if close_at.is_some() && self.is_ending => {
                    return Ok(Served::Closed);
                }
                () = &mut stopped => return self.write().map(|()| Served::Closed),
                () = &mut parks, if may_come_to_park => {
                    may_come_to_park = self.has_nothing_to_do();
                    let idle = self.busy_at.elapsed();
                    if may_come_to_park && idle >= PARK_AFTER {
                        return Ok(Served::Parked);
                    }
                    parks.as_mut().reset(Instant::now() + PARK_AFTER.saturating_sub(idle).max(PARK_AFTER / 4));
                    continue;
                }
            }
            if !may_come_to_park {
                // Something has come to an end, perhaps all that was under way.
                may_come_to_park = true;
                parks.as_mut().reset(Instant::now() + PARK_AFTER);
            }
            self.tell_counts();
            self.write_and_go_on().await?;
        }
    }

    /// Writes, and takes up again what was held back by the bound on replies if that makes room for it: the socket may take all of
    /// them at once, if its client reads as fast as they are written, and then nothing else would tell.
    async fn write_and_go_on(&mut self) -> Result<(), RespConnectionError> {
        loop {
            let was_full = self.output.len() >= SESSION_OUTPUT_BYTES;
            self.write()?;
            if !was_full || self.output.len() >= SESSION_OUTPUT_BYTES {
                return Ok(());
            }
            self.reply();
            self.handle_input().await;
            self.tell_counts();
        }
    }

    /// Whether nothing would be missed if all but the stream and the manners were forgotten.
    fn has_nothing_to_do(&self) -> bool {
        let is_answered = self.session.remembers_nothing() && self.queue.is_empty() && self.output.is_empty();
        let is_read = self.parser.is_idle(&self.input) && self.input.is_empty() && !self.stream.holds_input();
        let is_written = !self.stream.holds_output();
        let ends = self.is_ending || self.leaves_by.is_some();
        let is_taken_up = self.apart.is_none();
        is_answered
            && is_read
            && is_taken_up
            && is_written
            && !ends
            && self.multi.is_empty()
            && !self.manners.client.is_monitor()
    }

    /// When to close the connection because the node is stopping: once the client has nothing to wait for, and soon in any case.
    fn close_at(&self) -> Option<Instant> {
        let leaves_by = self.leaves_by?;
        let is_idle = self.queue.is_empty() && self.output.is_empty() && self.input.is_empty();
        Some(if is_idle { leaves_by.min(self.busy_at + DRAIN_IDLE) } else { leaves_by })
    }

    /// Whether too little is unanswered and unwritten to stop taking requests.
    fn takes_requests(&self) -> bool {
        !self.is_ending
            && self.apart.is_none()
            && self.refused.is_empty()
            && !self.multi.is_watching
            && (self.queue.is_empty() || !self.is_strained())
            && self.queue.len() < SESSION_REQUESTS_MAX
            && self.queued_bytes < SESSION_VALUES_BYTES_MAX
            && self.output.len() < SESSION_OUTPUT_BYTES
    }

    /// Handles every whole request of the input, unless too much is unanswered or unwritten. Lets others go first now and then.
    async fn handle_input(&mut self) {
        self.now = system_clock::monotonic();
        let (mut done, mut handled) = (0, 0_u32);
        while self.takes_requests() || self.takes_apart() {
            if let Some(request) = self.apart.take() {
                tokio::task::yield_now().await;
                self.now = system_clock::monotonic();
                self.take_up(&request).await;
                continue;
            }
            if done >= SESSION_TURN_BYTES {
                done = 0;
                self.tell_counts();
                tokio::task::yield_now().await;
                self.now = system_clock::monotonic();
            }
            self.look_ahead();
            match self.parser.next(&mut self.input, &mut self.request) {
                Ok(Progress::Request) => {
                    self.request_since = None;
                    handled = handled.saturating_add(1);
                    done += self.request.held_bytes() + SESSION_REQUEST_BYTES;
                    let request = std::mem::take(&mut self.request);
                    self.take_up(&request).await;
                    self.request = request;
                }
                Ok(Progress::TooLarge) => {
                    self.request_since = None;
                    // As every command that is refused behind MULTI: EXEC must not do the rest.
                    self.break_queue();
                    self.refuse(&CommandError::StringTooLong);
                }
                Ok(Progress::Incomplete) => {
                    self.await_rest();
                    break;
                }
                Err(error) => self.end_malformed(error),
            }
        }
        if handled > 0 {
            self.busy_at = Instant::now();
            self.tell_others();
        }
        self.reply();
    }

    /// Whether a request that had to wait for all before it is to be taken up.
    fn takes_apart(&mut self) -> bool {
        if self.apart.is_some() {
            self.reply();
        }
        self.apart.is_some() && self.queue.is_empty() && !self.is_ending
    }

    async fn take_up(&mut self, request: &RespRequest) {
        self.handle_request(request);
        if let Some(login) = self.login.take() {
            // Nothing behind it is looked at before it is known who asks.
            self.log_in(&login).await;
        }
    }

    /// Notes for others which command came last, and when.
    pub(super) fn tell_others(&self) {
        let (command, now) = (self.manners.last_command, self.now);
        self.manners.client.about(|about| (about.command, about.busy_at, about.request_bytes) = (command, now, 0));
    }

    /// Notes for the node which commands were carried out.
    fn tell_counts(&mut self) {
        if !self.tally.is_empty() {
            let handled_ns = system_clock::monotonic().0.saturating_sub(self.now.0);
            self.tally.tell(&self.door.node.command_counts, self.manners.client.number, handled_ns);
        }
    }

    /// The request at the front is not whole yet.
    fn await_rest(&mut self) {
        if self.parser.is_idle(&self.input) {
            self.request_since = None;
            // An idle connection holds no buffer, and the last request is a part of one.
            self.input = BytesMut::new();
            self.request.forget();
            return;
        }
        self.request_since.get_or_insert_with(Instant::now);
        let wanted = self.parser.read_bytes(&self.input);
        self.input.reserve(wanted.max(SESSION_READ_BYTES / 4));
    }

    /// Writes what the socket takes at once. The rest is written between reading requests.
    fn write(&mut self) -> Result<(), RespConnectionError> {
        // Values are verified when they are read and copied out of their mapping into the output. If a page was lost in
        // between, in whatever mapping, nobody knows any more what was copied.
        if lost_pages() != self.lost_pages {
            return Err(RespConnectionError::LostPages);
        }
        while !self.output.is_empty() {
            let mut pieces = [IoSlice::new(&[]); WRITE_PIECES];
            let used = self.output.chunks_vectored(&mut pieces);
            match self.stream.try_write_vectored(&pieces[..used]) {
                Ok(written) => {
                    self.door.node.counts.note_sent(Door::Resp, written);
                    self.output.advance(written);
                    self.write_by = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.output.is_empty() && !self.stream.holds_output() {
            self.write_by = None;
        } else {
            self.write_by.get_or_insert_with(|| Instant::now() + WRITE_TIMEOUT);
        }
        self.count_held();
        Ok(())
    }

    /// Counts what this connection holds, if that is much: values lie in memory, or keep their segments, until the client takes them.
    pub(super) fn count_held(&mut self) {
        let bytes = self.queued_bytes + self.output.len();
        // What has left of the output keeps its memory until all of it has.
        let bytes = if self.output.is_empty() { bytes } else { bytes.max(self.counted_bytes) };
        let counted = if bytes > LARGE_WORK_BYTES { bytes } else { 0 };
        let before = std::mem::replace(&mut self.counted_bytes, counted);
        if counted > before {
            self.door.node.held_bytes.fetch_add(counted - before, Ordering::Relaxed);
        } else if counted < before {
            self.door.node.held_bytes.fetch_sub(before - counted, Ordering::Relaxed);
        }
    }
}
