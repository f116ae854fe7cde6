//! What must hold at every step, whatever clients see.

use super::node::Node;
use kvorum_core::consensus::Role;
use kvorum_core::log::operations::Operations;
use kvorum_core::log::{Membership, ShardLog};
use kvorum_core::sealing::{KeyEpoch, SealNonce};
use kvorum_core::shard::{ReplicaStatus, Shard};
use kvorum_protocol::peer::{RaftEntry, RaftEntryKind, RaftMessage, RaftMessageKind};
use kvorum_protocol::{LogIndex, ReplicaId, ShardId, Term, Version};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// A property and what was seen of it.
type Broken = Option<(&'static str, String)>;

/// What was seen so far.
#[derive(Clone, Default)]
pub(super) struct Invariants {
    /// Who led a shard in a term.
    leaders: BTreeMap<(ShardId, Term), usize>,
    /// What was applied at an index, by whichever replica came first: a hash of term and payload.
    applied: BTreeMap<ShardId, Vec<u64>>,
    /// The term of the last of these.
    applied_terms: BTreeMap<ShardId, Term>,
    /// How each replica was at its last turn.
    last: BTreeMap<(usize, ShardId), ReplicaStatus>,
    /// What each replica has promised to others.
    promises: BTreeMap<(ShardId, ReplicaId), Promise>,
    /// The last entry that each replica has promised and lost to its medium, which nothing could have told.
    forgotten: BTreeMap<(ShardId, ReplicaId), LogIndex>,
    /// Who replicated the shard, as each replica had it after its last turn.
    memberships: BTreeMap<(usize, ShardId), Membership>,
    /// Who replicated the shard as of the last entry that anyone has applied.
    newest_memberships: BTreeMap<ShardId, (LogIndex, Membership)>,
    /// A digest of the state at an entry, as a leader had it.
    digests: BTreeMap<(ShardId, LogIndex), u64>,
    /// Replicas that ended, or leaders that lost leadership, in a joint state.
    pub(super) joint_ends: u64,
    /// What was sealed under each nonce, by the version of the record.
    nonces: BTreeMap<(ShardId, KeyEpoch, SealNonce), u64>,
    /// Log time and version of the newest entry that anyone applied.
    newest: BTreeMap<ShardId, (u64, Version)>,
    /// How many segments each replica's log has.
    segments: BTreeMap<(usize, ShardId), usize>,
    /// Hand-overs that were asked for and not seen to happen.
    transfers: BTreeMap<ShardId, usize>,
    /// To which node a leader was asked to hand over last. One that is paused then does so when it goes on, whoever leads by now.
    asked: BTreeMap<(usize, ShardId), usize>,
    /// Hand-overs under way, by their leaders.
    successors: BTreeMap<(usize, ShardId), ReplicaId>,
}

/// What a replica has told others that its log holds.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    /// The highest term that it spoke in.
    term: Term,
    /// The term of its newest vote, and for whom.
    vote: Option<(Term, ReplicaId)>,
    /// The last entry that it said to hold, and that entry's term.
    entry: Option<(LogIndex, Term)>,
    /// The term in which it said so.
    said_in: Term,
}

/// Fewest voters that any group should have: no plan has fewer nodes, and no group that moves gets thinner than both its ends are.
const VOTERS_MIN: usize = 3;

/// What one turn showed.
pub(super) struct Seen {
    pub(super) broken: Broken,
    pub(super) counted: Vec<&'static str>,
    /// Replicas that vote since then, by the word of the leader.
    pub(super) promoted: Vec<ReplicaId>,
    /// The leader has begun to hand over to this one.
    pub(super) begins_hand_over: Option<ReplicaId>,
    /// The leader says of this change of the map that its group is settled, and the group has another membership than it knows.
    pub(super) settled_elsewhere: Option<(u64, Membership)>,
    /// What was acknowledged is lost to a fault that no node can tell from a power loss: there is nothing more to see.
    pub(super) beyond_help: bool,
}

impl Invariants {
    /// Who replicates each shard as of the last entry that anyone has applied.
    pub(super) fn newest_memberships(&self) -> impl Iterator<Item = (ShardId, &Membership)> {
        self.newest_memberships.iter().map(|(shard, (_, membership))| (*shard, membership))
    }

