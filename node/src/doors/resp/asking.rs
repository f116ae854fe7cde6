//! What a command asks of the cluster: its requests, their answers, and those that are asked again.
//!
//! A request that was refused for the moment is repeated until the command's deadline, under the number that it had. Two commands of
//! a connection that touch the same key don't change places by that: a request waits until those of its keys before it are
//! through, and is given up once one behind it took effect. Meanwhile nothing more is taken from the client.

use super::answers::{self, failure_of, may_be_effect, sequence_min, value_bytes};
use super::connection::Connection;
use super::execute::{ReplyForm, is_write};
use super::info;
use super::multi::{Exec, unwrapped};
use super::replies::{Repeats, Stands};
use super::walk::Walk;
use crate::doors::writers::WriteNumbers;
use crate::runtime::system_clock;
use kvorum_client_core::Error;
use kvorum_client_core::retry::{Attempts, Decision, Failure, Kind, RetryPolicy};
use kvorum_core::clock::Nanos;
use kvorum_core::limits::{FORWARDS_MAX, LARGE_WORK_BYTES, SESSION_OUTPUT_BYTES, SESSION_VALUES_BYTES_MAX};
use kvorum_core::session::Answered;
use kvorum_protocol::{ErrorCode, NodeId, Outcome, Request, RequestBody, RequestId, ResponseBody, ServerError};
use kvorum_resp::table::CommandSpec;
use kvorum_resp::{Output, ReplyWriter, Request as RespRequest, RespVersion};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a command is given, in milliseconds: less than the five seconds after which clients give up, more than a failover takes.
pub(super) const DEADLINE_MS: u64 = 2_000;
/// Most bytes of values that wait in the queue; a read past it is answered `TRYAGAIN`.
const QUEUED_BYTES_MAX: usize = 2 * SESSION_VALUES_BYTES_MAX;
/// Most bytes of values that connections of all RESP doors hold, of which each holds many; a large read past it is answered `TRYAGAIN`.
const HELD_BYTES_MAX: usize = 192 * 1024 * 1024;
/// With so many requests passed on and unanswered, each connection has one command under way at a time.
const STRAINED_FORWARDS: usize = FORWARDS_MAX / 2;
/// For so long after a queue was full a connection has one command under way at a time.
const STRAINED_MS: u64 = 100;

/// Which part of which command a session's answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AskedBy {
    pub(super) command: u64,
    pub(super) part: u32,
}

/// A command whose reply has not been written.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) version: RespVersion,
    /// The client wants no reply.
    pub(super) is_silent: bool,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// It needed no answer.
    Replied(Output),
    /// It needs some.
    Asking(Box<Asking>),
}

#[derive(Debug)]
pub(super) struct Asking {
    pub(super) form: ReplyForm,
    pub(super) writes: bool,
    /// The slot of its keys, if the client follows slots.
    pub(super) slot: Option<u16>,
    pub(super) parts: Vec<AskedPart>,
    pub(super) walk: Option<Walk>,
    pub(super) answers: Vec<ResponseBody>,
    /// Parts that are not answered.
    pub(super) left: usize,
    /// Of these, those that wait to be asked again.
    pub(super) refused: usize,
    /// What is told, whatever the answers say.
    pub(super) moved: Option<String>,
    /// How the answers to a transaction become a reply.
    pub(super) exec: Option<Exec>,
    /// What stands before the answer.
    pub(super) text: String,
    /// Bytes that the queue holds for it.
    pub(super) held_bytes: usize,
    /// When it was asked first.
    pub(super) began: Nanos,
    /// As the client sent it, for the log of slow commands.
    pub(super) request: Option<RespRequest>,
    /// Which command it is, if it was not answered at once.
    pub(super) spec: Option<&'static CommandSpec>,
}

/// One request of a command.
#[derive(Debug)]
pub(super) struct AskedPart {
    body: RequestBody,
    numbers: Option<WriteNumbers>,
    /// From the first failure on.
    attempts: Option<Box<Attempts>>,
    /// It is passed on though the client follows slots: it may have taken effect already, or its leader can't be told.
    is_passed_on: bool,
}

