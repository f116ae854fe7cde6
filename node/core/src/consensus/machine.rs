//! The one module that knows the `raft` library.
//!
//! Grammar of the value: getters; `handle_*` for what comes in; commands (`propose`, `read_index`, `transfer_to`); and
//! [`Consensus::poll`], which performs the appends in the shard log and hands out everything else as an [`Output`].
//!
//! Order of effects, which must be kept by the caller: a leader's messages leave at once, in parallel with its own
//! sync; every other message (votes and answers to entries above all) is a [`Promise`], which leaves only after everything
//! that was appended before it is durable, so that none is made that a power failure could take back. The
//! answer to a heartbeat promises nothing but the term: once that is durable it leaves at once, so that a follower whose
//! disk is slow does not look dead.

mod hand_over;
mod membership;
mod outgoing;

pub use membership::SnapshotBase;

use super::change::MembershipStep;
use super::convert;
use super::lease::{Lease, LeaseLength};
use super::storage::LogStorage;
use crate::clock::Nanos;
use crate::log::{HardState, LogError, Membership, ShardLog};
use crate::seeded::{Bug, planted};
use bytes::Bytes;
use kvorum_protocol::peer::{RaftEntryKind, RaftMessage, RaftMessageKind};
use kvorum_protocol::{LogIndex, ReplicaId, Term};
use raft::eraftpb::{EntryType, MessageType};
use raft::{RawNode, ReadOnlyOption, StateRole};
use std::collections::VecDeque;

/// How one replica's consensus runs. The same for every replica of the group but for `replica`.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// This replica.
    pub replica: ReplicaId,
    /// Milliseconds of one tick.
    pub tick_ms: u64,
    /// A follower that hears nothing for this many ticks, up to twice as many, campaigns.
    pub election_ticks: u32,
    /// A leader says that it is alive every so many ticks.
    pub heartbeat_ticks: u32,
    /// The order of the voters' election timeouts in a term is a function of this.
    pub seed: u64,
}

/// Most bytes of entries that one message to a follower carries; a single larger entry still travels.
const APPEND_BYTES_MAX: u64 = 1024 * 1024;
/// Most unanswered append messages to one follower.
const APPENDS_IN_FLIGHT_MAX: usize = 128;
/// Most bytes of entries that one poll hands out to be applied; keeps a restart from loading the whole log at once.
const COMMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most bytes of entries that may be proposed and not yet committed.
const UNCOMMITTED_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Ticks made up for at once after the process was held up. More would turn one long pause into an election; fewer
/// ticks than time passed only ever makes a follower more patient, which is the safe side.
const CATCH_UP_TICKS_MAX: u64 = 2;
/// The commit position is written down with at least every so many appends, so that a restart applies most of its log
/// before it has heard from a leader.
const APPENDS_PER_COMMIT_RECORD: u32 = 16;

/// What a replica is in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Follows, or waits for a leader.
    Follower,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log without a vote.
    Learner,
}

/// Why consensus can't go on, or refused something.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The library refused to start or to go on; the shard must be rebuilt from its log.
    #[error("consensus library: {0}")]
    Library(String),
    /// A proposal can't be taken now: not the leader, a hand-over is under way, or too much is uncommitted.
    #[error("the proposal was refused")]
    Refused,
    /// A committed change of the membership can't be applied.
    #[error("a committed membership change can't be applied: {0}")]
    Membership(&'static str),
    /// The leader counts on entries that this replica has acknowledged, and its log does not have them: the disk has lost what
    /// it had promised to keep. The log must not be trusted, and its votes may be forgotten as well.
    #[error("this replica has acknowledged entry {acknowledged}, and its log ends at entry {last}")]
    Forgotten {
        /// The last entry that is committed and that it has acknowledged.
        acknowledged: LogIndex,
        /// The last entry of its log.
        last: LogIndex,
    },
    /// A message from a peer breaks a rule of the protocol and was not looked at further.
    #[error("a peer's message breaks the protocol: {0}")]
    InvalidMessage(&'static str),
}

/// One committed entry, to be applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Its position.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// What its payload is.
    pub kind: RaftEntryKind,
    /// The payload; empty for a new leader's first entry.
    pub payload: Bytes,
}