    /// A replica had its turn.
    pub(super) fn handle_turn(
        &mut self,
        at: usize,
        shard_id: ShardId,
        shard: &Shard,
        snapshot: &ReplicaStatus,
        damaged: bool,
    ) -> Seen {
        let mut counted = Vec::new();
        let before = self.last.insert((at, shard_id), *snapshot);
        let leads = snapshot.role == Role::Leader;
        let led = before.is_some_and(|before| before.role == Role::Leader);
        let (mut incomplete, mut beyond_help) = (None, false);
        if led && !leads {
            self.asked.remove(&(at, shard_id));
        }
        if leads && !led {
            counted.push("elections");
            if let Err((detail, is_excused)) = self.is_complete(at, shard_id, shard) {
                beyond_help = is_excused;
                incomplete = Some(("leader-completeness", detail)).filter(|_| !is_excused);
            }
            if self.transfers.remove(&shard_id) == Some(at) {
                counted.push("hand-overs done");
            }
        }
        let membership = shard.membership();
        let newest = self.newest_memberships.entry(shard_id).or_default();
        if snapshot.applied > newest.0 {
            newest.0 = snapshot.applied;
            if newest.1 != *membership {
                newest.1.clone_from(membership);
            }
        }
        let says_settled = snapshot.settled.filter(|_| before.is_none_or(|before| before.settled != snapshot.settled));
        let settled_elsewhere = says_settled.filter(|_| newest.1 != *membership).map(|since| (since, newest.1.clone()));
        // Mostly nothing has changed, and nothing is copied.
        let known = self.memberships.get(&(at, shard_id)).is_some_and(|known| known == membership);
        let replaced = if known { None } else { self.memberships.insert((at, shard_id), membership.clone()) };
        if replaced.is_some() && leads {
            counted.push("membership changes");
        }
        let leads_on = leads && led && before.is_some_and(|before| before.term == snapshot.term);
        let apart = replaced.as_ref().filter(|before| leads_on && !majorities_meet(before, membership)).map(|before| {
            let detail = format!("node {at} shard {shard_id} went from {before:?} to {membership:?} in one step");
            ("membership-safety", detail)
        });
        let thinner = replaced.as_ref().filter(|before| leads_on && is_thinner(before, membership)).map(|before| {
            let detail = format!("node {at} shard {shard_id} went from {before:?} to {membership:?}");
            ("never-thin", detail)
        });
        let is_new = |voter: &&ReplicaId| replaced.as_ref().is_some_and(|before| !before.voters.contains(voter));
        let promoted = if leads_on { membership.voters.iter().filter(is_new).copied().collect() } else { Vec::new() };
        let begins_hand_over = self.begins_hand_over(at, shard_id, shard.successor().filter(|_| leads));
        let voters = [replaced.as_ref().unwrap_or(membership), membership];
        let segments = shard.log().segment_count();
        if self.segments.insert((at, shard_id), segments).is_some_and(|before| before < segments) {
            counted.push("segments beyond the first");
        }
        if led && !leads {
            counted.push("leaders that lost leadership");
            self.joint_ends += u64::from(!membership.voters_outgoing.is_empty());
        }
        if before.is_some_and(|before| before.keys > snapshot.keys && before.version == snapshot.version) {
            counted.push("keys expired");
        }
        let broken = self
            .one_leader_per_term(at, shard_id, snapshot)
            .or(incomplete)
            .or(apart)
            .or(thinner)
            .or_else(|| goes_forward(at, shard_id, before.as_ref(), snapshot))
            .or_else(|| self.committed_by_a_quorum(at, shard_id, shard.log(), before.as_ref(), snapshot, voters))
            .or_else(|| self.same_entries(at, shard_id, shard, before.as_ref(), snapshot))
            .or_else(|| self.same_state(at, shard_id, shard, before.as_ref(), snapshot, damaged));
        self.note_superseded(shard_id, shard.replica(), shard.log());
        Seen { broken, counted, promoted, begins_hand_over, settled_elsewhere, beyond_help }
    }

    /// To which node the plan wants this leader to hand the shard over.
    pub(super) fn asked_to_hand_over(&self, leader: usize, shard: ShardId) -> Option<usize> {
        self.asked.get(&(leader, shard)).copied()
    }

    /// Notes to whom a leader hands over. Returns that one if it has just begun.
    fn begins_hand_over(&mut self, at: usize, shard: ShardId, to: Option<ReplicaId>) -> Option<ReplicaId> {
        let before = match to {
            Some(to) => self.successors.insert((at, shard), to),
            None => self.successors.remove(&(at, shard)),
        };
        to.filter(|_| before != to)
    }