impl AskedPart {
    pub(super) fn new(body: RequestBody) -> Self {
        Self { body, numbers: None, attempts: None, is_passed_on: false }
    }
}

/// A part that is to be asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    origin: AskedBy,
    /// When.
    at: Nanos,
    /// Until when it makes sense.
    until: Nanos,
}

impl Asking {
    /// Whether an answer is an error.
    pub(super) fn has_failed(&self) -> bool {
        self.answers.iter().any(|body| failure_of(body).is_some())
    }

    fn stands(&self) -> Stands {
        let may_have = |body: &ResponseBody| match body {
            ResponseBody::Error(error) => error.outcome != Outcome::NotApplied,
            // Also what was read must have been read at its place.
            body => !matches!(body, ResponseBody::Done),
        };
        match () {
            () if self.answers.iter().any(may_have) => Stands::TookEffect,
            () if self.left > self.refused => Stands::UnderWay,
            () => Stands::Harmless,
        }
    }
}

fn stands(waiting: &Waiting) -> Stands {
    match &waiting.what {
        What::Replied(_) => Stands::Harmless,
        What::Asking(asking) => asking.stands(),
    }
}

fn since_start(now: Nanos) -> Duration {
    Duration::from_nanos(now.0)
}

/// The error of a request that is not asked again.
fn final_error(error: Error) -> ServerError {
    match error {
        Error::Server(error) => error,
        other => ServerError::new(ErrorCode::DeadlineExceeded, other.to_string()).with_outcome(other.outcome()),
    }
}

