//! One connection: it reads what the socket has, handles every whole command, and writes all replies with one call. It stops
//! reading while too much is unanswered or unwritten, so a client that doesn't take its replies is slowed down by TCP and costs a
//! bounded amount of memory.

use super::RespDoor;
use super::answers::{self, sequence_min, value_bytes};
use super::execute::{Planned, Refusal, ReplyForm, plan, writes_in};
use super::introspect::{self, Client};
use super::replies::{Begins, ReplyQueue};
use super::walk::Walk;
use crate::doors::accepting::linger;
use crate::doors::inflow::Share;
use crate::doors::stream::{keep_alive, read_some, sleep_until};
use crate::doors::writers::{WriteNumbers, Writer};
use crate::runtime::system_clock;
use bytes::{Buf, BytesMut};
use kvorum_core::clock::Nanos;
use kvorum_core::disk::lost_pages;
use kvorum_core::limits::{
    DRAIN_ANSWERS, DRAIN_IDLE, DRAIN_TIMEOUT, FRAME_TIMEOUT, SESSION_OUTPUT_BYTES, SESSION_READ_BYTES,
    SESSION_REQUEST_BYTES, SESSION_REQUESTS_MAX, SESSION_TURN_BYTES, SESSION_VALUES_BYTES_MAX, WRITE_TIMEOUT,
};
use kvorum_core::measure::meter::Door;
use kvorum_core::session::{Answered, Session};
use kvorum_protocol::{ErrorCode, Request, RequestBody, RequestId, ResponseBody, ServerError};
use kvorum_resp::{
    Command, CommandError, Output, Progress, ProtocolError, ReplyWriter, Request as RespRequest, RequestParser,
    RespVersion, table,
};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What a command is given, in milliseconds: less than the five seconds after which clients give up, more than a failover takes.
const DEADLINE_MS: u32 = 2_000;
/// Most bytes of values that wait in the queue; a read past it is answered `TRYAGAIN`.
const QUEUED_BYTES_MAX: usize = 2 * SESSION_VALUES_BYTES_MAX;
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

/// Which part of which command a session's answer is for.
#[derive(Clone, Copy, Debug)]
struct Origin {
    command: u64,
    part: u32,
}

/// A command whose reply has not been written.
#[derive(Debug)]
struct Waiting {
    version: RespVersion,
    /// The client wants no reply.
    is_silent: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    /// It needed no answer.
    Replied(Output),
    /// It needs some.
    Asking(Box<Asking>),
}

#[derive(Debug)]
struct Asking {
    form: ReplyForm,
    writes: bool,
    /// What is asked once its turn has come.
    asked: Vec<RequestBody>,
    walk: Option<Walk>,
    answers: Vec<ResponseBody>,
    left: usize,
    numbers: Vec<WriteNumbers>,
    /// Bytes that the queue holds for it.
    held_bytes: usize,
}

pub(super) struct Connection<'a> {
    door: &'a RespDoor,
    stream: TcpStream,
    session: Session<Origin>,
    writer: Arc<Writer>,
    client: Client,
    parser: RequestParser,
    /// What the parser has understood last; its memory is used again.
    request: RespRequest,
    input: BytesMut,
    queue: ReplyQueue<Waiting>,
    /// Bytes of requests and answers that the queue holds.
    queued_bytes: usize,
    answered: Vec<Answered<Origin>>,
    output: Output,
    /// When the requests that are being handled were taken up: they count from then.
    now: Nanos,
    /// When the request under way began to come in.
    request_since: Option<Instant>,
    /// Of the memory for what has come in and is not whole.
    share: Share,
    /// When a write must have got on; only while something waits that the socket does not take.
    write_by: Option<Instant>,
    /// Nothing more is taken from the client, and the connection ends once all is answered.
    is_ending: bool,
    /// The node is stopping, and the client may stay until then.
    leaves_by: Option<Instant>,
    /// When a request came last, or its reply left.
    busy_at: Instant,
    /// As of the beginning: nothing that was verified before then is answered here.
    lost_pages: u64,
}