    /// What a replica had applied at its last turn.
    pub(super) fn applied(&self, at: usize, shard: ShardId) -> LogIndex {
        self.last.get(&(at, shard)).map_or(LogIndex(0), |last| last.applied)
    }

    /// A replica is erased because others have taken its place: it must be part of its group no more.
    pub(super) fn handle_erased(&self, at: usize, shard: ShardId, replica: ReplicaId) -> Broken {
        let (_, membership) = self.newest_memberships.get(&shard)?;
        let Membership { voters, learners, voters_outgoing, .. } = membership;
        let is_member = voters.iter().chain(learners).chain(voters_outgoing).any(|member| *member == replica);
        is_member.then(|| {
            let detail = format!("node {at} has erased replica {replica} of shard {shard}, which has {membership:?}");
            ("no-orphan", detail)
        })
    }

    /// A hand-over was asked for.
    pub(super) fn handle_transfer(&mut self, leader: usize, shard: ShardId, to: usize) {
        self.transfers.insert(shard, to);
        self.asked.insert((leader, shard), to);
    }

    /// A promise leaves a replica, whose log is `log`. Returns whether it goes further than those before it: a vote, or an entry behind
    /// those that the replica has said to hold.
    pub(super) fn handle_promise(&mut self, shard: ShardId, log: &ShardLog, message: &RaftMessage) -> bool {
        let promise = self.promises.entry((shard, message.from)).or_default();
        promise.term = promise.term.max(message.term);
        if message.reject {
            return false;
        }
        let (vote, entry) = (promise.vote, promise.entry);
        match message.kind {
            RaftMessageKind::RequestVoteResponse => promise.vote = Some((message.term, message.to)),
            RaftMessageKind::AppendResponse if message.index.0 > 0 => {
                if let Some(term) = log.term_of(message.index) {
                    let further = promise.entry.is_none_or(|(index, _)| index <= message.index);
                    if further || message.term > promise.said_in {
                        promise.entry = promise.entry.filter(|_| !further).or(Some((message.index, term)));
                        promise.said_in = message.term;
                    }
                }
            }
            _ => {}
        }
        promise.vote != vote || promise.entry.map(|(index, _)| index) > entry.map(|(index, _)| index)
    }

    /// A leader of a later term may have taken the promised entry back.
    fn note_superseded(&mut self, shard: ShardId, replica: ReplicaId, log: &ShardLog) {
        if let Some(promise) = self.promises.get_mut(&(shard, replica))
            && let Some((index, term)) = promise.entry
            && index >= log.before_first().0
            && log.term_of(index) != Some(term)
        {
            promise.entry = None;
        }
    }

    /// A replica has come back with less than it promised, because its medium has lost the rest where nothing tells that.
    pub(super) fn forget_promises(&mut self, shard: ShardId, replica: ReplicaId, log: &ShardLog) {
        let promise = self.promises.entry((shard, replica)).or_default();
        (promise.term, promise.vote) = (log.hard_state().term, None);
        // It has said so, and others count on it.
        if let Some((index, _)) = promise.entry {
            let lost = self.forgotten.entry((shard, replica)).or_default();
            *lost = index.max(*lost);
        }
    }

    /// Leader completeness: whoever is elected holds every entry that was applied in a term before. If it does not, says what is missing, and
    /// whether that was lost as [`Self::forget_promises`] has noted, by one who may have voted.
    fn is_complete(&self, at: usize, shard_id: ShardId, shard: &Shard) -> Result<(), (String, bool)> {
        // Who hears late that it was elected may find others in a later term.
        let is_late = self.applied_terms.get(&shard_id).is_some_and(|term| *term > shard.status().term);
        let known = self.applied.get(&shard_id).filter(|known| !known.is_empty() && !is_late);
        let Some(known) = known else { return Ok(()) };
        let last = LogIndex(known.len() as u64);
        let held = shard.log().entry(last).ok().map(|entry| hash_of(&entry));
        if last <= shard.log().before_first().0 || held == known.last().copied() {
            return Ok(());
        }
        let forgot = |voter: &ReplicaId| self.forgotten.get(&(shard_id, *voter)).is_some_and(|lost| *lost >= last);
        let is_excused = shard.membership().voters.iter().any(forgot);
        Err((format!("node {at} shard {shard_id} was elected without entry {last}, which was applied"), is_excused))
    }

