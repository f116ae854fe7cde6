//! From a request to what is done for it.

use super::asking::{AskedPart, Asking, Waiting, What};
use super::connection::Connection;
use super::execute::{Circumstances, Planned, Refusal, ReplyForm, Touches, plan, single_read};
use super::info;
use super::introspect::{self, Replies};
use super::multi::Exec;
use super::replies::Begins;
use super::rights::is_login;
use super::walk::Ground;
use crate::runtime::system_clock;
use bytes::Buf as _;
use kvorum_protocol::hash::slot;
use kvorum_protocol::{RequestBody, StatusScope};
use kvorum_resp::command::ClientCommand;
use kvorum_resp::table::{self, CommandSpec, Flags};
use kvorum_resp::{Command, CommandError, Output, ProtocolError, ReplyWriter, Request, RespVersion};

const CROSS_SLOT: &[u8] = b"CROSSSLOT Keys in request don't hash to the same slot";

impl Connection<'_> {
    pub(super) fn handle_request(&mut self, request: &Request) {
        let spec = match table::resolve(request) {
            Ok(spec) => spec,
            Err(error) => {
                self.break_queue();
                if let CommandError::WrongNumberOfArguments(name) = error {
                    self.door.node.command_counts.reject(self.manners.client.number, name);
                }
                return self.refuse(&error);
            }
        };
        if let Some(error) = self.forbidden(spec) {
            self.break_queue();
            self.tally.note(spec.full_name, None, true);
            return self.reply_with(|reply| reply.error(&error));
        }
        if !self.queue.is_empty() && self.goes_apart(spec) {
            self.apart = Some(request.clone());
            return;
        }
        let is_control = matches!(spec.full_name, "multi" | "exec" | "discard" | "watch" | "quit" | "reset");
        if self.multi.queue.is_some() && !is_control {
            return self.enqueue(spec, request);
        }
        if let Some(error) = self.not_noted(spec) {
            self.tally.note(spec.full_name, None, true);
            return self.reply_with(|reply| reply.error(&error));
        }
        if is_login(spec) {
            self.login = Some(request.clone());
            return;
        }
        let command = match Command::parse(spec, request) {
            Ok(command) => command,
            Err(error) => {
                self.tally.note(spec.full_name, None, true);
                return self.refuse(&error);
            }
        };
        self.manners.last_command = spec.full_name;
        if spec.full_name.starts_with("client|") {
            // It may look at itself.
            self.tell_others();
            self.manners.client.about(|about| about.request_bytes = request.encoded_bytes());
        }
        self.tell_monitors(spec, request);
        if self.transact(&command, spec, request) {
            return;
        }
        if self.answer_of_itself(&command, spec, request) {
            return;
        }
        let slot = match self.slot_of(spec, request) {
            Ok(slot) => slot,
            Err(error) => return self.reply_with(|reply| reply.error(error)),
        };
        if let Some((key, form)) = single_read(&command) {
            return self.read(key, form, slot, spec, request);
        }
        let planned = match self.plan_of_node(&command) {
            Some(planned) => Ok(planned),
            None => {
                let planned = self.with_circumstances(|place| plan(&command, spec, request, place));
                planned.map(|planned| (planned, String::new()))
            }
        };
        match planned {
            Ok((planned, text)) => self.begin(planned, slot, text, None, spec, request),
            Err(Refusal::Command(error)) => self.refuse(&error),
            Err(Refusal::Text(text)) => self.reply_with(|reply| reply.error(text.as_bytes())),
        }
    }

    /// Whether a command waits until all before it is answered: that is to be answered to whoever asked it, and what is costly is done one at
    /// a time, so that others go between.
    fn goes_apart(&self, spec: &CommandSpec) -> bool {
        spec.full_name == "reset" || self.multi.queue.is_none() && (is_login(spec) || spec.full_name == "lcs")
    }

    /// Lends what commands are planned by at the moment.
    pub(super) fn with_circumstances<T>(&self, plan: impl FnOnce(&Circumstances<'_>) -> T) -> T {
        let shards = self.door.node.context.router.shards();
        let (slots, is_cluster) = (&self.door.node.slots, self.door.is_cluster());
        let ground = || if is_cluster { Ground::Led(shards, slots.led()) } else { Ground::All(shards) };
        plan(&Circumstances { now_ms: self.door.wall_ms(), ground: &ground, shards, drawn: rand::random() })
    }

    /// What is asked for commands about the node as a whole, and what their replies begin with. Those that ask nobody are planned all
    /// the same: so they keep their place behind the writes before them.
    fn plan_of_node(&self, command: &Command<'_>) -> Option<(Planned, String)> {
        let (form, asks, text) = match command {
            Command::DbSize if self.door.is_cluster() => (ReplyForm::KeysHere, false, String::new()),
            Command::DbSize => (ReplyForm::Keys, true, String::new()),
            Command::Info(sections) => match info::text(self.door, sections.rest()) {
                (text, false) => (ReplyForm::Text, false, text),
                (text, true) => {
                    let held_keys = info::held_keys(self.door);
                    (ReplyForm::Info { held_keys }, !self.door.is_cluster(), text)
                }
            },
            Command::Wait { replicas, timeout_ms } => {
                (ReplyForm::Wait { replicas: *replicas, timeout_ms: *timeout_ms }, true, String::new())
            }
            _ => return None,
        };
        let asked = asks.then_some(RequestBody::Status(StatusScope::Cluster)).into_iter().collect();
        Some((Planned { asked, walk: None, form, touches: Touches::All { writes: false } }, text))
    }

    /// The slot of a command's keys, if the client follows slots.
    pub(super) fn slot_of(&self, spec: &CommandSpec, request: &Request) -> Result<Option<u16>, &'static [u8]> {
        if !self.door.is_cluster() {
            return Ok(None);
        }
        let mut slots = spec.keys(request).map(|key| slot(key.name));
        let first = slots.next();
        if slots.any(|other| Some(other) != first) { Err(CROSS_SLOT) } else { Ok(first) }
    }

    fn tell_monitors(&self, spec: &CommandSpec, request: &Request) {
        let clients = &self.door.node.clients;
        if !clients.are_monitored() {
            return;
        }
        if let Some(queue) = self.multi.queue.as_ref().filter(|queue| spec.full_name == "exec" && !queue.is_broken) {
            // What EXEC carries out comes before it.
            queue.commands.iter().for_each(|(spec, request)| self.tell_monitors(spec, request));
        }
        // Passwords are nobody's business.
        if !is_login(spec) && !spec.flags.has(Flags::ADMIN) {
            clients.tell_monitors(&self.manners.client, request, self.door.wall_ms() * 1_000);
        }
    }

    /// A command was answered at once: it may be slow by what an operator calls slow.
    pub(super) fn note_quick(&mut self, spec: &CommandSpec, request: &Request, failed: bool) {
        self.tally.note(spec.full_name, None, failed);
        let slowlog = &self.door.node.slowlog;
        if slowlog.may_be_quick() && !spec.flags.has(Flags::SKIP_SLOWLOG) && !is_login(spec) {
            let took_us = system_clock::monotonic().0.saturating_sub(self.now.0) / 1_000;
            if slowlog.is_slow(took_us) {
                self.log_slow(request, took_us);
            }
        }
    }

    /// Answers a command that needs no key, and tells whether it was one.
    fn answer_of_itself(&mut self, command: &Command<'_>, spec: &CommandSpec, request: &Request) -> bool {
        let is_silent = !self.manners.wants_reply();
        let mut output = Output::new();
        let is_answered = match command {
            Command::Hello(hello) => {
                introspect::answer_hello(self.door, self.manners, hello, &mut output);
                true
            }
            Command::Acl(command) => {
                self.answer_acl(command, &mut ReplyWriter::new(&mut output, self.manners.version));
                true
            }
            command => {
                // RESET answers in the version that it goes back to.
                let version = if matches!(command, Command::Reset) { RespVersion::Two } else { self.manners.version };
                let mut reply = ReplyWriter::new(&mut output, version);
                introspect::answer(self.door, self.manners, command, &mut reply)
            }
        };
        if !is_answered {
            self.skip_again(is_silent);
            return false;
        }
        // These answer if replies are wanted behind them, whatever was wanted before.
        let is_switch = matches!(command, Command::Reset | Command::Client(ClientCommand::Reply(_)));
        let is_silent = if is_switch { !self.manners.wants_replies() } else { is_silent };
        let failed = output.chunk().first() == Some(&b'-');
        self.push(is_silent, output);
        self.note_quick(spec, request, failed);
        if matches!(command, Command::Reset) {
            self.log_in_anew();
            self.forget_transaction();
        }
        self.is_ending |= matches!(command, Command::Quit) || self.manners.ends;
        true
    }

    /// A command that was looked at and not answered still has to be silent, if it was to be.
    fn skip_again(&mut self, is_silent: bool) {
        if is_silent && self.manners.wants_replies() {
            self.manners.replies = Replies::SkipNext;
        }
    }

    pub(super) fn refuse(&mut self, error: &CommandError) {
        self.reply_with(|reply| reply.command_error(error));
    }

    pub(super) fn reply_with(&mut self, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        let is_silent = !self.manners.wants_reply();
        let mut output = Output::new();
        write(&mut ReplyWriter::new(&mut output, self.manners.version));
        self.push(is_silent, output);
    }

    pub(super) fn push(&mut self, is_silent: bool, output: Output) {
        if self.queue.is_empty() {
            if !is_silent {
                self.output.append(output);
            }
            return;
        }
        self.queued_bytes += output.len();
        self.queue.push_done(Waiting { version: self.manners.version, is_silent, what: What::Replied(output) });
    }

    /// The bytes make no sense, and where the next request begins is not known: answers what was begun, says so, and closes.
    pub(super) fn end_malformed(&mut self, error: ProtocolError) {
        self.reply_with(|reply| reply.protocol_error(error));
        self.is_ending = true;
    }

    /// Takes up a command of keys.
    pub(super) fn begin(
        &mut self,
        planned: Planned,
        slot: Option<u16>,
        text: String,
        exec: Option<Exec>,
        spec: &'static CommandSpec,
        request: &Request,
    ) {
        let (command, begins) = self.enqueue_planned(planned, slot, text, exec);
        if begins == Begins::AtOnce {
            self.ask_all(command);
        }
        self.keep(command, spec, request);
    }

    /// Puts a command of keys into the queue. Gives its number, and when it begins.
    pub(super) fn enqueue_planned(
        &mut self,
        planned: Planned,
        slot: Option<u16>,
        text: String,
        exec: Option<Exec>,
    ) -> (u64, Begins) {
        let Planned { asked, walk, form, touches } = planned;
        let writes = touches.writes();
        let asking = Asking {
            form,
            writes,
            slot,
            parts: asked.into_iter().map(AskedPart::new).collect(),
            walk,
            answers: Vec::new(),
            left: 1,
            refused: 0,
            moved: None,
            exec,
            text,
            held_bytes: 0,
            began: self.now,
            request: None,
            spec: None,
        };
        let is_silent = !self.manners.wants_reply();
        let what = What::Asking(Box::new(asking));
        let waiting = Waiting { version: self.manners.version, is_silent, what };
        self.queue.push(waiting, touches)
    }

    /// A command was taken up: what the queue holds for it counts, and it may be slow.
    pub(super) fn keep(&mut self, command: u64, spec: &'static CommandSpec, request: &Request) {
        match self.asking(command) {
            Some(asking) if asking.left > 0 => {
                asking.spec = Some(spec);
                asking.request = (!spec.flags.has(Flags::SKIP_SLOWLOG)).then(|| request.clone());
                self.hold(command, request.held_bytes());
            }
            asking => {
                let failed = asking.is_some_and(|asking| asking.has_failed());
                self.note_quick(spec, request, failed);
            }
        }
    }
}