impl Connection<'_> {
    /// The queue holds more for a command, until its reply is written.
    pub(super) fn hold(&mut self, command: u64, bytes: usize) {
        if let Some(asking) = self.asking(command) {
            asking.held_bytes += bytes;
            self.queued_bytes += bytes;
            if bytes > LARGE_WORK_BYTES {
                self.count_held();
            }
        }
    }

    pub(super) fn asking(&mut self, command: u64) -> Option<&mut Asking> {
        match &mut self.queue.get_mut(command)?.what {
            What::Asking(asking) => Some(asking),
            What::Replied(_) => None,
        }
    }

    /// Whether queues that all connections share are so full that this one has one command under way at a time.
    pub(super) fn is_strained(&self) -> bool {
        self.now < self.strained_until || self.door.node.context.router.forwards_open() >= STRAINED_FORWARDS
    }

    /// Asks all that a command asks at once, or what its walk asks first.
    pub(super) fn ask_all(&mut self, command: u64) {
        let now = self.now;
        let Some(asking) = self.asking(command) else { return };
        asking.began = now;
        if let Some(walk) = &asking.walk {
            asking.parts.extend(walk.begin().map(AskedPart::new));
        }
        let (parts, form) = (asking.parts.len() as u32, asking.form);
        asking.left = asking.parts.len();
        if parts == 0 {
            return self.queue.complete(command);
        }
        if let ReplyForm::Wait { replicas, timeout_ms } = form {
            self.begin_wait(command, replicas, timeout_ms);
        }
        (0..parts).for_each(|part| self.ask(AskedBy { command, part }));
        self.take_answers();
    }

    /// Asks once more what was answered, with the time that a command is given.
    pub(super) fn ask_again(&mut self, origin: AskedBy) {
        let now = self.now;
        let Some(asking) = self.asking(origin.command) else { return };
        asking.began = now;
        self.ask(origin);
        self.take_answers();
    }

    fn ask(&mut self, origin: AskedBy) {
        let (is_cluster, writer) = (self.door.is_cluster(), std::sync::Arc::clone(&self.writer));
        let Some(asking) = self.asking(origin.command) else { return };
        let until = asking.began.after_ms(DEADLINE_MS);
        let part = &mut asking.parts[origin.part as usize];
        if is_write(&part.body) && part.numbers.is_none() {
            part.numbers = Some(WriteNumbers::new(&writer, 1, &mut part.body));
        }
        let mut body = part.body.clone();
        let is_retry = part.attempts.as_ref().is_some_and(|attempts| attempts.is_retry());
        if let Some(numbers) = &part.numbers {
            numbers.stamp(&mut body, is_retry);
        }
        if let Some(attempts) = &mut part.attempts {
            attempts.handle_sent();
        }
        let redirects = is_cluster && !is_retry && !part.is_passed_on;
        self.send(origin, until, redirects, body);
    }

    /// Asks the session, which may answer at once. `until`: when it is too late.
    pub(super) fn send(&mut self, origin: AskedBy, until: Nanos, redirects: bool, body: RequestBody) {
        let deadline_ms = u32::try_from(until.ms_since(self.now)).unwrap_or(u32::MAX).max(1);
        let request = Request { id: RequestId(1), deadline_ms, body };
        self.session.redirect(redirects);
        let answered = &mut self.answered;
        let mut take = |answer| {
            // Mostly there is one, and an idle connection keeps its memory.
            if answered.capacity() == 0 {
                answered.reserve_exact(1);
            }
            answered.push(answer);
        };
        self.session.handle(self.writer.client(), origin, self.now, request, &mut take);
    }

    /// A command's only request was sent.
    pub(super) fn note_asked(&mut self, command: u64) {
        let now = self.now;
        if let Some(asking) = self.asking(command) {
            (asking.began, asking.left) = (now, 1);
        }
    }

    pub(super) fn collect(&mut self) {
        self.now = system_clock::monotonic();
        let answered = &mut self.answered;
        self.session.collect(&mut |answer| answered.push(answer));
        self.take_answers();
        self.repeat_due();
    }

    /// Gives answers to the commands that have asked. What a walk asks next may be answered at once, too.
    pub(super) fn take_answers(&mut self) {
        while !self.answered.is_empty() {
            let mut answered = std::mem::take(&mut self.answered);
            for Answered { origin, body, .. } in answered.drain(..) {
                self.take_answer(origin, body);
            }
            if self.answered.is_empty() {
                // Its memory is used again.
                self.answered = answered;
            }
        }
    }

    fn take_answer(&mut self, origin: AskedBy, body: ResponseBody) {
        if self.wait.as_ref().is_some_and(|wait| wait.has_asked(origin)) {
            return self.take_how_far(&body);
        }
        if let Some(sequence_min) = sequence_min(&body) {
            self.writer.raise(sequence_min);
        }
        match failure_of(&body) {
            Some(error) => {
                let error = error.clone();
                self.take_failure(origin, error, body);
            }
            None => self.finish(origin, body),
        }
    }

    /// A part is answered, for good.
    pub(super) fn finish(&mut self, origin: AskedBy, mut body: ResponseBody) {
        let (bytes, now) = (value_bytes(&body), self.now);
        let held_bytes = || self.door.node.held_bytes.load(Ordering::Relaxed);
        let is_full = bytes > 0 && self.queued_bytes + bytes > QUEUED_BYTES_MAX
            || bytes > LARGE_WORK_BYTES && held_bytes() + bytes > HELD_BYTES_MAX;
        let Some(asking) = self.asking(origin.command) else { return };
        if let Some(walk) = &mut asking.walk {
            asking.parts.clear();
            match walk.advance(body) {
                Some(next) => {
                    asking.parts.push(AskedPart::new(next));
                    asking.began = now;
                    self.ask(origin);
                }
                None => {
                    asking.left = 0;
                    self.complete(origin.command);
                }
            }
            return;
        }
        if is_full && !asking.writes {
            let detail = "clients that are slow to take large values hold all memory for them";
            let error = ServerError::new(ErrorCode::Overloaded, detail);
            body = ResponseBody::Error(error);
        }
        let bytes = value_bytes(&body);
        let parts = asking.parts.len();
        asking.answers.resize(parts, ResponseBody::Done);
        asking.answers[origin.part as usize] = if asking.exec.is_some() { body } else { unwrapped(body) };
        asking.parts[origin.part as usize].numbers = None;
        asking.left -= 1;
        let is_done = asking.left == 0;
        self.hold(origin.command, bytes);
        if is_done {
            self.complete(origin.command);
        }
    }

    fn complete(&mut self, command: u64) {
        if let Some(asking) = self.asking(command) {
            asking.parts.clear();
            if asking.form == ReplyForm::Watch {
                let answers = std::mem::take(&mut asking.answers);
                let failed = self.watch(&answers);
                if let Some(asking) = self.asking(command) {
                    asking.answers.extend(failed);
                }
            }
        }
        self.note_slow(command);
        self.queue.complete(command);
    }

    fn note_slow(&mut self, command: u64) {
        let now = self.now;
        let Some(asking) = self.asking(command) else { return };
        let took_us = now.0.saturating_sub(asking.began.0) / 1_000;
        let (request, spec) = (asking.request.take(), asking.spec.take());
        if let Some((spec, failed)) = spec.map(|spec| (spec, asking.has_failed())) {
            self.tally.note(spec.full_name, Some(took_us), failed);
        }
        if let Some(request) = request.filter(|_| self.door.node.slowlog.is_slow(took_us)) {
            self.log_slow(&request, took_us);
        }
    }

    /// Writes a command into the log of slow ones.
    pub(super) fn log_slow(&self, request: &RespRequest, took_us: u64) {
        let client = &self.manners.client;
        let name = client.about(|about| about.name.clone());
        self.door.node.slowlog.note(request, took_us, self.door.wall_ms() / 1_000, client.from, name);
    }

    /// A part was refused, or nobody knows what became of it: it is asked again, if that may help and there is time.
    fn take_failure(&mut self, origin: AskedBy, error: ServerError, body: ResponseBody) {
        let (now, is_cluster) = (self.now, self.door.is_cluster());
        // A full disk stays full for longer than a client waits.
        let passes_by = error.code != ErrorCode::DiskFull;
        if error.code == ErrorCode::Overloaded {
            self.strained_until = now.after_ms(STRAINED_MS);
        }
        let Some(asking) = self.asking(origin.command) else { return };
        let (until, slot, is_walk) = (asking.began.after_ms(DEADLINE_MS), asking.slot, asking.walk.is_some());
        let part = &mut asking.parts[origin.part as usize];
        let (kind, began) = (if is_write(&part.body) { Kind::Write } else { Kind::Read }, asking.began);
        let attempts = part.attempts.get_or_insert_with(|| {
            let mut first = Attempts::new(RetryPolicy::default(), kind, since_start(began), since_start(until));
            first.handle_sent();
            Box::new(first)
        });
        let leader = error.leader.filter(|_| error.code == ErrorCode::NotLeader && is_cluster);
        let decision = attempts.handle_failure(Failure::Answered(error), since_start(now), &mut rand::rng());
        let is_retry = attempts.is_retry();
        if let Some(leader) = leader.filter(|_| !part.is_passed_on) {
            if is_walk {
                return self.finish(origin, body);
            }
            part.is_passed_on = true;
            if !is_retry && let Some(text) = self.moved(slot, leader) {
                return self.finish_moved(origin, text, body);
            }
            return self.repeat_at(origin, now, until);
        }
        match decision {
            Decision::GiveUp(error) => self.give_up(origin, final_error(error), body),
            _ if !passes_by => self.finish(origin, body),
            Decision::AtOnce => self.repeat_at(origin, now, until),
            Decision::Renumber { sequence_min } => {
                if let Some(numbers) = &mut part.numbers {
                    numbers.take_others(sequence_min, &mut part.body);
                }
                self.repeat_at(origin, now, until);
            }
            Decision::Pause(pause) => {
                let at = Nanos(now.0.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)));
                self.repeat_at(origin, at, until);
            }
        }
    }

    /// What a client is told that asks for a slot which another node leads, if it can go there.
    pub(super) fn moved(&self, slot: Option<u16>, leader: NodeId) -> Option<String> {
        let slots = &self.door.node.slots;
        let topology = self.door.node.context.router.topology_now();
        let endpoint = slots.endpoint(&topology, leader, self.manners.client.to.ip());
        let endpoint = endpoint.filter(|_| leader != self.door.node.context.router.me())?;
        Some(format!("MOVED {} {}:{}", slot?, endpoint.host, endpoint.port))
    }

    fn finish_moved(&mut self, origin: AskedBy, text: String, body: ResponseBody) {
        if let Some(asking) = self.asking(origin.command) {
            asking.moved = Some(text);
        }
        self.finish(origin, body);
    }

    /// Tells of an error. Of several reads those that went well are told as well.
    fn give_up(&mut self, origin: AskedBy, error: ServerError, body: ResponseBody) {
        let body = if matches!(body, ResponseBody::Values(_)) { body } else { ResponseBody::Error(error) };
        self.finish(origin, body);
    }

    fn repeat_at(&mut self, origin: AskedBy, at: Nanos, until: Nanos) {
        if let Some(asking) = self.asking(origin.command) {
            asking.refused += 1;
        }
        self.refused.push(Refused { origin, at, until });
    }

    /// When something is to be asked again, or given up.
    pub(super) fn repeat_by(&self) -> Option<Nanos> {
        let due = |refused: &Refused| if refused.at > self.now { refused.at } else { refused.until };
        self.refused.iter().map(due).chain(self.wait_by()).min()
    }

    /// Asks again what is due and may be.
    pub(super) fn repeat_due(&mut self) {
        self.go_on_waiting();
        // What was refused at once again waits for the next time.
        let mut rounds = self.refused.len();
        while rounds > 0 {
            rounds -= 1;
            let now = self.now;
            let next = self.refused.iter().enumerate().find_map(|(place, refused)| {
                let repeats = match () {
                    () if refused.until <= now => Repeats::Never,
                    () if refused.at > now => Repeats::Later,
                    () => self.queue.may_repeat(refused.origin.command, stands),
                };
                (repeats != Repeats::Later).then_some((place, repeats))
            });
            let Some((place, repeats)) = next else { return };
            let Refused { origin, .. } = self.refused.remove(place);
            let Some(asking) = self.asking(origin.command) else { continue };
            asking.refused -= 1;
            if repeats == Repeats::Now {
                self.ask(origin);
            } else {
                let attempts = asking.parts[origin.part as usize].attempts.as_ref();
                let error = attempts.map(|attempts| final_error(attempts.deadline_exceeded(since_start(now))));
                let late = || ServerError::new(ErrorCode::DeadlineExceeded, "the deadline passed");
                let body = ResponseBody::Error(error.unwrap_or_else(late));
                self.finish(origin, body);
            }
            self.take_answers();
        }
    }

    /// Moves replies from the queue to the output, in order, while there is room; begins what has waited for its turn.
    pub(super) fn reply(&mut self) {
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
                let mut reply = ReplyWriter::new(&mut self.output, version);
                write(self.door, *asking, &mut reply);
            }
        }
    }
}