    /// A replica was opened again: its log holds what it promised.
    pub(super) fn check_promises(&self, at: usize, shard: ShardId, replica: ReplicaId, log: &ShardLog) -> Broken {
        let promise = self.promises.get(&(shard, replica))?;
        let state = log.hard_state();
        let who = format!("node {at} shard {shard}");
        if state.term < promise.term {
            return Some((
                "promises",
                format!("{who} spoke in term {} and comes back in {}", promise.term, state.term),
            ));
        }
        if let Some((term, candidate)) = promise.vote
            && term == state.term
            && state.vote != Some(candidate)
        {
            return Some(("promises", format!("{who} voted for {candidate} in term {term}, and has {:?}", state.vote)));
        }
        let is_forgotten = |index: LogIndex| self.forgotten.get(&(shard, replica)).is_some_and(|lost| *lost >= index);
        let (index, term) = promise.entry.filter(|(index, _)| !is_forgotten(*index))?;
        // What is older than the log is part of the state that it begins with.
        let found = log.term_of(index).filter(|_| index >= log.before_first().0);
        (index >= log.before_first().0 && found != Some(term)).then(|| {
            (
                "promises",
                format!("{who} said that it holds entry {index} of term {term}; after a restart it has {found:?}"),
            )
        })
    }

    /// A leader commits entries of its own term only, and such that a majority holds them.
    fn committed_by_a_quorum(
        &self,
        at: usize,
        shard: ShardId,
        log: &ShardLog,
        before: Option<&ReplicaStatus>,
        now: &ReplicaStatus,
        memberships: [&Membership; 2],
    ) -> Broken {
        let before = before?;
        let leads_on = before.role == Role::Leader && now.role == Role::Leader && before.term == now.term;
        if !leads_on || now.committed == before.committed {
            return None;
        }
        let commit = now.committed;
        let who = format!("node {at} shard {shard}, leader of term {},", now.term);
        if log.term_of(commit) != Some(now.term) {
            return Some(("commit-rule", format!("{who} committed entry {commit} of term {:?}", log.term_of(commit))));
        }
        let holds = |voter: &&ReplicaId| {
            let promise = self.promises.get(&(shard, **voter));
            Some(**voter) == now.leader
                || promise.is_some_and(|promise| {
                    promise.entry.is_some_and(|(index, _)| index >= commit) || promise.said_in > now.term
                })
        };
        let hold = |voters: &[ReplicaId]| voters.is_empty() || voters.iter().filter(holds).count() > voters.len() / 2;
        // The membership may have changed within the turn, before or after the entry was committed.
        let held = memberships.iter().any(|of| hold(&of.voters) && hold(&of.voters_outgoing));
        (!held).then(|| {
            ("commit-rule", format!("{who} committed entry {commit}, which no quorum of {memberships:?} said to hold"))
        })
    }

    /// A replica was dropped: the next one starts afresh.
    pub(super) fn handle_replica_end(&mut self, at: usize, shard: ShardId) {
        self.last.remove(&(at, shard));
        self.joint_ends +=
            u64::from(self.memberships.remove(&(at, shard)).is_some_and(|of| !of.voters_outgoing.is_empty()));
        self.segments.remove(&(at, shard));
    }

    /// A process has ended.
    pub(super) fn handle_process_end(&mut self, at: usize) {
        self.last.retain(|(node, _), _| *node != at);
        let joint = |(key, of): (&(usize, ShardId), &Membership)| key.0 == at && !of.voters_outgoing.is_empty();
        self.joint_ends += self.memberships.iter().filter(|of| joint(*of)).count() as u64;
        self.memberships.retain(|(node, _), _| *node != at);
        self.segments.retain(|(node, _), _| *node != at);
    }

    /// Election safety: at most one leader in a term.
    fn one_leader_per_term(&mut self, at: usize, shard: ShardId, snapshot: &ReplicaStatus) -> Broken {
        if snapshot.role != Role::Leader {
            return None;
        }
        let first = *self.leaders.entry((shard, snapshot.term)).or_insert(at);
        (first != at).then(|| {
            ("election-safety", format!("shard {shard}: nodes {first} and {at} both led in term {}", snapshot.term))
        })
    }

