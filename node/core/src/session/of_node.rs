//! Requests that this node answers of itself, without a shard: EXPLAIN, and what an operator tells it.

use super::pending::{Awaiting, Writes};
use super::{Job, Session, error, read};
use crate::auth::authorise::may_key;
use crate::ring::verbs::Verb;
use crate::shard::inbox::ShardCommand;
use bytes::Bytes;
use kvorum_protocol::hash::ring_position;
use kvorum_protocol::limits::LOG_LEVEL_MS_MAX;
use kvorum_protocol::{AdminCommand, AuthVerb, ErrorCode, Explanation, LogLevelAsk, ResponseBody, SlowLogAsk};
use std::sync::Arc;
use std::time::Duration;

impl<Origin: Copy> Session<Origin> {
    pub(super) fn explain(&self, key: &[u8]) -> ResponseBody {
        let router = &self.context.router;
        let shard = self.shard_of(key);
        let ring = router.ring();
        let stored = match router.local(shard).map(|handle| handle.reader.explain(key)) {
            Some(Ok(stored)) => stored,
            Some(Err(failure)) => return read::damaged(shard, failure),
            None => None,
        };
        let now = router.clock().monotonic();
        let (reads_per_second, writes_per_second) = router.counts().of(shard).heat.of(key, now);
        ResponseBody::Explanation(Explanation {
            shard,
            ring_position: ring_position(key),
            leader: router.leader(shard),
            replicas: ring.holders(shard).collect(),
            stored,
            reads_per_second,
            writes_per_second,
        })
    }

    /// Has the cluster asked for something, by whichever node leads `meta`.
    pub(super) fn ask(&mut self, job: &Job<Origin>, verb: Verb) -> Option<ResponseBody> {
        if matches!(verb, Verb::JoinByToken { .. }) {
            return Some(error(
                ErrorCode::NotPermitted,
                "a node that has a token joins at the peers' port: `kvorum join`",
            ));
        }
        // Whether it was done is still to reach the client in time.
        let wait = Duration::from_millis(u64::from(job.deadline_ms) * 3 / 4);
        let slot = self.remember(job, Awaiting::One(None), Writes::NONE);
        Arc::clone(&self.context.admin).ask(verb, wait, self.sink.reply_to(slot, 0));
        None
    }

    /// Has the cluster's plan told, by whichever node leads `meta`.
    pub(super) fn plan(&mut self, job: &Job<Origin>, verb: Option<Verb>) -> Option<ResponseBody> {
        let wait = Duration::from_millis(u64::from(job.deadline_ms) * 3 / 4);
        let slot = self.remember(job, Awaiting::One(None), Writes::NONE);
        Arc::clone(&self.context.admin).plan(verb, wait, self.sink.reply_to(slot, 0));
        None
    }

    /// Has it changed who may do what, by whichever node leads `meta`.
    pub(super) fn change_auth(&mut self, job: &Job<Origin>, verb: AuthVerb) -> Option<ResponseBody> {
        let wait = Duration::from_millis(u64::from(job.deadline_ms) * 3 / 4);
        let slot = self.remember(job, Awaiting::One(None), Writes::NONE);
        Arc::clone(&self.context.admin).change_auth(verb, wait, self.sink.reply_to(slot, 0));
        None
    }

    pub(super) fn admin(&mut self, command: AdminCommand) -> ResponseBody {
        let user = self.access().user().to_owned();
        let router = &self.context.router;
        let is_hook =
            matches!(command, AdminCommand::PanicShard(_) | AdminCommand::CutPeers(_) | AdminCommand::SkewClock(_));
        if is_hook && !self.context.fault_hooks {
            return error(ErrorCode::NotPermitted, "fault hooks are off on this node");
        }
        match command {
            AdminCommand::TransferLeadership { .. }
            | AdminCommand::Ask(_)
            | AdminCommand::Plan(_)
            | AdminCommand::Auth(_) => {
                unreachable!("it is answered later, by whoever leads")
            }
            AdminCommand::SlowLog(SlowLogAsk::Newest(count)) => {
                ResponseBody::SlowLog(Box::new(router.slow().view(router.me(), count as usize)))
            }
            AdminCommand::SlowLog(SlowLogAsk::Length) => {
                ResponseBody::SlowLog(Box::new(router.slow().view(router.me(), 0)))
            }
            AdminCommand::SlowLog(SlowLogAsk::Forget) => {
                router.slow().forget();
                ResponseBody::Done
            }
            AdminCommand::Monitor(from) => {
                let now = router.clock().monotonic();
                ResponseBody::Monitor(Box::new(router.monitor().view(from, now)))
            }
            AdminCommand::LogLevel(LogLevelAsk::Set { for_ms, .. }) if !(1..=LOG_LEVEL_MS_MAX).contains(&for_ms) => {
                let detail = format!("a node logs more or less for 1 to {LOG_LEVEL_MS_MAX} milliseconds, not {for_ms}");
                error(ErrorCode::InvalidArgument, detail)
            }
            AdminCommand::LogLevel(ask) => match self.context.admin.log_level(ask) {
                Some(view) => ResponseBody::LogLevel(view),
                None => error(ErrorCode::Unavailable, "the log of this node's process does not listen"),
            },
            AdminCommand::Authority => ResponseBody::Authority(self.context.admin.authority()),
            AdminCommand::WhoAmI => ResponseBody::Authenticated { user, proof: Bytes::new() },
            AdminCommand::ShowAuth => ResponseBody::AuthView(Box::new(router.auth().view())),
            AdminCommand::CheckAccess { user, classes, key } => match router.auth().access_of(&user) {
                None => error(ErrorCode::PermissionDenied, format!("the user {user:?} may not log in")),
                Some(access) => match may_key(&access, classes, &key) {
                    Ok(()) => ResponseBody::Done,
                    Err(denied) => ResponseBody::Error(denied.error(&user)),
                },
            },
            AdminCommand::Shutdown => {
                self.context.admin.stop_node();
                ResponseBody::Done
            }
            AdminCommand::PanicShard(shard) => match router.local(shard) {
                Some(handle) if handle.inbox.command(ShardCommand::Panic) => ResponseBody::Done,
                _ => error(ErrorCode::Unavailable, "the shard is not open on this node"),
            },
            AdminCommand::SkewClock(ms) => {
                router.skew_clock(ms);
                ResponseBody::Done
            }
            AdminCommand::CutPeers(cut) => match router.peers() {
                Some(peers) => {
                    peers.cut(cut);
                    ResponseBody::Done
                }
                None => error(ErrorCode::Unavailable, "the peers are not started yet"),
            },
        }
    }
}