/// A quorum has confirmed that this replica led when the read with this tag was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadPosition {
    /// The tag given to [`Consensus::read_index`].
    pub tag: u64,
    /// The read may be answered once this entry has been applied.
    pub index: LogIndex,
}

/// What a poll hands out.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent now.
    pub messages: Vec<RaftMessage>,
    /// The log was appended to: sync it, then report this token to [`Consensus::handle_persisted`].
    pub persist: Option<u64>,
    /// To be applied in this order, then reported to [`Consensus::handle_applied`].
    pub committed: Vec<Committed>,
    /// Reads that may go on.
    pub reads: Vec<ReadPosition>,
    /// Followers that need a snapshot now. Each gets nothing else until [`Consensus::report_snapshot`] was called for it.
    pub snapshots: Vec<ReplicaId>,
    /// To be sent as soon as what they rest on is durable, in this order.
    pub promises: Vec<Promise>,
}

/// A message that rests on what this replica has appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise {
    /// It may leave once everything up to the poll that returned this token is durable; whether
    /// [`Consensus::handle_persisted`] was told so by then doesn't matter.
    pub token: u64,
    /// The message.
    pub message: RaftMessage,
}

/// A part of the library's state that waits for its sync to be reported.
#[derive(Debug)]
struct Unpersisted {
    number: u64,
    token: Option<u64>,
}

/// One replica's consensus, on top of its shard log.
pub struct Consensus {
    config: ConsensusConfig,
    raw: RawNode<LogStorage>,
    /// Votes are neither given nor asked for before this.
    silent_until: Nanos,
    last_tick: Nanos,
    lease: Option<(Term, Lease)>,
    lease_length: LeaseLength,
    /// When a hand-over was last begun.
    handed_over_at: Nanos,
    /// The newest stamp heard from the leader, and its term.
    heard: (Term, u64),
    /// Who votes: in a joint membership, of both halves.
    voters: [Vec<ReplicaId>; 2],
    unpersisted: VecDeque<Unpersisted>,
    recovery_unreported: bool,
    /// The election timeout in ticks, and the term that it is for.
    timeout_ticks: usize,
    timeout_of: Option<u64>,
    token: u64,
    persisted: u64,
    /// The token under which term and vote last changed.
    vote_token: u64,
    appends_since_commit_record: u32,
}

impl Consensus {
    /// Takes a recovered log over. `applied` is the last entry that the caller has already applied, and the log's
    /// membership is as of it. Without one, this replica knows nobody and waits for a snapshot.
    ///
    /// # Errors
    /// `Library` if the log's state contradicts itself.
    pub fn new(config: ConsensusConfig, log: ShardLog, applied: LogIndex, now: Nanos) -> Result<Self, ConsensusError> {
        let library_config = raft::Config {
            id: config.replica.0,
            election_tick: config.election_ticks as usize,
            heartbeat_tick: config.heartbeat_ticks as usize,
            applied: applied.0,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            check_quorum: !planted(Bug::VotesDuringLease),
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: true,
            batch_append: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            ..raft::Config::default()
        };
        // A replica that has never been in any term has never acknowledged a lease, so it needn't wait one out.
        let silence_ms = match log.hard_state().term {
            Term(0) => 0,
            _ if planted(Bug::NoSilenceAfterRestart) => 0,
            _ => u64::from(config.election_ticks) * config.tick_ms,
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&library_config, LogStorage { log, applied }, &silent).map_err(library_error)?;
        let mut consensus = Self {
            lease_length: LeaseLength::new(config.election_ticks, config.tick_ms),
            silent_until: now.after_ms(silence_ms),
            last_tick: now,
            lease: None,
            handed_over_at: now,
            heard: (Term(0), 0),
            voters: Default::default(),
            // What recovery found is durable, but the journal must hear of it before this replica promises anything on
            // top: the log's first chunk says so, under the first token.
            unpersisted: VecDeque::from([Unpersisted { number: 0, token: Some(1) }]),
            recovery_unreported: true,
            timeout_ticks: config.election_ticks as usize,
            timeout_of: None,
            token: 1,
            persisted: 0,
            vote_token: 1,
            appends_since_commit_record: 0,
            config,
            raw,
        };
        consensus.note_voters();
        Ok(consensus)
    }