    /// State machine safety and log matching: every replica applies the same entry at an index.
    fn same_entries(
        &mut self,
        at: usize,
        shard_id: ShardId,
        shard: &Shard,
        before: Option<&ReplicaStatus>,
        snapshot: &ReplicaStatus,
    ) -> Broken {
        // What a replica is opened with was applied before its log begins.
        let from = before.map_or(shard.log().before_first().0, |before| before.applied).0;
        let known = self.applied.entry(shard_id).or_default();
        for index in from + 1..=snapshot.applied.0 {
            let entry = match shard.log().entry(LogIndex(index)) {
                Ok(entry) => entry,
                Err(error) => return Some(("log-matching", format!("node {at} shard {shard_id}: {error}"))),
            };
            let hash = hash_of(&entry);
            let slot = (index - 1) as usize;
            if slot < known.len() && known[slot] != hash {
                let detail = format!(
                    "node {at} shard {shard_id} applied another entry at index {index} (term {}) than was applied before",
                    entry.term
                );
                return Some(("state-machine-safety", detail));
            }
            if slot == known.len() {
                known.push(hash);
                self.applied_terms.insert(shard_id, entry.term);
                let newest = self.newest.entry(shard_id).or_default();
                if entry.kind != RaftEntryKind::Operations {
                    continue;
                }
                let Ok(operations) = Operations::parse(entry.payload) else { continue };
                let (time, first) = (operations.log_time_ms(), operations.first_version());
                if time < newest.0 || first <= newest.1 {
                    let detail = format!(
                        "shard {shard_id}: entry {index} has log time {time} and versions from {first}, after {newest:?}"
                    );
                    return Some(("order", detail));
                }
                *newest = (time, operations.last_version());
                if let Some(nonce) = sealed_twice(&mut self.nonces, shard_id, &operations) {
                    let detail = format!(
                        "shard {shard_id}: entry {index} is sealed under nonce {nonce:02x?}, as another one was"
                    );
                    return Some(("nonces", detail));
                }
            }
        }
        (snapshot.applied.0 > known.len() as u64).then(|| {
            let detail = format!(
                "node {at} shard {shard_id} stands at entry {}, and nobody has applied more than {}",
                snapshot.applied,
                known.len()
            );
            ("state-machine-safety", detail)
        })
    }

    /// A replica that was opened from a checkpoint, or from a snapshot, has the state that a leader had at that entry.
    fn same_state(
        &mut self,
        at: usize,
        shard_id: ShardId,
        shard: &Shard,
        before: Option<&ReplicaStatus>,
        now: &ReplicaStatus,
        damaged: bool,
    ) -> Broken {
        let moved = before.is_none_or(|before| before.applied != now.applied);
        if !moved || now.applied == LogIndex(0) {
            return None;
        }
        // A digest reads the whole state, so a leader's is taken now and then only.
        let leads = now.role == Role::Leader && now.applied.0.is_multiple_of(4);
        let known = self.digests.get(&(shard_id, now.applied)).copied();
        let looks = before.is_none() || now.applied.0.is_multiple_of(16);
        let compares = looks && known.is_some();
        if !leads && !compares {
            return None;
        }
        let digest = match shard.store().digest() {
            Ok(digest) => digest,
            Err(_) if damaged => return None,
            Err(error) => return Some(("durability", format!("node {at} shard {shard_id} can't be read: {error}"))),
        };
        let known = *self.digests.entry((shard_id, now.applied)).or_insert(digest);
        (known != digest).then(|| {
            let detail = format!(
                "node {at} shard {shard_id} stands at entry {} with another state than its leader had",
                now.applied
            );
            ("replica-equality", detail)
        })
    }

    /// Replicas that have applied the same entries have the same state.
    pub(super) fn compare(&self, nodes: &[Node]) -> Broken {
        let mut states: BTreeMap<(ShardId, LogIndex), (usize, u64)> = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            let Some(process) = &node.process else { continue };
            for (shard, replica) in &process.shards {
                let Some(host) = &replica.host else { continue };
                let applied = host.shard().store().applied();
                let digest = match host.shard().store().digest() {
                    Ok(digest) => digest,
                    Err(error) if node.medium.is_sound() => {
                        return Some(("durability", format!("node {at} shard {shard} can't be read: {error}")));
                    }
                    Err(_) => continue,
                };
                match host.shard().store().contradiction() {
                    Ok(Some(what)) => return Some(("consistency", format!("node {at} shard {shard}: {what}"))),
                    Err(error) if node.medium.is_sound() => {
                        return Some(("durability", format!("node {at} shard {shard} can't be read: {error}")));
                    }
                    Ok(None) | Err(_) => {}
                }
                let (first, known) = *states.entry((*shard, applied)).or_insert((at, digest));
                if known != digest {
                    let detail = format!(
                        "shard {shard}: nodes {first} and {at} have applied entry {applied} and differ in state"
                    );
                    return Some(("replica-equality", detail));
                }
            }
        }
        None
    }
}