/// Writes the reply of a command whose answers are all there.
fn write(door: &super::RespDoor, asking: Asking, reply: &mut ReplyWriter<'_>) {
    let Asking { form, writes, answers, walk, moved, exec, mut text, .. } = asking;
    if let Some(walk) = walk {
        return walk.write(reply);
    }
    // Where some of it took effect, the client must not send all of it again.
    if let Some(moved) = moved.filter(|_| !(writes && answers.iter().any(may_be_effect))) {
        return reply.error(moved.as_bytes());
    }
    if let Some(exec) = exec {
        return exec.write(&answers, writes, door.wall_ms(), reply);
    }
    match form {
        ReplyForm::Text => reply.verbatim(text.as_bytes()),
        ReplyForm::Reached(replicas) => reply.integer(replicas),
        ReplyForm::KeysHere => reply.integer(door.node.slots.led_keys() as i64),
        ReplyForm::Info { held_keys } => {
            let keys = match &answers[..] {
                [ResponseBody::Status(nodes)] => answers::led_keys(nodes),
                _ if door.is_cluster() => door.node.slots.led_keys(),
                _ => held_keys,
            };
            info::add_keyspace(&mut text, keys);
            reply.verbatim(text.as_bytes());
        }
        form => answers::write(form, &answers, writes, door.wall_ms(), reply),
    }
}
