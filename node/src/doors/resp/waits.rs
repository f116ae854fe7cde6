//! WAIT for more replicas than those that an answered write certainly has.
//!
//! A leader's log holds what was answered before WAIT began. The node asks all nodes how far they are, again and again, until so many
//! replicas of every shard know that all of it is committed: they have it, then.

use super::asking::AskedBy;
use super::connection::Connection;
use super::execute::ReplyForm;
use kvorum_core::clock::Nanos;
use kvorum_protocol::{LogIndex, ResponseBody, ShardId, ShardRole, ShardStatus};

/// Between the first two questions. Each pause is twice the one before, since all nodes answer each.
const PAUSE_MS_FIRST: u64 = 10;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 320;

/// A WAIT under way.
#[derive(Debug)]
pub(super) struct Wait {
    origin: AskedBy,
    /// So many replicas are enough.
    wanted: i64,
    /// Nothing if it waits for ever.
    until: Option<Nanos>,
    question: Question,
    /// After the next answer.
    pause_ms: u64,
    /// The client has its answer.
    is_over: bool,
    how_far: HowFar,
}

#[derive(Clone, Copy, Debug)]
enum Question {
    /// The nodes were asked.
    Asked,
    /// They will be.
    At(Nanos),
}

/// How far replicas are.
#[derive(Debug)]
struct HowFar {
    /// The ends of the leaders' logs, by shard, when they were heard of first.
    ends: Vec<Option<LogIndex>>,
    /// Replicas beside the leader's that have all of it.
    reached: i64,
}

impl Wait {
    /// Whether an answer is for it.
    pub(super) fn has_asked(&self, origin: AskedBy) -> bool {
        self.origin == origin
    }

    /// When something is to be done.
    fn due(&self) -> Option<Nanos> {
        let at = match self.question {
            _ if self.is_over => return None,
            Question::At(at) => Some(at),
            Question::Asked => None,
        };
        at.into_iter().chain(self.until).min()
    }
}

impl HowFar {
    /// Of which nothing is known but that so many replicas have everything.
    fn new(shards: u16, certain: i64) -> Self {
        Self { ends: vec![None; shards.into()], reached: certain }
    }

    fn take<'s>(&mut self, replicas: impl Iterator<Item = &'s ShardStatus> + Clone) {
        let mut least = None;
        for (shard, end) in (0..).zip(&mut self.ends) {
            let of_shard = || replicas.clone().filter(|replica| replica.shard == ShardId(shard));
            let leader =
                of_shard().filter(|replica| replica.role == ShardRole::Leader).max_by_key(|leader| leader.term);
            *end = end.or(leader.map(|leader| leader.last_index));
            let having = end.map_or(0, |end| of_shard().filter(|replica| replica.committed >= end).count());
            // One of them is the leader's.
            let beside = i64::try_from(having).unwrap_or(i64::MAX) - 1;
            least = Some(least.map_or(beside, |least: i64| least.min(beside)));
        }
        self.reached = self.reached.max(least.unwrap_or_default());
    }
}

impl Connection<'_> {
    /// A WAIT is about to ask the nodes for the first time.
    pub(super) fn begin_wait(&mut self, command: u64, wanted: i64, timeout_ms: u64) {
        self.wait = Some(Box::new(Wait {
            origin: AskedBy { command, part: 0 },
            wanted,
            until: (timeout_ms > 0).then(|| self.now.after_ms(timeout_ms)),
            question: Question::Asked,
            pause_ms: PAUSE_MS_FIRST,
            is_over: false,
            how_far: HowFar::new(self.door.node.context.router.shards(), self.door.acked_replicas()),
        }));
    }

    /// Takes an answer that WAIT has asked for.
    pub(super) fn take_how_far(&mut self, body: &ResponseBody) {
        let now = self.now;
        let Some(wait) = &mut self.wait else { return };
        wait.question = Question::At(now.after_ms(wait.pause_ms));
        wait.pause_ms = (2 * wait.pause_ms).min(PAUSE_MS_MAX);
        if let ResponseBody::Status(nodes) = body {
            wait.how_far.take(nodes.iter().flat_map(|node| &node.shards));
        }
        if wait.how_far.reached >= wait.wanted {
            self.end_wait();
        }
    }

    /// When something is to be done for WAIT.
    pub(super) fn wait_by(&self) -> Option<Nanos> {
        self.wait.as_ref()?.due()
    }

    /// Asks again, or answers, if it is time.
    pub(super) fn go_on_waiting(&mut self) {
        let now = self.now;
        let Some(wait) = self.wait.as_mut().filter(|wait| wait.due().is_some_and(|due| due <= now)) else { return };
        if wait.until.is_some_and(|until| until <= now) {
            return self.end_wait();
        }
        wait.question = Question::Asked;
        let origin = wait.origin;
        self.ask_again(origin);
    }

    /// Answers. What the nodes say later is taken and forgotten.
    fn end_wait(&mut self) {
        let Some(wait) = self.wait.as_mut().filter(|wait| !wait.is_over) else { return };
        wait.is_over = true;
        let (origin, reached) = (wait.origin, wait.how_far.reached);
        if let Some(asking) = self.asking(origin.command) {
            asking.form = ReplyForm::Reached(reached);
            self.finish(origin, ResponseBody::Done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvorum_protocol::{Term, Version};

    fn replica(shard: u16, role: ShardRole, term: u64, last_index: u64, committed: u64) -> ShardStatus {
        ShardStatus {
            shard: ShardId(shard),
            role,
            term: Term(term),
            leader: None,
            last_index: LogIndex(last_index),
            committed: LogIndex(committed),
            applied: LogIndex(committed),
            version: Version(1),
            keys: 0,
            log_bytes: 0,
            live_bytes: 0,
            compactions: 0,
            compacted_bytes: 0,
            incarnation: 1,
            receiving: None,
        }
    }

    #[test]
    fn a_replica_counts_once_it_knows_that_all_of_it_is_committed() {
        let mut how_far = HowFar::new(2, 0);
        let take = |how_far: &mut HowFar, replicas: &[ShardStatus]| {
            how_far.take(replicas.iter());
            how_far.reached
        };
        let other = [replica(1, ShardRole::Leader, 1, 9, 9), replica(1, ShardRole::Follower, 1, 9, 9)];
        let behind = replica(0, ShardRole::Follower, 3, 7, 6);
        let deposed = replica(0, ShardRole::Leader, 2, 8, 5);
        let mut all = vec![replica(0, ShardRole::Leader, 3, 7, 6), behind, deposed];
        assert_eq!(take(&mut how_far, &all), 0, "nobody is known to lead the other shard");
        all.extend(other);
        assert_eq!(take(&mut how_far, &all), 0, "nobody knows of the last entry");
        // What is written afterwards is not waited for.
        (all[0], all[1]) = (replica(0, ShardRole::Leader, 3, 12, 10), replica(0, ShardRole::Follower, 3, 10, 7));
        assert_eq!(take(&mut how_far, &all), 1);
        all[2] = replica(0, ShardRole::Follower, 3, 12, 12);
        assert_eq!(take(&mut how_far, &all), 1, "the other shard has two replicas");
        all.push(replica(1, ShardRole::Learner, 1, 9, 9));
        assert_eq!(take(&mut how_far, &all), 2);
        all.truncate(1);
        assert_eq!(take(&mut how_far, &all), 2, "what a replica had it has");
    }
}
