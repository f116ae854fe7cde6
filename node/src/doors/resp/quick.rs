//! Reads of one key that are answered at once, out of this node's memory: the reply goes straight into the output, and nothing is
//! queued for it.

use super::answers;
use super::asking::{AskedBy, DEADLINE_MS};
use super::connection::Connection;
use super::execute::{Planned, ReplyForm};
use kvorum_core::store::PREFETCH_KEYS;
use kvorum_protocol::{ReadMode, RequestBody, ResponseBody};
use kvorum_resp::table::CommandSpec;
use kvorum_resp::{ReplyWriter, Request, peek_gets};

impl Connection<'_> {
    /// Carries out a read of one key.
    pub(super) fn read(
        &mut self,
        key: &[u8],
        form: ReplyForm,
        slot: Option<u16>,
        spec: &'static CommandSpec,
        request: &Request,
    ) {
        let body = RequestBody::Get { key: request.share(key), mode: ReadMode::Linearizable };
        if self.queue.is_empty() {
            // Nothing is under way, so whatever the session says is the answer to this.
            let origin = AskedBy { command: self.queue.next_number(), part: 0 };
            self.send(origin, self.now.after_ms(DEADLINE_MS), self.door.is_cluster(), body.clone());
            if let [answered] = &self.answered[..]
                && let ResponseBody::Value(entry) = &answered.body
            {
                if self.manners.wants_reply() {
                    let mut reply = ReplyWriter::new(&mut self.output, self.manners.version);
                    answers::write_entry(form, entry.as_ref(), &|| self.door.wall_ms(), &mut reply);
                }
                self.answered.clear();
                return self.note_quick(spec, request, false);
            }
            let command = self.enqueue_planned(Planned::read(key, body, form), slot, String::new(), None).0;
            debug_assert_eq!(command, origin.command, "the queue has not changed");
            self.note_asked(command);
            self.take_answers();
            return self.keep(command, spec, request);
        }
        self.begin(Planned::read(key, body, form), slot, String::new(), None, spec, request);
    }

    /// Before each request: if several GETs have come, has what they will read fetched, for all of them together.
    pub(super) fn look_ahead(&mut self) {
        if self.looked_ahead > 0 {
            self.looked_ahead -= 1;
            return;
        }
        if !self.parser.is_at_start() {
            return;
        }
        let keys = || peek_gets(&self.input).take(PREFETCH_KEYS);
        self.looked_ahead = keys().count().saturating_sub(1);
        if self.looked_ahead > 0 {
            self.session.prefetch(keys());
        }
    }
}
