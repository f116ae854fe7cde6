//! What sessions leave to the node.

use crate::ring::verbs::Verb;
use crate::session::reply::ReplyTo;
use kvorum_protocol::{AuthVerb, Authority, LogLevelAsk, LogLevelView, NodeId, ShardId, StatusScope};
use std::sync::Arc;
use std::time::Duration;

/// What sessions ask of the node as a whole.
pub trait NodeAdmin: Send + Sync {
    /// Answers STATUS, now or later; waits no longer than this for other nodes.
    fn answer_status(self: Arc<Self>, scope: StatusScope, wait: Duration, reply_to: ReplyTo);
    /// Has leadership of a shard handed to `to`, by whichever node leads it; answers once that has begun.
    fn transfer(self: Arc<Self>, shard: ShardId, to: NodeId, reply_to: ReplyTo);
    /// Has the leader of `meta` do what is asked; answers once the ring map says so, or it is refused, and waits no longer than
    /// this.
    fn ask(self: Arc<Self>, verb: Verb, wait: Duration, reply_to: ReplyTo);
    /// Has the leader of `meta` say what the cluster does and what is to come, or what would come if `verb` were asked of it; waits
    /// no longer than this.
    fn plan(self: Arc<Self>, verb: Option<Verb>, wait: Duration, reply_to: ReplyTo);
    /// Has the leader of `meta` change who may do what; answers once that is recorded, or refused, and waits no longer than this.
    fn change_auth(self: Arc<Self>, verb: AuthVerb, wait: Duration, reply_to: ReplyTo);
    /// Which cluster this is, and which authority it has.
    fn authority(&self) -> Authority;
    /// Has the node's process log more or less, and says how much it logs; `None`: its log does not listen.
    fn log_level(&self, ask: LogLevelAsk) -> Option<LogLevelView>;
    /// Stops the node gracefully.
    fn stop_node(&self);
}
