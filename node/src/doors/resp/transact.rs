//! MULTI, EXEC, DISCARD, WATCH and UNWATCH of a connection.

use super::connection::Connection;
use super::execute::{Circumstances, Planned, Refusal, ReplyForm, Touches, plan};
use super::multi::{ExecBuilder, Multi, Queue};
use super::walk::Ground;
use super::{info, introspect};
use bytes::Bytes;
use kvorum_core::routing::router::Route;
use kvorum_protocol::hash::{hash64, shard_of};
use kvorum_protocol::limits::BATCH_OPERATIONS_MAX;
use kvorum_protocol::{ReadMode, RequestBody, ResponseBody};
use kvorum_resp::table::CommandSpec;
use kvorum_resp::{Arguments, Command, Output, ReplyWriter, Request};

/// Whether a command without keys does something at once, that can't be taken back if the transaction does not go through.
fn changes_at_once(spec: &CommandSpec) -> bool {
    matches!(
        spec.full_name,
        "config|set" | "config|resetstat" | "client|kill" | "client|reply" | "slowlog|reset" | "latency|reset"
    )
}

/// Most bytes of keys that are watched.
const WATCHED_BYTES_MAX: usize = 1 << 20;

impl Connection<'_> {
    /// What is queued is not carried out any more.
    pub(super) fn break_queue(&mut self) {
        if let Some(queue) = &mut self.multi.queue {
            queue.is_broken = true;
        }
    }

    /// Nothing is queued and nothing watched.
    pub(super) fn forget_transaction(&mut self) {
        self.multi = Multi { is_watching: self.multi.is_watching, ..Multi::default() };
        self.tell_transaction();
    }

    fn tell_transaction(&self) {
        let queued = self.multi.queue.as_ref().map(|queue| queue.commands.len());
        let watched = self.multi.watched.len();
        self.manners.client.about(|about| (about.queued, about.watched) = (queued, watched));
    }

    /// Queues a command behind MULTI.
    pub(super) fn enqueue(&mut self, spec: &'static CommandSpec, request: &Request) {
        let refused = match self.slot_of(spec, request) {
            Err(error) => Some(error.to_vec()),
            Ok(slot) => self.led_elsewhere(spec, request, slot).map(String::into_bytes),
        };
        let Some(queue) = &mut self.multi.queue else { return };
        let refused = refused.or_else(|| queue.add(spec, request).err().map(<[u8]>::to_vec));
        queue.is_broken |= refused.is_some();
        self.tell_transaction();
        self.reply_with(|reply| match refused {
            Some(error) => reply.error(&error),
            None => reply.simple("QUEUED"),
        });
    }

    /// Where the client has to go with a command, if it follows slots and another node leads this one.
    fn led_elsewhere(&self, spec: &CommandSpec, request: &Request, slot: Option<u16>) -> Option<String> {
        let key = spec.keys(request).next().filter(|_| slot.is_some())?;
        let router = &self.door.node.context.router;
        match router.route(shard_of(key.name, router.shards())) {
            Route::Remote(leader, _) => self.moved(slot, leader),
            Route::Local(..) | Route::Nowhere => None,
        }
    }

    /// Does what a command about transactions says, and tells whether it was one.
    pub(super) fn transact(&mut self, command: &Command<'_>, spec: &'static CommandSpec, request: &Request) -> bool {
        let is_queueing = self.multi.queue.is_some();
        if matches!(command, Command::Multi | Command::Discard | Command::Unwatch) {
            let failed = match command {
                Command::Multi => is_queueing,
                Command::Discard => !is_queueing,
                _ => false,
            };
            self.tally.note(spec.full_name, None, failed);
        }
        match *command {
            Command::Multi if is_queueing => self.reply_with(|reply| reply.error(b"ERR MULTI calls can not be nested")),
            Command::Multi => {
                self.multi.queue = Some(Queue::default());
                self.tell_transaction();
                self.reply_with(|reply| reply.ok());
            }
            Command::Discard if !is_queueing => self.reply_with(|reply| reply.error(b"ERR DISCARD without MULTI")),
            Command::Discard | Command::Unwatch => {
                self.forget_transaction();
                self.reply_with(|reply| reply.ok());
            }
            Command::Watch(_) if is_queueing => {
                self.reply_with(|reply| reply.error(b"ERR WATCH inside MULTI is not allowed"));
            }
            Command::Watch(keys) => self.begin_watch(keys, spec, request),
            Command::Exec => self.begin_exec(spec, request),
            _ => return false,
        }
        true
    }

    fn begin_watch(&mut self, keys: Arguments<'_>, spec: &'static CommandSpec, request: &Request) {
        let slot = match self.slot_of(spec, request) {
            Ok(slot) => slot,
            Err(error) => return self.reply_with(|reply| reply.error(error)),
        };
        // Copies: parts of the request would keep all that came in with it, for as long as they are watched.
        let keys: Vec<Bytes> = keys.map(Bytes::copy_from_slice).collect();
        let watched = self.multi.watched.iter().map(|(key, _)| key);
        let bytes: usize = watched.chain(&keys).map(|key| key.len() + size_of::<Bytes>()).sum();
        if self.multi.watched.len() + keys.len() > BATCH_OPERATIONS_MAX / 2 || bytes > WATCHED_BYTES_MAX {
            return self
                .reply_with(|reply| reply.error(b"ERR a transaction watches 2048 keys and 1 MiB of them at most"));
        }
        self.multi.watching.clone_from(&keys);
        self.multi.is_watching = true;
        let touches = Touches::Reads(keys.iter().map(|key| hash64(key)).collect());
        let asked = vec![RequestBody::MultiGet { keys, mode: ReadMode::Linearizable }];
        let planned = Planned { asked, walk: None, form: ReplyForm::Watch, touches };
        self.begin(planned, slot, String::new(), None, spec, request);
    }

    /// The versions of keys that are watched have come. Gives what the client is told instead of OK.
    pub(super) fn watch(&mut self, answers: &[ResponseBody]) -> Vec<ResponseBody> {
        self.multi.is_watching = false;
        let keys = std::mem::take(&mut self.multi.watching);
        let [ResponseBody::Values(values)] = answers else { return answers.to_vec() };
        let failed = values.iter().find_map(|value| value.as_ref().err());
        if let Some(error) = failed {
            return vec![ResponseBody::Error(error.clone())];
        }
        let versions = values.iter().flatten().map(|entry| entry.as_ref().map(|entry| entry.version));
        for (key, version) in keys.into_iter().zip(versions) {
            // What it was when it was watched first counts.
            if !self.multi.watched.iter().any(|(watched, _)| *watched == key) {
                self.multi.watched.push((key, version));
            }
        }
        self.tell_transaction();
        Vec::new()
    }

    fn begin_exec(&mut self, spec: &'static CommandSpec, request: &Request) {
        let Multi { queue, watched, .. } = std::mem::take(&mut self.multi);
        self.tell_transaction();
        let queue = match queue {
            None => {
                // It ends no watch.
                self.multi.watched = watched;
                return self.reply_with(|reply| reply.error(b"ERR EXEC without MULTI"));
            }
            Some(queue) if queue.is_broken => {
                let aborted: &[u8] = b"EXECABORT Transaction discarded because of previous errors.";
                return self.reply_with(|reply| reply.error(aborted));
            }
            Some(queue) => queue,
        };
        let mut builder = ExecBuilder::new(self.door.node.context.router.shards());
        let mut slot = None;
        // With keys, it is not known yet whether the transaction goes through.
        let is_sure = watched.is_empty() && queue.commands.iter().all(|(spec, _)| spec.key_specs.is_empty());
        for (spec, request) in &queue.commands {
            slot = slot.or_else(|| self.slot_of(spec, request).ok().flatten());
            self.tally.note(spec.full_name, None, false);
            // Rights may have been taken away since it was queued.
            let refused = self.forbidden(spec).or_else(|| {
                let is_early = !is_sure && changes_at_once(spec);
                is_early.then(|| b"ERR this command can't be in a transaction with keys".to_vec())
            });
            let refused = refused.or_else(|| self.not_noted(spec));
            match refused {
                Some(error) => {
                    let mut output = Output::new();
                    ReplyWriter::new(&mut output, self.manners.version).error(&error);
                    builder.done(output);
                }
                None => self.add_to_exec(&mut builder, spec, request),
            }
        }
        match builder.finish(watched, self.door.node.splits_exec && !self.door.is_cluster()) {
            Ok((planned, exec)) => self.begin(planned, slot, String::new(), Some(exec), spec, request),
            Err(error) => self.reply_with(|reply| reply.error(error)),
        }
    }

    fn add_to_exec(&mut self, builder: &mut ExecBuilder, spec: &'static CommandSpec, request: &Request) {
        let mut output = Output::new();
        let version = self.manners.version;
        let command = match Command::parse(spec, request) {
            Ok(command) => command,
            Err(error) => {
                ReplyWriter::new(&mut output, version).command_error(&error);
                return builder.done(output);
            }
        };
        if let Command::Hello(hello) = &command {
            if hello.credentials.is_some() {
                ReplyWriter::new(&mut output, version).error(b"ERR a login can't be in a transaction");
                return builder.done(output);
            }
            introspect::answer_hello(self.door, self.manners, hello, &mut output);
            return builder.done(output);
        }
        let mut reply = ReplyWriter::new(&mut output, version);
        if self.answer_in_exec(&command, &mut reply) {
            return builder.done(output);
        }
        let shards = self.door.node.context.router.shards();
        let ground = || Ground::All(shards);
        let place = Circumstances { now_ms: self.door.wall_ms(), ground: &ground, shards, drawn: 0 };
        let refused = match plan(&command, spec, request, &place) {
            Ok(planned) => match builder.planned(planned) {
                Ok(()) => return,
                Err(text) => text.to_vec(),
            },
            Err(Refusal::Command(error)) => error.text().into_owned(),
            Err(Refusal::Text(text)) => text.into_bytes(),
        };
        reply.error(&refused);
        builder.done(output);
    }

    /// Answers a command that needs no key at its place in a transaction, and tells whether it was one.
    fn answer_in_exec(&mut self, command: &Command<'_>, reply: &mut ReplyWriter<'_>) -> bool {
        let keys = || if self.door.is_cluster() { self.door.node.slots.led_keys() } else { info::held_keys(self.door) };
        match command {
            Command::DbSize if !self.door.is_cluster() && !info::holds_all(self.door) => {
                reply.error(b"ERR DBSIZE can't be in a transaction at a node that has not all shards");
            }
            Command::DbSize => reply.integer(keys() as i64),
            Command::Info(sections) => {
                let (mut text, wants_keys) = info::text(self.door, sections.rest());
                if wants_keys {
                    info::add_keyspace(&mut text, keys());
                }
                reply.verbatim(text.as_bytes());
            }
            Command::Unwatch => reply.ok(),
            // A transaction waits for nothing.
            Command::Wait { .. } => reply.integer(self.door.acked_replicas()),
            command => return introspect::answer(self.door, self.manners, command, reply),
        }
        true
    }
}
