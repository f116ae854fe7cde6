//! The table as of one moment, written down slice by slice while it changes: see [`super::super::capture`].
//!
//! Sessions are written in the order of their last use, and a use moves a session to the end of that order. So a walk goes from the
//! least recently used to the one that was used last when the capture began. A session that is used or dropped before the walk has
//! come to it is put aside first, as it was, and written in its turn. What it holds is shared, not copied.

use super::{Remembered, Replies, SessionTable, WriteHistory};
use crate::cost;
use crate::disk::Scratch;
use crate::limits::LARGE_WORK_BYTES;
use crate::seeded::{Bug, planted};
use crate::store::capture::{CaptureId, CaptureSlice};
use bytes::BufMut;
use hashlink::LinkedHashMap;
use hashlink::linked_hash_map::Entry;
use kvorum_protocol::codec::Writer;
use kvorum_protocol::{ClientId, LogIndex};
use std::collections::BTreeMap;

/// When a session was used last: the entry, and the number of the use there. No two are the same.
type Use = (LogIndex, u32);

#[derive(Debug)]
pub(super) struct SessionCapture {
    id: CaptureId,
    /// The last use before the capture began.
    last: Use,
    /// The first session in the table that was not written and not used since.
    next: Option<(Use, ClientId)>,
    aside: BTreeMap<Use, (ClientId, WriteHistory)>,
    /// How many answers of the first of them are written; `None` if nothing of it is.
    answers_written: Option<usize>,
    out: Scratch,
}

impl SessionTable {
    /// Most bytes that [`SessionTable::encode`] writes now.
    pub(in crate::store) fn encoded_bytes_max(&self) -> usize {
        super::TABLE_HEAD_BYTES + self.sessions.len() * super::SESSION_BYTES_MIN + self.bytes
    }

    /// Begins to write down what [`SessionTable::encode`] would write now, behind what `out` holds.
    pub(in crate::store) fn begin_capture(&mut self, id: CaptureId, mut out: Scratch) {
        let leaves_out = planted(Bug::SessionsMissingFromCheckpoint) && !self.is_empty();
        out.write(|out| if leaves_out { Self::default().encode(out) } else { self.encode_head(out) });
        let next = self.sessions.front().filter(|_| !leaves_out).map(|(client, session)| (session.last_use, *client));
        let (last, aside, answers_written) = (self.uses_of_entry, BTreeMap::new(), None);
        self.captures.push(SessionCapture { id, last, next, aside, answers_written, out });
    }

    /// Writes about so many bytes more. Once it is whole, returns where it was written, and how many of `bytes` are left.
    pub(in crate::store) fn go_on_capture(&mut self, id: CaptureId, bytes: usize) -> Option<(Scratch, usize)> {
        let at = self.captures.iter().position(|capture| capture.id == id).expect("the capture is under way");
        let left = self.captures[at].go_on(&mut self.sessions, bytes)?;
        Some((self.captures.remove(at).out, left))
    }

    /// Whether what a capture writes next is a single answer that takes milliseconds.
    pub(in crate::store) fn is_before_large(&self) -> bool {
        self.captures.iter().any(SessionCapture::is_before_large)
    }

    /// A client's session is about to change.
    pub(super) fn put_aside(&mut self, client: ClientId) {
        self.captures.iter_mut().for_each(|capture| capture.put_aside(&mut self.sessions, client));
    }
}

impl SessionCapture {
    fn put_aside(&mut self, sessions: &mut LinkedHashMap<ClientId, WriteHistory>, client: ClientId) {
        let Some((from, _)) = self.next else { return };
        let Some(session) = sessions.get(&client) else { return };
        let at = session.last_use;
        if at < from || at > self.last {
            return;
        }
        let loses_answers = planted(Bug::AnswersNotPutAside);
        let kept =
            if loses_answers { WriteHistory { replies: Replies::default(), ..*session } } else { session.clone() };
        self.aside.insert(at, (client, kept));
        if at == from {
            self.step(sessions, client);
        }
    }

    /// The walk is done with this session, and the next one is the one behind it.
    fn step(&mut self, sessions: &mut LinkedHashMap<ClientId, WriteHistory>, client: ClientId) {
        self.next = match sessions.entry(client) {
            Entry::Occupied(entry) => {
                entry.cursor_mut().peek_next().map(|(client, session)| (session.last_use, *client))
            }
            Entry::Vacant(_) => unreachable!("a session that the walk has come to is there"),
        };
        self.next = self.next.filter(|(at, _)| *at <= self.last);
    }

    /// Returns how many of `bytes` are left once all is written.
    fn go_on(&mut self, sessions: &mut LinkedHashMap<ClientId, WriteHistory>, bytes: usize) -> Option<usize> {
        let (mut left, began_at) = (bytes, self.out.written());
        loop {
            let aside = self.aside.first_key_value().map(|(at, _)| *at);
            match self.next {
                None if aside.is_none() => return Some(left),
                // However little it is, something is done.
                _ if left == 0 && self.out.written() > began_at => return None,
                Some((at, client)) if aside.is_none_or(|aside| at < aside) => {
                    let session = sessions.get(&client).expect("a session that the walk has come to is there");
                    if session.bytes > left {
                        // Too much for this slice, or for any.
                        self.put_aside(sessions, client);
                        continue;
                    }
                    let before = self.out.written();
                    self.out.write(|out| session.encode(client, out));
                    left = left.saturating_sub(self.count_written(before));
                    self.step(sessions, client);
                }
                _ => left = self.write_aside(left, began_at),
            }
        }
    }

    /// Writes some of the first session that was put aside, in a slice that began at `began_at`. Returns how many bytes are left.
    fn write_aside(&mut self, mut left: usize, began_at: usize) -> usize {
        let Some((at, (client, session))) = self.aside.pop_first() else { return left };
        let written = self.answers_written.take().unwrap_or_else(|| {
            let before = self.out.written();
            self.out.write(|out| session.encode_head(client, out));
            left = left.saturating_sub(self.count_written(before));
            0
        });
        for (number, (sequence, reply)) in session.replies.iter().enumerate().skip(written) {
            if (left == 0 || is_large(reply)) && self.out.written() > began_at {
                self.answers_written = Some(number);
                break;
            }
            let before = self.out.written();
            self.out.write(|out| {
                out.put_u64_le(*sequence);
                reply.encode(out);
            });
            left = left.saturating_sub(self.count_written(before));
        }
        if self.answers_written.is_some() {
            self.aside.insert(at, (client, session));
            left = 0;
        }
        left
    }

    /// Whether what comes next is a single answer that takes milliseconds to write.
    fn is_before_large(&self) -> bool {
        let next = self.aside.first_key_value().zip(self.answers_written);
        next.and_then(|((_, (_, session)), written)| session.replies.iter().nth(written))
            .is_some_and(|(_, reply)| is_large(reply))
    }

    /// What was written since then counts as so many bytes.
    fn count_written(&self, before: usize) -> usize {
        let written = self.out.written() - before;
        cost::copied(written);
        written.max(CaptureSlice::SESSION_BYTES)
    }
}

fn is_large(reply: &Remembered) -> bool {
    reply.bytes() > LARGE_WORK_BYTES
}

impl WriteHistory {
    /// All but the answers.
    pub(super) fn encode_head(&self, client: ClientId, out: &mut impl Writer) {
        out.uuid(client.0);
        out.put_u64_le(self.last_use.0.0);
        out.put_u32_le(self.last_use.1);
        out.put_u64_le(self.last_use_ms);
        out.put_u64_le(self.floor);
        out.count(self.replies.len());
    }
}