/// Terms, commit and applied positions never go back while a replica runs.
fn goes_forward(at: usize, shard: ShardId, before: Option<&ReplicaStatus>, now: &ReplicaStatus) -> Broken {
    let before = before?;
    let back = before.term > now.term
        || before.committed > now.committed
        || before.applied > now.applied
        || now.applied > now.committed;
    back.then(|| ("monotonicity", format!("node {at} shard {shard} went from {before:?} to {now:?}")))
}

/// Tells an entry from others of its index.
fn hash_of(entry: &RaftEntry) -> u64 {
    xxh3_64(&entry.payload) ^ entry.term.0.rotate_left(32)
}

/// Whether a group has fewer voters than before, and fewer than any should have.
fn is_thinner(before: &Membership, now: &Membership) -> bool {
    now.voters.len() < before.voters.len().min(VOTERS_MIN)
}

/// Whether every majority of one membership has a replica in common with every majority of the other. While a membership is
/// joint, both of its halves must agree.
fn majorities_meet(one: &Membership, other: &Membership) -> bool {
    let halves = |of: &Membership| [of.voters.clone(), of.voters_outgoing.clone()];
    let all: BTreeSet<ReplicaId> = [halves(one), halves(other)].into_iter().flatten().flatten().collect();
    let all: Vec<ReplicaId> = all.into_iter().collect();
    let agree = |of: &Membership, is_in: &dyn Fn(&ReplicaId) -> bool| {
        let most =
            |half: &Vec<ReplicaId>| half.is_empty() || half.iter().filter(|id| is_in(id)).count() > half.len() / 2;
        halves(of).iter().all(most)
    };
    // Of each way to divide the replicas in two, not both parts may decide.
    (0..1_u32 << all.len()).all(|part| {
        let is_in = |id: &ReplicaId| all.iter().position(|known| known == id).is_some_and(|at| part >> at & 1 == 1);
        !(agree(one, &is_in) && agree(other, &|id| !is_in(id)))
    })
}

/// A nonce of this entry under which another text was sealed before, with the same key.
fn sealed_twice(
    nonces: &mut BTreeMap<(ShardId, KeyEpoch, SealNonce), u64>,
    shard: ShardId,
    operations: &Operations,
) -> Option<SealNonce> {
    let records = operations.records().filter_map(Result::ok).filter_map(|(_, record)| {
        let (epoch, nonce) = record.sealed_with()?;
        Some((epoch, nonce, record.version.0))
    });
    let sessions = operations.sessions_sealed_with().map(|(epoch, nonce)| (epoch, nonce, operations.first_version().0));
    records.chain(sessions).find_map(|(epoch, nonce, version)| {
        let before = nonces.insert((shard, epoch, nonce), version);
        before.filter(|before| *before != version).map(|_| nonce)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(voters: &[u64], outgoing: &[u64]) -> Membership {
        let ids = |ids: &[u64]| ids.iter().map(|id| ReplicaId(*id)).collect();
        Membership { voters: ids(voters), voters_outgoing: ids(outgoing), ..Membership::default() }
    }

    #[test]
    fn majorities_meet_where_one_voter_more_or_less_is_all_and_through_joint_states() {
        for (one, other, meet) in [
            (membership(&[1, 2, 3], &[]), membership(&[1, 2, 3], &[]), true),
            (membership(&[1, 2, 3], &[]), membership(&[1, 2, 3, 4], &[]), true),
            (membership(&[1, 2, 3], &[]), membership(&[1, 2], &[]), true),
            // Replicas 1 and 3 may decide one thing, 2 and 4 another.
            (membership(&[1, 2, 3], &[]), membership(&[1, 2, 4], &[]), false),
            (membership(&[1, 2, 3], &[]), membership(&[1, 2, 4], &[1, 2, 3]), true),
            (membership(&[1, 2, 4], &[1, 2, 3]), membership(&[1, 2, 4], &[]), true),
            (membership(&[1, 2, 3], &[]), membership(&[1, 2, 3, 4, 5], &[]), false),
        ] {
            assert_eq!(majorities_meet(&one, &other), meet, "{one:?} and {other:?}");
            assert_eq!(majorities_meet(&other, &one), meet, "{other:?} and {one:?}");
        }
    }
}