impl<'a> Connection<'a> {
    pub(super) fn new(door: &'a RespDoor, number: u64, stream: TcpStream, from: SocketAddr) -> Self {
        Self {
            door,
            stream,
            session: Session::new(Arc::clone(&door.context), Door::Resp),
            writer: Arc::clone(door.writers.of(number)),
            client: Client::new(number, from),
            parser: RequestParser::new(true),
            request: RespRequest::new(),
            input: BytesMut::new(),
            queue: ReplyQueue::default(),
            queued_bytes: 0,
            answered: Vec::new(),
            output: Output::new(),
            now: system_clock::monotonic(),
            request_since: None,
            share: door.inflow.share(from.ip()),
            write_by: None,
            is_ending: false,
            leaves_by: None,
            busy_at: Instant::now(),
            lost_pages: lost_pages(),
        }
    }

    /// Serves the client until one of the two closes.
    pub(super) async fn run(mut self) -> Result<(), RespConnectionError> {
        self.stream.set_nodelay(true)?;
        keep_alive(&self.stream)?;
        let sink = Arc::clone(self.session.sink());
        let mut ready = pin!(sink.ready());
        let mut drained = pin!(self.door.drain.cancelled());
        let mut stopped = pin!(self.door.stop.cancelled());
        loop {
            if self.is_ending && self.queue.is_empty() && self.output.is_empty() {
                linger(&mut self.stream).await;
                return Ok(());
            }
            let takes = self.takes_requests();
            let reads = takes && self.share.covers(self.input.len() + self.parser.held_bytes());
            let request_by = self.request_since.map(|since| since + FRAME_TIMEOUT);
            let request_by = request_by.into_iter().chain(self.share.finish_by()).min();
            let (write_by, close_at) = (self.write_by, self.close_at());
            let (mut reader, mut writer) = self.stream.split();
            tokio::select! {
                read = read_some(&mut reader, &mut self.input), if reads => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    self.door.counts.note_received(Door::Resp, read);
                    self.handle_input().await;
                }
                () = self.share.granted(), if takes && !reads => {}
                written = writer.write_buf(&mut self.output), if write_by.is_some() => {
                    self.door.counts.note_sent(Door::Resp, written?);
                    self.write_by = None;
                    // What was held back by the bound on replies may go on.
                    self.reply();
                    self.handle_input().await;
                }
                () = &mut ready => {
                    ready.set(sink.ready());
                    // Shards that are about to answer, too, go first: all replies leave with one call.
                    tokio::task::yield_now().await;
                    self.collect();
                    self.reply();
                    // What was held back by the bound on unanswered requests may go on.
                    self.handle_input().await;
                }
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
                    return Ok(());
                }
                () = &mut stopped => return self.write(),
            }
            self.write()?;
        }
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
            && self.queue.len() < SESSION_REQUESTS_MAX
            && self.queued_bytes < SESSION_VALUES_BYTES_MAX
            && self.output.len() < SESSION_OUTPUT_BYTES
    }

    /// Handles every whole request of the input, unless too much is unanswered or unwritten. Lets others go first now and then.
    async fn handle_input(&mut self) {
        self.now = system_clock::monotonic();
        let mut done = 0;
        while self.takes_requests() {
            if done >= SESSION_TURN_BYTES {
                done = 0;
                tokio::task::yield_now().await;
                self.now = system_clock::monotonic();
            }
            match self.parser.next(&mut self.input, &mut self.request) {
                Ok(Progress::Request) => {
                    self.request_since = None;
                    self.busy_at = Instant::now();
                    done += self.request.held_bytes() + SESSION_REQUEST_BYTES;
                    let request = std::mem::take(&mut self.request);
                    self.handle_request(&request);
                    self.request = request;
                }
                Ok(Progress::TooLarge) => {
                    self.request_since = None;
                    self.refuse(&CommandError::StringTooLong);
                }
                Ok(Progress::Incomplete) => {
                    self.await_rest();
                    break;
                }
                Err(error) => self.end_malformed(error),
            }
        }
        self.reply();
    }

    /// The request at the front is not whole yet.
    fn await_rest(&mut self) {
        if self.parser.is_idle(&self.input) {
            self.request_since = None;
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
            return;
        }
        self.request_since.get_or_insert_with(Instant::now);
        let wanted = self.parser.read_bytes(&self.input);
        self.input.reserve(wanted.max(SESSION_READ_BYTES / 4));
    }

    fn handle_request(&mut self, request: &RespRequest) {
        let spec = match table::resolve(request) {
            Ok(spec) => spec,
            Err(error) => return self.refuse(&error),
        };
        let command = match Command::parse(spec, request) {
            Ok(command) => command,
            Err(error) => return self.refuse(&error),
        };
        if self.answer_of_itself(&command) {
            return;
        }
        let (now_ms, shards) = (self.door.context.router.clock().now().wall_ms, self.door.context.router.shards());
        match plan(&command, spec, request, now_ms, shards) {
            Ok(planned) => self.begin(planned, request.held_bytes()),
            Err(Refusal::Command(error)) => self.refuse(&error),
            Err(Refusal::Absent(text)) => self.reply_with(|reply| reply.error(text.as_bytes())),
        }
    }

    /// Answers a command that needs no key, and tells whether it was one.
    fn answer_of_itself(&mut self, command: &Command<'_>) -> bool {
        let is_silent = !self.client.wants_reply();
        let before = self.client.replies;
        let mut output = Output::new();
        let is_answered = match command {
            Command::Hello(hello) => {
                introspect::answer_hello(&mut self.client, hello, &mut output);
                true
            }
            command => {
                // RESET answers in the version that it goes back to.
                let version = if matches!(command, Command::Reset) { RespVersion::Two } else { self.client.version };
                let mut reply = ReplyWriter::new(&mut output, version);
                introspect::answer(self.door, &mut self.client, command, &mut reply)
            }
        };
        if !is_answered {
            self.skip_again(is_silent);
            return false;
        }
        // CLIENT REPLY answers only if it switches replies on.
        let is_silent = if self.client.replies == before { is_silent } else { !self.client.wants_replies() };
        self.push(is_silent, output);
        if matches!(command, Command::Quit) {
            self.is_ending = true;
        }
        true
    }

    /// A command that was looked at and not answered still has to be silent, if it was to be.
    fn skip_again(&mut self, is_silent: bool) {
        if is_silent && self.client.wants_replies() {
            self.client.replies = introspect::Replies::SkipNext;
        }
    }

    fn refuse(&mut self, error: &CommandError) {
        self.reply_with(|reply| reply.command_error(error));
    }

    fn reply_with(&mut self, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        let is_silent = !self.client.wants_reply();
        let mut output = Output::new();
        write(&mut ReplyWriter::new(&mut output, self.client.version));
        self.push(is_silent, output);
    }

    fn push(&mut self, is_silent: bool, output: Output) {
        if self.queue.is_empty() {
            if !is_silent {
                self.output.append(output);
            }
            return;
        }
        self.queued_bytes += output.len();
        self.queue.push_done(Waiting { version: self.client.version, is_silent, what: What::Replied(output) });
    }

    /// The bytes make no sense, and where the next request begins is not known: answers what was begun, says so, and closes.
    fn end_malformed(&mut self, error: ProtocolError) {
        self.reply_with(|reply| reply.protocol_error(error));
        self.is_ending = true;
    }

    /// Takes up a command of keys.
    fn begin(&mut self, planned: Planned, request_bytes: usize) {
        let Planned { asked, walk, form, touches } = planned;
        let writes = touches.writes();
        let left = asked.len().max(usize::from(walk.is_some()));
        let asking =
            Asking { form, writes, asked, walk, answers: Vec::new(), left, numbers: Vec::new(), held_bytes: 0 };
        let is_silent = !self.client.wants_reply();
        let what = What::Asking(Box::new(asking));
        let (command, begins) = self.queue.push(Waiting { version: self.client.version, is_silent, what }, touches);
        match begins {
            Begins::AtOnce => self.ask_all(command),
            Begins::AtHead => self.hold(command, request_bytes),
        }
    }

    /// The queue holds more for a command, until its reply is written.
    fn hold(&mut self, command: u64, bytes: usize) {
        if let Some(asking) = self.asking(command) {
            asking.held_bytes += bytes;
            self.queued_bytes += bytes;
        }
    }

    fn asking(&mut self, command: u64) -> Option<&mut Asking> {
        match &mut self.queue.get_mut(command)?.what {
            What::Asking(asking) => Some(asking),
            What::Replied(_) => None,
        }
    }

    /// Asks all that a command asks at once, or what its walk asks first.
    fn ask_all(&mut self, command: u64) {
        let Some(asking) = self.asking(command) else { return };
        let mut asked = std::mem::take(&mut asking.asked);
        asked.extend(asking.walk.as_ref().map(Walk::begin));
        for (part, body) in (0..).zip(asked) {
            self.ask(Origin { command, part }, body);
        }
        self.take_answers();
    }

    fn ask(&mut self, origin: Origin, mut body: RequestBody) {
        let writes = writes_in(&body);
        if writes > 0 {
            let numbers = WriteNumbers::new(&self.writer, writes, &mut body);
            numbers.stamp(&mut body, false);
            if let Some(asking) = self.asking(origin.command) {
                asking.numbers.push(numbers);
            }
        }
        let request = Request { id: RequestId(1), deadline_ms: DEADLINE_MS, body };
        let (client, now, answered) = (self.writer.client(), self.now, &mut self.answered);
        self.session.handle(client, origin, now, request, &mut |answer| answered.push(answer));
    }

    fn collect(&mut self) {
        self.now = system_clock::monotonic();
        self.busy_at = Instant::now();
        let answered = &mut self.answered;
        self.session.collect(&mut |answer| answered.push(answer));
        self.take_answers();
    }

    /// Gives answers to the commands that have asked. What a walk asks next may be answered at once, too.
    fn take_answers(&mut self) {
        while !self.answered.is_empty() {
            for Answered { origin, body, .. } in std::mem::take(&mut self.answered) {
                self.take_answer(origin, body);
            }
        }
    }

    fn take_answer(&mut self, origin: Origin, mut body: ResponseBody) {
        if let Some(sequence_min) = sequence_min(&body) {
            self.writer.raise(sequence_min);
        }
        let bytes = value_bytes(&body);
        let is_full = bytes > 0 && self.queued_bytes + bytes > QUEUED_BYTES_MAX;
        let Some(asking) = self.asking(origin.command) else { return };
        if let Some(walk) = &mut asking.walk {
            asking.numbers.clear();
            match walk.advance(body) {
                Some(next) => self.ask(origin, next),
                None => self.queue.complete(origin.command),
            }
            return;
        }
        if is_full && !asking.writes {
            let error = ServerError::new(ErrorCode::Overloaded, "too many large values wait for this connection");
            body = ResponseBody::Error(error);
        }
        let bytes = value_bytes(&body);
        // Before the first one comes, all parts are left.
        let parts = if asking.answers.is_empty() { asking.left } else { asking.answers.len() };
        asking.answers.resize(parts, ResponseBody::Done);
        asking.answers[origin.part as usize] = body;
        asking.left -= 1;
        if asking.left == 0 {
            asking.numbers.clear();
            self.queue.complete(origin.command);
        }
        self.hold(origin.command, bytes);
    }

    /// Moves replies from the queue to the output, in order, while there is room; begins what has waited for its turn.
    fn reply(&mut self) {
        while self.output.len() < SESSION_OUTPUT_BYTES {
            if let Some(command) = self.queue.begin_head() {
                self.now = system_clock::monotonic();
                self.ask_all(command);
            }
            let Some(waiting) = self.queue.pop_done() else { break };
            self.write_reply(waiting);
        }
    }

    fn write_reply(&mut self, waiting: Waiting) {
        let Waiting { version, is_silent, what } = waiting;
        self.queued_bytes -= match &what {
            What::Replied(output) => output.len(),
            What::Asking(asking) => asking.held_bytes,
        };
        match what {
            _ if is_silent => {}
            What::Replied(output) => self.output.append(output),
            What::Asking(asking) => {
                let Asking { form, writes, answers, walk, .. } = *asking;
                let now_ms = self.door.context.router.clock().now().wall_ms;
                let mut reply = ReplyWriter::new(&mut self.output, version);
                answers::write(form, &answers, walk.as_ref(), writes, now_ms, &mut reply);
            }
        }
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
                    self.door.counts.note_sent(Door::Resp, written);
                    self.output.advance(written);
                    self.write_by = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.output.is_empty() {
            self.write_by = None;
        } else {
            self.write_by.get_or_insert_with(|| Instant::now() + WRITE_TIMEOUT);
        }
        Ok(())
    }
}