    /// This replica.
    pub fn replica(&self) -> ReplicaId {
        self.config.replica
    }

    /// What this replica is.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if self.raw.raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// The leader of the current term, if it is known.
    pub fn leader(&self) -> Option<ReplicaId> {
        (self.raw.raft.leader_id != 0).then_some(ReplicaId(self.raw.raft.leader_id))
    }

    /// The last entry, those included that were proposed and are not in the shard log yet.
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.last_index())
    }

    /// The last entry that a quorum is known to hold.
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    /// Whether this replica leads and has applied an entry of its own term: only then does its state hold every write
    /// that was ever acknowledged.
    pub fn is_serving(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
            && (self.raw.raft.apply_to_current_term() || planted(Bug::ServesBeforeOwnTerm))
    }

    /// How many more replicas must hold the entry at `index`, of this leader's term, until it is committed. `None` where that
    /// is no number: in a joint membership.
    pub fn missing_for_quorum(&self, index: LogIndex) -> Option<usize> {
        let [voters, outgoing] = &self.voters;
        if !outgoing.is_empty() {
            return None;
        }
        let holds =
            |voter: &ReplicaId| self.raw.raft.prs().get(voter.0).is_some_and(|progress| progress.matched >= index.0);
        let holders = voters.iter().filter(|voter| holds(voter)).count();
        Some((voters.len() / 2 + 1).saturating_sub(holders))
    }

    /// The token of the last append.
    pub fn last_token(&self) -> u64 {
        self.token
    }

    /// The latest moment at which a leader has proof that it led; `None` without any, and for others. Such a proof outlasts a lease that is
    /// given up.
    pub fn heard_by_majority_at(&self, now: Nanos) -> Option<Nanos> {
        let (term, lease) = self.lease.as_ref()?;
        let leads = self.role() == Role::Leader && *term == self.term();
        leads.then(|| lease.heard_by_majority_at(self.replica(), now, &self.voters)).flatten()
    }

    /// Until when reads may be answered from this replica's applied state; `None` if it holds no lease.
    pub fn lease_until(&self, now: Nanos) -> Option<Nanos> {
        let (term, lease) = self.lease.as_ref()?;
        if *term != self.term() || !self.is_serving() {
            return None;
        }
        if self.is_handing_over() && !planted(Bug::LeaseKeptOverTransfer) {
            return None;
        }
        lease.until(self.replica(), now, &self.voters)
    }

    /// Whether a follower was heard lately and lacks at most `lag` entries.
    pub fn is_caught_up(&self, replica: ReplicaId, lag: u64) -> bool {
        let last = self.raw.raft.raft_log.last_index();
        let progress = self.raw.raft.prs().get(replica.0);
        // In a short log a replica that holds nothing would lack little.
        progress
            .is_some_and(|progress| progress.recent_active && progress.matched > 0 && progress.matched + lag >= last)
    }

    /// The shard log.
    pub fn log(&self) -> &ShardLog {
        &self.raw.store().log
    }

    /// The shard log, for what has nothing to do with consensus.
    pub fn log_mut(&mut self) -> &mut ShardLog {
        &mut self.raw.mut_store().log
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Nanos) {
        let due = now.ms_since(self.last_tick) / self.config.tick_ms;
        if due == 0 {
            return;
        }
        if due > CATCH_UP_TICKS_MAX {
            self.last_tick = now;
        } else {
            self.last_tick = self.last_tick.after_ms(due * self.config.tick_ms);
        }
        for _ in 0..due.min(CATCH_UP_TICKS_MAX) {
            let successor = self.raw.raft.lead_transferee;
            self.raw.tick();
            if self.raw.raft.state == StateRole::Leader && planted(Bug::HandOverNeverAborts) {
                self.raw.raft.lead_transferee = successor;
            }
            self.fix_election_timeout();
        }
        self.lead_anew_if_due(now);
    }

    /// A message of another replica of the group. The caller has made sure that it came from the node that holds `from`, and has
    /// read `now` after it had come in: this replica's refusal to vote is counted from then.
    ///
    /// # Errors
    /// `InvalidMessage` if it breaks a rule; nothing has happened then. `Forgotten` if it shows that this replica must not go
    /// on.
    pub fn handle_message(&mut self, now: Nanos, message: RaftMessage) -> Result<(), ConsensusError> {
        self.validate(&message)?;
        // Ticks that are due belong to the time before the message. Taken after it, they would shorten the time for
        // which this replica refuses votes, and the leader's lease rests on that.
        self.handle_tick(now);
        let kind = message.kind;
        if now < self.silent_until && Self::leads_to_a_vote(kind) {
            return Ok(());
        }
        if self.is_outdated_refusal(&message) || self.answers_nothing_asked(&message) {
            return Ok(());
        }
        if kind == RaftMessageKind::Append && message.index == LogIndex(0) && self.knows_nobody() {
            return Ok(());
        }
        self.ask_for_snapshot(&message);
        let (from, term, stamp) = (message.from, message.term, message.lease_stamp);
        let has_just_started = message.reject;
        let received = message.entries.last().map(|last| (last.index, last.term));
        self.raw.step(convert::message_from_wire(message)).map_err(library_error)?;
        self.fix_election_timeout();
        if term != self.term() {
            return Ok(());
        }
        self.commit_too_early(received);
        match kind {
            RaftMessageKind::Append | RaftMessageKind::Heartbeat if self.leader() == Some(from) => {
                let newest = if self.heard.0 == term { self.heard.1.max(stamp) } else { stamp };
                self.heard = (term, newest);
            }
            RaftMessageKind::AppendResponse | RaftMessageKind::HeartbeatResponse if stamp != 0 && stamp <= now.0 => {
                self.refresh_lease();
                let sent = if planted(Bug::LeaseFromReceiveTime) { now } else { Nanos(stamp) };
                if let Some((_, lease)) = &mut self.lease {
                    lease.acknowledge(from, sent);
                    if kind == RaftMessageKind::HeartbeatResponse {
                        lease.note_heartbeat(from, sent, has_just_started);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Everything appended up to the poll that returned `token` is durable.
    pub fn handle_persisted(&mut self, token: u64) {
        assert!(token <= self.token, "a sync was reported that was never asked for");
        let covers_all = token < self.token && planted(Bug::CompletionCoversLaterAppends);
        self.persisted = self.persisted.max(if covers_all { self.token } else { token });
        self.release_persisted();
        self.commit_too_early(None);
    }

    /// Every committed entry up to `index` has been applied.
    pub fn handle_applied(&mut self, index: LogIndex) {
        self.raw.mut_store().applied = index;
        let last = self.last_index();
        self.raw.advance_apply_to(index.0);
        // The library leaves a joint state by an entry of its own, and would let it wait for the next heartbeat.
        if self.last_index() > last && self.role() == Role::Leader {
            self.raw.raft.bcast_append();
        }
    }

    /// Campaigns at once, if it votes; for the replica that should lead a brand-new group.
    pub fn campaign(&mut self) {
        if !self.raw.raft.promotable() {
            return;
        }
        // The library refuses only where it has nothing to campaign for.
        let _ = self.raw.campaign();
        self.fix_election_timeout();
    }

    /// Appends an entry to the group's log. Returns its position; whether it commits shows in later polls.
    ///
    /// # Errors
    /// `Refused`: see there.
    pub fn propose(&mut self, payload: Vec<u8>) -> Result<(LogIndex, Term), ConsensusError> {
        self.raw.propose(Vec::new(), payload).map_err(|_| ConsensusError::Refused)?;
        if self.raw.raft.state != StateRole::Leader {
            return Err(ConsensusError::Refused);
        }
        Ok((LogIndex(self.raw.raft.raft_log.last_index()), self.term()))
    }

    /// Asks a quorum whether this replica still leads; the answer is a [`ReadPosition`] with this tag, or none ever.
    pub fn read_index(&mut self, tag: u64) {
        self.raw.read_index(tag.to_le_bytes().to_vec());
    }

    /// Performs what has become due in the log and hands out the rest. To be called after every `handle_*` and command.
    ///
    /// # Errors
    /// `Log` if an append failed: this replica must stop and be rebuilt.
    pub fn poll(&mut self, now: Nanos) -> Result<Output, ConsensusError> {
        let mut output = Output::default();
        if std::mem::take(&mut self.recovery_unreported) {
            output.persist = Some(self.token);
        }
        while self.raw.has_ready() {
            self.process_ready(now, &mut output)?;
        }
        Ok(output)
    }

    fn process_ready(&mut self, now: Nanos, output: &mut Output) -> Result<(), ConsensusError> {
        let mut ready = self.raw.ready();
        let stamp = if self.raw.raft.state == StateRole::Leader { now.0 } else { 0 };
        let mut messages = ready.take_messages();
        let snapshots = messages.extract_if(.., |message| message.get_msg_type() == MessageType::MsgSnapshot);
        output.snapshots.extend(snapshots.map(|message| ReplicaId(message.to)));
        output.messages.extend(self.to_wire(now, messages, stamp));
        let mut answers = self.to_wire(now, ready.take_persisted_messages(), 0);

        let entries = ready.take_entries();
        let mut appended = !entries.is_empty();
        for entry in &entries {
            self.raw.mut_store().log.append_entry(&convert::entry_to_wire(entry))?;
        }
        let changes_membership = entries.iter().any(|entry| entry.get_entry_type() != EntryType::EntryNormal);
        let state = ready.hs().map(convert::hard_state_from_library);
        appended |= self.write_hard_state(state, ready.must_sync(), changes_membership)?;

        for entry in ready.take_committed_entries() {
            let entry = convert::entry_to_wire(&entry);
            output.committed.push(Committed {
                index: entry.index,
                term: entry.term,
                kind: entry.kind,
                payload: entry.payload,
            });
        }
        for read in ready.take_read_states() {
            if let Ok(tag) = read.request_ctx.as_slice().try_into() {
                output.reads.push(ReadPosition { tag: u64::from_le_bytes(tag), index: LogIndex(read.index) });
            }
        }

        let token = appended.then(|| {
            self.token += 1;
            self.token
        });
        if self.persisted >= self.vote_token {
            let at_once = answers.extract_if(.., |answer| answer.kind == RaftMessageKind::HeartbeatResponse);
            output.messages.extend(at_once);
        }
        if planted(Bug::VotesBeforeSync) || planted(Bug::AppendAnswersBeforeSync) {
            output.messages.extend(answers.extract_if(.., |answer| leaves_too_early(answer.kind)));
        }
        output.persist = token.or(output.persist);
        if self.persisted >= self.token {
            output.messages.extend(answers);
        } else {
            let token = self.token;
            output.promises.extend(answers.into_iter().map(|message| Promise { token, message }));
        }
        self.unpersisted.push_back(Unpersisted { number: ready.number(), token });
        self.raw.advance_append_async(ready);
        self.release_persisted();
        Ok(())
    }

    /// Writes term and vote when they have changed, and the commit position now and then and with each change of the
    /// membership, where safety rests on it (see [`membership`]). Returns whether it wrote.
    fn write_hard_state(
        &mut self,
        state: Option<HardState>,
        must_sync: bool,
        changes_membership: bool,
    ) -> Result<bool, ConsensusError> {
        let log = &mut self.raw.mut_store().log;
        let before = log.hard_state();
        if let Some(state) = state
            && (state.term, state.vote) != (before.term, before.vote)
            && !planted(Bug::HardStateNotWritten)
        {
            log.append_hard_state(state)?;
            self.vote_token = self.token + 1;
            self.appends_since_commit_record = 0;
            return Ok(true);
        }
        if !must_sync {
            return Ok(false);
        }
        self.appends_since_commit_record += 1;
        if self.appends_since_commit_record >= APPENDS_PER_COMMIT_RECORD || changes_membership {
            self.write_commit_position()?;
        }
        Ok(true)
    }

    /// Writes the commit position into the log, so that a restart applies up to it without asking anyone. It becomes
    /// durable with the next sync.
    ///
    /// # Errors
    /// `Log` if the append failed.
    pub fn write_commit_position(&mut self) -> Result<(), ConsensusError> {
        let committed = self.committed();
        let log = &mut self.raw.mut_store().log;
        let ahead = log.last_index() > committed && planted(Bug::CommitPositionAhead);
        let commit = if ahead { log.last_index() } else { committed };
        let state = HardState { commit, ..log.hard_state() };
        log.append_hard_state(state)?;
        self.appends_since_commit_record = 0;
        Ok(())
    }

    /// Lets go of what waited for syncs that have been reported, in order.
    fn release_persisted(&mut self) {
        while let Some(front) = self.unpersisted.front()
            && front.token.is_none_or(|token| token <= self.persisted)
        {
            let done = self.unpersisted.pop_front().expect("the front was just looked at");
            self.raw.on_persist_ready(done.number);
        }
    }

    /// Makes sure that the lease, if there is one, is of the current term.
    fn refresh_lease(&mut self) {
        let term = self.term();
        if self.raw.raft.state != StateRole::Leader {
            self.lease = None;
        } else if self.lease.as_ref().is_none_or(|(of, _)| *of != term) {
            self.lease = Some((term, Lease::new(self.lease_length)));
        }
    }

    /// The library's only randomness, replaced: it may have drawn a new timeout in the call before.
    ///
    /// In each term the voters' timeouts are spread evenly between one and two shortest ones, in an order that the term
    /// chooses; those of both halves in a joint state. So no two of them campaign at the same time, which would split the
    /// votes and cost another timeout.
    fn fix_election_timeout(&mut self) {
        let term = self.raw.raft.term;
        if self.timeout_of != Some(term) {
            self.timeout_of = Some(term);
            let mut ranked = self.voters.concat();
            ranked.sort_unstable();
            ranked.dedup();
            let rank = ranked.iter().position(|voter| *voter == self.config.replica).unwrap_or(0) as u64;
            let count = ranked.len().max(1) as u64;
            let slot = (mix(self.config.seed ^ mix(term)) % count + rank) % count;
            let base = u64::from(self.config.election_ticks);
            self.timeout_ticks = (base + slot * base / count) as usize;
        }
        self.raw.raft.set_randomized_election_timeout(self.timeout_ticks);
        self.refresh_lease();
    }

    fn leads_to_a_vote(kind: RaftMessageKind) -> bool {
        matches!(kind, RaftMessageKind::RequestVote | RaftMessageKind::RequestPreVote | RaftMessageKind::TimeoutNow)
    }

    /// An answer to what this replica asked in a role that it has left. The library takes a higher term from any message
    /// and forgets its leader over it, and with the leader the refusal to vote on which the leader's lease rests. From a
    /// request it doesn't, so answers that nobody waits for are dropped before it sees them; those of replicas that are
    /// no members any more, too.
    fn answers_nothing_asked(&self, message: &RaftMessage) -> bool {
        let state = self.raw.raft.state;
        let is_stranger = self.raw.raft.prs().get(message.from.0).is_none();
        match message.kind {
            RaftMessageKind::RequestVoteResponse | RaftMessageKind::RequestPreVoteResponse => {
                is_stranger || !matches!(state, StateRole::Candidate | StateRole::PreCandidate)
            }
            RaftMessageKind::AppendResponse | RaftMessageKind::HeartbeatResponse => {
                is_stranger || state != StateRole::Leader
            }
            _ => false,
        }
    }

    /// raft 0.7.0 lets a late refusal push a follower's next index below what is known to match. Such a refusal says
    /// nothing new; it is dropped.
    fn is_outdated_refusal(&self, message: &RaftMessage) -> bool {
        message.kind == RaftMessageKind::AppendResponse
            && message.reject
            && message.term == self.term()
            && self.raw.raft.prs().get(message.from.0).is_some_and(|progress| message.index.0 <= progress.matched)
    }

    /// Seeded bugs: commits what the library would not. `received` is the last entry that the leader has just sent.
    fn commit_too_early(&mut self, received: Option<(LogIndex, Term)>) {
        let raft = &mut self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        if leads && planted(Bug::CommitWithoutQuorum) {
            raft.r.raft_log.maybe_commit(raft.r.raft_log.persisted, raft.r.term);
        }
        if leads && planted(Bug::OldTermCommittedByCount) {
            let counted = raft.mut_prs().maximal_committed_index().0;
            raft.raft_log.commit_to(counted);
        }
        if let Some((index, term)) = received.filter(|_| planted(Bug::FollowerCommitsReceived)) {
            raft.raft_log.maybe_commit(index.0, term.0);
        }
    }

    /// Refuses what would trip an assertion of the library, or what no correct peer sends.
    fn validate(&self, message: &RaftMessage) -> Result<(), ConsensusError> {
        let broken = |rule| Err(ConsensusError::InvalidMessage(rule));
        if message.to != self.replica() {
            return broken("it is meant for another replica");
        }
        if message.from == message.to {
            return broken("it claims to come from its receiver");
        }
        if message.term == Term(0) {
            return broken("it has no term");
        }
        let last = self.raw.raft.raft_log.last_index();
        // A leader's heartbeat commits only what its receiver has acknowledged to that very leader. Nothing takes such an entry
        // away again before a later term begins, and that would be in the log like the entry itself.
        if message.kind == RaftMessageKind::Heartbeat && message.term >= self.term() && message.commit.0 > last {
            return Err(ConsensusError::Forgotten { acknowledged: message.commit, last: LogIndex(last) });
        }
        let accepts = message.kind == RaftMessageKind::AppendResponse && !message.reject;
        if accepts && message.term == self.term() && message.index.0 > last {
            return broken("it acknowledges entries that were never sent");
        }
        if message.kind != RaftMessageKind::Append && !message.entries.is_empty() {
            return broken("it carries entries and is no append");
        }
        let mut previous = (message.index, message.log_term);
        for entry in &message.entries {
            if entry.kind == RaftEntryKind::Membership && MembershipStep::decode(entry.payload.clone()).is_err() {
                return broken("it changes the membership in a way that can't be understood");
            }
            if entry.index.0 != previous.0.0 + 1 || entry.term < previous.1 || entry.term > message.term {
                return broken("its entries are out of order");
            }
            previous = (entry.index, entry.term);
        }
        Ok(())
    }
}

/// The membership of a new group, written as the first record of each replica's log.
pub fn initial_membership(voters: Vec<ReplicaId>) -> Membership {
    Membership { voters, ..Membership::default() }
}

/// Seeded bugs: what doesn't wait for the sync that makes it a promise.
fn leaves_too_early(kind: RaftMessageKind) -> bool {
    match kind {
        RaftMessageKind::RequestVote | RaftMessageKind::RequestVoteResponse => planted(Bug::VotesBeforeSync),
        RaftMessageKind::AppendResponse => planted(Bug::AppendAnswersBeforeSync),
        _ => false,
    }
}

fn library_error(error: raft::Error) -> ConsensusError {
    ConsensusError::Library(error.to_string())
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): spreads a number over all 64 bits.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
