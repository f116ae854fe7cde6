//! Requests of many parts: MULTI-GET and BATCH.

use super::pending::{self, Keys, ManyKind, Writes};
use super::read::{self, LargeRead, ReadAt, ReadNow, What};
use super::reply::Answer;
use super::{Awaiting, Job, Part, Session, late};
use crate::cost;
use crate::limits::LARGE_WORK_BYTES;
use crate::shard::Operation;
use crate::store::PREFETCH_KEYS;
use bytes::Bytes;
use kvorum_protocol::limits::MULTI_GET_REPLY_BYTES_MAX;
use kvorum_protocol::{Ack, Mutation, ReadMode, ResponseBody, ShardId, WriteId};

impl<Origin: Copy> Session<Origin> {
    pub(super) fn multi_get(&mut self, job: &Job<Origin>, keys: Vec<Bytes>, mode: ReadMode) -> Option<ResponseBody> {
        let mut many = pending::Many::new(ManyKind::Values, keys.len());
        let (mut waiting, mut later) = (Vec::new(), Vec::new());
        // Past as much as may be read here and now, values are only found, and read elsewhere.
        let mut bytes_left = LARGE_WORK_BYTES;
        // Looking keys up hashes and compares them. As many bytes of keys as a request may hold are looked up elsewhere, too.
        let far = keys.iter().map(Bytes::len).sum::<usize>() > LARGE_WORK_BYTES;
        let mut keys = keys.into_iter();
        for part in 0.. {
            if part % PREFETCH_KEYS as u32 == 0 && keys.len() > 1 && !far {
                self.prefetch(keys.as_slice().iter().map(|key| &**key));
            }
            let Some(key) = keys.next() else { break };
            let order = self.ahead.pop_front().flatten();
            if many.refuses(part) {
                many.put(part, pending::no_room());
                continue;
            }
            let shard = self.shard_of(&key);
            let in_order = mode != ReadMode::Stale && self.follows_a_write(shard, &key);
            let what = if far && !in_order { What::GetElsewhere(key) } else { What::Get { key, order } };
            let router = &self.context.router;
            self.gets += 1;
            let at = ReadAt { began: job.began, nth: self.gets };
            let at_once = || read::at_once(router, shard, &what, mode, at, bytes_left);
            // What is read elsewhere is read after this looks at the lease: see `RequestBody::Scan`.
            let asks_first = far && mode == ReadMode::Linearizable;
            let now = if in_order || asks_first { None } else { at_once() };
            let is_due = mode != ReadMode::Stale && now.as_ref().is_some_and(|(now, _)| read::is_due(router, now));
            let (now, in_order) = if is_due { (None, true) } else { (now, in_order) };
            match now {
                Some((ReadNow::Done(body), ended)) => {
                    self.read_until = ended;
                    if let ResponseBody::Value(Some(entry)) = &body {
                        bytes_left = bytes_left.saturating_sub(entry.value.len());
                    }
                    many.put(part, body);
                }
                Some((ReadNow::Large(read), _)) => later.push((part, read)),
                None => waiting.push((part, shard, Part::Read { what, mode, in_order })),
            }
        }
        many.expect(later.iter().map(|(part, read)| (*part, read.value_bytes())));
        later.retain(|(part, _)| {
            let refused = many.refuses(*part);
            if refused {
                many.put(*part, pending::no_room());
            }
            !refused
        });
        if later.is_empty() {
            return self.begin_many(job, many, waiting, Writes::NONE);
        }
        let slot = self.remember(job, Awaiting::Many(many), Writes::NONE);
        for (part, shard, what) in waiting {
            self.send(job, slot, part, shard, what);
        }
        self.read_all_large(later, slot);
        None
    }

    /// Reads large records elsewhere, one after the other: as many as a reply has room for, while somebody waits for them.
    pub(super) fn read_all_large(&self, reads: Vec<(u32, LargeRead)>, slot: usize) {
        let reads: Vec<_> = reads.into_iter().map(|(part, read)| (self.sink.reply_to(slot, part), read)).collect();
        let (clock, deadline) = (self.context.router.shared_clock(), self.pending[slot].job.deadline);
        self.large.push(Box::new(move || {
            let mut bytes = 0;
            for (reply_to, read) in reads {
                let body = match () {
                    () if !reply_to.is_heard() || clock.monotonic() >= deadline => late(),
                    () if bytes > MULTI_GET_REPLY_BYTES_MAX => pending::no_room(),
                    () => read.read(&*clock),
                };
                bytes += pending::value_bytes(&body);
                reply_to.answer(Answer::Body(Box::new(body)));
            }
        }));
    }

    pub(super) fn batch(
        &mut self,
        job: &Job<Origin>,
        id: WriteId,
        ack: Ack,
        mutations: Vec<Mutation>,
    ) -> Option<ResponseBody> {
        let keys: Vec<_> = mutations.iter().map(|mutation| self.written(&mutation.key)).collect();
        let many = pending::Many::new(ManyKind::Writes, mutations.len());
        let waiting = (0..)
            .zip(mutations.into_iter().zip(&keys))
            .map(|(part, (mutation, key))| {
                let once = id.once.map(|once| {
                    // XXH3 is twice as fast as the checksum; the key was hashed before.
                    cost::hashed((Operation::mutation_bytes(&mutation) - mutation.key.len()) / 2);
                    once.nth(part, key.hash, &mutation)
                });
                let id = WriteId { sequence: id.sequence + u64::from(part), once, ..id };
                (part, key.shard, Part::Write { id, ack, mutation })
            })
            .collect();
        self.begin_many(job, many, waiting, Writes::new(id, ack, Keys::Many(keys)))
    }

    fn begin_many(
        &mut self,
        job: &Job<Origin>,
        many: pending::Many,
        waiting: Vec<(u32, ShardId, Part)>,
        writes: Writes,
    ) -> Option<ResponseBody> {
        if waiting.is_empty() {
            return Some(many.finish());
        }
        let slot = self.remember(job, Awaiting::Many(many), writes);
        for (part, shard, what) in waiting {
            self.send(job, slot, part, shard, what);
        }
        None
    }
}
